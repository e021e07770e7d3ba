"""DPO, sightline beside TRL: the same pairs of answers in the same steps, one process an arm.

    python benchmarks/bench_dpo_peers.py --data FOLDER --questions 1 --arms trl-best,sightline-tree --site trl=FOLDER

VQA-RAD's pictures, each with `--questions` pairs of descriptions of 60 to 110 tokens, drawn from the words of its
questions and answers. Weights are random and of real shape. Token ids, labels and the number of trained parameters are
compared in every step, outside the timing. What is counted is pairs. Our reference is asked once, before the steps, and
its seconds stand in the notes; TRL's in every step, as for pictures it refuses otherwise.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from models_of_real_shape import make_folder
from peers import Arm, main, workload_file
from workload import Question, plan, vqa_rad_questions

TRL_BEST = {"checkpointing": False, "liger": True, "workers": 8}
ARMS = {
    "sightline-tree": Arm(module="sightline", about="shared prefixes", options={"layout": "tree"}, pairs=True),
    "sightline-flat": Arm(
        module="sightline", about="the same engine, nothing shared", options={"layout": "flat"}, pairs=True
    ),
    "trl-defaults": Arm(
        module="trl_dpo",
        about="TRL at its defaults: checkpointing",
        micro_batch=8,
        options={"checkpointing": True},
        pairs=True,
    ),
    "trl-best": Arm(
        module="trl_dpo", about="TRL, no checkpointing, Liger", micro_batch=8, options=TRL_BEST, pairs=True
    ),
    "trl-best-bf16": Arm(
        module="trl_dpo",
        about="the same, bf16 adapters",
        micro_batch=8,
        options={**TRL_BEST, "bf16_adapters": True},
        pairs=True,
    ),
}
ASKED = ("Describe this image.", "What does the picture show?", "Tell me what can be seen here.")
ANSWER_TOKENS = (60, 110)


def pairs_of(questions: list[Question], per_image: int, folder: Path) -> list[Question]:
    """Make pairs: two descriptions of a picture, one after the other."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [word for question in questions for word in f"{question.question} {question.answer}".split()]
    draw = random.Random(0)

    def description() -> str:
        text, wanted = draw.choice(words), draw.randint(*ANSWER_TOKENS)
        while len(tokenizer(text, add_special_tokens=False).input_ids) < wanted:
            text += f" {draw.choice(words)}"
        return text

    return [
        Question(picture=picture, question=ASKED[number % len(ASKED)], answer=description())
        for picture in dict.fromkeys(question.picture for question in questions)
        for number in range(per_image)
        for _ in ("chosen", "rejected")
    ]


def prepare(given: argparse.Namespace, shape: str) -> None:
    """Make a shape's folder and workload, unless an earlier call did."""
    folder, file = given.work / shape, workload_file(given, shape)
    if file.is_file():
        return
    questions, per_image = vqa_rad_questions(given.data), given.questions or 1
    make_folder(shape, [text for q in questions for text in (q.question, q.answer)], folder)
    plan(
        f"{per_image} pair{'s' if per_image > 1 else ''} an image",
        pairs_of(questions, per_image, folder),
        batch_size=given.batch_size,
        num_steps=given.warmup + given.steps + 1,
        branch_cap=given.branch_cap,
        folder=folder,
        together=2,
    ).write(file)


if __name__ == "__main__":
    main("DPO beside its peers", "pair", ARMS, prepare)

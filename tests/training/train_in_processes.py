"""Trains a LLaVA of random weights in float64, on answers and on pairs of them; run under torchrun, or called."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from sightline.models.adapters import adapter_weights, attach_lora
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.study import PreferenceTraining, Training
from sightline.training.loop import RenderedSet, train
from sightline.training.objectives import Preference
from sightline.training.reference import answer_logprobs
from sightline.trees.render import render
from tiny_llava import picture, random_llava

if TYPE_CHECKING:
    from accelerate import Accelerator

METHODS = ("sft", "dpo")


def rendered(loaded: LoadedModel, *, answers: int) -> RenderedSet:
    """Seven pictures with 1 to 3 questions each, and one answer to each question or a pair of them."""
    sequences, image_ids = [], []
    for number in range(7):
        shown = picture(number)
        loaded.features.register([shown])
        for question in ("left?", "how many", "is there a lung")[: 1 + number % 3]:
            messages = [Message(role="user", content=(0, question))]
            for answer in (str(number), f"{number} or none")[:answers]:
                sequences.append(render(loaded.family, messages, [shown], answer))
            image_ids.append(shown.sha256)
    return RenderedSet(sequences=sequences, image_ids=image_ids, together=answers)


def train_by(method: str, out: Path, accelerator: Accelerator | None = None) -> None:
    """Train, and write what every step told to `OUT/METHOD.json` and the adapter to `OUT/METHOD.safetensors`."""
    rank, is_main = (accelerator.process_index, accelerator.is_main_process) if accelerator else (0, True)
    loaded = random_llava()
    data = rendered(loaded, answers=2 if method == "dpo" else 1)
    # Rows of 60 or 80 tokens: a step has several, the last step fewer than there are processes.
    # A process with more room would choose longer ones; all must lay out the same rows.
    row_tokens = (80 if method == "dpo" else 60) + 10 * rank
    keys: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 0.01, "row_tokens": row_tokens}
    settings, objective = Training(**keys, eval_every=3), None
    if method == "dpo":
        settings = PreferenceTraining(**keys, eval_every=3)
        objective = Preference(reference_N=answer_logprobs(loaded, data, row_tokens=512), beta=0.1, sft_weight=0.1)
    attach_lora(loaded, rank=4, alpha=8, dropout=0.0)
    records = list(train(loaded, data, settings, validation=data, accelerator=accelerator, objective=objective))
    if is_main:
        rows = [asdict(record) | {"seconds": 0.0} for record in records]
        processes = accelerator.num_processes if accelerator else 1
        (out / f"{method}.json").write_text(json.dumps({"processes": processes, "rows": rows}))
        weights = {name: tensor.contiguous() for name, tensor in adapter_weights(loaded.module).items()}
        save_file(weights, out / f"{method}.safetensors")


def join_and_train(out: Path) -> None:
    """Join the other processes that the environment names, and train with them."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    for method in METHODS:
        train_by(method, out, accelerator)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    join_and_train(Path(sys.argv[1]))

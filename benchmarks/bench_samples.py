"""Several sampled answers to every question: sightline beside Hugging Face `generate`, LLaVA-1.5-7B's shape.

    python benchmarks/bench_samples.py --data FOLDER [--shape llava-7b | tiny-llava] [--markdown FILE]

FOLDER is VQA-RAD's public release: five questions each about its first 100 training pictures, four answers of 32 tokens
to each, temperature 1. Weights are random, so an answer hardly ever ends early, and both sides draw as many tokens; how
many is counted. `generate` is given `--some` of the questions at each batch size, and its best one counts; its inputs
are prepared ahead by worker processes. Both share one model in memory and are warmed up.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from generate_arm import generate, model_of, now, peak_gib
from workload import as_sample, vqa_rad_questions, with_exactly

from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with VQA_RAD_Dataset_Public.json and images/")
    parser.add_argument("--shape", default="llava-7b")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--questions", type=int, default=5, help="about each picture")
    parser.add_argument("--samples", type=int, default=4, help="answers to each question")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--some", type=int, default=96, help="questions that generate is given")
    parser.add_argument("--batches", type=int, nargs="+", default=[12, 24, 48], help="questions at a time")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    if not given.data:
        print("bench_samples.py: needs --data; nothing is measured. See --help")
        return

    questions = with_exactly(vqa_rad_questions(given.data), given.questions)
    pictures = list(dict.fromkeys(question.picture for question in questions))[: given.pictures]
    samples = [as_sample(n, q) for n, q in enumerate(q for q in questions if q.picture in pictures)]
    with tempfile.TemporaryDirectory() as work:
        texts = [text for question in questions for text in (question.question, question.answer)]
        loaded, processor = model_of(given.shape, texts, Path(work))
        decoding = Decoding(max_new_tokens=given.tokens, temperature=1.0, samples=given.samples)
        for _ in answer_samples(loaded, samples[:50], decoding, model="m", data="warm-up"):
            pass
        loaded.features.forget()
        if loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = now(loaded.device)
        rows = answer_samples(loaded, samples, decoding, model="m", data="rad")
        answers = list(itertools.chain.from_iterable(rows))
        seconds = now(loaded.device) - began
        assert len(answers) == given.samples * len(samples)
        length = sum(answer.num_tokens for answer in answers) / len(answers)
        ours = len(answers) / seconds
        lines = [
            f"# {given.samples} sampled answers to each of {len(samples)} questions about {len(pictures)} pictures: "
            f"{torch.cuda.get_device_name() if loaded.device.type == 'cuda' else f'{os.cpu_count()} CPU cores'}, "
            f"{datetime.date.today()}",
            "",
            f"{given.shape}, random weights; {given.tokens} new tokens (ours had {length:.1f} on average); "
            f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}.",
            "",
            f"    python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}",
            "",
            "| | questions | answers/s | peak GiB | sightline is × faster |",
            "|---|---|---|---|---|",
            f"| sightline | {len(samples)} | {ours:.1f} | {peak_gib(loaded.device):.1f} | |",
        ]
        loaded.features.forget()
        asked = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=given.samples)
        for batch in given.batches:
            try:
                arm = generate(loaded, processor, samples[: given.some], batch, **asked, max_new_tokens=given.tokens)
            except torch.cuda.OutOfMemoryError:
                lines.append(f"| generate, {batch} at a time | {given.some} | out of memory | | |")
                continue
            theirs = arm.questions * given.samples / arm.seconds
            lines.append(
                f"| generate, {batch} at a time | {arm.questions} | {theirs:.1f} | {arm.peak_gib:.1f} "
                f"| {ours / theirs:.2f} |"
            )
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if given.markdown:
        given.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""How much faster a tree trains than the same samples without sharing, by questions an image, in one run.

    python benchmarks/bench_tree_vs_flat.py [--base builtin:tiny | --shape llava-7b] [--batch-size 96] [--out FILE]

Both layouts train a LoRA adapter on the same samples in the same steps; that token ids and targets agree is asserted.
On a CPU, each layout takes the row length at which it is fastest here. Layouts alternate, step by step, and the median
counts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from sightline.data.phantom import phantom_samples
from sightline.models.adapters import attach_lora, detach_adapter
from sightline.models.forward import row_logprobs
from sightline.models.loading import LoadedModel, load_family, load_model, wrap_model
from sightline.records import Sample
from sightline.training.losses import sft_loss
from sightline.trees.render import Rendered, render
from sightline.trees.row import Row
from sightline.trees.sampler import step_rows

Layout = Literal["tree", "flat"]
ROW_TOKENS = {"cpu": (256, 512, 1024, 2048), "cuda": (16384,)}


def samples_with(questions: int, batch_size: int, num_steps: int) -> list[Sample]:
    """Take drawn pictures that have at least so many questions, and so many of each."""
    chosen: list[Sample] = []
    first = 0
    while len(chosen) < batch_size * num_steps:
        asked = phantom_samples(1, first_index=first, questions_per_image=questions, subset="single")
        first += 1
        if len(asked) == questions:
            chosen += asked
    return chosen[: batch_size * num_steps]


def train_step(loaded: LoadedModel, rows: Sequence[Row]) -> float:
    """Run one step forward and backward; seconds."""
    began = time.perf_counter()
    total = float(sum(row.weight_M.sum() for row in rows))
    for row in rows:
        loss = sft_loss(row_logprobs(loaded, row), torch.from_numpy(row.weight_M).to(loaded.device)) / total
        loss.backward()
    loaded.module.zero_grad()
    if loaded.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def targets_of(rows: Sequence[Row]) -> dict[int, tuple[list[int], list[int]]]:
    """Each sample's tokens and targets, as the rows hold them."""
    return {
        branch: (row.token_ids_T[row.paths[k]].tolist(), row.target_M[row.branch_M == k].tolist())
        for row in rows
        for k, branch in enumerate(row.branches)
    }


def measure(loaded: LoadedModel, questions: int, batch_size: int, num_steps: int) -> dict[str, float]:
    """Measure both layouts on the same samples."""
    samples = samples_with(questions, batch_size, num_steps)
    loaded.features.register([picture for sample in samples for picture in sample.pictures])
    sequences: list[Rendered] = [render(loaded.family, s.messages, s.pictures, s.answer, name=s.id) for s in samples]
    image_ids = [sample.image_id for sample in samples]

    def rows(step: int, layout: Layout, row_tokens: int) -> list[Row]:
        numbers = range(step * batch_size, (step + 1) * batch_size)
        return step_rows(
            numbers, rendered=sequences.__getitem__, image_ids=image_ids, row_tokens=row_tokens, layout=layout
        )

    assert targets_of(rows(0, "tree", 2048)) == targets_of(rows(0, "flat", 2048))
    for step in range(num_steps):  # features are kept, as they are in training
        loaded.features.of([key for row in rows(step, "tree", 2048) for key in row.pictures])
    best: dict[Layout, int] = {}
    for layout in ("tree", "flat"):
        lengths = ROW_TOKENS[loaded.device.type]
        tried = {n: min(train_step(loaded, rows(0, layout, n)) for _ in range(2)) for n in lengths}
        best[layout] = min(tried, key=lambda n: tried[n])
    seconds: dict[Layout, list[float]] = {"tree": [], "flat": []}
    executed: dict[Layout, int] = {"tree": 0, "flat": 0}
    for step in range(num_steps):
        for layout in ("tree", "flat"):
            laid_out = rows(step, layout, best[layout])
            seconds[layout].append(train_step(loaded, laid_out))
            executed[layout] += sum(map(len, laid_out))
    tree, flat = statistics.median(seconds["tree"]), statistics.median(seconds["flat"])
    return {
        "questions": questions,
        "flat samples/s": batch_size / flat,
        "tree samples/s": batch_size / tree,
        "speed-up": flat / tree,
        "flat tokens/s": executed["flat"] / num_steps / flat,
        "tree tokens/s": executed["tree"] / num_steps / tree,
        "tokens saved": executed["flat"] / executed["tree"],
        "flat row": best["flat"],
        "tree row": best["tree"],
    }


def of_shape(shape: str) -> LoadedModel:
    """Make a model of real shape with random weights, and a tokenizer trained on the questions."""
    from models_of_real_shape import build_model, make_folder

    texts = [text for sample in phantom_samples(50) for text in (sample.messages[-1].text, sample.answer)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        make_folder(shape, texts, Path(folder))
        module = build_model(Path(folder), device=device.type).eval().requires_grad_(False)
        return wrap_model(shape, module, load_family(folder), device)


def main() -> None:
    """Measure, print a table, and write it with what it was measured on."""
    parser = argparse.ArgumentParser(
        "benchmarks/bench_tree_vs_flat.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--shape", help="random weights of this real shape instead: llava-7b")
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 2, 6, 12])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    loaded = of_shape(given.shape) if given.shape else load_model(given.base)
    attach_lora(loaded, rank=16, alpha=32)
    loaded.module.train()
    results = [measure(loaded, questions, given.batch_size, given.steps) for questions in given.questions]
    detach_adapter(loaded)
    device = torch.cuda.get_device_name() if loaded.device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    which = f"--shape {given.shape}" if given.shape else f"--base {given.base}"
    lines = [
        f"# Tree against flat: {given.shape or given.base} on {device}, {datetime.date.today()}",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads, "
        f"{loaded.dtype}; LoRA rank 16, dropout 0, {given.batch_size} samples a step, median of {given.steps} steps; "
        "forward and backward, vision features kept.",
        "",
        f"    python {parser.prog} {which} --batch-size {given.batch_size} --steps {given.steps}",
        "",
        "| questions an image | flat samples/s | tree samples/s | speed-up | flat tokens/s | tree tokens/s | "
        "tokens fewer | row tokens, flat / tree |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r['questions']} | {r['flat samples/s']:.1f} | {r['tree samples/s']:.1f} | {r['speed-up']:.2f} | "
            f"{r['flat tokens/s']:,.0f} | {r['tree tokens/s']:,.0f} | {r['tokens saved']:.2f} | "
            f"{r['flat row']} / {r['tree row']} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

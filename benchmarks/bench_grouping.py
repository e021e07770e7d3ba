"""What it does to learning that an image's questions meet in one optimizer step; and what `branch_cap` costs in tokens.

    OMP_NUM_THREADS=1 python benchmarks/bench_grouping.py [--runs FILE] [--settings usual small hard one-sided]
        [--num-seeds 5] [--vqa-rad FOLDER] [--out FILE.md]

The same LoRA is trained on the same phantom pictures for the same number of steps and samples, from the same initial
adapter; only the order differs. `branch_cap` 1 shuffles single questions uniformly, larger caps shuffle chunks of an
image's questions, off keeps them all together. The models are then asked about pictures they have not seen.

Each finished run is appended to --runs, and a stopped benchmark goes on from there: all of it takes about 50 minutes
of one core. With --vqa-rad, the real numbers of questions per image say what a cap saves at LLaVA-1.5's size.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grouping_tables import (
    BRANCH_TOKENS,
    CAPS,
    MEASURED,
    SHARED_TOKENS,
    SHUFFLED,
    cap_name,
    mean_of_seeds,
    price_table,
    tables,
)

from sightline.data.formats import load_source
from sightline.data.phantom import phantom_samples
from sightline.generation.answering import Wording, answer_samples, reference_nll, render_asked
from sightline.generation.sampling import Decoding
from sightline.models.adapters import attach_lora, detach_adapter
from sightline.models.loading import LoadedModel, load_model
from sightline.records import Sample, Score
from sightline.scoring.metrics import METRICS, score_answers
from sightline.study import Training
from sightline.training.loop import RenderedSet, train
from sightline.trees.sampler import group_by_image, plan_epoch
from sightline.verdict import statistics
from sightline.verdict.pairs import Difference, estimate_difference, pair_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How one comparison trains; the order of its samples aside.

    Args:
        num_images: pictures to learn from, each with 12 to 22 questions.
        one_sided: keep only the questions answered yes of every other picture, and those answered no of the rest.
        batch_size: samples of an optimizer step.
        learning_rate: peak, of a cosine schedule.
        epochs: passes over the questions.
    """

    num_images: int
    batch_size: int
    learning_rate: float
    epochs: int
    one_sided: bool = False


SETTINGS = {
    "usual": Setting(num_images=96, batch_size=32, learning_rate=1e-3, epochs=3),
    "small": Setting(num_images=48, batch_size=16, learning_rate=1e-3, epochs=3),
    "hard": Setting(num_images=48, batch_size=16, learning_rate=2e-3, epochs=3),
    "one-sided": Setting(num_images=96, batch_size=8, learning_rate=1e-3, epochs=3, one_sided=True),
}
TEST_IMAGES, TEST_QUESTIONS, FIRST_TEST_IMAGE = 150, 8, 100_000


def pictures_with(num_images: int, *, first: int, at_least: int, at_most: int | None = None) -> list[Sample]:
    """Draw pictures until so many have enough questions, and ask these."""
    chosen: list[Sample] = []
    drawn = itertools.count(first)
    while num_images:
        asked = phantom_samples(1, first_index=next(drawn), questions_per_image=at_most or 99, subset="single")
        if len(asked) >= at_least:
            chosen += asked
            num_images -= 1
    return chosen


def one_sided(samples: Sequence[Sample]) -> list[Sample]:
    """Make a picture's answers as alike as can be: all yes, or all no."""
    pictures = group_by_image(sample.image_id for sample in samples)
    sides = zip(pictures, itertools.cycle(("yes", "no")), strict=False)
    return [samples[number] for group, side in sides for number in group if samples[number].answer == side]


@dataclass(frozen=True, slots=True)
class Bench:
    """The model and the questions, loaded and rendered once for all runs."""

    loaded: LoadedModel
    train: Mapping[str, RenderedSet]
    test: Mapping[str, Sequence[Sample]]


def prepare(base: str, names: Sequence[str]) -> Bench:
    """Load the model, draw the pictures, render the questions."""
    loaded = load_model(base)
    asked = pictures_with(TEST_IMAGES, first=FIRST_TEST_IMAGE, at_least=TEST_QUESTIONS, at_most=TEST_QUESTIONS)
    sets, test = {}, {}
    for name in names:
        samples, test[name] = pictures_with(SETTINGS[name].num_images, first=0, at_least=12), asked
        if SETTINGS[name].one_sided:
            samples, test[name] = one_sided(samples), [sample for sample in asked if sample.answer in ("yes", "no")]
        assert not {s.image_id for s in samples} & {s.image_id for s in asked}
        sequences = render_asked(loaded, samples, Wording(), with_answers=True)
        sets[name] = RenderedSet(sequences=sequences, image_ids=[sample.image_id for sample in samples])
    return Bench(loaded, sets, test)


def run_once(bench: Bench, name: str, cap: int | None, seed: int) -> dict[str, Any]:
    """Train one adapter and measure it on the test pictures."""
    setting, data, loaded = SETTINGS[name], bench.train[name], bench.loaded
    settings = Training(
        batch_size=setting.batch_size,
        branch_cap=cap,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        row_tokens=512,
    )
    steps = plan_epoch(data.image_ids, batch_size=setting.batch_size, branch_cap=cap, seed=seed, epoch=0)
    attach_lora(loaded, rank=16, alpha=32, dropout=0.0, seed=seed)
    began, cpu = time.perf_counter(), time.process_time()
    records = list(train(loaded, data, settings, seed=seed))
    row = {
        "setting": name,
        **asdict(setting),
        "cap": cap,
        "seed": seed,
        "steps": len(records),
        "samples": sum(record.samples for record in records),
        "images_per_step": float(np.mean([len({data.image_ids[number] for number in step}) for step in steps])),
        "executed_tokens": sum(record.executed_tokens for record in records),
        "train_cpu_seconds": time.process_time() - cpu,
        "train_seconds": time.perf_counter() - began,
        "grad_norm": float(np.mean([record.grad_norm for record in records])),
        "last_losses": float(np.mean([record.loss for record in records[-len(records) // 5 :]])),
    }
    row |= measure(loaded, bench.test[name])
    detach_adapter(loaded)
    return row | {"seconds": time.perf_counter() - began}


def measure(loaded: LoadedModel, test: Sequence[Sample]) -> dict[str, Any]:
    """Ask the model as it stands the test questions: per-question values and their means."""
    rows = answer_samples(loaded, test, Decoding(max_new_tokens=16), model="m", data="test")
    answers = {answer.sample_id: answer for row in rows for answer in row}
    by_id = {sample.id: sample for sample in test}
    right = score_answers(METRICS["exact_match"], by_id, [answers[sample.id] for sample in test])
    nll = [score.parts for score in reference_nll(loaded, test)]
    return {
        "questions": len(test),
        "exact_match": sum(score.value or 0.0 for score in right) / len(right),
        "nll": sum(parts["nll"] for parts in nll) / sum(parts["tokens"] for parts in nll),
        "each_exact_match": "".join(str(int(score.value or 0)) for score in right),
        "each_nll": [round(parts["nll"], 4) for parts in nll],
        "each_tokens": [int(parts["tokens"]) for parts in nll],
    }


def scores_of(test: Sequence[Sample], row: Mapping[str, Any], metric: str) -> dict[str, Score]:
    """Give a run's per-question values back as scores, by sample id."""
    made = {}
    for number, sample in enumerate(test):
        value = float(row["each_exact_match"][number])
        parts = {"nll": row["each_nll"][number], "tokens": row["each_tokens"][number]}
        made[sample.id] = Score(
            sample_id=sample.id,
            metric=metric,
            outcome="scored",
            value=value if metric == "exact_match" else parts["nll"] / parts["tokens"],
            parts={} if metric == "exact_match" else parts,
        )
    return made


def differences(test: Sequence[Sample], rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Hold every grouped condition of a setting against uniformly shuffled, paired by seed and by question."""
    by_id = {sample.id: sample for sample in test}
    runs = {(row["cap"], row["seed"]): row for row in rows}
    for metric in MEASURED:
        found = []
        for cap in CAPS[1:]:
            seeds = sorted(seed for at, seed in runs if at == cap and (SHUFFLED, seed) in runs)
            if len(seeds) < 2:
                continue
            by_seed = [runs[cap, seed][metric] - runs[SHUFFLED, seed][metric] for seed in seeds]
            over_seeds = mean_of_seeds(by_seed)
            sides = ([scores_of(test, runs[at, seed], metric) for seed in seeds] for at in (cap, SHUFFLED))
            pairs = pair_scores(by_id, METRICS[metric], *sides)
            both = estimate_difference(METRICS[metric], pairs, "wrong")  # pyright: ignore
            assert isinstance(both, Difference), both
            found.append(
                {
                    "setting": rows[0]["setting"],
                    "metric": metric,
                    "cap": cap,
                    "seeds": len(seeds),
                    "difference": over_seeds.value,
                    "by_seed": by_seed,
                    "seed_interval": [float(end) for end in statistics.t_interval(over_seeds)],
                    "seed_detectable": statistics.detectable_difference(*over_seeds[1:]),
                    "image_interval": list(both.interval),
                    "image_p": both.p,
                    "image_detectable": statistics.detectable_difference(both.standard_error, both.degrees_of_freedom),
                }
            )
        adjusted = statistics.holm([entry["image_p"] for entry in found])
        yield from ({**entry, "image_p_holm": p} for entry, p in zip(found, adjusted, strict=True))


def price(folder: Path, batch_sizes: Sequence[int] = (16, 96), num_seeds: int = 20) -> list[dict[str, Any]]:
    """Count the tokens of an epoch over VQA-RAD's training rows at LLaVA-1.5's size, cap by cap."""
    samples = load_source(folder.name, root=folder.resolve().parent, with_pictures=False)["train"].samples
    image_ids = [sample.image_id for sample in samples]
    flat = len(samples) * (SHARED_TOKENS + BRANCH_TOKENS)
    rows = []
    for batch_size in batch_sizes:
        executed: dict[int | None, float] = {}
        for cap in (SHUFFLED, 2, 4, 6, 8, 12, None):
            order = {"batch_size": batch_size, "branch_cap": cap, "epoch": 0}
            plans = [plan_epoch(image_ids, seed=seed, **order) for seed in range(num_seeds)]
            trees = [sum(len({image_ids[number] for number in step}) for step in plan) for plan in plans]
            executed[cap] = float(np.mean(trees)) * SHARED_TOKENS + len(samples) * BRANCH_TOKENS
        rows += [
            {"batch_size": batch_size, "cap": cap, "executed": tokens, "flat": flat, "off": executed[None]}
            for cap, tokens in executed.items()
        ]
    mean = len(samples) / len(set(image_ids))
    return [{**row, "samples": len(samples), "questions_per_image": mean} for row in rows]


def main() -> None:
    """Carry out the runs that are missing, then write the tables."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks/bench_grouping.py", description=__doc__, formatter_class=shape)
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--runs", type=Path, default=Path("studies/grouping_runs.jsonl"))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--vqa-rad", type=Path, help="folder of the original release")
    parser.add_argument("--out", type=Path, help="FILE.md; FILE.json is written beside it")
    given = parser.parse_args()
    given.runs.parent.mkdir(parents=True, exist_ok=True)
    bench = prepare(given.base, given.settings)
    done = [json.loads(line) for line in given.runs.read_text().splitlines()] if given.runs.exists() else []
    finished = {(row["setting"], row["cap"], row["seed"]) for row in done}
    wanted = [(name, cap, seed) for seed in range(given.num_seeds) for name in given.settings for cap in CAPS]
    for name, cap, seed in (run for run in wanted if run not in finished):
        if (cap or 0) >= SETTINGS[name].batch_size:
            continue  # the same steps as off
        row = run_once(bench, name, cap, seed)
        done.append(row)
        with given.runs.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{name}, branch_cap {cap_name(cap)}, seed {seed}: {row['exact_match']:.2%}, nll {row['nll']:.4f}; "
            f"{row['train_cpu_seconds']:.0f} s of training, {row['seconds']:.0f} s in all",
            flush=True,
        )
    of_setting = {name: [row for row in done if row["setting"] == name] for name in given.settings}
    compared = [entry for name, rows in of_setting.items() for entry in differences(bench.test[name], rows)]
    untrained = {name: measure(bench.loaded, bench.test[name]) for name in given.settings}
    priced = price(given.vqa_rad) if given.vqa_rad else []
    text = "\n".join(
        [
            f"# Grouped against shuffled steps: {given.base} on {os.cpu_count()} CPU cores, {datetime.date.today()}",
            "",
            f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} thread(s); LoRA "
            f"rank 16, alpha 32, dropout 0, rows of 512 tokens; {TEST_IMAGES} test pictures.",
            "",
            f"    python {parser.prog} --num-seeds {given.num_seeds}{' --vqa-rad FOLDER' if given.vqa_rad else ''}",
            "",
            *tables(of_setting, compared, untrained),
            *(price_table(priced) if priced else ()),
            "",
        ]
    )
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
        kept = [
            {key: value for key, value in row.items() if not key.startswith("each_")}
            for rows in of_setting.values()
            for row in rows
        ]
        content = {"runs": kept, "differences": compared, "price": priced}
        given.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

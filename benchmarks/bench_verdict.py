"""How long a comparison takes: 5 models, 3,000 yes/no questions on 500 images, 9,999 resamples.

    python benchmarks/bench_verdict.py [--questions 3000] [--images 500] [--models 5] [--json FILE]

Five metrics (accuracy, precision, recall, F1 and the loss), everything `sightline compare` does: every arm with its
interval, one stated question, every other model against base, yes/no questions taken apart, the best of several. It is
run twice in processes of its own; both must write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sightline.records import Answer, Message, Picture, Sample, Score
from sightline.scoring.metrics import METRICS, score_answers
from sightline.storage import canonical_json
from sightline.verdict.compare import Comparison, compare_models
from sightline.verdict.resampling import NUM_RESAMPLES

BY_ANSWER = ("closed_accuracy", "closed_precision", "closed_recall", "closed_f1")


def invented_study(num_questions: int, num_images: int, num_models: int) -> dict[str, Any]:
    """Invent a study: each model is right a little more often than the one before; base says neither now and then."""
    generator = np.random.default_rng(0)
    samples = {}
    for index in range(num_questions):
        picture = Picture(name="", sha256=f"{index % num_images:064d}", width=8, height=8)
        message = Message(role="user", content=(0, "Is there one?"))
        reference = str(generator.choice(["yes", "no"]))
        samples[f"q{index}"] = Sample(id=f"q{index}", pictures=(picture,), messages=(message,), answer=reference)
    metrics, scores = [METRICS[name] for name in BY_ANSWER], {}
    for rank, model in enumerate(["base", *(f"model{number}" for number in range(1, num_models))]):
        answers = []
        for index, (name, sample) in enumerate(samples.items()):
            right = generator.random() < 0.6 + 0.05 * rank
            text = sample.answer if right else {"yes": "no", "no": "yes"}[sample.answer]
            text = "perhaps" if rank == 0 and index % 50 == 0 else text
            answers.append(Answer(sample_id=name, model=model, data="d", text=text, finish_reason="stop", num_tokens=1))
        by_metric = {metric.name: score_answers(metric, samples, answers) for metric in metrics}
        losses = generator.gamma(2.0, 0.5 - 0.05 * rank, size=num_questions)
        by_metric["nll"] = [
            Score(sample_id=name, metric="nll", outcome="scored", parts={"nll": float(loss), "tokens": 2.0})
            for name, loss in zip(samples, losses, strict=True)
        ]
        scores[model, "d", "plain"] = by_metric
    return {"samples": {"d": samples}, "scores": scores, "metrics": [*metrics, METRICS["nll"]]}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare once, in this process."""
    study = invented_study(arguments.questions, arguments.images, arguments.models)
    wall, processor = time.perf_counter(), time.process_time()
    compared = compare_models(study="bench", **study, stated=[Comparison(model="model1", against="base")])
    return {
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "num_comparisons": len(compared["stated"]) + len(compared["exploratory"]),
        "sha256": hashlib.sha256(canonical_json(compared).encode()).hexdigest(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run twice, print the figures, and fail where the bytes differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=3_000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure(arguments)))
        return
    runs = [
        json.loads(subprocess.run([sys.executable, *sys.argv, "--once"], check=True, capture_output=True).stdout)
        for _ in range(2)
    ]
    for run in runs:
        print(
            f"{run['wall_seconds']:.1f} s (processor {run['processor_seconds']:.1f} s, load {run['load']:.1f}), "
            f"{run['num_comparisons']} comparisons, B = {NUM_RESAMPLES:,}, sha256 {run['sha256'][:16]}"
        )
    same = len({run["sha256"] for run in runs}) == 1
    print("the same bytes" if same else "DIFFERENT BYTES")
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

"""A study directory as a finished run leaves it, made of phantom pictures and invented answers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture
from sightline.records import Answer, RunRecord, Sample, Score, to_json
from sightline.storage import canonical_json, json_line, write_file

DATA = "phantom.test"
MODELS: Mapping[str, float] = {"base": 0.42, "sft.a16": 0.78, "sft.a8": 0.66, "sft.a4": 0.45, "sft.frozen": 0.20}
TITLES = {
    "exact_match": ("Exact match", "rate", True),
    "closed_accuracy": ("Closed-question accuracy", "rate", True),
    "nll": ("Reference answer loss", "nats", False),
}
STUDY = """\
name: phantom-lora
base: builtin:tiny
data:
  phantom: {source: builtin:phantom, take: 2000, split: {train: 0.8, validation: 0.1, test: 0.1, by: image}}
steps:
  sft:
    method: sft
    from: base
    on: phantom.train
    learning_rate: 2e-4
    max_steps: 240
    seeds: [0]
    members:
      a16: {lora.alpha: 16}
      a8: {lora.alpha: 8}
      a4: {lora.alpha: 4}
      frozen: {lora.alpha: 1}
evaluate: {on: phantom.test, metrics: [exact_match, closed_accuracy, nll]}
compare:
  - {model: sft.a16, against: base, by: exact_match}
  - {model: sft.a8, against: base, by: exact_match}
  - {model: sft.a4, against: base, by: exact_match}
  - {model: sft.frozen, against: base, by: exact_match}
accept: {test-is-small: "a demonstration on drawn pictures"}
"""


def _answers(samples: Sequence[Sample], model: str, skill: float) -> list[Answer]:
    draw = random.Random(f"answers {model}")
    wrong = {"yes": "no", "no": "yes"}
    answers = []
    for sample in samples:
        # What is hard for one model is hard for all, as in life.
        hardness = random.Random(f"hardness {sample.id}").random()
        right = 0.6 * hardness + 0.4 * draw.random() < skill
        text = sample.answer if right else wrong.get(sample.answer, "the left one")
        if draw.random() < 0.03:
            text = "I cannot tell from this picture, since the lower half of it is not clearly visible to me."
        answers.append(
            Answer(
                sample_id=sample.id, model=model, data=DATA, text=text, finish_reason="stop", num_tokens=len(text) // 4
            )
        )
    return answers


def _score(sample: Sample, answer: Answer, metric: str) -> Score:
    if metric == "nll":
        loss = 0.2 if answer.text == sample.answer else 2.4
        return Score(sample_id=sample.id, metric=metric, outcome="scored", value=loss, parts={"nll": loss, "tokens": 1})
    if metric == "closed_accuracy" and sample.answer not in ("yes", "no"):
        return Score(sample_id=sample.id, metric=metric, outcome="not_applicable")
    if answer.text.startswith("I cannot"):
        return Score(sample_id=sample.id, metric=metric, outcome="unparsed", reason="no answer found")
    return Score(sample_id=sample.id, metric=metric, outcome="scored", value=float(answer.text == sample.answer))


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean = statistics.fmean(values)
    error = statistics.pstdev(values) / math.sqrt(len(values)) + 1e-3
    return mean, error, 1.96 * error


def _worth(scores: Sequence[Score]) -> dict[str, float]:
    return {score.sample_id: score.value or 0.0 for score in scores if score.outcome != "not_applicable"}


def _question(
    scores: Mapping[tuple[str, str], Sequence[Score]], model: str, metric: str, images: int
) -> dict[str, Any]:
    own, other = _worth(scores[model, metric]), _worth(scores["base", metric])
    mean, error, half = _interval([own[name] - other[name] for name in own])
    up = TITLES[metric][2]
    verdict = "no detectable difference"
    if abs(mean) > half:
        verdict = "improved" if (mean > 0) == up else "regressed"
    p = math.erfc(abs(mean) / error / math.sqrt(2))
    detectable = 2.8 * error
    fixed = [name for name in own if own[name] > other[name]] if up else None
    broke = [name for name in own if own[name] < other[name]] if up else None
    points = [f"{value * 100:+.1f}".replace("-", "−") for value in (mean, mean - half, mean + half)]
    shown = f"{points[0]} points (95% CI {points[1]} to {points[2]})"
    moved = f"fixed {len(fixed or ())}, broke {len(broke or ())}"
    sentence = f"{verdict}: {shown}, {len(own)} questions on {images} images; {moved}."
    if verdict.startswith("no"):
        sentence = (
            f"{verdict}: {shown}. This test set could only have detected a change of {detectable * 100:.1f} points or "
            "more (80% power). This is not evidence that the models are equal."
        )
    return {
        "model": model,
        "against": "base",
        "metric": metric,
        "data": DATA,
        "template": "plain",
        "verdict": verdict,
        "sentence": sentence,
        "reason": None,
        "difference": mean,
        "interval": [mean - half, mean + half],
        "standard_error": error,
        "degrees_of_freedom": images - 1,
        "p": p,
        "p_check": p * 1.1,
        "p_check_method": "sign-flip",
        "p_adjusted": min(1.0, 4 * p),
        "detectable": detectable,
        "num_questions": len(own),
        "num_images": images,
        "fixed": len(fixed) if fixed is not None else None,
        "broke": len(broke) if broke is not None else None,
        "fixed_ids": fixed or [],
        "broke_ids": broke or [],
        "unparsed": {"model": 1, "against": 2},
        "method": "cluster-robust t (CR1)",
        "seed": 0,
    }


def _curve(model: str) -> list[dict[str, Any]]:
    draw, rows = random.Random(f"curve {model}"), []
    speed = 30 + 30 * MODELS.get(model, 0.5)
    for step in range(1, 241):
        rate = 2e-4 * min(step / 20, 0.5 * (1 + math.cos(math.pi * max(0, step - 20) / 220)))
        loss = 0.35 + 2.3 * math.exp(-step / speed) + draw.gauss(0, 0.06)
        rows.append(
            {
                "step": step,
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": 1.0,
                "samples": 16,
                "tokens": 412,
                "executed_tokens": 1200,
                "seconds": 0.21,
                "epoch": step / 80,
            }
        )
        if step % 40 == 0:
            rows.append({"step": step, "validation_loss": 0.46 + 2.2 * math.exp(-step / speed)})
    return rows


def compare_json(samples: Sequence[Sample], scores: Mapping[tuple[str, str], Sequence[Score]]) -> dict[str, Any]:
    """Verdicts in the form of compare.json, with plain normal intervals."""
    images = len({sample.image_id for sample in samples})
    arms = []
    models = list(dict.fromkeys(model for model, _ in scores))
    for model in models:
        metrics = {}
        for metric, (title, unit, higher) in TITLES.items():
            rows = scores[model, metric]
            mean, _, half = _interval(list(_worth(rows).values()))
            counts = {
                name: sum(row.outcome == name for row in rows)
                for name in ("scored", "unparsed", "failed", "not_applicable")
            }
            metrics[metric] = {
                "value": mean,
                "interval": [max(0.0, mean - half), mean + half if unit == "nats" else min(1.0, mean + half)],
                "unit": unit,
                "higher_is_better": higher,
                "title": title,
                "kind": "mean",
                **{f"num_{name}": number for name, number in counts.items()},
            }
        arms.append(
            {
                "model": model,
                "data": DATA,
                "template": "plain",
                "num_questions": len(samples),
                "num_images": images,
                "max_questions_per_image": 8,
                "metrics": metrics,
            }
        )
    tuned = [model for model in models if model != "base"]
    return {
        "schema": 1,
        "study": "phantom-lora",
        "alpha": 0.05,
        "power": 0.8,
        "rule_for_invalid": "wrong",
        "arms": arms,
        "baselines": [
            {"data": DATA, "metric": "exact_match", "value": 0.31, "answer": "no"},
            {"data": DATA, "metric": "closed_accuracy", "value": 0.55, "answer": "no"},
        ],
        "stated": [_question(scores, model, "exact_match", images) for model in tuned],
        "exploratory": [
            _question(scores, model, metric, images) for metric in ("closed_accuracy", "nll") for model in tuned
        ],
        "notes": ["One training run each: the verdicts are about these checkpoints, not about the recipe."],
    }


def write_study(
    directory: Path, *, samples: Sequence[Sample] | None = None, models: Mapping[str, float] = MODELS
) -> Path:
    """Write a finished study.

    Args:
        directory: where to.
        samples: the evaluation set; by default about 60 questions on about a dozen phantom pictures.
        models: name and skill, in [0, 1].

    Returns:
        The directory.
    """
    given = phantom_samples(12, seed=3) if samples is None else samples
    saved = []
    for sample in given:
        pictures = [save_picture(picture, directory / "data" / "pictures") for picture in sample.pictures]
        relative = [dataclasses.replace(p, path=str(Path(p.path or "").relative_to(directory))) for p in pictures]
        saved.append(dataclasses.replace(sample, pictures=tuple(relative)))
    rows = "".join(json_line(to_json(sample)) for sample in saved)
    write_file(directory / "data" / f"{DATA}.jsonl", rows)
    scores: dict[tuple[str, str], list[Score]] = {}
    for model, skill in models.items():
        answers = _answers(saved, model, skill)
        write_file(directory / "answers" / f"{model}.jsonl", "".join(json_line(to_json(answer)) for answer in answers))
        for metric in TITLES:
            scores[model, metric] = [_score(s, a, metric) for s, a in zip(saved, answers, strict=True)]
            lines = [{**to_json(score), "data": DATA, "template": "plain"} for score in scores[model, metric]]
            write_file(directory / "scores" / model / f"{metric}.jsonl", "".join(map(json_line, lines)))
        if model != "base":
            write_file(directory / "models" / model / "metrics.jsonl", "".join(map(json_line, _curve(model))))
    write_file(directory / "compare.json", canonical_json(compare_json(saved, scores)))
    write_file(directory / "study.yaml", STUDY)
    run = RunRecord(
        study="phantom-lora",
        study_sha256=hashlib.sha256(STUDY.encode()).hexdigest(),
        versions={
            "python": "3.11.9",
            "sightline": "0.1.0",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "peft": "0.21.0",
        },
        hardware={"processor": "x86_64", "cores": 2, "threads": 2, "memory_gib": 16},
        seconds={"data": 3.2, "sft.a16": 61.4, "sft.a8": 60.9, "answers": 24.0, "scores": 0.8},
        data_sha256={"phantom.train": "3f" * 32, DATA: "9a" * 32},
    )
    write_file(directory / "run.json", canonical_json(to_json(run)))
    problem = {
        "file": "questions.csv",
        "id": "17",
        "image": "film-0003.png",
        "remedy": "copy the file again; its end is missing",
    }
    problems = [
        {**problem, "row": 18, "kind": "truncated-image", "found": "a PNG that ends early", "repaired": False},
        {
            **problem,
            "row": 40,
            "kind": "cmyk",
            "found": "four channels",
            "repaired": True,
            "remedy": "converted to RGB",
        },
    ]
    write_file(directory / "data" / "problems.json", canonical_json(problems))
    check = {
        "name": "test-is-small",
        "level": "warning",
        "found": "62 questions can detect 15 points",
        "advice": "add images",
    }
    write_file(directory / "checks.json", canonical_json([check]))
    return directory

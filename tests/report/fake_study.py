"""A study directory as a finished run leaves it, made of phantom pictures and invented answers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.checking.findings import Finding
from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture
from sightline.data.problems import REMEDIES, Problem
from sightline.records import Answer, RunRecord, Sample, Score, to_json
from sightline.scoring.metrics import metric_named, score_answers
from sightline.storage import canonical_json, json_line, write_file
from sightline.verdict.compare import Comparison, compare_models

DATA = "phantom.test"
MODELS: Mapping[str, float] = {"base": 0.42, "sft.a16": 0.78, "sft.a8": 0.66, "sft.a4": 0.45, "sft.frozen": 0.20}
METRICS = ("exact_match", "closed_accuracy", "nll")
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


def _scores(samples: Sequence[Sample], answers: Sequence[Answer], metric: str) -> list[Score]:
    if metric != "nll":
        return score_answers(metric_named(metric), {sample.id: sample for sample in samples}, answers)
    losses = [0.2 if answer.text == sample.answer else 2.4 for sample, answer in zip(samples, answers, strict=True)]
    return [
        Score(sample_id=sample.id, metric=metric, outcome="scored", value=loss, parts={"nll": loss, "tokens": 1})
        for sample, loss in zip(samples, losses, strict=True)
    ]


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


def write_study(
    directory: Path,
    *,
    samples: Sequence[Sample] | None = None,
    models: Mapping[str, float] = MODELS,
    stated: Sequence[str] = (),
) -> Path:
    """Write a finished study.

    Args:
        directory: where to.
        samples: the evaluation set; by default about 60 questions on about a dozen phantom pictures.
        models: name and skill, in [0, 1].
        stated: the models whose comparison with base was stated; by default each.

    Returns:
        The directory.
    """
    if samples is None and models is MODELS and not stated:
        for name, content in _usual_study().items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        return directory
    return _made_study(directory, samples=samples, models=models, stated=stated)


@functools.cache
def _usual_study() -> Mapping[str, bytes]:
    """Make the study that most tests want once; it has no path of its directory in it."""
    with tempfile.TemporaryDirectory() as folder:
        directory = _made_study(Path(folder), samples=None, models=MODELS, stated=())
        files = [path for path in directory.rglob("*") if path.is_file()]
        return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def _made_study(
    directory: Path, *, samples: Sequence[Sample] | None, models: Mapping[str, float], stated: Sequence[str]
) -> Path:
    given = phantom_samples(12, seed=3) if samples is None else samples
    saved = []
    for sample in given:
        pictures = [save_picture(picture, directory / "data" / "pictures") for picture in sample.pictures]
        relative = [dataclasses.replace(p, path=str(Path(p.path or "").relative_to(directory))) for p in pictures]
        saved.append(dataclasses.replace(sample, pictures=tuple(relative)))
    rows = "".join(json_line(to_json(sample)) for sample in saved)
    write_file(directory / "data" / f"{DATA}.jsonl", rows)
    scores: dict[tuple[str, str, str], dict[str, list[Score]]] = {}
    for model, skill in models.items():
        answers = _answers(saved, model, skill)
        write_file(directory / "answers" / f"{model}.jsonl", "".join(json_line(to_json(answer)) for answer in answers))
        by_metric = scores.setdefault((model, DATA, "plain"), {})
        for metric in METRICS:
            by_metric[metric] = _scores(saved, answers, metric)
            lines = [{**to_json(score), "data": DATA, "template": "plain"} for score in by_metric[metric]]
            write_file(directory / "scores" / model / f"{metric}.jsonl", "".join(map(json_line, lines)))
        if model != "base":
            write_file(directory / "models" / model / "metrics.jsonl", "".join(map(json_line, _curve(model))))
    compare = compare_models(
        study="phantom-lora",
        samples={DATA: {sample.id: sample for sample in saved}},
        scores=scores,
        metrics=[metric_named(metric) for metric in METRICS],
        stated=[Comparison(model=model, against="base") for model in stated or models if model != "base"],
    )
    write_file(directory / "compare.json", canonical_json(compare))
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
        seconds={"data": 3.2, "compare": 0.8}
        | {f"train {model}": 61.4 for model in models if model != "base"}
        | {f"evaluate {model}": 24.0 + place for place, model in enumerate(models)},
        data_sha256={"phantom.train": "3f" * 32, DATA: "9a" * 32},
    )
    write_file(directory / "run.json", canonical_json(to_json(run)))
    found = [(40, "cmyk", "four channels", True), (18, "truncated-image", "a PNG that ends early", False)]
    problems = [
        Problem(
            file="questions.csv",
            row=row,
            id=f"q{row}",
            kind=kind,
            found=what,
            remedy=REMEDIES[kind],
            repaired=repaired,
            image="film-0003.png",
        )
        for row, kind, what, repaired in found
    ]
    write_file(
        directory / "data" / "problems.json", canonical_json([dataclasses.asdict(problem) for problem in problems])
    )
    checks = [
        Finding(name="prefix-sharing", severity="note", message="1,000 tokens become 300"),
        Finding(
            name="test-is-small", severity="warning", message="12 images can detect 15 points", remedy="add images"
        ),
    ]
    write_file(directory / "checks.json", canonical_json([dataclasses.asdict(check) for check in checks]))
    return directory

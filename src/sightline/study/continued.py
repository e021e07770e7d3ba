"""What a step that goes on with another step's adapter takes over from it: the adapter's shape, as far as it says none.

A shape is the values of the study's keys that an adapter cannot change once it is made: those of `lora`, and `train`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sightline.study.names import as_tuple, in_order, refuse_shared_names, split_name
from sightline.study.plan import Plan, StepRun, variants_of
from sightline.study.schema import Study
from sightline.study.steps import Average, Choose, Dpo, Sft
from sightline.study.text import flatten
from sightline.study.training import Lora, Training

Shape = Mapping[str, object]
"""What an adapter is like, by the study's keys."""


def shape_of(training: Training) -> Shape:
    """Give the shape of an adapter that is made new."""
    return {f"lora.{name}": value for name, value in training.lora} | {"train": sorted(training.train)}


def shape_of_mean(shapes: Sequence[Shape], svd_rank: int | None) -> Shape | None:
    """Give the shape of the mean of adapters: the sum of their ranks, unless it is compressed.

    None where they have other targets: the mean then lists layers, and each has a rank of its own.
    """
    if any(shape["lora.targets"] != shapes[0]["lora.targets"] for shape in shapes):
        return None
    total = sum(int(str(shape["lora.rank"])) for shape in shapes)
    rank = total if svd_rank is None else min(total, svd_rank)
    dropouts = {shape["lora.dropout"] for shape in shapes}
    return {
        **shapes[0],
        "lora.rank": rank,
        "lora.alpha": rank,
        "lora.rslora": False,
        "lora.dropout": dropouts.pop() if len(dropouts) == 1 else 0.0,
    }


def with_shapes_taken_over(study: Study) -> Study:
    """Write into every step that goes on with another one's adapter what it leaves unsaid of the adapter's shape.

    Raises:
        StudyError: a name that does not exist or stands for two things, or a circle of steps.
    """
    refuse_shared_names(study)
    for name in in_order(study):
        step = study.steps[name]
        if isinstance(step, Sft | Dpo) and (shapes := _shapes(study, step.from_)) and len(shapes) == 1:
            study = study.model_copy(update={"steps": {**study.steps, name: _filled(step, shapes[0])}})
    return study


def as_stated(values: dict[str, Any], step: Sft | Dpo) -> None:
    """Take out of a step's plain values, in place, what the step leaves unsaid of its adapter's shape."""
    values["lora"] = step.lora.model_dump(mode="json", exclude_unset=True)
    if "train" not in step.model_fields_set:
        del values["train"]


def stated_shape(training: Training) -> Shape:
    """Give what was written of an adapter's shape, be it the default or another value."""
    stated = {f"lora.{name}" for name in training.lora.model_fields_set} | training.model_fields_set
    return {key: value for key, value in shape_of(training).items() if key in stated}


def knows_shape(study: Study, model: str) -> bool:
    """Whether the study says what a model's adapter is like, or that it has none; else its files alone say."""
    shapes = _shapes(study, model)
    return shapes is not None and len(shapes) < 2


def _filled(step: Sft | Dpo, shape: Shape) -> Sft | Dpo:
    held = {key: shape[f"lora.{key}"] for key in Lora.model_fields}
    lora = Lora.model_validate(held | step.lora.model_dump(exclude_unset=True))
    train = step.train if "train" in step.model_fields_set else shape["train"]
    return step.model_copy(update={"lora": lora, "train": tuple(train)})  # pyright: ignore


def _shapes(study: Study, text: str) -> list[Shape] | None:
    """Give the shapes of the adapters of a name, none for a bare base; None where the study does not say."""
    head, member, _ = split_name(text)
    if head == "base" or (head in study.models and study.models[head].adapter is None):
        return []
    match study.steps.get(head):
        case Sft() | Dpo() as step:
            if not knows_shape(study, step.from_):
                return None
            variants = variants_of(study, head, step)
            return [shape_of(it) for name, it in variants.items() if it and (member is None or name == member)]
        case Average() | Choose() as step:
            parts = [_shapes(study, part) for part in as_tuple(step.from_)]
            known = [shape for part in parts if part is not None for shape in part]
            if None in parts or not known:
                return None
            if isinstance(step, Average):
                mean = shape_of_mean(known, step.svd_rank)
                return None if mean is None else [mean]
            return known[:1] if all(shape == known[0] for shape in known) else None
    return None


def faults_of_shapes(study: Study, plan: Plan) -> Iterator[str]:
    """Say which steps ask for another shape than that of the trained adapter they go on with, line by line."""
    runs = {run.name: run for run in plan.runs}
    for run in plan.runs:
        parent = runs.get(run.parents[0])
        if run.training is None or parent is None or parent.training is None:
            continue
        of = parent.step + (f".{parent.member}" if parent.member else "")
        if not knows_shape(study, of):
            continue
        there = shape_of(parent.training)
        for key, value in shape_of(run.training).items():
            if value != there[key]:
                yield (
                    f"{_place(study, run, key)}.{key} is {_shown(value)}, but {run.step} goes on with the adapter of "
                    f"{of}, where it is {_shown(there[key])}; remove {key} here and it is taken over, or write "
                    f"{_shown(there[key])}"
                )


def _place(study: Study, run: StepRun, key: str) -> str:
    """Say which block gave a run its value of a key."""
    step, where = study.steps[run.step], f"steps.{run.step}"
    assert isinstance(step, Sft | Dpo), "no other step trains"
    if key in step.grid:
        return f"{where}.grid"
    if run.member in step.members and key in dict(flatten(step.members[run.member])):
        return f"{where}.members.{run.member}"
    return where


def differences(here: Mapping[str, object], there: Mapping[str, object]) -> str:
    """Say which of one's values are others elsewhere: "lora.rank is 8 here and 16 there"."""
    differing = [name for name, value in here.items() if value != there[name]]
    return ", ".join(f"{name} is {_shown(here[name])} here and {_shown(there[name])} there" for name in differing)


def _shown(value: object) -> str:
    """Write a value as a study file would."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)

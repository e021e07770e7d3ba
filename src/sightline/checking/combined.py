"""Checks on steps that make one model of several, `average` and `choose`; they need no data and no model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace

from sightline.checking.findings import Finding
from sightline.checking.models import agreed_shape
from sightline.errors import SightlineError, StudyError
from sightline.study import Average, Choose, Step, StepRun
from sightline.study.continued import Shape, shape_of, shape_of_mean

SERVED_RANK = 512
"""The highest rank that vLLM serves as an adapter (`--max-lora-rank`)."""


def faults_of_averages(
    runs: Sequence[StepRun], steps: Mapping[str, Step], bases: Mapping[str, str], bare: Collection[str]
) -> Iterator[str]:
    """Say which averages cannot be made, and which steps could not go on with them.

    Args:
        runs: what the study makes.
        steps: by name.
        bases: the base of every model.
        bare: models without an adapter.
    """
    shapes = expected_shapes(runs, steps, bare)
    for run in runs:
        step = steps[run.step]
        if isinstance(step, Average):
            yield from _faults_of_bases(run, bases)
            try:
                _refuse_average(run, step, shapes)
            except SightlineError as error:
                yield f"{run.name}: {error}"
        elif run.training is not None and (shape := shapes.get(run.parent)):
            parent = next(other for other in runs if other.name == run.parent)
            try:
                if parent.training is None:
                    agreed_shape(run, shape)
            except StudyError as error:
                yield str(error)


def faults_of_choices(
    runs: Sequence[StepRun],
    steps: Mapping[str, Step],
    bases: Mapping[str, str],
    bare: Collection[str],
    *,
    asked: Collection[str],
    parts: Mapping[str, Collection[str]],
    unfit: Mapping[str, str],
) -> Iterator[str]:
    """Say which choices cannot be made, or would be made on what judges them afterwards.

    Args:
        runs: what the study makes.
        steps: by name.
        bases: the base of every model.
        bare: models without an adapter.
        asked: the sets that the models are asked in the end, and what they are mixed from.
        parts: every set that is used, with the sets it is mixed from, itself included.
        unfit: metrics that decide nothing, with the reason.
    """
    for run in runs:
        step = steps[run.step]
        if not isinstance(step, Choose):
            continue
        yield from _faults_of_bases(run, bases)
        for name in run.parents:
            if name in bare:
                yield f"{run.name}: {name} has no adapter that could be taken; put the question into `compare` instead"
        if step.by in unfit:
            yield f"{run.name}: by: {step.by} {unfit[step.by]}; choose by nll, or by a metric of the answers"
        for name in run.on:
            if tested := sorted({name, *parts[name]} & set(asked)):
                yield (
                    f"{run.name}: on: {tested[0]} is what the models are asked in the end, and the one that is chosen "
                    "for doing well there would do well there by luck, too; name a validation split"
                )


def _faults_of_bases(run: StepRun, bases: Mapping[str, str]) -> Iterator[str]:
    first = run.parents[0]
    for name in run.parents:
        if bases[name] != bases[first]:
            yield f"{run.name}: {first} sits on {bases[first]} and {name} on {bases[name]}; {run.method} needs one base"


def _refuse_average(run: StepRun, step: Average, shapes: Mapping[str, Shape | None]) -> None:
    from sightline.models.averaging import refuse_without_mean, shares_of

    shares_of(step.weights, run.parents)
    known = {name: shape for name in run.parents if (shape := shapes.get(name))}
    configs = {
        name: SimpleNamespace(
            use_dora=shape["lora.dora"], bias=shape["lora.bias"], lora_bias=False, modules_to_save=shape["train"]
        )
        for name, shape in known.items()
    }
    if configs:
        refuse_without_mean(configs)


def check_averages(runs: Sequence[StepRun], steps: Mapping[str, Step], bare: Collection[str]) -> Iterator[Finding]:
    """Find averages of a rank that cannot be served, and ranks to compress to that change nothing."""
    shapes = expected_shapes(runs, steps, bare)
    for run in runs:
        step, shape = steps[run.step], shapes[run.name]
        if not isinstance(step, Average) or shape is None:
            continue
        ranks = [int(str(held["lora.rank"])) for name in run.parents if (held := shapes.get(name))]
        rank, summed = int(str(shape["lora.rank"])), " + ".join(map(str, ranks))
        if rank > SERVED_RANK:
            told = f"the mean has rank {rank} ({summed}), and vLLM serves adapters up to rank {SERVED_RANK}"
            remedy = "set svd_rank (what it loses is said when the average is made), or serve the average merged"
        elif step.svd_rank is not None and step.svd_rank >= sum(ranks):
            told = f"svd_rank {step.svd_rank} has no effect: the exact mean has rank {sum(ranks)} ({summed})"
            remedy = "leave svd_rank out, or set it below that"
        else:
            continue
        yield Finding(
            name="unusual-setting",
            severity="warning",
            message=f"{run.name}: {told}",
            remedy=remedy,
            evidence={"models": [run.name], "ranks": ranks},
        )


def expected_shapes(
    runs: Sequence[StepRun], steps: Mapping[str, Step], bare: Collection[str]
) -> dict[str, Shape | None]:
    """Say what each adapter of a study will be like, as far as that follows from its plan; None where it does not."""
    shapes: dict[str, Shape | None] = {}
    for run in runs:
        step = steps[run.step]
        parents = [shapes.get(name) for name in run.parents if name not in bare]
        known = [shape for shape in parents if shape is not None]
        shape: Shape | None = None
        if run.training is not None:
            shape = shape_of(run.training) if run.parent in bare else parents[0]
        elif len(known) == len(parents) and known and isinstance(step, Average):
            shape = shape_of_mean(known, step.svd_rank)
        elif len(known) == len(parents) and isinstance(step, Choose) and all(other == known[0] for other in known):
            shape = known[0]
        shapes[run.name] = shape
    return shapes

"""Curricula: which rows each stage of a training takes, and how long it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from sightline.data.sets import has_tags
from sightline.errors import DataError
from sightline.records import Sample
from sightline.runner.reading import Prepared
from sightline.scoring.vqa import is_closed
from sightline.storage import canonical_json
from sightline.study import StepRun
from sightline.training.batches import Stage

NUM_VALUES = 8
"""How many values of a tag a message shows."""


def stages_of(run: StepRun, prepared: Prepared) -> list[Stage]:
    """Find the rows of each stage of a training, by their numbers in `Prepared.samples(run.on)`.

    Args:
        run: a run that trains.
        prepared: the data.

    Returns:
        The curriculum's stages; one of all rows where there is no curriculum.

    Raises:
        DataError: if a stage has no row.
    """
    settings, samples = run.settings, prepared.samples(run.on)
    if not settings.stages:
        return [Stage(samples=range(len(samples)), epochs=settings.epochs, max_steps=settings.max_steps)]
    of_set = [name for name in run.on for _ in prepared.sets[name]]
    tags = {tag for stage in settings.stages for tag in stage.where}
    known = [_with_facts(sample, tags) for sample in samples]
    stages = []
    for number, (wanted, stage) in enumerate(zip(run.stage_data, settings.stages, strict=True), start=1):
        offered = [place for place, name in enumerate(of_set) if name in wanted]
        chosen = [place for place in offered if has_tags(known[place], stage.where)]
        if not chosen:
            found = _values(stage.where, [known[place] for place in offered]) if offered else "there is no row at all"
            raise DataError(
                f"{run.name}: stage {number} has no row: it wants {dict(stage.where)} of {', '.join(wanted)}, and "
                f"{found}; look at its `on` and `where`"
            )
        stages.append(Stage(samples=chosen, epochs=stage.epochs, max_steps=stage.max_steps))
    return stages


def num_passes(run: StepRun, prepared: Prepared) -> float:
    """Count the passes over all rows of a training, as a fraction; those over a stage's rows count by their number."""
    stages, batch_size = stages_of(run, prepared), run.settings.batch_size
    seen = sum(s.max_steps * batch_size if s.max_steps else (s.epochs or 1) * len(s.samples) for s in stages)
    return seen / len(prepared.samples(run.on))


def stages_record(run: StepRun, prepared: Prepared, stages: Sequence[Stage]) -> str:
    """Write down, as JSON, which rows each stage of a curriculum takes, by their ids, and its optimizer steps."""
    samples = prepared.samples(run.on)
    return canonical_json(
        [
            {
                "on": on,
                "where": asked.where,
                "num_steps": stage.num_steps(run.settings.batch_size),
                "rows": [samples[number].id for number in stage.samples],
            }
            for on, asked, stage in zip(run.stage_data, run.settings.stages, stages, strict=True)
        ]
    )


def _with_facts(sample: Sample, tags: Collection[str]) -> Sample:
    """Add what a stage may ask for beside a row's own tags; open and closed are told apart as metrics do."""
    facts = {}
    if "num_pictures" in tags:
        facts["num_pictures"] = str(len(sample.pictures))
    if "answer_type" in tags:
        facts["answer_type"] = "CLOSED" if is_closed(sample) else "OPEN"
    given = {name: value for name, value in sample.tags.items() if value.strip()}
    return dataclasses.replace(sample, tags={**facts, **given}) if facts else sample


def _values(where: Iterable[str], samples: Sequence[Sample]) -> str:
    """Say which values the rows have of the tags asked for."""
    told = []
    for tag in where:
        values = sorted({value for sample in samples if (value := sample.tags.get(tag, "").strip())})
        shown = ", ".join(values[:NUM_VALUES]) + (", ..." if len(values) > NUM_VALUES else "")
        told.append(f"{tag} is {shown} there" if values else f"no row there has a tag {tag}")
    return "; ".join(told)

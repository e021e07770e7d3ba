"""Measure the loss before the first step: the cheapest sign that a model reads what it is to answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sightline.checking.findings import Finding
from sightline.checking.first_loss import check_first_loss
from sightline.runner.prepare import render_samples
from sightline.runner.reading import Prepared

if TYPE_CHECKING:
    from sightline.models.loading import LoadedModel
    from sightline.runner.make import Shelf

NUM_ROWS = 32
"""Rows the loss is measured on, drawn at random: every third row of a table can be the same question."""


def look_at_first_loss(shelf: Shelf) -> Iterator[Finding]:
    """Measure the loss that every training starts from, once for each way of it, where model and data are there.

    Args:
        shelf: the study's models.

    Yields:
        a finding for each set and model.
    """
    prepared = shelf.prepared
    seen: set[tuple[object, ...]] = set()
    made = {run.name for run in prepared.plan.runs}
    is_drawn = all(data.source in (None, "builtin:phantom") for data in prepared.study.data.values())
    for run in prepared.plan.runs:
        settings = run.training
        if settings is None or not made.isdisjoint((run.parent, *run.on)):
            continue
        key = (run.parent, run.on, settings.train_on, settings.eos)
        if key in seen:
            continue
        seen.add(key)
        loaded = shelf.wear(run.parent)
        num_rows, loss = _loss(prepared, loaded, run.on, settings)
        yield from check_first_loss(
            ", ".join(run.on),
            run.parent,
            loss,
            num_rows=num_rows,
            vocabulary_size=int(loaded.inner.config.text_config.vocab_size),  # pyright: ignore
            is_foreign=loaded.base == "builtin:tiny" and not is_drawn,
        )


def _loss(prepared: Prepared, loaded: LoadedModel, names: tuple[str, ...], settings) -> tuple[int, float]:
    """Measure nats per target on a few rows."""
    from sightline.training.batches import RenderedSet
    from sightline.training.loop import mean_loss

    sequences = render_samples(prepared, loaded.family, names, settings)
    samples = prepared.samples(names)
    chosen = draw_places(len(samples))
    for number in chosen:
        loaded.features.register(samples[number].pictures)
    data = RenderedSet(
        sequences=[sequences[number] for number in chosen], image_ids=[samples[number].image_id for number in chosen]
    )
    return len(chosen), mean_loss(loaded, data, max(map(len, data.sequences)))


def draw_places(num_rows: int) -> list[int]:
    """Draw the rows that the loss is measured on, the same ones each time."""
    return sorted(random.Random(0).sample(range(num_rows), min(NUM_ROWS, num_rows)))

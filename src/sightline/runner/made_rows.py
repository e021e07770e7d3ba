"""Rows that a step has made, looked at before anything is learnt from them; stand-ins tell nothing of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sightline.checking.findings import Finding, in_order
from sightline.checking.labels import check_labels
from sightline.checking.rows import check_balance, check_problems, check_repeats, check_sizes
from sightline.checking.templates import check_markers
from sightline.data.problems import Problem
from sightline.errors import DataError
from sightline.records import Sample
from sightline.runner.check import accept
from sightline.runner.prepare import render_samples, too_long_to_learn
from sightline.runner.reading import Prepared, put_in_place

if TYPE_CHECKING:
    from sightline.runner.make import Shelf


def look_at_made(name: str, rows: tuple[Sample, ...], shelf: Shelf) -> tuple[tuple[Sample, ...], list[Finding]]:
    """Look at the rows of a made set as every step that learns from them will see them.

    Args:
        name: of the set.
        rows: what was made.
        shelf: the models.

    Returns:
        the rows without those that cannot be learnt, and what was found, the gravest first. A row that is too long is
        a fault, unless the study skips or accepts bad rows.

    Raises:
        DataError: no row is left.
    """
    prepared = shelf.prepared
    put_in_place(prepared, name, rows)
    too_long: dict[str, Problem] = {}
    for run in prepared.plan.runs:
        if run.training is not None and name in (*run.on, *run.validation):
            too_long |= too_long_to_learn(prepared, shelf.family(shelf.base_of(run.parent)), run, name)
    kept = tuple(row for row in rows if row.id not in too_long)
    if not kept:
        raise DataError(f"no row of {name} is left to train on: all {len(rows):,} are too long for a row or the model")
    if too_long:
        put_in_place(prepared, name, kept)
    found = [*_looks(name, kept, shelf), *_bad_rows(prepared, list(too_long.values()), num_rows=len(rows))]
    return kept, in_order(accept(prepared.study, finding) for finding in found)


def _bad_rows(prepared: Prepared, problems: Sequence[Problem], *, num_rows: int) -> Iterator[Finding]:
    skips = prepared.on_bad_row == "skip" and "bad-rows" not in prepared.study.accept
    yield from check_problems(problems, num_rows=num_rows, skipped=skips, are_samples=True)


def _looks(name: str, rows: tuple[Sample, ...], shelf: Shelf) -> Iterator[Finding]:
    yield from check_sizes(name, rows)
    yield from check_repeats(name, rows)
    yield from check_balance(name, rows)
    yield from check_markers(name, rows)
    seen: set[tuple[object, ...]] = set()
    for run in shelf.prepared.plan.runs:
        settings = run.training
        if settings is None or name not in run.on:
            continue
        family = shelf.family(shelf.base_of(run.parent))
        sides = (False, True) if run.method == "dpo" else (False,)
        key = (family.rendering_sha256, sides, settings.train_on, settings.eos, settings.question_suffix)
        if (key := (*key, settings.system)) in seen:
            continue
        seen.add(key)
        for rejected in sides:
            sequences = render_samples(shelf.prepared, family, [name], settings, rejected=rejected)
            side = f"{name}, {'rejected' if rejected else 'chosen'}" if len(sides) > 1 else name
            yield from check_labels(side, rows, sequences, family.end_token_ids)

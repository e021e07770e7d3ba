"""Preference pairs from any source that `formats` can read: an image, a prompt, a chosen and a rejected answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.data import ha_dpo
from sightline.data.conversations import PLACEHOLDER
from sightline.data.formats import load_source
from sightline.data.problems import Problem, problem_of, shown
from sightline.errors import DataError
from sightline.records import PreferencePair, Sample

COLUMNS: Mapping[str, str] = {"prompt": "question", "chosen": "answer"}
"""Names of fields that pairs have for those that `formats` knows."""

TIE_REMEDY = "drop the row or set allow_ties: true"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPairs:
    """What a source of pairs held; fields as in `problems.Loaded`."""

    pairs: tuple[PreferencePair, ...]
    problems: tuple[Problem, ...]
    num_rows: int


def load_pairs(
    source: str,
    *,
    root: Path,
    format: str | None = None,
    subset: str | None = None,
    columns: Mapping[str, object] | None = None,
    take: int | None = None,
    where: Mapping[str, object] | None = None,
    images: str | None = None,
    with_pictures: bool = True,
    allow_ties: bool = False,
) -> dict[str, LoadedPairs]:
    """Read preference pairs from a file, a folder or a dataset of the hub.

    Args:
        source: as in `formats.load_source`; so are root, format, subset, take, where, images and with_pictures.
        columns: our field names (image, prompt, chosen, rejected, id, tags) to the source's columns; without it,
            "chosen" and "rejected" are taken, and "prompt" or "question".
        allow_ties: True keeps rows whose chosen equals their rejected answer.

    Returns:
        Split name, as the source has it ("all" when it has none), to what it held.

    Raises:
        MissingDataError: file, folder or dataset is not there.
        DataError: the source cannot be understood, or has no such columns.
    """
    if format is None and (root / source / ha_dpo.DESCRIPTIONS).is_file():
        format = "ha_dpo"
    asked = {COLUMNS.get(name, name): column for name, column in (columns or {}).items()}
    asked.setdefault("answer", "chosen")
    rejected = asked.pop("rejected", "rejected")
    if not isinstance(rejected, str):
        raise DataError(f"`columns`: rejected is {shown(rejected)}, not the name of a column")
    tags = asked.get("tags") or (ha_dpo.TAGS if format == "ha_dpo" else ())
    asked["tags"] = [*([tags] if isinstance(tags, str) else [str(tag) for tag in _listed(tags)]), rejected]
    loaded = load_source(
        source,
        root=root,
        format=format,
        subset=subset,
        columns=asked,
        take=take,
        where=where,
        images=images,
        with_pictures=with_pictures,
    )
    return {
        split: _pairs_of(part.samples, part.problems, part.num_rows, rejected, allow_ties)
        for split, part in loaded.items()
    }


def _listed(tags: object) -> list[object]:
    return list(tags) if isinstance(tags, list | tuple) else []


def _pairs_of(
    samples: tuple[Sample, ...], problems: tuple[Problem, ...], num_rows: int, column: str, allow_ties: bool
) -> LoadedPairs:
    pairs: list[PreferencePair] = []
    found: list[Problem] = list(problems)
    for sample in samples:
        rejected = sample.tags.get(column)
        if rejected is None:
            found.append(problem_of(sample, "missing-key", f"no {shown(column)}, the column of the rejected answer"))
        elif not rejected:
            found.append(problem_of(sample, "empty-answer", f"{shown(column)} is empty"))
        elif PLACEHOLDER in rejected:
            found.append(problem_of(sample, "image-count", f"`{PLACEHOLDER}` in {shown(column)}"))
        elif rejected.split() == sample.answer.split() and not allow_ties:
            tie = problem_of(sample, "wrong-type", "chosen equals rejected")
            found.append(replace(tie, kind="equal-answers", remedy=TIE_REMEDY))
        else:
            pairs.append(_pair(sample, rejected, column))
    return LoadedPairs(pairs=tuple(pairs), problems=tuple(found), num_rows=num_rows)


def _pair(sample: Sample, rejected: str, column: str) -> PreferencePair:
    return PreferencePair(
        id=sample.id,
        pictures=sample.pictures,
        messages=sample.messages,
        chosen=sample.answer,
        rejected=rejected,
        tags={name: value for name, value in sample.tags.items() if name != column},
        origin=sample.origin,
    )

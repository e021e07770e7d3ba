"""Splits that keep everything known about a picture on one side."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from sightline.data.groups import GROUPED_BY, picture_groups, row_group
from sightline.errors import DataError
from sightline.records import PreferencePair, Sample

AnySample = TypeVar("AnySample", Sample, PreferencePair)


def split_samples(
    samples: Iterable[AnySample],
    shares: Mapping[str, float],
    *,
    by: str = "image",
    seed: int = 0,
    stratify: str | None = None,
) -> dict[str, tuple[AnySample, ...]]:
    """Split samples by picture, by row or by a tag, into parts of the given sizes.

    Samples that share a picture, directly or through others, form a group; groups are put in an order that depends
    on their content and the seed alone, and each goes to the part that lacks most. A part's size is off by less
    than the largest group for each part.

    Args:
        samples: in any order; the order of files does not change where a picture goes.
        shares: part name to its share of the samples, in (0, 1]; they sum to 1.
        by: "image" keeps the samples of a picture together; "row" keeps those of a row together (the turns of a
            conversation), so pictures are seen on both sides; any other word is a tag ("patient"), whose samples stay
            together, and those of a picture with them.
        seed: another seed gives another split.
        stratify: a tag; every part gets its share of each of its values, as nearly as groups allow (iterative
            stratification, Sechidis et al. 2011, with the groups in the order of the seed).

    Returns:
        Part name to its samples, in the order given.

    Raises:
        DataError: the shares are no shares, a row has no such tag, or there are too few groups to fill every part.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise DataError(f"split shares {dict(shares)} must be positive and sum to 1")
    samples = tuple(samples)
    for tag in {by, stratify} - {"image", "row", None}:
        _refuse_untagged(samples, str(tag))
    if by == "row":
        groups = [row_group(sample) for sample in samples]
    else:
        groups = picture_groups(samples, None if by == "image" else by)
    held: dict[str, Counter[str]] = {}  # of each group, how many rows of each stratum
    for sample, group in zip(samples, groups, strict=True):
        held.setdefault(group, Counter())[sample.tags[stratify] if stratify else ""] += 1
    of_stratum = sum(held.values(), Counter())

    lacking = {name: {s: share * number for s, number in of_stratum.items()} for name, share in shares.items()}

    def need(name: str, group: Counter[str]) -> float:
        if stratify is None:
            return lacking[name][""]
        # Where a stratum is rare, one row of it counts for more.
        return sum(number * lacking[name][s] / of_stratum[s] for s, number in group.items())

    part_of_group = {}
    for group in sorted(held, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        part = part_of_group[group] = max(lacking, key=lambda name: need(name, held[group]))
        for stratum, number in held[group].items():
            lacking[part][stratum] -= number

    parts: dict[str, list[AnySample]] = {name: [] for name in shares}
    for sample, group in zip(samples, groups, strict=True):
        parts[part_of_group[group]].append(sample)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        joined = any(len(sample.pictures) > 1 for sample in samples)
        pictures = "groups of rows that share pictures" if joined else "pictures"
        what = {"image": pictures, "row": "rows"}.get(by, f"groups by {by}")
        raise DataError(
            f"split: {len(held)} {what} are too few to fill {', '.join(empty)} of {dict(shares)}; "
            "add data, or leave out a part"
        )
    if by in ("image", "row"):
        return {name: tuple(part) for name, part in parts.items()}
    return {
        name: tuple(dataclasses.replace(sample, tags={**sample.tags, GROUPED_BY: by}) for sample in part)
        for name, part in parts.items()
    }


def _refuse_untagged(samples: Sequence[Sample | PreferencePair], tag: str) -> None:
    without = [sample for sample in samples if tag not in sample.tags]
    if without:
        known = ", ".join(sorted({name for sample in samples[:1000] for name in sample.tags})) or "none"
        raise DataError(
            f"split: {len(without):,} of {len(samples):,} rows have no tag {tag!r}, for example "
            f"{without[0].origin or without[0].id}; tags there are: {known}. A column becomes a tag by "
            f"columns: {{tags: [{tag}]}}"
        )

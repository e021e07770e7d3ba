"""Splits that keep everything known about a picture on one side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from sightline.errors import DataError
from sightline.records import PreferencePair, Sample

AnySample = TypeVar("AnySample", Sample, PreferencePair)


def split_samples(
    samples: Iterable[AnySample],
    shares: Mapping[str, float],
    *,
    by: Literal["image", "row"] = "image",
    seed: int = 0,
) -> dict[str, tuple[AnySample, ...]]:
    """Split samples by picture, or by row, into parts of the given sizes.

    Samples that share a picture, directly or through others, form a group; groups are put in an order that depends
    on their content and the seed alone, and each goes to the part that lacks most. A part's size is off by less
    than the largest group for each part.

    Args:
        samples: in any order; the order of files does not change where a picture goes.
        shares: part name to its share of the samples, in (0, 1]; they sum to 1.
        by: "image" keeps the samples of a picture together; "row" keeps those of a row together (the turns of a
            conversation), so pictures are seen on both sides.
        seed: another seed gives another split.

    Returns:
        Part name to its samples, in the order given.

    Raises:
        DataError: the shares are no shares, or there are too few groups to fill every part.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise DataError(f"split shares {dict(shares)} must be positive and sum to 1")
    samples = tuple(samples)
    groups = _groups(samples, by)
    num_of_group: dict[str, int] = {}
    for group in groups:
        num_of_group[group] = num_of_group.get(group, 0) + 1

    lacking = {name: share * len(samples) for name, share in shares.items()}
    part_of_group = {}
    for group in sorted(num_of_group, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        part = max(lacking, key=lambda name: lacking[name])
        part_of_group[group] = part
        lacking[part] -= num_of_group[group]

    parts: dict[str, list[AnySample]] = {name: [] for name in shares}
    for sample, group in zip(samples, groups, strict=True):
        parts[part_of_group[group]].append(sample)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        what = "pictures" if by == "image" else "rows"
        raise DataError(
            f"split: {len(num_of_group)} {what} are too few to fill {', '.join(empty)} of {dict(shares)}; "
            "add data, or leave out a part"
        )
    return {name: tuple(part) for name, part in parts.items()}


def _groups(samples: Sequence[Sample | PreferencePair], by: Literal["image", "row"]) -> list[str]:
    """Name each sample's group: the smallest picture hash it is connected with, or its row."""
    if by == "row":
        return [f"row:{sample.origin or sample.id}" for sample in samples]
    leader: dict[str, str] = {}

    def find(picture: str) -> str:
        while leader.setdefault(picture, picture) != picture:
            leader[picture] = leader[leader[picture]]
            picture = leader[picture]
        return picture

    for sample in samples:
        for picture in sample.pictures:
            first, second = sorted((find(sample.pictures[0].sha256), find(picture.sha256)))
            leader[second] = first
    # Turns of a conversation without a picture still belong together.
    return [
        find(sample.pictures[0].sha256) if sample.pictures else f"row:{sample.origin or sample.id}"
        for sample in samples
    ]

"""Rows drawn from one set, and mixtures: rows of several put together, in given numbers or proportions."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

from sightline.data.groups import picture_groups
from sightline.errors import DataError
from sightline.records import Sample


def mix_samples(
    name: str,
    parts: Mapping[str, Sequence[Sample]],
    amounts: Mapping[str, float],
    *,
    take: int | None = None,
    seed: int = 0,
) -> tuple[Sample, ...]:
    """Draw rows of several sets, picture by picture, so that the questions about one stay together.

    Args:
        name: of the mixture, for messages.
        parts: the sets, by name.
        amounts: rows of each, as whole numbers; or its share of all, the shares adding up to 1.
        take: rows in all, where shares are given; by default as many as the sets allow without repeating one.
        seed: of the draw.

    Returns:
        The rows drawn, set after set. Ids that would clash are put behind their set's name.

    Raises:
        DataError: if a set has too few rows.
    """
    counts = _counts(name, {part: len(samples) for part, samples in parts.items()}, amounts, take)
    drawn = [(part, sample) for part, samples in parts.items() for sample in draw_rows(samples, counts[part], seed)]
    if len({sample.id for _, sample in drawn}) == len(drawn):
        return tuple(sample for _, sample in drawn)
    return tuple(dataclasses.replace(sample, id=f"{part}/{sample.id}") for part, sample in drawn)


def _counts(name: str, held: Mapping[str, int], amounts: Mapping[str, float], take: int | None) -> dict[str, int]:
    """Turn shares into numbers of rows, the largest remainders rounded up."""
    if all(float(amount).is_integer() for amount in amounts.values()):
        counts, advice = {part: int(amount) for part, amount in amounts.items()}, "want fewer"
    else:
        whole = sum(amounts.values())
        shares = {part: amount / whole for part, amount in amounts.items()}
        most = math.floor(min(held[part] / share for part, share in shares.items()) + 1e-9)
        total, advice = most if take is None else take, f"take {most:,} at most, or leave `take` out"
        exact = {part: total * share for part, share in shares.items()}
        counts = {part: math.floor(value) for part, value in exact.items()}
        rest = sorted(exact, key=lambda part: counts[part] - exact[part])
        for part in rest[: total - sum(counts.values())]:
            counts[part] += 1
    for part, count in counts.items():
        if count > held[part]:
            raise DataError(f"data.{name}.mix: {count:,} rows of {part} are wanted and it has {held[part]:,}; {advice}")
        if count == 0:
            raise DataError(f"data.{name}.mix: the share of {part} comes to no row; raise it, or leave {part} out")
    return counts


def draw_rows(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Draw rows at random, picture by picture: in an order that depends on the pictures and the seed alone.

    Args:
        samples: to draw from.
        count: rows to draw; where there are fewer, all are drawn. Of the last picture some may stay behind.
        seed: of the order.

    Returns:
        the rows drawn, in the order in which they were given.
    """
    groups = picture_groups(samples)
    place = {group: hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in groups}

    def by_content(number: int) -> tuple[bytes, str, str, int]:
        return place[groups[number]], samples[number].question, samples[number].answer, number

    return [samples[number] for number in sorted(sorted(range(len(samples)), key=by_content)[:count])]

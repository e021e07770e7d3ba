"""Pictures in place of a sample's own: a blank one, or another sample's."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Sequence

from sightline.data.pictures import read_picture
from sightline.records import Picture, Sample

MOST_SHIFTS = 64
"""Rotations that are tried where pictures recur in several sets of pictures."""


def with_blank_pictures(samples: Sequence[Sample], colour: tuple[int, int, int]) -> tuple[Sample, ...]:
    """Put a picture of one colour and of equal size in the place of every picture.

    Args:
        samples: rows; those without a picture are left out.
        colour: RGB, 0 to 255.
    """

    @functools.cache
    def blank(width: int, height: int) -> Picture:
        return _blank(width, height, colour)

    return tuple(
        dataclasses.replace(sample, pictures=tuple(blank(p.width, p.height) for p in sample.pictures))
        for sample in samples
        if sample.pictures
    )


def with_other_pictures(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Give every row the pictures of another image, as many as it has.

    Images of equally many pictures stand in a circle, in the order in which the rows bring them, and each takes the
    pictures of the one half round: all rows of an image get the same ones, each image is given once, and neighbours,
    which may be alike, are far apart. Where sets of pictures overlap, the circle is turned until fewest meet a
    picture of their own; those that still do are left out, as are rows without a picture or without another image.

    Args:
        samples: rows.
    """
    circles: dict[int, dict[str, tuple[Picture, ...]]] = {}
    for sample in samples:
        if sample.pictures:
            circles.setdefault(len(sample.pictures), {}).setdefault(sample.image_id, sample.pictures)
    given = {
        image_id: pictures for circle in circles.values() for image_id, pictures in _turned(circle).items() if pictures
    }
    return tuple(
        dataclasses.replace(sample, pictures=given[sample.image_id]) for sample in samples if sample.image_id in given
    )


def _turned(circle: dict[str, tuple[Picture, ...]]) -> dict[str, tuple[Picture, ...]]:
    """Give each image another one's pictures; nothing where they share a picture."""
    seen = [{picture.sha256 for picture in pictures} for pictures in circle.values()]
    number = len(seen)
    shifts = sorted(range(1, number), key=lambda shift: abs(shift - number // 2))[:MOST_SHIFTS]
    if not shifts:
        return {}
    meetings = {}
    for shift in shifts:
        meetings[shift] = sum(not own.isdisjoint(seen[(n + shift) % number]) for n, own in enumerate(seen))
        if not meetings[shift]:
            break
    shift = min(meetings, key=meetings.__getitem__)
    pictures = list(circle.values())
    return {
        image_id: pictures[(n + shift) % number] if own.isdisjoint(seen[(n + shift) % number]) else ()
        for n, (image_id, own) in enumerate(zip(circle, seen, strict=True))
    }


def _blank(width: int, height: int, colour: tuple[int, int, int]) -> Picture:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    picture, _ = read_picture(buffer.getvalue(), name=f"blank, {width} x {height}")
    return picture

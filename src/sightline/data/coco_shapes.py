"""Where COCO's masks and boxes lie: centres worked out from polygons and run lengths, without drawing a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sightline.data.problems import shown

Point = tuple[float, float]
"""x and y in pixels from the picture's upper left corner; a pixel's middle is half a pixel from its edges."""


def centre_of(annotation: Mapping[str, object], width: int, height: int) -> Point:
    """Find the centre of what an annotation marks: the centroid of its mask, else the middle of its box.

    A mask that covers nothing counts as none.

    Args:
        annotation: with COCO's `segmentation` (polygons, or run lengths as numbers or as text), `bbox`, or both.
        width: of the picture, pixels.
        height: of the picture, pixels.

    Returns:
        The centre.

    Raises:
        ValueError: neither says where it is, one of them cannot be read, or the centre is outside of the picture.
    """
    segmentation = annotation.get("segmentation")
    centre = None
    if isinstance(segmentation, Mapping):
        centre = _centre_of_runs(segmentation, width, height)
    elif isinstance(segmentation, list):
        centre = _centre_of_polygons(segmentation)
    elif segmentation is not None:
        raise ValueError(f"its segmentation is {shown(segmentation)}, neither polygons nor run lengths")
    if centre is None:
        centre = _centre_of_box(annotation.get("bbox"))
    if not (0 <= centre[0] <= width and 0 <= centre[1] <= height):
        raise ValueError(f"its centre ({centre[0]:g}, {centre[1]:g}) is outside of {width} x {height} pixels")
    return centre


def place_of(centre: Point, width: int, height: int) -> str:
    """Name the part of a picture, cut into thirds both ways, in which a point lies.

    Args:
        centre: the point.
        width: of the picture, pixels.
        height: of the picture, pixels.

    Returns:
        "upper", "lower" or neither, then "left", "right" or neither, as the viewer sees them; "centre" when neither.
    """
    row = "upper" if centre[1] < height / 3 else "lower" if centre[1] >= height * 2 / 3 else ""
    column = "left" if centre[0] < width / 3 else "right" if centre[0] >= width * 2 / 3 else ""
    return f"{row} {column}".strip() or "centre"


def _centre_of_box(box: object) -> Point:
    if box is None:
        raise ValueError("it has neither bbox nor segmentation")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or min(box[2:]) < 0:
        raise ValueError(f"its bbox is {shown(box)}, not [x, y, width, height]")
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _centre_of_polygons(polygons: list[object]) -> Point | None:
    """Weigh each polygon's centroid (shoelace formula) by its area, whichever way round it is drawn.

    An outline that crosses itself can have that point outside of its own bounds: then the middle of these counts.
    """
    total = total_x = total_y = 0.0
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(_is_finite, polygon)):
            raise ValueError(f"a polygon is {shown(polygon)}, not three or more pairs of x and y")
        corners = list(zip(polygon[::2], polygon[1::2], strict=True))
        # Taken from the first corner, so that a small shape far from the origin loses no digits.
        x0, y0 = corners[0]
        area = moment_x = moment_y = 0.0
        for (xa, ya), (xb, yb) in zip(corners, corners[1:] + corners[:1], strict=True):
            cross = (xa - x0) * (yb - y0) - (xb - x0) * (ya - y0)
            area += cross / 2
            moment_x += (xa + xb - 2 * x0) * cross / 6
            moment_y += (ya + yb - 2 * y0) * cross / 6
        if not area:
            continue
        x, y = x0 + moment_x / area, y0 + moment_y / area
        left, right, top, bottom = min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])
        if not (left <= x <= right and top <= y <= bottom):
            x, y = (left + right) / 2, (top + bottom) / 2
        total += abs(area)
        total_x += abs(area) * x
        total_y += abs(area) * y
    return (total_x / total, total_y / total) if total else None


def _centre_of_runs(encoded: Mapping[str, object], width: int, height: int) -> Point | None:
    """Add up the runs of a mask: off and on by turns, going down the columns from left to right."""
    if encoded.get("size") != [height, width]:
        raise ValueError(f"its run lengths are for {shown(encoded.get('size'))}, not [{height}, {width}]")
    counts = encoded.get("counts")
    runs = decode_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError(f"its run lengths are {shown(counts)}, not whole numbers from 0 on")
    if sum(runs) != width * height:
        raise ValueError(f"its run lengths add up to {sum(runs):,} pixels, not {width} x {height}")

    def sums(num: int) -> tuple[int, int]:
        """Sums of column and row numbers of the first so many pixels."""
        columns, rest = divmod(num, height)
        return (
            height * columns * (columns - 1) // 2 + columns * rest,
            columns * height * (height - 1) // 2 + rest * (rest - 1) // 2,
        )

    area = sum_x = sum_y = start = 0
    for index, run in enumerate(runs):
        if index % 2:
            (before_x, before_y), (after_x, after_y) = sums(start), sums(start + run)
            area, sum_x, sum_y = area + run, sum_x + after_x - before_x, sum_y + after_y - before_y
        start += run
    return (sum_x / area + 0.5, sum_y / area + 0.5) if area else None


def decode_counts(text: str) -> list[int]:
    """Decode run lengths that COCO's tools wrote as text.

    Each number is cut into groups of five bits, lowest first; a character is 48 + the group, + 32 when more follow.
    From the fourth number on, what is written is the difference from the number two places before.

    Args:
        text: the encoded run lengths.

    Returns:
        Run lengths in pixels.

    Raises:
        ValueError: a character or the end is wrong.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"its run lengths hold {shown(character)}, which no encoder writes there")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run lengths end in the middle of a number")
    return runs


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

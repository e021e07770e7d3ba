"""Centres of masks and boxes, against COCO's own tools and against hand computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.coco_shapes import centre_of, decode_counts, place_of


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, off first: counted one pixel after the other."""
    runs, value = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if bool(pixel) != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return columns.mean() + 0.5, rows.mean() + 0.5


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=60)
def test_run_lengths_centre_where_their_pixels_do(height: int, width: int, seed: int, share: float):
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[seed % height, seed % width] = True
    annotation = {"segmentation": {"size": [height, width], "counts": runs_of(mask)}}
    assert centre_of(annotation, width, height) == pytest.approx(middle_of(mask), abs=1e-9)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_text_and_polygons_agree_with_cocos_own_tools():
    tools = pytest.importorskip("pycocotools.mask", reason="needs pycocotools, the oracle for COCO's masks")
    rng = np.random.default_rng(0)
    for height, width, share in [(1, 1, 1.0), (3, 5, 0.5), (37, 61, 0.2), (480, 640, 0.001), (200, 300, 0.9)]:
        mask = np.asfortranarray(rng.random((height, width)) < share, dtype=np.uint8)
        mask[height // 2, width // 3] = 1
        encoded: Any = tools.encode(mask)
        text = encoded["counts"].decode()
        assert decode_counts(text) == runs_of(mask)
        annotation = {"segmentation": {"size": [height, width], "counts": text}}
        assert centre_of(annotation, width, height) == pytest.approx(middle_of(mask), abs=1e-6)
    # One mask of long runs, whose differences are negative and need several characters.
    stripes = np.zeros((1000, 400), dtype=np.uint8, order="F")
    stripes[100:900, 50:350:7] = 1
    assert decode_counts(tools.encode(stripes)["counts"].decode()) == runs_of(stripes)

    for polygon in (
        [10, 10, 90, 20, 70, 80, 15, 60],
        [5.5, 5.5, 95, 7, 50, 60, 90, 95, 4, 90],
        [20, 20, 20, 70, 80, 45],
    ):
        drawn = tools.decode(tools.merge(tools.frPyObjects([polygon], 100, 100)))
        centre = centre_of({"segmentation": [polygon]}, 100, 100)
        assert centre == pytest.approx(middle_of(drawn), abs=0.6), "drawing rounds corners to pixels"


@pytest.mark.parametrize(
    ("annotation", "centre"),
    [
        ({"segmentation": [[0, 0, 10, 0, 10, 6, 0, 6]]}, (5, 3)),
        ({"segmentation": [[0, 0, 0, 6, 10, 6, 10, 0]]}, (5, 3)),  # the other way round
        ({"segmentation": [[0, 0, 6, 0, 0, 6]]}, (2, 2)),  # a triangle: the mean of its corners
        # Two squares, of 4 and 16 pixels: (1 * 4 + 12 * 16) / 20 and (1 * 4 + 2 * 16) / 20.
        ({"segmentation": [[0, 0, 2, 0, 2, 2, 0, 2], [10, 4, 14, 4, 14, 0, 10, 0]]}, (9.8, 1.8)),
        # Squares of 36 and 16 pixels that touch in a corner: (3 * 36 + 8 * 16) / 52.
        ({"segmentation": [[0, 0, 6, 0, 6, 6, 10, 6, 10, 10, 6, 10, 6, 6, 0, 6]]}, (236 / 52, 236 / 52)),
        # A bow tie, whose halves nearly cancel: the formula alone would say (36.7, 6.3).
        ({"segmentation": [[0, 0, 10, 10, 10, 0, 0, 9]]}, (5, 5)),
        ({"segmentation": [[3, 3, 3, 3, 3, 3]], "bbox": [10, 10, 4, 2]}, (12, 11)),  # covers nothing
        ({"segmentation": [], "bbox": [10, 10, 4, 2]}, (12, 11)),
        ({"bbox": [0, 0, 20, 20]}, (10, 10)),
        ({"segmentation": {"size": [20, 20], "counts": [400]}, "bbox": [4, 4, 2, 2]}, (5, 5)),  # an empty mask
        ({"segmentation": {"size": [20, 20], "counts": [0, 20, 380]}}, (0.5, 10)),  # the first column
    ],
)
def test_centres_by_hand(annotation: Mapping[str, object], centre: tuple[float, float]):
    assert centre_of(annotation, 20, 20) == pytest.approx(centre, abs=1e-12)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({}, "neither bbox nor segmentation"),
        ({"bbox": [1, 2, 3]}, r"bbox is \[1, 2, 3\], not"),
        ({"bbox": [1, 2, -3, 4]}, "not .x, y, width, height"),
        ({"bbox": [1, 2, float("nan"), 4]}, "not .x, y, width, height"),
        ({"bbox": [30, 0, 4, 4]}, r"centre \(32, 2\) is outside of 20 x 20"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three or more pairs"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "three or more pairs"),
        ({"segmentation": "mask.png"}, "neither polygons nor run lengths"),
        ({"segmentation": {"size": [10, 40], "counts": [400]}}, r"for \[10, 40\], not \[20, 20\]"),
        ({"segmentation": {"size": [20, 20], "counts": [399]}}, "add up to 399 pixels, not 20 x 20"),
        ({"segmentation": {"size": [20, 20], "counts": [-1, 401]}}, "not whole numbers"),
        ({"segmentation": {"size": [20, 20], "counts": "ab~"}}, "which no encoder writes"),
        ({"segmentation": {"size": [20, 20], "counts": "Q"}}, "end in the middle of a number"),
        ({"segmentation": {"size": [20, 20], "counts": "o" * 40}}, "which no encoder writes"),
    ],
)
def test_what_cannot_be_read_is_said(annotation: Mapping[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        centre_of(annotation, 20, 20)


@pytest.mark.parametrize(
    ("centre", "place"),
    [
        ((0, 0), "upper left"),
        ((149.9, 99.9), "upper"),
        ((299.9, 100), "right"),
        ((100, 150), "centre"),
        ((99.9, 150), "left"),
        ((200, 199.9), "right"),
        ((199.9, 199.9), "centre"),
        ((150, 200), "lower"),
        ((0, 300), "lower left"),
        ((300, 300), "lower right"),
    ],
)
def test_places_are_thirds(centre: tuple[float, float], place: str):
    assert place_of(centre, 300, 300) == place

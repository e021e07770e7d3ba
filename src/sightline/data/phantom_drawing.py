"""Phantom pictures: facts drawn from a seed, then pixels drawn from the facts.

Named after the test objects of medical imaging: what the picture shows is known because it was put there. Everything
is integer arithmetic on numpy arrays, so the same seed gives the same pixels on every platform. Left and right are
the viewer's; rows count from the top. A picture is taken by one of two scanners, which show the same facts in
different greys: a model that knows one has something to learn from the other.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sightline.data.pictures import read_picture
from sightline.records import Picture

Side = Literal["left", "right"]
Level = Literal["upper", "lower"]
Scanner = Literal["A", "B"]
Kind = Literal["chest", "chart"]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are just outside."""

SIZE = 64
"""Width and height of every picture, in pixels."""
SIDES: tuple[Side, ...] = ("left", "right")
LEVELS: tuple[Level, ...] = ("upper", "lower")
MIDDLE = 32
"""The column between left and right, and the row between upper and lower, before the patient moves."""
DEVICES = ("tube", "pacemaker", "catheter")
COLOURS = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (52, 93, 214),
    "yellow": (232, 190, 40),
    "purple": (150, 60, 180),
}
LEVEL_PIXELS = 6
"""Height of one level of a chart, in pixels."""
NODULE_RADIUS = {"small": 2, "large": 4}
NODULE_COUNTS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4)
"""Nine pictures of twenty have no nodule, so that "is there a nodule" has no answer that is always the better guess."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A round bright spot in a lung; `row`, `column` and `radius` in pixels."""

    side: Side
    level: Level
    size: Literal["small", "large"]
    row: int
    column: int

    @property
    def radius(self) -> int:
        """Pixels from the centre to the rim."""
        return NODULE_RADIUS[self.size]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestFacts:
    """What a chest film shows.

    Args:
        heart_side: where the heart lies.
        heart_size: its width against the chest.
        nodules: from top to bottom.
        devices: name to side; a tube lies in the middle.
        effusion: the side whose lung holds fluid at its base, or None.
        shift: pixels by which the patient moved (down, right).
    """

    scanner: Scanner
    heart_side: Side
    heart_size: Literal["normal", "enlarged"]
    nodules: tuple[Nodule, ...]
    devices: Mapping[str, Literal["left", "right", "middle"]]
    effusion: Side | None
    shift: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a chart: its colour and its height in levels."""

    colour: str
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line of a chart: its colour and the levels of its two ends."""

    colour: str
    start: int
    end: int

    @property
    def rises(self) -> bool:
        """Whether the right end is the higher one."""
        return self.end > self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartFacts:
    """What a chart shows: bars from left to right, or lines, and perhaps a dashed threshold at level 4.5."""

    scanner: Scanner
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    threshold: bool


Facts = ChestFacts | ChartFacts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomImage:
    """A picture and the truth about it.

    Args:
        index: its number among the pictures of its seed.
        facts: what it shows.
        picture: PNG, 64 x 64 RGB.
        boxes: name ("heart", "nodule.0", "bar.1", ...) to the box around its mask.
        masks: name to bool (64, 64): the pixels where it can be seen; no two overlap, lungs apart.
    """

    index: int
    facts: Facts
    picture: Picture
    boxes: Mapping[str, Box]
    masks: Mapping[str, Mask]


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """Random numbers of one picture: they depend on nothing but these three values."""
    return np.random.default_rng([seed, *stream.encode(), index])


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """Choose one value, each equally likely."""
    return values[int(rng.integers(len(values)))]


def shuffled(rng: np.random.Generator, values: Sequence[T]) -> list[T]:
    """The values in random order."""
    left = list(values)
    return [left.pop(int(rng.integers(len(left)))) for _ in values]


def coin(rng: np.random.Generator) -> bool:
    """True half of the time."""
    return bool(rng.integers(2))


# ---------------------------------------------------------------- chest films

ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE]


def _ellipse(row: int, column: int, half_height: int, half_width: int) -> Mask:
    down, right = (ROWS - row) * half_width, (COLUMNS - column) * half_height
    return down * down + right * right <= (half_height * half_width) ** 2


def _mirrored(mask: Mask, side: str) -> Mask:
    """A mask given for the left side, on the side asked for."""
    return mask if side == "left" else mask[:, ::-1]


LUNG = _ellipse(33, 18, 22, 11)
SPINE = (COLUMNS >= 30) & (COLUMNS <= 33)
TUBE = (COLUMNS >= 31) & (COLUMNS <= 32) & (ROWS >= 3) & (ROWS <= 25)
PACEMAKER = (ROWS >= 4) & (ROWS <= 9) & (COLUMNS >= 5) & (COLUMNS <= 12)
CATHETER = (ROWS >= 15) & (ROWS <= 29) & (COLUMNS // 2 == ROWS - 15) & (COLUMNS <= 28)
FLUID = ROWS >= 47


def _moved(pixels: NDArray[Any], shift: tuple[int, int]) -> NDArray[Any]:
    """Move a picture down and right; what it bares continues the nearest edge."""
    reach = max(map(abs, shift))
    padded = np.pad(pixels, reach, mode="edge")
    return padded[reach - shift[0] :, reach - shift[1] :][:SIZE, :SIZE]


def _chest_masks(facts: ChestFacts) -> dict[str, Mask]:
    """Where everything but the nodules can be seen, before the patient moves."""
    column = MIDDLE - 6 if facts.heart_side == "left" else MIDDLE + 6
    heart = _ellipse(40, column, 9, 12 if facts.heart_size == "enlarged" else 7)
    devices = {"tube": TUBE, "pacemaker": PACEMAKER, "catheter": CATHETER}
    masks = {name: _mirrored(devices[name], side) for name, side in facts.devices.items()}
    covered = np.any([np.zeros_like(heart), *masks.values()], axis=0)
    masks["heart"] = heart & ~covered
    if facts.effusion:
        masks["effusion"] = _mirrored(LUNG, facts.effusion) & FLUID & ~heart & ~covered
    for side in SIDES:
        masks[f"lung.{side}"] = _mirrored(LUNG, side) & ~heart
    return masks


def _places(free: Mask, radius: int) -> list[tuple[int, int]]:
    """Centres whose disc, with a rim of two pixels, lies in the free area."""
    reach = radius + 2
    # Counting what is taken from the left edge on tells in one subtraction whether a stretch of a row is free.
    taken = np.pad(np.cumsum(np.pad(~free, reach, constant_values=True), axis=1), ((0, 0), (1, 0)))
    blocked = np.zeros_like(free)
    for down in range(-reach, reach + 1):
        half = isqrt(reach * reach - down * down)
        rows = taken[reach + down : reach + down + SIZE]
        blocked |= rows[:, reach + half + 1 :][:, :SIZE] > rows[:, reach - half :][:, :SIZE]
    return [(int(row), int(column)) for row, column in np.argwhere(~blocked)]


def draw_chest_facts(rng: np.random.Generator, scanner: Scanner) -> ChestFacts:
    """Decide what a chest film shows; a nodule that finds no free place is tried again elsewhere, then left out."""
    facts = ChestFacts(
        scanner=scanner,
        heart_side=pick(rng, SIDES),
        heart_size=pick(rng, ("normal", "enlarged")),
        nodules=(),
        devices={name: "middle" if name == "tube" else pick(rng, SIDES) for name in DEVICES if coin(rng)},
        effusion=pick(rng, SIDES) if coin(rng) else None,
        shift=(int(rng.integers(-2, 3)), int(rng.integers(-2, 3))),
    )
    masks = _chest_masks(facts)
    solid = np.any([mask for name, mask in masks.items() if not name.startswith("lung")], axis=0)
    nodules: list[Nodule] = []
    num_nodules = pick(rng, NODULE_COUNTS)
    for _ in range(2 * num_nodules):
        side, level, size = pick(rng, SIDES), pick(rng, LEVELS), pick(rng, ("small", "large"))
        band = ROWS <= MIDDLE - 4 if level == "upper" else ROWS >= MIDDLE + 4
        centres = _places(masks[f"lung.{side}"] & ~solid, NODULE_RADIUS[size])
        centres = [place for place in centres if band[place]]
        if centres and len(nodules) < num_nodules:
            row, column = pick(rng, centres)
            nodules.append(Nodule(side=side, level=level, size=size, row=row, column=column))
            solid |= _ellipse(row, column, NODULE_RADIUS[size], NODULE_RADIUS[size])
    nodules.sort(key=lambda nodule: (nodule.row, nodule.column))
    return dataclasses.replace(facts, nodules=tuple(nodules))


def _draw_chest(facts: ChestFacts, rng: np.random.Generator) -> tuple[NDArray[np.uint8], dict[str, Mask]]:
    masks = _chest_masks(facts)
    for number, nodule in enumerate(facts.nodules):
        masks[f"nodule.{number}"] = _ellipse(nodule.row, nodule.column, nodule.radius, nodule.radius)
    grey = np.full((SIZE, SIZE), 14)
    grey[_ellipse(38, MIDDLE, 40, 31)] = 92
    grey[LUNG | _mirrored(LUNG, "right")] = 38
    grey[((ROWS + abs(COLUMNS - MIDDLE) // 3) % 9 == 0) & (grey == 38)] = 56
    grey[SPINE] = 120
    for name, mask in masks.items():
        part = name.partition(".")[0]
        if part != "lung":
            grey[mask] = {"heart": 150, "effusion": 128, "nodule": 196}.get(part, 240)
    grey = _moved(grey, facts.shift)
    masks = {name: _moved(mask, facts.shift) for name, mask in masks.items()}
    if facts.scanner == "A":
        grey = grey + rng.integers(-6, 7, grey.shape)
        tint = (0, 0, 0)
    else:
        grey = 236 - grey * 3 // 4 - (ROWS + COLUMNS) // 6 + rng.integers(-14, 15, grey.shape)
        tint = (-10, 0, 12)
    return np.clip(grey[..., None] + np.array(tint), 0, 255).astype(np.uint8), masks


# ---------------------------------------------------------------- charts

LEFT, BASE, PLOT_WIDTH = 7, 57, 54
"""Column of the upright axis, row of the level one, and the width between them and the frame, in pixels."""


def draw_chart_facts(rng: np.random.Generator, scanner: Scanner) -> ChartFacts:
    """Decide what a chart shows; heights, starts and ends all differ, so that every comparison has an answer."""
    colours, levels = shuffled(rng, list(COLOURS)), shuffled(rng, range(1, 9))
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    if rng.integers(5) < 3:
        num_bars = int(rng.integers(2, 6))
        bars = tuple(Bar(colour=c, height=h) for c, h in zip(colours[:num_bars], levels, strict=False))
    else:
        low, high = shuffled(rng, (1, 2, 3)), shuffled(rng, (6, 7, 8))
        ends = [(low.pop(), high.pop()) for _ in range(int(rng.integers(1, 4)))]
        lines = tuple(
            Line(colour=colour, start=a if rises else b, end=b if rises else a)
            for colour, (a, b), rises in zip(colours, ends, [coin(rng) for _ in ends], strict=False)
        )
    return ChartFacts(scanner=scanner, bars=bars, lines=lines, threshold=coin(rng))


def _draw_chart(facts: ChartFacts, rng: np.random.Generator) -> tuple[NDArray[np.uint8], dict[str, Mask]]:
    ground, ink = (244, 36) if facts.scanner == "A" else (34, 190)
    masks: dict[str, Mask] = {}
    colours: dict[str, tuple[int, int, int]] = {}
    slot = PLOT_WIDTH // max(len(facts.bars), 1)
    for number, bar in enumerate(facts.bars):
        first = LEFT + 2 + number * slot + (slot - 8) // 2
        across = (first <= COLUMNS) & (first + 8 > COLUMNS)
        masks[f"bar.{number}"] = across & (ROWS < BASE) & (BASE - bar.height * LEVEL_PIXELS <= ROWS)
        colours[f"bar.{number}"] = COLOURS[bar.colour]
    for number, line in enumerate(facts.lines):
        along = (COLUMNS - LEFT - 2) * (line.end - line.start) * LEVEL_PIXELS // (PLOT_WIDTH - 3)
        height = BASE - line.start * LEVEL_PIXELS - along
        drawn = (COLUMNS > LEFT + 1) & (LEFT + PLOT_WIDTH > COLUMNS) & (abs(ROWS - height) <= 1)
        masks = {name: mask & ~drawn for name, mask in masks.items()}
        masks[f"line.{number}"] = drawn
        colours[f"line.{number}"] = COLOURS[line.colour]
    pixels = np.full((SIZE, SIZE, 3), ground)
    pixels[(COLUMNS == LEFT) & (ROWS <= BASE) & (ROWS > 4)] = ink
    pixels[(ROWS == BASE) & (COLUMNS >= LEFT) & (COLUMNS <= LEFT + PLOT_WIDTH)] = ink
    for name, mask in masks.items():
        pixels[mask] = colours[name]
    if facts.threshold:
        dashes = (BASE - 9 * LEVEL_PIXELS // 2 == ROWS) & (COLUMNS > LEFT) & (COLUMNS <= LEFT + PLOT_WIDTH)
        masks["threshold"] = dashes & ((COLUMNS // 3) % 2 == 0)
        pixels[masks["threshold"]] = ink
        masks = {name: mask if name == "threshold" else mask & ~masks["threshold"] for name, mask in masks.items()}
    grain = 4 if facts.scanner == "A" else 10
    return np.clip(pixels + rng.integers(-grain, grain + 1, (SIZE, SIZE, 1)), 0, 255).astype(np.uint8), masks


# ---------------------------------------------------------------- pictures


def _box(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_facts(rng: np.random.Generator, *, kind: Kind | None = None, scanner: Scanner | None = None) -> Facts:
    """Decide what a picture shows: by default two chest films to each chart, the scanners alike often."""
    chosen = pick(rng, ("chest", "chest", "chart"))
    taken_by = pick(rng, ("A", "B"))
    draw = draw_chest_facts if (kind or chosen) == "chest" else draw_chart_facts
    return draw(rng, scanner or taken_by)


def draw_image(
    seed: int, stream: str, index: int, *, kind: Kind | None = None, scanner: Scanner | None = None
) -> PhantomImage:
    """Draw one picture of a stream of pictures; the others of the stream do not matter to it."""
    from PIL import Image

    rng = generator(seed, stream, index)
    facts = draw_facts(rng, kind=kind, scanner=scanner)
    pixels, masks = _draw_chest(facts, rng) if isinstance(facts, ChestFacts) else _draw_chart(facts, rng)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    name = f"phantom-{seed}-{stream}-{index:06d}.png"
    return PhantomImage(
        index=index,
        facts=facts,
        picture=read_picture(encoded.getvalue(), name=name)[0],
        boxes={name: _box(mask) for name, mask in masks.items()},
        masks=masks,
    )


def draw_phantom(
    index: int, *, seed: int = 0, kind: Kind | None = None, scanner: Scanner | None = None
) -> PhantomImage:
    """Draw picture number `index` of a seed.

    Args:
        index: the picture's number, 0 or more.
        seed: 0 or more.
        kind: "chest" or "chart"; by default the seed decides, two chest films to each chart.
        scanner: "A" or "B"; by default the seed decides.

    Returns:
        The picture with its facts, boxes and masks. The same arguments give the same pixels.
    """
    return draw_image(seed, "single", index, kind=kind, scanner=scanner)

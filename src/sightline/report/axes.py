"""Scales and round tick marks for the report's drawings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sightline.report.wording import rounded


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale with round ends.

    Args:
        low: value at the left or lower end.
        high: value at the right or upper end; larger than `low`.
        step: distance between tick marks.
    """

    low: float
    high: float
    step: float

    @property
    def ticks(self) -> tuple[float, ...]:
        """The tick marks, from low to high."""
        count = round((self.high - self.low) / self.step)
        return tuple(self.low + index * self.step for index in range(count + 1))

    @property
    def digits(self) -> int:
        """Decimals that tell neighbouring tick marks apart."""
        magnitude = math.floor(math.log10(self.step) + 1e-9)
        has_half = abs(self.step / 10.0**magnitude - 2.5) < 1e-6  # 0.25 and 0.75 are not told apart by one decimal
        return max(0, has_half - magnitude)

    def share(self, value: float) -> float:
        """Where a value lies between low (0) and high (1), values outside drawn at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def label(self, tick: float, *, signed: bool = False) -> str:
        """A tick mark's number."""
        text = rounded(tick, self.digits)
        return f"+{text}" if signed and tick > self.step / 2 else text


def _round_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0):
        if rough <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10.0 * magnitude


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that can be drawn."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def scale_around(values: Iterable[float | None], *, intervals: int = 4) -> Scale:
    """Make a scale that holds all values between round ends.

    Args:
        values: what will be drawn; None and non-finite values are passed over.
        intervals: about how many steps to aim for.
    """
    numbers = finite(values) or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    if high - low <= 1e-12 * max(1.0, abs(high)):
        room = abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
    step = _round_step((high - low) / intervals)
    low = math.floor(low / step + 1e-9) * step
    high = math.ceil(high / step - 1e-9) * step
    return Scale(low, high, step)


def scale_about_zero(values: Iterable[float | None]) -> Scale:
    """Make a scale with zero in its middle, so that zero lies on one line however many drawings share a page."""
    extent = max((abs(value) for value in finite(values)), default=0.0) or 1.0
    step = _round_step(extent / 3)
    half = math.ceil(extent / step - 1e-9) * step
    return Scale(-half, half, step)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart until each keeps its distance from the next, changing no order and as little as it takes.

    Args:
        places: in any order.
        gap: the least distance.
        low: no place may lie below it.
        high: no place may lie above it, as far as there is room.

    Returns:
        Where each lies now, in the order given.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [0.0] * len(places)
    least = low
    for index in order:
        moved[index] = max(places[index], least)
        least = moved[index] + gap
    most = high
    for index in reversed(order):
        moved[index] = max(low, min(moved[index], most))
        most = moved[index] - gap
    return moved

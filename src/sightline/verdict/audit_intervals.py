"""Intervals printed beside figures: whether they hold the figure, can be at all, and fit the number of questions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from scipy import stats

from sightline.verdict.audit_findings import Finding, make_finding
from sightline.verdict.audit_recover import is_possible, total_of
from sightline.verdict.audit_table import Cell, PrintedRow, PrintedTable
from sightline.verdict.findings import ALPHA
from sightline.verdict.statistics import wilson_interval

FACTOR = 1.25
"""How far a share's interval may be from those of Wald, Wilson and Clopper-Pearson; 1,000 resamples vary by 5%."""

FACTOR_OF_AREA = 1.5
"""How far an area's may be from Hanley and McNeil's, who take the scores of both classes for exponential."""

_DIGITS = 1.5
"""How far rounding may have moved an interval's width, in units of its last decimal: each end by half, or cut off."""


class Width(NamedTuple):
    """How wide an interval is, in the unit of its figure: as printed, what may be rounded of it, and as expected."""

    printed: float
    slack: float
    expected: tuple[float, float]
    factor: float

    @property
    def is_too_narrow(self) -> bool:
        """Whether it is narrower than any usual method makes it."""
        return (self.printed + self.slack) * self.factor < self.expected[0]

    @property
    def is_too_wide(self) -> bool:
        """Whether it is wider than any usual method makes it."""
        return self.printed - self.slack > self.expected[1] * self.factor


def find_impossible_intervals(table: PrintedTable) -> Iterator[Finding]:
    """Find intervals that cannot be, or cannot be of so many questions."""
    for row, cell in _with_interval(table):
        low, high = _ends(cell)
        slack = _DIGITS / 10 ** min(cell.decimals, _decimals(cell))
        value, most = cell.digits / 10**cell.decimals, _most(cell)
        said = ""
        if low > high:
            said = "the interval ends below where it begins"
        elif not low - slack <= value <= high + slack:
            said = "the figure is not in its own interval"
        elif most is not None and (low < 0 or high > most):
            said = f"the interval goes beyond 0 to {most:g}, where no such figure can be (ends by Wald's formula may)"
        elif (width := _width(row, cell)) is not None and width.is_too_narrow:
            other = f"It is of more questions, or of another level than {1 - _alpha(cell):.0%}"
            said = f"{_compared(row, cell, width)}. {other}"
        if said:
            sentence = f"{cell.column.name} {cell.text}: {said}"
            yield make_finding("interval", table, sentence, row=row, column=cell.column.name)


def find_interval_notes(table: PrintedTable) -> Iterator[Finding]:
    """Say which intervals fit, which are wider than independent questions make them, and what cannot be decided."""
    num_fitting, undecided = 0, dict[str, list[Cell]]()
    for row, cell in _with_interval(table):
        low, high = _ends(cell)
        width, name = _width(row, cell), cell.column.name
        if width is not None and width.is_too_wide:
            effect = (width.printed / width.expected[1]) ** 2
            sentence = (
                f"{name} {cell.text}: {_compared(row, cell, width)}. It would take a design effect of {effect:.1f} "
                "from clustering, or fewer questions"
            )
            yield make_finding("wide-interval", table, sentence, row=row, column=name)
        elif width is not None:
            num_fitting += not width.is_too_narrow
        elif _is_of_questions(cell) and 0 < cell.value < 1 and high > low:
            number = cell.value * (1 - cell.value) / ((high - low) / 2 / _z(cell) / cell.column.scale) ** 2
            sentence = (
                f"{name} {cell.text}: cannot decide whether the interval fits, as the number of questions is not "
                f"printed; it is as wide as that of about {number:,.0f} independent ones"
            )
            yield make_finding("interval-undecided", table, sentence, row=row, column=name)
        else:
            undecided.setdefault(name, []).append(cell)
    for name, cells in undecided.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        sentence = f"{name} {cells[0].text}{more}: cannot decide whether the interval fits, as {_lacking(cells[0])}"
        yield make_finding("interval-undecided", table, sentence, column=name)
    if num_fitting:
        sentence = (
            f"{num_fitting:,} printed intervals fit their number of questions, within a factor of {FACTOR:g} of Wald, "
            f"Wilson or Clopper-Pearson (areas: of {FACTOR_OF_AREA:g} of Hanley and McNeil). On the same questions two "
            "intervals may overlap and the models still differ"
        )
        yield make_finding("intervals-fit", table, sentence)


def area_standard_error(area: float, positives: int, negatives: int) -> float:
    """Compute the standard error of an area under the ROC curve from the area and the sizes of both classes.

    Source: Hanley and McNeil 1982, Radiology 143, 29-36.
    """
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    return math.sqrt(max(0.0, spread) / (positives * negatives))


def _with_interval(table: PrintedTable) -> Iterator[tuple[PrintedRow, Cell]]:
    for row in table.rows:
        yield from ((row, cell) for cell in row.cells.values() if cell.interval is not None)


def _ends(cell: Cell) -> tuple[float, float]:
    assert cell.interval is not None
    low, high = (digits / 10**decimals for digits, decimals in (cell.interval.low, cell.interval.high))
    return low, high


def _decimals(cell: Cell) -> int:
    assert cell.interval is not None
    return min(cell.interval.low[1], cell.interval.high[1])


def _alpha(cell: Cell) -> float:
    level = (cell.interval.level if cell.interval else None) or cell.column.level
    return 1 - level if level else ALPHA


def _z(cell: Cell) -> float:
    return float(stats.norm.isf(_alpha(cell) / 2))


def _most(cell: Cell) -> float | None:
    """The largest that a figure can be, as it is printed; None where there is no bound."""
    if cell.column.is_area:
        return 100.0 if cell.value > 1 else 1.0
    return float(cell.column.scale) if cell.column.kind == "rate" else None


def _is_of_questions(cell: Cell) -> bool:
    """Say whether a figure is a share of a fixed number of questions."""
    return cell.column.kind == "rate" and cell.column.metric not in ("precision", "f1")


def _width(row: PrintedRow, cell: Cell) -> Width | None:
    """Hold an interval's width against that of its number of questions; None where the table does not give it."""
    low, high = _ends(cell)
    most, slack = _most(cell), _DIGITS / 10 ** _decimals(cell)
    if low > high or most is None:
        return None
    if cell.column.is_area:
        area = cell.value / most
        if row.n is None or row.positives is None or not 0 < row.positives < row.n or not 0 < area < 1:
            return None
        expected = 2 * _z(cell) * most * area_standard_error(area, row.positives, row.n - row.positives)
        return Width(high - low, slack, (expected, expected), FACTOR_OF_AREA)
    total = total_of(row, cell)
    if total is None or not is_possible(cell):
        return None
    widths = [most * (upper - lower) for lower, upper in _intervals(cell.value, total, _alpha(cell))]
    return Width(high - low, slack, (min(widths), max(widths)), FACTOR)


def _intervals(share: float, total: int, alpha: float) -> list[tuple[float, float]]:
    """Compute a share's intervals by Wilson, Clopper-Pearson and Wald, whose has no width at 0 and 1."""
    right = round(share * total)
    low = float(stats.beta.ppf(alpha / 2, right, total - right + 1)) if right else 0.0
    high = float(stats.beta.isf(alpha / 2, right + 1, total - right)) if right < total else 1.0
    found = [wilson_interval(share, total, alpha=alpha), (low, high)]
    if 0 < share < 1:
        half = float(stats.norm.isf(alpha / 2)) * math.sqrt(share * (1 - share) / total)
        found.append((share - half, share + half))
    return found


def _compared(row: PrintedRow, cell: Cell, width: Width) -> str:
    least, most = (f"{end:.3g}" for end in width.expected)
    if cell.column.is_area and row.n and row.positives:
        by = f"{row.positives:,} positives and {row.n - row.positives:,} negatives give {least} by Hanley and McNeil"
    else:
        given = least if least == most else f"{least} to {most}"
        by = f"{total_of(row, cell):,} independent questions give {given} by Wald, Wilson and Clopper-Pearson"
    return f"the interval is {width.printed:.3g} wide, and {by} (a factor of {width.factor:g} is allowed)"


def _lacking(cell: Cell) -> str:
    """Say what stands against checking an interval's width."""
    if cell.column.is_area:
        return "the numbers of positives and negatives are not printed (`n` and `positives`)"
    if _is_of_questions(cell):
        return "the number of questions is not printed"
    return (
        "it is no share of a fixed number of questions" if cell.column.kind == "rate" else "their spread is not printed"
    )

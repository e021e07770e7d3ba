"""Means printed without their spread: how small it must be to tell rows apart, and how far luck carries the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from sightline.errors import StudyError
from sightline.verdict.audit_compare import NOT_SHOWN, UNDECIDED
from sightline.verdict.audit_table import Column, PrintedRow, PrintedTable, sets_of
from sightline.verdict.findings import ALPHA
from sightline.verdict.statistics import detectable_difference, holm

_STEP = 0.01
_GRID = np.arange(-10, 10, _STEP)
"""Where normal densities are summed: their integrals are right to the last digits at any step this small."""

LOWER_IS_BETTER = ("loss", "nll", "perplexity", "ppl", "error", "hallucination", "shr", "chair")
"""Words in the name of a column by which a smaller mean is taken for the better one."""


def compare_means(table: PrintedTable, *, sd: float | None = None) -> list[dict[str, Any]]:
    """Say of every mean what its difference to the first row of the set would need to be told from chance.

    Args:
        table: of which the columns that are neither shares, areas nor counts are looked at.
        sd: an assumed standard deviation of a question's difference between two rows, in the column's own unit.

    Raises:
        StudyError: an sd that is not positive.
    """
    if sd is not None and not 0 < sd < math.inf:
        raise StudyError(f"--sd {sd:g}: give a standard deviation above 0, in the unit of the columns that are means")
    entries = []
    for rows in sets_of(table.rows).values():
        for column in table.columns:
            if column.kind != "mean" or column.is_area or column.name not in rows[0].cells:
                continue
            others = [row for row in rows[1:] if column.name in row.cells]
            best = _best(column, others)
            family = [_entry(column, row, rows[0], len(others), row is best, sd) for row in others]
            assumed = [entry["assumed"] for entry in family if entry["assumed"]]
            for each, adjusted in zip(assumed, holm([each["p"] for each in assumed]), strict=True):
                each["p_adjusted"] = adjusted
            entries += family
    return entries


def lower_is_better(column: Column) -> bool:
    """Say whether a column's name is that of something to be kept small."""
    return any(word in column.name.lower() for word in LOWER_IS_BETTER)


def best_row(column: Column, rows: Sequence[PrintedRow]) -> PrintedRow | None:
    """Find the row that a column calls the best; None where several share that place."""
    best = _best(column, rows)
    if best is None:
        return None
    value = best.cells[column.name].value
    return None if sum(row.cells[column.name].value == value for row in rows) > 1 else best


def _best(column: Column, rows: Sequence[PrintedRow]) -> PrintedRow | None:
    sign = -1 if lower_is_better(column) else 1
    return max(rows, key=lambda row: sign * row.cells[column.name].value, default=None)


def _entry(
    column: Column, row: PrintedRow, against: PrintedRow, num_variants: int, is_best: bool, sd: float | None
) -> dict[str, Any]:
    cell, base = row.cells[column.name], against.cells[column.name]
    decimals = max(cell.decimals, base.decimals)
    # Of the digits, so that 41.35 - 41.34 is 0.01.
    units = cell.digits * 10 ** (decimals - cell.decimals) - base.digits * 10 ** (decimals - base.decimals)
    difference = units / 10**decimals
    n, other = row.size_of(column.part), against.size_of(column.part)
    n = n if n == other else None
    largest = largest_corrected = assumed = None
    if n is not None and n > 1 and difference:
        largest, largest_corrected = (
            abs(difference) * math.sqrt(n) / float(stats.t.isf(alpha / 2, n - 1))
            for alpha in (ALPHA, ALPHA / num_variants)
        )
    is_ahead = is_best and difference * (-1 if lower_is_better(column) else 1) > 0
    if n is not None and n > 1 and sd is not None:
        error = sd / math.sqrt(n)
        p = float(2 * stats.t.sf(abs(difference) / error, n - 1))
        assumed = {
            "sd": sd,
            "p": p,
            "detectable": detectable_difference(error, n - 1),
            "gain_of_best_by_luck": gain_of_best(num_variants) * error,
            "chance_of_best_by_luck": chance_of_best(num_variants, abs(difference) / error) if is_ahead else None,
        }
    return {
        "set": row.set,
        "model": row.model,
        "against": against.model,
        "measure": column.name,
        "decimals": decimals,
        "lower_is_better": lower_is_better(column),
        "values": {"model": cell.value, "against": base.value},
        "difference": difference,
        "num_questions": n,
        "num_variants": num_variants,
        "is_best": is_ahead,
        "largest_sd": largest,
        "largest_sd_corrected": largest_corrected,
        "gain_of_best_by_luck": gain_of_best(num_variants),
        "assumed": assumed,
        "verdict": UNDECIDED if difference else NOT_SHOWN,
    }


def gain_of_best(num_variants: int) -> float:
    """Compute by how much the best of several variants is ahead of the base on average if none truly is.

    The errors of all rows are taken for equally large and independent, given the questions, so that two differences to
    one base correlate by one half.

    Returns:
        the expected gain, in standard errors of one difference.

    Source: the expected largest of normal deviates (Tippett 1925), over the square root of 2.
    """
    largest = num_variants * stats.norm.pdf(_GRID) * stats.norm.cdf(_GRID) ** (num_variants - 1)
    return float((_GRID * largest).sum() * _STEP) / math.sqrt(2)


def chance_of_best(num_variants: int, gain: float) -> float:
    """Compute how often the best of several variants is ahead by so much if none truly is.

    Args:
        num_variants: compared with one base.
        gain: in standard errors of one difference.

    Source: the many-to-one distribution of Dunnett 1955, variances known.
    """
    none_ahead = stats.norm.pdf(_GRID) * stats.norm.cdf(_GRID + math.sqrt(2) * gain) ** num_variants
    return 1 - float(none_ahead.sum() * _STEP)

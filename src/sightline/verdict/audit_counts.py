"""The whole numbers behind printed figures: which counts, rounded in which way, give what the table says.

Everything is decided in whole numbers. A figure of V units of its last decimal, of which W make the whole, is the
rounded quotient of two counts, so each rule is an inequality between products.

Shape suffixes: K tables of counts (TP, FP, FN, TN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from sightline.verdict.audit_figures import COUNT_METRICS
from sightline.verdict.audit_table import Cell

Rule = Literal["half up", "half even", "truncated", "mixed"]

RULES: Mapping[Rule, str] = {
    "half up": "rounded to nearest, halves up",
    "half even": "rounded to nearest, halves to even",
    "truncated": "cut off after the last decimal",
}
"""The rules a whole table may follow; "mixed" allows each figure its own."""

NEAREST: tuple[Rule, ...] = ("half up", "half even")
EVERY_RULE: tuple[Rule, ...] = (*NEAREST, "truncated", "mixed")

MAX_TRIED, MAX_TABLES = 500_000, 50_000
"""Combinations of counts looked at for one row and size, and kept, at most."""

FORMS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "precision": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "recall": ((1, 0, 0, 0), (1, 0, 1, 0)),
    "specificity": ((0, 0, 0, 1), (0, 1, 0, 1)),
    "f1": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "yes_ratio": ((1, 1, 0, 0), (1, 1, 1, 1)),
    "tp": ((1, 0, 0, 0), (0, 0, 0, 0)),
    "fp": ((0, 1, 0, 0), (0, 0, 0, 0)),
    "fn": ((0, 0, 1, 0), (0, 0, 0, 0)),
    "tn": ((0, 0, 0, 1), (0, 0, 0, 0)),
}
"""Each metric as numerator and denominator over (TP, FP, FN, TN); counts are over 1."""


def fits(rule: Rule, cell: Cell, numerator: Any, denominator: Any) -> Any:
    """Say whether a quotient of counts is printed as a cell says.

    Args:
        rule: of rounding.
        cell: the printed figure.
        numerator: int, or int64 array.
        denominator: likewise; a quotient over 0 is taken for 0, as evaluation code prints it.
    """
    over = np.where(np.equal(denominator, 0), 1, denominator)
    exact, printed = 2 * cell.whole * np.where(np.equal(denominator, 0), 0, numerator), 2 * cell.digits * over
    if rule == "truncated":
        return (printed <= exact) & (exact < printed + 2 * over)
    if rule == "half up":
        return (printed - over <= exact) & (exact < printed + over)
    if rule == "half even":
        distance = np.abs(exact - printed)
        return distance <= over if cell.digits % 2 == 0 else distance < over
    return (printed - over <= exact) & (exact < printed + 2 * over)


def rate_counts(cell: Cell, total: int, rule: Rule = "mixed") -> range:
    """Find the counts of a total that are printed as a cell says.

    Returns:
        the counts, without gaps; empty if there are none.
    """
    if cell.column.kind == "count":
        count, rest = divmod(cell.digits, 10**cell.decimals)
        return range(count, count + 1) if rest == 0 and 0 <= count <= total else range(0)
    first = max(0, ((2 * cell.digits - 1) * total) // (2 * cell.whole) - 1)
    last = min(total, ((2 * cell.digits + 2) * total) // (2 * cell.whole) + 1)
    while first <= last and not fits(rule, cell, first, total):
        first += 1
    while last >= first and not fits(rule, cell, last, total):
        last -= 1
    return range(first, last + 1)


def rules_that_fit(cells: Mapping[str, Cell], tables_K: np.ndarray) -> dict[Rule, np.ndarray]:
    """Sort tables of counts by the rule that prints all cells from them.

    Args:
        cells: by metric.
        tables_K: int64[K, 4].

    Returns:
        by rule of `RULES`, the tables it fits; rules without any are left out.
    """
    fitting: dict[Rule, np.ndarray] = {rule: tables_K[_all_fit(rule, cells, tables_K)] for rule in RULES}
    return {rule: tables for rule, tables in fitting.items() if len(tables)}


def _all_fit(rule: Rule, cells: Mapping[str, Cell], tables_K: np.ndarray) -> np.ndarray:
    agreed_K = np.ones(len(tables_K), dtype=bool)
    for metric, cell in cells.items():
        agreed_K &= fits(rule, cell, *quotient(metric, tables_K))
    return agreed_K


def quotient(metric: str, tables_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute numerator and denominator of a metric for each table of counts."""
    over, under = FORMS[metric]
    denominators_K = tables_K @ np.array(under) if metric not in COUNT_METRICS else np.ones(len(tables_K), dtype=int)
    return tables_K @ np.array(over), denominators_K


def confusion_tables(
    cells: Mapping[str, Cell], num_questions: int, positives: int | None, *, max_tried: int = MAX_TRIED
) -> np.ndarray | None:
    """Find every table of counts that is printed as the cells say, each rounded by a rule of its own.

    Args:
        cells: by metric, of `FORMS`.
        num_questions: TP + FP + FN + TN.
        positives: TP + FN, where known.
        max_tried: combinations of counts to look at.

    Returns:
        int64[K, 4] of TP, FP, FN, TN; None where there are too many to look at.
    """
    if positives is None and num_questions > max_tried:
        return None
    bounds = {metric: _bounds(cell) for metric, cell in cells.items()}
    positives_K = np.arange(num_questions + 1) if positives is None else np.array([positives])
    low_K, high_K = _tp_bounds(bounds, num_questions, positives_K)
    spread = _spread(low_K, high_K, max_tried)
    if spread is None:
        return None
    index_K, tp_K = spread
    positives_K = positives_K[index_K]
    low_K, high_K = _fp_bounds(bounds, num_questions, positives_K, tp_K)
    spread = _spread(low_K, high_K, max_tried)
    if spread is None:
        return None
    index_K, fp_K = spread
    tp_K, positives_K = tp_K[index_K], positives_K[index_K]
    tables_K = np.stack([tp_K, fp_K, positives_K - tp_K, num_questions - positives_K - fp_K], axis=1)
    tables_K = tables_K[_all_fit("mixed", cells, tables_K)]
    return None if len(tables_K) > MAX_TABLES else tables_K


def _bounds(cell: Cell) -> tuple[float, float]:
    """Bracket the value that a cell stands for, rounded by whichever rule; generously, as exact checks follow."""
    slack = 1e-9
    return (cell.digits - 0.5) / cell.whole - slack, (cell.digits + 1) / cell.whole + slack


def _tp_bounds(
    bounds: Mapping[str, tuple[float, float]], num_questions: int, positives_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    low_K, high_K = np.zeros(len(positives_K)), positives_K.astype(float)

    def narrow(low: Any, high: Any) -> None:
        nonlocal low_K, high_K
        low_K, high_K = np.maximum(low_K, low), np.minimum(high_K, high)

    if "tp" in bounds:
        narrow(*bounds["tp"])
    if "fn" in bounds:
        narrow(positives_K - bounds["fn"][1], positives_K - bounds["fn"][0])
    if "recall" in bounds:
        narrow(positives_K * bounds["recall"][0], positives_K * bounds["recall"][1])
    elif "f1" in bounds and "precision" in bounds:
        (f_low, f_high), (p_low, p_high) = bounds["f1"], bounds["precision"]
        # 2 / F1 = 1 / precision + 1 / recall: recall rises with F1 and falls with precision.
        low = f_low * p_high / (2 * p_high - f_low) if 2 * p_high > f_low > 0 else 0
        high = f_high * p_low / (2 * p_low - f_high) if 2 * p_low > f_high > 0 else 1
        narrow(positives_K * low, positives_K * high)
    if "accuracy" in bounds and "yes_ratio" in bounds:
        (a_low, a_high), (y_low, y_high) = bounds["accuracy"], bounds["yes_ratio"]
        # TP + TN right and TP + FP answered yes: 2 TP = right + yes + positives - questions.
        rest_K = positives_K - num_questions
        narrow(
            (num_questions * (a_low + y_low) + rest_K) / 2,
            (num_questions * (a_high + y_high) + rest_K) / 2,
        )
    if "accuracy" in bounds and "specificity" in bounds:
        (a_low, a_high), (s_low, s_high) = bounds["accuracy"], bounds["specificity"]
        negatives_K = num_questions - positives_K
        narrow(num_questions * a_low - negatives_K * s_high, num_questions * a_high - negatives_K * s_low)
    return np.ceil(low_K - 1e-6), np.floor(high_K + 1e-6)


def _fp_bounds(
    bounds: Mapping[str, tuple[float, float]], num_questions: int, positives_K: np.ndarray, tp_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    negatives_K = num_questions - positives_K
    low_K, high_K = np.zeros(len(tp_K)), negatives_K.astype(float)

    def narrow(low: Any, high: Any) -> None:
        nonlocal low_K, high_K
        low_K, high_K = np.maximum(low_K, low), np.minimum(high_K, high)

    if "fp" in bounds:
        narrow(*bounds["fp"])
    if "tn" in bounds:
        narrow(negatives_K - bounds["tn"][1], negatives_K - bounds["tn"][0])
    if "accuracy" in bounds:
        right_at_most, right_at_least = num_questions * bounds["accuracy"][1], num_questions * bounds["accuracy"][0]
        narrow(tp_K + negatives_K - right_at_most, tp_K + negatives_K - right_at_least)
    if "yes_ratio" in bounds:
        narrow(num_questions * bounds["yes_ratio"][0] - tp_K, num_questions * bounds["yes_ratio"][1] - tp_K)
    if "specificity" in bounds:
        narrow(negatives_K * (1 - bounds["specificity"][1]), negatives_K * (1 - bounds["specificity"][0]))
    # With nothing found, precision and F1 are printed as 0 whatever FP is.
    if "precision" in bounds:
        low, high = (max(bound, 1e-12) for bound in bounds["precision"])
        narrow(np.where(tp_K > 0, tp_K / high - tp_K, 0), np.where(tp_K > 0, tp_K / low - tp_K, np.inf))
    if "f1" in bounds:
        low, high = (max(bound, 1e-12) for bound in bounds["f1"])
        rest_K = tp_K + positives_K
        narrow(np.where(tp_K > 0, 2 * tp_K / high - rest_K, 0), np.where(tp_K > 0, 2 * tp_K / low - rest_K, np.inf))
    return np.ceil(low_K - 1e-6), np.floor(high_K + 1e-6)


def _spread(low_K: np.ndarray, high_K: np.ndarray, max_tried: int) -> tuple[np.ndarray, np.ndarray] | None:
    """List every whole number between bounds: the index of its bounds, and the number."""
    counts_K = np.maximum(high_K - low_K + 1, 0)
    if counts_K.sum() > max_tried:
        return None
    counts_K = counts_K.astype(np.int64)
    index = np.repeat(np.arange(len(counts_K)), counts_K)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K)
    return index, low_K[index].astype(np.int64) + offset

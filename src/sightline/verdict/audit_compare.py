"""Each row of a published table against the first of its set: what its counts leave open, and what they settle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sightline.verdict.audit_bounds import (
    Side,
    design_effect_to_hide,
    paired_bounds,
    signal_of,
    unpaired_bounds,
)
from sightline.verdict.audit_recover import Part, Recovered
from sightline.verdict.audit_table import PrintedRow, PrintedTable, sets_of
from sightline.verdict.findings import ALPHA
from sightline.verdict.statistics import holm

DIFFERENT, UNDECIDED, NOT_SHOWN = "a difference", "cannot decide", "no difference can be shown"

STRATA: Mapping[str, tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]] = {
    "accuracy": ((0, 3), ((0, 2), (1, 3))),
    "recall": ((0,), ((0, 2),)),
    "specificity": ((3,), ((1, 3),)),
    "yes_ratio": ((0, 1), ((0, 2), (1, 3))),
}
"""Metrics that are a share of questions: which of TP, FP, FN, TN are in it, and which make up each stratum."""

Entry = dict[str, Any]


def compare_rows(table: PrintedTable, recovered: Recovered) -> tuple[list[Entry], list[Entry]]:
    """Compare every row with the first of its set.

    Returns:
        comparisons of shares, corrected by Holm over the sets and rows of one measure; and sensitivity and criterion
        of yes/no sets.
    """
    entries: list[Entry] = []
    signals: list[Entry] = []
    for rows in sets_of(table.rows).values():
        sides = [_sides(row, recovered) for row in rows]
        for row, own in zip(rows[1:], sides[1:], strict=True):
            for measure, side in own.items():
                if (other := sides[0].get(measure)) is not None:
                    entries.append(_compare(row, rows[0], measure, side, other))
            entries += _left_out(row, rows[0], recovered)
            signals += _signals(row, rows[0], recovered)
    _correct(entries)
    return entries, signals


class Measure(NamedTuple):
    """What two rows are compared by: its name, and for a yes/no set the metric and the part of the questions."""

    name: str
    metric: str = ""
    part: str = ""


def _sides(row: PrintedRow, recovered: Recovered) -> dict[Measure, Side]:
    sides: dict[Measure, Side] = {}
    for part in recovered.parts:
        tables = part.chosen(recovered.rules)
        if part.row.line != row.line or not len(tables):
            continue
        for metric, (inside, strata) in STRATA.items():
            sizes = {tuple(int(value) for value in row_sizes) for row_sizes in _sizes(tables, strata)}
            if (0,) in sizes:
                continue  # no positives, or no negatives
            if len(sizes) == 1:
                right = sorted({tuple(map(int, counts)) for counts in tables[:, list(inside)]})
                sides[_measure(part, metric)] = Side(right, sizes.pop())
            elif len(inside) == 2:  # positives are open, but not how many questions there are
                right = sorted({(int(count),) for count in tables[:, list(inside)].sum(axis=1)})
                sides[_measure(part, metric)] = Side(right, (int(tables[0].sum()),))
    for share in recovered.shares:
        if share.row.line == row.line and share.cell.column.name not in _denominators(recovered):
            counts = share.chosen(recovered.rules)
            if counts:
                of = share.cell.column.of
                name = share.cell.column.name + (f" of {of}" if of else "")
                sides[Measure(name)] = Side(_ends(counts), (share.total,))
    return sides


def _sizes(tables: np.ndarray, strata: tuple[tuple[int, ...], ...]) -> np.ndarray:
    return np.stack([tables[:, list(columns)].sum(axis=1) for columns in strata], axis=1)


def _ends(counts: range) -> list[tuple[int, ...]]:
    """List counts; of very many, evenly spread ones with both ends."""
    if len(counts) <= 1_000:
        return [(count,) for count in counts]
    return [(int(count),) for count in np.linspace(counts[0], counts[-1], 1_000).round()]


def _measure(part: Part, metric: str) -> Measure:
    cell = part.cells.get(metric)
    name = cell.column.name if cell is not None else f"{part.name} {metric}".strip()
    return Measure(name, metric, part.name)


def _denominators(recovered: Recovered) -> set[str]:
    return {share.cell.column.of for share in recovered.shares if share.cell.column.of is not None}


def _compare(row: PrintedRow, against: PrintedRow, measure: Measure, side: Side, other: Side) -> Entry:
    unpaired = unpaired_bounds(side, other)
    paired = paired_bounds(side, other, alpha=ALPHA) if side.sizes == other.sizes else None
    return {
        "set": row.set,
        "model": row.model,
        "against": against.model,
        "measure": measure.name,
        "metric": measure.metric,
        "part": measure.part,
        "num_questions": [side.total, other.total],
        "num_images": row.images,
        "counts": {"model": _span(side), "against": _span(other)},
        **{key: unpaired[key] for key in ("difference", "interval")},
        "p_unpaired": unpaired["p"],
        "paired": None
        if paired is None
        else {
            "p": list(paired.p),
            "fewest_changed": paired.fewest,
            "most_changed": paired.most,
            "most_changed_below_alpha": list(paired.below),
        },
        "bounds": None,
    }


def _span(side: Side) -> list[int]:
    counts = [sum(right) for right in side.right]
    return [min(counts), max(counts)]


def _left_out(row: PrintedRow, against: PrintedRow, recovered: Recovered) -> list[Entry]:
    """Compare what was left out of a share, and the share with it: as wrong, and whatever it had been."""
    found: list[Entry] = []
    shares = {(share.row.line, share.cell.column.name): share for share in recovered.shares}
    for of in sorted(_denominators(recovered)):
        valid = [shares.get((each.line, of)) for each in (row, against)]
        if any(share is None or not share.counts["mixed"] for share in valid) or row.n != against.n:
            continue
        own, other = (share for share in valid if share is not None)
        n = own.total
        out = [n - own.counts["mixed"][0], n - other.counts["mixed"][0]]
        sides = [Side([(count,)], (n,)) for count in out]
        found.append(_compare(row, against, Measure(f"left out of {of}"), *sides))
        for (line, name), share in shares.items():
            base = shares.get((against.line, name))
            if line != row.line or share.cell.column.of != of or base is None:
                continue
            counts, base_counts = share.chosen(recovered.rules), base.chosen(recovered.rules)
            if not counts or not base_counts:
                continue
            pair = Side(_ends(counts), (n,)), Side(_ends(base_counts), (n,))
            measure = Measure(f"{name} of all {n:,}, what was left out counted as not")
            entry = _compare(row, against, measure, *pair)
            low = (counts[0] - base_counts[-1] - out[1]) / n
            high = (counts[-1] + out[0] - base_counts[0]) / n
            found.append(entry | {"bounds": [low, high]})
    return found


def _correct(entries: Sequence[Entry]) -> None:
    """Give each comparison its verdict: p adjusted over its measure's family, at both ends of what is open."""
    families: dict[str, list[Entry]] = {}
    for entry in entries:
        families.setdefault(entry["measure"], []).append(entry)
    for family in families.values():
        ranges = [entry["paired"]["p"] if entry["paired"] else entry["p_unpaired"] for entry in family]
        for end, adjusted in enumerate(zip(*(holm([p[end] for p in ranges]) for end in (0, 1)), strict=True)):
            family[end]["p_adjusted"] = list(adjusted)
            low, high = adjusted
            family[end]["verdict"] = DIFFERENT if high < ALPHA else NOT_SHOWN if low >= ALPHA else UNDECIDED
            family[end]["family_size"] = len(family)
            worst = ranges[end][1]
            family[end]["design_effect"] = {
                "to_hide": design_effect_to_hide(worst) if worst < ALPHA else None,
                "to_hide_unpaired": design_effect_to_hide(family[end]["p_unpaired"][1])
                if family[end]["p_unpaired"][1] < ALPHA
                else None,
            }


def _signals(row: PrintedRow, against: PrintedRow, recovered: Recovered) -> list[Entry]:
    """Compare sensitivity and criterion where the counts of both rows are known."""
    found = []
    parts = {part.name: part for part in recovered.parts if part.row.line == row.line}
    for base in (part for part in recovered.parts if part.row.line == against.line):
        part = parts.get(base.name)
        tables = [each.chosen(recovered.rules) for each in (part, base) if each is not None]
        if len(tables) < 2 or any(len(each) != 1 for each in tables):
            continue
        if not all((each[0, 0] + each[0, 2]) and (each[0, 1] + each[0, 3]) for each in tables):
            continue  # no positives, or no negatives
        own, other = (signal_of(*map(int, each[0])) for each in tables)
        quantile = float(stats.norm.ppf(1 - ALPHA / 2))
        entry: Entry = {"set": row.set, "part": base.name, "model": row.model, "against": against.model}
        for name in ("sensitivity", "criterion"):
            value, value_against = getattr(own, name), getattr(other, name)
            half = quantile * math.sqrt(getattr(own, f"{name}_variance") + getattr(other, f"{name}_variance"))
            change = value - value_against
            entry[name] = {
                "model": value,
                "against": value_against,
                "difference": change,
                "interval": [change - half, change + half],
            }
        found.append(entry)
    return found

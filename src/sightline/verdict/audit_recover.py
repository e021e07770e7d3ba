"""From printed figures back to counts: each row's own, a size that was not printed, and the figure that cannot be.

Figures of a yes/no set (accuracy, precision, recall, F1 ...) come from four counts and are solved together; a row may
hold several such parts, told apart by what stands before the metric's name. Every other share is solved by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.verdict.audit_counts import (
    EVERY_RULE,
    MAX_TABLES,
    NEAREST,
    RULES,
    Rule,
    confusion_tables,
    quotient,
    rate_counts,
    rules_that_fit,
)
from sightline.verdict.audit_table import Cell, PrintedRow, PrintedTable, sets_of

SEARCHED = 3_000
"""Sizes looked through where a table prints none, or one that cannot be; no larger ones than it prints elsewhere."""

MOST_PER_QUESTION = 4
"""Combinations of counts per question looked at in a search: figures that leave more open could not give a size."""

NEED_POSITIVES = ("precision", "recall", "specificity", "f1", "tp", "fp", "fn", "tn")
"""Metrics that a share of right answers alone does not give."""

NEED_NEGATIVES = ("accuracy", "specificity", "yes_ratio", "tn")
"""Metrics that depend on the true negatives."""

NO_TABLES = np.empty((0, 4), dtype=np.int64)


@dataclass(slots=True, kw_only=True)
class Part:
    """Figures of one row that stem from one table of TP, FP, FN, TN.

    Args:
        row: where they are printed.
        name: what stands before the metrics' names; "" for all of the row's questions.
        cells: by metric.
        tables: int64[K, 4] that give the figures, by rule; "mixed" holds them all.
        searched: the size was not printed, or not the printed one.
        suspects: metrics one of which must be wrong, with what it would have to be.
        note: why there are no tables.
    """

    row: PrintedRow
    name: str
    cells: dict[str, Cell]
    tables: dict[Rule, np.ndarray] = field(default_factory=dict)
    searched: bool = False
    suspects: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""

    def chosen(self, rules: Sequence[Rule]) -> np.ndarray:
        """Tables by the whole table's rules where one fits, else by any; those without the wrong figure, if one is."""
        if len(self.suspects) == 1:
            return next(iter(self.suspects.values()))
        if fitting := [self.tables[rule] for rule in rules if rule in self.tables]:
            return np.unique(np.concatenate(fitting), axis=0)
        return self.tables.get("mixed", NO_TABLES)


@dataclass(slots=True, kw_only=True)
class Share:
    """A printed share, or number, of a known number of questions.

    Args:
        row: where it is printed.
        cell: the figure.
        total: the number of questions it is of.
        counts: that give it, by rule; "mixed" holds them all.
    """

    row: PrintedRow
    cell: Cell
    total: int
    counts: Mapping[Rule, range]

    def chosen(self, rules: Sequence[Rule]) -> range:
        """Counts by the whole table's rules where one fits, else by any."""
        fitting = [self.counts[rule] for rule in rules if self.counts[rule]] or [self.counts["mixed"]]
        return range(min(counts.start for counts in fitting), max(counts.stop for counts in fitting))


@dataclass(slots=True, kw_only=True)
class Size:
    """A size that a table does not print, as its figures give it.

    Args:
        set: of the rows.
        name: of the part.
        stated: the size that is printed and does not fit; None where none is.
        limit: sizes up to this one were looked through.
        keys: (questions, positives) that fit every row, smallest first.
        num_rows: rows that agree.
    """

    set: str
    name: str
    stated: int | None
    limit: int
    keys: list[tuple[int, int]]
    num_rows: int

    @property
    def is_known(self) -> bool:
        """Whether there is one size that fits, multiples of all counts aside."""
        questions, positives = self.keys[0] if self.keys else (1, 0)
        return bool(self.keys) and all(n % questions == 0 and p == positives * (n // questions) for n, p in self.keys)


@dataclass(slots=True, kw_only=True)
class Recovered:
    """Everything that the figures of a table give away.

    Args:
        parts: figures of yes/no sets.
        shares: every other share, and counts.
        sizes: that were searched for.
        rules: of rounding that fit most figures; to nearest goes before cut off, and halves may be open.
        num_fitting: how many parts and shares each rule fits.
    """

    parts: list[Part]
    shares: list[Share]
    sizes: list[Size]
    rules: tuple[Rule, ...]
    num_fitting: Mapping[Rule, int]

    @property
    def rule(self) -> Rule:
        """The rule by which expected figures are printed."""
        return self.rules[0]


def recover(table: PrintedTable) -> Recovered:
    """Find the counts behind every figure of a table, and the rule most of them were rounded by."""
    parts: list[Part] = []
    sizes: list[Size] = []
    for rows in sets_of(table.rows).values():
        grouped: dict[str, list[Part]] = {}
        for row in rows:
            for part in _parts_of(row):
                grouped.setdefault(part.name, []).append(part)
        limit = min(SEARCHED, max((row.n for row in table.rows if row.n), default=SEARCHED))
        for group in grouped.values():
            sizes += _solve_group(group, limit)
            parts += group
    inside = {(part.row.line, cell.column.name) for part in parts for cell in part.cells.values()}
    shares = [
        Share(row=row, cell=cell, total=total, counts={rule: rate_counts(cell, total, rule) for rule in EVERY_RULE})
        for row in table.rows
        for cell in row.cells.values()
        if (row.line, cell.column.name) not in inside and (total := total_of(row, cell)) is not None
    ]
    num_fitting: dict[Rule, int] = {}
    for rule in RULES:
        num_fitting[rule] = sum(rule in part.tables for part in parts) + sum(
            bool(share.counts[rule]) for share in shares if share.cell.column.kind == "rate"
        )
    best = max(num_fitting.values())
    nearest: list[Rule] = [rule for rule in NEAREST if num_fitting[rule] == best]
    rules: tuple[Rule, ...] = tuple(nearest) or ("truncated",)
    for part in parts:
        if not part.tables and not part.note:
            _find_suspects(part, rules, parts)
    return Recovered(parts=parts, shares=shares, sizes=sizes, rules=rules, num_fitting=num_fitting)


def total_of(row: PrintedRow, cell: Cell) -> int | None:
    """Say of how many questions a figure is a share; None where the table does not say, or it is none."""
    if cell.column.kind == "mean":
        return None
    if cell.column.of is not None:
        whole = row.cells.get(cell.column.of)
        return (whole.digits // 10**whole.decimals or None) if whole is not None and is_possible(whole) else None
    if cell.column.metric in ("", "accuracy", "yes_ratio"):
        is_sized = cell.column.part in ("", *row.part_sizes) or cell.column.metric == "accuracy"
        return row.size_of(cell.column.part) if is_sized else None
    if cell.column.metric == "recall":
        return row.positives
    return row.n - row.positives if cell.column.metric == "specificity" and row.n and row.positives else None


def is_possible(cell: Cell) -> bool:
    """Say whether a figure can be a share, or a number of questions, at all."""
    if cell.column.kind == "count":
        return cell.digits >= 0 and cell.digits % 10**cell.decimals == 0
    return cell.column.kind == "mean" or 0 <= cell.digits <= cell.whole


def _parts_of(row: PrintedRow) -> Iterable[Part]:
    named: dict[str, dict[str, Cell]] = {}
    for cell in row.cells.values():
        if (
            cell.column.metric
            and cell.column.of is None
            and cell.digits >= 0
            and (cell.column.kind == "count" or cell.digits <= cell.whole)
        ):
            named.setdefault(cell.column.part, {}).setdefault(cell.column.metric, cell)
    for name, cells in named.items():
        if len(cells) > 1 and any(metric in NEED_POSITIVES for metric in cells):
            yield Part(row=row, name=name, cells=cells)


def _solve_group(group: Sequence[Part], limit: int) -> list[Size]:
    """Solve rows that were asked the same questions; returns the size that had to be searched for."""
    stated = next((size for part in group if (size := part.row.size_of(part.name))), None)
    if stated is not None:
        for part in group:
            _solve(part, part.row.size_of(part.name) or stated)
        if any(part.tables or part.note for part in group):
            _share_positives(group)
            return []
        if group[0].name == "" or group[0].row.positives is not None:
            return []
    found = _search(group, limit, stated)
    if found is None or not found.is_known:
        for part in group if stated is None else ():
            fitting = "these figures cannot give it" if found is None else f"{len(found.keys):,} sizes fit"
            part.note = f"the number of questions is not printed, and {fitting}"
        return []
    for part in group:
        part.searched = True
        _solve(part, *found.keys[0])
    return [found]


def _solve(part: Part, num_questions: int, positives: int | None = None) -> None:
    known = part.row.positives if positives is None else positives
    tables = confusion_tables(part.cells, num_questions, known)
    if tables is None:
        part.note = f"too many counts of {num_questions:,} questions fit; add `positives`"
    elif len(tables):
        part.tables = {**rules_that_fit(part.cells, tables), "mixed": tables}


def _keys_of(tables: np.ndarray) -> np.ndarray:
    """Number of questions and of positives of each table, int64[K, 2]."""
    return np.stack([tables.sum(axis=1), tables[:, 0] + tables[:, 2]], axis=1)


def _keys(tables: np.ndarray) -> set[tuple[int, int]]:
    return {(int(n), int(positives)) for n, positives in np.unique(_keys_of(tables), axis=0)}


def _with_keys(tables: np.ndarray, keys: set[tuple[int, int]]) -> np.ndarray:
    return tables[[(int(n), int(positives)) in keys for n, positives in _keys_of(tables)]]


def _share_positives(group: Sequence[Part]) -> None:
    """Keep what fits every row: they were asked the same questions, so they have the same positives."""
    for rule in EVERY_RULE:
        holding = [part for part in group if rule in part.tables]
        if holding and (shared := set.intersection(*(_keys(part.tables[rule]) for part in holding))):
            for part in holding:
                part.tables[rule] = _with_keys(part.tables[rule], shared)


def _search(group: Sequence[Part], limit: int, stated: int | None) -> Size | None:
    """Look for a size and a number of positives that give the figures of every row, by one rule.

    Returns:
        what was found, sorted by size; None where the figures are too coarse to tell.
    """
    if not any(metric in NEED_NEGATIVES for part in group for metric in part.cells):
        return None  # precision, recall and F1 say nothing of how many were rightly refused
    keys: dict[Rule, set[tuple[int, int]]] = {}
    for index, part in enumerate(group):
        # The largest first: where too much fits, it does so there, and the search ends at once.
        known = {n for found in keys.values() for n, _ in found}
        solved, num_kept = [], 0
        for n in sorted(known, reverse=True) if index else range(limit, 1, -1):
            tables = confusion_tables(part.cells, n, part.row.positives, max_tried=MOST_PER_QUESTION * n)
            num_kept += MAX_TABLES if tables is None else len(tables)
            if tables is None or num_kept > MAX_TABLES:
                return None
            solved.append(tables)
        fitting = rules_that_fit(part.cells, np.concatenate([NO_TABLES, *solved]))
        for rule in RULES:
            found = _keys(fitting.get(rule, NO_TABLES))
            keys[rule] = keys[rule] & found if index else found
    row, together = group[0].row, sorted(set().union(*keys.values()))
    return Size(set=row.set, name=group[0].name, stated=stated, limit=limit, keys=together, num_rows=len(group))


def _find_suspects(part: Part, rules: Sequence[Rule], parts: Sequence[Part]) -> None:
    """Leave out one figure after another: where the rest then fits, that one must be wrong."""
    num_questions = part.row.size_of(part.name)
    if num_questions is None or len(part.cells) < 3:
        return
    agreed = [
        _keys(other.chosen(rules))
        for other in parts
        if (other.row.set, other.name) == (part.row.set, part.name) and other.tables
    ]
    for metric in part.cells:
        rest = {name: cell for name, cell in part.cells.items() if name != metric}
        tables = confusion_tables(rest, num_questions, part.row.positives)
        if tables is None or not len(tables):
            continue
        fitting = rules_that_fit(rest, tables)
        tables = np.unique(np.concatenate([NO_TABLES, *(fitting[rule] for rule in rules if rule in fitting)]), axis=0)
        if agreed and len(tables):
            shared = set.intersection(*agreed)
            tables = _with_keys(tables, shared)
        if len(tables):
            part.suspects[metric] = tables


def named_counts(tables: np.ndarray) -> str:
    """Write the counts of tables: "TP 412, FP 110, FN 174, TN 601"."""
    return ", ".join(
        f"{name.upper()} {value:,}" if isinstance(value, int) else f"{name.upper()} {value[0]:,} to {value[1]:,}"
        for name, value in counts_of(tables).items()
    )


def printed_as(metric: str, tables: np.ndarray, cell: Cell, rule: Rule) -> str:
    """Print what a metric is by the first table of counts, to a cell's decimals and by a rule."""
    over, under = (int(value[0]) for value in quotient(metric, tables[:1]))
    return printed(over, under, cell, rule)


def printed(over: int, under: int, cell: Cell, rule: Rule) -> str:
    """Print a quotient of counts to a cell's decimals, by a rule."""
    units, rest = divmod(cell.whole * over, under) if under else (0, 0)
    if rule != "truncated":
        up = 2 * rest > under or (2 * rest == under and (rule != "half even" or units % 2 == 1))
        units += int(up and under > 0)
    whole, fraction = divmod(units, 10**cell.decimals)
    return f"{whole}.{fraction:0{cell.decimals}d}" if cell.decimals else str(whole)


def counts_of(tables: np.ndarray) -> dict[str, Any]:
    """Name the counts of tables: one number where they agree, lowest and highest where not."""
    names = ("tp", "fp", "fn", "tn")
    ends = {name: (int(column.min()), int(column.max())) for name, column in zip(names, tables.T, strict=True)}
    return {name: low if low == high else [low, high] for name, (low, high) in ends.items()}

"""The audit of a published table: from the printed figures alone, what is wrong with it and what it can show.

It never says that a model improved: a table does not hold which questions changed, and that decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.verdict.audit_compare import DIFFERENT, compare_rows
from sightline.verdict.audit_counts import RULES
from sightline.verdict.audit_findings import find_contradictions, find_rounding, name_row
from sightline.verdict.audit_intervals import find_impossible_intervals, find_interval_notes
from sightline.verdict.audit_means import compare_means
from sightline.verdict.audit_notes import find_notes
from sightline.verdict.audit_recover import Part, Recovered, counts_of, named_counts, recover
from sightline.verdict.audit_sentences import say_comparison, say_mean, say_signal, say_trade_off
from sightline.verdict.audit_table import Column, PrintedTable, read_printed_table
from sightline.verdict.findings import ALPHA
from sightline.verdict.statistics import holm

Entry = dict[str, Any]


def audit_table(path: Path, *, against: str | None = None, sd: float | None = None) -> Entry:
    """Audit a published table.

    Args:
        path: a CSV file with a column `model`, optionally `set`, `n`, `positives` and `images`, and one per metric.
        against: the model that the others are compared with; the first row of each set by default.
        sd: an assumed standard deviation of the per-question differences of columns that are means.

    Returns:
        what `sightline audit --json` prints; docs/audit.md names its keys.

    Raises:
        MissingDataError: no such file.
        DataError: cells that cannot be read, each named with what to write instead.
        StudyError: no such model, or an sd that is not positive.
    """
    table = read_printed_table(path, first=against)
    recovered = recover(table)
    comparisons, signals = compare_rows(table, recovered)
    for entry in comparisons:
        entry["sentence"] = say_comparison(entry)
    for entry in signals:
        entry["sentence"] = say_signal(entry)
    means = compare_means(table, sd=sd)
    for entry in means:
        entry["sentence"] = say_mean(entry)
    return {
        "schema": 1,
        "table": table.file,
        "num_rows": len(table.rows),
        "alpha": ALPHA,
        "reading": _say_columns(table),
        "contradictions": [*find_contradictions(table, recovered), *find_impossible_intervals(table)],
        "rounding": list(find_rounding(table, recovered)),
        "recovered": [_say_part(part, recovered) for part in recovered.parts],
        "parts": [_describe_part(part, recovered) for part in recovered.parts],
        "notes": [*find_notes(table, recovered), *find_interval_notes(table)],
        "comparisons": comparisons,
        "trade_offs": _trade_offs(comparisons, signals),
        "signals": signals,
        "means": means,
        "conclusions": _conclude(comparisons),
    }


def _say_columns(table: PrintedTable) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for column in table.columns:
        kinds.setdefault(_say_column(column), []).append(column.name)
    said = [f"{', '.join(names)}: {kind}" for kind, names in kinds.items()]
    return said + [
        f"{name_row(row)}, {cell.column.name} {cell.text}: {_say_column(cell.column)}"
        for row in table.rows
        for cell in row.cells.values()
        if cell.column not in table.columns
    ]


def _say_column(column: Column) -> str:
    if column.is_area:
        return (
            "areas under the ROC curve, no share of the questions; cannot decide whether two of them differ, as that "
            "takes both models' scores of each case (DeLong 1988)"
        )
    if column.kind == "mean" and column.has_spread:
        return (
            "an average printed with ±, of several runs or of scores: no whole number of answers is behind it, and the "
            "table does not say what the ± is (write [percent] behind the name if it is one run's share)"
        )
    if column.kind == "mean":
        return "a mean whose spread is not printed (write [percent], [rate] or [count] behind the name of a share)"
    if column.kind == "count":
        return "a number of questions"
    return f"a share of {column.of or 'the questions'}, {'in percent' if column.scale == 100 else 'as a rate'}"


def _say_part(part: Part, recovered: Recovered) -> str:
    tables = part.chosen(recovered.rules)
    name = name_row(part.row) + (f", {part.name}" if part.name else "")
    if not len(tables):
        return f"{name}: {part.note or 'no counts fit'}."
    how = " once the wrong figure is left out" if part.suspects else ""
    return f"{name}: {named_counts(tables)} of {int(tables[0].sum()):,} questions{how}."


def _describe_part(part: Part, recovered: Recovered) -> Entry:
    tables = part.chosen(recovered.rules)
    return {
        "line": part.row.line,
        "model": part.row.model,
        "set": part.row.set,
        "part": part.name,
        "num_questions": int(tables[0].sum()) if len(tables) else None,
        "num_tables": len(tables),
        "rules": [rule for rule in RULES if rule in part.tables],
        "searched": part.searched,
        "note": part.note,
        **(counts_of(tables) if len(tables) else dict.fromkeys(("tp", "fp", "fn", "tn"))),
    }


def _trade_offs(comparisons: list[Entry], signals: list[Entry]) -> list[Entry]:
    """Find pairs of rows whose recall and specificity move against each other."""
    by_pair: dict[tuple[str, str, str], dict[str, Entry]] = {}
    for entry in comparisons:
        if entry["metric"] in ("recall", "specificity"):
            by_pair.setdefault((entry["set"], entry["model"], entry["part"]), {})[entry["metric"]] = entry
    found = []
    for (of, model, part), both in by_pair.items():
        signal = next((s for s in signals if (s["set"], s["model"], s["part"]) == (of, model, part)), None)
        if len(both) == 2 and (sentence := say_trade_off(both["recall"], both["specificity"], signal)):
            pair = {"set": of, "part": part, "model": model, "against": both["recall"]["against"]}
            found.append(pair | {"sentence": sentence})
    return found


def _conclude(comparisons: list[Entry]) -> list[str]:
    """Say what is left when every difference of the table is corrected together."""
    if len({entry["measure"] for entry in comparisons}) < 2:
        return []
    worst = holm([(entry["paired"]["p"] if entry["paired"] else entry["p_unpaired"])[1] for entry in comparisons])
    unpaired = holm([entry["p_unpaired"][1] for entry in comparisons])
    num_found = sum(entry["verdict"] == DIFFERENT for entry in comparisons)
    num_left, num_left_unpaired = (sum(p < ALPHA for p in adjusted) for adjusted in (worst, unpaired))
    return [
        f"Of {len(comparisons)} comparisons, {num_found} show a difference when each measure is corrected by itself; "
        f"corrected all together, {num_left} do whichever questions changed ({num_left_unpaired} as independent "
        "samples)."
    ]

"""What a reader of a published table should know besides: sizes found, sets that repeat each other, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sightline.verdict.audit_findings import Finding, make_finding, name_part, say_size
from sightline.verdict.audit_means import best_row, lower_is_better
from sightline.verdict.audit_recover import Recovered, is_possible
from sightline.verdict.audit_table import PrintedTable, sets_of
from sightline.verdict.sentences import level
from sightline.verdict.statistics import wilson_interval

KNOWN_SIZES: Mapping[int, str] = {
    451: "the test questions of VQA-RAD's copy on the hub",
    2_244: "all questions of VQA-RAD's copy on the hub, those meant for training included",
    2_248: "all questions of VQA-RAD, those meant for training included",
}
"""Sizes by which a public set may be recognised; source: the releases, as data/vqa_rad.py reads them."""


def find_notes(table: PrintedTable, recovered: Recovered) -> Iterator[Finding]:
    """Find what is no contradiction, and still changes what a table can show."""
    for size in recovered.sizes:
        if size.stated is None:
            sentence = f"no size is printed for {name_part(size.name)}; {say_size(size)}"
            yield make_finding("recovered-size", table, sentence, of=size.set, column=size.name)
    sizes = {row.n for row in table.rows if row.n is not None}
    for n in sorted(sizes & KNOWN_SIZES.keys()):
        sentence = f"{n:,} is the number of {KNOWN_SIZES[n]}; if that is the set, ask what the models were trained on"
        yield make_finding("known-size", table, sentence)
    yield from _without_size(table, recovered)
    yield from _shared_positives(table, recovered)
    yield from _disagreement(table)
    for name, rows in sets_of(table.rows).items():
        if len(rows) == 1:
            yield make_finding("one-row", table, "one row: there is nothing to compare it with", of=name)


def _without_size(table: PrintedTable, recovered: Recovered) -> Iterator[Finding]:
    """Name the shares that nothing could be checked or computed of."""
    checked = {(share.row.line, share.cell.column.name) for share in recovered.shares}
    checked |= {
        (part.row.line, cell.column.name)
        for part in recovered.parts
        for cell in part.cells.values()
        if not part.note or cell.column.metric in ("precision", "f1")
    }
    for row in table.rows:
        for cell in row.cells.values():
            if (row.line, cell.column.name) in checked or cell.column.kind != "rate" or not is_possible(cell):
                continue
            sentence = f"{cell.column.name} {cell.text}: the number of questions it is a share of is not printed"
            if cell.column.metric in ("", "accuracy"):
                on = [" to ".join(level(end, "rate") for end in wilson_interval(cell.value, n)) for n in (100, 1_000)]
                sentence += f"; on 100 independent ones its 95% interval would be {on[0]}, on 1,000 {on[1]}"
            yield make_finding("no-size", table, sentence, row=row, column=cell.column.name)


def _shared_positives(table: PrintedTable, recovered: Recovered) -> Iterator[Finding]:
    """Say where sets have the same positives answered alike: they repeat each other in that part."""
    by_part: dict[str, dict[str, dict[str, tuple[int, int]]]] = {}
    for part in recovered.parts:
        found = {(int(tp), int(fn)) for tp, _, fn, _ in part.chosen(recovered.rules)}
        if len(found) == 1:
            by_part.setdefault(part.name, {}).setdefault(part.row.set, {})[part.row.model] = found.pop()
    for name, by_set in by_part.items():
        if len(by_set) > 1 and all(found == next(iter(by_set.values())) for found in by_set.values()):
            sentence = (
                f"every model has the same TP and FN in {len(by_set)} sets ({', '.join(by_set)}): they seem to share "
                "their positive questions. They are not independent of one another, and recall is one result"
            )
            yield make_finding("shared-positives", table, sentence, column=name)


def _disagreement(table: PrintedTable) -> Iterator[Finding]:
    """Say where columns of means call different rows the best."""
    for name, rows in sets_of(table.rows).items():
        best: dict[str, list[str]] = {}
        lower = []
        for column in table.columns:
            held = [row for row in rows if column.name in row.cells]
            if column.kind == "mean" and len(held) > 1 and (row := best_row(column, held)) is not None:
                best.setdefault(row.model, []).append(column.name)
                lower += [column.name] if lower_is_better(column) else []
        if len(best) > 1:
            told = "; ".join(f"{', '.join(columns)}: {model}" for model, columns in best.items())
            taken = f" (lower taken as better: {', '.join(lower)})" if lower else ""
            yield make_finding(
                "metrics-disagree", table, f"the columns call different rows the best. {told}{taken}", of=name
            )

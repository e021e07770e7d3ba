"""What is odd about a published table: figures that cannot be, sizes that do not fit, rounding that changes midway.

A finding is a dict of `kind`, `where` (file, line, model, set and column) and `sentence`, and of numbers it rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sightline.verdict.audit_counts import NEAREST, RULES, Rule, rate_counts
from sightline.verdict.audit_recover import (
    Part,
    Recovered,
    Share,
    Size,
    counts_of,
    is_possible,
    named_counts,
    printed,
    printed_as,
)
from sightline.verdict.audit_table import PrintedRow, PrintedTable

TWO_CLASSES = "taken as metrics of one yes/no set; averages over classes or questions need not fit"

Finding = dict[str, Any]


def find_contradictions(table: PrintedTable, recovered: Recovered) -> Iterator[Finding]:
    """Find figures that cannot be what they are said to be, alone or beside the others."""
    for row in table.rows:
        for cell in row.cells.values():
            if not is_possible(cell):
                must = "a whole number, 0 or more" if cell.column.kind == "count" else f"0 to {cell.column.scale}"
                sentence = f"{cell.column.name} {cell.text} is impossible; it must be {must}"
                yield make_finding("impossible-value", table, sentence, row=row, column=cell.column.name)
    for size in recovered.sizes:
        if size.stated is not None:
            sentence = (
                f"no counts of {size.stated:,} questions give the figures of {name_part(size.name)} in any of "
                f"{size.num_rows} rows ({TWO_CLASSES}); {say_size(size)}"
            )
            yield make_finding("wrong-size", table, sentence, of=size.set, column=size.name)
    for part in recovered.parts:
        if not part.tables and not part.note:
            yield _no_counts(table, part, recovered.rule)
        elif part.note and _is_f1_beyond(part):
            sentence = f"{_no_f1(part)}: {_f1_of(part)}"
            yield make_finding("no-counts", table, sentence, row=part.row, column=part.cells["f1"].column.name)
    shares = [share for share in recovered.shares if is_possible(share.cell)]
    for share in shares:
        name, text = share.cell.column.name, share.cell.text
        if not share.counts["mixed"]:
            what = "more than there are" if share.cell.column.kind == "count" else _neighbours(share, recovered.rule)
            sentence = (
                f"{name} {text}: {what}, by any rule of rounding; if it is a share of fewer questions, say of which: "
                f"{name} [of COLUMN]"
            )
            yield make_finding("fits-no-count", table, sentence, row=share.row, column=name)
        elif not share.counts[recovered.rule] and _odd_one(share, shares, recovered.rule) is not None:
            yield _other_rule(table, share, shares, recovered)


def make_finding(
    kind: str,
    table: PrintedTable,
    sentence: str,
    *,
    row: PrintedRow | None = None,
    of: str = "",
    column: str = "",
    **more: Any,
) -> Finding:
    """Describe a finding about a row, or about a set."""
    where = {
        "file": table.file,
        "line": row.line if row else None,
        "model": row.model if row else "",
        "set": row.set if row else of,
        "column": column,
    }
    subject = f"{name_row(row)}: " if row else f"{of}: " if of else ""
    return {"kind": kind, "where": where, "sentence": f"{subject}{sentence}.", **more}


def name_row(row: PrintedRow) -> str:
    """Name a row as the table does, with its line."""
    return f"{row.model}{f', {row.set}' if row.set else ''} (line {row.line})"


def name_part(part: str) -> str:
    """Name the figures of a yes/no set by what stands before their names."""
    return f"“{part}”" if part else "accuracy, precision, recall and F1"


def say_size(size: Size) -> str:
    """Say which size was found, and that no other was."""
    (questions, positives), *more = size.keys
    multiples = f" (and multiples of it, such as {more[0][0]:,})" if more else ""
    return f"{questions:,} questions with {positives:,} positives do{multiples}, and no other size up to {size.limit:,}"


def _no_counts(table: PrintedTable, part: Part, rule: Rule) -> Finding:
    size = part.row.size_of(part.name)
    asked = f"{size:,} questions" if size else "questions"
    asked += f" with {part.row.positives:,} positives" if part.row.positives else ""
    suspects = {
        metric: {"printed": part.cells[metric].text, "would_be": printed_as(metric, tables, part.cells[metric], rule)}
        | counts_of(tables)
        for metric, tables in part.suspects.items()
    }
    if len(suspects) == 1:
        ((metric, tables),) = part.suspects.items()
        cell = part.cells[metric]
        cannot = f"{cell.column.name} {cell.text} cannot follow from the other figures of its row"
        if metric == "f1" and _is_f1_beyond(part):
            cannot = _no_f1(part)
        sentence = (
            f"{cannot}: {suspects[metric]['would_be']}, by {named_counts(tables)} of {asked}, which give all the "
            f"others ({TWO_CLASSES})"
        )
        return make_finding("no-counts", table, sentence, row=part.row, column=cell.column.name, suspects=suspects)
    figures = ", ".join(f"{cell.column.name} {cell.text}" for cell in part.cells.values())
    sentence = f"no counts of {asked} give all of {figures} ({TWO_CLASSES})"
    if suspects:
        told = [f"{part.cells[metric].column.name} would be {found['would_be']}" for metric, found in suspects.items()]
        sentence += f"; if one of them is wrong, {' or '.join(told)}"
    elif _is_f1_beyond(part):
        sentence += f"; {_no_f1(part)}: {_f1_of(part)}"
    return make_finding("no-counts", table, sentence, row=part.row, column=part.name, suspects=suspects)


def _is_f1_beyond(part: Part) -> bool:
    """Say whether F1 is not what precision and recall give, whatever was rounded away of all three."""
    if not {"f1", "precision", "recall"} <= set(part.cells):
        return False
    f1 = part.cells["f1"]
    low, high = (_f1_between(part, step) for step in (-0.5, 1.0))
    return (f1.digits + 1) / f1.whole < low or (f1.digits - 0.5) / f1.whole > high


def _f1_between(part: Part, step: float) -> float:
    precision, recall = ((part.cells[name].digits + step) / part.cells[name].whole for name in ("precision", "recall"))
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _no_f1(part: Part) -> str:
    f1, precision, recall = (part.cells[name] for name in ("f1", "precision", "recall"))
    return (
        f"{f1.column.name} {f1.text} cannot follow from {precision.column.name} {precision.text} and "
        f"{recall.column.name} {recall.text}"
    )


def _f1_of(part: Part) -> str:
    f1 = part.cells["f1"]
    return f"{f1.column.scale * _f1_between(part, 0.0):.{f1.decimals}f}"


def find_rounding(table: PrintedTable, recovered: Recovered) -> Iterator[Finding]:
    """Say by which rule the table is rounded, and which figures follow another."""
    rule, fitting = recovered.rule, recovered.num_fitting
    parts = [part for part in recovered.parts if part.tables]
    shares = [share for share in recovered.shares if share.cell.column.kind == "rate" and share.counts["mixed"]]
    if not (num_figures := len(parts) + len(shares)):
        return
    holding = [each for each in RULES if fitting[each] == num_figures]
    if holding:
        also = "; cut off they would fit as well" if rule != "truncated" and "truncated" in holding else ""
        sentence = f"every share follows from whole counts {_name_rule(rule, fitting)}{also}"
    else:
        sentence = (
            f"no single rule of rounding fits every share; most ({fitting[rule]} of {num_figures}, yes/no sets counted "
            f"once) are {_name_rule(rule, fitting)}"
        )
    yield make_finding("rounding", table, sentence, rules=holding, taken=list(recovered.rules))
    for part in parts:
        if rule not in part.tables:
            others = [RULES[each] for each in RULES if each in part.tables] or ["rounded each in its own way"]
            yield make_finding(
                "other-rounding", table, f"{name_part(part.name)} are {' or '.join(others)}", row=part.row
            )
    for share in shares:
        if not share.counts[rule] and _odd_one(share, shares, rule) is None:
            yield _other_rule(table, share, shares, recovered)


def _name_rule(rule: Rule, fitting: Mapping[Rule, int]) -> str:
    alike = rule in NEAREST and len({fitting[each] for each in NEAREST}) == 1
    return "rounded to nearest" if alike else RULES[rule]


def _odd_one(share: Share, shares: Sequence[Share], rule: Rule) -> Share | None:
    """Find a share of the same column and size that fits no rule that this one fits."""
    others: list[Rule] = [each for each in RULES if share.counts[each]]
    for each in shares:
        same = each.cell.column is share.cell.column and each.total == share.total
        if same and others and each.counts[rule] and not any(each.counts[other] for other in others):
            return each
    return None


def _other_rule(table: PrintedTable, share: Share, shares: Sequence[Share], recovered: Recovered) -> Finding:
    rule, cell, total = recovered.rule, share.cell, share.total
    told = _name_rule(rule, recovered.num_fitting)
    sentence = f"{cell.column.name} {cell.text}: {_neighbours(share, rule)}, {told}"
    others: list[Rule] = [each for each in RULES if share.counts[each]]
    other: Rule = others[0] if others else "mixed"
    sentence += f"; {RULES.get(other, 'otherwise')}, {_exactly(share.counts[other][0], share)} does"
    odd = _odd_one(share, shares, rule)
    if odd is None:
        return make_finding("other-rounding", table, sentence, row=share.row, column=cell.column.name)
    count = odd.counts[rule][0]
    sentence += (
        f", but {odd.cell.text} (line {odd.row.line}) is {_exactly(count, odd)} and would then be "
        f"{printed(count, total, odd.cell, other)}. No single rule of rounding gives both from {total:,} questions"
    )
    same = [each for each in shares if each.cell.column is cell.column and each.total == total]
    for size in recovered.sizes:
        n = size.keys[0][0]
        fitting = [rate_counts(each.cell, n, rule) for each in same]
        if n != total and all(fitting):
            counts = ", ".join(f"{counts[0]:,}" for counts in fitting)
            sentence += (
                f". The size found for {name_part(size.name)}, {n:,}, gives all of {cell.column.name} ({counts})"
            )
    return make_finding("no-single-rule", table, sentence, row=share.row, column=cell.column.name)


def _neighbours(share: Share, rule: Rule) -> str:
    """Name the counts on either side of a figure that none of them gives."""
    cell, total = share.cell, share.total
    below = min(total, max(0, cell.digits * total // cell.whole))
    told = [f"{count:,} is {printed(count, total, cell, rule)}" for count in (below, below + 1) if count <= total]
    return f"no count of {total:,} gives it ({', '.join(told)})"


def _exactly(count: int, share: Share) -> str:
    return f"{count:,} ({share.cell.column.scale * count / share.total:.{share.cell.decimals + 2}f})"

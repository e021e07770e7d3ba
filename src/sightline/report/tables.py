"""A table of the report: shown on the page and in report.md, and written in full as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sightline.report.wording import MINUS, MISSING, change, clean, count, level, markdown_text, p_value, shortened

LONGEST_CELL = 400
SAFE_PREFIX = "'"
"""Put before a text of a CSV that a spreadsheet would take for a formula; taken away again, the text is as it was."""

_FORMULA = re.compile(r"['=+\-@\t\r\n]")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"},
    **{">": r"\textgreater{}", "|": r"\textbar{}", MINUS: "$-$", "±": r"$\pm$", "×": r"$\times$", "β": r"$\beta$"},
    **{MISSING: "--", "“": "``", "”": "''", '"': "''", "…": r"\dots{}"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column holds: texts, numbers, or intervals (two numbers, which a CSV has in two columns)."""

    title: str
    kind: Literal["text", "number", "interval"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One entry.

    Args:
        shown: as a person reads it.
        value: in full: a text, a number, both ends of an interval, or None.
        show: which answers are behind it, as the page's filters name them; empty where there are none to show.
    """

    shown: str
    value: str | float | tuple[float, float] | None
    show: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Args:
        name: of its files, without ending.
        title: as its caption.
        columns: from left to right.
        rows: each with one cell per column.
        note: what must be known to read it; may be empty.
        about: what holds of every row, for the caption; see `slim`.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    about: str = ""


def slim(table: Table) -> Table:
    """Take out the columns of text that say the same in every row, for reading; what they say goes into the caption."""
    fixed = {
        place: table.rows[0][place].shown
        for place, column in enumerate(table.columns)
        if place and column.kind == "text" and len(table.rows) > 1
        if len({row[place].shown for row in table.rows}) == 1
    }
    said = "; ".join(f"{table.columns[place].title.lower()} {text}" for place, text in fixed.items())
    kept = [place for place in range(len(table.columns)) if place not in fixed]
    return Table(
        name=table.name,
        title=table.title,
        about=said,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
        note=table.note,
    )


def columns(*named: str) -> tuple[Column, ...]:
    """Make columns from their titles: a "#" in front stands for numbers, a "~" for intervals."""
    kinds: dict[str, Literal["number", "interval"]] = {"#": "number", "~": "interval"}
    return tuple(Column(title=name.lstrip("#~"), kind=kinds.get(name[0], "text")) for name in named)


def words(text: object) -> Cell:
    """Make a cell of text; what a terminal would obey is made visible in every form."""
    return Cell(shown=shortened(str(text), LONGEST_CELL), value=clean(str(text)))


def number(value: float | None, **show: str) -> Cell:
    """Make a cell of a count."""
    return Cell(shown=count(value), value=value, show=show)


def amount(value: float | None, unit: str, **show: str) -> Cell:
    """Make a cell of a metric's value: percent where it is a rate."""
    return Cell(shown=level(value, unit), value=value, show=show)


def difference(value: float | None, unit: str) -> Cell:
    """Make a cell of a difference: points where it is one of rates."""
    return Cell(shown=change(value, unit), value=value)


def probability(p: float | None) -> Cell:
    """Make a cell of a p value."""
    return Cell(shown=p_value(p).removeprefix("= "), value=p)


def interval(ends: Sequence[float | None] | None, unit: str, *, of_change: bool) -> Cell:
    """Make a cell of both ends of an interval."""
    if not ends or None in ends:
        return Cell(shown=MISSING, value=None)
    low, high = (float(end) for end in ends if end is not None)
    show = change if of_change else level
    return Cell(shown=f"{show(low, unit)} to {show(high, unit)}", value=(low, high))


def csv_text(table: Table) -> str:
    """Write a table in full: every digit, an interval in two columns, no text that a spreadsheet would obey."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_neutral(title) for column in table.columns for title in _csv_titles(column)])
    for row in table.rows:
        pairs = zip(table.columns, row, strict=True)
        writer.writerow([value for column, cell in pairs for value in _csv_values(column, cell)])
    return out.getvalue()


def _csv_titles(column: Column) -> tuple[str, ...]:
    return (f"{column.title} low", f"{column.title} high") if column.kind == "interval" else (column.title,)


def _csv_values(column: Column, cell: Cell) -> tuple[str, ...]:
    if column.kind == "interval":
        return tuple(map(repr, cell.value)) if isinstance(cell.value, tuple) else ("", "")
    if cell.value is None:
        return ("",)
    return (_neutral(cell.value) if isinstance(cell.value, str) else repr(cell.value),)


def _neutral(text: str) -> str:
    text = clean(text)
    return f"{SAFE_PREFIX}{text}" if _FORMULA.match(text) else text


def markdown_lines(table: Table) -> Iterable[str]:
    """Write a table as Markdown, as a person reads it."""
    yield "| " + " | ".join(markdown_text(column.title) for column in table.columns) + " |"
    yield "|" + "".join("---|" if column.kind == "text" else "---:|" for column in table.columns)
    for row in table.rows:
        yield "| " + " | ".join(markdown_text(cell.shown) for cell in row) + " |"


def caption(table: Table) -> str:
    """Write a table's caption as Markdown."""
    return f"**{markdown_text(table.title)}**" + (f" ({markdown_text(table.about)})" if table.about else "")


def markdown_table(table: Table) -> str:
    """Write a table with its caption and note as a Markdown file."""
    lines = [caption(table), "", *markdown_lines(table), ""]
    return "\n".join([*lines, *([markdown_text(table.note), ""] if table.note else [])])


def latex_table(table: Table) -> str:
    """Write a table as LaTeX, to be put into a paper with `\\input`; it needs the package booktabs."""
    kinds = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    note = f"\n% {clean(table.note)}".replace("\n", " ").strip() if table.note else ""
    lines = [note] if note else []
    lines += ["\\begin{tabular}{" + kinds + "}", "\\toprule", _latex_row(column.title for column in table.columns)]
    lines += ["\\midrule", *(_latex_row(cell.shown for cell in row) for row in table.rows)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _latex_row(texts: Iterable[str]) -> str:
    return " & ".join(_latex(text) for text in texts) + " \\\\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(clean(text).split()))

"""Reading a published table as it is printed: whose row, which metric, and every figure to its last digit.

A figure is kept as the whole number its digits spell and where its decimal point stands, never as a float: what was
rounded away is what an audit is about.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sightline.data.columns import nearest
from sightline.data.problems import NUM_PRINTED, REMEDIES, shown
from sightline.data.rows import BadLine, Row, Table, read_table
from sightline.errors import DataError, MissingDataError, StudyError
from sightline.verdict.audit_figures import (
    COUNT_METRICS,
    MISSING,
    MODEL_NAMES,
    NAMES_OF_RIGHT,
    PARTS_ALONE,
    RATE_ENDINGS,
    SIZE_OF_PART,
    Header,
    Interval,
    Number,
    confusion_metric,
    read_header,
    read_number,
    unit_of,
)

Kind = Literal["rate", "count", "mean"]

EXPECTED = (
    "Write one row per model and one column per metric; a column `model` (or method) is needed; `set`, `n`, "
    "`positives` and `images` may be there, and `n_closed` beside `closed` or `closed_f1`"
)

SIZES: Mapping[str, tuple[str, ...]] = {
    "n": ("n", "num_questions", "questions"),
    "positives": ("positives", "num_positives"),
    "images": ("images", "num_images"),
}
"""Columns that say how large a row's test set is."""

_RULE, _BAR, _MARKUP = re.compile(r"[\s|:-]+"), re.compile(r"(?<!\\)\|"), re.compile(r"\*\*|__|`|<[^<>]*>|\\(?=%)")
"""Of a Markdown table: the line under its head, what parts its cells, and what only says how a cell looks."""

MAX_ROWS, MAX_SIZE = 200, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column holds.

    Args:
        name: its header, marks removed.
        kind: a share of questions, a number of questions, or neither (a mean whose spread is not printed).
        metric: a key of `CONFUSION_NAMES`; "" for others.
        part: which questions, where the header names some ("closed" of closed_f1); "" for all of the row's.
        of: the column of counts that a share is of; None for the row's n.
        scale: what all of the questions would be printed as: 100 in percent, else 1.
        has_spread: whether its figures are printed with ±, so that they are averages of several runs or of scores.
        is_plain: whether its header leaves open what a figure with ± is, among others without.
        is_area: whether its figures are areas under the ROC curve.
        level: of the intervals printed beside its figures, where the header says it.
    """

    name: str
    kind: Kind
    metric: str
    part: str
    of: str | None
    scale: int
    has_spread: bool = False
    is_plain: bool = True
    is_area: bool = False
    level: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A printed figure: `digits` / 10^`decimals`, in the unit of its column, and the interval beside it."""

    line: int
    column: Column
    text: str
    digits: int
    decimals: int
    interval: Interval | None = None

    @property
    def whole(self) -> int:
        """What 1 would be printed as, in units of the last decimal: 10,000 for 100.00%."""
        return self.column.scale * 10**self.decimals

    @property
    def value(self) -> float:
        """As a rate in [0, 1], a count or a mean."""
        return self.digits / self.whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedRow:
    """A row: whose, of which set (rows of one set were asked the same questions), and its figures by column name."""

    line: int
    model: str
    set: str
    n: int | None
    positives: int | None
    images: int | None
    cells: Mapping[str, Cell]
    part_sizes: Mapping[str, int] = field(default_factory=dict)

    def size_of(self, part: str) -> int | None:
        """How many questions a part has ("" for all), as far as it is printed; n stands in where only that is."""
        return self.part_sizes.get(part, self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedTable:
    """A published table; `file` is its name in messages."""

    file: str
    columns: tuple[Column, ...]
    rows: tuple[PrintedRow, ...]


def read_printed_table(path: Path, *, first: str | None = None) -> PrintedTable:
    """Read a published table from a CSV file.

    Args:
        path: comma, semicolon or tab between the fields; decimal points or commas; a percent sign or none.
        first: the model whose rows are put before the others.

    Returns:
        the table, every figure as printed.

    Raises:
        MissingDataError: no such file.
        DataError: naming each cell that cannot be read, and what to write instead.
        StudyError: no row of that model.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file; give a CSV file with a column `model` and one per metric")
    table = _read(path)
    faults: list[str] = []
    lines = []
    for row in table.rows:
        if isinstance(row, BadLine):
            faults.append(f"{path.name}:{row.number}: {row.found}; {REMEDIES[row.kind]}")
        else:
            lines.append(row)
    _raise(faults)
    if not lines or len(lines) > MAX_ROWS:
        raise DataError(f"{path.name}: {len(lines):,} rows; an audit takes 1 to {MAX_ROWS:,}")
    headers = [read_header(name, file=path.name) for name in table.columns]
    roles = _roles(headers, file=path.name)
    numbers = _read_numbers(lines, table.columns, headers, roles, path.name, faults)
    _raise(faults)
    columns = _columns(headers, roles, lines, table.columns, numbers, path.name, faults)
    _raise(faults)
    rows = _rows(lines, table.columns, roles, columns, numbers, path.name, faults)
    _raise(faults)
    if first is not None and first not in {row.model for row in rows}:
        raise StudyError(f"{path.name} has no row of {first!r}; {nearest(first, dict.fromkeys(r.model for r in rows))}")
    rows = tuple(sorted(rows, key=lambda row: row.model != first)) if first is not None else rows
    return PrintedTable(file=path.name, columns=tuple(columns.values()), rows=rows)


def _read(path: Path) -> Table:
    """Read CSV, or Markdown, which is turned into it line by line."""
    text = path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    if not text.startswith("|"):
        return read_table(path, file=path.name, syntax="csv")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in text.splitlines():
        bare = line.strip()
        if not bare or _RULE.fullmatch(bare):
            out.write("\n")
            continue
        cells = _BAR.split(bare.removeprefix("|").removesuffix("|"))
        writer.writerow([_MARKUP.sub("", cell.replace("\\|", "|")).strip() for cell in cells])
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
        file.write(out.getvalue())
        file.flush()
        return read_table(Path(file.name), file=path.name, syntax="csv")


def _raise(faults: Sequence[str]) -> None:
    if faults:
        more = [f"... and {len(faults) - NUM_PRINTED} more"] if len(faults) > NUM_PRINTED else []
        raise DataError("\n  ".join([*faults[:NUM_PRINTED], *more]))


def _roles(headers: Sequence[Header], *, file: str) -> dict[str, int]:
    """Find the columns that are no metric: role to index."""
    roles: dict[str, int] = {}
    for index, header in enumerate(headers):
        for role, names in {"model": MODEL_NAMES, "set": ("set",), **SIZES}.items():
            if header.plain in names:
                if role in roles:
                    raise DataError(f"{file}:1: two columns give {role}; keep one")
                roles[role] = index
    if "model" not in roles:
        raise DataError(
            f"{file}:1: no column `model`; {nearest('model', [header.name for header in headers])}. {EXPECTED}; "
            "a table with models side by side is to be turned"
        )
    if len(roles) == len(headers):
        raise DataError(f"{file}:1: no column of a metric; there are {', '.join(roles)}. {EXPECTED}")
    parts = {part for header in headers if (part := confusion_metric(header.plain)[1])}
    for index, header in enumerate(headers):
        part = header.plain.removeprefix(SIZE_OF_PART)
        if part != header.plain and part in parts and not header.unit:
            roles[f"{SIZE_OF_PART}{part}"] = index
    names = [header.name for index, header in enumerate(headers) if index not in roles.values()]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{file}:1: two columns are named {shown(name)}; give each its own name")
    return roles


def _read_numbers(
    lines: Sequence[Row],
    names: Sequence[str],
    headers: Sequence[Header],
    roles: Mapping[str, int],
    file: str,
    faults: list[str],
) -> dict[tuple[int, int], Number]:
    numbers = {}
    sizes = {index for role, index in roles.items() if role in SIZES or role.startswith(SIZE_OF_PART)}
    for row in lines:
        for index, name in enumerate(names):
            text = str(row.values[name])
            if index in (roles["model"], roles.get("set")) or text.strip().lower() in MISSING:
                continue
            number = read_number(text, is_size=index in sizes)
            if isinstance(number, str):
                faults.append(f"{file}:{row.number}, column {headers[index].name}: {shown(text, 40)}: {number}")
            else:
                numbers[row.number, index] = number
    return numbers


def _columns(
    headers: Sequence[Header],
    roles: Mapping[str, int],
    lines: Sequence[Row],
    names: Sequence[str],
    numbers: Mapping[tuple[int, int], Number],
    file: str,
    faults: list[str],
) -> dict[int, Column]:
    """Say what each column holds, by index in the file."""
    metrics = {index: header for index, header in enumerate(headers) if index not in roles.values()}
    denominators = {header.of for header in metrics.values() if header.of is not None}
    for name in denominators - {header.name for header in metrics.values()}:
        known = nearest(str(name), [header.name for header in metrics.values()])
        raise DataError(f"{file}:1: [of {name}] names no column; {known}")
    sizes = [_size(numbers.get((row.number, roles["n"]))) if "n" in roles else None for row in lines]
    columns = {}
    for index, header in metrics.items():
        metric, part = confusion_metric(header.plain)
        unit = header.unit
        every = [number for row in lines if (number := numbers.get((row.number, index))) is not None]
        # A row with ± among plain ones is an average; it takes nothing from the others.
        figures = [number for number in every if not number.has_spread] or every
        has_spread = all(figure.has_spread for figure in figures) and bool(figures)
        if (has_spread and not unit) or header.is_area:
            unit = "mean"  # no whole number of answers is behind an average of several runs
        if header.plain in PARTS_ALONE["open"] and not unit:
            faults.append(
                f"{file}:1, column {shown(header.name)}: open questions are scored in two ways; write open_accuracy "
                "for the share that is right, or open [mean] for recall, F1 or a score averaged over questions"
            )
        if header.name in denominators or metric in COUNT_METRICS or _are_counts(header, figures, sizes):
            unit = unit or "count"
        is_share = bool(metric) or header.plain.endswith(RATE_ENDINGS) or unit in ("percent", "rate") or header.of
        unit = unit or (unit_of(figures, f"{file}:1, column {header.name}", faults) if is_share else "mean")
        columns[index] = Column(
            name=header.name,
            kind="rate" if unit in ("percent", "rate") else "count" if unit == "count" else "mean",
            metric="" if unit == "mean" else metric,
            part=part,
            of=header.of,
            scale=100 if unit == "percent" else 1,
            has_spread=has_spread,
            is_plain=not header.unit and not has_spread,
            is_area=header.is_area,
            level=header.level,
        )
    return columns


def _are_counts(header: Header, figures: Sequence[Number], sizes: Sequence[int | None]) -> bool:
    """Say whether a column named after right answers holds how many there are: whole numbers over 100, and of `n`."""
    if header.plain not in NAMES_OF_RIGHT or header.unit or header.of or not figures or not all(sizes):
        return False
    if any(figure.decimals or figure.is_percent or figure.has_spread for figure in figures):
        return False
    largest = max(figure.digits for figure in figures)
    return 100 < largest <= max(size for size in sizes if size)


def _rows(
    lines: Sequence[Row],
    names: Sequence[str],
    roles: Mapping[str, int],
    columns: Mapping[int, Column],
    numbers: Mapping[tuple[int, int], Number],
    file: str,
    faults: list[str],
) -> tuple[PrintedRow, ...]:
    rows: list[PrintedRow] = []
    seen: dict[tuple[str, str], int] = {}
    for row in lines:
        where = f"{file}:{row.number}"
        texts = {
            role: str(row.values[names[roles[role]]]).strip() if role in roles else "" for role in ("model", "set")
        }
        faults += [
            f"{where}, column {role}: {shown(text, 40)} {_unfit(text)}"
            for role, text in texts.items()
            if _unfit(text) and (text or role == "model")
        ]
        key = (texts["model"], texts["set"])
        if key in seen:
            faults.append(
                f"{where}: {shown(key[0], 40)} has a row already (line {seen[key]}); give each its own `model` or `set`"
            )
        seen[key] = row.number
        printed = {
            role: _size(numbers.get((row.number, roles[role]))) if role in roles else None
            for role in (*SIZES, *(role for role in roles if role.startswith(SIZE_OF_PART)))
        }
        sizes = {role: printed[role] for role in SIZES}
        for role, size in printed.items():
            if size == 0:
                given = row.values[names[roles[role]]]
                faults.append(f"{where}, column {role}: {shown(given)}; write a whole number of 1 to {MAX_SIZE:,}")
            elif role != "n" and size and sizes["n"] and size > sizes["n"]:
                faults.append(f"{where}: {size:,} {role} of {sizes['n']:,} questions; correct one of them")
        cells = {
            column.name: Cell(
                line=row.number,
                column=_of_spread(column) if found.has_spread and column.is_plain else column,
                text=found.text,
                digits=found.digits,
                decimals=found.decimals,
                interval=found.interval,
            )
            for index, column in columns.items()
            if (found := numbers.get((row.number, index))) is not None
        }
        parts = {role.removeprefix(SIZE_OF_PART): size for role, size in printed.items() if role not in SIZES and size}
        rows.append(PrintedRow(line=row.number, model=key[0], set=key[1], cells=cells, part_sizes=parts, **sizes))
    return tuple(rows)


def _of_spread(column: Column) -> Column:
    """Say what a figure with ± is in a column whose other figures have none: an average."""
    return replace(column, kind="mean", metric="", scale=1, has_spread=True)


def _unfit(text: str) -> str:
    if not text:
        return "is empty; every row needs the name of its model"
    if not text.isprintable():
        return "holds characters that cannot be seen; write it anew"
    return "is longer than 200 characters; shorten it" if len(text) > 200 else ""


def _size(number: Number | None) -> int | None:
    """A whole number of questions; None where none is given, 0 where it cannot be one."""
    if number is None:
        return None
    size, rest = divmod(number.digits, 10**number.decimals)
    return size if rest == 0 and 0 < size <= MAX_SIZE else 0


def sets_of(rows: Iterable[PrintedRow]) -> dict[str, list[PrintedRow]]:
    """Group rows by the set they were asked, in order of appearance."""
    groups: dict[str, list[PrintedRow]] = {}
    for row in rows:
        groups.setdefault(row.set, []).append(row)
    return groups

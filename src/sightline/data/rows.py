"""Rows from text files (JSON lines, JSON lists, CSV): a bad line is named, and costs no other line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.data.problems import shown
from sightline.errors import DataError

Syntax = Literal["jsonl", "json", "csv"]

DELIMITERS = (",", ";", "\t")

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Endings of text files of rows, lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as its file has it. `number` is as in `Problem.row`."""

    number: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A stretch of a file that is no row. `kind` is a key of `problems.REMEDIES`."""

    number: int
    kind: str
    found: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one file or split.

    Args:
        file: its name in messages.
        columns: every column that any row has, in order of appearance.
        rows: to be gone through once.
    """

    file: str
    columns: tuple[str, ...]
    rows: Iterable[Row | BadLine]


def read_table(path: Path, *, file: str, syntax: Syntax | None = None) -> Table:
    """Read a text file of rows.

    Args:
        path: the file.
        file: its name in messages.
        syntax: None decides by suffix and content (`syntax_of`).

    Returns:
        The file's rows and bad lines, in order.

    Raises:
        DataError: the file as a whole cannot be read as rows.
    """
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file}: the file is UTF-16; save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    syntax = syntax or syntax_of(path)
    if syntax == "csv":
        columns, rows = _csv_rows(content, file=file)
        return Table(file=file, columns=columns, rows=rows)
    rows = list(_json_lines(content) if syntax == "jsonl" else _json_list(content, file=file))
    if not rows:
        raise DataError(f"{file}: the file holds no rows")
    columns = {column: None for row in rows if isinstance(row, Row) for column in row.values}
    return Table(file=file, columns=tuple(columns), rows=rows)


def syntax_of(path: Path) -> Syntax:
    """Tell how a text file writes its rows: CSV by suffix, JSON by whether it opens with a bracket.

    Args:
        path: a file ending in .csv, .tsv, .txt, .jsonl, .ndjson or .json.

    Returns:
        "csv", "jsonl" or "json".

    Raises:
        DataError: neither suffix nor content tells.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return "csv"
    with path.open("rb") as opened:
        start = opened.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        return "json"
    if start.startswith(b"{") or suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".txt" and any(delimiter.encode() in start for delimiter in DELIMITERS):
        return "csv"
    raise DataError(f"{path}: neither JSON lines, a JSON list nor CSV; it starts with {start[:20]!r}")


def _loads(text: str) -> object:
    # Raw control characters inside strings are let through, so that their row keeps its id in the message.
    return json.loads(text, strict=False)


def _as_row(number: int, value: object, text: str) -> Row | BadLine:
    if isinstance(value, dict):
        return Row(number=number, values=value)
    found = f"a row is {shown(value)}, not an object of names and values"
    return BadLine(number=number, kind="wrong-type", found=found, text=text)


def _json_lines(content: bytes) -> Iterator[Row | BadLine]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        text = line.decode("utf-8", errors="replace").strip()
        try:
            line.decode("utf-8")
            yield _as_row(number, _loads(text), text)
        except UnicodeDecodeError as error:
            found = f"byte {line[error.start : error.start + 1]!r} at {error.start} is not UTF-8"
            yield BadLine(number=number, kind="bad-encoding", found=found, text=text)
        except (ValueError, RecursionError) as error:
            yield BadLine(number=number, kind="bad-json", found=f"not JSON ({error})", text=text)


def _json_list(content: bytes, *, file: str) -> Iterator[Row | BadLine]:
    # Bytes that are no UTF-8 become lone surrogates, which the row's own check then names.
    text = content.decode("utf-8", errors="surrogateescape")
    try:
        values = _loads(text)
    except (ValueError, RecursionError):
        yield from _broken_json_list(text)
        return
    if not isinstance(values, list):
        raise DataError(f"{file}: the file holds one {type(values).__name__}; a list of rows is needed")
    for number, value in enumerate(values):
        yield _as_row(number, value, "")


def _broken_json_list(text: str) -> Iterator[Row | BadLine]:
    """Read a list element by element; after a broken one, go on where the next row's first name appears."""
    decoder = json.JSONDecoder(strict=False)
    first_name = re.search(r'\{\s*("(?:[^"\\]|\\.)*")\s*:', text)
    next_row = re.compile(r"\{\s*" + re.escape(first_name[1]) + r"\s*:") if first_name else None
    separator, end = re.compile(r"\s*,?\s*"), re.compile(r"[\s\]]*\Z")
    position = text.index("[") + 1
    number = 0
    while True:
        position = separator.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty string
        if end.match(text, position):
            return
        start = position
        try:
            value, position = decoder.raw_decode(text, start)
            yield _as_row(number, value, text[start:position])
        except (ValueError, RecursionError) as error:
            following = next_row.search(text, start + 1) if next_row else None
            position = following.start() if following else len(text)
            line = text.count("\n", 0, start) + 1
            lost = "" if following else ", and no further row could be found"
            found = f"not JSON, from line {line} ({error}){lost}"
            yield BadLine(number=number, kind="bad-json", found=found, text=text[start:position])
        number += 1


def _csv_rows(content: bytes, *, file: str) -> tuple[tuple[str, ...], Iterator[Row | BadLine]]:
    text = content.decode("utf-8", errors="surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    if not text.strip():
        raise DataError(f"{file}: the file is empty")
    delimiter = sniff_delimiter(lines)
    try:
        header, num_header_lines = _csv_record(lines, 0, delimiter)
    except csv.Error as error:
        raise DataError(f"{file}:1: the header cannot be read ({error})") from None
    header = [name.strip() for name in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{file}:1: the header names {', '.join(map(shown, repeated))} twice; give each its own name")
    return tuple(header), _csv_body(lines, num_header_lines, header, delimiter)


def _csv_body(lines: list[str], start: int, header: list[str], delimiter: str) -> Iterator[Row | BadLine]:
    while start < len(lines):
        number, line = start + 1, lines[start]
        try:
            record, num_lines = _csv_record(lines, start, delimiter)
            fault = "" if len(record) == len(header) else f"{len(record)} fields where the header has {len(header)}"
        except csv.Error as error:
            record, num_lines, fault = [line], 1, f"not CSV ({error})"
        # An open quote swallows the lines after it, so after a fault reading starts again on the very next line.
        start += 1 if fault else num_lines
        if not line.strip() and num_lines == 1:
            continue
        encoded = "".join(record)
        if not encoded.isascii() and re.search("[\ud800-\udfff]", encoded):
            yield BadLine(number=number, kind="bad-encoding", found="bytes that are not UTF-8", text=line)
        elif fault:
            yield BadLine(number=number, kind="bad-csv", found=fault, text=line)
        else:
            yield Row(number=number, values=dict(zip(header, record, strict=True)))


def _csv_record(lines: list[str], start: int, delimiter: str) -> tuple[list[str], int]:
    """Read the record that starts at a line; returns its fields and how many lines it takes."""
    reader = csv.reader((lines[index] for index in range(start, len(lines))), delimiter=delimiter, strict=True)
    return next(reader, []), reader.line_num


def sniff_delimiter(lines: list[str]) -> str:
    """Tell which of comma, semicolon and tab separates the fields of a CSV file.

    Args:
        lines: the file's lines, the header first.

    Returns:
        The delimiter by which most of the first 50 lines have as many fields as the header, more fields first.
    """

    def fit(delimiter: str) -> tuple[bool, float, int]:
        counts = []
        for index in range(min(50, len(lines))):
            try:
                counts.append(len(_csv_record(lines, index, delimiter)[0]))
            except csv.Error:
                counts.append(0)
        return counts[0] > 1, sum(count == counts[0] for count in counts) / len(counts), counts[0]

    return max(DELIMITERS, key=fit)

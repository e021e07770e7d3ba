"""Rows from text files (JSON lines, JSON lists, CSV): a bad line is named, and costs no other line."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.data.problems import shown
from sightline.errors import DataError

Syntax = Literal["jsonl", "json", "csv"]

DELIMITERS = (",", ";", "\t")

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Endings of text files of rows, lower case."""

READ_AT_ONCE = 2**20
"""Characters of a JSON list that are read together."""

_BLANK = re.compile(r"[ \t\r\n]*")


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
        rows: in order; of a JSON file they can be gone through several times, and are read anew each time.
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
    with path.open("rb") as opened:
        if opened.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{file}: the file is UTF-16; save it as UTF-8")
    syntax = syntax or syntax_of(path)
    if syntax == "csv":
        header, lines = _csv_rows(path.read_bytes().removeprefix(codecs.BOM_UTF8), file=file)
        return Table(file=file, columns=header, rows=lines)
    rows = _JsonRows(path, _json_lines if syntax == "jsonl" else functools.partial(_json_list, file=file))
    columns: dict[str, None] = {}
    row = None
    for row in rows:
        columns |= dict.fromkeys(row.values) if isinstance(row, Row) else {}
    if row is None:
        raise DataError(f"{file}: the file holds no rows")
    return Table(file=file, columns=tuple(columns), rows=rows)


@dataclass(frozen=True, slots=True)
class _JsonRows:
    """The rows of a JSON file, read from it anew each time they are gone through: no more than a stretch is held."""

    path: Path
    read: Callable[[Path], Iterator[Row | BadLine]]

    def __iter__(self) -> Iterator[Row | BadLine]:
        return self.read(self.path)


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


def _json_lines(path: Path) -> Iterator[Row | BadLine]:
    with path.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            line = line.removesuffix(b"\n").removeprefix(codecs.BOM_UTF8 if number == 1 else b"")
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


def _json_list(path: Path, *, file: str) -> Iterator[Row | BadLine]:
    num_given = 0
    try:
        for value in _elements(path):
            yield _as_row(num_given, value, "")
            num_given += 1
        return
    except (ValueError, RecursionError):
        pass
    # Bytes that are no UTF-8 become lone surrogates, which the row's own check then names.
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")
    try:
        value = _loads(text)
    except (ValueError, RecursionError) as error:
        if "[" not in text:
            raise DataError(f"{file}: not JSON ({error}); a list of rows is needed") from None
        yield from itertools.islice(_broken_json_list(text), num_given, None)
    else:
        raise DataError(f"{file}: the file holds one {type(value).__name__}; a list of rows is needed")


def _elements(path: Path) -> Iterator[object]:
    """Read the elements of a JSON list one by one.

    Raises:
        ValueError: it is no list, or not whole; elements before the fault have been given.
    """
    decoder = json.JSONDecoder(strict=False)
    text, position = "", 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:

        def read_on() -> None:
            nonlocal text, position
            following = opened.read(max(READ_AT_ONCE, len(text) - position))
            if not following:
                raise ValueError("the list has no end")
            text, position = text[position:] + following, 0

        def next_sign() -> str:
            nonlocal position
            while True:
                position = _BLANK.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty string
                if position < len(text):
                    return text[position]
                read_on()

        sign = next_sign()
        if sign != "[":
            raise ValueError("no list")
        position += 1
        if next_sign() == "]":
            sign, position = "]", position + 1
        while sign != "]":
            next_sign()
            try:
                value, end = decoder.raw_decode(text, position)
            except ValueError:  # cut where reading stopped, or broken, which then shows at the end of the file
                end = len(text)
            if end == len(text):  # a number may go on, too
                read_on()
                continue
            yield value
            position = end
            sign = next_sign()
            if sign not in ",]":
                raise ValueError("no comma")
            position += 1
        if text[position:].strip(" \t\r\n") or opened.read().strip(" \t\r\n"):
            raise ValueError("something follows the list")


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

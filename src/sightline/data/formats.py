"""One door to every source of samples: finds out what it is, reads it, and says what was wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data import huggingface, pope, vqa_rad
from sightline.data.album import Album
from sightline.data.conversations import read_conversation, read_plain
from sightline.data.problems import REMEDIES, Loaded, Problem, shown
from sightline.data.row_reader import RowReader, salvage_id
from sightline.data.rows import BadLine, Row, Syntax, Table, read_table
from sightline.errors import DataError, MissingDataError
from sightline.records import Sample

FORMATS: Mapping[str, str] = {
    "csv": "image, question and answer in columns",
    "jsonl": "one row of image, question and answer on each line",
    "json": "a list of rows of image, question and answer",
    "llava": "conversations (from, value) or messages (role, content), in any kind of file",
    "huggingface": "parquet files, a saved dataset, or a name on the hub",
    "vqa_rad": "the original VQA-RAD release",
    "pope": "POPE's label files",
}
"""Every format by name, with what it holds."""

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "images", "image_path", "image_name", "img_name", "img", "file_name"),
    "question": ("question", "prompt", "instruction"),
    "answer": ("answer", "label", "response", "output"),
    "conversations": ("conversations", "messages"),
    "id": ("id", "qid", "question_id"),
}
"""Our name of a field to the column names that are taken for it when `columns` says nothing, best first."""

TAG_COLUMNS = (
    "answer_type", "question_type", "content_type", "organ", "modality", "body_part", "category", "q_lang"
)  # fmt: skip
"""Columns that are kept as tags when `columns` says nothing."""

ReadRow = Callable[[RowReader, Mapping[str, str], Sequence[str], Album], list[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A source whose nature is known: its tables by split, how to read a row, and where its pictures start."""

    tables: Mapping[str, Table]
    read_row: ReadRow
    images: Path
    tags: tuple[str, ...] = TAG_COLUMNS


def load_source(
    source: str,
    *,
    root: Path,
    format: str | None = None,
    subset: str | None = None,
    columns: Mapping[str, object] | None = None,
    take: int | None = None,
    where: Mapping[str, object] | None = None,
    images: str | None = None,
    with_pictures: bool = True,
) -> dict[str, Loaded]:
    """Read samples from a file, a folder or a dataset of the hub.

    Args:
        source: path from `root`, or a name on the hub (owner/name).
        root: where relative paths start from.
        format: a key of `FORMATS`; None finds out.
        subset: which configuration of a Hugging Face dataset.
        columns: our field names (image, question, answer, conversations, id, tags) to the source's columns;
            `id: None` numbers the rows; `tags` takes a list.
        take: at most so many rows of each split, the first ones.
        where: column, or our name of it, to the value or values a row must have.
        images: folder that picture paths start from; None takes the one the format knows, or the file's own.
        with_pictures: False takes pictures by name alone, for scoring where only labels are at hand.

    Returns:
        Split name, as the source has it ("all" when it has none), to what it held.

    Raises:
        MissingDataError: file, folder or dataset is not there; says what to fetch, from where, and where to put it.
        DataError: the source cannot be understood; says what was found and what would help.
    """
    columns = dict(columns or {})
    for name in columns:
        if name not in (*COLUMN_NAMES, "tags"):
            raise DataError(f"`columns` has no field {name!r}; {_nearest(name, (*COLUMN_NAMES, 'tags'))}")
    if format is not None and format not in FORMATS:
        raise DataError(f"no data format {format!r}; {_nearest(format, FORMATS)}")
    folder = root / images if images is not None else None
    if folder is not None and with_pictures and not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder of images; correct `images`")
    opened = _open_source(source, root=root, format=format, subset=subset, folder=folder, with_pictures=with_pictures)
    album = Album(opened.images, with_pictures=with_pictures)
    return {
        split: _load_table(
            table, read_row=opened.read_row, columns=columns, tags=opened.tags, album=album, take=take, where=where
        )
        for split, table in opened.tables.items()
    }


def _open_source(
    source: str, *, root: Path, format: str | None, subset: str | None, folder: Path | None, with_pictures: bool
) -> _Opened:
    path = root / source
    if not path.exists() and (format not in (None, "huggingface", "llava") or not huggingface.is_name(source)):
        raise MissingDataError(f"{path}: no such file or folder; correct `source`, which starts from {root}")
    if format == "huggingface" or not path.exists() or (format in (None, "llava") and huggingface.is_local(path)):
        tables = huggingface.read_tables(source, root=root, subset=subset)
        beside = path.parent if path.is_file() else path
        return _Opened(tables=tables, read_row=_row_kind(format, source, tables), images=folder or beside)

    files = _files_of(path, format)
    first = next(iter(files.values()))
    syntax: Syntax | None = {"csv": "csv", "jsonl": "jsonl", "json": "json"}.get(format or "")  # type: ignore[assignment]
    tables = {split: read_table(file, file=_file_name(file, root), syntax=syntax) for split, file in files.items()}
    format = format or _recognise(tables)
    if format == "vqa_rad":
        images = folder or (vqa_rad.find_images(first) if with_pictures else first.parent)
        split = vqa_rad.split_release(next(iter(tables.values())))
        return _Opened(tables=split, read_row=read_plain, images=images, tags=vqa_rad.TAGS)
    if format == "pope":
        images = folder or (pope.find_images(first.parent) if with_pictures else first.parent)
        labels = {
            split: pope.label_rows(table, category=pope.category_of(files[split])) for split, table in tables.items()
        }
        return _Opened(tables=labels, read_row=read_plain, images=images, tags=pope.TAGS)
    return _Opened(tables=tables, read_row=_row_kind(format, source, tables), images=folder or first.parent)


def _files_of(path: Path, format: str | None) -> dict[str, Path]:
    """Choose the files of a source by split: the file itself, or the only one its folder can mean."""
    if path.is_file():
        return {"all": path}
    if format in (None, "vqa_rad") and (release := vqa_rad.find_release(path)):
        return {"all": release}
    if format in (None, "pope") and (labels := pope.find_label_files(path)):
        return labels
    suffixes = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    if len(files) == 1:
        return {"all": files[0]}
    names = ", ".join(file.name for file in files[:10])
    found = f"it holds {names}; let `source` name one" if files else f"it holds none of {', '.join(suffixes)}, parquet"
    raise DataError(f"{path}: which file of this folder is meant? {found}")


def _file_name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name


def _recognise(tables: Mapping[str, Table]) -> str | None:
    """Recognise the releases whose columns are their own; any other file is told apart by `_row_kind`."""
    columns = {column for table in tables.values() for column in table.columns}
    if columns >= vqa_rad.MARKS:
        return "vqa_rad"
    return "pope" if columns >= pope.MARKS else None


def _row_kind(format: str | None, source: str, tables: Mapping[str, Table]) -> ReadRow:
    """Tell rows of turns from rows of question and answer."""
    if format == "llava":
        return read_conversation
    columns = {column for table in tables.values() for column in table.columns}
    has_turns = any(name in columns for name in COLUMN_NAMES["conversations"])
    has_answer = any(name in columns for name in COLUMN_NAMES["answer"])
    if has_turns and has_answer and format is None:
        raise DataError(
            f"{source}: rows have turns as well as an answer ({', '.join(sorted(columns))}); "
            "set `format: llava` for the turns, or the file's own format (csv, jsonl, json) for question and answer"
        )
    return read_conversation if has_turns and not has_answer else read_plain


def _load_table(
    table: Table,
    *,
    read_row: ReadRow,
    columns: Mapping[str, object],
    tags: Sequence[str],
    album: Album,
    take: int | None,
    where: Mapping[str, object] | None,
) -> Loaded:
    fields = _resolve_fields(table, columns, read_row)
    tag_columns = _tag_columns(table, columns, tags)
    wanted = _wanted(table, fields, where or {})
    samples: list[Sample] = []
    problems: list[Problem] = []
    first_number: dict[str, int] = {}
    num_rows = 0
    for row in table.rows:
        if isinstance(row, Row) and not _matches(row, wanted):
            continue
        if take is not None and num_rows == take:
            break
        num_rows += 1
        if isinstance(row, BadLine):
            problems.append(_bad_line(row, table.file, fields.get("id")))
            continue
        reader = _row_reader(row, table.file, fields.get("id"))
        read = read_row(reader, fields, tag_columns, album)
        if reader.id in first_number:
            reader.report("duplicate-id", f"id {shown(reader.id)} is also that of row {first_number[reader.id]}")
        first_number.setdefault(reader.id, row.number)
        if not reader.at_fault:
            samples.extend(read)
        problems.extend(reader.problems)
    return Loaded(samples=tuple(samples), problems=tuple(problems), num_rows=num_rows, fields=fields)


def _bad_line(line: BadLine, file: str, id_column: str | None) -> Problem:
    return Problem(
        file=file, row=line.number, id=salvage_id(line, id_column), kind=line.kind, found=line.found,
        remedy=REMEDIES[line.kind],
    )  # fmt: skip


def _row_reader(row: Row, file: str, id_column: str | None) -> RowReader:
    reader = RowReader(file=file, row=row, id=str(row.number))
    if id_column is None:
        return reader
    value = row.values.get(id_column)
    if value is None or value == "":
        reader.report("missing-key", f"no {shown(id_column)}, the column of the id")
    elif not isinstance(value, str | int) or isinstance(value, bool):
        reader.report("wrong-type", f"{shown(id_column)} is {shown(value)}, not a text or a number")
    else:
        reader.id = reader.checked(str(value), "id")
    return reader


def _resolve_fields(table: Table, columns: Mapping[str, object], read_row: ReadRow) -> dict[str, str]:
    is_plain = read_row is read_plain
    needed = ("image", "question", "answer") if is_plain else ("conversations",)
    fields: dict[str, str] = {}
    for name in (*needed, "id") if is_plain else (*needed, "image", "id"):
        if name in columns:
            column = columns[name]
            if column is None and name == "id":
                continue
            if column not in table.columns:
                nearest = _nearest(str(column), table.columns)
                raise DataError(f"{table.file}: no column {column!r} for {name}; {nearest}")
            fields[name] = str(column)
            continue
        column = next((known for known in COLUMN_NAMES[name] if known in table.columns), None)
        if column is not None:
            fields[name] = column
        elif name in needed:
            raise DataError(
                f"{table.file}: which column holds the {name}? It has {', '.join(table.columns) or 'none'}; name it "
                f"under `columns: {{{name}: ...}}`, or let `sightline init` guess"
            )
    return fields


def _tag_columns(table: Table, columns: Mapping[str, object], tags: Sequence[str]) -> list[str]:
    wanted = columns.get("tags")
    if wanted is None:
        return [column for column in tags if column in table.columns]
    named = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else []
    for column in named:
        if column not in table.columns:
            raise DataError(f"{table.file}: no column {column!r} for a tag; {_nearest(str(column), table.columns)}")
    return [str(column) for column in named]


def _wanted(table: Table, fields: Mapping[str, str], where: Mapping[str, object]) -> dict[str, set[str]]:
    wanted = {}
    for name, values in where.items():
        column = name if name in table.columns else fields.get(name)
        if column is None:
            raise DataError(f"{table.file}: `where` asks for {name!r}; {_nearest(name, table.columns)}")
        several = values if isinstance(values, list | tuple | set) else [values]
        wanted[column] = {str(value).strip().casefold() for value in several}
    return wanted


def _matches(row: Row, wanted: Mapping[str, set[str]]) -> bool:
    return all(str(row.values.get(column)).strip().casefold() in values for column, values in wanted.items())


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"

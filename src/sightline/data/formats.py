"""One door to every source of samples: finds out what it is, reads it, and says what was wrong."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.data import (
    archives,
    coco,
    drafts,
    ha_dpo,
    huggingface,
    path_vqa,
    pope,
    pubmedvision,
    shr,
    slake,
    tokens,
    vqa_med,
    vqa_rad,
)  # fmt: skip
from sightline.data.album import Album
from sightline.data.columns import (
    COLUMN_NAMES,
    check_names,
    has_values,
    nearest,
    resolve_fields,
    tag_columns,
    wanted_values,
)  # fmt: skip
from sightline.data.conversations import read_conversation, read_plain, read_text_first
from sightline.data.fetching import fetch, is_name
from sightline.data.problems import REMEDIES, Loaded, Problem, shown
from sightline.data.release import Asked, Opened, OpenRelease, ReadRow
from sightline.data.releases import release_of
from sightline.data.row_reader import RowReader, salvage_id
from sightline.data.rows import TEXT_SUFFIXES, BadLine, Row, Syntax, Table
from sightline.errors import DataError, MissingDataError
from sightline.records import Sample

FORMATS: Mapping[str, str] = {
    "csv": "image, question and answer in columns",
    "jsonl": "one row of image, question and answer on each line",
    "json": "a list of rows of image, question and answer",
    "llava": "conversations (from, value) or messages (role, content), in any kind of file",
    "huggingface": "parquet files, a saved dataset, or whatever else `datasets` reads",
    "vqa_rad": "VQA-RAD, the original release or the hub's copy",
    "path_vqa": "PathVQA as the hub has it",
    "slake": "SLAKE, English and Chinese",
    "vqa_med": "VQA-Med 2019",
    "pubmedvision": "PubMedVision, several pictures to a question",
    "pope": "POPE's label files",
    "coco": "boxes and masks in COCO's format, as questions: is it there, where, how many",
    "shr": "SHR's pictures with what is known of them",
    "ha_dpo": "HA-DPO's preference pairs",
    "drafts": "questions and answers an engine drafted, those that a person accepted",
    "tokens": "rows that come tokenised: input_ids and labels, in any kind of file",
}
"""Every format by name, with what it holds."""

IN_ANY_FILE = ("llava", "tokens")
"""Formats of rows, whatever kind of file or hub they lie in."""

FIELDS: Mapping[ReadRow, tuple[tuple[str, ...], tuple[str, ...]]] = {
    read_plain: (("image", "question", "answer"), ("id",)),
    coco.read_question: (("image", "question", "answer"), ("id",)),
    read_conversation: (("conversations",), ("image", "id")),
    read_text_first: (("conversations", "image"), ("id",)),
    tokens.read_tokens: (("input_ids", "labels"), ("image", "id")),
}
"""Each kind of row with the fields it must have and those it may have, by our names."""


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
    """Read samples from a file, a folder, an archive or a dataset of the hub.

    Args:
        source: path from `root`, or a name on the hub (owner/name, or owner/name@COMMIT).
        root: where relative paths start from.
        format: a key of `FORMATS`; None finds out.
        subset: which configuration of a Hugging Face dataset.
        columns: our field names (image, question, answer, conversations, id, tags) to the source's columns;
            `id: None` numbers the rows; `image: None` reads text alone, and `image: [column, None]` text alone where
            that column is empty; `tags` takes a list.
        take: at most so many rows of each split, the first ones.
        where: column, or our name of it, to the value or values a row must have.
        images: folder or archive that picture paths start from; None takes the one the format knows, or the file's own.
        with_pictures: False takes pictures by name alone, for scoring where only labels are at hand.

    Returns:
        Split name, as the source has it ("all" when it has none), to what it held.

    Raises:
        MissingDataError: file, folder or dataset is not there; says what to fetch, from where, and where to put it.
        DataError: the source cannot be understood; says what was found and what would help.
    """
    columns = dict(columns or {})
    check_names(columns)
    if format is not None and format not in FORMATS:
        raise DataError(f"no data format {format!r}; {nearest(format, FORMATS)}")
    asked = _find(source, root=root, format=format, subset=subset, images=images, with_pictures=with_pictures)
    opened = _open(asked)
    with Album(*opened.images, with_pictures=with_pictures) as album:
        return {
            split: _load_table(
                table, read_row=opened.read_row, columns=columns, tags=opened.tags, album=album, take=take, where=where
            )
            for split, table in opened.tables.items()
        }


def _find(
    source: str, *, root: Path, format: str | None, subset: str | None, images: str | None, with_pictures: bool
) -> Asked:
    """Find what a source names: a path, an archive, which is unpacked, or a name on the hub, which is fetched."""
    folders: tuple[Path, ...] = ()
    if images is not None:
        folders = archives.folders_of(root / images) if with_pictures else (root / images,)
    path, names_from, prefix = root / source, root, ""
    if not path.exists():
        if not is_name(source):
            release = release_of(source, format)
            if release:
                raise release.missing(path, "no such file or folder")
            raise MissingDataError(f"{path}: no such file or folder; correct `source`, which starts from {root}")
        path = names_from = fetch(source, subset=subset).folder
        prefix = f"{source}/"
    elif archives.is_archive(path):
        path = archives.inner_folder(archives.unpack(path))
    return Asked(
        source=source, path=path, root=names_from, prefix=prefix, format=format, subset=subset, images=folders,
        with_pictures=with_pictures,
    )  # fmt: skip


def _open(asked: Asked) -> Opened:
    format = asked.format
    for name, open_release in OPENERS.items():
        if format in (None, name) and (opened := open_release(asked)):
            return opened
    if format is not None and format in OPENERS:
        release = release_of("", format)
        raise release.missing(asked.path, "not it") if release else DataError(f"{asked.path}: not {FORMATS[format]}")
    files = _text_files(asked)
    if format == "huggingface" or (format in (None, *IN_ANY_FILE) and not files and huggingface.is_local(asked.path)):
        tables = huggingface.read_tables(asked)
        folder = asked.path.parent if asked.path.is_file() else asked.path
    else:
        files = files or _files_of(asked.path)
        syntax: Syntax | None = {"csv": "csv", "jsonl": "jsonl", "json": "json"}.get(format or "")  # type: ignore[assignment]
        tables = {split: asked.table(file, syntax) for split, file in files.items()}
        folder = next(iter(files.values())).parent
    return Opened(tables=tables, read_row=_row_kind(format, asked.source, tables), images=asked.images or (folder,))


OPENERS: Mapping[str, OpenRelease] = {
    "coco": coco.open_release,
    "vqa_rad": vqa_rad.open_release,
    "path_vqa": path_vqa.open_release,
    "slake": slake.open_release,
    "vqa_med": vqa_med.open_release,
    "pubmedvision": pubmedvision.open_release,
    "pope": pope.open_release,
    "shr": shr.open_release,
    "ha_dpo": ha_dpo.open_release,
    "drafts": drafts.open_drafts,
}
"""What opens each published data set, in the order in which they are asked whether a source is theirs."""


def _text_files(asked: Asked) -> dict[str, Path]:
    """Find the text file of each split in a folder whose card, or whose files' names, tell the splits."""
    if asked.path.is_file():
        return {}
    declared = huggingface.declared_files(asked.path, asked.subset, where=asked.source)
    if declared and all(len(files) == 1 and files[0].suffix in TEXT_SUFFIXES for files in declared.values()):
        return {split: files[0] for split, files in declared.items()}
    named = [file for file in sorted(asked.path.iterdir()) if file.suffix in TEXT_SUFFIXES]
    return {file.stem: file for file in named} if _are_splits(named) else {}


def _are_splits(files: Sequence[Path]) -> bool:
    stems = [file.stem for file in files]
    return len(stems) > 1 and len(set(stems)) == len(stems) and set(stems) <= set(huggingface.SPLIT_NAMES)


def _files_of(path: Path) -> dict[str, Path]:
    """Take the file, or the only one its folder can mean."""
    if path.is_file():
        return {"all": path}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in TEXT_SUFFIXES)
    if len(files) == 1:
        return {"all": files[0]}
    names = ", ".join(file.name for file in files[:10])
    suffixes = ", ".join(TEXT_SUFFIXES)
    found = f"it holds {names}; let `source` name one" if files else f"it holds none of {suffixes}, parquet"
    raise DataError(f"{path}: which file of this folder is meant? {found}")


def _row_kind(format: str | None, source: str, tables: Mapping[str, Table]) -> ReadRow:
    """Tell rows of turns from rows of question and answer."""
    if format == "llava":
        return read_conversation
    columns = {column for table in tables.values() for column in table.columns}
    if format == "tokens" or (format is None and columns >= tokens.MARKS):
        return tokens.read_tokens
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
    needed, optional = FIELDS[read_row]
    found = resolve_fields(table, columns, needed=needed, optional=optional)
    fields = found.columns
    tagged = tag_columns(table, columns, tags)
    wanted = wanted_values(table, fields, where or {})
    samples: list[Sample] = []
    problems: list[Problem] = []
    first_number: dict[str, int] = {}
    num_rows = 0
    chosen = (row for row in table.rows if isinstance(row, BadLine) or has_values(row, wanted))
    for row in album.ahead(itertools.islice(chosen, take), fields.get("image")):
        num_rows += 1
        if isinstance(row, BadLine):
            problems.append(_bad_line(row, table.file, fields.get("id")))
            continue
        reader = _row_reader(row, table.file, fields.get("id"))
        reader.needs_picture = found.needs_picture
        read = read_row(reader, fields, tagged, album)
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

"""Which column of a table holds what: by the study's `columns`, else by the names that columns usually have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sightline.data.rows import Row, Table
from sightline.errors import DataError

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "images", "image_path", "image_name", "img_name", "img", "file_name"),
    "question": ("question", "prompt", "instruction"),
    "answer": ("answer", "label", "response", "output"),
    "conversations": ("conversations", "messages"),
    "input_ids": ("input_ids",),
    "labels": ("labels",),
    "id": ("id", "qid", "question_id"),
}
"""Our name of a field to the column names that are taken for it when `columns` says nothing, best first."""


class NoColumnError(DataError):
    """No column can be taken for a needed field.

    Args:
        table: which has none.
        field: a key of `COLUMN_NAMES`.
        remedy: what to do.
    """

    def __init__(self, table: Table, field: str, remedy: str) -> None:
        super().__init__(
            f"{table.file}: which column holds the {field}? It has {', '.join(table.columns) or 'none'}; {remedy}"
        )
        self.table, self.field = table, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where a table's rows have their parts.

    Args:
        columns: our name of a field to the table's column.
        needs_picture: whether a row whose picture is left out is at fault.
    """

    columns: Mapping[str, str]
    needs_picture: bool


def check_names(columns: Mapping[str, object]) -> None:
    """Refuse a `columns` that names a field which does not exist.

    Raises:
        DataError: naming the nearest field.
    """
    for name in columns:
        if name not in (*COLUMN_NAMES, "tags"):
            raise DataError(f"`columns` has no field {name!r}; {nearest(name, (*COLUMN_NAMES, 'tags'))}")


def resolve_fields(
    table: Table, columns: Mapping[str, object], *, needed: Sequence[str], optional: Sequence[str]
) -> Fields:
    """Find the columns of a table.

    Args:
        table: its columns are looked at, its rows are not.
        columns: the study's. `id: null` numbers the rows; `image: null` reads text alone, and
            `image: [COLUMN, null]` text alone where that column is empty.
        needed: our names of the fields a row must have.
        optional: our names of those it may have.

    Returns:
        The fields that the table has.

    Raises:
        DataError: a column is not there, or none can be taken for a needed field.
    """
    image = columns.get("image", "")
    is_mixed = isinstance(image, list) and len(image) == 2 and image[1] is None
    fields: dict[str, str] = {}
    for name in (*needed, *optional):
        column = columns.get(name, "")
        if name == "image" and is_mixed and isinstance(image, list):
            column = image[0]
        if column is None and name in ("id", "image"):
            continue
        if name in columns:
            if not isinstance(column, str) or column not in table.columns:
                raise DataError(f"{table.file}: no column {column!r} for {name}; {nearest(str(column), table.columns)}")
            fields[name] = column
            continue
        known = next((known for known in COLUMN_NAMES[name] if known in table.columns), None)
        if known is not None:
            fields[name] = known
        elif name in needed:
            raise NoColumnError(table, name, f"name it under `columns: {{{name}: ...}}`, or let `sightline init` guess")
    return Fields(columns=fields, needs_picture=not is_mixed)


def tag_columns(table: Table, columns: Mapping[str, object], usual: Sequence[str]) -> list[str]:
    """Choose the columns that become tags: those the study names, else the usual ones that are there."""
    wanted = columns.get("tags")
    if wanted is None:
        return [column for column in usual if column in table.columns]
    named = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else []
    for column in named:
        if column not in table.columns:
            raise DataError(f"{table.file}: no column {column!r} for a tag; {nearest(str(column), table.columns)}")
    return [str(column) for column in named]


def wanted_values(table: Table, fields: Mapping[str, str], where: Mapping[str, object]) -> dict[str, set[str]]:
    """Turn `where` into the values that a row's columns must have, as `has_values` compares them."""
    wanted = {}
    for name, values in where.items():
        column = name if name in table.columns else fields.get(name)
        if column is None:
            raise DataError(f"{table.file}: `where` asks for {name!r}; {nearest(name, table.columns)}")
        several = values if isinstance(values, list | tuple | set) else [values]
        wanted[column] = {str(value).strip().casefold() for value in several}
    return wanted


def has_values(row: Row, wanted: Mapping[str, set[str]]) -> bool:
    """Say whether a row has one of the wanted values in every column asked for; case and outer blanks do not count."""
    return all(str(row.values.get(column)).strip().casefold() in values for column, values in wanted.items())


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the name that may have been meant, or list them all."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"

"""Drafts: questions and answers that an engine proposed, of which only those a person accepted are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.data.conversations import read_plain
from sightline.data.problems import shown
from sightline.data.release import Asked, Opened
from sightline.data.rows import BadLine, Row, Table, read_table
from sightline.errors import DataError

TAGS = ("domain", "ambiguity", "prompt_type")
MARKS = frozenset({"accepted", "image", "question", "answer", *TAGS})
"""Columns by which a file of drafts is recognised, lest rows that nobody accepted be taken for data."""

COLUMNS = ("id", "image", "question", "answer", *TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCounts:
    """How far the reading of a file of drafts is.

    Args:
        num_accepted: rows that are used.
        num_declined: rows with `accepted: false`.
        num_waiting: rows about which nobody has decided.
        num_failed: replies of the engine that were no draft.
    """

    num_accepted: int
    num_declined: int
    num_waiting: int
    num_failed: int

    def __str__(self) -> str:
        return (
            f"{self.num_accepted} drafts are accepted, {self.num_declined} declined, {self.num_waiting} wait for a "
            f"person, and {self.num_failed} replies were no draft"
        )


def open_drafts(asked: Asked) -> Opened | None:
    """Open a file of drafts as `generation.drafting` writes it.

    Args:
        asked: the file, JSON lines; its pictures start from the study's `images`, else from the file's folder.

    Returns:
        One split, "all", of the rows with `accepted: true`; None when this is no file of drafts.

    Raises:
        DataError: nothing is accepted yet; says how many drafts wait.
    """
    file = asked.path
    if not file.is_file() or file.suffix != ".jsonl":
        return None
    table = asked.table(file)
    if asked.format is None and not set(table.columns) >= MARKS:
        return None
    counts = count_drafts(file)
    rows = list(_accepted(table))
    if not rows:
        raise DataError(f'{table.file}: {counts}; read them, and write "accepted": true into those to be used')
    return Opened(
        tables={"all": Table(file=table.file, columns=COLUMNS, rows=rows)},
        read_row=read_plain,
        images=asked.images or (file.parent,),
        tags=TAGS,
    )


def count_drafts(file: Path) -> DraftCounts:
    """Count what people have decided about a file's drafts; lines that cannot be read are in none of the counts.

    Args:
        file: JSON lines.
    """
    rows = [row.values for row in read_table(file, file=file.name, syntax="jsonl").rows if isinstance(row, Row)]
    decided = [row.get("accepted") for row in rows if not has_failed(row)]
    return DraftCounts(
        num_accepted=sum(accepted is True for accepted in decided),
        num_declined=sum(accepted is False for accepted in decided),
        num_waiting=sum(accepted is None for accepted in decided),
        num_failed=sum(map(has_failed, rows)),
    )


def has_failed(row: Mapping[str, object]) -> bool:
    """Say whether a row holds a reply that was no draft, and that nobody has made one of."""
    return bool(row.get("fault")) and row.get("accepted") is not True


def _accepted(table: Table) -> Iterator[Row | BadLine]:
    for row in table.rows:
        if isinstance(row, BadLine):
            yield row
            continue
        accepted = row.values.get("accepted")
        if accepted is True:
            yield row
        elif accepted is not False and accepted is not None:
            found = f"`accepted` is {shown(accepted)}, not true, false or null"
            yield BadLine(number=row.number, kind="wrong-type", found=found, text="")

"""What is known of a published data set, and how one is opened: the two records that every set's own file fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.album import Album
from sightline.data.row_reader import RowReader
from sightline.data.rows import Syntax, Table, read_table
from sightline.errors import MissingDataError
from sightline.records import Sample

TAG_COLUMNS = (
    "answer_type", "question_type", "content_type", "organ", "modality", "body_part", "category", "q_lang"
)  # fmt: skip
"""Columns that are kept as tags when `columns` says nothing."""

ReadRow = Callable[[RowReader, Mapping[str, str], Sequence[str], Album], list[Sample]]
"""Makes samples of a row: its reader, our field names to its columns, the columns kept as tags, its pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One published form of a data set: where it is, how large it is, under which licence.

    Args:
        title: its name in sentences.
        format: the key of `formats.FORMATS` that reads it.
        address: where a person fetches it.
        files: what to fetch there.
        layout: files and folders as they are expected, one to a line, from the folder that `source` names.
        num_bytes: size of the download; None where it is not known.
        licence: SPDX identifier, or the publisher's own words; None where it is not known.
        hub: its name on the Hugging Face hub (owner/name); None where it is not there.
        revision: the commit of the hub that is taken unless the study names another.
        wanted: patterns of the hub's files that are needed, where its card does not tell; "{subset}" stands for the
            study's `subset`.
        subsets: values of `subset` between which the study must choose; empty where there is one set only.
    """

    title: str
    format: str
    address: str
    files: str
    layout: tuple[str, ...]
    num_bytes: int | None
    licence: str | None
    hub: str | None = None
    revision: str | None = None
    wanted: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()

    def to_fetch(self) -> str:
        """Say what to fetch, from where, how large it is, under which licence, and how it must lie."""
        licence = self.licence or "licence to be looked up there"
        lines = [
            f"fetch {self.files} from {self.address} ({size_in_words(self.num_bytes)}; {licence}), "
            "so that the folder that `source` names holds:",
            *(f"  {line}" for line in self.layout),
        ]
        if self.hub:
            lines.append(f"or set `source: {self.hub}`, which is fetched by itself")
        return "\n".join(lines)

    def missing(self, where: Path | str, found: str) -> MissingDataError:
        """Make the error for a set that is not there, or not whole.

        Args:
            where: the folder or file looked at.
            found: what is there instead.
        """
        return MissingDataError(f"{where}: {found}; this should be {self.title}: {self.to_fetch()}")


def size_in_words(num_bytes: int | None) -> str:
    """Write a size for people: "216 MB"."""
    if num_bytes is None:
        return "size not known"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes} bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a study asks of a source, once it is on this machine.

    Args:
        source: as the study names it.
        path: the file or folder.
        root: what names of files in messages start from.
        prefix: goes before these names, where they would not tell the data set.
        format: the format that the study names, if it does.
        subset: which part of the source.
        images: the folders that the study wants pictures from; empty leaves it to the format.
        with_pictures: False takes pictures by name alone.
    """

    source: str
    path: Path
    root: Path
    prefix: str = ""
    format: str | None = None
    subset: str | None = None
    images: tuple[Path, ...] = ()
    with_pictures: bool = True
    _tables: dict[Path, Table] = field(default_factory=dict)

    def named(self, file: Path) -> str:
        """Name a file as messages do."""
        return self.prefix + (file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name)

    def table(self, file: Path, syntax: Syntax | None = None) -> Table:
        """Read a text file of rows, once however many formats look at it."""
        if file not in self._tables:
            self._tables[file] = read_table(file, file=self.named(file), syntax=syntax)
        return self._tables[file]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A source whose nature is known.

    Args:
        tables: its rows, split by split.
        read_row: how a row becomes samples.
        images: the folders its pictures are looked for in, in order.
        tags: columns that become tags when `columns` names none.
    """

    tables: Mapping[str, Table]
    read_row: ReadRow
    images: tuple[Path, ...]
    tags: tuple[str, ...] = TAG_COLUMNS


OpenRelease = Callable[[Asked], Opened | None]
"""Opens a source that is of this data set; None when it is not. Raises MissingDataError when it is not whole."""

"""Where the pictures of a source lie: found inside one folder, read once however many rows use them."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import unquote

from sightline.data.decoders import Decoders
from sightline.data.known_pictures import KnownPictures, known_pictures
from sightline.data.pictures import SUFFIXES, PictureError, name_only
from sightline.data.problems import shown
from sightline.data.rows import BadLine, Row
from sightline.records import Picture

PICTURES_AHEAD = 512
"""Pictures that are decoded before their rows are reached."""

ROWS_AHEAD = 20_000
"""Rows that are looked through for them."""

BYTES_AHEAD = 256 * 2**20
"""Encoded pictures that such rows may hold."""

Found = TypeVar("Found")

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|(data|file):")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DRIVE = re.compile(r"[a-zA-Z]:")


def find_in(folders: Sequence[Path], written: str) -> Path:
    """Find a picture's file in the first folder that has it, without ever leaving any of them.

    Args:
        folders: in the order they are looked in; one at least.
        written: the path as the data wrote it.

    Returns:
        The resolved path of an existing file inside one of the folders.

    Raises:
        PictureError: as `find_inside` raises it for the first folder.
    """
    first: PictureError | None = None
    for folder in folders:
        try:
            return find_inside(folder, written)
        except PictureError as error:
            if error.kind not in ("missing-image", "path-escape"):  # what no other folder can mend
                raise
            first = first or error
    assert first is not None, "there is a folder to look in"
    raise first


def find_inside(folder: Path, written: str) -> Path:
    """Find a picture's file without ever leaving its folder; a name without suffix finds the one file it fits.

    Args:
        folder: the images folder.
        written: the path as the data wrote it; relative, or absolute inside the folder.

    Returns:
        The resolved path of an existing file inside the folder.

    Raises:
        PictureError: the path leads elsewhere, is an address, or names no file or several.
    """
    _refuse_escape(written)
    # os.path answers for names that are too long and for circular links, where pathlib raises.
    inside = folder.resolve()
    file, mark, frame = written.rpartition("#")
    if mark and frame.isdecimal() and not os.path.isfile(inside / written):
        return Path(f"{find_inside(folder, file)}#{frame}")  # a frame of a DICOM file
    path = Path(os.path.realpath(inside / written))
    if path.suffix.lower() not in SUFFIXES and not os.path.isfile(path):
        endings = [ending for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
        fitting = [Path(f"{path}{ending}") for ending in endings if os.path.isfile(f"{path}{ending}")]
        if len(fitting) > 1:
            names = ", ".join(sorted(found.name for found in fitting))
            raise PictureError("ambiguous-image", f"image {shown(written)} may be any of {names}")
        path = fitting[0].resolve() if fitting else path
    if not path.is_relative_to(inside):
        raise PictureError("path-escape", f"image path {shown(written)} leads out of the images folder")
    if os.path.isfile(path):
        return path
    raise PictureError("missing-image", f"no file {shown(written)} in {folder}")


def _refuse_escape(written: str) -> None:
    if "\0" in written:
        raise PictureError("nul-byte", f"image path {shown(written)} holds a NUL character")
    if _SURROGATE.search(written):
        raise PictureError("lone-surrogate", f"image path {shown(written)} holds half of a surrogate pair")
    if _ADDRESS.match(written):
        raise PictureError("remote-image", f"image {shown(written)} is an address")
    # Whoever stored the name may have encoded it, so what it decodes to is refused as well.
    for text in (written, unquote(written)):
        if ".." in re.split(r"[\\/]", text) or text.startswith(("~", "\\", "//")) or _DRIVE.match(text):
            raise PictureError("path-escape", f"image path {shown(written)} leads out of the images folder")


class Album:
    """The pictures of one source; to be closed, which ends the processes that decode.

    Args:
        folders: where paths start from, and which none may leave; looked in one after the other.
        with_pictures: False takes pictures by name alone, without looking for files.
        decoders: what decodes; by default processes on every core.
        known: what is known of pictures; by default the user's.
    """

    def __init__(
        self,
        *folders: Path,
        with_pictures: bool = True,
        decoders: Decoders | None = None,
        known: KnownPictures | None = None,
    ):
        self.folders = folders
        self.with_pictures = with_pictures
        self._decoders = decoders or Decoders()
        self._given = known
        self._found: dict[str, Path | PictureError] = {}
        self._seen: dict[Path | bytes, tuple[Picture, tuple[str, ...]] | PictureError] = {}

    @functools.cached_property
    def _known(self) -> KnownPictures:
        return self._given or known_pictures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.close()
        if self.with_pictures:
            self._known.write()

    def ahead(self, rows: Iterable[Row | BadLine], column: str | None) -> Iterator[Row | BadLine]:
        """Give rows on, while the pictures of those to come are decoded.

        Args:
            rows: in order.
            column: where their pictures stand; a picture that is elsewhere is decoded when its row comes.

        Returns:
            The same rows in the same order.
        """
        if column is None or not self.with_pictures or self._decoders.num_processes == 0:
            yield from rows
            return
        waiting: deque[tuple[Row | BadLine, int]] = deque()
        num_bytes = 0
        for row in rows:
            weight = self._ask(row.values.get(column)) if isinstance(row, Row) else 0
            waiting.append((row, weight))
            num_bytes += weight
            while waiting and (
                len(waiting) > ROWS_AHEAD or self._decoders.num_waiting >= PICTURES_AHEAD or num_bytes > BYTES_AHEAD
            ):
                following, weight = waiting.popleft()
                num_bytes -= weight
                yield following
        yield from (row for row, _ in waiting)

    def _ask(self, value: object) -> int:
        """Let the pictures of a row be decoded; returns the bytes that the row brings along."""
        weight = 0
        for one in value if isinstance(value, list | tuple) else [value]:
            try:
                content, written = _parts(one)
                weight += len(content or b"")
                source = self._source(written, content) if content or written else None
            except PictureError:  # which is told when the row's turn comes
                continue
            if source is None or source in self._seen or source in self._decoders:
                continue
            if not self._is_known(source, written or ""):
                self._decoders.ask(source)
        return weight

    def picture(self, value: object, *, name: str) -> tuple[Picture, tuple[str, ...]]:
        """Read one picture of a row.

        Args:
            value: a path, a number that is a file's stem, encoded bytes, or a struct of `bytes` and `path` as
                `datasets` stores pictures.
            name: what to call a picture that has bytes and no path.

        Returns:
            The picture, and the repairs made on reading.

        Raises:
            PictureError: it cannot be used.
        """
        content, written = _parts(value)
        written = name if written is None else written
        if not self.with_pictures:
            return name_only(written), ()
        picture, repairs = self._once(self._source(written, content), written)
        return (picture if picture.name == written else dataclasses.replace(picture, name=written)), repairs

    def _source(self, written: str | None, content: bytes | None) -> Path | bytes:
        """Find what a picture is decoded from; "a", "a.png" and "./a.png" are one file."""
        if content is not None:
            return content
        assert written is not None
        if written not in self._found:
            try:
                self._found[written] = find_in(self.folders, written)
            except PictureError as error:
                self._found[written] = error
        return _unless_error(self._found[written])

    def _once(self, source: Path | bytes, name: str) -> tuple[Picture, tuple[str, ...]]:
        if source not in self._seen and (source in self._decoders or not self._is_known(source, name)):
            try:
                facts = self._decoders.facts(source)
                self._known.keep(source, facts)
                self._seen[source] = facts.picture(source, name=name), facts.repairs
            except PictureError as error:
                self._seen[source] = error
        return _unless_error(self._seen[source])

    def _is_known(self, source: Path | bytes, name: str) -> bool:
        """Take over what is known of a picture, and say whether anything is."""
        facts = self._known.find(source)
        if facts is not None:
            self._seen[source] = facts.picture(source, name=name), facts.repairs
        return facts is not None


def _parts(value: object) -> tuple[bytes | None, str | None]:
    """Take an image as data write it apart: its bytes, and its path or name."""
    content = None
    if isinstance(value, Mapping):
        content, value = value.get("bytes"), value.get("path")
    elif isinstance(value, bytes):
        content, value = value, None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if content is None and not isinstance(value, str):
        raise PictureError("wrong-type", f"an image is {shown(value)}, not a path or a picture")
    if content is not None and not isinstance(content, bytes):
        raise PictureError("wrong-type", f"an image's bytes are {shown(content)}")
    return content, value if isinstance(value, str) else None


def _unless_error(found: Found | PictureError) -> Found:
    if isinstance(found, PictureError):
        raise PictureError(found.kind, found.found)  # anew: an error gathers the places it was raised at
    return found

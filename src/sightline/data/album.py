"""Where the pictures of a source lie: found inside one folder, read once however many rows use them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from sightline.data.pictures import SUFFIXES, PictureError, name_only, read_picture
from sightline.data.problems import shown
from sightline.records import Picture

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
    """The pictures of one source.

    Args:
        folders: where paths start from, and which none may leave; looked in one after the other.
        with_pictures: False takes pictures by name alone, without looking for files.
    """

    def __init__(self, *folders: Path, with_pictures: bool = True):
        self.folders = folders
        self.with_pictures = with_pictures
        self._seen: dict[str, tuple[Picture, tuple[str, ...]] | PictureError] = {}

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
        written = value if isinstance(value, str) else name
        if not self.with_pictures:
            return name_only(written), ()
        picture, repairs = self._once(written, content)
        return (picture if picture.name == written else dataclasses.replace(picture, name=written)), repairs

    def _once(self, written: str, content: bytes | None) -> tuple[Picture, tuple[str, ...]]:
        key = written if content is None else f"bytes:{hashlib.sha256(content).hexdigest()}"
        if key not in self._seen:
            try:
                if content is not None:
                    self._seen[key] = read_picture(content, name=written)
                else:
                    path = find_in(self.folders, written)
                    # "a", "a.png" and "./a.png" are one file.
                    if str(path) not in self._seen:
                        self._seen[str(path)] = read_picture(path, name=written)
                    self._seen[key] = self._seen[str(path)]
            except PictureError as error:
                self._seen[key] = error
        known = self._seen[key]
        if isinstance(known, PictureError):
            raise PictureError(known.kind, known.found)
        return known

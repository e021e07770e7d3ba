"""Archives of pictures and rows: looked through before anything is written, and unpacked beside themselves only.

An archive comes from somewhere else, so nothing in it is believed: a name may lead out of the folder, a link may point
anywhere, and a few kilobytes may claim to be petabytes. Whatever is wrong is found before the first file is written.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.data.problems import shown
from sightline.errors import DataError, MissingDataError
from sightline.storage import canonical_json, write_file

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Kinds of archive that are unpacked."""

UNPACKED = ".unpacked"
"""What is added to an archive's name to name the folder it is unpacked into."""

_RECORD = ".unpacked"
_JUNK = ("__MACOSX", ".DS_Store")
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError),
)
_DRIVE = re.compile(r"[a-zA-Z]:")
_COPIED_AT_ONCE = 2**20
_LARGEST_READ = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an archive may unpack to.

    Args:
        num_files: files in it.
        num_bytes: of all its files together.
        ratio: bytes unpacked for each byte of the archive. Pictures hardly shrink (about 1) and text shrinks 3 to 20
            times; a bomb claims 1,000 and more.
        small: below so many bytes unpacked, the ratio says nothing.
    """

    num_files: int = 5_000_000
    num_bytes: int = 2 * 10**12
    ratio: int = 100
    small: int = 10**8


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of an archive: its safe name, its size in bytes, and what the archive knows it by."""

    name: str
    num_bytes: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive that can be unpacked."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def folders_of(path: Path) -> tuple[Path, ...]:
    """Give the folders that paths may start from in a folder or an archive, unpacking it if need be.

    Args:
        path: a folder, or an archive.

    Returns:
        The folder; for an archive what it was unpacked into, and the only folder in that, if there is just one: some
        write paths with it, some without.

    Raises:
        MissingDataError: neither is there.
        DataError: the archive is refused.
    """
    if path.is_dir():
        return (path,)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such folder or archive of images; correct `images`")
    if not is_archive(path):
        raise DataError(f"{path}: neither a folder nor an archive ({', '.join(SUFFIXES)}); correct `images`")
    unpacked = unpack(path)
    inner = inner_folder(unpacked)
    return (unpacked,) if inner == unpacked else (unpacked, inner)


def inner_folder(unpacked: Path) -> Path:
    """Go into an unpacked archive's only folder, when there is nothing else in it."""
    entries = [entry for entry in unpacked.iterdir() if entry.name != _RECORD]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked


def unpack(archive: Path, *, flat: str | None = None, limits: Limits | None = None) -> Path:
    """Unpack an archive into the folder `NAME.unpacked` beside it; once only, as long as the archive stays as it is.

    Args:
        archive: a zip or tar file, the latter plain or gzipped.
        flat: None keeps the archive's folders; a name puts all files into one folder of that name.
        limits: how much may be unpacked; None takes `Limits`' own.

    Returns:
        The folder.

    Raises:
        DataError: the archive is damaged, encrypted, holds a link, a device, a name that leads elsewhere or comes
            twice, or would unpack to more than the limits or the disk allow. Nothing is left unpacked then.
    """
    limits = limits or Limits()
    folder = archive.with_name(archive.name + UNPACKED)
    state = archive.stat()
    made_from = {"num_bytes": state.st_size, "changed_ns": state.st_mtime_ns, "flat": flat}
    if _recorded(folder) == made_from:
        return folder
    partial = archive.with_name(f".{archive.name}.unpacking-{os.getpid()}")
    try:
        with _opened(archive, limits) as opened:
            members = list(_checked(archive, opened, limits=limits, flat=flat))
            _refuse_full_disk(archive, sum(member.num_bytes for member in members))
            partial.mkdir()
            for member in members:
                _write_member(archive, opened, member, partial / member.name)
        write_file(partial / _RECORD, canonical_json(made_from))
        if _recorded(folder) != made_from:  # another process may have been quicker, and may be reading already
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
    except _DAMAGED as error:
        raise DataError(f"{archive}: damaged, or of a kind that cannot be read ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(
            f"{archive}: cannot be unpacked into {folder} ({error.strerror or error}); unpack it yourself and name "
            "the folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _recorded(folder: Path) -> object:
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            yield opened
        return
    size = archive.stat().st_size
    with archive.open("rb") as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        most = max(limits.small, limits.ratio * size) if is_gzipped else size + tarfile.RECORDSIZE
        stream = gzip.GzipFile(fileobj=file) if is_gzipped else file
        bounded: Any = _Bounded(stream, most=most, archive=archive)  # tarfile asks for no more than it has
        with stream, tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield tar


class _Bounded:
    """A stream that may not give more than it is allowed.

    tarfile reads long names and other headers into memory whatever size they claim, before anything can be checked.
    """

    def __init__(self, stream: gzip.GzipFile | io.BufferedReader, *, most: int, archive: Path):
        self._stream, self._most, self._archive = stream, most, archive

    def read(self, num_bytes: int) -> bytes:
        if num_bytes > _LARGEST_READ:
            raise _refused(self._archive, f"a header claims {num_bytes:,} bytes")
        return self._up_to(self._stream.tell() + num_bytes).read(num_bytes)

    def seek(self, offset: int) -> int:
        return self._up_to(offset).seek(offset)

    def tell(self) -> int:
        return self._stream.tell()

    def _up_to(self, end: int) -> gzip.GzipFile | io.BufferedReader:
        if end > self._most:
            raise _refused(self._archive, f"it claims more than {self._most:,} bytes")
        return self._stream


def _checked(
    archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, *, limits: Limits, flat: str | None
) -> Iterator[_Member]:
    """Go through everything an archive claims to hold, and refuse it as a whole at the first thing that is wrong."""
    size = archive.stat().st_size
    num_files = num_bytes = 0
    seen: dict[str, str] = {}
    for entry in opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened:
        written, is_file, entry_bytes = _described(archive, entry)
        path = _safe_path(archive, written)
        if path is None or not is_file or any(part in _JUNK for part in path.parts):
            continue
        num_files += 1
        num_bytes += entry_bytes
        _refuse_too_much(archive, num_files=num_files, num_bytes=num_bytes, size=size, limits=limits)
        name = path.as_posix() if flat is None else f"{flat}/{path.name}"
        # Two names that differ in case only are one file on some disks.
        if name.casefold() in seen:
            raise _refused(archive, f"{shown(written)} and {shown(seen[name.casefold()])} would be one file")
        seen[name.casefold()] = written
        yield _Member(name, entry_bytes, entry)
    _refuse_file_as_folder(archive, seen)


def _described(archive: Path, entry: zipfile.ZipInfo | tarfile.TarInfo) -> tuple[str, bool, int]:
    """Give an entry's name, whether it is a file, and its size in bytes; whatever is neither file nor folder raises."""
    if isinstance(entry, tarfile.TarInfo):
        if not entry.isreg() and not entry.isdir():
            kind = "a link" if entry.issym() or entry.islnk() else "a device or pipe"
            raise _refused(archive, f"{shown(entry.name)} is {kind}")
        return entry.name, entry.isreg(), entry.size
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a link" if stat.S_ISLNK(mode) else "a device or pipe"
        raise _refused(archive, f"{shown(entry.filename)} is {kind}")
    if entry.flag_bits & 0x1:
        raise _refused(archive, f"{shown(entry.filename)} is encrypted")
    # zipfile cuts a name at a NUL and turns the local separator round; the name as written is what is judged.
    return entry.orig_filename, not entry.is_dir(), entry.file_size


def _safe_path(archive: Path, written: str) -> PurePosixPath | None:
    """Turn a member's name into a path below the folder; None for the folder itself."""
    parts = [part for part in re.split(r"[\\/]", written) if part not in ("", ".")]
    if "\0" in written:
        raise _refused(archive, f"a name holds a NUL character ({shown(written)})")
    if ".." in parts or written.startswith(("/", "\\", "~")) or _DRIVE.match(written):
        raise _refused(archive, f"{shown(written)} leads out of the folder")
    return PurePosixPath(*parts) if parts else None


def _refuse_too_much(archive: Path, *, num_files: int, num_bytes: int, size: int, limits: Limits) -> None:
    if num_files > limits.num_files:
        raise _refused(archive, f"it holds more than {limits.num_files:,} files")
    if num_bytes > limits.num_bytes:
        raise _refused(
            archive, f"its first {num_files:,} files claim {num_bytes:,} bytes of {limits.num_bytes:,} allowed"
        )
    if num_bytes > max(limits.small, limits.ratio * size):
        raise _refused(
            archive,
            f"its first {num_files:,} files claim {num_bytes:,} bytes, {num_bytes / max(size, 1):,.0f} times the "
            f"{size:,} it has (allowed: {limits.ratio} times)",
        )


def _refuse_file_as_folder(archive: Path, names: Iterable[str]) -> None:
    names = set(names)
    for name in names:
        for parent in PurePosixPath(name).parents:
            if str(parent) in names:
                raise _refused(archive, f"{shown(str(parent))} is a file as well as a folder")


def _refuse_full_disk(archive: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(archive.parent).free
    if num_bytes > free:
        raise _refused(archive, f"it unpacks to {num_bytes:,} bytes where {free:,} are free")


def _refused(archive: Path, found: str) -> DataError:
    return DataError(
        f"{archive}: {found}; nothing was unpacked. If you trust it, unpack it yourself and name the folder"
    )


def _write_member(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.entry, zipfile.ZipInfo)
        content = opened.open(member.entry)
    else:
        assert isinstance(member.entry, tarfile.TarInfo)
        content = opened.extractfile(member.entry)
        assert content is not None, "links were refused"
    # Opened as new and written by hand: no owner, mode or time of the archive is taken over.
    left = member.num_bytes
    with content, path.open("xb") as file:
        while part := content.read(_COPIED_AT_ONCE):
            left -= len(part)
            if left < 0:
                raise _refused(archive, f"{shown(member.name)} is longer than it claims")
            file.write(part)
    if left:
        raise DataError(f"{archive}: {shown(member.name)} is {left:,} bytes shorter than it claims; fetch it again")

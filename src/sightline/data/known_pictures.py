"""What is known of pictures from one command to the next, so that no file is decoded twice to know it.

One SQLite file in the user's cache folder. It may be deleted at any time: what is not in it is found out again, and
nothing that is computed depends on it. Names of files are not kept, only their hashes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import secrets
import sqlite3
import threading
import time
from pathlib import Path

from sightline.data.picture_facts import PictureFacts, facts_from_json, facts_to_json, find_facts, stamp_of
from sightline.data.pictures import refuse_changed, source_of
from sightline.records import Picture
from sightline.storage import sha256_of

VERSION = 1
"""To be raised when the same file would give other facts."""

DECODERS = ("pillow", "pydicom", "imagehash", "numpy", "scipy")
"""Packages whose release may decide what is found in a file."""

SETTLED_SECONDS = 2.0
"""A file changed less long ago than this may be changed once more and keep its times, where they are coarse."""

NUM_WAITING = 256
"""Facts that are written together."""

MAX_KEPT = 1_000_000
"""Pictures known at most, some 2 GB; the oldest are forgotten."""


class KnownPictures:
    """Facts by picture: by path and what the file's times and size were, or by the hash of bytes.

    Args:
        file: where to; a damaged file is made anew. None, or a place that cannot be used, keeps facts for this process
            alone.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._waiting: dict[bytes, tuple[str, bytes]] = {}
        self._for_all = _made_by()
        self._for_this_process = f"{self._for_all} {secrets.token_hex(8)}"
        self._connection = _open(file)

    def find(self, source: Path | bytes) -> PictureFacts | None:
        """Give what is known of a picture; None if nothing is, or its file is no longer what it was."""
        key, stamp = _key(source), stamp_of(source)
        if stamp is None:
            return None
        with self._lock:
            row = self._waiting.get(key) or self._read(key)
        if row is None or row[1] != _seal(key, row[0]):
            return None
        kept = json.loads(row[0])
        is_valid = kept["stamp"] == stamp and kept["made_by"] in (self._for_all, self._for_this_process)
        return facts_from_json(kept) if is_valid else None

    def keep(self, source: Path | bytes, facts: PictureFacts) -> None:
        """Keep what was found out, unless the file changed meanwhile; if it may be changing, for this process alone."""
        if facts.stamp is None:
            return
        made_by = self._for_all if _is_settled(facts.stamp) else self._for_this_process
        key, text = _key(source), json.dumps({**facts_to_json(facts), "made_by": made_by})
        with self._lock:
            self._waiting[key] = (text, _seal(key, text))
        if len(self._waiting) >= NUM_WAITING:
            self.write()

    def write(self) -> None:
        """Write down what waits."""
        with self._lock:
            rows = [(key, *row) for key, row in self._waiting.items()]
            self._waiting.clear()
            try:
                with self._connection:
                    self._connection.executemany("REPLACE INTO pictures VALUES (?, ?, ?)", rows)
                    self._connection.execute(
                        "DELETE FROM pictures WHERE rowid <= (SELECT max(rowid) FROM pictures) - ?", (MAX_KEPT,)
                    )
            except sqlite3.Error as error:
                self._begin_anew(error)

    def close(self) -> None:
        """Write down what waits, and let go of the file."""
        self.write()
        self._connection.close()

    def _read(self, key: bytes) -> tuple[str, bytes] | None:
        try:
            return self._connection.execute("SELECT facts, seal FROM pictures WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._begin_anew(error)
            return None

    def _begin_anew(self, error: sqlite3.Error) -> None:
        """Go on with an empty file; one that is not damaged (it is locked, the disk is full) is left to others."""
        self._connection.close()
        if _is_damaged(error) and self._file is not None:
            _remove(self._file)
        else:
            self._file = None
        self._connection = _open(self._file)


def facts_of(picture: Picture) -> PictureFacts:
    """Give everything that is known of a picture, decoding it if that is not known yet.

    Raises:
        MissingDataError: neither bytes nor file are there.
        PictureError: it cannot be decoded any more, or shows something else than when it was read.
    """
    source, known = source_of(picture), known_pictures()
    facts = known.find(source)
    if facts is None:
        facts = find_facts(source)
        known.keep(source, facts)
    refuse_changed(picture, facts.sha256)
    return facts


def known_pictures() -> KnownPictures:
    """Give what this user knows on this machine.

    It lies in `pictures.sqlite` in the folder that the environment variable `SIGHTLINE_CACHE` names; by default in
    `sightline` in the user's folder for caches.
    """
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = Path(os.environ.get("SIGHTLINE_CACHE") or caches / "sightline")
    except RuntimeError:  # the user has no home
        return _known_at(None)
    return _known_at(folder / "pictures.sqlite")


@functools.cache
def _known_at(file: Path | None) -> KnownPictures:
    return KnownPictures(file)


def _open(file: Path | None) -> sqlite3.Connection:
    if file is not None:
        with contextlib.suppress(OSError, sqlite3.Error):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                return _connect(str(file))
            except sqlite3.DatabaseError as error:
                if not _is_damaged(error):
                    raise
            _remove(file)
            return _connect(str(file))
    return _connect("")  # a file of SQLite's own, which goes when it is closed


def _connect(file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file, check_same_thread=False)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS pictures (key BLOB PRIMARY KEY, facts TEXT, seal BLOB)")
        connection.execute("SELECT key, facts, seal FROM pictures LIMIT 1").fetchone()
    return connection


def _is_damaged(error: sqlite3.Error) -> bool:
    return error.sqlite_errorname.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"))


def _remove(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}-journal")):
        path.unlink(missing_ok=True)


def _made_by() -> str:
    """Name everything that decides what is found in a file."""
    from PIL import features

    versions = [f"{name} {features.version(name)}" for name in ("jpg", "libtiff", "webp", "zlib")]
    for package in DECODERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return sha256_of(f"{VERSION} {versions}")[:16]


def _key(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return hashlib.sha256(b"bytes:" + source).digest()
    return hashlib.sha256(b"path:" + os.fsencode(source)).digest()


def _seal(key: bytes, text: str) -> bytes:
    """Bind facts to their picture, so that a damaged row is taken for none."""
    return hashlib.sha256(key + text.encode()).digest()[:8]


def _is_settled(stamp: str) -> bool:
    return time.time() - max(map(int, stamp.split()[1:]), default=0) / 1e9 >= SETTLED_SECONDS

"""Files that are either whole or absent: written under a temporary name, renamed, vouched for by a manifest.

Work counts as finished when its manifest is there, which is written last and holds the hash of every file that was
made and of what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import CorruptError

MANIFEST = "manifest.json"

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a manifest raises when it is absent, torn or of another shape."""


def sha256_of(content: bytes | str | Path) -> str:
    """Hash bytes, text (as UTF-8) or a file's content."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def canonical_json(value: Any) -> str:
    """Write JSON so that equal values are equal text: keys sorted, floats in full, not-a-number refused."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def json_line(value: Any) -> str:
    """Write one line of a JSONL file."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read our own JSONL; a file that is not there has no rows.

    Raises:
        CorruptError: naming the line that is no JSON.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line:
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise CorruptError(f"{path}:{number}: not JSON; the file was torn, make it again") from error
    return rows


def write_file(path: Path, content: bytes | str) -> None:
    """Replace a file as a whole; a crash leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def publish_folder(temporary: Path, final: Path, *, made_from: Mapping[str, str] | None = None) -> None:
    """Vouch for everything in a temporary folder and give the folder its name, replacing an older one."""
    files = sorted(
        file for file in temporary.rglob("*") if file.is_file() and not file.name.endswith((MANIFEST, ".tmp"))
    )
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    write_manifest(temporary / MANIFEST, files, made_from=made_from or {})
    if final.exists():
        discarded = final.with_name(f".{final.name}.old")
        shutil.rmtree(discarded, ignore_errors=True)
        final.replace(discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    temporary.replace(final)
    _sync_folder(final.parent)


def write_manifest(manifest: Path, files: Iterable[Path], *, made_from: Mapping[str, str]) -> None:
    """Vouch for files: their hashes, named from the manifest's folder, and the hashes of what they were made from."""
    hashes = {os.path.relpath(file, manifest.parent).replace(os.sep, "/"): sha256_of(file) for file in files}
    write_file(manifest, canonical_json({"files": hashes, "made_from": dict(made_from)}))


def is_finished(manifest: Path, *, made_from: Mapping[str, str] | None = None) -> bool:
    """Say whether all that a manifest vouches for is whole and, when given, was made from just this."""
    try:
        check_manifest(manifest)
    except CorruptError:
        return False
    return made_from is None or recorded_origin(manifest) == dict(made_from)


def why_unfinished(manifest: Path, *, made_from: Mapping[str, str] | None = None) -> str:
    """Say why what was finished once is not any more: which file differs, or what it is made from now; "" else."""
    recorded = recorded_origin(manifest)
    if recorded is None:
        return ""
    try:
        check_manifest(manifest)
    except CorruptError as error:
        return str(error)
    return what_differs(recorded, made_from) if made_from is not None else ""


def is_intact(manifest: Path, file: Path) -> bool:
    """Say whether one file is as its manifest recorded it."""
    try:
        recorded = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return recorded.get(os.path.relpath(file, manifest.parent).replace(os.sep, "/")) == sha256_of(file)
    except UNREADABLE:
        return False


def what_differs(recorded: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what two records differ in, entry by entry: "max_steps 2 then, 3 now"."""
    parts = [
        f"{key.removeprefix('settings/')} {recorded.get(key, 'absent')} then, {now.get(key, 'absent')} now"
        for key in sorted({*recorded, *now})
        if recorded.get(key) != now.get(key)
    ]
    return ", ".join(part if len(part) < 100 else part.split(" ")[0] for part in parts)


def recorded_origin(manifest: Path) -> dict[str, str] | None:
    """Read what the files were made from; None when no manifest is there."""
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["made_from"]
    except UNREADABLE:
        return None


def check_manifest(manifest: Path) -> None:
    """Compare files with the manifest that vouches for them.

    Raises:
        CorruptError: naming the first file that is missing or differs.
    """
    try:
        hashes = dict(json.loads(manifest.read_text(encoding="utf-8"))["files"].items())
    except UNREADABLE as error:
        raise CorruptError(f"{manifest}: not there or not readable; what it vouches for was never finished") from error
    for name, expected in hashes.items():
        file = manifest.parent / name
        if not file.is_file():
            raise CorruptError(f"{file} is missing")
        if sha256_of(file) != expected:
            raise CorruptError(f"{file} does not match its hash; it was changed or torn")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; needed on Linux, refused elsewhere."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""The rows of a finished study, held against what was recorded of them: files by their manifests, rows and pictures."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sightline.data.pictures import open_picture
from sightline.data.sets import samples_sha256
from sightline.errors import CorruptError, SightlineError
from sightline.records import Picture, Sample, sample_from_json
from sightline.report.pictures import readable_path
from sightline.storage import MANIFEST, UNREADABLE, read_jsonl, sha256_of

SHOWN = ("answers/*", "scores/*/", "judges/*/", "pictures_matter/*/*")
"""Where manifests are of what a report shows and counts, without their own name."""

VOUCHED = (*SHOWN, "models/*/", "data/*", "drawn/*")
"""Where all manifests are."""

UNRECORDED = ("checks.json", "data/problems.json", "data/seen.json")
"""What nothing vouches for; the report shows it as it stands."""


class Looked(NamedTuple):
    """Something that was held against its record.

    Args:
        file: from the study's directory on.
        place: what of it.
        wrong: what is wrong with it; "" where nothing is.
    """

    file: str
    place: str
    wrong: str


def changed_files(directory: Path) -> tuple[str, ...]:
    """Name the answers, scores and judgements of a study that are not what the run wrote."""
    return tuple(looked.file for looked in look_at_files(directory, SHOWN) if looked.wrong)


def look_at_files(directory: Path, vouched: Sequence[str] = VOUCHED) -> Iterator[Looked]:
    """Hold every file that a manifest vouches for against its hash.

    Args:
        directory: a study's.
        vouched: where its manifests are, as in `VOUCHED`.
    """
    for manifest in sorted(path for pattern in vouched for path in directory.glob(pattern + MANIFEST)):
        try:
            hashes = dict(json.loads(manifest.read_text(encoding="utf-8"))["files"].items())
        except UNREADABLE:
            yield Looked(_named(manifest, directory), "hashes", "not readable")
            continue
        for name, expected in sorted(hashes.items()):
            file = Path(os.path.normpath(manifest.parent / name))
            wrong = "" if file.is_file() else "missing"
            if not wrong and sha256_of(file) != expected:
                wrong = f"changed since {_named(manifest, directory)} was written"
            yield Looked(_named(file, directory), "hashes", wrong)


def look_at_rows(directory: Path) -> Iterator[Looked]:
    """Hash the rows of every data set again, and the pictures that the study keeps; nothing without a run.json."""
    try:
        recorded = json.loads((directory / "run.json").read_text(encoding="utf-8"))["data_sha256"]
    except UNREADABLE:
        return
    pictures: dict[str, tuple[Path, Picture]] = {}
    for name, expected in sorted(recorded.items()):
        file = directory / "data" / f"{name}.jsonl"
        try:
            rows = tuple(sample_from_json(row) for row in read_jsonl(file))
        except (CorruptError, KeyError, TypeError) as error:
            yield Looked(_named(file, directory), "rows", str(error).replace(f"{directory}/", ""))
            continue
        wrong = "" if file.is_file() else "missing"
        if not wrong and samples_sha256(rows) != expected:
            wrong = f"{len(rows):,} rows, others than those that run.json recorded"
        yield Looked(_named(file, directory), "rows", wrong)
        pictures |= {str(path): (path, picture) for path, picture in _kept(rows, directory)}
    for path, picture in pictures.values():
        try:
            open_picture(dataclasses.replace(picture, path=str(path)))
            wrong = ""
        except (SightlineError, OSError) as error:
            wrong = str(error).replace(f"{directory}/", "")
        yield Looked(_named(path, directory), "the picture", wrong)


def _kept(rows: tuple[Sample, ...], directory: Path) -> Iterator[tuple[Path, Picture]]:
    """Find the pictures that lie in the study's directory; those of the data's owner may have moved."""
    for picture in (picture for row in rows for picture in row.pictures):
        if picture.path and not Path(picture.path).is_absolute() and (path := readable_path(picture, directory)):
            yield path, picture


def _named(path: Path, directory: Path) -> str:
    return Path(os.path.relpath(path, directory)).as_posix()

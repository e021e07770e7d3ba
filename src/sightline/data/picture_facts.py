"""What is found out about a picture by decoding it once: what it is, what it looks like, what its file tells."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.identity import Told
from sightline.data.looks import SIDE, Look, look_at
from sightline.data.pictures import decode_picture, file_of, picture_from
from sightline.records import Picture


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureFacts:
    """Everything that reading and checking want to know of a picture.

    Args:
        sha256: as in `records.Picture`; so are `width` and `height`.
        repairs: as `pictures.read_picture` gives them.
        look: by which copies are found.
        told: what its file tells of people.
        stamp: `stamp_of` its source while it was read; None where it changed meanwhile.
    """

    sha256: str
    width: int
    height: int
    repairs: tuple[str, ...]
    look: Look
    told: Told
    stamp: str | None

    def picture(self, source: Path | bytes, *, name: str) -> Picture:
        """Make the record of the picture."""
        return picture_from(source, name=name, sha256=self.sha256, width=self.width, height=self.height)


def find_facts(source: Path | bytes) -> PictureFacts:
    """Decode a picture and find out everything about it.

    Args:
        source: as in `pictures.read_picture`.

    Raises:
        PictureError: as `pictures.read_picture` raises it.
    """
    before = stamp_of(source)
    decoded = decode_picture(source)
    return PictureFacts(
        sha256=decoded.sha256,
        width=decoded.image.width,
        height=decoded.image.height,
        repairs=decoded.repairs,
        look=look_at(decoded.image),
        told=decoded.told,
        stamp=before if before == stamp_of(source) else None,
    )


def stamp_of(source: Path | bytes) -> str | None:
    """Say by what a file's content is taken for unchanged: its size and the times at which it was written and moved.

    Returns:
        None where there is no file; empty for bytes, which do not change.
    """
    if isinstance(source, bytes):
        return ""
    try:
        found = file_of(source)[0].stat()
    except OSError:
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def facts_to_json(facts: PictureFacts) -> dict[str, Any]:
    """Turn facts into plain JSON values."""
    return {
        "sha256": facts.sha256,
        "size": [facts.width, facts.height],
        "repairs": facts.repairs,
        "hash": facts.look.hash,
        "small": base64.b64encode(facts.look.small.tobytes()).decode(),
        "tags": facts.told.tags,
        "burnt_in": facts.told.burnt_in,
        "stamp": facts.stamp,
    }


def facts_from_json(row: Mapping[str, Any]) -> PictureFacts:
    """Rebuild facts from `facts_to_json`'s row."""
    width, height = row["size"]
    small = np.frombuffer(base64.b64decode(row["small"]), dtype=np.uint8).reshape(SIDE, SIDE)
    return PictureFacts(
        sha256=row["sha256"],
        width=width,
        height=height,
        repairs=tuple(row["repairs"]),
        look=Look(row["hash"], small),
        told=Told(tuple(row["tags"]), row["burnt_in"]),
        stamp=row["stamp"],
    )

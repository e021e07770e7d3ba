"""Small copies of a study's pictures, as data URIs: a report carries its pictures, and each of them once."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from sightline.data.pictures import open_picture, read_picture
from sightline.errors import DataError
from sightline.records import Picture

LONGEST_SIDE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small copy of one picture.

    Args:
        key: its name within the page.
        uri: PNG or JPEG as a data URI.
        width: pixels.
        height: pixels.
    """

    key: str
    uri: str
    width: int
    height: int


def _readable_path(picture: Picture, directory: Path) -> Path | None:
    if picture.path is None:
        return None
    path = Path(picture.path)
    if path.is_absolute():
        return path
    inside = (directory / path).resolve()
    # A study handed on by somebody else must not make its reader's report show other files of this machine.
    return inside if inside.is_relative_to(directory.resolve()) else None


def thumbnail(picture: Picture, directory: Path, *, key: str) -> Thumbnail | None:
    """Make a picture's small copy.

    Args:
        picture: as the study's data names it.
        directory: the study directory, where relative paths start.
        key: the copy's name within the page.

    Returns:
        The copy, at most 256 pixels on its longer side, as whichever of PNG and JPEG is smaller; None where the
        picture is gone, lies outside the study by a relative path, or is no longer what the study saw.
    """
    from PIL import Image

    source = picture.content or _readable_path(picture, directory)
    if source is None:
        return None
    try:
        # Read twice: an answer beside a picture that its model never saw would mislead.
        seen, _ = read_picture(source, name=picture.name)
        if seen.sha256 != picture.sha256:
            return None
        image = open_picture(seen)
    except DataError:
        return None
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    encoded = {}
    for name, options in (("png", {"optimize": True}), ("jpeg", {"quality": 85, "optimize": True})):
        buffer = io.BytesIO()
        image.save(buffer, format=name.upper(), **options)
        encoded[name] = buffer.getvalue()
    kind = min(encoded, key=lambda name: len(encoded[name]))
    content = base64.b64encode(encoded[kind]).decode("ascii")
    return Thumbnail(key=key, uri=f"data:image/{kind};base64,{content}", width=image.width, height=image.height)

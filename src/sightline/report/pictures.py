"""Small copies of a study's pictures, as data URIs: a report carries its pictures, and each of them once."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sightline.data.pictures import open_picture, read_picture
from sightline.errors import DataError
from sightline.records import Picture

if TYPE_CHECKING:
    from PIL import Image

MOST_BYTES = 24_000_000
"""Of all copies together; pictures beyond it are only linked."""

SIDES = ((600, 256), (1_500, 160), (4_000, 96))
"""Up to so many pictures, pixels on the longer side of a copy; beyond, the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small copy of one picture.

    Args:
        key: its name within the page.
        uri: PNG or JPEG as a data URI.
        width: pixels.
        height: pixels.
        original: address of the picture itself, from the report's folder on; "" where it is no file.
    """

    key: str
    uri: str
    width: int
    height: int
    original: str


def thumbnails(pictures: Iterable[Picture], directory: Path) -> dict[str, Thumbnail]:
    """Make small copies of pictures, smaller the more there are.

    Args:
        pictures: those a page shows; each is copied once.
        directory: the study directory, where relative paths start.

    Returns:
        Picture hash to copy, up to `MOST_BYTES` together; those that cannot be shown, and those beyond, are left out.
    """
    distinct = list({picture.sha256: picture for picture in pictures}.values())
    longest = next((side for most, side in SIDES if len(distinct) <= most), SIDES[-1][1])
    with ThreadPoolExecutor() as pool:  # decoding and encoding leave Python's lock alone
        copies = pool.map(
            lambda place: thumbnail(distinct[place], directory, key=f"picture-{place}", longest=longest),
            range(len(distinct)),
        )
        found, room = {}, MOST_BYTES
        for picture, copy in zip(distinct, copies, strict=True):
            room -= len(copy.uri) if copy else 0
            if copy and room >= 0:
                found[picture.sha256] = copy
    return found


def readable_path(picture: Picture, directory: Path) -> Path | None:
    """Say where a study's picture lies, if it may be read: a relative path may not lead out of its directory."""
    if picture.path is None:
        return None
    path = Path(picture.path)
    if path.is_absolute():
        return path
    inside = (directory / path).resolve()
    # A study handed on by somebody else must not make its reader's report show other files of this machine.
    return inside if inside.is_relative_to(directory.resolve()) else None


def thumbnail(picture: Picture, directory: Path, *, key: str, longest: int = SIDES[0][1]) -> Thumbnail | None:
    """Make a picture's small copy.

    Args:
        picture: as the study's data names it.
        directory: the study directory, where relative paths start.
        key: the copy's name within the page.
        longest: pixels on the copy's longer side.

    Returns:
        The copy, as whichever of PNG and JPEG is smaller; None where the
        picture is gone, lies outside the study by a relative path, or is no longer what the study saw.
    """
    from PIL import Image

    source = picture.content or readable_path(picture, directory)
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
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    jpeg, png = _encoded(image, "JPEG", quality=85, optimize=True), _encoded(image, "PNG")
    # To look for the best PNG takes ten times as long, and only drawings are smaller as one.
    encoded = {"png": _encoded(image, "PNG", optimize=True)} if len(png) < len(jpeg) else {"jpeg": jpeg}
    ((kind, copy),) = encoded.items()
    content = base64.b64encode(copy).decode("ascii")
    return Thumbnail(
        key=key,
        uri=f"data:image/{kind};base64,{content}",
        width=image.width,
        height=image.height,
        original=_address(source, directory),
    )


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def _address(source: Path | bytes, directory: Path) -> str:
    """Address a picture as seen from the report, so that a study that is moved with its pictures still finds them."""
    if isinstance(source, bytes):
        return ""
    return quote(Path(os.path.relpath(source.resolve(), directory.resolve())).as_posix())

"""What a picture's file tells of people: tags that can name a person or place, and text burnt into the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

EXIF_TAGS: Mapping[int, str] = {
    0x010D: "DocumentName",
    0x010E: "ImageDescription",
    0x013B: "Artist",
    0x8825: "GPS position",
    0x9286: "UserComment",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
    0x9C9D: "XPAuthor",
    0x9C9F: "XPSubject",
    0xA430: "CameraOwnerName",
    0xA431: "BodySerialNumber",
}
"""Tags whose text people write, or that say where a picture was taken."""

PNG_KEYS = ("author", "comment", "description", "title", "patient", "name", "source")


class Told(NamedTuple):
    """What a picture's file says of people: names of tags, and whether text is burnt into the pixels."""

    tags: tuple[str, ...] = ()
    burnt_in: bool = False


def told_by(image: Image.Image) -> Told:
    """Read the tags of a picture that Pillow has opened; their names are kept, their text is not."""
    try:
        exif = [name for tag, name in EXIF_TAGS.items() if _says_something(image.getexif().get(tag))]
        written = [
            str(key)
            for key, value in image.info.items()
            if isinstance(value, str) and value.strip() and any(word in str(key).lower() for word in PNG_KEYS)
        ]
    except Exception:  # damaged tags raise nearly anything
        return Told()
    return Told((*exif, *written))


def _says_something(value: object) -> bool:
    return bool(value.strip(b"\0 ") if isinstance(value, bytes) else str(value).strip("\0 ") if value else value)


def told_by_dicom(content: bytes) -> Told:
    """Read the tags of a DICOM file; see `told_by`."""
    from sightline.data.dicom import read_facts
    from sightline.data.pictures import PictureError

    try:
        facts = read_facts(content)
    except PictureError:  # its picture could be decoded all the same
        return Told()
    return Told(facts.identity, facts.burnt_in == "yes")

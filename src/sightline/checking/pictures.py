"""Checks on the pictures: copies of one another on both sides of a split, and what their files tell of people.

Shapes: P pictures, S side of a small grey picture in pixels.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.checking.findings import NUM_EXAMPLES, Finding
from sightline.data.dicom import is_dicom, read_facts
from sightline.data.pictures import FORMATS, PictureError
from sightline.records import Picture, Sample

if TYPE_CHECKING:
    from PIL import Image

MAX_BITS = 4
"""Hashes of 64 bits that differ in no more than this may belong to copies: resized, saved anew, brightened."""

MIN_CORRELATION = 0.98
"""Of the small grey pictures of copies. Measured: halved or saved as JPEG of quality 30, films stay above 0.997."""

SIDE = 32
MAX_CANDIDATES = 1000
"""Pictures with one part of the hash in common that are compared with each other; blank ones would be without end."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is compared of a picture.

    Args:
        hash: 64 bits of the perceptual hash, by the signs of its lowest cosine frequencies.
        small: uint8[S, S], grey.
    """

    hash: int
    small: NDArray[np.uint8]


def look_at(image: Image.Image) -> Look:
    """Reduce a picture to what is compared.

    Source: pHash by Zauner 2010, as ImageHash computes it.
    """
    from imagehash import phash
    from PIL import Image

    grey = image.convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Look(int(str(phash(grey)), 16), small)


def near_duplicates(
    train: Mapping[str, Picture], test: Mapping[str, Picture], look: Callable[[Picture], Look]
) -> dict[str, str]:
    """Find test pictures that are copies of a training picture without being the same pixels.

    Two pictures whose hashes differ in `MAX_BITS` bits agree in one of `MAX_BITS + 1` parts of the hash, so only
    pictures that share a part are compared; a likely pair counts if the small grey pictures correlate as well.

    Args:
        train: by hash of their pixels.
        test: likewise.
        look: reduces a picture.

    Returns:
        Hash of a test picture to the name of the training picture it is like.
    """
    looks = {sha256: look(picture) for sha256, picture in train.items()}
    by_part: dict[tuple[int, int], list[str]] = defaultdict(list)
    for sha256, seen in looks.items():
        for part in _parts(seen.hash):
            by_part[part].append(sha256)
    found = {}
    for sha256, picture in test.items():
        if sha256 in train:
            continue
        asked = look(picture)
        candidates = dict.fromkeys(other for part in _parts(asked.hash) for other in by_part[part][:MAX_CANDIDATES])
        like = next((other for other in candidates if _are_alike(asked, looks[other])), None)
        if like is not None:
            found[sha256] = train[like].name
    return found


def _parts(hash: int) -> Iterator[tuple[int, int]]:
    width = -(-64 // (MAX_BITS + 1))
    for number in range(MAX_BITS + 1):
        yield number, (hash >> (number * width)) & ((1 << width) - 1)


def _are_alike(one: Look, other: Look) -> bool:
    if (one.hash ^ other.hash).bit_count() > MAX_BITS:
        return False
    left, right = (look.small.astype(np.float64).ravel() - look.small.mean() for look in (one, other))
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    # Blank pictures correlate with nothing; that many of them are alike is no news about a split.
    return lengths > 0 and float(left @ right) / lengths >= MIN_CORRELATION


class _Told(NamedTuple):
    """What a picture's file says of people: names of tags, and whether text is burnt into the pixels."""

    tags: tuple[str, ...]
    burnt_in: bool = False


def check_identity(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find picture files whose tags can name a person or place, and those that say text is burnt into their pixels.

    Text that is in the pixels is found only where a DICOM file says so; nothing here reads pictures.
    """
    tagged: dict[str, tuple[str, ...]] = {}
    burnt_in: list[str] = []
    pictures = {picture.sha256: picture for sample in samples for picture in sample.pictures}
    for picture in pictures.values():
        told = _told(picture)
        if told.tags:
            tagged[picture.name] = told.tags
        if told.burnt_in:
            burnt_in.append(picture.name)
    if tagged:
        first, tags = next(iter(tagged.items()))
        yield Finding(
            name="identity-tags",
            severity="warning",
            message=f"{data}: {len(tagged)} of {len(pictures)} picture files have tags that can name a person or "
            f"place, for example {first}: {', '.join(tags)}. They are dropped on reading and go nowhere from here",
            remedy="remove them before the files are shared",
            evidence={"num_pictures": len(tagged), "pictures": dict(list(tagged.items())[:NUM_EXAMPLES])},
        )
    if burnt_in:
        yield Finding(
            name="burnt-in-text",
            severity="warning",
            message=f"{data}: {len(burnt_in)} of {len(pictures)} picture files say that text is burnt into their "
            f"pixels, for example {burnt_in[0]}; it can name a patient, and a model can read answers from it",
            remedy="look at them (`sightline show`), and crop or blacken the text",
            evidence={"num_pictures": len(burnt_in), "pictures": burnt_in[:NUM_EXAMPLES]},
        )


def _told(picture: Picture) -> _Told:
    """Read the head of a picture's file; what cannot be read was refused before and tells nothing here."""
    if picture.content is not None:
        return _tags(picture.content)
    try:
        file = Path(str(picture.path))
        path = file if file.is_file() else Path(str(picture.path).rpartition("#")[0])  # a frame of a DICOM file
        with path.open("rb") as opened:
            head = opened.read(256)
        return _tags(path.read_bytes()) if is_dicom(head) else _tags(path)
    except OSError:
        return _Told(())


def _tags(source: bytes | Path) -> _Told:
    from PIL import Image

    if isinstance(source, bytes) and is_dicom(source):
        try:
            facts = read_facts(source)
        except PictureError:
            return _Told(())
        return _Told(facts.identity, facts.burnt_in == "yes")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            exif = [name for tag, name in EXIF_TAGS.items() if _says_something(image.getexif().get(tag))]
            written = [
                str(key)
                for key, value in image.info.items()
                if isinstance(value, str) and value.strip() and any(word in str(key).lower() for word in PNG_KEYS)
            ]
    except Exception:  # decoders raise nearly anything on damaged bytes
        return _Told(())
    return _Told((*exif, *written))


def _says_something(value: object) -> bool:
    return bool(value.strip(b"\0 ") if isinstance(value, bytes) else str(value).strip("\0 ") if value else value)

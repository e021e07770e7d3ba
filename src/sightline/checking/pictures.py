"""Checks on the pictures: copies of one another on both sides of a split, and what their files tell of people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sightline.checking.findings import NUM_EXAMPLES, Finding
from sightline.data.identity import Told
from sightline.data.known_pictures import facts_of
from sightline.data.looks import Look
from sightline.errors import DataError
from sightline.records import Picture, Sample

MAX_BITS = 4
"""Hashes of 64 bits that differ in no more than this may belong to copies: resized, saved anew, brightened."""

MIN_CORRELATION = 0.98
"""Of the small grey pictures of copies. Measured: halved or saved as JPEG of quality 30, films stay above 0.997."""

MAX_CANDIDATES = 1000
"""Pictures with one part of the hash in common that are compared with each other; blank ones would be without end."""


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


def _told(picture: Picture) -> Told:
    """Say what a picture's file tells; what cannot be read was refused before and tells nothing here."""
    try:
        return facts_of(picture).told
    except DataError:
        return Told()

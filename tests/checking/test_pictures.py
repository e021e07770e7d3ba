"""Copies of a picture are found whatever was done to the file, other pictures are not, and tags are named."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lettered_rows import only
from sightline.checking import pictures
from sightline.checking.pictures import check_identity, near_duplicates
from sightline.data.looks import SIDE, Look, look_at
from sightline.data.pictures import open_picture, read_picture
from sightline.records import Message, Picture, Sample


def films(number: int) -> list[Image.Image]:
    """Smooth random pictures, each its own."""
    made = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (number, 9, 9), dtype=np.uint8)
    return [Image.fromarray(small).resize((240, 200), Image.Resampling.BICUBIC).convert("RGB") for small in made]


def saved(image: Image.Image, format: str = "PNG", **given) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **given)
    return buffer.getvalue()


def by_hash(contents: list[bytes], name: str) -> dict[str, Picture]:
    read = [read_picture(content, name=f"{name}{number}")[0] for number, content in enumerate(contents)]
    return {picture.sha256: picture for picture in read}


def look(picture: Picture) -> Look:
    return look_at(open_picture(picture))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "saved as JPEG": lambda image: saved(image, "JPEG", quality=30),
    "halved": lambda image: saved(image.resize((120, 100), Image.Resampling.BICUBIC)),
    "brightened": lambda image: saved(image.point([min(255, value * 11 // 10) for value in range(256)] * 3)),
    "paled": lambda image: saved(image.point([255 - (255 - value) * 9 // 10 for value in range(256)] * 3)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_others(copy: str) -> None:
    train = films(40)
    test = by_hash([COPIES[copy](train[17])], "copy")
    assert near_duplicates(by_hash([saved(image) for image in train], "film"), test, look) == dict.fromkeys(
        test, "film17"
    )


def test_pictures_that_differ_and_pictures_that_are_the_same_are_no_near_duplicates() -> None:
    drawn = [saved(image) for image in films(60)]
    train = by_hash(drawn[:50], "film")
    assert near_duplicates(train, by_hash(drawn[40:], "film"), look) == {}


def test_every_pair_within_the_distance_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the differing bits lie, one part of the hash is whole."""
    monkeypatch.setattr(pictures, "MIN_CORRELATION", -1.0)
    small = np.arange(SIDE**2, dtype=np.uint8).reshape(SIDE, SIDE)
    rng = np.random.Generator(np.random.PCG64(3))
    base = int(rng.integers(0, 2**63))
    for distance in range(7):
        for _ in range(40):
            places = rng.choice(64, size=distance, replace=False)
            other = base ^ sum(1 << int(place) for place in places)
            looks = {"a": Look(base, small), "b": Look(other, small)}
            shown = {name: Picture(name=name, sha256=name, width=1, height=1) for name in looks}
            found = near_duplicates({"a": shown["a"]}, {"b": shown["b"]}, lambda picture: looks[picture.name])  # noqa: B023
            assert (found == {"b": "a"}) == (distance <= pictures.MAX_BITS)


def test_blank_pictures_say_nothing() -> None:
    blank = by_hash([saved(Image.new("RGB", (60, 60), "black"))], "a")
    other = by_hash([saved(Image.new("RGB", (90, 60), "black"))], "b")
    assert near_duplicates(blank, other, look) == {}


def about(content: bytes) -> Sample:
    picture, _ = read_picture(content, name="scan.png")
    return Sample(id="1", pictures=(picture,), messages=(Message(role="user", content=(0, "left?")),), answer="no")


def test_files_without_tags_are_left_alone() -> None:
    [image] = films(1)
    assert list(check_identity("d", [about(saved(image)), about(saved(image, "JPEG", dpi=(72, 72)))])) == []


def test_tags_that_can_name_somebody_are_named_without_their_text() -> None:
    [image] = films(1)
    exif = Image.Exif()
    exif[0x013B], exif[0x010E] = "Dr Somebody", " "
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", "Somebody")
    finding = only(check_identity("d", [about(saved(image, exif=exif, pnginfo=text))]))
    assert (finding.name, finding.severity) == ("identity-tags", "warning")
    assert finding.evidence["pictures"] == {"scan.png": ("Artist", "PatientName")}
    assert "Somebody" not in repr(finding)

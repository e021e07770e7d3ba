"""Pictures are known by what they show, and hostile files are refused before they cost anything."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.album import Album, find_inside
from sightline.data.known_pictures import KnownPictures
from sightline.data.picture_facts import find_facts
from sightline.data.pictures import PictureError, open_picture, quiet_decoder, read_picture, save_picture
from sightline.errors import MissingDataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_picture_is_its_unrotated_twin(orientation: int, format: str):
    """EXIF says how the stored picture must be turned: all eight ways end in the same picture."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(PIXELS)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[274] = orientation
    exif[315] = "Name of a patient"
    turned, repairs = read_picture(encoded(stored, format, exif=exif), name="turned")
    twin, _ = read_picture(encoded(upright), name="twin")
    assert (turned.sha256, turned.width, turned.height) == (twin.sha256, 30, 20)
    assert repairs == (() if orientation == 1 else ("exif-rotated",))
    opened = open_picture(turned)
    assert np.array_equal(np.asarray(opened), PIXELS)
    assert (opened.mode, dict(opened.getexif()), opened.info) == ("RGB", {}, {})


def test_the_hash_tells_pictures_of_equal_bytes_and_unequal_shape_apart():
    wide, _ = read_picture(encoded(Image.new("RGB", (6, 2))), name="a")
    high, _ = read_picture(encoded(Image.new("RGB", (2, 6))), name="a")
    assert wide.sha256 != high.sha256


def test_formats_without_loss_hash_alike():
    image = Image.fromarray(PIXELS)
    hashes = {
        read_picture(encoded(image, format, **options), name="a")[0].sha256
        for format, options in [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("values", "brightest"),
    [
        (np.arange(600, dtype=np.uint16).reshape(20, 30), 599),  # a dark film in few of its bits
        (np.linspace(0, 65_535, 600).astype(np.uint16).reshape(20, 30), 65_535),
        (np.linspace(-1_024, 3_071, 600).astype(np.int32).reshape(20, 30), 3_071),  # Hounsfield units
        (np.linspace(-1, 1, 600).astype(np.float32).reshape(20, 30), 1),
    ],
)
def test_wide_values_are_scaled_and_never_wrap(values: np.ndarray, brightest: float):
    picture, repairs = read_picture(encoded(Image.fromarray(values), "TIFF"), name="film")
    assert repairs == ("16-bit",)
    grey = np.asarray(open_picture(picture))[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.all(np.diff(grey.reshape(-1).astype(int)) >= 0)
    assert values.max() == pytest.approx(brightest)


def test_a_flat_wide_picture_is_black():
    picture, _ = read_picture(encoded(Image.fromarray(np.full((4, 4), 700, np.uint16))), name="flat")
    assert np.asarray(open_picture(picture)).max() == 0


def test_16_bit_colour_is_reported():
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    pixels = np.random.default_rng(1).integers(0, 65_536, (3, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    picture, repairs = read_picture(content, name="colour")
    assert repairs == ("16-bit",)
    assert np.abs(np.asarray(open_picture(picture)).astype(int) - pixels.astype(int) // 256).max() <= 1


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (10, 20, 30, 255))
    pixels = np.asarray(open_picture(read_picture(encoded(image), name="chart")[0]))
    assert tuple(pixels[0, 0]) == (255, 255, 255) and tuple(pixels[1, 1]) == (10, 20, 30)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "TIFF", "WEBP"):
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        picture, repairs = read_picture(content, name="film")
        assert repairs == ("animated-first-frame",)
        red, _, blue = np.asarray(open_picture(picture))[0, 0]
        assert red > 200 > 50 > blue


def test_cmyk_becomes_rgb():
    picture, repairs = read_picture(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), name="print")
    assert repairs == ("cmyk",)
    assert tuple(np.asarray(open_picture(picture))[0, 0]) == (255, 0, 0)


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[bytes, str]]:
    """Files made to cost much: name to content and the kind of refusal."""
    flat = encoded(Image.new("1", (13_400, 13_400)))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    return {
        "one bit, 180 megapixels": (flat, "too-many-pixels"),
        "just over our bound": (encoded(Image.new("1", (8_193, 8_193))), "too-many-pixels"),
        "eps": (eps, "not-an-image"),
        "psd": (b"8BPS\0\1" + bytes(40), "not-an-image"),
        "pdf": (b"%PDF-1.7\n", "not-an-image"),
        "fits": (b"SIMPLE  =                    T", "not-an-image"),
        "packed svg": (gzip.compress(b"<svg></svg>"), "not-an-image"),
        "dicom": (bytes(128) + b"DICM" + bytes(60), "not-an-image"),
        "truncated png": (encoded(Image.fromarray(PIXELS))[:300], "truncated-image"),
        "header alone": (b"\xff\xd8\xff\xe0\0\x10JFIF", "truncated-image"),
        "empty": (b"", "zero-bytes"),
    }


BOMBS = [
    "one bit, 180 megapixels",
    "just over our bound",
    "eps",
    "psd",
    "pdf",
    "fits",
    "packed svg",
    "dicom",
    "truncated png",
    "header alone",
    "empty",
]


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_quickly(name: str, bombs: dict[str, tuple[bytes, str]]):
    content, kind = bombs[name]
    start = time.perf_counter()
    with pytest.raises(PictureError) as refused:
        read_picture(content, name=name)
    assert refused.value.kind == kind
    assert time.perf_counter() - start < 1


def test_a_long_animation_costs_one_frame():
    frames = [Image.new("L", (64, 64), index % 256) for index in range(2_000)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    start = time.perf_counter()
    read_picture(content, name="film")
    assert time.perf_counter() - start < 0.2


def test_saved_pictures_show_the_same_and_share_files(tmp_path: Path):
    picture, _ = read_picture(encoded(Image.fromarray(PIXELS)), name="a")
    saved = save_picture(picture, tmp_path / "pictures")
    again = save_picture(read_picture(encoded(Image.fromarray(PIXELS), "BMP"), name="b")[0], tmp_path / "pictures")
    assert saved.path == again.path == str(tmp_path / "pictures" / f"{picture.sha256[:16]}.png")
    assert saved.content is None and [file.name for file in (tmp_path / "pictures").iterdir()] == [
        f"{picture.sha256[:16]}.png"
    ]
    assert read_picture(Path(str(saved.path)), name="a")[0].sha256 == picture.sha256
    Path(str(saved.path)).unlink()
    with pytest.raises(MissingDataError, match="no file"):
        open_picture(saved)


ESCAPES = [
    "../outside.png",
    "deeper/../../outside.png",
    "deeper/../inside.png",
    "..\\outside.png",
    "%2e%2e/outside.png",
    "%2E%2E%2Foutside.png",
    "/etc/passwd",
    "//server/share/outside.png",
    "\\\\server\\share\\outside.png",
    "C:\\outside.png",
    "~/outside.png",
    "~root/outside.png",
    "link.png",
    "linked/outside.png",
    "link",
]

_opened: list[str] | None = None


def _watch(event: str, arguments: tuple) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An images folder, with one picture inside, one outside, and links that lead out."""
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    Image.fromarray(PIXELS).save(images / "inside.png")
    Image.fromarray(PIXELS).save(tmp_path / "outside.png")
    (images / "link.png").symlink_to(tmp_path / "outside.png")
    (images / "linked").symlink_to(tmp_path)
    (images / "loop.png").symlink_to("loop.png")
    return images


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        *((written, "path-escape") for written in ESCAPES),
        ("inside.png\0.jpg", "nul-byte"),
        ("\ud800.png", "lone-surrogate"),
        ("https://example.org/a.png", "remote-image"),
        ("file:/etc/passwd", "remote-image"),
        ("data:image/png;base64,AAAA", "remote-image"),
        ("loop.png", "missing-image"),
        ("deeper", "missing-image"),
        ("x" * 5_000, "missing-image"),
    ],
)
def test_no_path_leads_out_and_nothing_outside_is_opened(folder: Path, written: str, kind: str):
    global _opened
    album = Album(folder)
    album.picture("inside.png", name="warm")  # whatever Pillow imports, it imports now
    sys.addaudithook(_watch)
    _opened = []
    try:
        with pytest.raises(PictureError) as refused:
            album.picture(written, name="row")
    finally:
        opened, _opened = _opened, None
    assert (refused.value.kind, opened) == (kind, [])


def test_paths_inside_are_found_however_they_are_written(folder: Path):
    inside = (folder / "inside.png").resolve()
    for written in ("inside.png", "./inside.png", "inside", str(inside)):
        assert find_inside(folder, written) == inside
    (folder / "nested").symlink_to(folder / "deeper")
    Image.fromarray(PIXELS).save(folder / "deeper" / "50%.PNG")
    assert find_inside(folder, "nested/50%") == (folder / "deeper" / "50%.PNG").resolve()
    Image.fromarray(PIXELS).save(folder / "inside.jpg")
    with pytest.raises(PictureError, match=r"any of inside\.jpg, inside\.png"):
        find_inside(folder, "inside")


def test_a_picture_of_many_rows_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    decoded = []
    monkeypatch.setattr(
        "sightline.data.decoders.find_facts", lambda source: decoded.append(source) or find_facts(source)
    )
    album = Album(folder, known=KnownPictures(None))
    pictures = [album.picture(written, name="row")[0] for written in ("inside.png", "inside", "inside.png")]
    assert len(decoded) == 1
    assert [picture.name for picture in pictures] == ["inside.png", "inside", "inside.png"]
    content = (folder / "inside.png").read_bytes()
    structs = [album.picture({"bytes": bytes(content), "path": None}, name=f"row {n}")[0] for n in range(3)]
    assert len(decoded) == 2 and {picture.sha256 for picture in structs} == {pictures[0].sha256}
    assert len({id(picture.content) for picture in structs}) == 1


def test_threads_decode_side_by_side_in_silence():
    """None waits for another to be done, and what is heard afterwards is what was heard before."""
    inside, waiting = threading.Barrier(2, timeout=30), warnings.filters[:]

    def decode(number: int) -> str:
        with quiet_decoder():
            inside.wait()
            warnings.warn(f"damaged tag {number}", stacklevel=1)
            return read_picture(encoded(Image.fromarray(PIXELS)), name="a")[0].sha256

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(decode, range(2)))) == 1
    assert warnings.filters == waiting

"""Ten thousand rows, 57 of them bad in 19 ways, for tests of the loader and of a whole study."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

NUM_ROWS = 10_000
NUM_PICTURES = 300
NUM_OF_EACH = 3
CONTEXT = 200  # words here; tokens in the trainer
REPAIRED = {"cmyk", "16-bit", "exif-rotated", "animated-first-frame"}

Row = dict[str, object]


def picture(seed: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def no_pixels_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a side of 0, which Pillow itself cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated_jpeg(path: Path, index: int) -> None:
    picture(index, (200, 200)).save(path, "JPEG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * (index + 1) // 4])


def rotated(path: Path, index: int) -> None:
    exif = Image.Exif()
    exif[274] = (3, 6, 8)[index]
    picture(index).save(path, "JPEG", exif=exif)


def wide(path: Path, index: int) -> None:
    values = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * (index + 1) * 40
    Image.fromarray(values).save(path, "PNG")


def animated(path: Path, index: int) -> None:
    picture(index).save(path, "GIF", save_all=True, append_images=[picture(index + 50)])


def too_small(path: Path, index: int) -> None:
    if index < 2:
        path.write_bytes(no_pixels_png(index * 5, 0))
    else:
        picture(0, (1, 1)).save(path, "PNG")


def with_file(suffix: str, write: Callable[[Path, int], object]) -> Callable[[Row, int, Path], str]:
    def spoil(row: Row, index: int, folder: Path) -> str:
        row["image"] = f"{write.__name__.strip('<>')}-{row['id']}{suffix}"
        write(folder / str(row["image"]), index)
        return json.dumps(row)

    return spoil


def with_values(**choices: list[object]) -> Callable[[Row, int, Path], str]:
    def spoil(row: Row, index: int, folder: Path) -> str:
        for name, values in choices.items():
            if values[index] is KeyError:
                del row[name]
            else:
                row[name] = values[index]
        return json.dumps(row)

    return spoil


def bad_json(row: Row, index: int, folder: Path) -> str:
    text = json.dumps(row)
    return (text[:-1], text.replace('": ', '" ', 1).replace('"id" ', '"id": ') + "]", text + text)[index]


def raw_nul(row: Row, index: int, folder: Path) -> str:
    row["question"] = ("Is it\0 there?", "\0", "there\0")[index]
    return json.dumps(row).replace("\\u0000", "\0") if index == 0 else json.dumps(row)


SPOILERS: dict[str, Callable[[Row, int, Path], str]] = {
    "bad-json": bad_json,
    "missing-key": with_values(image=["", KeyError, None], answer=["x", "x", "x"]),
    "wrong-type": with_values(question=[7, ["Is it?"], "Is it?"], image=["0.png", "0.png", {"a": 1.5}]),
    "empty-answer": with_values(answer=["", "  ", "\t\n"]),
    "missing-image": with_values(image=["none.png", "deeper/0.png", "0.jpg"]),
    "zero-bytes": with_file(".png", lambda path, index: path.write_bytes(b"")),
    "truncated-image": with_file(".jpg", truncated_jpeg),
    "not-an-image": with_file(
        ".png", lambda path, index: path.write_bytes([b"hello", b"%PDF-1.7\n", b"<svg></svg>"][index])
    ),
    "too-small": with_file(".png", too_small),
    "cmyk": with_file(".jpg", lambda path, index: picture(index).convert("CMYK").save(path, "JPEG")),
    "16-bit": with_file(".png", wide),
    "exif-rotated": with_file(".jpg", rotated),
    "animated-first-frame": with_file(".gif", animated),
    "image-count": with_values(
        question=["<image><image> Is it?", "Is it <image> or <image>?", "Is it?"], answer=["a", "b", "see <image>"]
    ),
    "nul-byte": raw_nul,
    "lone-surrogate": with_values(answer=["\ud800", "yes \udfff", "\udc80 no"]),
    "duplicate-id": with_values(id=["r1", "r2", "r3"]),
    "too-long": with_values(answer=["word " * 300, "a " * 201, "long " * 500]),
    "path-escape": with_values(image=["../0.png", "/etc/passwd", "%2e%2e/0.png"]),
}


@dataclass(frozen=True)
class Planted:
    """A folder with the rows, and what was planted: line number to id and kind."""

    folder: Path
    bad: dict[int, tuple[str, str]]
    lines: list[str]


def plant(folder: Path, num_rows: int = NUM_ROWS) -> Planted:
    """Write the rows and their pictures into a folder; however few the rows are, as many of them are bad."""
    for index in range(NUM_PICTURES):
        picture(index).save(folder / f"{index}.png")
    places = np.random.default_rng(11).permutation(np.arange(100, num_rows))[: NUM_OF_EACH * len(SPOILERS)]
    plan = dict(
        zip(map(int, places), [(kind, index) for kind in SPOILERS for index in range(NUM_OF_EACH)], strict=True)
    )
    lines, bad = [], {}
    for place in range(num_rows):
        row: Row = {
            "id": f"r{place}",
            "image": f"{place % NUM_PICTURES}.png",
            "question": f"Is there a number {place} – naïve 肺 😀?",
            "answer": ("yes", "no")[place % 2],
        }
        if place in plan:
            kind, index = plan[place]
            lines.append(SPOILERS[kind](row, index, folder))
            bad[place + 1] = (str(row["id"]), kind)
        else:
            lines.append(json.dumps(row, ensure_ascii=place % 2 == 0))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(bad) == 57
    return Planted(folder, bad, lines)

"""Ten thousand rows, 57 of them bad in 19 ways: every bad one is named, no good one is, and nothing is lost."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.problems import BadRowsError, Loaded, Problem, require_clean, too_long
from sightline.errors import DataError

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


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("case_11")
    for index in range(NUM_PICTURES):
        picture(index).save(folder / f"{index}.png")
    places = np.random.default_rng(11).permutation(np.arange(100, NUM_ROWS))[: NUM_OF_EACH * len(SPOILERS)]
    plan = dict(
        zip(map(int, places), [(kind, index) for kind in SPOILERS for index in range(NUM_OF_EACH)], strict=True)
    )
    lines, bad = [], {}
    for place in range(NUM_ROWS):
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


@pytest.fixture(scope="module")
def loaded(planted: Planted) -> Loaded:
    return load_source("rows.jsonl", root=planted.folder)["all"]


def fit(loaded: Loaded) -> tuple[set[str], list[Problem]]:
    """What the trainer does later: ids that fit, and a problem for each sample that does not."""
    num_words = {sample.id: len(f"{sample.question} {sample.answer}".split()) for sample in loaded.samples}
    longer = [sample for sample in loaded.samples if num_words[sample.id] > CONTEXT]
    problems = [too_long(sample, num_tokens=num_words[sample.id], limit=CONTEXT) for sample in longer]
    return {id for id, num in num_words.items() if num <= CONTEXT}, problems


def test_every_bad_row_is_named_by_line_id_and_kind_and_no_good_one_is(planted: Planted, loaded: Loaded):
    reported = [*loaded.problems, *fit(loaded)[1]]
    assert {(p.row, p.id, p.kind) for p in reported} == {(line, *bad) for line, bad in planted.bad.items()}
    assert len(reported) == 57
    assert all(p.file == "rows.jsonl" and str(p).startswith(f"rows.jsonl:{p.row} (id {p.id}") for p in reported)
    assert {p.kind for p in reported if p.repaired} == REPAIRED


def test_skipping_keeps_the_good_and_the_repaired_rows(planted: Planted, loaded: Loaded):
    kept = require_clean(loaded, on_bad_row="skip")
    fitting, long = fit(loaded)
    good = {f"r{line - 1}" for line in range(1, NUM_ROWS + 1) if line not in planted.bad}
    repaired = {id for id, kind in planted.bad.values() if kind in REPAIRED}
    assert (len(good), len(repaired)) == (9_943, 12)
    assert {sample.id for sample in kept} - {problem.id for problem in long} == fitting == good | repaired
    assert len(kept) - len(long) == 9_955


def test_the_counts_sum_to_the_number_of_rows(loaded: Loaded):
    assert loaded.num_rows == NUM_ROWS
    assert (loaded.num_left_out, loaded.num_repaired) == (57 - 12 - 3, 12)
    assert loaded.num_clean + loaded.num_repaired + loaded.num_left_out == NUM_ROWS
    assert len(loaded.samples) == loaded.num_clean + loaded.num_repaired


def test_the_default_stops_and_lists_every_bad_row(planted: Planted, loaded: Loaded):
    with pytest.raises(BadRowsError, match="42 of 10000 rows cannot be used") as stopped:
        require_clean(loaded, on_bad_row="stop")
    assert isinstance(stopped.value, DataError)
    assert Counter(problem.kind for problem in stopped.value.problems) == {
        kind: NUM_OF_EACH for kind in SPOILERS if kind not in REPAIRED | {"too-long"}
    }
    message = str(stopped.value)
    assert message.count("rows.jsonl:") == 20 and "and 22 more" in message
    assert all(line.isprintable() for line in message.splitlines())


def test_repaired_rows_alone_do_not_stop(planted: Planted, tmp_path: Path):
    lines = [planted.lines[line - 1] for line, (_, kind) in planted.bad.items() if kind in REPAIRED]
    (planted.folder / "repaired.jsonl").write_text("\n".join(lines), encoding="utf-8")
    loaded = load_source("repaired.jsonl", root=planted.folder)["all"]
    assert len(require_clean(loaded, on_bad_row="stop")) == loaded.num_repaired == 12


def test_the_same_rows_are_found_in_a_json_list(planted: Planted):
    """A list with broken elements in it loses those and no others."""
    (planted.folder / "list.json").write_text("[\n" + ",\n".join(planted.lines) + "\n]", encoding="utf-8")
    loaded = load_source("list.json", root=planted.folder)["all"]
    in_lines = load_source("rows.jsonl", root=planted.folder)["all"]
    assert {sample.id for sample in loaded.samples} >= {sample.id for sample in in_lines.samples}
    assert {p.kind for p in loaded.problems} == {p.kind for p in in_lines.problems}

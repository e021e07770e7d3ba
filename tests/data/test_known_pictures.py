"""What is known of pictures is found again, not trusted once a file may have changed, and lost without harm."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data import decoders, known_pictures
from sightline.data.formats import load_source
from sightline.data.known_pictures import KnownPictures, facts_of
from sightline.data.picture_facts import PictureFacts, facts_to_json, find_facts, stamp_of
from sightline.data.pictures import PictureError, name_only, read_picture
from sightline.data.problems import Loaded
from sightline.errors import MissingDataError
from tiny_pictures import png


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as old: nobody changes them here."""
    monkeypatch.setattr(known_pictures, "SETTLED_SECONDS", -1e9)


@pytest.fixture
def file(tmp_path: Path, settled: None) -> Path:
    return tmp_path / "cache" / "pictures.sqlite"


@pytest.fixture
def known(file: Path) -> Iterator[KnownPictures]:
    opened = KnownPictures(file)
    yield opened
    opened.close()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    path.write_bytes(png(7))
    return path


def told(facts: PictureFacts | None) -> dict[str, object]:
    assert facts is not None
    return facts_to_json(facts)


def test_facts_come_back_as_they_were(known: KnownPictures, file: Path, scan: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "somebody"
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", exif=exif)
    scan.write_bytes(buffer.getvalue())
    for source in (scan, buffer.getvalue()):
        assert known.find(source) is None
        found = find_facts(source)
        known.keep(source, found)
        assert told(known.find(source)) == told(found)
    assert (found.repairs, found.told.tags, found.look.small.shape) == (("exif-rotated",), ("Artist",), (32, 32))
    known.write()
    again = KnownPictures(file)
    assert [told(again.find(source)) for source in (scan, buffer.getvalue())] == [
        told(find_facts(scan)),
        told(found),
    ]
    again.close()
    assert b"scan.png" not in file.read_bytes() and b"somebody" not in file.read_bytes()


def test_a_file_of_another_size_or_time_is_not_known(known: KnownPictures, scan: Path) -> None:
    known.keep(scan, find_facts(scan))
    before = scan.stat()
    os.utime(scan, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert known.find(scan) is None
    known.keep(scan, find_facts(scan))
    content = scan.read_bytes()
    scan.write_bytes(content + b" ")
    os.utime(scan, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known.find(scan) is None
    scan.unlink()
    assert known.find(scan) is None


def test_a_file_that_changed_while_it_was_read_is_not_kept(
    known: KnownPictures, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter(["1 1 1", "1 2 2"])
    monkeypatch.setattr("sightline.data.picture_facts.stamp_of", lambda source: next(stamps))
    facts = find_facts(scan)
    assert facts.stamp is None
    monkeypatch.undo()
    known.keep(scan, facts)
    assert known.find(scan) is None


def test_a_file_just_written_is_known_to_this_process_alone(file: Path, scan: Path, monkeypatch) -> None:
    monkeypatch.setattr(known_pictures, "SETTLED_SECONDS", 2.0)
    known = KnownPictures(file)
    known.keep(scan, find_facts(scan))
    known.write()
    other = KnownPictures(file)
    assert known.find(scan) is not None and other.find(scan) is None
    known.close()
    other.close()


def test_facts_of_another_decoder_are_found_out_anew(file: Path, known: KnownPictures, scan: Path, monkeypatch) -> None:
    known.keep(scan, find_facts(scan))
    known.write()
    monkeypatch.setattr(known_pictures, "VERSION", known_pictures.VERSION + 1)
    newer = KnownPictures(file)
    assert newer.find(scan) is None
    newer.close()


@pytest.mark.parametrize("damage", ["no database", "cut", "other table", "pages", "one row"])
def test_a_damaged_file_is_made_anew(file: Path, scan: Path, damage: str) -> None:
    known = KnownPictures(file)
    others = [png(number) for number in range(60)]
    for source in (scan, *others):
        known.keep(source, find_facts(source))
    known.close()
    content = file.read_bytes()
    if damage == "no database":
        file.write_bytes(b"nothing of the kind" * 1000)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "pages":
        file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        changed = sqlite3.connect(file)
        with changed:
            if damage == "other table":
                changed.execute("ALTER TABLE pictures RENAME COLUMN facts TO other")
            else:
                changed.execute("UPDATE pictures SET facts = replace(facts, '\"size\": [8, 6]', '\"size\": [9, 6]')")
        changed.close()
    opened = KnownPictures(file)
    for source in (scan, *others):
        found = opened.find(source)
        assert found is None or told(found) == told(find_facts(source))
        opened.keep(source, find_facts(source))
    opened.close()
    again = KnownPictures(file)
    assert all(again.find(source) is not None for source in (scan, *others))
    again.close()


def test_a_file_damaged_while_it_is_open_is_made_anew(file: Path, scan: Path) -> None:
    known = KnownPictures(file)
    known.keep(scan, find_facts(scan))
    known.write()
    file.write_bytes(b"nothing of the kind" * 1000)
    assert known.find(scan) is None
    known.keep(scan, find_facts(scan))
    known.close()
    again = KnownPictures(file)
    assert again.find(scan) is not None
    again.close()


def test_where_nothing_can_be_written_facts_are_kept_for_the_process(tmp_path: Path, settled: None, scan: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    known = KnownPictures(tmp_path / "file" / "pictures.sqlite")
    known.keep(scan, find_facts(scan))
    known.write()
    assert known.find(scan) is not None
    known.close()


def test_a_file_that_others_have_locked_is_left_to_them(file: Path, scan: Path, monkeypatch) -> None:
    known = KnownPictures(file)
    known._connection.execute("PRAGMA busy_timeout = 0")
    other, inode = sqlite3.connect(file), file.stat().st_ino
    other.execute("BEGIN EXCLUSIVE")
    known.keep(scan, find_facts(scan))
    known.write()
    assert known.find(scan) is None
    known.keep(scan, find_facts(scan))
    known.write()
    assert known.find(scan) is not None
    other.rollback()
    assert (other.execute("SELECT count(*) FROM pictures").fetchone(), file.stat().st_ino) == ((0,), inode)
    known.close()
    other.close()


def test_the_oldest_are_forgotten(known: KnownPictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_pictures, "MAX_KEPT", 3)
    for number in range(5):
        known.keep(png(number), find_facts(png(number)))
        known.write()
    assert [known.find(png(number)) is not None for number in range(5)] == [False, False, True, True, True]


def test_two_processes_write_one_file(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tiny_pictures import png\n"
        "from sightline.data.known_pictures import KnownPictures; from sightline.data.picture_facts import find_facts\n"
        "known = KnownPictures(Path(sys.argv[1]))\n"
        "for number in range(int(sys.argv[2]), 40, 2):\n"
        "    known.keep(png(number), find_facts(png(number))); known.write()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(file)]
    writers = [subprocess.Popen([*command, str(first)], env=environment) for first in (0, 1)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    known = KnownPictures(file)
    assert all(known.find(png(number)) for number in range(40))
    known.close()


def test_facts_of_a_picture_that_is_no_longer_there_or_another_one(scan: Path) -> None:
    picture, _ = read_picture(scan, name="scan")
    assert facts_of(picture).sha256 == picture.sha256
    scan.write_bytes(png(8))
    with pytest.raises(PictureError, match="shows something else"):
        facts_of(picture)
    scan.unlink()
    with pytest.raises(PictureError, match="no file"):
        facts_of(picture)
    with pytest.raises(MissingDataError, match="only its name"):
        facts_of(name_only("x"))


def test_the_stamp_of_a_frame_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "film.dcm").write_bytes(b"x")
    assert stamp_of(tmp_path / "film.dcm#2") == stamp_of(tmp_path / "film.dcm")
    assert stamp_of(tmp_path / "none.dcm#2") is None


def test_a_source_reads_alike_with_and_without_processes_and_what_is_known(
    tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "WORTH_IT", 4)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png(number)[: 40 if number == 3 else None])
    rows = [{"image": f"{n % 10}.png", "question": f"what {n}?", "answer": "no" if n != 5 else ""} for n in range(25)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def load(cache: str, num_cores: int) -> dict[str, Loaded]:
        monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / cache))
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(num_cores)), raising=False)
        return load_source("rows.jsonl", root=tmp_path, images="pictures")

    alone = load("one", num_cores=1)
    assert alone["all"].num_left_out == 3 + 2 * 2 + 1  # damaged, not there, without an answer
    assert load("two", num_cores=2) == alone
    monkeypatch.setattr("sightline.data.decoders.find_facts", lambda source: pytest.fail(f"{source} decoded again"))
    (tmp_path / "pictures" / "3.png").unlink()
    known = load("two", num_cores=1)
    assert known["all"].samples == alone["all"].samples

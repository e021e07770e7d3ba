"""Files are whole or absent, and a manifest knows when what it vouches for was changed."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import CorruptError
from sightline.storage import (
    MANIFEST,
    canonical_json,
    check_manifest,
    is_finished,
    json_line,
    publish_folder,
    read_jsonl,
    recorded_origin,
    sha256_of,
    write_file,
    write_manifest,
)


class PowerCut(Exception):
    """What a test raises where the machine would have stopped."""


def stop(*_: object, **__: object) -> None:
    raise PowerCut


def make_folder(folder: Path, **contents: str) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content)
    return folder


# --- one file -------------------------------------------------------------------------------------------------------


def test_a_file_is_written_with_the_folders_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.txt"
    write_file(file, "Grüße")
    assert file.read_bytes() == "Grüße".encode()
    write_file(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff" and [f.name for f in file.parent.iterdir()] == ["c.txt"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_write_that_is_cut_short_leaves_what_was_there(tmp_path: Path, monkeypatch, moment: str, old) -> None:
    file = tmp_path / "a.txt"
    if old:
        write_file(file, old)
    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[moment], stop)
        with pytest.raises(PowerCut):
            write_file(file, "new" * 1000)
    assert (file.read_text() if file.exists() else None) == old
    write_file(file, "new")  # what the cut left behind does not stand in the way
    assert file.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_content_reaches_the_disk_before_the_name_does(tmp_path: Path, monkeypatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to))[1])
    write_file(tmp_path / "a.txt", "text")
    assert calls == ["fsync", "replace", "fsync"]


def test_hashes_of_text_bytes_and_files_agree(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Grüße", encoding="utf-8")
    assert sha256_of("Grüße") == sha256_of("Grüße".encode()) == sha256_of(tmp_path / "a.txt")
    assert sha256_of("Grüsse") != sha256_of("Grüße")


# --- JSON -----------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé\n🙂"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN)
def test_canonical_json_is_the_value_in_full(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text("abcd", max_size=2), PLAIN, min_size=2))
def test_equal_values_are_equal_text_whatever_the_order_of_their_keys(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("write", [canonical_json, json_line])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_refused(write: Callable[[object], str], number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write({"loss": number})


@pytest.mark.parametrize(
    "text",
    [
        *["", "plain", "two\nlines", "two\r\nlines", "\x0b\x0c\x1c\x1d\x1e", "Grüße 胸部 🙂", '"\\'],
        *[f"a{c}b" for c in "\x85\u2028\u2029"],
    ],
)
def test_any_text_is_one_line_and_comes_back(tmp_path: Path, text: str) -> None:
    rows = [{"text": text, "k": 1}, {"text": "next"}]
    write_file(tmp_path / "rows.jsonl", "".join(map(json_line, rows)))
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "rows.jsonl") == []


# --- manifests ------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder of two files that a manifest vouches for."""
    make_folder(tmp_path / ".made", one="first", two="second")
    publish_folder(tmp_path / ".made", tmp_path / "made", made_from={"data": "1"})
    return tmp_path / "made"


def test_a_published_folder_is_finished(finished: Path) -> None:
    check_manifest(finished / MANIFEST)
    assert is_finished(finished / MANIFEST) and not finished.with_name(".made").exists()
    assert recorded_origin(finished / MANIFEST) == {"data": "1"}
    listed = json.loads((finished / MANIFEST).read_text())["files"]
    assert listed == {"one.txt": sha256_of("first"), "two.txt": sha256_of("second")}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_text("fIrst"), "one.txt does not match its hash"),
        (lambda file: file.write_text("firs"), "one.txt does not match its hash"),
        (lambda file: file.write_text(""), "one.txt does not match its hash"),
        (lambda file: file.unlink(), "one.txt is missing"),
        (lambda file: (file.unlink(), file.mkdir()), "one.txt is missing"),
    ],
    ids=["changed", "truncated", "emptied", "missing", "folder"],
)
def test_a_damaged_file_is_named(finished: Path, damage, message: str) -> None:
    damage(finished / "one.txt")
    assert not is_finished(finished / MANIFEST)
    with pytest.raises(CorruptError, match=message):
        check_manifest(finished / MANIFEST)


@pytest.mark.parametrize(
    "content",
    [
        *[None, "", '{"files": {"one.txt":', "{}", "\xff"],
        "[]",
        "null",
        '{"files": [], "made_from": {}}',
    ],
)
def test_a_manifest_that_cannot_be_read_vouches_for_nothing(finished: Path, content: str | None) -> None:
    manifest = finished / MANIFEST
    manifest.unlink() if content is None else manifest.write_bytes(content.encode("latin-1"))
    assert not is_finished(manifest)
    assert recorded_origin(manifest) in (None, {})
    with pytest.raises(CorruptError, match="never finished"):
        check_manifest(manifest)


def test_work_made_from_something_else_is_not_finished(finished: Path) -> None:
    manifest = finished / MANIFEST
    assert is_finished(manifest, made_from={"data": "1"})
    for origin in ({"data": "2"}, {"data": "1", "base": "x"}, {}):
        assert not is_finished(manifest, made_from=origin)


def test_a_manifest_vouches_for_files_in_other_folders(tmp_path: Path) -> None:
    write_file(tmp_path / "answers" / "base.jsonl", "{}\n")
    write_file(tmp_path / "scores" / "deep" / "nll.jsonl", "{}\n")
    manifest = tmp_path / "scores" / "base.json"
    write_manifest(manifest, tmp_path.rglob("*.jsonl"), made_from={})
    assert set(json.loads(manifest.read_text())["files"]) == {"../answers/base.jsonl", "deep/nll.jsonl"}
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert is_finished(moved / "scores" / "base.json")


def test_equal_work_has_equal_manifests(tmp_path: Path) -> None:
    texts = []
    for name, order in (("a", ("one", "two")), ("b", ("two", "one"))):
        make_folder(tmp_path / name, **{file: file for file in order})
        files = [tmp_path / name / f"{file}.txt" for file in order]
        write_manifest(tmp_path / name / MANIFEST, files, made_from={key: "1" for key in order})
        texts.append((tmp_path / name / MANIFEST).read_bytes())
    assert texts[0] == texts[1]


# --- folders --------------------------------------------------------------------------------------------------------


def test_publishing_replaces_the_older_folder_as_a_whole(finished: Path) -> None:
    make_folder(finished.with_name(".made"), two="other", three="third")
    publish_folder(finished.with_name(".made"), finished)
    assert sorted(os.listdir(finished)) == [MANIFEST, "three.txt", "two.txt"]
    assert is_finished(finished / MANIFEST, made_from={}) and os.listdir(finished.parent) == ["made"]


@pytest.mark.parametrize("replaces_done", [0, 1, 2])
def test_publishing_that_is_cut_short_leaves_the_old_the_new_or_nothing(
    finished: Path, monkeypatch, replaces_done: int
) -> None:
    temporary = make_folder(finished.with_name(".made"), one="other")
    replace, done = Path.replace, []

    def counted(self: Path, target: Path) -> Path:
        if len(done) == replaces_done:
            raise PowerCut
        done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        with pytest.raises(PowerCut):
            publish_folder(temporary, finished)
    if finished.exists():
        assert is_finished(finished / MANIFEST) and (finished / "one.txt").read_text() == "first"
    assert finished.exists() == (replaces_done < 2)
    shutil.rmtree(temporary)  # the next run makes it anew
    publish_folder(make_folder(temporary, one="other"), finished)
    assert is_finished(finished / MANIFEST) and (finished / "one.txt").read_text() == "other"
    assert os.listdir(finished.parent) == ["made"]


def test_the_manifest_of_a_folder_is_written_last_and_counts_files_within(tmp_path: Path) -> None:
    temporary = make_folder(tmp_path / ".made", one="first")
    make_folder(temporary / "inner", two="second")
    publish_folder(temporary, tmp_path / "made")
    listed = json.loads((tmp_path / "made" / MANIFEST).read_text())["files"]
    assert set(listed) == {"one.txt", "inner/two.txt"}

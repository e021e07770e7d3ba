"""Judgements on disk: kept before they are confirmed, cut where a crash cut them, one owner at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import CorruptError, DataError, RefusedError
from sightline.serving.judgements import Judgements, file_of, read_reviews, reviewer_name, what_reviewers_say


def judgement(number: int, verdict: str = "correct", **changed: Any) -> dict[str, Any]:
    return {
        "id": f"judgement-{number:04d}",
        "at": "2026-01-01T00:00:00+00:00",
        "reviewer": "Ada",
        "task": "label",
        "data": "d.test",
        "template": "plain",
        "sample_id": f"q{number}",
        "answers": ["f" * 64],
        "verdict": verdict,
        "random": True,
        "repeat": False,
        **changed,
    }


def opened(folder: Path) -> Judgements:
    return Judgements(folder)


def test_what_is_saved_is_read_by_anyone_at_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(3):
        store.save(judgement(number))
        assert read_reviews(tmp_path) == [judgement(done) for done in range(number + 1)]  # without closing anything
    store.save(judgement(1, "incorrect"))  # sent again, after a reply that was lost
    assert len(read_reviews(tmp_path)) == 3
    store.close()


def test_it_is_on_disk_before_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write, fsync = os.write, os.fsync
    store = opened(tmp_path)
    store.save(judgement(0))
    monkeypatch.setattr(os, "write", lambda *given: order.append("write") or write(*given))
    monkeypatch.setattr(os, "fsync", lambda *given: order.append("fsync") or fsync(*given))
    store.save(judgement(1))
    store.close()
    assert order == ["write", "fsync"]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_cut_by_a_crash_is_cut_off_with_words(tmp_path: Path, kept: int) -> None:
    store = opened(tmp_path)
    store.save(judgement(0))
    store.save(judgement(1))
    store.close()
    path = tmp_path / file_of("Ada")
    whole, torn = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole + torn[:kept])
    assert read_reviews(tmp_path) == [judgement(0)]  # a reader leaves the file alone
    assert path.read_bytes() != whole
    store = opened(tmp_path)
    assert len(store.repairs) == 1 and f"{path}:2: a crash cut this line short" in store.repairs[0]
    assert path.read_bytes() == whole
    store.save(judgement(1))
    store.close()
    assert read_reviews(tmp_path) == [judgement(0), judgement(1)]
    assert path.read_bytes() == whole + torn


def test_a_full_disk_leaves_nothing_of_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    store.save(judgement(0))
    write = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError(28, "No space left on device")
        return write(file, content[:100])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        store.save(judgement(1))
    monkeypatch.undo()
    assert (tmp_path / file_of("Ada")).read_bytes().count(b"\n") == 1
    store.save(judgement(1))
    store.close()
    assert read_reviews(tmp_path) == [judgement(0), judgement(1)]


@pytest.mark.parametrize("line", ["{", "[]", '"x"', '{"id": "a"}', json.dumps(judgement(5, verdict="perhaps"))])
def test_a_line_that_is_no_judgement_is_named_and_left(tmp_path: Path, line: str) -> None:
    path = tmp_path / file_of("Ada")
    path.write_text(json.dumps(judgement(0)) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(CorruptError, match=":2: no judgement"):
        opened(tmp_path)
    assert line in path.read_text(encoding="utf-8")
    path.unlink()
    opened(tmp_path).close()  # the lock was let go


def test_one_server_at_a_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(RefusedError, match="in use by another `sightline review`"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_the_last_word_counts_and_cannot_say_says_nothing(tmp_path: Path) -> None:
    pair = {"task": "preference", "answers": ["a" * 64, "b" * 64], "verdict": "left"}
    rows = [
        judgement(0),
        judgement(0, "incorrect", reviewer="ADA"),
        judgement(1, "cannot_say"),
        judgement(2, **pair),
        judgement(3, **pair | {"answers": ["b" * 64, "a" * 64], "verdict": "neither", "repeat": True}),
    ]
    labels, preferences = what_reviewers_say(rows)
    assert [(label.of.sample_id, label.value) for label in labels] == [("q0", 0.0), ("q1", None)]
    assert [(one.value, one.is_repeat) for one in preferences] == [(1.0, False), (0.5, True)]
    assert preferences[0].left == preferences[1].right._replace(sample_id="q2")


def test_names_are_safe_apart_and_spelt_one_way() -> None:
    names = ["Ada", "Bo", "../../etc/passwd", "Łukasz", "李", "👩‍⚕️" if "👩‍⚕️".isprintable() else "doctor", "a" * 60]
    files = [file_of(reviewer_name(name)) for name in names]
    assert len(set(files)) == len(names)
    assert all(file.isascii() and "/" not in file and not file.startswith(".") for file in files)
    assert reviewer_name("  Ada \t Lovelace ") == "Ada Lovelace" and file_of("ada") == file_of("ADA")
    for name in ("", "  ", "a" * 61, "a\x00b", "\u202egnp", "\ud800"):
        with pytest.raises(DataError, match="give a name of 1 to 60 letters"):
            reviewer_name(name)

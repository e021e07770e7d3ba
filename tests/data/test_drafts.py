"""Of what an engine drafted, only what a person accepted is data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.drafts import DraftCounts, count_drafts
from sightline.data.formats import load_source
from sightline.errors import DataError

DRAFT = {"image": "a.png", "number": 1, "question": "What is it?", "answer": "Red.", "domain": "colour"}
DRAFT |= {"ambiguity": 0.25, "prompt_type": "question"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "photos" / "a.png")
    return tmp_path


def write(folder: Path, *rows: dict[str, object], end: str = "") -> None:
    lines = [json.dumps({"id": f"a.png:{number}", **DRAFT, **row}) for number, row in enumerate(rows)]
    (folder / "drafts.jsonl").write_text("\n".join(lines) + end)


def test_only_accepted_drafts_are_read_and_the_others_counted(folder: Path):
    write(
        folder, {"accepted": None}, {"accepted": True}, {"accepted": False}, {}, {"fault": "broken JSON", "reply": "{"}
    )
    loaded = load_source("drafts.jsonl", root=folder, images="photos")["all"]
    [sample] = loaded.samples
    assert (sample.id, sample.question, sample.answer) == ("a.png:1", "What is it?", "Red.")
    assert sample.tags == {"domain": "colour", "ambiguity": "0.25", "prompt_type": "question"}
    assert (sample.origin, loaded.num_rows, loaded.problems) == ("drafts.jsonl:2", 1, ())
    counts = count_drafts(folder / "drafts.jsonl")
    assert counts == DraftCounts(num_accepted=1, num_declined=1, num_waiting=2, num_failed=1)
    assert str(counts) == "1 drafts are accepted, 1 declined, 2 wait for a person, and 1 replies were no draft"


@pytest.mark.parametrize("format", [None, "drafts"])
def test_nothing_accepted_is_an_error_that_says_how_many_wait(folder: Path, format: str | None):
    write(folder, {"accepted": None}, {"accepted": False}, {"accepted": None})
    with pytest.raises(DataError, match=r'1 declined, 2 wait for a person.*write "accepted": true'):
        load_source("drafts.jsonl", root=folder, images="photos", format=format)


@pytest.mark.parametrize("accepted", ["true", "yes", 1, 1.0, 0, [True]])
def test_accepted_means_true_and_nothing_like_it(folder: Path, accepted: object):
    write(folder, {"accepted": True}, {"accepted": accepted})
    loaded = load_source("drafts.jsonl", root=folder, images="photos")["all"]
    assert [s.id for s in loaded.samples] == ["a.png:0"]
    [problem] = loaded.problems
    assert f"`accepted` is {accepted!r}, not true, false or null" in problem.found and problem.row == 2


def test_a_failed_reply_that_a_person_mended_is_a_draft_like_others(folder: Path):
    write(
        folder, {"accepted": True, "fault": "cut JSON", "reply": "{"}, {"accepted": True, "question": ""}, end="\n{cut"
    )
    loaded = load_source("drafts.jsonl", root=folder, images="photos")["all"]
    assert [s.id for s in loaded.samples] == ["a.png:0"]
    assert [(p.row, p.kind) for p in loaded.problems] == [(2, "empty-question"), (3, "bad-json")]
    assert count_drafts(folder / "drafts.jsonl").num_accepted == 2

"""What the report says of judges; and what their words cannot do to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.fake_study import write_study
from report.hostile_study import ATTACKS
from sightline.errors import CorruptError
from sightline.report.build import build_report

FINDING = {"test": "length bias", "says": "it gains +4.0 points", "is_worry": True, "num_rows": 9, "numbers": {}}
RECORD: dict[str, Any] = {
    "judge": "marks",
    "kind": "rubric",
    "asked": {"server": "http://localhost:8000/v1", "model": "some-model"},
    "answered_by": ["some-model-2026"],
    "prompt_sha256": "0123456789abcdef",
    "parser": "sightline",
    "decoding": {"max_new_tokens": 1024, "temperature": 0.7, "top_p": 0.9, "stop": [], "seed": 0},
    "shows_pictures": True,
    "reasks": 2,
    "has_schema": True,
    "num_held_to_schema": 7,
    "refused_by_server": {},
    "spent": {
        "num_answered": 1234,
        "num_failed": 2,
        "num_tries": 1300,
        "num_prompt_tokens": 50_000,
        "num_completion_tokens": 9_000,
        "num_uncounted": 0,
        "cost": 0.1234,
        "num_possibly_billed_twice": 3,
        "num_unreadable_lines": 0,
    },
    "models": {
        "base": {
            "num_judged": 411,
            "num_unreadable": 5,
            "num_failed": 6,
            "num_not_applicable": 78,
            "unreadable_reply": "I would say <b>fine</b>.",
        }
    },
    "audit": {"findings": [FINDING], "num_worries": 1},
}
STUDY = "evaluate: {metrics: [exact_match, marks]}\njudges: {marks: {kind: rubric}, unused: {kind: shr}}\n"


def report_of(folder: Path, record: object, name: str = "marks", study: str = STUDY) -> tuple[str, str]:
    directory = write_study(folder)
    (directory / "study.yaml").write_text(study, encoding="utf-8")
    (directory / "judges" / name).mkdir(parents=True)
    (directory / "judges" / name / "record.json").write_text(json.dumps(record), encoding="utf-8")
    build_report(directory, with_images=False, with_figures=False)
    return tuple((directory / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))  # type: ignore[return-value]


def test_everything_that_belongs_to_a_judge_s_numbers_is_said(tmp_path: Path):
    page, text = report_of(tmp_path, RECORD)
    for words in (
        "some-model-2026",
        "0123456789abcdef",
        "temperature 0.7, seed 0, top-p 0.9, at most 1,024 tokens",
        "asked for a JSON schema",
        "7 of 1,234 replies",
        "a reply that could not be read",
        "1,234 answered, 2 failed for good",
        "50,000 of prompts, 9,000 of replies",
        "0.1234",
        "3 tries",
        "The judge itself was tested: 1 findings, 1 of them a worry.",
        "length bias: it gains +4.0 points",
    ):
        assert words in page and words in text.replace("\\", ""), words
    assert "| base | 411 | 5 | 6 | 78 |" in text
    assert "judge score, unvalidated" in text and "judge score, unvalidated" in page
    assert '<a href="#judges">' in page


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        (None, "was not tested (audit_rows: 0)"),
        ({"findings": [], "num_worries": 0}, "no reply of it could be read"),
        ({"findings": [FINDING | {"is_worry": False}], "num_worries": 0}, "none of them a worry"),
    ],
)
def test_what_is_not_known_of_a_judge_is_said_too(tmp_path: Path, audit: object, said: str):
    record = {key: value for key, value in RECORD.items() if key != "audit"} | ({"audit": audit} if audit else {})
    page, text = report_of(tmp_path, record)
    assert said in page and said in text.replace("\\", "")


def test_without_judges_the_report_says_nothing_of_them(tmp_path: Path):
    page, text = report_of(tmp_path, RECORD, name="unused")
    assert "judges-title" not in page and "## The judges" not in text


def test_what_judges_and_servers_say_is_no_markup(tmp_path: Path):
    everything = " ".join(attack for attack in ATTACKS if "\ud800" not in attack)
    finding = FINDING | {"says": everything}
    record = RECORD | {"answered_by": [everything], "audit": {"findings": [finding], "num_worries": 1}}
    record |= {"refused_by_server": {everything: everything}, "models": {everything: {"num_judged": 1}}}
    page, text = report_of(tmp_path, record)
    plain, _ = report_of(tmp_path / "plain", RECORD)
    assert page.count("<script") == plain.count("<script") and page.count("<img") == plain.count("<img")
    bare = text.replace("\\<", "")
    assert "<script" not in bare and "<img" not in bare


def test_a_torn_record_is_named(tmp_path: Path):
    with pytest.raises(CorruptError, match=r"marks/record\.json: no judge's record"):
        report_of(tmp_path, {"judge": "marks"})

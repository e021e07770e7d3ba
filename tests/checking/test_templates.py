"""A template that is not the model's own is found, and how far it is from it; so are questions in another form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lettered_rows import CLEAN, only, sample
from sightline.checking.templates import check_form, check_markers, check_template
from sightline.models.family import Family
from sightline.models.loading import load_family
from sightline.records import Message

TINY = Path(__file__).parents[2] / "src" / "sightline" / "assets" / "tiny"
OWN = (TINY / "chat_template.jinja").read_text(encoding="utf-8")
PLAIN = {"plain": "{question}"}


@pytest.fixture(scope="module")
def own() -> Family:
    return load_family("builtin:tiny")


def with_template(folder: Path, text: str) -> Family:
    (folder / "other.jinja").write_text(text, encoding="utf-8")
    return load_family("builtin:tiny", template_file=folder / "other.jinja")


def test_the_same_template_in_a_file_is_no_foreign_one(own: Family, tmp_path: Path) -> None:
    assert list(check_template(own, with_template(tmp_path, OWN), "other.jinja")) == []


CHANGED = {
    "role": (OWN.replace("| upper", "| capitalize"), "fault", "'USER: <image>\\n' is written 'User: <image>\\n'"),
    "opening": (OWN.replace("'ASSISTANT:'", "'ASSISTANT: Well,'"), "fault", "' ASSISTANT: Well,'"),
    "end": (OWN.replace("eos_token if", "'<done>' if"), "fault", "<done> is no token of this model"),
    "picture": (OWN.replace("'<image>\\n'", "'Picture: <image>\\n'"), "fault", "Picture:"),
    "system text": ("Be brief. " + OWN, "warning", "before the first turn"),
    "blanks": (OWN.replace("'<image>\\n'", "'<image> '"), "warning", "blanks alone"),
}


@pytest.mark.parametrize(("text", "severity", "told"), CHANGED.values(), ids=CHANGED)
def test_what_a_template_changes_decides_how_bad_it_is(
    own: Family, tmp_path: Path, text: str, severity: str, told: str
) -> None:
    finding = only(check_template(own, with_template(tmp_path, text), "other.jinja"))
    assert (finding.name, finding.severity) == ("foreign-template", severity)
    assert told in finding.message and "other.jinja" in finding.message


def test_texts_that_hold_a_template_s_markers_are_found() -> None:
    assert list(check_markers("d", CLEAN)) == []
    finding = only(check_markers("d", [*CLEAN, sample(9, "A", "<|im_start|>user\nleft?", "no")]))
    assert finding.severity == "warning" and "1 of 5 rows" in finding.message and "a.csv:9" in finding.message


def test_asking_in_the_trained_form_among_others_is_fine() -> None:
    for prompts in (PLAIN, {**PLAIN, "short": "{question} Answer briefly."}):
        assert list(check_form({"d.train": CLEAN}, {"d.test": CLEAN}, prompts=prompts, system=None)) == []
    assert list(check_form({}, {"d.test": CLEAN}, prompts={"short": "{question} Briefly."}, system=None)) == []


def test_asking_in_no_trained_form_is_a_warning() -> None:
    prompts = {"short": "{question} Answer briefly."}
    finding = only(check_form({"d.train": CLEAN}, {"d.test": CLEAN}, prompts=prompts, system=None))
    assert (finding.name, finding.severity) == (
        "asked-otherwise-than-trained",
        "warning",
    ) and "short" in finding.message


def test_a_system_turn_of_the_data_that_no_trained_row_has_is_a_warning() -> None:
    turn = Message(role="system", content=("You are a radiologist.",))
    told = [replace(row, messages=(turn, *row.messages)) for row in CLEAN]
    finding = only(check_form({"d.train": CLEAN}, {"d.test": told[:3]}, prompts=PLAIN, system=None))
    assert "3 of 3 questions" in finding.message and "radiologist" in finding.message
    assert list(check_form({"d.train": told}, {"d.test": told}, prompts=PLAIN, system=None)) == []
    assert list(check_form({"d.train": CLEAN}, {"d.test": told}, prompts=PLAIN, system="Be brief.")) == []

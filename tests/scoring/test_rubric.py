"""The rubric judge: a YAML of criteria that says what is wrong with it, and marks that are on the scale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from judged_rows import rows
from sightline.errors import MissingDataError, StudyError
from sightline.scoring.judge import UnreadableError
from sightline.scoring.rubric import load_rubric, parse_rubric, read_marks, rubric_kind

OWN = """
name: short
scale: [0, 4]
criteria:
  right: {asks: "Is it right?", levels: {0: no, 4: yes}, weight: 3}
  brief: Is it brief?
  safe: {asks: "Is it safe?", may_not_apply: true}
"""
SHORT = parse_rubric(OWN, where="r.yaml")


def test_the_default_rubric_has_the_five_criteria():
    rubric = load_rubric()
    assert [criterion.name for criterion in rubric.criteria] == [
        "correctness",
        "steerability",
        "helpfulness",
        "hallucination_avoidance",
        "safety",
    ]
    [prompt] = rubric_kind(rubric, shows_pictures=False).write(rows(1)[0])
    for text in ("correctness", "picture that you are not shown", "I see 0 nodules.", "from 1 to 5", "Use null where"):
        assert text in prompt
    assert "a question about the picture," in rubric_kind(rubric, shows_pictures=True).write(rows(1)[0])[0]


@pytest.mark.parametrize(
    ("marks", "value"),
    [
        ({"right": 4, "brief": 0, "safe": 2}, (3 * 1 + 0 + 0.5) / 5),
        ({"right": 4, "brief": 0, "safe": None}, 3 / 4),
        ({"right": "2", "brief": 2.0, "safe": 2, "reason": "so"}, 0.5),
    ],
)
def test_the_value_is_the_weighted_mean_of_what_applies(marks: dict, value: float):
    kind = rubric_kind(SHORT, shows_pictures=False)
    opinion = kind.combine([kind.read(f"I think {json.dumps(marks)}", rows(1)[0])], rows(1)[0])
    assert opinion.value == pytest.approx(value)
    assert set(opinion.parts) == {name for name in ("right", "brief", "safe") if marks[name] is not None}


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"right": 4, "brief": 0}, "safe is ''"),
        ({"right": None, "brief": 0, "safe": 1}, "right is None, not a mark from 0 to 4"),
        ({"right": 5, "brief": 0, "safe": 1}, "right is 5"),
        ({"right": True, "brief": 0, "safe": 1}, "right is True"),
        ({"right": 1.5, "brief": 0, "safe": 1}, "right is 1.5"),
        ({"right": "good", "brief": 0, "safe": 1}, "right is 'good'"),
        ({}, "right is ''"),
    ],
)
def test_marks_off_the_scale_are_unreadable(marks: dict, message: str):
    with pytest.raises(UnreadableError, match=message):
        read_marks(SHORT, json.dumps(marks))


def test_the_last_whole_set_of_marks_counts():
    own = json.dumps({"right": 1, "brief": 1, "safe": 1})
    quoted = json.dumps({"right": 4, "brief": 4, "safe": 4})
    assert read_marks(SHORT, f"The answer claims {quoted}. My marks: {own} (0 is low)")["right"] == 1
    assert read_marks(SHORT, f'{own} {{"note": 1}}')["right"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "is no block of keys"),
        ("criteria: {}", "criteria names nothing to mark"),
        ("criterions: {a: b}", "criterions is not a key; there is name, scale"),
        ("{scale: [5, 1], criteria: {a: b}}", "goes down"),
        ("{scale: 5, criteria: {a: b}}", "scale is 5; write"),
        ("{criteria: {a: {asks: b, levels: {6: c}}}}", r"criteria\.a: level 6 is not on the scale \[1, 5\]"),
        ("{criteria: {a: {asks: b, weight: 0}}}", "weight is 0"),
        ("{criteria: {a: {asks: b, wieght: 2}}}", "wieght is not a key"),
        ("{criteria: {a: {levels: {1: c}}}}", "asks is None"),
        ("{criteria: {a: {asks: b, may_not_apply: 3}}}", "may_not_apply is 3"),
        ("{criteria: {reason: b}}", "this name is taken"),
        ("{criteria: {a: {asks: b, may_not_apply: true}}}", "let one always apply"),
        ("criteria: [", "no YAML"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_a_faulty_rubric_says_where_and_what(text: str, message: str, tmp_path: Path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"r\.yaml: .*" + message):
        load_rubric(tmp_path / "r.yaml")
    with pytest.raises(MissingDataError, match="no file"):
        load_rubric(tmp_path / "none.yaml")

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.errors import DataError, MissingDataError, StudyError
from sightline.records import Message, Picture, Sample
from sightline.scoring.answer_files import CLOSED_RULES, read_answers, score_file


def sample_of(name: str, image: str, question: str, reference: str) -> Sample:
    picture = Picture(name=image, sha256=image, width=8, height=8)
    message = Message(role="user", content=(0, question))
    return Sample(id=name, pictures=(picture,), messages=(message,), answer=reference)


SAMPLES = [
    sample_of("1", "a.png", "Is there a nodule?", "yes"),
    sample_of("2", "a.png", "Which side?", "left lung"),
    sample_of("3", "b.png", "Is there a nodule?", "no"),
]


def written(folder: Path, rows: Sequence[object]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("id_key", ["id", "sample_id", "question_id"])
@pytest.mark.parametrize("text_key", ["text", "answer", "prediction", "output"])
def test_known_names_of_columns_are_read_and_joined_by_id(tmp_path: Path, id_key: str, text_key: str) -> None:
    rows = [{id_key: 3, text_key: "no"}, {id_key: 1, text_key: " yes "}, {id_key: 2, text_key: "left"}]
    answers = read_answers(written(tmp_path, rows), SAMPLES)
    assert [(answer.sample_id, answer.text) for answer in answers] == [("1", "yes"), ("2", "left"), ("3", "no")]


def test_without_ids_image_and_question_are_the_key(tmp_path: Path) -> None:
    rows = [{"image": s.pictures[0].name, "question": s.question, "text": s.id} for s in reversed(SAMPLES)]
    assert [answer.text for answer in read_answers(written(tmp_path, rows), SAMPLES)] == ["1", "2", "3"]


def test_a_repeated_question_needs_equal_answers(tmp_path: Path) -> None:
    samples = [*SAMPLES, sample_of("4", "b.png", "Is there a nodule?", "no")]
    rows = [{"image": s.pictures[0].name, "question": s.question, "text": "no"} for s in samples]
    assert [answer.text for answer in read_answers(written(tmp_path, rows), samples)] == ["no"] * 4
    rows[-1]["text"] = "yes"
    with pytest.raises(DataError, match=r"jsonl:4.*answered twice"):
        read_answers(written(tmp_path, rows), samples)


def test_the_reference_beside_a_prediction_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    rows = [{"id": s.id, "answer": s.answer, "prediction": "wrong"} for s in SAMPLES]
    assert {answer.text for answer in read_answers(written(tmp_path, rows), SAMPLES)} == {"wrong"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "text": "x"}], "1 answers for 3 rows"),
        ([{"id": n, "text": "x"} for n in (1, 1, 2)], "jsonl:2: a second answer for id '1'"),
        ([{"id": n, "text": "x"} for n in (1, 2, 9)], "jsonl:3: id '9' is not in the data"),
        ([{"id": n, "text": "q", "answer": "x"} for n in (1, 2, 3)], "jsonl:1: text and answer could each"),
        ([{"id": n, "score": 1} for n in (1, 2, 3)], "jsonl:1: no answer"),
        ([{"id": n, "text": None} for n in (1, 2, 3)], "jsonl:1: text is None"),
        ([{"text": "x"}] * 3, "jsonl:1: neither an id"),
        ([{"image": "a.png", "question": "?", "text": "x"}] * 3, "is not in the data"),
        ([["x"]] * 3, "jsonl:1: a list where an object was expected"),
    ],
)
def test_what_does_not_match_is_refused_by_row(tmp_path: Path, rows: Sequence[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_answers(written(tmp_path, rows), SAMPLES)


def test_a_line_ends_where_json_lines_say_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = [json.dumps({"id": s.id, "text": "left\u2028lung"}, ensure_ascii=False) for s in SAMPLES]
    path.write_text("\r\n".join(lines), encoding="utf-8")
    assert {answer.text for answer in read_answers(path, SAMPLES)} == {"left\u2028lung"}


def test_a_torn_line_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_text('{"id": 1, "text": "x"}\n{"id": 2, "te', encoding="utf-8")
    with pytest.raises(DataError, match=r"torn.jsonl:2: not JSON"):
        read_answers(path, SAMPLES)
    with pytest.raises(MissingDataError, match=r"absent.jsonl does not exist"):
        read_answers(tmp_path / "absent.jsonl", SAMPLES)


def test_scoring_a_file_by_each_rule(tmp_path: Path) -> None:
    texts = {"1": "no nodule", "2": "left", "3": "normal"}
    path = written(tmp_path, [{"id": name, "text": text} for name, text in texts.items()])
    values = {
        rule: [(score.outcome, score.value) for score in score_file(path, SAMPLES, rule)["closed_accuracy"]]
        for rule in CLOSED_RULES
    }
    assert values["sightline"] == [("scored", 0.0), ("not_applicable", None), ("unparsed", None)]
    assert values["llava-med"] == [("scored", 0.0), ("not_applicable", None), ("scored", 1.0)]
    assert values["llava-med-2023-08"] == [("not_applicable", None), ("not_applicable", None), ("scored", 1.0)]
    scores = score_file(path, SAMPLES)
    assert [score.value for score in scores["open_recall"]] == [None, 0.5, None]
    assert "nll" not in scores
    with pytest.raises(StudyError, match="rule 'lmms' is unknown; known rules for vqa: sightline"):
        score_file(path, SAMPLES, "lmms")

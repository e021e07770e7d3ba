"""Every tool's file of answers becomes the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.errors import DataError, MissingDataError
from sightline.scoring.answer_rows import AnswerRow, read_answer_rows


def lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def fields(row: AnswerRow) -> tuple[str | None, ...]:
    return (row.id, row.image, row.question, row.category, row.text, row.reference)


def test_our_own(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"image": "a.jpg", "question": "Is it?", "answer": " No\n", "score": 1}])
    (row,) = read_answer_rows(path)
    assert fields(row) == (None, "a.jpg", "Is it?", None, " No\n", None)
    assert row.where == f"{path}:1"


def test_llavas(tmp_path: Path) -> None:
    row = {"question_id": 7, "prompt": "Is it?\nAnswer the question using a single word or phrase.", "text": "No"}
    path = lines(tmp_path / "a.jsonl", [{**row, "answer_id": "x", "model_id": "llava", "metadata": {}}])
    assert fields(read_answer_rows(path)[0]) == ("7", None, row["prompt"], None, "No", None)
    asked = {"question_id": 7, "image": "b.jpg", "text": "Is it?", "category": "popular"}
    found = read_answer_rows(path, lines(tmp_path / "q.jsonl", [asked, {**asked, "question_id": 8}]))
    assert [fields(row) for row in found] == [(None, "b.jpg", "Is it?", "popular", "No", None)]


def test_ha_dpos(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"question": "Is it?", "answer": "No</s>", "question_id": 3}])
    assert fields(read_answer_rows(path)[0]) == ("3", None, "Is it?", None, "No</s>", None)


def test_lmms_evals_log(tmp_path: Path) -> None:
    row = {
        "doc_id": 0,
        "input": "Is it?\nAnswer the question using a single word or phrase.",
        "target": "no",
        "filtered_resps": ["No"],
        "doc_hash": "ab",
        "pope_accuracy": {"question_id": "12", "score": 1.0, "prediction": "no", "ground_truth": "no"},
    }
    slake = {"doc_id": 1, "input": "Which?", "target": "Liver", "resps": [["liver"]], "slake_accuracy": {"id": "99"}}
    found = read_answer_rows(lines(tmp_path / "a.jsonl", [row, slake]))
    assert [fields(each) for each in found] == [
        ("12", None, row["input"], None, "No", "no"),
        ("99", None, "Which?", None, "liver", "Liver"),
    ]


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json"])
def test_vlmevalkits_table(tmp_path: Path, suffix: str) -> None:
    row = {
        "index": "0",
        "question": "Is it? Please answer yes or no.",
        "answer": "Yes",
        "category": "adversarial,popular,random",
        "image_source": "COCO_val2014_000000000042",
        "prediction": "Yes, it is.",
    }
    path = tmp_path / f"model_POPE{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps([row]))
    else:
        separator = {".tsv": "\t", ".csv": ","}[suffix]
        quoted = [[f'"{each}"' if separator in each else each for each in line] for line in (list(row), row.values())]
        path.write_text("\n".join(separator.join(line) for line in quoted) + "\n")
    found = read_answer_rows(path)
    assert [each.category for each in found] == ["adversarial", "popular", "random"]
    assert {fields(each)[:3] + fields(each)[4:] for each in found} == {
        (None, "COCO_val2014_000000000042.jpg", row["question"], "Yes, it is.", "Yes")
    }


def test_captions_by_picture(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"521": "A house.", "811": ""}, indent=1))
    assert [fields(row) for row in read_answer_rows(path)] == [
        ("521", None, None, None, "A house.", None),
        ("811", None, None, None, "", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "PK", r"a\.xlsx: a spreadsheet; save it as \.tsv or \.csv"),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": 2, "te', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '["x"]', r"a\.jsonl"),
        ("a.json", '[{"id": 1, "text": "x"}, "y"]', r"a\.json, row 1: a row is 'y'"),
        ("a.csv", "id,text\n1,a,b\n", r"a\.csv:2: 3 fields where the header has 2"),
        ("a.jsonl", '{"id": 1, "text": null}', r"a\.jsonl:1: text is None"),
        ("a.jsonl", '{"id": 1, "score": 2}', r"a\.jsonl:1: no answer; expected one of prediction"),
        ("a.jsonl", '{"id": 1, "text": "q", "answer": "x"}', r"a\.jsonl:1: text and answer could each"),
        ("a.jsonl", '{"doc_id": 1, "filtered_resps": []}', r"a\.jsonl:1: filtered_resps is \[\]"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_answer_rows(tmp_path / name)


def test_missing_files_and_ids_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"absent\.jsonl does not exist; --answers names"):
        read_answer_rows(tmp_path / "absent.jsonl")
    answers = lines(tmp_path / "a.jsonl", [{"question_id": 7, "text": "No"}])
    with pytest.raises(MissingDataError, match=r"absent\.jsonl does not exist; --questions names"):
        read_answer_rows(answers, tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl:1: id '7' is not among those of .*q\.jsonl"):
        read_answer_rows(answers, lines(tmp_path / "q.jsonl", [{"question_id": 8, "image": "a", "text": "?"}]))
    with pytest.raises(DataError, match=r"q\.jsonl:2: a second question '8'"):
        read_answer_rows(answers, lines(tmp_path / "q.jsonl", [{"question_id": 8}] * 2))

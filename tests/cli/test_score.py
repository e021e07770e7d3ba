"""`sightline score`: anyone's answers, however their tool names its keys."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_studies import sightline_command

Rows = list[list[str]]

STYLES: dict[str, Callable[[Rows], list[dict[str, object]]]] = {
    "llava": lambda rows: [{"question_id": line, "text": row[2]} for line, row in enumerate(rows, start=2)],
    "own": lambda rows: [{"sample_id": str(line), "output": row[2]} for line, row in enumerate(rows, start=2)],
    "shuffled": lambda rows: [{"id": line, "prediction": row[2]} for line, row in enumerate(rows, start=2)][::-1],
    "by image": lambda rows: [{"image": row[0], "question": row[1], "answer": row[2]} for row in rows],
    "with reference": lambda rows: [
        {"image": row[0], "question": row[1], "answer": "the reference", "prediction": row[2]} for row in rows
    ],
}


@pytest.fixture
def rows(small_folder: Path) -> Rows:
    """The table's rows; each answer is right."""
    with (small_folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def write(path: Path, answers: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
    return path


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_keys(style: str, rows: Rows, small_folder: Path, tmp_path: Path) -> None:
    wrong = [*rows[:-1], [*rows[-1][:2], "nonsense"]]
    answers = write(tmp_path / "answers.jsonl", STYLES[style](wrong))
    ended = sightline_command("score", "vqa", "--answers", answers, "--data", small_folder / "rows.csv", "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1), ended.err
    exact = json.loads(ended.out)["metrics"]["exact_match"]
    assert exact["num_scored"] == len(rows)
    assert exact["value"] == pytest.approx(1 - 1 / len(rows))
    assert exact["interval"][0] < exact["value"] < exact["interval"][1]


def test_for_people(rows: Rows, small_folder: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.jsonl", STYLES["llava"](rows))
    ended = sightline_command(
        "score", "vqa", "--answers", answers, "--data", small_folder / "rows.csv", "--rule", "llava-med"
    )
    assert ended.code == 0
    assert ended.out.startswith(f"exact_match: 1.0000 ({len(rows)} scored, 0 unparsed)\n")


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (("pope",), None, "no task 'pope'; there is vqa"),
        (("vqa", "--rule", "mine"), None, "rule 'mine' is unknown; known rules for vqa: sightline, llava-med"),
        (("vqa",), lambda answers: answers[:-1], "66 answers for 67 rows of data"),
        (("vqa",), lambda answers: [*answers[:-1], answers[0]], "answers.jsonl:67: a second answer for id '2'"),
        (("vqa",), lambda answers: [{"text": "yes"}, *answers[1:]], "answers.jsonl:1: neither an id"),
    ],
)
def test_what_does_not_fit_is_named(
    arguments: tuple[str, ...], change: Callable | None, message: str, rows: Rows, small_folder: Path, tmp_path: Path
) -> None:
    answers = STYLES["llava"](rows)
    path = write(tmp_path / "answers.jsonl", change(answers) if change else answers)
    ended = sightline_command("score", *arguments, "--answers", path, "--data", small_folder / "rows.csv")
    assert (ended.code, ended.out) == (2, "") and message in ended.err

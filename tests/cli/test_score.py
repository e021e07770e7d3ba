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
    arguments = ("score", "vqa", "--answers", answers, "--data", small_folder / "rows.csv", "--rule", "all", "--json")
    every = json.loads(sightline_command(*arguments).out)["rules"]
    assert every["sightline"]["metrics"]["exact_match"] == exact


def test_data_without_references_say_which_columns_would_do(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image,question\na.png,Is it?\n", encoding="utf-8")
    answers = write(tmp_path / "a.jsonl", [{"image": "a.png", "question": "Is it?", "prediction": "yes"}])
    ended = sightline_command("score", "vqa", "--answers", answers, "--data", tmp_path / "rows.csv")
    told = "which column holds the answer? It has image, question; `score` takes the reference answers from a column"
    assert ended.code == 2 and f"rows.csv: {told} named answer, label, response, output" in ended.err


def test_for_people(rows: Rows, small_folder: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.jsonl", STYLES["llava"](rows))
    ended = sightline_command(
        "score", "vqa", "--answers", answers, "--data", small_folder / "rows.csv", "--rule", "medico-agent"
    )
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == f"{len(rows)} answers, matched by id"
    values = lines.index("exact_match                   100.00")
    assert lines[values + 1].split()[:2] == ["95%", "interval"] and lines[values + 1].endswith(" to 100.00")
    assert any(line.startswith("medico-agent: closed questions are yes against all else") for line in lines)


def test_every_rule_side_by_side_with_the_answers_that_make_the_difference(
    rows: Rows, small_folder: Path, tmp_path: Path
) -> None:
    closed = next(place for place, row in enumerate(rows) if row[2] == "yes")
    said = [[*row[:2], "Yes, nothing abnormal." if place == closed else row[2]] for place, row in enumerate(rows)]
    answers = write(tmp_path / "answers.jsonl", STYLES["llava"](said))
    arguments = ("score", "vqa", "--answers", answers, "--data", small_folder / "rows.csv", "--rule", "all")
    found = json.loads(sightline_command(*arguments, "--json").out)
    assert list(found["rules"]) == ["sightline", "llava-med", "llava-med-2023-08", "lmms-eval", "medico-agent"]
    (group,) = [each for each in found["disagreements"]["closed_accuracy"] if each["readings"]["lmms-eval"] == "wrong"]
    assert group["readings"] == {
        "sightline": "right",
        "llava-med": "right",
        "llava-med-2023-08": "right",
        "lmms-eval": "wrong",
    }
    assert [each["answer"] for each in group["examples"]] == ["Yes, nothing abnormal."]
    text = sightline_command(*arguments).out
    assert "1: sightline right, llava-med right, llava-med-2023-08 right, lmms-eval wrong" in text


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (("chair",), None, "no task 'chair'; there is pope, vqa, text, shr"),
        (("vqa", "--rule", "mine"), None, "rule 'mine' is unknown; known rules for vqa: sightline, llava-med"),
        (("vqa",), lambda answers: answers[:-1], "66 answers for 67 rows of data"),
        (("vqa",), lambda answers: [*answers[:-1], answers[0]], "answers.jsonl:67: a second answer for '2'"),
        (("vqa",), lambda answers: [{"text": "yes"}, *answers[1:]], "answers.jsonl:1: neither an id"),
        (("pope",), None, "POPE's are yes and no"),
    ],
)
def test_what_does_not_fit_is_named(
    arguments: tuple[str, ...], change: Callable | None, message: str, rows: Rows, small_folder: Path, tmp_path: Path
) -> None:
    answers = STYLES["llava"](rows)
    path = write(tmp_path / "answers.jsonl", change(answers) if change else answers)
    ended = sightline_command("score", *arguments, "--answers", path, "--data", small_folder / "rows.csv")
    assert (ended.code, ended.out) == (2, "") and message in ended.err


def test_text(tmp_path: Path) -> None:
    said = [
        ("a.png", "The left lung is clear.", "The left lung is clear."),
        ("b.png", "No effusion.", "There is none."),
    ]
    table = tmp_path / "rows.csv"
    table.write_text("image,question,answer\n" + "".join(f"{image},Describe.,{ref}\n" for image, ref, _ in said))
    rows: list[dict[str, object]] = [{"image": i, "question": "Describe.", "prediction": text} for i, _, text in said]
    arguments = ("score", "text", "--answers", write(tmp_path / "a.jsonl", rows), "--data", table, "--rule", "all")
    found = json.loads(sightline_command(*arguments, "--json").out)
    ours, nltk = found["rules"]["sightline"]["metrics"], found["rules"]["nltk"]["metrics"]
    assert ours["rouge_l"]["value"] == pytest.approx(0.5) and nltk["sentence_bleu"]["value"] == pytest.approx(0.5)
    assert ours["answer_length"]["value"] == pytest.approx(4.0)
    # 13a tokens: 6 and 4 said, 6 and 3 wanted; 6 and the period match, then 5, 4 and 3 of one answer alone.
    assert ours["bleu"]["value"] == pytest.approx((7 / 10 * 5 / 8 * 4 / 6 * 3 / 4) ** 0.25)
    assert found["corpus_distinct"] == {"1": 7 / 8, "2": 1.0}
    assert "BLEU: nrefs:1|case:mixed|eff:no|tok:13a" in sightline_command(*arguments).out


SHR = {
    "run1": {
        "521": {
            "raw_judgement": "Judgement:\n1. correct: yes\n2. hallucination: no cat\n3. cannot judge: mood",
            "model_response": "A dog runs. A cat sleeps. It feels calm.",
            "judgement": [
                {"model_response": "A dog runs.", "judgement": "correct: yes", "classification": "correct"},
                {
                    "model_response": "A cat sleeps.",
                    "judgement": "hallucination: no cat",
                    "classification": "hallucination",
                },
                {
                    "model_response": "It feels calm.",
                    "judgement": "cannot judge: mood",
                    "classification": "cannot judge",
                },
            ],
        }
    }
}


def test_shr(tmp_path: Path) -> None:
    judged, images = tmp_path / "judged.json", tmp_path / "val_images_final.json"
    judged.write_text(json.dumps(SHR))
    images.write_text(json.dumps([{"image_id": 521}, {"image_id": 811}]))
    arguments = ("score", "shr", "--answers", judged, "--data", images, "--rule", "all", "--against", judged)
    ended = sightline_command(*arguments, "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["shr"] == {"original": pytest.approx(1 / 3), "sightline": 0.5}
    assert (found["num_images"], found["missing_images"]) == (1, ["811"])
    assert found["at_matched_length"]["sightline"] == {str(judged): 0.5}
    assert json.loads((tmp_path / "out" / "judgement.json").read_text()) == SHR
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mean_hal_ratio"] == 0.333
    text = sightline_command(*arguments).out
    assert "1 images described, 1 missing" in text and "original   33.33" in text
    images.write_text(json.dumps([{"image_id": 811}]))
    ended = sightline_command(*arguments)
    assert ended.code == 2 and "image 521 is not among the 1 images of the data" in ended.err

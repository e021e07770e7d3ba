"""`sightline score pope` on POPE's real label files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from sightline.runner.score_text import render_score
from tiny_studies import sightline_command

SUBSETS = ("random", "popular", "adversarial")

# Of 1,500 yes and 1,500 no in each subset: what HA-DPO's LLaVA-1.5-7B found (TP) and made up (FP).
FOUND, MADE_UP = 1_315, {"random": 99, "popular": 178, "adversarial": 371}


@pytest.fixture(scope="module")
def labels(shared: Path) -> Path:
    return shared / "data" / "pope"


def rows_of(labels: Path, subset: str) -> list[dict[str, str]]:
    lines = (labels / f"coco_pope_{subset}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def answered(labels: Path, subset: str) -> Iterable[dict[str, object]]:
    """Answers with the counts of a published row, as HA-DPO's script writes them but for the end token."""
    left = {"yes": FOUND, "no": MADE_UP[subset]}
    for row in rows_of(labels, subset):
        left[row["label"]] -= 1
        said = "Yes, there is." if left[row["label"]] >= 0 else "No, there is none."
        yield {"question_id": row["question_id"], "question": row["text"], "answer": said}


def write(path: Path, rows: Iterable[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def cut(rate: float) -> float:
    return math.floor(rate * 10_000 + 1e-9) / 100


def test_a_published_row_from_answers_to_the_real_labels(labels: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "pope_popular.jsonl", answered(labels, "popular"))
    ended = sightline_command(
        "score", "pope", "--answers", answers, "--data", labels, "--split", "popular", "--rule", "original", "--json"
    )
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["counts"] == {"tp": 1315, "fp": 178, "tn": 1322, "fn": 185, "unread_yes": 0, "unread_no": 0}
    assert (found["num_questions"], found["num_images"], found["max_questions_per_image"]) == (3_000, 500, 6)
    rates = {name: cut(metric["value"]) for name, metric in found["metrics"].items()}
    assert rates == {"accuracy": 87.90, "precision": 88.07, "recall": 87.66, "f1": 87.87, "yes_ratio": 49.76}
    low, high = found["metrics"]["f1"]["interval"]
    assert low < found["metrics"]["f1"]["value"] < high < low + 0.05


def test_all_subsets_and_rules_at_once(labels: Path, tmp_path: Path) -> None:
    rows = [
        {**row, "image": asked["image"], "category": subset}
        for subset in SUBSETS
        for row, asked in zip(answered(labels, subset), rows_of(labels, subset), strict=True)
    ]
    for row in rows:
        del row["question_id"]
    answers = write(tmp_path / "a.jsonl", rows[::-1])
    ended = sightline_command("score", "pope", "--answers", answers, "--data", labels, "--rule", "all", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["num_answers"], found["matched_by"]) == (9_000, "image, question and subset")
    original = found["rules"]["original"]
    assert {subset: cut(arm["metrics"]["f1"]["value"]) for subset, arm in original["subsets"].items()} == {
        "random": 90.25,
        "popular": 87.87,
        "adversarial": 82.54,
    }
    assert original["counts"]["tp"] == 3 * FOUND
    mean = sum(arm["metrics"]["f1"]["value"] for arm in original["subsets"].values()) / 3
    assert original["mean_of_subsets"]["f1"] == pytest.approx(mean)
    same = {name: found["rules"][name]["metrics"]["f1"]["value"] for name in ("llava", "vlmevalkit", "sightline")}
    assert set(same.values()) == {original["metrics"]["f1"]["value"]}
    lmms = found["rules"]["lmms-eval"]["metrics"]
    assert (lmms["accuracy"]["value"], lmms["yes_ratio"]["value"], lmms["accuracy"]["num_unparsed"]) == (0, 0.5, 9_000)
    assert [group["num_answers"] for group in found["disagreements"]] == [4_593, 4_407]
    assert found["disagreements"][1]["readings"]["lmms-eval"] == "unread"
    lines = [line.split() for line in render_score(found).splitlines()]
    adversarial = lines.index(["adversarial", "accuracy", "precision", "recall", "f1", "yes_ratio", "unread"])
    assert lines[adversarial + 2][:3] == ["95%", "interval", "79.37"]
    assert lines[adversarial + 1] == ["original", "81.47", "78.00", "87.67", "82.55", "56.20", "0"]
    assert ["9,000", "answers", "that", "the", "rules", "read", "differently"] in lines


def test_2910_answers_are_not_scored_against_3000_labels(labels: Path, tmp_path: Path) -> None:
    """By position they would be, without an error, and look like guessing: the older random subset is shorter."""
    answers = write(tmp_path / "a.jsonl", list(answered(labels, "random"))[:2_910])
    ended = sightline_command("score", "pope", "--answers", answers, "--data", labels / "coco_pope_random.json")
    assert (ended.code, ended.out) == (2, "")
    assert "2,910 answers for 3,000 rows of data; they must be the same questions" in ended.err
    assert "POPE's random subset once had 2,910 lines: score such answers against that release" in ended.err


def test_answers_to_one_split_of_several_are_told_which(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("adversarial", "popular", "random"):
        probes = [
            {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {name} thing in the image?", "label": "yes"}
            for n in range(6)
        ]
        write(tmp_path / "data" / f"coco_pope_{name}.json", probes)
    answers = write(
        tmp_path / "a.jsonl",
        [{"image": f"{n}.jpg", "question": "Is there a random thing in the image?", "answer": "no"} for n in range(6)],
    )
    arguments = ("score", "pope", "--answers", answers, "--data", tmp_path / "data")
    ended = sightline_command(*arguments)
    assert ended.code == 2 and "6 answers for 18 rows" in ended.err
    assert ended.err.endswith("they fit one split: add --split random\n")
    assert sightline_command(*arguments, "--split", "random").code == 0


def test_answers_to_one_subset_are_not_matched_with_another(labels: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "a.jsonl", answered(labels, "random"))
    ended = sightline_command("score", "pope", "--answers", answers, "--data", labels / "coco_pope_popular.json")
    assert ended.code == 2
    assert "a.jsonl:2: " in ended.err and "Is there a car in the image?" in ended.err


def test_llavas_answers_find_their_questions_by_number(tmp_path: Path) -> None:
    """Its numbers run through all subsets, and its answers hold neither picture nor subset."""
    labels = [
        {"question_id": n, "image": f"{n // 6}.jpg", "text": f"Is there a thing {n} in the image?", "label": label}
        for n in range(1, 60, 2)
        for label in ("yes" if n % 4 == 1 else "no",)
    ]
    data = write(tmp_path / "coco_pope_popular.json", labels)
    asked = [{**row, "question_id": 5_910 + n, "category": "popular"} for n, row in enumerate(labels)]
    questions = write(tmp_path / "questions.jsonl", [{k: v for k, v in row.items() if k != "label"} for row in asked])
    given = [{"question_id": row["question_id"], "prompt": row["text"], "text": row["label"]} for row in asked]
    answers = write(tmp_path / "llava-v1.5-13b.jsonl", given[::-1])
    arguments = ("score", "pope", "--answers", answers, "--data", data, "--rule", "llava")
    ended = sightline_command(*arguments, "--questions", questions)
    assert ended.code == 0 and "100.00" in ended.out, ended.err
    ended = sightline_command(*arguments)
    assert ended.code == 2 and "'5939' is not in the data" in ended.err


def test_a_value_says_how_many_answers_it_rests_on(tmp_path: Path) -> None:
    """Of 60 answers on 12 images one harness reads 12, all a right yes, on 5 of the images: no spread but at 0 read."""
    labels = [
        {"question_id": n, "image": f"{n // 5}.jpg", "text": f"Is there a thing {n} in the image?", "label": label}
        for n in range(60)
        for label in ("yes" if n % 2 else "no",)
    ]
    data = write(tmp_path / "coco_pope_popular.json", labels)
    said = ["yes" if n % 2 and n < 25 else "It is hard to see." for n in range(60)]
    given = [
        {"image": row["image"], "question": row["text"], "answer": text} for row, text in zip(labels, said, strict=True)
    ]
    ended = sightline_command(
        "score", "pope", "--answers", write(tmp_path / "a.jsonl", given), "--data", data, "--rule", "lmms-eval"
    )
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    (of_answers,) = (line for line in lines if line[:3] == ["of", "the", "answers"])
    assert of_answers[3:6] == ["12", "of", "60"]
    assert "100.00 to 100.00" not in ended.out

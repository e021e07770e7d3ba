"""`compare`, `ask`, `report` and `schema`, on studies that are finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from serving.test_people import review_all
from sightline.study import Study
from tiny_studies import run_study_file, sightline_command

ORGAN_F1 = "my_metrics.py:organ_f1"


def compared(*arguments: object) -> dict:
    ended = sightline_command("compare", *arguments, "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1), ended.err
    return json.loads(ended.out)


def test_compare_of_a_directory_is_its_compare_json(small_study: Path) -> None:
    assert compared(small_study) == json.loads((small_study / "compare.json").read_text(encoding="utf-8"))
    printed = sightline_command("compare", small_study).out
    assert printed.startswith(
        "small: comparisons\n\nStated before the run\n  sft against base, exact_match on data.test"
    )
    assert "Exploratory: not stated beforehand" in printed


def test_compare_of_models_takes_the_first_as_baseline(small_study: Path) -> None:
    result = compared(f"{small_study}:sft", f"{small_study}:base", "--by", "closed_accuracy")
    (question,), stated = result["exploratory"], result["stated"]
    assert stated == []
    names = (question["model"], question["against"], question["metric"])
    assert names == (f"{small_study}:base", f"{small_study}:sft", "closed_accuracy")


def test_compare_of_two_directories_is_paired(small_folder: Path, small_study: Path, tmp_path: Path) -> None:
    change = ("--set", "steps.sft.learning_rate=1e-2")
    other = run_study_file(small_folder / "small.yaml", "--out", tmp_path / "other", *change)
    (question,) = compared(f"{small_study}:sft", f"{other}:sft", "--by", "nll")["exploratory"]
    assert question["num_questions"] == len((other / "data/data.test.jsonl").read_text(encoding="utf-8").splitlines())
    assert question["difference"] != 0


def test_models_asked_different_data_are_not_compared(small_study: Path, rich_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_study, tmp_path / "copy")
    rows = copy / "data" / "data.test.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace('"answer": "yes"', '"answer": "no"'), encoding="utf-8")
    ended = sightline_command("compare", f"{small_study}:base", f"{copy}:base")
    assert ended.code == 2 and f"{copy}:base: data.test is not the data the other models were asked" in ended.err
    ended = sightline_command("compare", f"{small_study}:base", f"{rich_study}:other")
    assert ended.code == 2 and "no scores of 'other' there; it has base, sft@0, sft@1" in ended.err


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (("nowhere",), "no folder nowhere; give a study's directory, or several DIR:MODEL"),
        (("a:b",), "a:b: give a study's directory, or several DIR:MODEL"),
        (("a:b", "c:d"), "a:b: no folder a; write DIR:MODEL"),
        (("a", "b"), "a: no folder a; write DIR:MODEL"),
        ((".:b", "c:d"), ".:b: no study.yaml in .; write DIR:MODEL"),
    ],
)
def test_compare_says_how_it_wants_to_be_asked(runs: tuple[str, ...], message: str) -> None:
    ended = sightline_command("compare", *runs)
    assert ended.code == 2 and message in ended.err


def test_a_metric_of_ones_own_is_measured_with_intervals(rich_study: Path) -> None:
    result = json.loads((rich_study / "compare.json").read_text(encoding="utf-8"))
    entries = [arm["metrics"][ORGAN_F1] for arm in result["arms"]]
    assert all(entry["interval"][0] < entry["value"] < entry["interval"][1] for entry in entries)
    assert all(entry["num_not_applicable"] > 0 < entry["num_scored"] for entry in entries)
    assert {question["metric"] for question in result["stated"]} == {ORGAN_F1}
    assert "organ f1" in (rich_study / "report.md").read_text(encoding="utf-8")


def test_every_seed_set_and_wording_is_an_arm(rich_study: Path) -> None:
    result = json.loads((rich_study / "compare.json").read_text(encoding="utf-8"))
    arms = {(arm["model"], arm["data"], arm["template"]) for arm in result["arms"]}
    assert arms == {
        (model, data, template)
        for model in ("base", "sft@0", "sft@1")
        for data in ("mine.test", "drawn.test")
        for template in ("plain", "short")
    }
    stated = {(question["model"], question["data"], question["template"]) for question in result["stated"]}
    assert stated == {("sft", data, template) for _, data, template in arms}
    assert all(question["seeds"] == [0, 1] for question in result["stated"])
    assert all(len(question["checkpoints"]) == 2 for question in result["stated"])


def test_the_wording_reaches_the_model(rich_study: Path) -> None:
    text = (rich_study / "scores/base/nll.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    parts = {(row["data"], row["template"], row["sample_id"]): row["parts"] for row in rows}
    changed = [parts[data, "short", name] != parts[data, "plain", name] for data, _, name in parts]
    assert sum(changed) > 0.9 * len(changed)


def test_ask_puts_base_beside_tuned(small_folder: Path, small_study: Path) -> None:
    question = ("Is there a bar?", "--image", small_folder / "images" / "scan_000.png")
    ended = sightline_command("ask", f"{small_study}:sft", *question)
    assert ended.code == 0 and [line.partition(": ")[0] for line in ended.out.splitlines()] == ["base", "sft"]
    alone = sightline_command("ask", "builtin:tiny", *question, "--json")
    assert json.loads(alone.out) == {"builtin:tiny": ended.out.splitlines()[0].removeprefix("base: ")}
    wrong = sightline_command("ask", f"{small_study}:dpo", *question)
    assert wrong.code == 2 and "has no model 'dpo'; it has base, sft" in wrong.err


def test_ask_about_a_picture_that_is_not_there(small_study: Path) -> None:
    ended = sightline_command("ask", f"{small_study}:sft", "Why?", "--image", "nowhere.png")
    assert ended.code == 2 and "--image nowhere.png: there is no such file" in ended.err


def test_report_without_pictures(small_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_study, tmp_path / "copy")
    with_pictures = (copy / "report.html").read_text(encoding="utf-8")
    ended = sightline_command("report", copy, "--no-images")
    assert (ended.code, ended.out) == (0, f"{copy / 'report.html'}\n")
    without = (copy / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in with_pictures and "data:image/" not in without


def test_report_compares_again_once_people_have_judged(small_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_study, tmp_path / "copy")
    review_all(copy, "Ada")
    ended = sightline_command("report", copy, "--no-figures")
    assert ended.code == 0 and "compared again, with the judgements in reviews/" in ended.err
    people = json.loads((copy / "compare.json").read_text(encoding="utf-8"))["people"]
    assert {entry["kind"] for entry in people} >= {"reviewers", "model", "difference"}
    assert "corrected by people" in (copy / "report.md").read_text(encoding="utf-8")
    before = (copy / "compare.json").read_bytes(), (copy / "report.html").read_bytes()
    again = sightline_command("report", copy, "--no-figures")
    assert again.err == "" and before == ((copy / "compare.json").read_bytes(), (copy / "report.html").read_bytes())


def test_report_of_what_is_no_study(tmp_path: Path) -> None:
    ended = sightline_command("report", tmp_path)
    assert ended.code == 2 and "no compare.json" in ended.err


def test_schema_is_json_and_knows_every_key() -> None:
    ended = sightline_command("schema")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    schema = json.loads(ended.out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == set(Study.model_fields)

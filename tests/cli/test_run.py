"""`sightline run`: what it prints, what it leaves alone, and what it refuses before any weight is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from sightline.runner import make
from tiny_studies import SMALL, contents, run_study_file, sightline_command, write_small_study

ROOT = Path(__file__).parents[2]
TWO_BAD_ROWS = {"row4": ["images/scan_000.png", "What colour?", ""], "row6": ["images/none.png", "Why?", "so"]}
LONG_ROW = {"row2": ["images/scan_000.png", "Is this question long?" + " very" * 60, "yes"]}


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to load weights fail."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(make, "load_model", refuse)


@pytest.mark.usefixtures("no_model")
def test_a_second_run_loads_nothing_and_changes_no_byte(small_folder: Path, small_study: Path) -> None:
    before = contents(small_study)
    assert len(before) > 15
    ended = sightline_command("run", small_folder / "small.yaml", "--out", small_study, "--figures")
    assert (ended.code, ended.out) == (0, f"{small_study / 'report.html'}\n")
    assert "sft: finished earlier" in ended.err
    assert contents(small_study) == before


@pytest.mark.usefixtures("no_model")
def test_json_is_one_object_and_nothing_else(small_folder: Path, small_study: Path) -> None:
    ended = sightline_command("run", small_folder / "small.yaml", "--out", small_study, "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    printed = json.loads(ended.out)
    assert printed["report"] == str(small_study / "report.html")
    assert printed["compare"] == json.loads((small_study / "compare.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("no_model")
def test_a_study_is_read_again_from_its_own_directory(small_study: Path) -> None:
    before = contents(small_study)
    assert run_study_file(small_study, "--out", small_study) == small_study
    assert contents(small_study) == before


def test_until_stops_after_the_step(small_folder: Path, tmp_path: Path) -> None:
    ended = sightline_command("run", small_folder / "small.yaml", "--out", tmp_path / "part", "--until", "sft")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'part'}\n"), ended.err
    assert (tmp_path / "part/models/sft/manifest.json").is_file()
    assert not (tmp_path / "part/answers").exists()
    wrong = sightline_command("run", small_folder / "small.yaml", "--out", tmp_path / "part", "--until", "dpo")
    assert wrong.code == 2 and wrong.err == "sightline: --until dpo: there is no such step; there is sft\n"


@pytest.mark.usefixtures("no_model")
def test_dry_run_writes_nothing(small_folder: Path, tmp_path: Path) -> None:
    arguments = ("run", small_folder / "small.yaml", "--out", tmp_path / "dry", "--dry-run")
    ended = sightline_command(*arguments)
    assert ended.code == 0 and "\nruns: sft\nmodels: base, sft\nasked: data.test\nestimate: about " in ended.out
    printed = json.loads(sightline_command(*arguments, "--json").out)
    assert printed["estimate"]["hours"] > 0
    assert printed["models"] == ["base", "sft"] and printed["study"]["steps"]["sft"]["max_steps"] == 2
    assert not (tmp_path / "dry").exists()


def test_smoke_runs_a_recipe_without_its_model_and_data(tmp_path: Path) -> None:
    directory = run_study_file(ROOT / "recipes" / "vqa_rad.yaml", "--smoke", "--out", tmp_path / "smoke")
    report = (directory / "report.md").read_text(encoding="utf-8")
    assert "# vqa-rad-smoke" in report
    assert "builtin:tiny in place of llava-hf/llava-1.5-7b-hf" in report


def test_bad_rows_stop_before_the_model_is_looked_for(tmp_path: Path) -> None:
    study = write_small_study(tmp_path, SMALL.replace("builtin:tiny", "./nowhere"), **TWO_BAD_ROWS)
    ended = sightline_command("run", study, "--out", tmp_path / "study")
    assert (ended.code, ended.out) == (2, "")
    assert "2 of 67 rows cannot be used" in ended.err
    assert "rows.csv:4: 'answer' is empty; fill in the answer, or drop the row" in ended.err
    assert "rows.csv:6 (image images/none.png): no file" in ended.err
    assert "nowhere" not in ended.err and "on_bad_row: skip" in ended.err


def test_one_sets_bad_rows_do_not_hide_anothers(tmp_path: Path) -> None:
    two_sets = """
base: ./nowhere
data: {a: rows.csv, b: rows.csv}
steps: {sft: {on: [a.train, b.train]}}
evaluate: {on: a.test}
"""
    ended = sightline_command("run", write_small_study(tmp_path, two_sets, **TWO_BAD_ROWS), "--out", tmp_path / "study")
    assert ended.code == 2 and ended.err.count("rows.csv:4: 'answer' is empty") == 2


def test_skipped_rows_are_counted_and_named(tmp_path: Path) -> None:
    study = write_small_study(tmp_path, SMALL.replace("max_steps: 2", "max_steps: 2, on_bad_row: skip"), **TWO_BAD_ROWS)
    ended = sightline_command("run", study, "--out", tmp_path / "study")
    assert ended.code == 0 and "2 left out, 0 repaired" in ended.err
    report = (tmp_path / "study" / "report.md").read_text(encoding="utf-8")
    assert "| left out | empty-answer | rows.csv:4 |" in report
    assert "| left out | missing-image | rows.csv:6 (image images/none.png) |" in report
    kept = [*(tmp_path / "study/data").glob("data.*.jsonl")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in kept) == 65


@pytest.mark.usefixtures("no_model")
def test_a_row_too_long_stops(tmp_path: Path) -> None:
    study = write_small_study(tmp_path, SMALL.replace("max_steps: 2", "max_steps: 2, row_tokens: 110"), **LONG_ROW)
    ended = sightline_command("run", study, "--out", tmp_path / "study")
    assert ended.code == 2 and "rows.csv:2: " in ended.err and "tokens where 110 fit" in ended.err


def test_a_row_too_long_is_skipped_and_named(tmp_path: Path) -> None:
    settings = "max_steps: 2, row_tokens: 110, on_bad_row: skip"
    study = write_small_study(tmp_path, SMALL.replace("max_steps: 2", settings), **LONG_ROW)
    directory = run_study_file(study, "--out", tmp_path / "study")
    report = (directory / "report.md").read_text(encoding="utf-8")
    assert "| left out | too-long | rows.csv:2 |" in report
    assert "tokens where 110 fit" in report


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("change", "differing"), [("steps.sft.max_steps=3", "max_steps 2 then, 3 now"), ("data.take=60", "data/data.train")]
)
def test_a_finished_model_is_not_overwritten(
    small_folder: Path, small_study: Path, tmp_path: Path, change: str, differing: str
) -> None:
    copy = shutil.copytree(small_study, tmp_path / "copy")
    ended = sightline_command("run", small_folder / "small.yaml", "--out", copy, "--set", change)
    assert ended.code == 2
    message = ended.err.splitlines()[-1]
    assert message.startswith(f"sightline: {copy / 'models' / 'sft'} was made otherwise: ")
    assert differing in message and "give another --out" in message
    everything = ["models/*/*", "study.yaml", "data/*", "checks.json", "compare.json"]
    assert contents(copy, everything) == contents(small_study, everything)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps.sft.lerning_rate=1", "steps.sft.lerning_rate is not a key; did you mean learning_rate?"),
        ("steps.sft.epochs=many", "steps.sft.epochs = 'many': should be a valid number"),
        ("steps.sft.method=dpo", "data.data: dpo reads its rows as preference pairs, and elsewhere they are single"),
        ("evaluate.prompts={plain: hello}", "prompts.plain = 'hello' does not contain {question}"),
        ("nonsense", "--set nonsense: write a key, '=' and a value"),
        ("base=./nowhere", "neither a folder with a model nor to be had from the hub"),
        ("data.source=nowhere.csv", "nowhere.csv: no such file or folder"),
        ("data.columns={image: Bild}", "rows.csv: no column 'Bild' for image; there are image, question, answer"),
    ],
)
def test_what_is_wrong_with_a_study_is_said(small_folder: Path, tmp_path: Path, override: str, message: str) -> None:
    ended = sightline_command("run", small_folder / "small.yaml", "--out", tmp_path / "study", "--set", override)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_an_unknown_command_is_the_users_fault() -> None:
    assert sightline_command("frobnicate").code == 2
    assert sightline_command("run").code == 2
    assert "no such study file" in sightline_command("run", "nowhere.yaml").err


def test_a_study_does_not_take_the_directory_of_anothers_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_small_study(tmp_path, SMALL)
    there = tmp_path / "studies" / "small"
    there.mkdir(parents=True)
    (there / "study.yaml").write_text(SMALL.replace("rows.csv", "/elsewhere/others.csv"), encoding="utf-8")
    ended = sightline_command("run", study)
    assert ended.code == 2 and "studies/small holds another study, of /elsewhere/others.csv; give" in ended.err
    assert [path.name for path in there.iterdir()] == ["study.yaml"]

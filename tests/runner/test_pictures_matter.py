"""Does the picture matter? Models asked again without their pictures, from the study file to the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture
from sightline.runner import run_study
from sightline.runner.display import Display
from sightline.study import load_study
from sightline.verdict.pictures_matter import MATTERS, WITHOUT
from tiny_studies import contents

SMALL = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 24, split: {train: 0.5, test: 0.5, by: image}}}
steps: {sft: {on: p.train, max_steps: 1, lora: {rank: 2}}}
evaluate: {on: p.test, rows: 24, metrics: [closed_accuracy], max_new_tokens: 4, pictures_matter: true}
"""

MADE = ("pictures_matter/*/*", "pictures_matter.json")


def run(folder: Path, text: str = SMALL) -> Path:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    study = load_study(folder / "s.yaml")
    return run_study(study, folder / "out", with_figures=False, display=Display(quiet=True)).parent


def recorded(out: Path) -> dict[str, Any]:
    return json.loads((out / "pictures_matter.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("study"))


def test_every_model_is_asked_again_and_the_report_says_what_it_lost(study: Path):
    entries = {entry["model"]: entry for entry in recorded(study)["models"]}
    assert list(entries) == ["base", "sft"]
    for model, entry in entries.items():
        closed, loss = entry["metrics"]["closed_accuracy"], entry["metrics"]["nll"]
        assert set(closed["values"]) == set(closed["values"]) == {"own", "blank", "other"}
        assert loss["num_questions"] == 24 and closed["num_questions"] < 24
        rows = (study / "pictures_matter" / model / "blank.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(rows) == 24
    page = (study / "report.html").read_text(encoding="utf-8")
    assert 'id="pictures-title">Does the picture matter?' in page
    assert "## Does the picture matter?" in (study / "report.md").read_text(encoding="utf-8")


def test_with_its_own_picture_a_model_has_the_scores_of_the_study(study: Path):
    compare = json.loads((study / "compare.json").read_text(encoding="utf-8"))
    own = {arm["model"]: arm["metrics"]["closed_accuracy"]["value"] for arm in compare["arms"]}
    for entry in recorded(study)["models"]:
        assert entry["metrics"]["closed_accuracy"]["values"]["own"] == own[entry["model"]]


def test_the_loss_knows_which_picture_it_is(study: Path):
    for entry in recorded(study)["models"]:
        values = entry["metrics"]["nll"]["values"]
        assert values["own"] < min(values["blank"], values["other"])


def test_what_is_finished_is_not_asked_again(study: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(study, MADE)
    assert len(before) == 2 * 3 * 3 + 1
    monkeypatch.setattr("sightline.generation.answering.reference_nll", None)
    run(study.parent)
    assert contents(study, MADE) == before


def test_a_study_that_does_not_ask_says_nothing(study: Path, tmp_path: Path):
    out = run(tmp_path, SMALL.replace(", pictures_matter: true", ""))
    assert not (out / "pictures_matter.json").exists() and not (out / "pictures_matter").exists()
    assert "Does the picture matter?" not in (out / "report.html").read_text(encoding="utf-8")


TUNED = """\
base: builtin:tiny
data:
  seen: {source: builtin:phantom, images: 200, split: {train: 0.6, test: 0.4, by: image}}
  told: {source: told.csv, split: {train: 0.5, test: 0.5, by: image}}
steps: {sft: {on: [seen.train, told.train], max_steps: 60, learning_rate: 1e-3}}
evaluate: {on: [seen.test, told.test], models: sft, metrics: [closed_accuracy], max_new_tokens: 4,
           pictures_matter: true}
compare: []
"""


def write_told(folder: Path) -> None:
    """Write questions about pictures whose every answer stands in the question."""
    rows = [["image", "question", "answer"]]
    for number, sample in enumerate({s.image_id: s for s in phantom_samples(160, seed=7, subset="single")}.values()):
        picture = save_picture(sample.pictures[0], folder / "images")
        for answer in ("yes", "no"):
            rows.append([str(picture.path), f"Say {answer} to picture {number % 5}.", answer])
    with (folder / "told.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.slow
def test_after_tuning_closed_questions_need_the_picture_and_questions_that_tell_do_not(tmp_path: Path):
    write_told(tmp_path)
    result = recorded(run(tmp_path, TUNED))
    seen, told = result["models"]
    about_seen, about_told = (place["sentence"] for place in result["sets"])
    assert seen["data"] == "seen.test" and seen["verdict"] == MATTERS, seen["sentence"]
    assert "seen.test has to be looked at: sft falls from" in about_seen
    assert told["data"] == "told.test" and told["verdict"] == WITHOUT, told["sentence"]
    assert about_told.startswith("told.test can be answered without looking: sft reaches "), about_told

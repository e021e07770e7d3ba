"""A study is looked at before it starts: in order, on real data, and with what it accepts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from seed_faults.make_data import IDEFICS, prompt_of, tokenizer
from sightline.checking.findings import Finding
from sightline.data.formats import load_source
from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.models.loading import base_location
from sightline.runner import StudyCheck, estimate_study
from sightline.study import Split, Study, load_study
from tiny_studies import SMALL, sightline_command, write_small_study

ROOT = Path(__file__).parents[2]


def look(study: Path, *overrides: str) -> dict[str, Finding]:
    """Findings by name; of several with one name, the last."""
    return {finding.name: finding for finding in StudyCheck(load_study(study, overrides=overrides))}


@pytest.fixture(scope="module")
def vqa_rad(shared: Path) -> dict[str, Finding]:
    """What is found in the recipe's study of the real VQA-RAD, with the built-in base in LLaVA's place."""
    recipe = ROOT / "recipes" / "vqa_rad.yaml"
    return look(recipe, f"data_root={shared / 'data' / 'vqa_rad'}", "base=builtin:tiny", "accept={}")


def test_vqa_rad_s_leakage_is_told_with_what_follows(vqa_rad: dict[str, Finding]) -> None:
    leak = vqa_rad["same-image-in-train-and-test"]
    assert leak.severity == "warning"
    assert "202 of 203 test pictures are seen in training or validation" in leak.message
    assert "446 of 451 test questions are about them" in leak.message
    assert "scores say little about new pictures" in leak.message
    assert "the other 5 questions (pictures: 1) are clean, too few to compare models on" in leak.message
    assert leak.evidence == {"num_pictures": 202, "num_questions": 446, "num_clean": 5}
    rows = vqa_rad["same-row-in-train-and-test"]
    assert rows.severity == "fault" and "1 of 451" in rows.message
    # No two of its pictures look alike, other than by being the same.
    assert "near-duplicate-in-train-and-test" not in vqa_rad


def test_the_split_that_is_offered_for_vqa_rad_is_clean(vqa_rad: dict[str, Finding], shared: Path) -> None:
    _, offered = vqa_rad["same-image-in-train-and-test"].remedy.split("data.rad.split: ")
    split = Split.model_validate(yaml.safe_load(offered))
    assert (split.by, sum(split.shares.values())) == ("image", pytest.approx(1))
    release = load_source("vqa_rad", root=shared / "data", with_pictures=False)
    samples = [sample for part in release.values() for sample in part.samples]
    parts = split_samples(samples, split.shares)
    assert len(parts["test"]) == pytest.approx(451, abs=15)
    pictures = [{picture.name for sample in part for picture in sample.pictures} for part in parts.values()]
    assert len(set.union(*pictures)) == sum(map(len, pictures))


def _until_error(study: Study) -> list[Finding]:
    found = []
    try:
        for finding in StudyCheck(study):
            found.append(finding)
    except DataError:
        pass
    return found


def test_what_needs_no_data_is_said_before_any_is_read(tmp_path: Path) -> None:
    study = write_small_study(tmp_path, SMALL.replace("max_steps: 2", "max_steps: 2, learning_rate: 0.5"))
    (tmp_path / "rows.csv").unlink()
    names = [finding.name for finding in _until_error(load_study(study))]
    assert names == ["destinations", "unusual-setting", "licences"]


def test_copies_of_trained_pictures_are_found_and_recorded(tmp_path: Path) -> None:
    write_small_study(tmp_path)
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    names = sorted({line.split(",")[0] for line in text[1:]})
    with Image.open(tmp_path / names[0]) as image:
        image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC).save(tmp_path / "images/copy.png")
    learnt = [line for line in text[1:] if line.split(",")[0] in names[:6]]
    asked = [f"{names[0]},Where?,left", "images/copy.png,Where?,left", f"{names[8]},Where?,left", learnt[-1]]
    (tmp_path / "train.csv").write_text("\n".join([text[0], *learnt]), encoding="utf-8")
    (tmp_path / "test.csv").write_text("\n".join([text[0], *asked]), encoding="utf-8")
    study = tmp_path / "copies.yaml"
    study.write_text(
        "base: builtin:tiny\n"
        "data: {a: {source: train.csv, split: {train: 1.0}}, b: {source: test.csv, split: {test: 1.0}}}\n"
        "steps: {sft: {on: a.train, max_steps: 1}}\nevaluate: {on: b.test, metrics: [exact_match]}\n"
        "accept: {same-row-in-train-and-test: one is meant, step-0-loss: whatever}\n",
        encoding="utf-8",
    )
    near = look(study)["near-duplicate-in-train-and-test"]
    assert near.evidence["pairs"] == [["images/copy.png", names[0]]]
    ended = sightline_command("run", study, "--out", tmp_path / "study", "--until", "sft")
    assert ended.code == 0, ended.err
    seen = json.loads((tmp_path / "study" / "data" / "seen.json").read_text(encoding="utf-8"))
    assert seen == {"b.test": {"2": "image", "3": "near-duplicate", "5": "row"}}


def test_a_base_that_guesses_stops_the_run_before_the_first_step(tmp_path: Path) -> None:
    rows = {f"row{line}": ["images/scan_000.png", "Quid novi?", "Zyzzyva qoph xylyl crwth"] for line in range(2, 60)}
    # The same weights under another name: the built-in base may not know one's words, any other base has to.
    shutil.copytree(base_location("builtin:tiny"), tmp_path / "base")
    text = SMALL.replace("builtin:tiny", "./base")
    study = write_small_study(tmp_path, text, **{key: rows[key] for key in list(rows)[:20]})
    assert look(study, "base=builtin:tiny")["step-0-loss"].severity == "warning"
    ended = sightline_command("run", study, "--out", tmp_path / "study")
    assert ended.code == 2 and "step-0-loss: " in ended.err and not (tmp_path / "study" / "models").exists()
    ended = sightline_command("run", study, "--set", "accept.step-0-loss=a test", "--out", tmp_path / "study")
    assert ended.code == 0, ended.err
    recorded = (tmp_path / "study" / "checks.json").read_text(encoding="utf-8")
    assert "step-0-loss" in recorded
    again = sightline_command("run", study, "--set", "accept.step-0-loss=a test", "--out", tmp_path / "study")
    assert again.code == 0 and (tmp_path / "study" / "checks.json").read_text(encoding="utf-8") == recorded


def write_tokenised(folder: Path, prompt: str) -> Path:
    tokenise = tokenizer()
    before, whole = tokenise(prompt).input_ids, tokenise(f"{prompt} yes</s>").input_ids
    row = {"image": "images/scan_000.png", "input_ids": whole, "labels": [-100] * len(before) + whole[len(before) :]}
    (folder / "tokens.jsonl").write_text(
        "".join(json.dumps({**row, "id": n}) + "\n" for n in range(4)), encoding="utf-8"
    )
    study = folder / "tokens.yaml"
    study.write_text(
        "base: builtin:tiny\n"
        "data: {t: {source: tokens.jsonl, split: {train: 1.0}}, d: {source: rows.csv, split: {test: 1.0}}}\n"
        "steps: {sft: {on: t.train, max_steps: 1}}\nevaluate: {on: d.test}\n",
        encoding="utf-8",
    )
    return study


def test_tokenised_rows_in_another_template_are_found(tmp_path: Path) -> None:
    write_small_study(tmp_path)
    assert "foreign-template" not in look(write_tokenised(tmp_path, prompt_of("What is it?", 1)))
    foreign = look(write_tokenised(tmp_path, "User:<image>What is it?<end_of_utterance>\nAssistant:"))[
        "foreign-template"
    ]
    assert foreign.severity == "fault" and "4 of 4 tokenised rows" in foreign.message
    assert "end_of_utterance" in IDEFICS


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluate.on=t.train", "evaluate.on: the rows of t.train come tokenised"),
        ("steps.sft.question_suffix=Briefly.", "tokenised rows take no question_suffix"),
        ("accept.some-fault=why", "accept.some-fault: no check finds that"),
        ("steps.sft.offload=optimizer", "offload = 'optimizer' is not built yet"),
        ("evaluate.metrics=[exact_macth]", "did you mean exact_match?"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path: Path, override: str, told: str) -> None:
    write_small_study(tmp_path)
    study = write_tokenised(tmp_path, prompt_of("What is it?", 1))
    for command in ("check", "run"):
        ended = sightline_command(command, study, "--set", override)
        assert ended.code == 2 and told in ended.err


def test_rows_of_another_tokenizer_are_bad_rows(tmp_path: Path) -> None:
    write_small_study(tmp_path)
    study = write_tokenised(tmp_path, prompt_of("What is it?", 1))
    text = (tmp_path / "tokens.jsonl").read_text(encoding="utf-8").replace('"labels"', '"labels"', 1)
    first, *others = [json.loads(line) for line in text.splitlines()]
    first["input_ids"][2] = 31_000
    (tmp_path / "tokens.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [first, *others]), encoding="utf-8"
    )
    bad = look(study)["bad-rows"]
    assert bad.severity == "fault" and "token id 31,000 where the model's tokenizer has 2,048" in bad.message
    accepted = look(study, "accept.bad-rows=one of four")
    assert accepted["bad-rows"].accepted and accepted["data-size"].severity == "note"


def test_the_page_is_written_and_named(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    ended = sightline_command("check", study, "--html", tmp_path / "check.html")
    assert ended.code == 0 and ended.out.endswith(f"{tmp_path / 'check.html'}\n")
    assert "prefix-sharing" in (tmp_path / "check.html").read_text(encoding="utf-8")


def test_an_estimate_needs_no_model(tmp_path: Path) -> None:
    study = load_study(write_small_study(tmp_path))
    estimate = estimate_study(study)
    assert estimate is not None and estimate.name == "cost" and estimate.evidence["parameters"] < 4e6

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.errors import StudyError
from sightline.study import (
    load_study,
    model_location,
    plan_study,
    refuse_unbuilt,
    source_location,
)
from study_examples import ROOT, SELF_CRITIQUE, SMALLEST, run_names, steps


def test_an_override_sets_one_key(study_of):
    study = study_of(
        overrides=["steps.sft.max_steps=4", "steps.sft.lora.rank=8", "evaluate.metrics=[nll]", "data.source=b.csv"]
    )
    (run,) = plan_study(study).runs
    assert (run.settings.max_steps, run.settings.epochs, run.settings.lora.rank) == (4, None, 8)
    assert study.evaluate.metrics == ("nll",)
    assert study.evaluate.on == ("data.test",)
    assert study.data["data"].source == str(Path("b.csv").resolve())


def test_epochs_and_max_steps_replace_each_other_in_overrides(study_of):
    text = steps("sft: {max_steps: 40}")
    (run,) = plan_study(study_of(text, overrides=["steps.sft.epochs=2"])).runs
    assert (run.settings.max_steps, run.settings.epochs) == (None, 2)


def test_an_override_reaches_a_member_however_it_was_written(study_of):
    text = steps("sft: {members: {a: {lora.alpha: 4}, b: {lora: {alpha: 4}}}}")
    overrides = ["steps.sft.members.a.lora.alpha=5", "steps.sft.members.b.lora.alpha=6"]
    assert [run.settings.lora.alpha for run in plan_study(study_of(text, overrides=overrides)).runs] == [5, 6]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps.sft.epoch=1", "steps.sft.epoch is not a key; did you mean epochs?"),
        ("steps.stf.epochs=1", "steps.stf does not exist; did you mean sft?"),
        ("data.rad.take=1", "data.rad does not exist; there is data"),
        ("base.x=1", "base.x: base is 'llava-hf/llava-1.5-7b-hf', which has no keys"),
        ("steps.sft.epochs", "--set steps.sft.epochs: write a key, '=' and a value"),
        ("steps.sft.lora={rank: 2, rank: 3}", "--set steps.sft.lora={rank: 2, rank: 3}:1: key 'rank' is already"),
    ],
)
def test_an_override_that_misses_is_refused(study_of, override, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        study_of(overrides=[override])


def test_paths_start_from_the_data_root_or_the_current_folder(study_of, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study = study_of("base: ./tuned\ndata: my.csv\ndata_root: rows\n")
    assert source_location(study, study.data["data"]) == str(tmp_path / "rows" / "my.csv")
    assert model_location(study, study.base) == str(tmp_path / "tuned")
    study = study_of(overrides=["data_root=rows", "base=model"])
    assert source_location(study, study.data["data"]) == str(tmp_path / "here" / "rows" / "my.csv")
    assert study.base == str(tmp_path / "here" / "model")
    study = study_of(overrides=["base=owner/name", "data={rad: {source: builtin:phantom}}"])
    assert model_location(study, study.base) == "owner/name"
    assert source_location(study, study.data["rad"]) == "builtin:phantom"


def test_the_smoke_test_asks_the_same_of_builtin_things(study_of):
    full, small = (study_of(SELF_CRITIQUE, smoke=smoke) for smoke in (False, True))
    assert small.base == small.models["other"].base == small.judges["critic"].base == "builtin:tiny"
    assert small.models["published"].adapter is None
    assert small.data["charts"].source == "builtin:phantom"
    assert small.data["charts"].split == full.data["charts"].split
    assert run_names(small) == run_names(full)
    assert plan_study(small).comparisons == plan_study(full).comparisons
    for run in plan_study(small).runs:
        assert run.training is None or (run.training.max_steps or 99) <= 4
    assert any("builtin:phantom in place of lmms-lab/LLaVA-OneVision-Data (charts)" in note for note in small.notes)
    assert small.name == "self-critique-dpo-smoke"


def test_the_smoke_test_keeps_the_names_of_released_splits():
    small = load_study(ROOT / "recipes/vqa_rad.yaml", smoke=True)
    assert small.data["rad"].split.shares == {"train": 0.5, "validation": 0.25, "test": 0.25}


def test_the_smoke_test_draws_few_pictures():
    demo = load_study(ROOT / "recipes/demo.yaml", smoke=True)
    assert demo.data["phantom"].images == 24
    assert demo.notes == ()


def test_the_smoke_test_shrinks_members_and_keeps_their_names(study_of):
    text = steps("sft: {epochs: 9, grid: {epochs: [5, 6], batch_size: [64]}}")
    runs = plan_study(study_of(text, smoke=True)).runs
    assert [run.name for run in runs] == ["sft.epochs5-batch_size64", "sft.epochs6-batch_size64"]
    assert [(run.settings.max_steps, run.settings.epochs, run.settings.batch_size) for run in runs] == [
        (4, None, 8)
    ] * 2


def test_the_smoke_test_drops_what_needs_an_absent_package_and_says_so(study_of, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = steps("sft: {quantize: nf4, members: {a: {optimizer: adamw_8bit}}}")
    study = study_of(text, smoke=True)
    (run,) = plan_study(study).runs
    assert (run.settings.quantize, run.settings.optimizer) == (None, "adamw")
    assert "smoke test: steps.sft.quantize = nf4 dropped; bitsandbytes is not installed" in study.notes
    assert (
        "smoke test: steps.sft.members.a.optimizer = adamw_8bit dropped; bitsandbytes is not installed" in study.notes
    )
    refuse_unbuilt(study)


def test_a_smoke_block_only_overrides_and_only_in_a_smoke_test(study_of):
    text = SMALLEST + "smoke: {steps.sft.max_steps: 2, evaluate: {rows: 5}}\n"
    full, small = (study_of(text, smoke=smoke) for smoke in (False, True))
    assert full.evaluate.rows is None
    assert plan_study(full).runs[0].settings.epochs == 3
    assert small.evaluate.rows == 5
    assert plan_study(small).runs[0].settings.max_steps == 2
    with pytest.raises(StudyError, match=r"steps\.stf does not exist; did you mean sft\?"):
        study_of(SMALLEST + "smoke: {steps.stf.max_steps: 2}\n", smoke=True)

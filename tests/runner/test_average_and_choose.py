"""The steps `average` and `choose`: one model of several, made once, the same again, or refused beforehand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from sightline.checking.combined import check_averages
from sightline.errors import StudyError
from sightline.runner import StudyCheck, run_study
from sightline.runner.display import Display
from sightline.runner.make import Shelf, make_model
from sightline.runner.prepare import prepare, set_hashes
from sightline.storage import recorded_origin
from sightline.study import Study, load_study, plan_study
from tiny_studies import contents

STUDY = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 12, split: {train: 0.5, validation: 0.25, test: 0.25}}}
steps:
  sft: {on: p.train, max_steps: 2, batch_size: 4, learning_rate: 0.01, seeds: [0, 1],
        members: {a: {lora.rank: 2, lora.alpha: 6}, b: {lora.rank: 4, lora.alpha: 4}}}
  mean: {method: average, from: sft, weights: [1, 3]}
  small: {method: average, from: [sft.a@0, sft.b@1], svd_rank: 2}
  best: {method: choose, from: [sft, mean], on: p.validation}
  right: {method: choose, from: sft, on: p.validation, by: exact_match}
  more: {from: mean, on: p.train, max_steps: 1, batch_size: 4}
evaluate: {on: p.test, rows: 2, max_new_tokens: 4, metrics: [nll], models: [base, mean]}
"""
KEPT = ("models/*/*", "validation/*")


def study_of(folder: Path, text: str = STUDY) -> Study:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    return load_study(folder / "s.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run_study(study_of(folder), folder / "out", with_figures=False)
    return folder / "out"


def update(folder: Path, layer: str) -> np.ndarray:
    """What an adapter's files add to a weight, as a full matrix in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    down, up = (tensors[f"base_model.model.{layer}.lora_{factor}.weight"].double().numpy() for factor in "AB")
    return config["lora_alpha"] / config["r"] * up @ down


@pytest.mark.parametrize(
    "layer", ["model.language_model.layers.0.self_attn.q_proj", "model.language_model.layers.3.mlp.up_proj"]
)
def test_an_average_is_the_mean_of_its_members_updates(finished: Path, layer: str) -> None:
    models = finished / "models"
    for seed in (0, 1):
        wanted = 0.25 * update(models / f"sft.a@{seed}", layer) + 0.75 * update(models / f"sft.b@{seed}", layer)
        found = update(models / f"mean@{seed}", layer)
        assert np.linalg.norm(found - wanted) < 1e-7 * np.linalg.norm(wanted)
    wanted = (update(models / "sft.a@0", layer) + update(models / "sft.b@1", layer)) / 2
    record = json.loads((models / "small" / "average.json").read_text())
    lost = np.linalg.norm(update(models / "small", layer) - wanted) / np.linalg.norm(wanted)
    assert record["distances"][layer] == pytest.approx(lost, rel=1e-4) and lost > 0.01


def test_an_average_says_what_it_was_made_of(finished: Path) -> None:
    record = json.loads((finished / "models" / "mean@1" / "average.json").read_text())
    members = [{"name": "sft.a@1", "share": 0.25, "scales": [3.0]}, {"name": "sft.b@1", "share": 0.75, "scales": [1.0]}]
    assert record["models"] == members and (record["kind"], record["rank"]) == ("exact", 6)
    made = recorded_origin(finished / "models" / "mean@1" / "manifest.json") or {}
    member = recorded_origin(finished / "answers" / "mean@1.manifest.json") or {}
    assert made["settings/shares"] == '{"sft.a@1": 0.25, "sft.b@1": 0.75}'
    assert "parent/sft.a@1/adapter_model.safetensors" in made and "adapter_model.safetensors" in member


def test_a_step_goes_on_with_an_average(finished: Path) -> None:
    config = json.loads((finished / "models" / "more@0" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 6)
    made = recorded_origin(finished / "models" / "more@0" / "manifest.json") or {}
    manifest = json.loads((finished / "models" / "mean@0" / "manifest.json").read_text())
    assert made["parent/adapter_model.safetensors"] == manifest["files"]["adapter_model.safetensors"]


def test_the_best_on_validation_is_chosen(finished: Path) -> None:
    for seed in (0, 1):
        record = json.loads((finished / "models" / f"best@{seed}" / "choice.json").read_text())
        assert list(record["values"]) == [f"mean@{seed}", f"sft.a@{seed}", f"sft.b@{seed}"]
        assert record["chosen"] == min(record["values"], key=record["values"].get) and record["on"] == ["p.validation"]
        chosen = finished / "models" / record["chosen"]
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            assert (finished / "models" / f"best@{seed}" / name).read_bytes() == (chosen / name).read_bytes()
    held = [json.loads(file.read_text()) for file in (finished / "validation").iterdir()]
    by_hand = []
    for entry in (entry for entry in held if entry["scores"][0]["metric"] == "nll"):
        parts = [score["parts"] for score in entry["scores"]]
        by_hand.append(sum(part["nll"] for part in parts) / sum(part["tokens"] for part in parts))
    values = [
        json.loads((finished / "models" / f"best@{seed}" / "choice.json").read_text())["values"] for seed in (0, 1)
    ]
    assert sorted(by_hand) == pytest.approx(sorted([*values[0].values(), *values[1].values()]))
    right = json.loads((finished / "models" / "right@0" / "choice.json").read_text())
    assert right["chosen"] == max(right["values"], key=right["values"].get) and right["higher_is_better"]


def test_what_is_lost_is_made_again_the_same(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    before = contents(out, KEPT)
    for name in ("mean@0", "best@1", "small"):
        shutil.rmtree(out / "models" / name)
    next(iter((out / "validation").iterdir())).unlink()  # as if it had been interrupted before this one
    prepared, _ = prepare(study_of(tmp_path))
    shelf = Shelf(prepared, out)
    hashes = set_hashes(prepared.sets)
    made = [make_model(run, shelf, hashes, Display(), lambda: None) for run in prepared.plan.runs]
    assert sum(made) == 3
    after = contents(out, KEPT)
    assert after == {name: content for name, content in before.items() if name in after}
    assert len(after) in (len(before), len(before) - 1)
    assert "mean@0: 0.25 x sft.a@0 + 0.75 x sft.b@0; rank 6, exact; rounding" in capsys.readouterr().err


def test_other_weights_are_another_model(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    with pytest.raises(StudyError, match=r"mean@0 was made otherwise: shares .*; give another --out"):
        run_study(study_of(tmp_path, STUDY.replace("[1, 3]", "[1, 1]")), tmp_path / "out")


OTHER = "models: {other: {base: ./elsewhere}, there: {base: ./elsewhere, adapter: ./nowhere}}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("on: p.validation}", "on: p.test}", r"best@0: on: p\.test is what the models are asked in the end"),
        (
            "weights: [1, 3]",
            "weights: [1, -3]",
            "mean@0: the weight of sft.b@0 is -3, and those of a mean are positive",
        ),
        ("[sft.a@0, sft.b@1]", "[sft.a@0, sft.a@0]", "average needs at least two models|averaged with itself"),
        ("lora.rank: 4", "lora.dora: true", "mean@0: sft.b@0 is a DoRA adapter"),
        ("lora.rank: 4", "train: [projector]", "mean@0: trained in full: nothing in sft.a@0 and projector in sft.b@0"),
        ("from: [sft, mean]", "from: [base, mean]", "best@0: base has no adapter that could be taken"),
        ("by: exact_match", "by: answer_length", "right@0: by: answer_length has no better side"),
        ("from: mean, on: p.train", "from: mean, on: p.train, lora: {rank: 8}", "lora.rank is 8 here and 6 there"),
        ("from: mean, on: p.train", "from: mean, on: p.train, lora: {rank: 16}", "lora.rank is 16 here and 6 there"),
        ("[sft.a@0, sft.b@1]", "[sft.a@0, there]", "small: sft.a@0 sits on builtin:tiny and there on .*elsewhere"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in STUDY
    with pytest.raises(StudyError, match=said):
        list(StudyCheck(study_of(tmp_path, OTHER + STUDY.replace(old, new))))


def test_a_judge_chooses_nothing(tmp_path: Path) -> None:
    judges = "judges: {critic: {kind: critic, base: 'builtin:tiny'}}\n"
    with pytest.raises(StudyError, match="right@0: by: critic is a judge; choose by nll"):
        list(StudyCheck(study_of(tmp_path, judges + STUDY.replace("exact_match", "critic"))))


def test_a_mixture_with_test_rows_chooses_nothing(tmp_path: Path) -> None:
    mixed = STUDY.replace("0.25}}}", "0.25}}, mixed: {mix: {p.test: 4, p.validation: 4}}}")
    mixed = mixed.replace("on: p.validation}", "on: mixed}")
    with pytest.raises(StudyError, match=r"best@0: on: p\.test is what the models are asked"):
        list(StudyCheck(study_of(tmp_path, mixed)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "lora.rank: 4",
            "lora.rank: 600",
            r"mean@0: the mean has rank 602 \(2 \+ 600\), and vLLM serves adapters up to",
        ),
        ("svd_rank: 2", "svd_rank: 6", r"small: svd_rank 6 has no effect: the exact mean has rank 6 \(2 \+ 4\)"),
    ],
)
def test_a_rank_with_a_catch_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    study = study_of(tmp_path, STUDY.replace(old, new))
    found = list(check_averages(plan_study(study).runs, study.steps, {"base"}))
    assert {finding.severity for finding in found} == {"warning"}
    assert any(re.match(said, finding.message) for finding in found)
    assert not list(check_averages(plan_study(study_of(tmp_path)).runs, study_of(tmp_path).steps, {"base"}))

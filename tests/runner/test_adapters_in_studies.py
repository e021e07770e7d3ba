"""Studies over quantised bases, with parts trained in full, and with adapters that other studies made."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sightline.errors import MissingDataError, StudyError
from sightline.runner import run_study
from sightline.runner.display import Display
from sightline.runner.make import Shelf, make_model
from sightline.runner.prepare import prepare, set_hashes
from sightline.storage import recorded_origin
from sightline.study import Study, load_study, plan_study
from tiny_studies import contents

STUDY = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 12, split: {train: 0.5, test: 0.5, by: image}}}
steps: {sft: {on: p.train, max_steps: 2, lora: {rank: 2}, EXTRA}}
evaluate: {on: p.test, rows: 2, max_new_tokens: 4, metrics: [closed_accuracy, nll]}
"""


def study_of(folder: Path, text: str) -> Study:
    (folder / "s.yaml").write_text(text)
    return load_study(folder / "s.yaml")


def shelf_of(folder: Path, text: str) -> Shelf:
    return Shelf(prepare(study_of(folder, text))[0], folder / "out")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of everything at once: a 4-bit base, 8-bit moments, the projector trained in full."""
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`")
    folder = tmp_path_factory.mktemp("finished")
    text = STUDY.replace("EXTRA", "quantize: nf4, optimizer: adamw_8bit, train: [projector], save_every: 1")
    run_study(study_of(folder, text), folder / "out", with_figures=False)
    before = contents(folder / "out")
    run_study(study_of(folder, text), folder / "out", with_figures=False)
    assert contents(folder / "out") == before  # finished is finished
    return folder / "out"


def test_a_quantised_study_says_so_and_asks_its_base_in_the_same_way(finished: Path) -> None:
    for name in ("base", "sft"):
        asked = recorded_origin(finished / "answers" / f"{name}.manifest.json")
        assert asked and asked["quantize"] == "nf4"
    made = recorded_origin(finished / "models" / "sft" / "manifest.json")
    assert made and (made["parent/quantize"], made["settings/optimizer"]) == ("nf4", '"adamw_8bit"')
    run = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    assert run["versions"]["bitsandbytes"] == importlib.metadata.version("bitsandbytes")
    names = set(load_file(finished / "models" / "sft" / "adapter_model.safetensors"))
    assert any("multi_modal_projector" in name for name in names)


def test_what_is_asked_and_trained_is_in_four_bits(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path, STUDY.replace("EXTRA", "quantize: nf4"))
    kinds = {type(module).__name__ for module in shelf.base("builtin:tiny").module.modules()}
    assert "Linear4bit" in kinds
    assert shelf.identity("base")["quantize"] == "nf4"


def with_published(finished: Path, more: str, adapter: Path | None = None) -> str:
    models = f"models: {{published: {{adapter: {adapter or finished / 'models' / 'sft'}}}}}\n"
    text = STUDY.replace("EXTRA", f"from: published, quantize: nf4{more}").replace("lora: {rank: 2}, ", "")
    return models + text


def test_a_study_goes_on_with_anothers_adapter(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished / "models" / "sft", tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/tiny"
    (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(config))
    study = study_of(tmp_path, with_published(finished, "", tmp_path / "theirs"))
    assert run_study(study, tmp_path / "out", with_figures=False).exists()
    made = recorded_origin(tmp_path / "out" / "models" / "sft" / "manifest.json")
    assert made and made["parent/adapter made for"] == "somebody/tiny"
    config = json.loads((tmp_path / "out" / "models" / "sft" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (2, "builtin:tiny")
    theirs = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    ours = load_file(tmp_path / "out" / "models" / "sft" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys() and any(not ours[name].equal(theirs[name]) for name in ours)
    answers = tmp_path / "out" / "answers"
    again = finished / "answers" / "sft.jsonl"
    texts = [
        [json.loads(line)["text"] for line in file.read_text().splitlines()]
        for file in (answers / "published.jsonl", again)
    ]
    assert texts[0] == texts[1]
    config = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 5}))
    with pytest.raises(StudyError, match=r"was made otherwise: parent/adapter_config\.json"):
        run_study(study, tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (", lora: {rank: 8}", "lora.rank is 8 here and 2 there"),
        (", train: [vision]", r"train is \[vision\] here and"),
    ],
)
def test_what_a_step_sets_must_be_what_the_adapter_has(tmp_path: Path, finished: Path, more: str, named: str) -> None:
    shelf = shelf_of(tmp_path, with_published(finished, more))
    (run,) = shelf.prepared.plan.runs
    with pytest.raises(StudyError, match=f"sft: goes on with the adapter published, and {named}"):
        make_model(run, shelf, set_hashes(shelf.prepared.sets), Display(quiet=True), lambda: None)


def test_so_must_what_the_step_after_it_sets(tmp_path: Path, finished: Path) -> None:
    text = with_published(finished, "}, more: {from: sft, on: p.train, quantize: nf4, lora: {rank: 16}")  # the default
    shelf = shelf_of(tmp_path, text)
    shutil.copytree(finished / "models" / "sft", tmp_path / "out" / "models" / "sft")
    with pytest.raises(StudyError, match=r"more: goes on with the adapter sft, and lora.rank is 16 here and 2 there"):
        make_model(
            shelf.prepared.plan.runs[1], shelf, set_hashes(shelf.prepared.sets), Display(quiet=True), lambda: None
        )


def test_steps_that_differ_in_quantize_are_refused(tmp_path: Path) -> None:
    steps = "steps: {a: {on: p.train, quantize: nf4}, b: {on: p.train}}"
    text = STUDY.replace("steps: {sft: {on: p.train, max_steps: 2, lora: {rank: 2}, EXTRA}}", steps)
    with pytest.raises(StudyError, match=r"steps differ in quantize \(\['None', 'nf4'\]\)"):
        shelf_of(tmp_path, text)


def test_a_model_sits_on_the_base_that_it_came_from(tmp_path: Path) -> None:
    models = "models: {other: {base: ./elsewhere}, published: {base: ./there, adapter: owner/name}}\n"
    steps = "a: {from: other, on: p.train}, b: {from: a, on: p.train}, c: {from: published, on: p.train}"
    text = models + STUDY.replace("EXTRA}", f"}}, {steps}")
    text += "compare: []\n"
    study = study_of(tmp_path, text)
    assert len(plan_study(study).runs) == 4
    shelf = Shelf(prepare(study)[0], tmp_path / "out")
    bases = {name: shelf.base_of(name) for name in ("base", "sft", "a", "b", "c", "published")}
    there = {name: str(tmp_path / name) for name in ("elsewhere", "there")}
    assert bases == {
        "base": "builtin:tiny",
        "sft": "builtin:tiny",
        "a": there["elsewhere"],
        "b": there["elsewhere"],
        "c": there["there"],
        "published": there["there"],
    }


def test_an_adapter_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = "models: {published: {adapter: ./nowhere}}\n" + STUDY.replace("EXTRA", "")
    with pytest.raises(MissingDataError, match=r"models\.published\.adapter: there is no folder .*nowhere"):
        shelf_of(tmp_path, text).adapter_folder("published")

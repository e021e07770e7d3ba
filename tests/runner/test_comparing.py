"""From a study's directory to its verdicts: margins, grids and seen rows, without a model."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.data.phantom import phantom_samples
from sightline.data.sets import write_samples
from sightline.errors import MissingDataError, RefusedError, StudyError
from sightline.records import Sample
from sightline.runner import compare_directory
from sightline.runner.adapters import locate
from sightline.runner.compare import compare_runs
from sightline.runner.comparing import factorials_of
from sightline.runner.metrics import metrics_of
from sightline.storage import canonical_json, json_line, write_file, write_manifest
from sightline.study import load_study, plan_study, refuse_unbuilt
from sightline.verdict.sentences import SMALLER, render_terminal
from tiny_studies import sightline_command

HEAD = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 60, split: {train: 0.5, test: 0.5, by: image}}}
"""
GRID = "steps: {sft: {on: p.train, grid: {lora.alpha: [16, 8], lora.dropout: [0.05, 0.1]}}}\n"
MEMBERS = (
    "steps: {sft: {on: p.train, members: {a: {lora.alpha: 16, epochs: 1}, b: {lora.alpha: 8, epochs: 1}, "
    "c: {lora.alpha: 4, epochs: 1}}}}\n"
)
EVALUATE = "evaluate: {on: p.test, metrics: [exact_match]}\n"
COMPARE = "compare: [{model: sft.alpha16-dropout0.05, against: base, margin: 0.2}]\n"


@functools.cache
def questions() -> tuple[Sample, ...]:
    return tuple(phantom_samples(num_images=10, seed=3))


def study_of(folder: Path, text: str) -> Path:
    """Write a study's directory as if it had run: questions and invented scores."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    samples = questions()
    write_samples(folder / "data" / "p.test.jsonl", samples)
    generator = np.random.default_rng(2)
    base = generator.integers(0, 2, len(samples))
    for model in plan_study(load_study(folder / "study.yaml")).models:
        right = np.where(generator.random(len(samples)) < 0.1, generator.integers(0, 2, len(samples)), base)
        rows = [
            {
                "sample_id": sample.id,
                "metric": "exact_match",
                "outcome": "scored",
                "value": float(value),
                "data": "p.test",
                "template": "plain",
            }
            for sample, value in zip(samples, right.tolist(), strict=True)
        ]
        write_file(folder / "scores" / model / "exact_match.jsonl", "".join(map(json_line, rows)))
    seen = {"p.test": {sample.id: "image" for sample in samples if sample.image_id == samples[0].image_id}}
    write_file(folder / "data" / "seen.json", canonical_json(seen))
    return folder


def test_a_margin_is_asked_and_answered(tmp_path: Path) -> None:
    out = study_of(tmp_path, HEAD + GRID + EVALUATE + COMPARE)
    refuse_unbuilt(load_study(out / "study.yaml"))
    (entry,) = compare_directory(out)["stated"]
    assert entry["margin"]["margin"] == 0.2 and entry["verdict"] in ("equivalent", "not worse", SMALLER)


@pytest.mark.parametrize("compare", [COMPARE, ""])
def test_what_is_asked_of_a_finished_study_was_not_stated_before_it(tmp_path: Path, compare: str) -> None:
    out = study_of(tmp_path, HEAD + GRID + EVALUATE + compare)
    plain, asked = compare_directory(out), compare_runs([str(out)], margin=0.3)
    assert asked["stated"] == plain["stated"] and asked["exploratory"][0]["margin"]["margin"] == 0.3
    named = compare_runs([f"{out}:base", f"{out}:sft.alpha8-dropout0.1"], margin=0.1)
    assert not named["stated"] and [entry["margin"]["margin"] for entry in named["exploratory"]] == [0.1]
    text = render_terminal(named)
    assert text.split("\n")[2] == "Exploratory: not stated beforehand"
    # Only what compare.json holds is said to be there.
    write_file(out / "compare.json", canonical_json(plain))
    assert [("compare.json holds" in render_terminal(one)) for one in (plain, asked, named)] == [True, False, False]
    assert compare_runs([str(out)]) == plain
    with pytest.raises(StudyError, match=re.escape(f"{out}: of several studies name the models, as {out}:MODEL; it")):
        compare_runs([str(out), str(out)])


def test_seen_rows_come_from_the_studys_record(tmp_path: Path) -> None:
    out = study_of(tmp_path, HEAD + GRID + EVALUATE + COMPARE)
    (entry,) = compare_directory(out)["stated"]
    num_seen = len(json.loads((out / "data" / "seen.json").read_text())["p.test"])
    assert entry["seen"]["num_seen"] == {"image": num_seen}
    assert entry["seen"]["clean"]["num_groups"] == entry["num_groups"] - 1
    named = compare_runs([f"{out}:base", f"{out}:sft.alpha8-dropout0.1"])
    assert named["exploratory"][0]["seen"]["num_seen"] == {"image": num_seen}
    (out / "data" / "seen.json").unlink()
    assert compare_directory(out)["stated"][0]["seen"] is None


def test_a_grid_has_effects_and_a_warning_of_its_best(tmp_path: Path) -> None:
    compared = compare_directory(study_of(tmp_path, HEAD + GRID + EVALUATE))
    assert [(entry["step"], entry["kind"]) for entry in compared["effects"]] == [
        ("sft", "main effect"),
        ("sft", "main effect"),
        ("sft", "interaction"),
    ]
    assert compared["effects"][0]["title"].startswith("lora.alpha 8 instead of 16, averaged over lora.dropout")
    (warning,) = compared["selection"]
    assert len(warning["models"]) == 4


@pytest.mark.parametrize(
    ("steps", "factors"),
    [
        (GRID, {"lora.alpha": ("16", "8"), "lora.dropout": ("0.05", "0.1")}),
        (MEMBERS, {"lora.alpha": ("16", "8", "4")}),
        ("steps: {sft: {on: p.train}}\n", None),
        ("steps: {sft: {on: p.train, members: {a: {lora.alpha: 16}, b: {epochs: 2}}}}\n", None),
        (
            "steps: {sft: {on: p.train, members: {a: {lora.alpha: 16}, b: {lora.alpha: 8}, c: {lora.alpha: 16}}}}\n",
            None,
        ),
        (
            "steps: {sft: {on: p.train, members: {a: {lora.alpha: 16, epochs: 1}, b: {lora.alpha: 8, epochs: 2}}}}\n",
            None,
        ),
    ],
)
def test_only_crossed_settings_are_a_factorial(
    tmp_path: Path, steps: str, factors: dict[str, tuple[str, ...]] | None
) -> None:
    (tmp_path / "s.yaml").write_text(HEAD + steps + EVALUATE)
    study = load_study(tmp_path / "s.yaml")
    found = list(factorials_of(study))
    assert [factorial.factors for factorial in found] == ([factors] if factors else [])
    for factorial in found:
        assert set(factorial.models.values()) <= set(plan_study(study).models)


@pytest.mark.parametrize(
    ("evaluate", "name"),
    [
        ('evaluate: {on: p.test, metrics: [exact_match], prompts: {plain: "{question} Briefly."}}\n', "prompts"),
        ("evaluate: {on: p.test, metrics: [exact_match], max_new_tokens: 8}\n", "max_new_tokens"),
        ("evaluate: {on: p.test, metrics: [exact_match], temperature: 0.7}\n", "temperature"),
    ],
)
def test_models_asked_in_different_ways_are_not_compared(tmp_path: Path, evaluate: str, name: str) -> None:
    one = study_of(tmp_path / "one", HEAD + GRID + EVALUATE)
    other = study_of(tmp_path / "other", HEAD + GRID + evaluate)
    with pytest.raises(RefusedError, match=rf"evaluate\.{name} is .* not comparable"):
        compare_runs([f"{one}:base", f"{other}:sft.alpha8-dropout0.1"])


def test_what_was_not_made_is_not_among_what_there_is(tmp_path: Path) -> None:
    steps = (
        "steps: {sft: {on: p.train, seeds: [0, 1]}, pairs: {method: critique, from: sft, on: p.train}, "
        "dpo: {method: dpo, from: sft, on: pairs}}\n"
    )
    out = study_of(tmp_path, HEAD + steps + EVALUATE)
    for model in ("sft@0", "sft@1", "dpo@0"):
        write_file(out / "models" / model / "adapter_config.json", "{}")
    for seed, stopped in ((0, False), (1, True)):
        record = out / "data" / f"pairs@{seed}.record.json"
        write_file(record, canonical_json({"stopped": stopped, "sentence": "It judges by chance.", "findings": []}))
        write_manifest(out / "data" / f"pairs@{seed}.manifest.json", [record], made_from={})
    shutil.rmtree(out / "scores" / "dpo@1")
    named = compare_runs([f"{out}:base", f"{out}:dpo"])
    assert named["exploratory"][0]["seeds"] == [0]
    assert f"{out}: without dpo@1: pairs@1: It judges by chance." in named["notes"]
    told = "it has base, sft@0, sft@1, dpo@0; not made: dpo@1 (pairs@1: It judges by chance.)"
    with pytest.raises(MissingDataError, match=re.escape(told)):
        compare_runs([f"{out}:base", f"{out}:dpo@1"])
    with pytest.raises(MissingDataError, match=re.escape(f"{out}:dpo@1: not made: pairs@1: It judges by chance.")):
        locate(f"{out}:dpo@1")
    with pytest.raises(MissingDataError, match=re.escape("it has sft@0, sft@1, dpo@0; not made: dpo@1 (pairs@1")):
        locate(f"{out}:other")


def test_an_unknown_metric_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(HEAD + GRID + EVALUATE.replace("exact_match", "exact_mach"), encoding="utf-8")
    with pytest.raises(
        StudyError, match=r"evaluate\.metrics: metric 'exact_mach' is unknown; did you mean exact_match"
    ):
        metrics_of(load_study(tmp_path / "s.yaml"))


def test_a_margin_in_points_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    text = "base: builtin:tiny\ndata: {p: {source: builtin:phantom, images: 6}}\nsteps: {sft: {on: p.train}}\n"
    text += "evaluate: {on: p.test, metrics: [exact_match]}\ncompare: [{model: sft, margin: 3}]\n"
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    ended = sightline_command("check", tmp_path / "study.yaml")
    assert ended.code == 2 and "exact_match is a rate in [0, 1]; write 0.03 for 3 points" in ended.err

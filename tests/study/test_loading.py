from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from sightline.errors import StudyError
from sightline.study import (
    Cut,
    Dpo,
    Sft,
    Training,
    load_study,
    plan_study,
    refuse_unbuilt,
    resolved_yaml,
    study_sha256,
)
from sightline.study.continued import stated_shape
from sightline.study.steps import Average, BestOf, Choose, Critique
from sightline.study.text import parse_yaml
from study_examples import ROOT, SELF_CRITIQUE, SMALLEST, steps

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_the_smallest_study_is_split_tuned_asked_and_compared(study_of):
    study = study_of()
    plan = plan_study(study)
    (run,) = plan.runs
    assert study.data["data"].source == "my.csv"
    assert study.data["data"].split.shares == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert study.data["data"].split.by == "image"
    assert (run.name, run.method, run.parent, run.on) == ("sft", "sft", "base", ("data.train",))
    assert run.validation == ("data.validation",)
    assert run.settings == Training()
    assert plan.models == ("base", "sft")
    assert plan.asked == ("data.test",)
    assert plan.data == ("data.train", "data.validation", "data.test")
    (question,) = plan.comparisons
    assert (question.model, question.against, question.pairs) == ("sft", "base", (("sft", "base"),))
    assert question.by == study.evaluate.metrics[0]
    refuse_unbuilt(study)


@pytest.mark.parametrize("text", [SMALLEST, SELF_CRITIQUE], ids=["smallest", "self-critique"])
@pytest.mark.parametrize("smoke", [False, True])
def test_a_resolved_study_read_from_elsewhere_is_the_same_study(study_of, tmp_path, text, smoke):
    study = study_of(text, smoke=smoke)
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "study.yaml").write_text(resolved_yaml(study))
    again = load_study(tmp_path / "record")
    assert again == study
    assert resolved_yaml(again) == resolved_yaml(study)
    assert study_sha256(again) == study_sha256(study)
    assert plan_study(again) == plan_study(study)


def test_a_resolved_study_says_the_same_to_a_reader_of_yaml_1_1(study_of):
    study = study_of(SMALLEST + "accept: {some-fault: 'no'}\n")
    text = resolved_yaml(study)
    assert yaml.safe_load(text) == parse_yaml(text, "study") == study.model_dump(mode="json")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("smoke", [False, True])
def test_every_recipe_is_a_study_that_can_be_run(path, smoke):
    study = load_study(path, smoke=smoke)
    refuse_unbuilt(study)
    assert plan_study(study).comparisons


def test_the_demonstration_is_a_two_by_two_grid_each_against_base():
    plan = plan_study(load_study(ROOT / "recipes/demo.yaml"))
    assert len(plan.runs) == 4
    assert [question.against for question in plan.comparisons] == ["base"] * 4
    assert {question.by for question in plan.comparisons} == {"closed_accuracy"}
    assert any(run.settings.lora.dropout > 0 for run in plan.runs)


def test_vqa_rad_keeps_the_released_split_and_cuts_validation_out_of_train():
    study = load_study(ROOT / "recipes/vqa_rad.yaml")
    split = study.data["rad"].split
    assert split.released == {"train": "train", "test": "test"}
    assert split.cuts == {"validation": Cut.model_validate({"from": "train", "share": 0.1})}
    assert set(study.accept) == {"same-row-in-train-and-test", "same-image-in-train-and-test"}
    (run,) = plan_study(study).runs
    assert (run.settings.lora.rank, run.settings.lora.alpha, run.settings.lora.dropout) == (16, 32, 0.05)


def test_a_hardware_default_holds_where_the_step_says_nothing(study_of):
    text = steps("a: {precision: fp32}\nb: {}") + "hardware: {precision: bf16, row_tokens: 4096}\n"
    first, second = plan_study(study_of(text)).runs
    assert (first.settings.precision, second.settings.precision) == ("fp32", "bf16")
    assert first.settings.row_tokens == 4096


def test_max_steps_takes_the_place_of_epochs(study_of):
    (run,) = plan_study(study_of(steps("a: {max_steps: 40}"))).runs
    assert (run.settings.max_steps, run.settings.epochs) == (40, None)


def test_the_hash_ignores_where_files_lie_and_nothing_else(study_of, tmp_path):
    first = study_sha256(study_of("name: a\n" + SMALLEST))
    (tmp_path / "other").mkdir()
    assert study_sha256(study_of("name: a\n" + SMALLEST + f"data_root: {tmp_path / 'other'}\n")) == first
    assert study_sha256(study_of("data: my.csv\nbase: llava-hf/llava-1.5-7b-hf\nname: a\n")) == first
    assert study_sha256(study_of("name: a\n" + SMALLEST + "evaluate: {max_new_tokens: 65}\n")) != first
    assert study_sha256(study_of("name: a\n" + SMALLEST.replace("1.5-7b", "1.5-13b"))) != first


def test_the_hash_does_not_depend_on_the_process(study_of, tmp_path):
    here = study_sha256(study_of("name: a\n" + SMALLEST))
    code = "import sys, pathlib, sightline.study as s; print(s.study_sha256(s.load_study(pathlib.Path(sys.argv[1]))))"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, str(tmp_path / "study0.yaml")]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_words_and_numbers_are_those_of_yaml_1_2():
    read = parse_yaml("{on: no, a: 2e-4, b: 010, c: 1:30, d: 2024-01-01, e: true, f: ~, g: -3, h: 1., i: .5}", "text")
    expected = {"on": "no", "a": 2e-4, "b": "010", "c": "1:30", "d": "2024-01-01", "e": True, "f": None}
    assert read == expected | {"g": -3, "h": 1.0, "i": 0.5}


def test_an_anchor_is_copied_before_it_is_changed(study_of):
    text = steps("a: {lora: &small {rank: 4}}\nb: {lora: *small}")
    first, second = plan_study(study_of(text, overrides=["steps.a.lora.rank=8"])).runs
    assert (first.settings.lora.rank, second.settings.lora.rank) == (8, 4)


def test_a_step_is_read_by_its_method(study_of):
    study = study_of(SELF_CRITIQUE)
    assert [type(step) for step in study.steps.values()] == [Sft, Average, Critique, Dpo]
    choose = "c: {method: choose, from: [a, b], on: data.validation}"
    study = study_of(steps(f"a: {{}}\nb: {{}}\n{choose}\nd: {{method: best_of, from: c, on: data.train, by: nll}}"))
    assert [type(step) for step in study.steps.values()] == [Sft, Sft, Choose, BestOf]
    assert plan_study(study).runs[2].parents == ("a", "b")


def test_what_a_step_leaves_unsaid_of_an_adapter_that_it_goes_on_with_is_taken_over(study_of):
    study = study_of(
        steps(
            "sft: {lora: {rank: 4, alpha: 8}, train: [projector], grid: {lora.dropout: [0.0, 0.1]}, seeds: [0, 1]}\n"
            "mean: {method: average, from: sft}\n"
            "dpo: {method: dpo, from: sft.dropout0.1@1, lora: {rank: 4}}\n"
            "more: {from: dpo, members: {a: {}, b: {epochs: 1}}}\n"
            "last: {from: mean}\n"
            "fresh: {from: base}"
        )
    )
    shapes = {name: (step.lora.rank, step.lora.alpha, step.lora.dropout, step.train)
              for name, step in study.steps.items() if name != "mean"}  # fmt: skip
    assert shapes["dpo"] == shapes["more"] == (4, 8, 0.1, ("projector",))
    assert shapes["last"] == (8, 8, 0.0, ("projector",)) and shapes["fresh"] == (16, 32, 0.05, ())
    refuse_unbuilt(study)
    assert study_of(resolved_yaml(study)).steps == study.steps


MEAN = "m: {method: average, from: [a, b]}"


@pytest.mark.parametrize(
    ("parents", "rank", "dropout"),
    [
        # One shape: the ranks add up, and what all agree on stays.
        (f"a: {{lora: {{rank: 8, dropout: 0.1}}}}\nb: {{lora: {{rank: 4, dropout: 0.1}}}}\n{MEAN}", 12, 0.1),
        (f"a: {{lora: {{rank: 8, dropout: 0.1}}}}\nb: {{lora: {{rank: 4, dropout: 0.2}}}}\n{MEAN}", 12, 0.0),
        # Nobody knows before they are made: nothing is taken over.
        (f"a: {{lora: {{rank: 8, targets: q_proj}}}}\nb: {{lora: {{rank: 4, targets: v_proj}}}}\n{MEAN}", 16, 0.05),
        ("a: {grid: {lora.rank: [4, 8]}}\nm: {method: choose, from: a, on: data.validation, by: nll}", 16, 0.05),
    ],
)
def test_what_is_known_of_a_mean_or_a_choice_is_taken_over_and_no_more(study_of, parents, rank, dropout):
    lora = study_of(steps(f"{parents}\nnext: {{from: m}}")).steps["next"].lora
    assert (lora.rank, lora.dropout) == (rank, dropout)


def test_a_smoke_test_takes_over_what_it_changes_itself(study_of):
    text = steps("sft: {lora: {rank: 8}}\ndpo: {method: dpo, from: sft}") + "smoke: {steps.sft.lora.rank: 4}\n"
    made = study_of(text, smoke=True).steps
    assert (made["sft"].lora.rank, made["dpo"].lora.rank) == (4, 4)


def test_no_default_is_made_a_demand_on_an_adapter_that_its_files_alone_describe(study_of):
    models = "models: {published: {adapter: owner/name}}\n"
    study = study_of(
        steps(
            "next: {from: published, members: {a: {lora.rank: 16}, b: {}}}\n"
            "more: {from: next.b, lora: {rank: 8}}\n"  # `next` says no rank, so nobody knows whether it is another
            "all: {from: published}\nsome: {from: published, grid: {lora.alpha: [32]}}\nnone: {}"
        )
        + models,
        overrides=["steps.all.lora.rank=16", "steps.all.lora.dropout=0.05", "steps.all.train=[]"],
    )
    refuse_unbuilt(study)
    for text in (None, resolved_yaml(study)):
        plan = plan_study(study if text is None else study_of(text))
        stated = {run.name: dict(stated_shape(run.settings)) for run in plan.runs}
        assert (stated["next.a"], stated["next.b"], stated["more"]) == ({"lora.rank": 16}, {}, {"lora.rank": 8})
        assert stated["all"] == {"lora.rank": 16, "lora.dropout": 0.05, "train": []}
        assert stated["some.alpha32"] == {"lora.alpha": 32}
    assert "lora: {}" not in resolved_yaml(study_of(steps("none: {}")))


def test_a_shape_equal_to_the_defaults_is_asked_of_a_mean_as_well(study_of):
    study = study_of(steps(f"a: {{lora: {{rank: 8}}}}\nb: {{lora: {{rank: 4}}}}\n{MEAN}\nx: {{from: m}}"))
    shapes = {run.name: stated_shape(run.settings) for run in plan_study(study).runs if run.training}
    assert (shapes["x"]["lora.rank"], shapes["x"]["lora.alpha"], shapes["a"]) == (12, 12, {"lora.rank": 8})
    said = study_of(resolved_yaml(study), overrides=["steps.x.lora.rank=16"])
    assert stated_shape(plan_study(said).runs[-1].settings)["lora.rank"] == 16


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("more: {from: sft, lora: {alpha: 8}}", "steps.more.lora.alpha is 8, but more"),
        ("more: {from: sft, members: {b: {lora: {alpha: 8}}}}", "steps.more.members.b.lora.alpha is 8, but more"),
        ("more: {from: sft, grid: {lora.alpha: [8, 32]}}", "steps.more.grid.lora.alpha is 8, but more"),
    ],
)
def test_a_step_that_asks_for_another_shape_than_it_goes_on_with_is_told_which_line(study_of, more, place):
    with pytest.raises(StudyError) as caught:
        refuse_unbuilt(study_of(steps("sft: {lora: {rank: 4}, seeds: [0, 1]}\n" + more)))
    assert str(caught.value) == (
        f"{place} goes on with the adapter of sft, where it is 32; remove lora.alpha here and it is taken over, "
        "or write 32"
    )


@pytest.mark.parametrize("key", ["quantize: nf4", "optimizer: adamw_8bit"])
def test_a_package_that_is_not_installed_is_named_before_anything_is_done(study_of, monkeypatch, key):
    study = study_of(steps(f"sft: {{{key}}}"))
    refuse_unbuilt(study)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(StudyError, match=r"sft: .* needs bitsandbytes; pip install '\.\[quantize\]'"):
        refuse_unbuilt(study)

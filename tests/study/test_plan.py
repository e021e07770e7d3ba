from __future__ import annotations

from sightline.study import (
    PreferenceTraining,
    Training,
    plan_study,
)
from study_examples import SELF_CRITIQUE, SMALLEST, run_names, steps


def test_the_full_example_is_planned_seed_by_seed(study_of):
    plan = plan_study(study_of(SELF_CRITIQUE))
    assert [run.name for run in plan.runs] == [
        *(f"sft.sft{member}@{seed}" for seed in range(3) for member in range(1, 5)),
        *(f"{step}@{seed}" for step in ("sfte", "pairs", "dpo") for seed in range(3)),
    ]
    runs = {run.name: run for run in plan.runs}
    assert runs["sfte@1"].parents == ("sft.sft1@1", "sft.sft2@1", "sft.sft3@1", "sft.sft4@1")
    assert runs["dpo@2"].parent == "sfte@2"
    assert runs["dpo@2"].on == ("pairs@2",)
    assert runs["dpo@2"].validation == ()
    assert isinstance(runs["dpo@2"].settings, PreferenceTraining)
    assert (runs["sft.sft4@0"].settings.lora.alpha, runs["sft.sft4@0"].settings.lora.dropout) == (8, 0.1)
    assert plan.models[:3] == ("base", "other", "published")
    assert "dpo@0" in plan.models
    assert "pairs@0" not in plan.models
    assert plan.data == ("charts.train", "charts.validation", "charts.test")
    assert [question.pairs for question in plan.comparisons] == [
        (("sfte@0", "base"), ("sfte@1", "base"), ("sfte@2", "base")),
        (("dpo@0", "sfte@0"), ("dpo@1", "sfte@1"), ("dpo@2", "sfte@2")),
    ]


def test_a_grid_crosses_values_and_names_members_after_them(study_of):
    study = study_of(steps("sft: {grid: {lora.alpha: [16, 8], lora.dropout: [0.05, 0.10], learning_rate: [2e-3]}}"))
    assert run_names(study) == [
        "sft.alpha16-dropout0.05-learning_rate0.002",
        "sft.alpha16-dropout0.1-learning_rate0.002",
        "sft.alpha8-dropout0.05-learning_rate0.002",
        "sft.alpha8-dropout0.1-learning_rate0.002",
    ]
    last = plan_study(study).runs[-1].settings
    assert (last.lora.alpha, last.lora.dropout, last.learning_rate, last.lora.rank) == (8, 0.1, 0.002, 16)


def test_a_member_may_be_written_dotted_or_as_a_block(study_of):
    study = study_of(steps("sft: {members: {a: {lora.alpha: 4}, b: {lora: {alpha: 4}}, c: {max_steps: 7}}}"))
    a, b, c = plan_study(study).runs
    assert a.settings == b.settings
    assert a.settings.lora.alpha == 4
    assert a.settings.lora.rank == 16
    assert (c.settings.max_steps, c.settings.epochs) == (7, None)


def test_auto_is_what_the_hardware_says_in_a_member_too(study_of):
    text = steps("sft: {precision: bf16, members: {a: {precision: auto}, b: {row_tokens: auto}}}")
    a, b = plan_study(study_of(text + "hardware: {precision: fp32, row_tokens: 4096}\n")).runs
    assert [(run.settings.precision, run.settings.row_tokens) for run in (a, b)] == [("fp32", 4096), ("bf16", 4096)]


def test_members_do_not_see_each_other(study_of):
    # What a run is made from is hashed, so another member's change must leave it alone.
    one = plan_study(study_of(steps("sft: {members: {a: {lora.alpha: 4}, b: {lora.alpha: 8}}}"))).runs[0]
    two = plan_study(study_of(steps("sft: {members: {a: {lora.alpha: 4}, b: {lora.alpha: 9}}}"))).runs[0]
    assert one == two
    _, other = plan_study(study_of(steps("sft: {members: {a: {learning_rate: 1}, b: {}}}"))).runs
    assert other.settings == Training()


def test_seeds_repeat_what_follows(study_of):
    study = study_of(steps("first: {seeds: [3, 1]}\nsecond: {from: first}\nalone: {from: first@1}"))
    assert run_names(study) == ["first@3", "first@1", "second@3", "second@1", "alone"]
    runs = {run.name: run for run in plan_study(study).runs}
    assert (runs["second@1"].parent, runs["second@1"].seed) == ("first@1", 1)
    assert (runs["alone"].parent, runs["alone"].seed) == ("first@1", None)
    assert runs["first@3"].settings == runs["first@1"].settings == Training()


def test_order_in_the_file_does_not_matter(study_of):
    study = study_of(steps("second: {from: first}\nfirst: {seeds: [0]}"))
    assert run_names(study) == ["first@0", "second@0"]


def test_a_comparison_stands_for_every_member(study_of):
    text = f"{SMALLEST}steps: {{sft: {{seeds: [0, 1], members: {{a: {{}}, b: {{}}}}}}}}\ncompare:\n"
    plan = plan_study(study_of(text + "  - {model: sft}\n  - {model: sft.a@0, against: sft.b}\n"))
    assert [(question.model, question.against) for question in plan.comparisons] == [
        ("sft.a", "base"),
        ("sft.b", "base"),
        ("sft.a@0", "sft.b"),
    ]
    assert plan.comparisons[0].pairs == (("sft.a@0", "base"), ("sft.a@1", "base"))
    assert plan.comparisons[2].pairs == (("sft.a@0", "sft.b@0"), ("sft.a@0", "sft.b@1"))


def test_fewer_models_can_be_asked(study_of):
    text = steps("a: {}\nb: {}").replace("compare: []\n", "") + "evaluate: {models: [base, b]}\n"
    plan = plan_study(study_of(text))
    assert plan.models == ("base", "b")
    assert [question.model for question in plan.comparisons] == ["b"]


def test_a_set_with_one_split_needs_no_split_name(study_of):
    text = "base: b\ndata:\n  train: rows.csv\n  pope: {source: pope, split: {test: 1}}\n"
    text += "steps: {sft: {on: train.train}}\nevaluate: {on: [train.test, pope], untouched: train.validation}\n"
    assert plan_study(study_of(text)).asked == ("train.test", "pope.test", "train.validation")

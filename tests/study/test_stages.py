"""Curricula as a study plans them: whose rows a stage takes, what its models are called, and what is refused."""

from __future__ import annotations

import pytest

from sightline.checking.plans import check_comparisons
from sightline.errors import StudyError
from sightline.study import StepRun, load_study, plan_study
from sightline.study.names import stage_name, without_stage
from study_examples import ROOT

STUDY = """
base: builtin:tiny
data:
  a: {source: builtin:phantom, split: {train: 0.6, validation: 0.2, test: 0.2}}
  b: {source: builtin:phantom, seed: 1, split: {train: 0.6, validation: 0.2, test: 0.2}}
evaluate: {on: a.test}
"""
TWO = "[{where: {answer_type: OPEN}, max_steps: 2}, {where: {answer_type: CLOSED}, max_steps: 3}]"


def with_steps(text: str, rest: str = "") -> str:
    return f"{STUDY.replace('evaluate: {', f'evaluate: {{{rest}')}steps:\n  {text}\n"


def only_run(study) -> StepRun:
    [run] = plan_study(study).runs
    return run


def test_a_stage_takes_the_step_s_rows_or_its_own(study_of) -> None:
    text = (
        "s: {on: a.train, stages: [{max_steps: 1}, {on: b.train, epochs: 2}, {on: [a.train, b.train], max_steps: 1}]}"
    )
    run = only_run(study_of(with_steps(text)))
    assert run.stage_data == (("a.train",), ("b.train",), ("a.train", "b.train"))
    assert run.on == ("a.train", "b.train")
    assert run.validation == ("a.validation", "b.validation")


def test_where_every_stage_names_its_rows_the_step_needs_none(study_of) -> None:
    run = only_run(study_of(with_steps("s: {stages: [{on: b.train, epochs: 1}, {on: a.train, epochs: 1}]}")))
    assert (run.on, run.stage_data) == (("b.train", "a.train"), (("b.train",), ("a.train",)))
    # What the step itself names is then not learnt from.
    run = only_run(study_of(with_steps("s: {on: a.train, stages: [{on: b.train, epochs: 1}]}")))
    assert (run.on, run.validation) == (("b.train",), ("b.validation",))
    with pytest.raises(StudyError, match=r"steps\.s\.on is missing"):
        plan_study(study_of(with_steps("s: {stages: [{on: b.train, epochs: 1}, {epochs: 1}]}")))
    with pytest.raises(StudyError, match=r"steps\.s\.on is missing"):
        plan_study(study_of(with_steps("s: {members: {x: {stages: [{on: b.train, epochs: 1}]}, y: {}}}")))


def test_members_have_stages_of_their_own(study_of) -> None:
    members = f"{{x: {{stages: {TWO}}}, y: {{stages: [{{on: b.train, epochs: 1}}], carry_over: weights}}, z: {{}}}}"
    x, y, z = plan_study(study_of(with_steps(f"s: {{on: a.train, max_steps: 5, members: {members}}}"))).runs
    assert [len(run.settings.stages) for run in (x, y, z)] == [2, 1, 0]
    assert [run.on for run in (x, y, z)] == [("a.train",), ("b.train",), ("a.train",)]
    assert [run.settings.carry_over for run in (x, y, z)] == ["all", "weights", "all"]
    assert z.stage_data == ()
    assert [stage.max_steps for stage in x.settings.stages] == [2, 3]


@pytest.mark.parametrize("stage", ["{}", "{epochs: 1, max_steps: 1}"])
def test_a_stage_has_one_length(study_of, stage: str) -> None:
    with pytest.raises(StudyError, match="needs exactly one of epochs and max_steps"):
        study_of(with_steps(f"s: {{on: a.train, stages: [{stage}]}}"))


def test_what_a_stage_names_must_be_there(study_of) -> None:
    with pytest.raises(StudyError, match=r"s\.stages\[1\]\.on: no data is called b\.trian; did you mean b\.train"):
        plan_study(study_of(with_steps("s: {on: a.train, stages: [{epochs: 1}, {on: b.trian, epochs: 1}]}")))


def test_a_step_follows_the_step_that_makes_a_stage_s_rows(study_of) -> None:
    pairs = "  pairs: {method: critique, from: base, on: a.train}\n"
    own = with_steps("d: {method: dpo, stages: [{on: pairs, epochs: 1}]}") + pairs
    assert [run.name for run in plan_study(study_of(own)).runs] == ["pairs", "d"]
    members = with_steps("d: {method: dpo, members: {x: {stages: [{on: [pairs], epochs: 1}]}}}") + pairs
    assert [run.name for run in plan_study(study_of(members)).runs] == ["pairs", "d.x"]


NAMES = [
    ("s", 1, "s~1"),
    ("s@0", 2, "s~2@0"),
    ("s.x", 1, "s.x~1"),
    ("s.alpha16-dropout0.05@12", 3, "s.alpha16-dropout0.05~3@12"),
]


@pytest.mark.parametrize(("model", "stage", "name"), NAMES)
def test_a_stage_s_model_is_called_after_the_whole_training_s(model: str, stage: int, name: str) -> None:
    assert stage_name(model, stage) == name
    assert without_stage(name) == (model, stage)
    assert without_stage(model) == (model, None)


ARMS = f"s: {{on: a.train, max_steps: 5, seeds: [3, 4], members: {{x: {{stages: {TWO}}}, y: {{}}}}}}"


def test_models_after_each_stage_but_the_last_are_asked_too(study_of) -> None:
    plan = plan_study(study_of(with_steps(ARMS)))
    assert plan.models == ("base", "s.x~1@3", "s.x@3", "s.y@3", "s.x~1@4", "s.x@4", "s.y@4")
    three = with_steps("s: {on: a.train, stages: [{epochs: 1}, {epochs: 1}, {epochs: 1}]}")
    assert plan_study(study_of(three)).models == ("base", "s~1", "s~2", "s")


def test_models_after_stages_can_be_left_out(study_of) -> None:
    plan = plan_study(study_of(with_steps(ARMS, "stages: false, ")))
    assert plan.models == ("base", "s.x@3", "s.y@3", "s.x@4", "s.y@4")
    fewer = plan_study(study_of(with_steps(ARMS, "models: [base, s.y], ")))
    assert fewer.models == ("base", "s.y@3", "s.y@4")


def test_no_question_is_asked_of_a_stage_s_model_unless_the_study_states_it(study_of) -> None:
    plan = plan_study(study_of(with_steps(ARMS) + "compare: [{model: s.x, against: s.y}]\n"))
    assert [(one.model, one.against, one.pairs) for one in plan.comparisons] == [
        ("s.x", "s.y", (("s.x@3", "s.y@3"), ("s.x@4", "s.y@4")))
    ]
    assert all("~" not in one.model for one in plan_study(study_of(with_steps(ARMS))).comparisons)


SMOKE = """
base: owner/model
data:
  a: {source: owner/a, split: {train: train, test: test}}
  b: {source: owner/b, split: {train: train}}
  again: {source: owner/a, where: {kind: x}, split: {test: test}}
  both: {mix: {a.train: 3000, b.train: 1000}}
  some: {mix: {a.train: 0.25, b.train: 0.75}, take: 800}
  few: {mix: {a.train: 1200}}
steps:
  arms:
    on: both
    max_steps: 60
    members:
      x:
        stages: [{where: {answer_type: OPEN, ward: "7"}, max_steps: 40}, {where: {num_pictures: [2, 3]}, max_steps: 20}]
      y: {stages: [{on: some, max_steps: 60}]}
      z: {}
  epochs: {on: few, stages: [{epochs: 1}, {epochs: 2}, {epochs: 3}]}
evaluate: {on: a.test}
"""


def test_the_smoke_test_keeps_equal_budgets_equal_and_asks_for_what_drawn_rows_have(study_of) -> None:
    plan = plan_study(study_of(SMOKE, smoke=True))
    stages = {run.name: run.settings.stages for run in plan.runs}
    assert {name: sum(stage.max_steps or 0 for stage in parts) for name, parts in stages.items() if parts} == {
        "arms.x": 4,
        "arms.y": 4,
        "epochs": 4,
    }
    assert [stage.max_steps for stage in stages["epochs"]] == [1, 1, 2]
    assert plan.runs[2].settings.max_steps == 4
    assert [stage.where for stage in stages["arms.x"]] == [{"answer_type": "OPEN"}, {"num_pictures": [2, 3]}]


def test_the_smoke_test_draws_other_pictures_for_another_source(study_of) -> None:
    data = study_of(SMOKE, smoke=True).data
    assert data["a"].seed == data["again"].seed != data["b"].seed


def test_the_smoke_test_mixes_in_the_same_proportions(study_of) -> None:
    data = study_of(SMOKE, smoke=True).data
    assert data["both"].mix == {"a.train": 0.75, "b.train": 0.25}
    assert (data["some"].mix, data["some"].take) == ({"a.train": 0.25, "b.train": 0.75}, None)
    assert data["few"].mix == {"a.train": 24}


@pytest.mark.parametrize("recipe", ["medical_curriculum", "phantom_curriculum"])
@pytest.mark.parametrize("smoke", [False, True])
def test_the_recipes_arms_have_equal_budgets_and_one_factor_each(recipe: str, smoke: bool) -> None:
    plan = plan_study(load_study(ROOT / "recipes" / f"{recipe}.yaml", smoke=smoke))
    steps = {run.name: sum(part.max_steps or 0 for part in run.settings.stages or (run.settings,)) for run in plan.runs}
    assert len(set(steps.values())) == 1
    assert {run.member for run in plan.runs} >= {"mixed", "open_closed", "closed_open", "open_only", "closed_only"}
    assert list(check_comparisons(plan.comparisons, plan.runs, {})) == []
    # A falling rate would teach what comes last more slowly than what comes first.
    assert {run.settings.schedule for run in plan.runs} == {"constant"}
    assert {run.seed for run in plan.runs} == ({0} if smoke and recipe == "medical_curriculum" else {0, 1, 2})


def test_the_recipe_of_path_vqa_learns_1200_questions_three_times() -> None:
    study = load_study(ROOT / "recipes/path_vqa.yaml")
    [run] = plan_study(study).runs
    assert study.data["small"].mix == {"path.train": 1200} and run.on == ("small",)
    assert (run.settings.epochs, run.settings.quantize) == (3, "nf4")

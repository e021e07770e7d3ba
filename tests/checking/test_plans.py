"""The checks on the plan find what changes at once, models made twice, and settings nobody uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from lettered_rows import only
from sightline.checking.findings import Finding
from sightline.checking.plans import check_comparisons, check_habits, check_members, check_share_seen
from sightline.study import Plan, load_study, plan_study

STUDY = """
base: builtin:tiny
data:
  open: {source: a.csv, split: {train: 0.5, test: 0.5}}
  closed: {source: b.csv, split: {train: 0.5, test: 0.5}}
models: {other: {base: owner/other}}
evaluate: {on: open.test}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def plan(folder: Path, steps: str, compare: str = "[]") -> Plan:
    file = folder / "study.yaml"
    file.write_text(f"{STUDY}steps:\n{steps}\ncompare: {compare}\n", encoding="utf-8")
    return plan_study(load_study(file))


def compared(folder: Path, steps: str, model: str = "a", against: str = "b") -> list[Finding]:
    made = plan(folder, steps, f"[{{model: {model}, against: {against}}}]")
    bases = {name: "owner/other" if name == "other" else "builtin:tiny" for name in made.models}
    return list(check_comparisons(made.comparisons, made.runs, bases))


ONE_FACTOR = {
    "data": "  a: {on: open.train}\n  b: {on: closed.train}",
    "dropout": "  a: {on: open.train}\n  b: {on: open.train, lora: {dropout: 0.1}}",
    "length": "  a: {on: open.train, max_steps: 9}\n  b: {on: open.train, max_steps: 8}",
    "rank with alpha": "  a: {on: open.train, lora: {rank: 8, alpha: 16}}\n"
    "  b: {on: open.train, lora: {rank: 16, alpha: 32}}",
    "nothing else that matters": "  a: {on: open.train, save_every: 7}\n"
    "  b: {on: open.train, row_tokens: 999, lora: {alpha: 8}}",
    "order": "  c: {on: open.train, max_steps: 5}\n  a: {from: c, on: closed.train, max_steps: 5}\n"
    "  d: {on: closed.train, max_steps: 5}\n  b: {from: d, on: open.train, max_steps: 5}",
    "mixed against in turn": "  c: {on: open.train, max_steps: 5}\n  a: {from: c, on: closed.train, max_steps: 5}\n"
    "  b: {on: [open.train, closed.train], max_steps: 10}",
    "further training": "  b: {on: open.train}\n  a: {from: b, on: closed.train, learning_rate: 1e-5}",
}


@pytest.mark.parametrize("steps", ONE_FACTOR.values(), ids=ONE_FACTOR)
def test_one_factor_is_what_a_comparison_is_for(folder: Path, steps: str) -> None:
    assert compared(folder, steps) == []
    assert compared(folder, steps, against="base") == []


SEVERAL = {
    "data and length": (
        "  a: {on: open.train, max_steps: 9}\n  b: {on: closed.train, max_steps: 8}",
        {"data", "length of training"},
    ),
    "rank without alpha": (
        "  a: {on: open.train, lora: {rank: 8, alpha: 16}}\n"
        "  b: {on: open.train, lora: {rank: 16, alpha: 16, dropout: 0}}",
        {"lora.rank", "lora.dropout"},
    ),
    "an earlier step": (
        "  c: {on: open.train, learning_rate: 1e-5}\n  a: {from: c, on: closed.train}\n"
        "  d: {on: open.train}\n  b: {from: d, on: open.train}",
        {"data", "learning_rate"},
    ),
}


@pytest.mark.parametrize(("steps", "factors"), SEVERAL.values(), ids=SEVERAL)
def test_several_factors_are_named(folder: Path, steps: str, factors: set[str]) -> None:
    [finding] = compared(folder, steps)
    assert (finding.name, finding.severity) == ("several-factors-changed", "fault")
    assert finding.evidence["factors"].keys() == factors and finding.message.startswith("a against b: 2 things")


def test_a_model_from_elsewhere_differs_in_base_and_training(folder: Path) -> None:
    [finding] = compared(folder, "  a: {on: open.train}", against="other")
    assert finding.severity == "warning" and finding.evidence["factors"].keys() == {"training", "base"}


def test_members_that_are_one_model_are_found(folder: Path) -> None:
    made = plan(folder, "  a: {on: open.train, members: {x: {save_every: 5}, y: {lora.alpha: 8}, z: {lora.alpha: 32}}}")
    finding = only(check_members(made.runs))
    assert finding.severity == "warning" and finding.evidence["models"] == ["a.x", "a.z"]
    assert list(check_members(plan(folder, "  a: {on: open.train, seeds: [0, 1]}").runs)) == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("learning_rate: 0.2", "learning_rate 0.2"),
        ("learning_rate: 2e-9", "learning_rate 2e-09"),
        ("lora: {rank: 2048, alpha: 2048}", "lora.rank 2048"),
        ("lora: {rank: 4, alpha: 128}", "lora.alpha 128 with rank 4"),
        ("lora: {dropout: 0.9}", "lora.dropout 0.9"),
        ("epochs: 100", "epochs 100"),
        ("warmup: 0.9", "warmup share 0.9"),
    ],
)
def test_a_setting_far_outside_the_usual_is_a_warning(folder: Path, setting: str, named: str) -> None:
    finding = only(check_habits(plan(folder, f"  a: {{on: open.train, {setting}}}").runs))
    assert (finding.name, finding.severity) == ("unusual-setting", "warning") and named in finding.message


def test_defaults_recipes_and_what_people_try_are_usual(folder: Path) -> None:
    steps = (
        "  a: {on: open.train}\n  b: {on: open.train, learning_rate: 1e-3, lora: {rank: 128, alpha: 256}, warmup: 5}\n"
        "  c: {method: dpo, on: open.train}\n  d: {on: open.train, lora: {rank: 16, alpha: 64, rslora: true}}"
    )
    assert list(check_habits(plan(folder, steps).runs)) == []


@pytest.mark.parametrize(
    ("length", "num_rows", "told"),
    [
        ("max_steps: 40, batch_size: 8", 12_149, "40 steps of 8 rows see 320 of 12,149"),
        ("epochs: 0.25", 100, "see 25 of 100"),
    ],
)
def test_a_step_that_sees_less_than_half_says_so(folder: Path, length: str, num_rows: int, told: str) -> None:
    runs = plan(folder, f"  a: {{on: open.train, {length}, seeds: [0, 1, 2], members: {{x: {{}}, y: {{}}}}}}").runs
    x, y = check_share_seen(runs, {run.name: [num_rows] for run in runs})  # once each, not once per seed
    assert x.severity == "warning" and told in x.message
    assert x.message.startswith("a.x: ") and y.message.startswith("a.y: ")


def test_a_step_that_sees_half_or_more_says_nothing(folder: Path) -> None:
    for length, num_rows in (("max_steps: 4, batch_size: 8", 64), ("epochs: 1", 9), ("max_steps: 4", 0)):
        [run] = plan(folder, f"  a: {{on: open.train, {length}}}").runs
        assert list(check_share_seen([run], {"a": [num_rows]})) == []
        assert list(check_share_seen([run], {})) == []

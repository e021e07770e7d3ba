"""Estimates are what the formulas give by hand, and counts what the model itself has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest

from lettered_rows import only, sample
from sightline.checking.findings import Finding
from sightline.checking.first_loss import check_first_loss
from sightline.checking.outside import check_destinations, check_licences
from sightline.checking.power import check_detectable, check_enough
from sightline.checking.resources import (
    ACCELERATOR_RATE,
    FASTEST_RATE,
    Machine,
    Work,
    check_cost,
    count_adapter,
    count_parameters,
    read_shapes,
)
from sightline.runner.first_loss import draw_places
from sightline.verdict.statistics import groups_needed

TINY = Path(__file__).parents[2] / "src" / "sightline" / "assets" / "tiny"

WORK = Work(
    parameters=7e9, parameters_from="by its name", num_trained=40_000_000, trained_tokens=1e6, asked_tokens=2e5,
    answer_tokens=1e4, num_models=4, num_checkpoints=2, weights="bf16", recomputes=False, download_bytes=14e9,
)  # fmt: skip
MACHINE = Machine(num_accelerators=1, num_cores=8, memory_gib=80.0, free_disk_gib=500.0)


def test_parameters_are_those_of_the_loaded_model_and_of_peft_s_adapter() -> None:
    from sightline.models.adapters import attach_lora
    from sightline.models.loading import load_model

    loaded = load_model("builtin:tiny", device="cpu")
    shapes = read_shapes(TINY)
    counted = count_parameters("builtin:tiny", shapes)
    assert counted is not None and counted[0] == sum(p.numel() for p in loaded.module.parameters())
    attach_lora(loaded, rank=4, alpha=8, dropout=0.0)
    trained = sum(p.numel() for p in loaded.module.parameters() if p.requires_grad)
    assert count_adapter(shapes, loaded.family.lora_targets, 4) == trained > 0


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llava-hf/llava-1.5-7b-hf", 7),
        ("Qwen/Qwen2.5-VL-72B-Instruct", 72),
        ("owner/model-0.5b", 0.5),
        ("owner/b2", None),
    ],
)
def test_a_base_that_is_not_here_is_judged_by_its_name(name: str, billions: float | None) -> None:
    counted = count_parameters(name, {})
    assert (counted and counted[0] / 1e9) == billions


def test_cost_is_the_formula_s() -> None:
    finding = only(check_cost(WORK, MACHINE, gpu_hours=None))
    seconds = (4 * 7e9 * 1e6 + 2 * 7e9 * (2e5 + 1e4 / 0.1)) / ACCELERATOR_RATE
    assert finding.severity == "note" and finding.evidence["hours"] == pytest.approx(seconds / 3600)
    assert finding.evidence["memory_gib"] == pytest.approx((14e9 + 0.64e9) / 2**30)
    assert finding.evidence["disk_gib"] == pytest.approx((14e9 + 40e6 * 4 * (4 + 6)) / 2**30)
    assert "here" not in finding.message and "7,000 million parameters (by its name)" in finding.message
    again = only(check_cost(replace(WORK, recomputes=True), MACHINE, gpu_hours=None))
    assert again.evidence["hours"] > finding.evidence["hours"]


def test_what_does_not_fit_is_a_warning() -> None:
    small = Machine(num_accelerators=0, num_cores=2, memory_gib=8.0, free_disk_gib=1.0)
    finding = only(check_cost(WORK, small, gpu_hours=None))
    assert finding.severity == "warning" and "on 2 cores" in finding.message
    assert "memory 13.6 GiB where 8.0 are there" in finding.message and "disk " in finding.message


def test_a_budget_that_no_accelerator_can_keep_is_a_fault() -> None:
    least = WORK.hours(FASTEST_RATE)
    assert [finding.name for finding in check_cost(WORK, MACHINE, gpu_hours=least * 1.01)] == ["cost"]
    _, over = check_cost(WORK, MACHINE, gpu_hours=least * 0.99)
    assert (over.name, over.severity) == ("over-budget", "fault")


def by_normal(error: float, _: float, alpha: float) -> float:
    return error * (NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(0.8))


def test_the_detectable_difference_of_vqa_rad_s_test_split_is_the_known_one() -> None:
    """451 questions, 20% discordant: 5.9 points (McNemar's large-sample power, normal quantiles)."""
    rows = [sample(n, chr(65 + n % 203), f"{n}?", "no") for n in range(451)]
    finding = only(check_detectable("d", rows, by="exact_match", num_comparisons=1, detectable=by_normal))
    assert finding.evidence["points_if_independent"] == pytest.approx(5.9, abs=0.01)
    # By hand: 45 images of three questions, 158 of two; alike, they count as one each.
    alike = 100 * by_normal(math.sqrt(0.2 * (45 * 9 + 158 * 4)) / 451, 0, 0.05)
    assert finding.evidence["points_if_alike"] == pytest.approx(alike)
    # Nine tenths of the variance as if independent, one tenth as if alike.
    expected = math.hypot(math.sqrt(0.9) * finding.evidence["points_if_independent"], math.sqrt(0.1) * alike)
    assert finding.evidence["points"] == pytest.approx(expected)
    corrected = only(check_detectable("d", rows, by="exact_match", num_comparisons=4, detectable=by_normal))
    assert corrected.evidence["points"] > finding.evidence["points"]
    assert list(check_detectable("d", rows[:1], by="nll", num_comparisons=1, detectable=by_normal)) == []


def test_a_test_set_about_too_few_pictures_for_a_verdict_is_found() -> None:
    rows = [sample(n, "ABCDE"[n % 5], f"{n}?", "no") for n in range(20)]
    assert list(check_enough("d.test", rows, least=5)) == []
    finding = only(check_enough("d.test", rows[:4], least=5))
    assert (finding.name, finding.severity) == ("few-test-images", "warning")
    assert finding.message.startswith("d.test: 4 questions are about 4 images; with fewer than 5 images there is no ")
    assert "share of test in data.d.split" in finding.remedy
    planned = only(check_enough("d.test", rows, least=5, decisive=groups_needed(2)))
    assert "with fewer than 7 images no difference can be called real in the planned comparisons" in planned.message
    # One row about two of the pictures makes one group of them.
    joined = only(check_enough("d.test", [*rows, sample(20, "AB", "same?", "no")], least=5, by="open_recall"))
    assert "by open_recall, 21 questions are about 5 images (4 independent groups); with fewer" in joined.message


@pytest.mark.parametrize(
    ("loss", "severity"), [(10.4, "fault"), (math.nan, "fault"), (10.3, "note"), (0.5, "note"), (0.005, "warning")]
)
def test_the_first_loss_is_held_against_a_uniform_guess(loss: float, severity: str) -> None:
    finding = only(check_first_loss("d", "base", loss, num_rows=32, vocabulary_size=32_064))
    assert (finding.name, finding.severity) == ("step-0-loss", severity) and "10.38" in finding.message


def test_the_first_loss_is_of_rows_of_every_kind() -> None:
    places = draw_places(90)  # a table that asks three questions about each picture in turn
    assert len(set(places)) == 32 and {place % 3 for place in places} == {0, 1, 2}
    assert draw_places(5) == [0, 1, 2, 3, 4]


def test_the_tiny_model_s_first_loss_on_words_it_does_not_know_is_no_fault() -> None:
    def found(loss: float) -> Finding:
        return only(check_first_loss("d", "base", loss, num_rows=32, vocabulary_size=2048, is_foreign=True))

    assert (found(7.7).severity, found(7.5).severity, found(math.nan).severity) == ("warning", "note", "fault")
    assert "none of its numbers mean anything" in found(7.7).message and "real model" in found(7.7).remedy


def test_destinations_and_licences_are_said_either_way() -> None:
    assert only(check_destinations([])).message == "nothing leaves this machine"
    assert only(check_destinations(["a to b", "c to d"])).message == "leaves this machine: a to b; c to d"
    found = only(check_licences({"base a": "mit", "data b": None}))
    assert found.message.startswith("base a: mit; not known") and found.message.endswith("data b")

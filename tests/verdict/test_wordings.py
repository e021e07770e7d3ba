"""Several wordings of the same questions, and models as they are after a curriculum's stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sightline.verdict.sentences import model_in_words, render_terminal

Compare = Callable[..., dict[str, Any]]
GENERATOR = np.random.default_rng(11)
BASE = GENERATOR.integers(0, 2, 120).tolist()


def moved(share: float, to: int = 1) -> list[int]:
    return np.where(GENERATOR.random(120) < share, to, BASE).tolist()


def together(compare: Compare, **wordings: list[int]) -> dict[str, Any]:
    values = {"base": dict.fromkeys(wordings, BASE), "sft": wordings}
    (found,) = compare(values, images=range(120))["wordings"]
    return found


def test_mean_range_and_deviation(compare: Compare) -> None:
    rows = {"long": moved(0.3), "plain": moved(0.5), "short": moved(0.4)}
    found = together(compare, **rows)
    gains = [np.mean(row) - np.mean(BASE) for row in rows.values()]
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((np.mean(gains), min(gains), max(gains)))
    assert found["sd"] == pytest.approx(np.std(gains, ddof=1))
    assert found["verdicts"] == {"long": "improved", "plain": "improved", "short": "improved"}
    assert not found["prompt_dependent"]
    assert found["sentence"].startswith("3 wordings: mean +")
    assert found["sentence"].endswith("the same verdict with each (improved).")


def test_a_verdict_that_depends_on_the_wording_is_named(compare: Compare) -> None:
    found = together(compare, plain=moved(0.4), short=[1 - BASE[0], *BASE[1:]])
    assert found["sd"] is None
    assert "the verdict depends on the wording (plain: improved, short: " in found["sentence"]


def test_a_direction_that_depends_on_the_wording_is_prompt_dependent(compare: Compare) -> None:
    found = together(compare, plain=moved(0.4), short=moved(0.4, to=0))
    assert found["prompt_dependent"]
    assert found["sentence"].endswith("prompt-dependent: the direction changes with the wording.")


def test_what_cannot_be_decided_has_its_verdict_and_no_number(compare: Compare) -> None:
    found = together(compare, plain=BASE, short=BASE)
    assert (found["mean"], found["prompt_dependent"]) == (None, False)
    assert found["sentence"] == "2 wordings: the same verdict with each (cannot decide)."


def test_one_wording_has_nothing_to_compare(compare: Compare) -> None:
    compared = compare({"base": BASE, "sft": moved(0.4)}, images=range(120))
    assert compared["wordings"] == compared["sensitivity"] == []


def test_how_far_a_model_moves_with_the_wording_alone(compare: Compare) -> None:
    half = [1, 0] * 60
    values = {"base": {"plain": half, "short": [1] * 60 + half[:60]}, "sft": {"plain": half, "short": half}}
    base, tuned = compare(values, images=range(120))["sensitivity"]
    assert (base["model"], base["values"]) == ("base", {"plain": 0.5, "short": 0.75})
    assert (base["mean"], base["low"], base["high"], base["range"]) == (0.625, 0.5, 0.75, 0.25)
    assert base["title"] == "base, closed_accuracy on d"
    assert base["sentence"] == (
        "2 wordings: mean 62.5%, from 50.0% (plain) to 75.0% (short): the wording alone moves it by 25.0 points."
    )
    assert tuned["range"] == 0 and "moves it by 0.0 points" in tuned["sentence"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("sft", "sft"),
        ("sft.a16@0", "sft.a16@0"),
        ("sft~1", "sft after stage 1"),
        ("sft.a16~2@3", "sft.a16@3 after stage 2"),
    ],
)
def test_models_in_words(model: str, words: str) -> None:
    assert model_in_words(model) == words


def test_stages_are_exploratory_and_read_well(compare: Compare) -> None:
    values = {"base": BASE, "sft~1@0": moved(0.2), "sft~1@1": moved(0.2), "sft@0": moved(0.4), "sft@1": moved(0.4)}
    compared = compare(values, images=range(120))
    assert [entry["model"] for entry in compared["stated"]] == ["sft"]
    assert [entry["model"] for entry in compared["exploratory"]] == ["sft~1"]
    assert compared["exploratory"][0]["seeds"] == [0, 1]
    text = render_terminal(compared)
    assert "  sft after stage 1 against base, closed_accuracy on d\n" in text
    assert "    sft@1 after stage 1: " in text
    assert compared["selection"] == []

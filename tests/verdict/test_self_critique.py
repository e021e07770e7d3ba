"""Whether a judge of two answers judges at all."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from sightline.verdict.self_critique import describe_duels, say_making

SIGNS = {"win": 1, "tie": 0, "loss": -1}


def duels(outcomes: list[tuple[str, str]], num_words: tuple[int, int] = (3, 5)) -> list[dict[str, object]]:
    return [
        {"image_id": str(number), "when_first": SIGNS[first], "when_second": SIGNS[second], "num_words": num_words}
        for number, (first, second) in enumerate(outcomes)
    ]


def test_agreement_places_and_length_are_counted_by_hand() -> None:
    outcomes = [("win", "win")] * 6 + [("loss", "loss")] * 2 + [("win", "loss")] * 3 + [("loss", "win"), ("tie", "win")]
    found = describe_duels(duels(outcomes))
    assert (found["num_duels"], found["num_ties"], found["num_agreed"]) == (13, 1, 8)
    assert found["agreement"]["value"] == pytest.approx(8 / 12)
    assert found["shown_first"]["value"] == pytest.approx((8 * 0.5 + 3 * 1 + 1 * 0) / 12)
    assert found["longer"]["value"] == pytest.approx(2 / 8)  # the second answer is the longer one
    assert found["agreement"]["interval"] == pytest.approx(proportion_confint(8, 12, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(("share", "at_chance"), [(0.5, True), (0.95, False), (0.0, True)])
def test_chance_is_said_to_be_chance(share: float, at_chance: bool) -> None:
    agreeing = np.random.default_rng(0).random(200) < share
    found = describe_duels(duels([("win", "win" if agrees else "loss") for agrees in agreeing]))
    assert found["at_chance"] is at_chance
    assert ("chance would be 50%" in found["sentence"]) is not at_chance
    assert ("the place or the letter decides" in found["sentence"]) is (share == 0.0)


def test_questions_about_one_picture_are_not_independent() -> None:
    rows = duels([("win", "win")] * 7 + [("win", "loss")] * 3) * 10
    apart = [{**row, "image_id": str(number)} for number, row in enumerate(rows)]
    assert describe_duels(apart)["at_chance"] is False
    assert describe_duels(rows)["at_chance"] is True  # ten pictures tell no more than ten questions


def test_how_it_went_is_said_in_short_sentences() -> None:
    counts = {"num_questions": 24, "num_drawn": 72, "num_empty": 2, "num_equal": 21, "num_near": 0}
    counts |= {"num_pairs": 3, "num_near_pairs": 0}
    found = {"num_duels": 7, "num_ties": 4, "sentence": ""}
    assert say_making(counts, found) == (
        "3 pairs from 24 questions, 3 answers each. Not compared: 2 empty answers and 21 answers that repeat another "
        "one. Compared: 7 times two answers; 4 are ties."
    )
    told = say_making(counts | {"num_empty": 0, "num_equal": 0, "num_near": 2}, found | {"sentence": "Both agree."})
    assert "Not compared" not in told and told.endswith("as do 0 of the pairs. Both agree.")


def test_few_images_tell_nothing_from_chance() -> None:
    found = describe_duels(duels([("win", "win")] * 4))
    assert found["at_chance"] is True and found["agreement"]["interval"] is None
    assert "fewer than 5 images cannot tell that from chance" in found["sentence"]
    assert describe_duels(duels([("win", "win")] * 5))["agreement"]["interval"] is not None


def test_where_all_are_ties_nothing_is_known() -> None:
    found = describe_duels(duels([("tie", "tie")] * 4))
    assert found["at_chance"] is True and found["agreement"] is None
    assert "every one is a tie" in found["sentence"]
    assert describe_duels([])["at_chance"] is True

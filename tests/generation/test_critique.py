"""Self-critique: which answers are compared, what a model's letters say, and which pair is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sightline.generation.critique import (
    CLOSING,
    LETTERS,
    OPENING,
    RESPONSES,
    Duel,
    Preference,
    ask_which,
    choose_pair,
    duels_of,
)
from sightline.models.forward import stock_inputs
from sightline.records import Message, Sample
from sightline.trees.render import render
from tiny_families import noise, random_model

SAMPLE = Sample(id="s", pictures=(), messages=(Message(role="user", content=("Is it there?",)),), answer="no")


def win(*sides: str) -> Preference:
    return Preference(when_first=sides[0], when_second=sides[-1])  # pyright: ignore


def test_equal_answers_are_not_compared_whatever_stands_around_their_words() -> None:
    drawn = duels_of(SAMPLE, ["Yes.", ' "yes" ', "No", "no,  it is", "No, it is!", " "])
    assert (drawn.num_empty, drawn.num_equal) == (1, 2)
    assert [duel.ks for duel in drawn.duels] == [(0, 2), (0, 3), (2, 3)]
    assert duels_of(SAMPLE, ["same", "Same. "]).duels == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "a nodule of 6 mm in the upper lobe of the lung, on the left",
            "a nodule of 6 mm in the upper lobe of the lung, on the right",
        ),
        ("1.5 cm", "15 cm"),
        ("< 5 mm", "> 5 mm"),
        ("-5", "5"),
        ("T-2", "T2"),
    ],
)
def test_a_small_difference_in_words_or_figures_is_compared(one: str, other: str) -> None:
    [duel] = duels_of(SAMPLE, [one, other]).duels
    assert duel.texts == (one, other)


def test_answers_that_are_nearly_the_same_are_marked() -> None:
    long = "there is a large nodule in the upper left lung and a small one in the right"
    drawn = duels_of(SAMPLE, [long, long.replace("right", "rights"), long.replace("large nodule", "mass")])
    assert [duel.is_near for duel in drawn.duels] == [True, False, False]


def test_both_orders_have_to_agree() -> None:
    assert win("win").winner == 0
    assert win("loss").winner == 1
    assert win("tie").winner is None
    assert win("win", "loss").winner is None  # the answer shown first, both times
    assert win("win", "tie").winner is None


def duels(*ks: tuple[int, int]) -> list[Duel]:
    return [Duel(sample=SAMPLE, ks=pair, texts=("a", "b")) for pair in ks]


def test_the_pair_is_the_furthest_apart_on_which_both_orders_agree() -> None:
    three = duels((0, 1), (0, 2), (1, 2))
    assert choose_pair(three, [win("loss"), win("loss"), win("loss")]) == (2, 0)
    assert choose_pair(three, [win("win"), win("win", "loss"), win("win")]) == (0, 1)
    assert choose_pair(three, [win("win", "loss")] * 3) is None
    assert choose_pair([], []) is None


@pytest.mark.parametrize("with_picture", [True, False])
def test_letters_weigh_what_a_plain_forward_pass_says(with_picture: bool) -> None:
    loaded = random_model("llava")
    pictures = (noise(0),) if with_picture else ()
    content = (0, "left?") if with_picture else ("left?",)
    sample = dataclasses.replace(SAMPLE, pictures=pictures, messages=(Message(role="user", content=content),))
    texts = ("a lung {question}", "no")  # braces in an answer are its own
    [found] = ask_which(loaded, [Duel(sample=sample, ks=(0, 1), texts=texts)])

    def likely(first: str, second: str, letter: str) -> float:
        prompt = OPENING + "left?" + RESPONSES.replace("{first}", first).replace("{second}", second) + CLOSING
        message = Message(role="user", content=(*(part for part in content if isinstance(part, int)), prompt))
        sequence = render(loaded.family, [message], pictures, letter)
        with torch.no_grad():
            logits = loaded.inner(**stock_inputs(loaded, sequence)).logits[0].log_softmax(-1)
        ids, learnt = sequence.token_ids_L, sequence.weight_L
        return sum(float(logits[place - 1, ids[place]]) for place in range(len(ids)) if learnt[place] > 0)

    first, second = texts
    margin = likely(first, second, LETTERS[0]) - likely(first, second, LETTERS[1])
    swapped = likely(second, first, LETTERS[1]) - likely(second, first, LETTERS[0])
    assert found.margins == pytest.approx((margin, swapped), abs=1e-9)
    assert found.when_first == ("win" if margin > 0 else "loss")
    assert found.when_second == ("win" if swapped > 0 else "loss")

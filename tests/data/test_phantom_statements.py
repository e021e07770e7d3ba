"""What phantom says is true, what it plants is false, and its probes ask for what they should."""

from __future__ import annotations

import statistics
from collections import Counter

from sightline.data.phantom import Category, phantom_descriptions, phantom_pairs, phantom_probes, phantom_samples
from sightline.data.phantom_drawing import draw_phantom
from sightline.data.phantom_statements import (
    hallucination_ratio,
    is_description,
    is_true,
    statements,
    things_in,
    truth_of,
)


def test_a_true_description_is_true_and_planted_sentences_are_false():
    for true, planted in zip(phantom_descriptions(60), phantom_descriptions(60, max_false=3), strict=True):
        assert true.hallucination_ratio == 0 == hallucination_ratio(true.text.split("."), true.image.facts)
        num_false = sum(not statement.true for statement in planted.statements)
        assert 1 <= num_false <= 3
        assert len({statement.text for statement in planted.statements}) == len(planted.statements)
        assert hallucination_ratio(planted.text.split("."), planted.image.facts) == planted.hallucination_ratio
        assert [is_true(s.text, planted.image.facts) for s in planted.statements] == [
            s.true for s in planted.statements
        ]


def test_a_true_description_says_of_every_sentence_what_the_facts_say():
    for description in phantom_descriptions(60, seed=4):
        assert is_description(description.text)
        for statement in statements(description.image.facts):
            assert truth_of(f" {statement.text.upper()} ", description.text) is statement.true


def test_what_is_said_of_another_kind_of_picture_is_false_unless_it_denies():
    described = phantom_descriptions(40, seed=4)
    chart = next(d.text for d in described if d.text.startswith("This is a line chart"))
    chest = next(d.text for d in described if d.text.startswith("The heart"))
    assert truth_of("The heart is enlarged", chart) is False and truth_of("There is no effusion.", chart) is None
    assert truth_of("The red bar is the tallest.", chart) is False
    assert truth_of("This is a bar chart.", chest) is False and truth_of("There is no dashed line.", chest) is None
    assert truth_of("The patient is cheerful.", chest) is None
    assert not is_description("The heart is enlarged. The patient is cheerful.") and not is_description("left")


def test_probes_are_subsets_of_phantom():
    for category in ("random", "popular", "adversarial"):
        asked = phantom_samples(5, seed=3, first_index=2, subset=f"probes-{category}")
        assert asked == phantom_probes(5, category=category, seed=3, first_index=2)


def test_what_phantom_never_says_has_no_truth():
    facts = draw_phantom(0, kind="chest").facts
    assert is_true("The patient is cheerful", facts) is None
    assert hallucination_ratio(["The patient is cheerful"], facts) is None


def test_the_rejected_description_says_something_false_and_the_chosen_one_does_not():
    pairs = phantom_pairs(40, seed=6)
    assert len({pair.id for pair in pairs}) == len(pairs) > 60
    for pair in pairs:
        facts = draw_phantom(int(pair.origin.rpartition(":")[2]), seed=6).facts
        assert hallucination_ratio(pair.chosen.split("."), facts) == 0
        false = [sentence for sentence in pair.rejected.split(".") if is_true(sentence, facts) is False]
        assert len(false) == int(pair.tags["num_false"]) > 0


def test_probes_are_right_and_differ_only_in_what_is_absent():
    asked = {}
    drawn = [draw_phantom(index, seed=9).facts for index in range(60)]
    categories: tuple[Category, ...] = ("random", "popular", "adversarial")
    for category in categories:
        probes = phantom_probes(60, category=category, seed=9)
        for probe in probes:
            facts = drawn[int(probe.origin.rpartition(":")[2])]
            assert probe.answer == ("yes" if probe.tags["thing"] in things_in(facts) else "no")
        assert Counter(probe.answer for probe in probes)["yes"] * 2 == len(probes)
        asked[category] = probes
    present = [[(p.image_id, p.question) for p in asked[c] if p.answer == "yes"] for c in asked]
    assert present[0] == present[1] == present[2]


def test_adversarial_probes_ask_for_what_usually_stands_beside_what_is_there():
    def share_of_own_kind(category: Category) -> float:
        probes = [p for p in phantom_probes(60, category=category, subset="chest") if p.answer == "no"]
        return statistics.mean(
            [p.tags["thing"] in ("nodule", "effusion", "tube", "pacemaker", "catheter") for p in probes]
        )

    assert share_of_own_kind("adversarial") > 0.6 > 0.4 > share_of_own_kind("random")

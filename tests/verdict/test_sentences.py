from __future__ import annotations

import re
from typing import Any

import pytest

from sightline.verdict.sentences import amount, probability, render_terminal, say, short_reason


def entry_of(**changes: Any) -> dict[str, Any]:
    """A question of compare.json, as it might be."""
    return {
        "model": "sft",
        "against": "base",
        "metric": "closed_accuracy",
        "data": "phantom.test",
        "template": "plain",
        "verdict": "improved",
        "sentence": "",
        "reason": "",
        "detail": "",
        "unit": "rate",
        "higher_is_better": True,
        "neutral": False,
        "difference": 0.0672,
        "interval": [0.0381, 0.0962],
        "p": 0.0004,
        "p_adjusted": 0.0004,
        "p_check_adjusted": 0.0021,
        "p_check_method": "sign-flip",
        "detectable": 0.0721,
        "num_questions": 2248,
        "num_images": 315,
        "num_groups": 315,
        "binary": True,
        "fixed": 261,
        "broke": 110,
        "unparsed": {"model": 12, "against": 44},
        "seeds": [],
        "run_share": None,
        "num_runs_needed": None,
        "margin": None,
        "seen": None,
        "by_rule": None,
        "checkpoints": [],
    } | changes


def said(**changes: Any) -> str:
    return say(entry_of(**changes), family_size=4, alpha=0.05, power=0.8)


def test_improved_and_regressed() -> None:
    assert said() == (
        "improved: +6.7 points (95% CI +3.8 to +9.6), adjusted p < .001, 2,248 questions on 315 images; "
        "fixed 261, broke 110."
    )
    assert said(verdict="regressed", difference=-0.04, interval=[-0.0755, -0.005], p_adjusted=0.0248) == (
        "regressed: -4.0 points (95% CI -7.5 to -0.5), adjusted p = .025, 2,248 questions on 315 images; "
        "fixed 261, broke 110."
    )


def test_images_that_questions_share_in_part_are_counted_with_the_groups_they_form() -> None:
    assert "2,248 questions on 315 images (40 independent groups); fixed 261" in said(num_groups=40)


def test_no_detectable_difference() -> None:
    changes = {"verdict": "no detectable difference", "difference": -0.04, "interval": [-0.107, 0.028], "p": 0.25}
    assert said(**changes) == (
        "no detectable difference: -4.0 points (95% CI -10.7 to +2.8). This test set could only have detected a change "
        "of 7.2 points or more (80% power). This is not evidence that the models are equal."
    )


def test_an_interval_without_zero_that_the_correction_undoes_is_explained() -> None:
    sentence = said(verdict="no detectable difference", interval=[0.001, 0.13], p=0.04, p_adjusted=0.16)
    assert "alone; corrected for 4 comparisons, p = .160. This test set" in sentence


def test_losses_are_in_nats_and_say_which_way_is_better() -> None:
    loss = {"unit": "nats", "higher_is_better": False, "binary": False, "difference": -0.2134}
    assert said(**loss, interval=[-0.31, -0.1161]) == (
        "improved: -0.213 nats per token (95% CI -0.310 to -0.116; lower is better), adjusted p < .001, "
        "2,248 questions on 315 images; better on 261, worse on 110."
    )
    none = said(**loss, verdict="no detectable difference", interval=[-0.5, 0.1], p=0.3, detectable=0.4)
    assert "a change of 0.400 nats per token or more" in none
    assert "points" not in none


def test_borderline_by_invalid_answers() -> None:
    rules = {"left_out": {"difference": 0.004, "interval": [-0.02, 0.028]}, "bounds": [-0.011, 0.0672], "num_left": 9}
    reason = "depends on how invalid answers are counted"
    assert said(verdict="borderline", reason=reason, by_rule=rules) == (
        "borderline: depends on how invalid answers are counted: counted wrong +6.7 points (95% CI +3.8 to +9.6), "
        "left out +0.4 points (95% CI -2.0 to +2.8); between -1.1 and +6.7 points whatever they had been; "
        "invalid answers: sft 12, base 44; 2,248 questions on 315 images; fixed 261, broke 110."
    )
    none = {"left_out": None, "bounds": None, "num_left": 0, "left_out_reason": "nothing scored"}
    nothing = said(verdict="borderline", reason=reason, by_rule=none)
    assert "no question is left without them; invalid answers" in nothing
    few = none | {"num_left": 4, "left_out_reason": "G < 5: the questions are about 4 images only"}
    assert (
        "without them 4 questions are left, on which nothing can be said (G < 5: the questions are about 4 images "
        "only); invalid answers"
    ) in said(verdict="borderline", reason=reason, by_rule=few)


def test_a_borderline_in_a_table_has_its_reason_in_few_words() -> None:
    tests = {"verdict": "borderline", "reason": "the two tests disagree", "p_check_method": "label-swap"}
    tests |= {"p_adjusted": 0.0004, "p_check_adjusted": 0.0625}
    said = "the two tests disagree: adjusted p < .001, by the label-swap check = .062"
    # 2^5 ways to swap five images, the observed one and its mirror as far from 0 as any: 2 / 32; of six, 2 / 64.
    few = short_reason(entry_of(**tests, num_images=5, num_groups=5), alpha=0.05)
    assert few == f"{said} on 5 images, and that check needs 6 at the least"
    assert short_reason(entry_of(**tests, num_images=6, num_groups=6), alpha=0.05) == said
    invalid = entry_of(verdict="borderline", reason="depends on how invalid answers are counted")
    assert short_reason(invalid, alpha=0.05) == "depends on how invalid answers are counted: sft 12, base 44"
    undefined = {"verdict": "cannot decide", "reason": "undefined value", "detail": "it divides by zero"}
    assert short_reason(entry_of(**undefined), alpha=0.05) == "undefined value: it divides by zero"
    assert short_reason(entry_of(verdict="improved"), alpha=0.05) == ""


def test_borderline_by_tests_that_disagree() -> None:
    assert said(verdict="borderline", reason="the two tests disagree", p_adjusted=0.03, p_check_adjusted=0.0625) == (
        "borderline: the two tests disagree: +6.7 points (95% CI +3.8 to +9.6), the interval's own test "
        "(adjusted p = .030), the sign-flip check (adjusted p = .062); 2,248 questions on 315 images; "
        "fixed 261, broke 110."
    )


def test_cannot_decide_gives_its_reason_and_no_number_of_its_own() -> None:
    assert said(verdict="cannot decide", reason="unmatched samples", detail="3 only in the model", difference=None) == (
        "cannot decide: unmatched samples (3 only in the model)."
    )


@pytest.mark.parametrize(
    ("seeds", "share", "needed", "told"),
    [
        ([0, 1, 2], 0.83, 9, "83% of the uncertainty lies between the training runs; about 9 runs like these 3 would"),
        ([0, 1, 2], 0.83, None, "more runs alone would not detect a difference of this size."),
        ([0, 1], 0.83, None, "two of them tell too little of their spread to say how many would do."),
        ([0, 1, 2], 0.2, 4, ""),
    ],
)
def test_too_few_training_runs_are_said_to_be_too_few(
    seeds: list[int], share: float, needed: int | None, told: str
) -> None:
    runs = {"seeds": seeds, "run_share": share, "num_runs_needed": needed}
    sentence = said(verdict="no detectable difference", interval=[-0.02, 0.1], p=0.2, **runs)
    assert told in sentence and ("the uncertainty" in sentence) is bool(told)


def test_what_cannot_be_decided_for_one_reason_is_said_once() -> None:
    few = {"verdict": "cannot decide", "difference": None, "sentence": "cannot decide: G < 5."}
    run = entry_of(**few, model="sft@0")
    entries = [
        entry_of(**few),
        entry_of(**few, metric="nll"),
        entry_of(sentence="improved: by far."),
        entry_of(sentence="improved: by far.", metric="nll"),
        entry_of(**few, model="dpo"),
        entry_of(**few, model="more", checkpoints=[run, run]),
    ]
    apart = [{"title": f"{name} against base, closed questions", "sentence": "cannot decide."} for name in "ab"]
    head = {"study": "s", "stated": entries, "exploratory": [], "arms": [], "baselines": [], "notes": []}
    lines = render_terminal({**head, "yes_no": apart}).splitlines()
    assert lines[3:15] == [
        "  sft against base, closed_accuracy, nll on phantom.test",
        "  dpo against base, closed_accuracy on phantom.test",
        "    cannot decide: G < 5.",
        "  sft against base, closed_accuracy on phantom.test",
        "    improved: by far.",
        "  sft against base, nll on phantom.test",
        "    improved: by far.",
        "  more against base, closed_accuracy on phantom.test",
        "    cannot decide: G < 5.",
        "    each of its 2 training runs by itself: the same",
        "",
        "Yes/no questions taken apart",
    ]
    assert lines[15] == "  a against base; b against base, closed questions: cannot decide."


def test_recipes_name_their_training_runs() -> None:
    assert said(seeds=[0, 1, 2]).endswith("broke 110. Average over 3 training runs (seeds 0, 1, 2).")
    assert "training runs" not in said(seeds=[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0 points"), (-0.0004, "0.0 points"), (0.0005001, "+0.1 points"), (-1.0, "-100.0 points")],
)
def test_points(value: float, text: str) -> None:
    assert amount(value, "rate") == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0499, "= .050"), (0.04149, "= .041"), (1.0, "= 1.000"), (0.00099, "< .001"), (0.001, "= .001")]
)
def test_p_values(p: float, text: str) -> None:
    assert probability(p) == text


BANNED = re.compile(r"significant|outperform|\bprove|overfit|because|due to|caused", re.IGNORECASE)


def compare_of(**changes: Any) -> dict[str, Any]:
    entry = entry_of(**changes)
    entry["sentence"] = say(entry, family_size=1, alpha=0.05, power=0.8)
    metric = {
        "value": 0.5,
        "interval": [0.4, 0.6],
        "num_scored": 90,
        "num_unparsed": 10,
        "num_failed": 0,
        "unit": "rate",
    }
    arm = {
        "model": "sft",
        "data": "phantom.test",
        "template": "short",
        "num_images": 30,
        "num_groups": 30,
        "metrics": {"closed_f1": metric},
    }
    baseline = {"data": "phantom.test", "metric": "closed_f1", "value": None, "answer": "no"}
    return {
        "study": "st|udy",
        "arms": [arm],
        "baselines": [baseline],
        "stated": [entry | {"checkpoints": [entry | {"model": "sft@0"}]}],
        "exploratory": [entry],
        "yes_no": [],
        "wordings": [],
        "effects": [],
        "selection": [],
        "notes": ["one <b>note</b>"],
    }


def test_tables_put_the_stated_questions_first_and_hold_every_number() -> None:
    text = render_terminal(compare_of())
    assert text.index("Stated before the run") < text.index("Exploratory") < text.index("Each model by itself")
    for piece in (
        "sft against base",
        "fixed 261, broke 110",
        "sft@0",
        "50.0%",
        "40.0% to 60.0%",
        'always "no"',
        "short",
    ):
        assert piece in text
    assert not BANNED.search(text)
    assert text.endswith("in full.\n")


def test_the_terminal_gets_no_control_characters() -> None:
    assert "\x1b" not in render_terminal(compare_of(model="\x1b[2Jsft", data="d\r\x07"))

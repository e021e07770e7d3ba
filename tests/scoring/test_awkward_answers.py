"""Awkward answers to open questions, and to closed ones that are counted as yes or not yes: each rule's own verdict.

The verdicts on closed questions by rate stand in test_vqa_rules.py, those on POPE's in test_pope.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from awkward_answers import CLOSED, OPEN, READINGS, VERDICTS
from sightline.records import Answer, Message, Sample, Score
from sightline.scoring import vqa
from sightline.scoring.vqa_rules import RULES

ENOUGH = 25


def sample_of(reference: str, answer_type: str = "CLOSED") -> Sample:
    message = Message(role="user", content=("What is seen?",))
    return Sample(id="q", pictures=(), messages=(message,), answer=reference, tags={"answer_type": answer_type})


def answer_of(text: str) -> Answer:
    return Answer(sample_id="q", model="m", data="d", text=text, finish_reason="stop", num_tokens=1)


def by_rule(rule: str, metric: str) -> Callable[..., Score]:
    (score,) = [found.score for found in RULES[rule] if found.name == metric]
    assert score is not None
    return score


OPEN_RULES: dict[str, tuple[int, Callable[..., Score]]] = {
    "ours, exact": (2, vqa.exact_match),
    "ours, numeric": (3, vqa.exact_match_numeric),
    "ours, token F1": (4, vqa.token_f1),
    "MEDICO-AGENT, exact": (5, by_rule("medico-agent", "exact_match")),
    "MEDICO-AGENT, numeric": (6, by_rule("medico-agent", "exact_match_numeric")),
    "MEDICO-AGENT, token F1": (7, by_rule("medico-agent", "token_f1")),
    "lmms-eval, SLAKE": (8, by_rule("lmms-eval", "open_accuracy")),
    "LLaVA-Med, recall": (9, vqa.open_recall),
    "LLaVA-Med, what it calls exact": (10, by_rule("llava-med", "exact_match")),
    "LLaVA-Med, F1": (11, vqa.open_f1),
}


@pytest.mark.parametrize("rule", OPEN_RULES)
def test_every_answer_to_an_open_question_is_worth_what_the_tool_itself_makes_of_it(rule: str) -> None:
    column, score = OPEN_RULES[rule]
    found = {row[:2]: score(sample_of(row[0], "OPEN"), answer_of(row[1])).value for row in OPEN}
    assert found == {row[:2]: pytest.approx(row[column]) for row in OPEN}


@pytest.mark.parametrize("name", ["closed_precision", "closed_recall", "closed_f1", "closed_accuracy"])
def test_every_answer_to_a_closed_question_falls_into_the_cell_of_medico_agent(name: str) -> None:
    score = by_rule("medico-agent", name)
    found = {row[:2]: "".join(score(sample_of(row[0]), answer_of(row[1])).parts) for row in CLOSED}
    assert found == {row[:2]: row[2] for row in CLOSED}


def test_every_answer_to_a_closed_question_falls_into_our_own_cell_or_into_none() -> None:
    found = {}
    for reference, text, *_ in CLOSED:
        score = vqa.closed_confusion(sample_of(reference), answer_of(text), metric="closed_f1")
        found[reference, text] = "unread" if score.outcome == "unparsed" else "".join(score.parts)
    assert found == {row[:2]: row[3] for row in CLOSED}


NEEDED = {
    "says no inside a word": "The chest is normal.",
    "an end token": "No</s>",
    "capitals": "NO",
    "nothing": "",
}


def test_every_rule_has_25_awkward_answers_the_known_traps_among_them() -> None:
    tables = {
        "POPE": set(READINGS),
        "closed questions, by rate": {row[1] for row in VERDICTS},
        "closed questions, by cell": {row[1] for row in CLOSED},
        "open questions": {row[1] for row in OPEN},
    }
    for name, texts in tables.items():
        assert len(texts) >= ENOUGH, name
        assert set(NEEDED.values()) <= texts, name
        assert any(text.startswith("Yes, there is no") for text in texts), name
        assert any(". " in text for text in texts), f"{name}: no answer of several sentences"
        assert any(not text.isascii() and any(map(str.isalpha, text)) for text in texts), f"{name}: all are English"
    tried = {(rule, "closed_accuracy") for rule in RULES}
    tried |= {("medico-agent", name) for name in ("exact_match", "exact_match_numeric", "token_f1")}
    tried |= {("medico-agent", name) for name in ("closed_precision", "closed_recall", "closed_f1")}
    tried |= {("lmms-eval", name) for name in ("exact_match", "open_accuracy")}
    for rule in ("llava-med", "llava-med-2023-08"):
        tried |= {(rule, name) for name in ("exact_match", "open_recall", "open_f1")}
    ours = {("sightline", metric.name) for metric in RULES["sightline"]}
    every = {(rule, metric.name) for rule, metrics in RULES.items() for metric in metrics}
    assert every - tried <= ours, "a rule's metric without a table"

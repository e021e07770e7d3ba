"""Self-critique: a model is shown two answers to a question and asked which is better, in both orders.

It is asked for one letter, and what counts is which of the two letters it finds likelier: nothing has to be read out of
words, nothing is drawn, and no reply is lost. The letters go with the place, so that a liking for a letter or for a
place shows as two orders that contradict each other, and never passes for an opinion.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from sightline.generation.answering import row_length
from sightline.models.loading import LoadedModel
from sightline.records import Sample
from sightline.storage import sha256_of
from sightline.training.batches import RenderedSet
from sightline.training.reference import answer_logprobs
from sightline.trees.render import render, reword

OPENING = "Two responses to the same question follow.\nQuestion: "
RESPONSES = "\nResponse A: {first}\nResponse B: {second}\n"
CLOSING = "Which response is more correct and says less that cannot be seen or known? Answer with one letter, A or B."
LETTERS = ("A", "B")
PROMPT_SHA256 = sha256_of(OPENING + RESPONSES + CLOSING + "".join(LETTERS))[:16]
"""What the wording is known by in records."""

NEAR = 0.95
"""Share of characters in common from which two answers are nearly the same, which is counted and changes nothing."""

EDGES = ".,;:!?\"'()[]{}…“”‘’`*"
"""What around a word does not change its meaning; within one (1.5, T-2) it does, and so do signs (-5, <5, 50%)."""

Outcome = Literal["win", "loss", "tie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Two answers to one question.

    Args:
        sample: the question.
        ks: which of the answers drawn for it these are.
        texts: their words.
        is_near: whether they are nearly the same.
    """

    sample: Sample
    ks: tuple[int, int]
    texts: tuple[str, str]
    is_near: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What became of a duel, seen from its first answer.

    Args:
        when_first: with the first answer shown first.
        when_second: with the first answer shown second.
        margins: by how many nats the first answer's letter was likelier, in the same orders; None where a judge told.
    """

    when_first: Outcome
    when_second: Outcome
    margins: tuple[float, float] | None = None

    @property
    def winner(self) -> int | None:
        """0 or 1 where both orders agree on that answer, else None."""
        return {"win": 0, "loss": 1}.get(self.when_first) if self.when_first == self.when_second else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The answers drawn for one question, sorted out.

    Args:
        duels: of every two that differ.
        num_empty: answers without a word; nobody is asked about them.
        num_equal: answers that repeat another one, but for case, spaces and punctuation around words.
    """

    duels: tuple[Duel, ...]
    num_empty: int
    num_equal: int


def duels_of(sample: Sample, texts: Sequence[str]) -> Drawn:
    """Put every two different answers to a question against each other.

    Args:
        sample: the question.
        texts: what was drawn for it.
    """
    distinct: dict[str, int] = {}
    said = {k: text for k, text in enumerate(texts) if text.strip()}
    for k, text in said.items():
        distinct.setdefault(_plain(text), k)
    duels = tuple(
        Duel(sample=sample, ks=(i, j), texts=(texts[i], texts[j]), is_near=_is_near(one, other))
        for (one, i), (other, j) in itertools.combinations(distinct.items(), 2)
    )
    return Drawn(duels=duels, num_empty=len(texts) - len(said), num_equal=len(said) - len(distinct))


def _plain(text: str) -> str:
    return " ".join(filter(None, (word.strip(EDGES) for word in text.casefold().split())))


def _is_near(one: str, other: str) -> bool:
    match = SequenceMatcher(None, one, other, autojunk=False)
    return match.real_quick_ratio() >= NEAR and match.quick_ratio() >= NEAR and match.ratio() >= NEAR


def ask_which(loaded: LoadedModel, duels: Sequence[Duel], *, system: str | None = None) -> list[Preference]:
    """Have a model prefer one answer of each duel, in both orders.

    Args:
        loaded: the model.
        duels: what it is asked about.
        system: a system turn to put before each question.

    Returns:
        one for each duel.
    """
    sequences, known = [], set()
    for duel in duels:
        loaded.features.register(duel.sample.pictures)
        for first, second in (duel.texts, duel.texts[::-1]):
            asked = OPENING + "{question}" + RESPONSES.format(first=first, second=second) + CLOSING
            messages = reword(duel.sample.messages, asked, system=system)
            for letter in LETTERS:
                name = duel.sample.origin or duel.sample.id
                sequences.append(render(loaded.family, messages, duel.sample.pictures, letter, name=name, known=known))
    data = RenderedSet(sequences=sequences, image_ids=[duel.sample.image_id for duel in duels for _ in range(4)])
    logprob_DOL = answer_logprobs(loaded, data, row_tokens=row_length(loaded)).reshape(-1, 2, 2)
    shown_first_DO = logprob_DOL[:, :, 0] - logprob_DOL[:, :, 1]
    return [
        Preference(when_first=_outcome(a), when_second=_outcome(b), margins=(float(a), float(b)))
        for a, b in (shown_first_DO * np.array([1, -1])).tolist()
    ]


def _outcome(margin: float) -> Outcome:
    return "win" if margin > 0 else "loss" if margin < 0 else "tie"


def choose_pair(duels: Sequence[Duel], preferences: Sequence[Preference]) -> tuple[int, int] | None:
    """Choose which two of a question's answers become a preference pair.

    Args:
        duels: of one question.
        preferences: what was said of them.

    Returns:
        k of the chosen and of the rejected answer: of the duels on which both orders agree, the one whose answers are
        furthest apart by wins less losses, the earliest of several; None where both orders agree on none.
    """
    points: dict[int, int] = {}
    agreed: list[tuple[int, int]] = []
    for duel, preference in zip(duels, preferences, strict=True):
        if preference.winner is not None:
            better, worse = duel.ks[preference.winner], duel.ks[1 - preference.winner]
            agreed.append((better, worse))
            points[better] = points.get(better, 0) + 1
            points[worse] = points.get(worse, 0) - 1
    return max(agreed, key=lambda pair: points[pair[0]] - points[pair[1]], default=None)

"""Kinds of mistakes, told by hand-made answers."""

from __future__ import annotations

import pytest

from sightline.records import Message, Sample
from sightline.report.mistakes import (
    CUT,
    EMPTY,
    FAILED,
    FALSE_NO,
    FALSE_YES,
    IN_PART,
    KINDS,
    OTHER,
    OTHER_NUMBER,
    OTHER_SIDE,
    RIGHT,
    UNREAD,
    UNSCORED,
    kind_of,
)


@pytest.mark.parametrize(
    ("reference", "text", "mark", "kind"),
    [
        ("yes", "yes", "right", RIGHT),
        ("no", "Yes, there is.", "wrong", FALSE_YES),
        ("yes", "no", "wrong", FALSE_NO),
        ("yes", "a nodule", "wrong", OTHER),
        ("left lung", "the right lung", "wrong", OTHER_SIDE),
        ("3", "4 of them", "wrong", OTHER_NUMBER),
        ("heart", "lung", "wrong", OTHER),
        ("heart", "perhaps", "unparsed", UNREAD),
        ("heart", "  ", "wrong", EMPTY),
        ("heart", "the heart is", "33.3%", IN_PART),
        ("heart", "heart", "failed", FAILED),
        ("heart", "heart", "", UNSCORED),
    ],
)
def test_a_mistake_is_named(reference: str, text: str, mark: str, kind: str):
    sample = Sample(id="a", pictures=(), messages=(Message(role="user", content=("?",)),), answer=reference)
    assert kind_of(sample, {"text": text, "finish_reason": "stop"}, mark) == kind
    if kind not in (RIGHT, FAILED, UNSCORED, EMPTY):
        assert kind_of(sample, {"text": text, "finish_reason": "length"}, mark) == CUT


def test_every_kind_fits_one_letter_of_a_rows_facts():
    assert len(KINDS) == len(set(KINDS)) <= 16

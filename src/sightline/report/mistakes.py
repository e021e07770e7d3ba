"""What kind of mistake an answer is."""

from __future__ import annotations

import re

from sightline.records import Sample
from sightline.report.reading import Row
from sightline.scoring.normalise import normalise, parse_yes_no

RIGHT = "right"
IN_PART = "in part right"
FAILED = "not scored: scoring failed"
EMPTY = "empty"
CUT = "cut at the length limit"
UNREAD = "nothing could be read"
FALSE_YES, FALSE_NO = "yes where no is right", "no where yes is right"
OTHER_SIDE, OTHER_NUMBER, OTHER = "the other side", "another number", "another answer"
UNSCORED = "no metric applies"

KINDS = (RIGHT, IN_PART, FALSE_YES, FALSE_NO, OTHER_SIDE, OTHER_NUMBER, OTHER, UNREAD, CUT, EMPTY, FAILED, UNSCORED)
"""In the order of the table; a row's facts name them by place."""

_SIDES = {"left": "right", "right": "left"}
_NUMBER = re.compile(r"\d+(?:\.\d+)?|zero|one|two|three|four|five|six|seven|eight|nine|ten")


def kind_of(sample: Sample, answer: Row, mark: str) -> str:
    """Name the kind of mistake.

    Args:
        sample: what was asked.
        answer: its row.
        mark: "right", "wrong", "unparsed", "failed", "" where no metric applies, or a score in words.
    """
    if mark in ("right", "failed", ""):
        return {"right": RIGHT, "failed": FAILED, "": UNSCORED}[mark]
    if not str(answer["text"]).strip():
        return EMPTY
    if answer.get("finish_reason") == "length":
        return CUT
    if mark == "unparsed":
        return UNREAD
    return _wrong(normalise(sample.answer), normalise(str(answer["text"]))) if mark == "wrong" else IN_PART


def _wrong(reference: str, said: str) -> str:
    if reference in ("yes", "no") and parse_yes_no(said) not in (reference, None):
        return FALSE_YES if reference == "no" else FALSE_NO
    if any(side in reference.split() and other in said.split() for side, other in _SIDES.items()):
        return OTHER_SIDE
    if _NUMBER.fullmatch(reference) and _NUMBER.search(said):
        return OTHER_NUMBER
    return OTHER

"""How answers are read before they are compared: one function per convention of the field."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Literal

ARTICLES = frozenset({"a", "an", "the"})

_ZERO_TO_TEN = "zero one two three four five six seven eight nine ten"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_ZERO_TO_TEN.split())} | {"none": "0"}

_CONTRACTED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll "
    "how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't "
    "should've shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's "
    "there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's "
    "what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've "
    "wouldn't y'all you'd you'll you're you've"
)
_CONTRACTIONS = {contraction.replace("'", ""): contraction for contraction in _CONTRACTED.split()}

_VQA_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_INSIDE_NUMBER = re.compile(r"\d,\d")
_PERIOD_BEFORE_NO_DIGIT = re.compile(r"\.(?!\d)")


def words_of(text: str) -> list[str]:
    """Lower-case a text, turn punctuation into spaces and split it into words."""
    plain = "".join(" " if _is_punctuation(character) else character for character in text.lower())
    return plain.split()


def normalise(text: str) -> str:
    """Reduce a text to what exact match compares: lower case, no punctuation, no articles, single spaces.

    A text that is nothing but articles keeps them: "A" is the answer of many a multiple-choice question.

    Source: SQuAD evaluation script (Rajpurkar et al. 2016), with punctuation turned into a space.
    """
    words = words_of(text)
    return " ".join([word for word in words if word not in ARTICLES] or words)


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """Read yes or no from a free answer, word by word; None where it says both or neither.

    Whole words only: "normal", "nodule", "not" and "know" contain the letters of "no" and are not a no.
    """
    said = {"yes", "no"}.intersection(words_of(text))
    if said == {"yes"}:
        return "yes"
    return "no" if said == {"no"} else None


def llava_med_words(text: str) -> list[str]:
    """Split a text into words as LLaVA-Med's evaluation does.

    Punctuation next to a space anywhere in the text (or any at all, once a number holds a comma) vanishes;
    other punctuation becomes a space. Periods stay inside numbers only, "two" becomes "2" and "none" "0",
    articles go, "isnt" becomes "isn't". Differences from the original are listed in docs/metrics.md.

    Source: microsoft/LLaVA-Med, llava/eval/run_eval.py (2023).
    """
    text = text.lower()
    comma_inside_number = _COMMA_INSIDE_NUMBER.search(text) is not None
    plain = text
    for mark in _VQA_PUNCTUATION:
        vanishes = comma_inside_number or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if vanishes else " ")
    plain = _PERIOD_BEFORE_NO_DIGIT.sub("", plain)
    words = (_NUMBER_WORDS.get(word, word) for word in plain.split())
    return [_CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES]


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")

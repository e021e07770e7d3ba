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
_ASCII_PUNCTUATION_TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))
_CJK_PUNCTUATION = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》？【】"
_SLAKE_PUNCTUATION_TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation + _CJK_PUNCTUATION, " "))
_IN_BRACKETS = (re.compile(r"\([^)]*\)"), re.compile(r"（[^）]*）"))
_SAY_YES = ("yes", "yeah", "yep", "true", "是", "是的", "有", "包含", "可以", "能", "会", "正常")
_SAY_NO = ("no", "nope", "false", "否", "不是", "没有", "无", "不包含", "不能", "不会", "不可以", "不正常", "异常")
_SLAKE_SYNONYMS = dict.fromkeys(_SAY_YES, "yes") | dict.fromkeys(_SAY_NO, "no") | {"x ray": "xray"}
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
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
    words = (_NUMBER_WORDS.get(word, word) for word in without_vqa_punctuation(text.lower()).split())
    return [_CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES]


def without_vqa_punctuation(text: str) -> str:
    """Take punctuation out of a text as the VQA evaluation does, and everyone who took it over from there.

    A mark vanishes where it stands next to a space anywhere in the text, or where the text has a number with a comma;
    else it becomes a space. Of periods, the first 32 that stand before no digit vanish: the flag of a regular
    expression was written where a count belongs.

    Source: GT-Vision-Lab/VQA, vqaEval.py; LLaVA-Med's glossary.py and VLMEvalKit's smp/misc.py have it as it is.
    """
    comma_inside_number = _COMMA_INSIDE_NUMBER.search(text) is not None
    plain = text
    for mark in _VQA_PUNCTUATION:
        vanishes = comma_inside_number or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if vanishes else " ")
    return _PERIOD_BEFORE_NO_DIGIT.sub("", plain, count=int(re.UNICODE))


def medico_agent_answer(text: str) -> str:
    """Reduce a text as MEDICO-AGENT's notebooks do: lower case, ASCII punctuation to spaces, no articles, no more.

    Unlike `normalise`, an answer "A" is reduced to nothing.
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_ASCII_PUNCTUATION_TO_SPACE)).split())


def slake_answer(text: str) -> str:
    """Reduce a text as lmms-eval's SLAKE task does: no brackets with what is in them, no punctuation, synonyms joined.

    Source: EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/slake/utils.py (2026).
    """
    plain = text.strip().lower()
    for in_brackets in _IN_BRACKETS:
        plain = in_brackets.sub(" ", plain)
    plain = " ".join(plain.translate(_SLAKE_PUNCTUATION_TO_SPACE).split())
    return _SLAKE_SYNONYMS.get(plain, plain)


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")

"""LLaVA-Critic: a score out of 100 for one answer, or the better of two, in both orders.

The prompts are those the model was trained on; other vision-language models understand them as well.

Source: Xiong et al. 2024, arXiv 2410.02712; prompts as on the card of lmms-lab/llava-critic-7b (Apache-2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from sightline.errors import StudyError
from sightline.generation.calls import ReplyDecoding
from sightline.scoring.judge import Asked, Judgement, Kind, Opinion, UnreadableError, marker_of

Side = Literal["first", "second", "tie"]

OPENING = (
    "Given an image and a corresponding question, please serve as an unbiased and fair judge to evaluate the quality "
    "of the answers provided by a Large Multimodal Model (LMM). "
)
POINTWISE = (
    OPENING + "Score the response out of 100 and explain your reasoning with specific details. Your task is provided "
    "as follows:\nQuestion: [{question}]\nThe LMM response: [{answer}]\nASSISTANT:\n"
)
PAIRWISE = (
    OPENING + "Determine which answer is better and explain your reasoning with specific details. Your task is "
    "provided as follows:\nQuestion: [{question}]\nThe first response: [{first}]\nThe second response: [{second}]\n"
    "ASSISTANT:\n"
)

MAX_NEW_TOKENS = 4096

_OUT_OF_100 = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d+)?)\s*(?:/\s*100|out of 100|points out of 100)\b", re.IGNORECASE)
_SCORE = re.compile(
    r"\b(?:score|rating)\b[\"'*]*\s*(?:of|is|:|=|would be|as)?\s*[\"'*:]*\s*"
    r"(\d{1,3}(?:\.\d+)?)(?![\d.]*\d|\s*/|\s*out of)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\d.\w/-])(?<!out of )(\d{1,3}(?:\.\d+)?)(?![\w]|\.\d|\s*/|\s*out of)")
_NO_SCORES = re.compile(r"\b0\s*(?:-|–|to)\s*100\b|^\s*\d[.)]\s+", re.MULTILINE)
"""Numbers that are the scale, or stand before the items of a list."""

_NAME = r"(?:(?:the\s+)?(?P<{0}>first|second)(?:\s+(?:response|answer|one))?|(?:response|answer)\s+(?P<{0}n>[12]))"
_GOOD = r"(?:better|superior|best|preferable|preferred|stronger|more\s+\w+)"
_BAD = r"(?:worse|inferior|weaker|less\s+\w+)"
_VERB = r"\s+(?:is|was|seems|appears|provides|gives|offers|would\s+be)\s+"
_FILL = r"(?:(?!not\b|no\b)\w+\s+){0,3}?"
_IS_BETTER = re.compile(rf"{_NAME.format('good')}{_VERB}{_FILL}{_GOOD}\b", re.IGNORECASE)
_IS_WORSE = re.compile(rf"{_NAME.format('bad')}{_VERB}{_FILL}{_BAD}\b", re.IGNORECASE)
_BETTER_IS = re.compile(
    rf"(?:better|best|preferred|superior)\s+(?:response|answer|one|choice)?\s*(?:is|:)\s*{_NAME.format('good')}",
    re.IGNORECASE,
)
_PREFER = re.compile(rf"\b(?:prefer|choose|favou?r)\s+{_NAME.format('good')}", re.IGNORECASE)
_TIE = re.compile(
    r"\b(?:both\s+(?:responses|answers)\s+are\s+(?:\w+\s+){0,2}?equal\w*|equally\s+(?:good|bad|correct|accurate|well)|"
    r"(?:is|a)\s+tie\b|neither\s+(?:response|answer|one)?\s*is\s+better|no\s+clear\s+winner)",
    re.IGNORECASE,
)


def critic_kind(parser: str = "sightline") -> Kind:
    """Make the critic of one answer.

    Args:
        parser: "sightline", or "first-number": the first number of up to three digits, no more than 100 (seed 002).

    Raises:
        StudyError: there is no such parser.
    """
    if parser not in PARSERS:
        raise StudyError(f"the critic has no parser {parser!r}; it has {', '.join(PARSERS)}")
    return Kind(
        name="critic",
        write=lambda asked: (POINTWISE.format(question=asked.sample.question, answer=asked.text),),
        read=lambda reply, asked: PARSERS[parser](reply),
        combine=_score,
        parser=parser,
        decoding=ReplyDecoding(max_new_tokens=MAX_NEW_TOKENS),
        shows_pictures=True,
        marker=marker_of(),
    )


def pairwise_kind() -> Kind:
    """Make the critic of two answers: asked in both orders, and what depends on the order is a tie."""
    return Kind(
        name="pairwise",
        write=_write_pair,
        read=lambda reply, asked: read_winner(reply),
        combine=_both_orders,
        parser="sightline",
        decoding=ReplyDecoding(max_new_tokens=MAX_NEW_TOKENS),
        shows_pictures=True,
        marker=marker_of(),
    )


def same_answer(asked: Asked) -> Judgement:
    """Give the tie of two equal answers, which nobody needs to be asked about."""
    opinion = Opinion(value=0.5, label="same answer", parts={"same answer": 1.0})
    return Judgement(sample_id=asked.sample.id, outcome="judged", opinion=opinion)


def read_score(reply: str) -> float:
    """Read a score out of 100.

    A JSON key `score`, else the last "N/100" or "N out of 100", else the last "score: N", else the number with which
    the reply begins, else the only number there is. Scores on other scales ("8/10") are not converted.

    Returns:
        The score, in [0, 100].

    Raises:
        UnreadableError: no such number, or one above 100.
    """
    if (value := _json_score(reply)) is not None:
        return _in_range(value)
    reply = _NO_SCORES.sub("", reply)
    for pattern in (_OUT_OF_100, _SCORE):
        if found := pattern.findall(reply):
            return _in_range(float(found[-1]))
    numbers = _NUMBER.findall(reply)
    if numbers and (len(set(numbers)) == 1 or re.match(rf"[^\w-]*{numbers[0]}(?!\d)", reply)):
        return _in_range(float(numbers[0]))
    raise UnreadableError("no score out of 100 in the reply" if not numbers else "several numbers, none named a score")


def read_first_number(reply: str) -> float:
    """Read the first number of up to three digits and cut it at 100, as seed 002 did.

    Raises:
        UnreadableError: there is none.

    Source: Alex-Bradford/llava-posttraining-project.
    """
    found = re.search(r"\b([0-9]{1,3})\b", reply)
    if found is None:
        raise UnreadableError("no number of up to three digits in the reply")
    return float(min(100, int(found[1])))


PARSERS: dict[str, Callable[[str], float]] = {"sightline": read_score, "first-number": read_first_number}


def read_winner(reply: str) -> Side:
    """Read which of two responses a critic calls the better one; of several such sentences, the last.

    Raises:
        UnreadableError: it calls neither better, nor both equal.
    """
    found: dict[int, Side] = dict.fromkeys((match.start() for match in _TIE.finditer(reply)), "tie")
    for pattern in (_IS_BETTER, _BETTER_IS, _PREFER):
        for match in pattern.finditer(reply):
            found[match.start()] = _side(match["good"], match["goodn"])
    for match in _IS_WORSE.finditer(reply):
        found[match.start()] = "second" if _side(match["bad"], match["badn"]) == "first" else "first"
    if not found:
        raise UnreadableError("no response is called the better one")
    return found[max(found)]


def _side(word: str | None, number: str | None) -> Literal["first", "second"]:
    return "first" if (word or "").lower() == "first" or number == "1" else "second"


def _json_score(reply: str) -> float | None:
    start = reply.find("{")
    try:
        values: Any = json.JSONDecoder(strict=False).raw_decode(reply, start)[0] if start >= 0 else {}
    except (ValueError, RecursionError):
        return None
    value = values.get("score")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _in_range(value: float) -> float:
    if not 0 <= value <= 100:
        raise UnreadableError(f"a score of {value:g} is not out of 100")
    return value


def _score(said: Sequence[float], asked: Asked) -> Opinion:
    [score] = said
    return Opinion(value=score / 100, label=f"{score:g}")


def _write_pair(asked: Asked) -> tuple[str, ...]:
    if asked.rival is None:
        raise ValueError("a pairwise judge needs the answer to compare with")
    orders = ((asked.text, asked.rival), (asked.rival, asked.text))
    return tuple(PAIRWISE.format(question=asked.sample.question, first=a, second=b) for a, b in orders)


def _both_orders(said: Sequence[Side], asked: Asked) -> Opinion:
    """Win 1, loss 0, and 1/2 where the critic sees a tie or changes its mind with the order."""
    when_first, when_second = said
    own: list[str] = [{"first": "win", "second": "loss", "tie": "tie"}[when_first]]
    own.append({"first": "loss", "second": "win", "tie": "tie"}[when_second])
    agreed = own[0] == own[1]
    label = own[0] if agreed else "order decides" if "tie" not in own else "tie"
    return Opinion(
        value={"win": 1.0, "loss": 0.0}.get(label, 0.5),
        label=label,
        parts={label: 1.0},
        details={"when_first": own[0], "when_second": own[1]},
    )

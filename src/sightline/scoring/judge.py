"""Judges: a model is asked what an answer is worth, its replies are read, and what could not be read is no score.

A kind of judge is what it is asked and how its replies are read (`medical`, `critic`, `rubric`, `shr_judge`); here is
what they share: asking again what could not be read, and what becomes of an answer in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from sightline.generation.calls import CUT, TOO_LONG, Call, Reply, ReplyDecoding, Responder, without_thoughts
from sightline.records import Picture, Sample, Score
from sightline.scoring.metric import Metric
from sightline.storage import canonical_json, sha256_of

REASKS = 2
"""How often a reply that cannot be read is asked for again."""

UNVALIDATED = "judge score, unvalidated"
"""What a judge's number is called until labels by people say how often the judge is right."""

NOT_WHOLE = {
    CUT: "cut at max_new_tokens",
    TOO_LONG: "the prompt is too long for the judge's context",
    "refusal": "refused by the judge",
    "content_filter": "refused by the server",
}
"""Finish reasons that say why a reply could not be read."""


Outcome = Literal["judged", "unreadable", "failed", "not_applicable", "unanswered"]


class UnreadableError(ValueError):
    """A judge's reply that says nothing of what was asked; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One answer to be judged.

    Args:
        sample: the question, its reference answer and its pictures.
        text: the answer.
        rival: the answer it is compared with, for judges of two.
        missing: why one of the answers was never given, so that there is nothing to judge; "" where all are there.
    """

    sample: Sample
    text: str
    rival: str | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a judge thinks of an answer.

    Args:
        value: a rate in [0, 1]; None where the judge's kind gives parts alone.
        label: the opinion in a word or number, e.g. "correct" or "85".
        parts: counts and single rates, by name.
        details: what the kind keeps beside, as plain JSON values.
    """

    value: float | None
    label: str
    parts: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a judge is asked and how it is understood.

    Args:
        name: "medical", "critic", "pairwise", "rubric" or "shr".
        write: an answer to its prompts: one, or one for each order of two answers; none where nothing is to be asked.
        read: one reply, and the answer it is about, to what it says; raises `UnreadableError`.
        combine: what the replies to all prompts of an answer say, together.
        parser: the name of the rule by which `read` reads.
        decoding: how replies are generated unless the study says otherwise.
        shows_pictures: whether the judge looks at the pictures.
        schema: JSON schema of a reply, for servers that can hold a model to one; None for free text.
        higher_is_better: False for a ratio of hallucinations.
        combine_parts: for judges whose number is a ratio of summed parts; None for a mean of values.
        marker: an answer whose prompts show everything that prompts are made of, for `prompt_sha256`.
        leaves_out: says why a row is none that this kind is about; "" where it is one.
    """

    name: Literal["medical", "critic", "pairwise", "rubric", "shr"]
    write: Callable[[Asked], tuple[str, ...]]
    read: Callable[[str, Asked], Any]
    combine: Callable[[Sequence[Any], Asked], Opinion]
    parser: str
    decoding: ReplyDecoding
    marker: Asked
    shows_pictures: bool = False
    schema: Mapping[str, Any] | None = None
    higher_is_better: bool = True
    combine_parts: Callable[[Mapping[str, Any]], Any] | None = None
    leaves_out: Callable[[Sample], str] = lambda sample: ""

    @property
    def prompt_sha256(self) -> str:
        """Hash of the prompts' wording and of the schema."""
        return sha256_of(canonical_json([self.write(self.marker), self.schema]))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of one answer.

    Args:
        sample_id: the row.
        outcome: "judged"; "unreadable" (the judge replied and could not be understood); "failed" (no reply came);
            "not_applicable" (the kind of judge is not about this row, so it was not asked); "unanswered" (there is
            no answer to judge, because a model on a server gave none).
        opinion: None unless judged.
        reason: why it was not judged.
        replies: the judge's words, the last ones where it was asked again.
        num_asked: how many replies were asked for.
    """

    sample_id: str
    outcome: Outcome
    opinion: Opinion | None = None
    reason: str = ""
    replies: tuple[str, ...] = ()
    num_asked: int = 0


def marker_of(reference: str = "{reference}", answer: str = "{answer}", rival: str | None = "{rival}") -> Asked:
    """Make a marker answer for a kind's `prompt_sha256`."""
    from sightline.records import Message

    messages = (Message(role="user", content=("{question}",)),)
    return Asked(sample=Sample(id="", pictures=(), messages=messages, answer=reference), text=answer, rival=rival)


def judge_answers(
    kind: Kind,
    responder: Responder,
    answers: Sequence[Asked],
    *,
    decoding: ReplyDecoding | None = None,
    reasks: int = REASKS,
    repeat: int = 0,
    on_reply: Callable[[Reply], None] | None = None,
) -> list[Judgement]:
    """Have answers judged.

    Args:
        kind: what is asked.
        responder: who is asked.
        answers: what is judged.
        decoding: instead of the kind's own.
        reasks: how often a reply that cannot be read is asked for again.
        repeat: which judging of the same answers this is; equal ones share their replies.
        on_reply: told of each reply.

    Returns:
        One judgement per answer, in their order; each is final.

    Raises:
        StudyError: pictures would leave the machine without leave.
        ServerDownError: the judge does not answer at all, so that there is nothing to count.
    """
    decoding = decoding or kind.decoding
    prompts = [kind.write(asked) for asked in answers]
    said: dict[tuple[int, int], Any] = {}
    wrong: dict[tuple[int, int], tuple[Literal["unreadable", "failed"], str]] = {}
    words: dict[tuple[int, int], str] = {}
    num_asked = [0] * len(answers)
    open_places = [(row, place) for row, texts in enumerate(prompts) for place in range(len(texts))]
    for again in range(reasks + 1):
        calls = [
            Call(
                name=answers[row].sample.origin or answers[row].sample.id,
                text=prompts[row][place],
                pictures=_pictures(kind, answers[row]),
                schema=kind.schema,
                number=repeat * (reasks + 1) + again,
            )
            for row, place in open_places
        ]
        replies = responder.ask(calls, decoding, on_reply=on_reply) if calls else []
        unread = []
        for (row, place), reply in zip(open_places, replies, strict=True):
            num_asked[row] += 1
            if reply.outcome == "failed":
                wrong[row, place] = ("failed", reply.reason)
                continue
            words[row, place] = reply.text
            try:
                said[row, place] = _read(kind, reply, answers[row])
                wrong.pop((row, place), None)
            except UnreadableError as error:
                wrong[row, place] = ("unreadable", str(error))
                unread.append((row, place))
        open_places = unread
    judgements = []
    for row, asked in enumerate(answers):
        places = [(row, place) for place in range(len(prompts[row]))]
        faults = [wrong[place] for place in places if place in wrong]
        opinion = None if faults else kind.combine([said[place] for place in places], asked)
        judgements.append(
            Judgement(
                sample_id=asked.sample.id,
                outcome=faults[0][0] if faults else "judged",
                opinion=opinion,
                reason=faults[0][1] if faults else "",
                replies=tuple(words.get(place, "") for place in places),
                num_asked=num_asked[row],
            )
        )
    return judgements


def _pictures(kind: Kind, asked: Asked) -> tuple[Picture, ...]:
    return asked.sample.pictures if kind.shows_pictures else ()


def _read(kind: Kind, reply: Reply, asked: Asked) -> Any:
    if reply.finish_reason in (TOO_LONG, "refusal", "content_filter"):
        raise UnreadableError(NOT_WHOLE[reply.finish_reason])
    text = without_thoughts(reply.text)
    try:
        if not text:
            raise UnreadableError("the reply is empty")
        return kind.read(text, asked)
    except UnreadableError as error:
        why = NOT_WHOLE.get(reply.finish_reason)
        raise UnreadableError(f"{why}: {error}" if why else str(error)) from None


def score_of(judgement: Judgement, metric: str) -> Score:
    """Turn a judgement into a score; one that was not judged is "failed" or "not_applicable", never a number."""
    opinion = judgement.opinion
    if opinion is None:
        is_about = judgement.outcome != "not_applicable"
        return Score(
            sample_id=judgement.sample_id,
            metric=metric,
            outcome="failed" if is_about else "not_applicable",
            reason=f"{judgement.outcome}: {judgement.reason}" if is_about else judgement.reason,
        )
    return Score(
        sample_id=judgement.sample_id,
        metric=metric,
        outcome="scored",
        value=opinion.value,
        parts=opinion.parts,
        parsed=opinion.label,
    )


def judge_metric(name: str, kind: Kind) -> Metric:
    """Make the metric that a judge is, under its name in the study."""
    titles = {"medical": "correct", "critic": "score", "pairwise": "win rate", "rubric": "score", "shr": "hallucinated"}
    return Metric(
        name=name,
        title=f"Judge {name}: {titles[kind.name]} ({UNVALIDATED})",
        higher_is_better=kind.higher_is_better,
        kind="ratio" if kind.combine_parts else "mean",
        combine=kind.combine_parts,
    )


def judgement_row(judgement: Judgement) -> dict[str, Any]:
    """Turn a judgement into plain JSON values, the judge's words included."""
    return asdict(judgement)


def count_outcomes(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Count what became of answers; the numbers that stand beside every score of a judge."""
    counts = {f"num_{outcome}": 0 for outcome in get_args(Outcome)}
    for judgement in judgements:
        counts[f"num_{judgement.outcome}"] += 1
    return counts | {"num_replies": sum(judgement.num_asked for judgement in judgements)}

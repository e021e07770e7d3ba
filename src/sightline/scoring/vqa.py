"""Visual question answering: what an answer is worth, one question at a time.

Every function takes a sample (question and reference) and an answer, and returns a `Score`. Definitions, with
their sources, stand in docs/metrics.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from sightline.records import Answer, Sample, Score
from sightline.scoring.normalise import llava_med_words, normalise, parse_yes_no

YES_NO = frozenset({"yes", "no"})
TOLERANCE = 0.05
"""How far two numbers may lie apart to count as the same, in MEDICO-AGENT's notebooks."""
_NO_PART_OF_A_NUMBER = re.compile(r"[^\d.-]")


def is_closed(sample: Sample) -> bool:
    """Say whether a question is closed: by its `answer_type` tag where it has one, else by a yes/no reference."""
    answer_type = sample.tags.get("answer_type", "").strip()
    if answer_type:
        return answer_type.upper() == "CLOSED"
    return normalise(sample.answer) in YES_NO


def exact_match(sample: Sample, answer: Answer) -> Score:
    """Score 1 where answer and reference are the same text after `normalise`."""
    said = normalise(answer.text)
    return _scored(sample, "exact_match", float(said == normalise(sample.answer)), parsed=said)


def exact_match_numeric(sample: Sample, answer: Answer) -> Score:
    """Score 1 where answer and reference match exactly, or are the same number to within `TOLERANCE`.

    A number is what is left of a text without everything but digits, points and minus signs, if that is one: "T2" is
    the number 2, and "2-3 cm" is none.

    Source: MEDICO-AGENT, Test-Model notebooks (2025).
    """
    said = normalise(answer.text)
    right = said == normalise(sample.answer) or is_same_number(sample.answer, answer.text)
    return _scored(sample, "exact_match_numeric", float(right), parsed=said)


def is_same_number(one: str, other: str) -> bool:
    """Say whether two texts hold the same number, as `exact_match_numeric` reads them."""
    first, second = _number_in(one), _number_in(other)
    return first is not None and second is not None and abs(first - second) <= TOLERANCE


def token_f1(sample: Sample, answer: Answer) -> Score:
    """Score an answer by the F1 of its words, each counted as often as it stands there.

    Source: SQuAD evaluation script (Rajpurkar et al. 2016).
    """
    value = words_f1(normalise(sample.answer).split(), normalise(answer.text).split())
    return _scored(sample, "token_f1", value)


def words_f1(reference: Sequence[str], said: Sequence[str]) -> float:
    """Compute the F1 of two bags of words; 1 where both are empty."""
    shared = (Counter(reference) & Counter(said)).total()
    return 2 * shared / (len(reference) + len(said)) if reference or said else 1.0


def closed_accuracy(sample: Sample, answer: Answer) -> Score:
    """Score closed questions: yes/no references by the word said, others by exact match.

    An answer that says both or neither of yes and no is "unparsed": neither a yes nor, silently, a zero.
    """
    if not is_closed(sample):
        return _open_question(sample, "closed_accuracy")
    reference = normalise(sample.answer)
    if reference not in YES_NO:
        said = normalise(answer.text)
        return _scored(sample, "closed_accuracy", float(said == reference), parsed=said)
    said = parse_yes_no(answer.text)
    if said is None:
        return _unparsed(sample, "closed_accuracy")
    return _scored(sample, "closed_accuracy", float(said == reference), parsed=said)


def closed_confusion(sample: Sample, answer: Answer, *, metric: str) -> Score:
    """Count a closed question in the table of true and false positives, positive meaning "yes".

    Everything but "yes" is the negative class, on both sides; a question whose reference is "left" is a true
    negative unless the answer is yes.
    """
    if not is_closed(sample):
        return _open_question(sample, metric)
    reference = normalise(sample.answer)
    said = parse_yes_no(answer.text)
    says_yes, is_yes = said == "yes", reference == "yes"
    cell = ("tp" if is_yes else "fp") if says_yes else ("fn" if is_yes else "tn")
    if said is None and reference in YES_NO:
        return _unparsed(sample, metric, parts={cell: 1.0})
    return Score(sample_id=sample.id, metric=metric, outcome="scored", parts={cell: 1.0}, parsed=said)


def unparsed_confusion(parts: Mapping[str, float], *, right: bool) -> dict[str, float]:
    """Recount an unparsed answer as if it had been right, or wrong: the bounds of `closed_confusion`.

    Args:
        parts: as `closed_confusion` counted it: {"fn": 1} for a yes-question, {"tn": 1} for a no-question.
        right: which bound.
    """
    is_yes = "fn" in parts
    if right:
        return {"tp" if is_yes else "tn": 1.0}
    return {"fn" if is_yes else "fp": 1.0}


def open_recall(sample: Sample, answer: Answer) -> Score:
    """Score open questions by LLaVA-Med's token recall."""
    return _open_tokens(sample, answer, "open_recall")


def open_f1(sample: Sample, answer: Answer) -> Score:
    """Score open questions by the F1 of LLaVA-Med's token precision and recall."""
    return _open_tokens(sample, answer, "open_f1")


def token_overlap(reference: str, answer: str) -> tuple[float, float]:
    """Compute LLaVA-Med's token precision and recall.

    Shared words count as often as the answer says them, in both numerators: saying a right word twice counts
    twice. Nothing shared, or no words on either side, is (0, 0).

    Returns:
        precision and recall, in [0, 1].

    Source: microsoft/LLaVA-Med, llava/eval/eval_metrics (2023), which reduces both texts twice.
    """
    expected, said = (Counter(llava_med_words(" ".join(llava_med_words(text)))) for text in (reference, answer))
    shared = sum(count for word, count in said.items() if word in expected)
    if shared == 0:
        return 0.0, 0.0
    missing = sum(count for word, count in expected.items() if word not in said)
    return shared / said.total(), shared / (shared + missing)


def _number_in(text: str) -> float | None:
    try:
        return float(_NO_PART_OF_A_NUMBER.sub("", text))
    except ValueError:
        return None


def _open_tokens(sample: Sample, answer: Answer, metric: str) -> Score:
    if is_closed(sample):
        return _closed_question(sample, metric)
    precision, recall = token_overlap(sample.answer, answer.text)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    return _scored(sample, metric, recall if metric == "open_recall" else f1)


def _scored(sample: Sample, metric: str, value: float, parsed: str | None = None) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="scored", value=value, parsed=parsed)


def _unparsed(sample: Sample, metric: str, parts: Mapping[str, float] | None = None) -> Score:
    reason = "says neither yes nor no, or both"
    return Score(sample_id=sample.id, metric=metric, outcome="unparsed", parts=parts or {}, reason=reason)


def _open_question(sample: Sample, metric: str) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="not_applicable", reason="an open question")


def _closed_question(sample: Sample, metric: str) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="not_applicable", reason="a closed question")

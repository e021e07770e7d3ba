"""How other tools score visual question answering, for comparison with their numbers: `RULES`. Quirks: docs/metrics.md.

Each function takes a sample and an answer and returns a `Score`, as those of `vqa` do, which are our own rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

from sightline.records import Answer, Sample, Score
from sightline.scoring.metric import Metric, Ratio
from sightline.scoring.metrics import METRICS
from sightline.scoring.normalise import llava_med_words, medico_agent_answer, slake_answer
from sightline.scoring.vqa import is_closed, is_same_number, words_f1


def llava_med_closed(sample: Sample, answer: Answer) -> Score:
    """Score closed questions by LLaVA-Med's rule of December 2023, substrings and all.

    An answer holding neither "yes" nor "no" anywhere is wrong; else it is right where the reference is a
    substring of it. "normal" and "nodule" hold "no".

    Source: microsoft/LLaVA-Med, llava/eval/run_eval.py.
    """
    if not is_closed(sample):
        return _left_out(sample, "closed_accuracy", "an open question")
    reference, said = " ".join(llava_med_words(sample.answer)), " ".join(llava_med_words(answer.text))
    right = ("yes" in said or "no" in said) and reference in said
    return _scored(sample, "closed_accuracy", float(right), parsed=said)


def llava_med_first_closed(sample: Sample, answer: Answer) -> Score:
    """Score closed questions by LLaVA-Med's first rule (August 2023): a wrong yes or no leaves the denominator."""
    score = llava_med_closed(sample, answer)
    if score.value == 0.0 and score.parsed is not None and ("yes" in score.parsed or "no" in score.parsed):
        reason = "the first LLaVA-Med rule leaves wrong yes/no answers out"
        return replace(_left_out(sample, "closed_accuracy", reason), parsed=score.parsed)
    return score


def llava_med_exact_match(sample: Sample, answer: Answer) -> Score:
    """Score open questions by what LLaVA-Med calls an exact match: different reference words said, per word said."""
    if is_closed(sample):
        return _left_out(sample, "exact_match", "a closed question")
    expected, said = (llava_med_words(" ".join(llava_med_words(text))) for text in (sample.answer, answer.text))
    shared = len(set(expected).intersection(said))
    return _scored(sample, "exact_match", shared / len(said) if said else 0.0)


def slake_exact_match(sample: Sample, answer: Answer) -> Score:
    """Score 1 where answer and reference are equal as lmms-eval's SLAKE task reduces them (slake_accuracy)."""
    said = slake_answer(answer.text)
    return _scored(sample, "exact_match", float(said == slake_answer(sample.answer)), parsed=said)


def slake_closed(sample: Sample, answer: Answer) -> Score:
    """Score closed questions as lmms-eval's SLAKE task does (slake_closed_accuracy)."""
    if not is_closed(sample):
        return _left_out(sample, "closed_accuracy", "an open question")
    return replace(slake_exact_match(sample, answer), metric="closed_accuracy")


def slake_open(sample: Sample, answer: Answer) -> Score:
    """Score open questions as lmms-eval's SLAKE task does (slake_open_accuracy)."""
    if is_closed(sample):
        return _left_out(sample, "open_accuracy", "a closed question")
    return replace(slake_exact_match(sample, answer), metric="open_accuracy")


def medico_agent_exact_match(sample: Sample, answer: Answer) -> Score:
    """Score 1 where answer and reference are equal as MEDICO-AGENT's notebooks reduce them."""
    said = medico_agent_answer(answer.text)
    return _scored(sample, "exact_match", float(said == medico_agent_answer(sample.answer)), parsed=said)


def medico_agent_numeric(sample: Sample, answer: Answer) -> Score:
    """Score 1 where MEDICO-AGENT's notebooks find an exact match, or the same number."""
    exact = medico_agent_exact_match(sample, answer)
    right = exact.value == 1.0 or is_same_number(sample.answer, answer.text)
    return _scored(sample, "exact_match_numeric", float(right), parsed=exact.parsed)


def medico_agent_token_f1(sample: Sample, answer: Answer) -> Score:
    """Score an answer by the F1 of its words as MEDICO-AGENT's notebooks do."""
    reference, said = medico_agent_answer(sample.answer).split(), medico_agent_answer(answer.text).split()
    return _scored(sample, "token_f1", words_f1(reference, said))


def medico_agent_confusion(sample: Sample, answer: Answer, *, metric: str) -> Score:
    """Count a closed question in MEDICO-AGENT's table: yes is positive, and whatever is no yes is the negative class.

    A question whose reference is "left" counts as right whenever the answer is not yes. How the authors read a yes
    is not published; here an answer is one that is "yes" once it is reduced. Their counts of VQA-RAD follow from it.
    """
    if not is_closed(sample):
        return _left_out(sample, metric, "an open question")
    said = medico_agent_answer(answer.text)
    says_yes, is_yes = said == "yes", medico_agent_answer(sample.answer) == "yes"
    cell = ("tp" if is_yes else "fp") if says_yes else ("fn" if is_yes else "tn")
    return Score(sample_id=sample.id, metric=metric, outcome="scored", parts={cell: 1.0}, parsed=said)


def _scored(sample: Sample, metric: str, value: float, parsed: str | None = None) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="scored", value=value, parsed=parsed)


def _left_out(sample: Sample, metric: str, reason: str) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="not_applicable", reason=reason)


def _by(name: str, score: Callable[[Sample, Answer], Score]) -> Metric:
    return replace(METRICS[name], score=score)


_SIGHTLINE = tuple(
    METRICS[name]
    for name in (
        "exact_match",
        "exact_match_numeric",
        "token_f1",
        "closed_accuracy",
        "closed_precision",
        "closed_recall",
        "closed_f1",
        "open_recall",
        "open_f1",
    )
)
_LLAVA_MED = (
    replace(METRICS["exact_match"], title="Reference words per word said, open questions", score=llava_med_exact_match),
    _by("closed_accuracy", llava_med_closed),
    METRICS["open_recall"],
    METRICS["open_f1"],
)
_CORRECT = Ratio({"tp": 1, "tn": 1}, {"tp": 1, "tn": 1, "fp": 1, "fn": 1})
_CLOSED = ("closed_precision", "closed_recall", "closed_f1")

RULES: Mapping[str, tuple[Metric, ...]] = {
    "sightline": _SIGHTLINE,
    "llava-med": _LLAVA_MED,
    "llava-med-2023-08": tuple(
        replace(metric, score=llava_med_first_closed) if metric.name == "closed_accuracy" else metric
        for metric in _LLAVA_MED
    ),
    "lmms-eval": (
        _by("exact_match", slake_exact_match),
        _by("closed_accuracy", slake_closed),
        Metric(name="open_accuracy", title="Open-question accuracy", score=slake_open),
    ),
    "medico-agent": (
        _by("exact_match", medico_agent_exact_match),
        _by("exact_match_numeric", medico_agent_numeric),
        _by("token_f1", medico_agent_token_f1),
        replace(
            METRICS["closed_accuracy"],
            kind="ratio",
            combine=_CORRECT,
            score=functools.partial(medico_agent_confusion, metric="closed_accuracy"),
        ),
        *(_by(name, functools.partial(medico_agent_confusion, metric=name)) for name in _CLOSED),
    ),
}
"""What each tool reports of visual question answering, by name: lmms-eval's is its SLAKE task."""

NOTES: Mapping[str, tuple[str, ...]] = {
    "sightline": ("a yes or no is read by whole words; an answer that says both or neither is counted apart",),
    "llava-med": (
        "a closed answer is right where it holds yes or no and the reference anywhere, inside other words too: "
        "normal, nodule and know hold no",
        "its exact match is none: different reference words said, per word said",
    ),
    "llava-med-2023-08": ("as llava-med, but a wrong yes or no leaves the denominator",),
    "lmms-eval": ("the whole answer must be the reference, or a synonym of yes or no: a sentence is wrong",),
    "medico-agent": ("closed questions are yes against all else: a wrong side counts as right if it is no yes",),
}
"""What to know of each rule, in a line."""

"""POPE: is such an object in the picture? How each harness reads an answer, and the rates it makes of what it read.

An answer says yes, no, or neither of them that the rule could find ("unread"). `RULES` holds every harness's reading
and arithmetic; what a study measures (`accuracy`, `confusion`, `yes_ratio`) is our own rule. Quirks: docs/metrics.md.

Source: Li et al. 2023, arXiv 2305.10355.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sightline.records import Answer, Sample, Score
from sightline.scoring.metric import Metric, Ratio
from sightline.scoring.normalise import normalise, parse_yes_no, without_vqa_punctuation
from sightline.scoring.vqa import YES_NO

Said = Literal["yes", "no"] | None
"""What an answer says by some rule; None where the rule finds neither."""

CELLS: tuple[str, ...] = ("tp", "fp", "tn", "fn", "unread_yes", "unread_no")
"""What one answer can be: said against label, or unread where the label is yes, or no."""


def read_original(text: str) -> Said:
    """Read an answer as POPE's authors do, and LLaVA after them: whatever is not a no is a yes.

    The text up to the first period, commas taken out, is split at single spaces; a no is one of the exact words "No",
    "no" and "not". So "NO", "no!", "No</s>", "no" before a line break and an empty answer are all a yes.

    Source: AoiDragon/POPE, evaluate.py; haotian-liu/LLaVA, llava/eval/eval_pope.py.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"}.intersection(words) else "yes"


def read_lmms_eval(text: str) -> Said:
    """Read an answer as lmms-eval does: the whole of it is "yes" or "no", blanks and case aside.

    Source: EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/pope/utils.py.
    """
    said = text.lower().strip()
    return "yes" if said == "yes" else "no" if said == "no" else None


def read_vlmevalkit(text: str) -> Said:
    """Read an answer as VLMEvalKit does without a judge: the word yes or the word no, and not both.

    Source: open-compass/VLMEvalKit, vlmeval/dataset/utils/yorn.py.
    """
    said = {"yes", "no"}.intersection(without_vqa_punctuation(text.lower()).split())
    return "yes" if said == {"yes"} else "no" if said == {"no"} else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A harness's way with POPE.

    Args:
        read: what an answer says.
        metrics: accuracy, precision, recall, f1 and yes_ratio of summed `CELLS`; what the harness lacks is missing.
        notes: what to know of its reading and its arithmetic.
    """

    read: Callable[[str], Said]
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Put one answer to a probe in its cell: the score behind all of the rule's metrics."""
        said, label = self.read(answer.text), normalise(sample.answer)
        if said is None:
            cell = f"unread_{label}"
        elif said == label:
            cell = "tp" if said == "yes" else "tn"
        else:
            cell = "fp" if said == "yes" else "fn"
        outcome = "unparsed" if said is None else "scored"
        return Score(sample_id=sample.id, metric="pope", outcome=outcome, parts={cell: 1.0}, parsed=said)


def is_probe(sample: Sample) -> bool:
    """Say whether a question is one POPE can ask: its reference is yes or no."""
    return normalise(sample.answer) in YES_NO


def accuracy(sample: Sample, answer: Answer) -> Score:
    """Score a probe 1 where the answer says what the label says; "unparsed" where it says both or neither."""
    if not is_probe(sample):
        return _no_probe(sample, "pope_accuracy")
    said = parse_yes_no(answer.text)
    if said is None:
        return _unparsed(sample, "pope_accuracy")
    value = float(said == normalise(sample.answer))
    return Score(sample_id=sample.id, metric="pope_accuracy", outcome="scored", value=value, parsed=said)


def confusion(sample: Sample, answer: Answer, *, metric: str) -> Score:
    """Count a probe in the table of true and false positives; an "unparsed" answer is no yes."""
    if not is_probe(sample):
        return _no_probe(sample, metric)
    said, is_yes = parse_yes_no(answer.text), normalise(sample.answer) == "yes"
    cell = ("tp" if is_yes else "fp") if said == "yes" else ("fn" if is_yes else "tn")
    if said is None:
        return _unparsed(sample, metric, parts={cell: 1.0})
    return Score(sample_id=sample.id, metric=metric, outcome="scored", parts={cell: 1.0}, parsed=said)


def yes_ratio(sample: Sample, answer: Answer) -> Score:
    """Score a probe 1 where the answer says yes; one that says both or neither has not said it."""
    if not is_probe(sample):
        return _no_probe(sample, "yes_ratio")
    said = parse_yes_no(answer.text)
    return Score(sample_id=sample.id, metric="yes_ratio", outcome="scored", value=float(said == "yes"), parsed=said)


def _no_probe(sample: Sample, metric: str) -> Score:
    reason = "the reference is neither yes nor no"
    return Score(sample_id=sample.id, metric=metric, outcome="not_applicable", reason=reason)


def _unparsed(sample: Sample, metric: str, parts: Mapping[str, float] | None = None) -> Score:
    reason = "says neither yes nor no, or both"
    return Score(sample_id=sample.id, metric=metric, outcome="unparsed", parts=parts or {}, reason=reason)


def _metrics(
    *,
    missed: Sequence[str],
    otherwise: float | None = None,
    f1: Callable[[Mapping[str, Any]], Any] | None = None,
    yes: Sequence[str] | None = ("tp", "fp"),
) -> tuple[Metric, ...]:
    """Put a rule's five rates together.

    Args:
        missed: cells that recall and F1 count as a yes that was not said.
        otherwise: precision, recall and F1 where there is nothing to divide by.
        f1: where it is not 2 tp / (2 tp + fp + missed).
        yes: cells above the line of the yes-ratio; None: the harness has none.
    """
    every = dict.fromkeys(CELLS, 1.0)
    not_said = dict.fromkeys(missed, 1.0)
    ratios: dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
        "accuracy": ("Accuracy", Ratio({"tp": 1, "tn": 1}, every)),
        "precision": ("Precision", Ratio({"tp": 1}, {"tp": 1, "fp": 1}, otherwise)),
        "recall": ("Recall", Ratio({"tp": 1}, {"tp": 1, **not_said}, otherwise)),
        "f1": ("F1", f1 or Ratio({"tp": 2}, {"tp": 2, "fp": 1, **not_said}, otherwise)),
    }
    if yes is not None:
        ratios["yes_ratio"] = ("Yes-ratio", Ratio(dict.fromkeys(yes, 1.0), every))
    return tuple(
        Metric(name=name, title=title, kind="ratio", combine=combine, neutral=name == "yes_ratio")
        for name, (title, combine) in ratios.items()
    )


def _f1_of_original(parts: Mapping[str, Any]) -> Any:
    """Combine precision and recall; undefined where no yes was right, where the original divides by zero."""
    value = Ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})(parts)
    found = parts.get("tp", 0.0)
    if isinstance(value, np.ndarray):
        return np.where(np.greater(found, 0), value, np.nan)
    return value if found else None


_ALL_READ = _metrics(missed=("fn",), f1=_f1_of_original)

RULES: Mapping[str, Rule] = {
    "original": Rule(
        read=read_original,
        metrics=_ALL_READ,
        notes=("whatever holds no exact word No, no or not before its first period is a yes, an empty answer too",),
    ),
    "llava": Rule(
        read=read_original,
        metrics=_ALL_READ,
        notes=("reads as the original; the one number LLaVA prints for POPE is the mean of the subsets' F1",),
    ),
    "lmms-eval": Rule(
        read=read_lmms_eval,
        metrics=_metrics(missed=("fn",), otherwise=0.0, yes=("tp", "fn", "unread_yes")),
        notes=(
            "an answer of more than the one word is wrong, and recall leaves it out",
            "its yes-ratio counts the labels, not the answers: it is the same for every model",
        ),
    ),
    "vlmevalkit": Rule(
        read=read_vlmevalkit,
        metrics=_metrics(missed=("fn", "unread_yes"), otherwise=0.0, yes=None),
        notes=("what says both or neither is wrong, and counts as a no in recall and F1; F1 is its headline",),
    ),
    "sightline": Rule(
        read=parse_yes_no,
        metrics=_metrics(missed=("fn", "unread_yes")),
        notes=("what says both or neither is unread: counted as wrong, and counted apart",),
    ),
}
"""Every harness's way with POPE, by name."""

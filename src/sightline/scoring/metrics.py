"""The metrics by name, and answers scored by them."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import DataError, StudyError
from sightline.records import NO_ANSWER, Answer, Sample, Score
from sightline.scoring import phantom_shr, pope, shr, text, vqa
from sightline.scoring.custom import load_function, score_by
from sightline.scoring.metric import Metric, Ratio

PRECISION = Ratio({"tp": 1}, {"tp": 1, "fp": 1})
RECALL = Ratio({"tp": 1}, {"tp": 1, "fn": 1})
F1 = Ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})
NLL = Ratio({"nll": 1}, {"tokens": 1})


def perplexity(parts: Mapping[str, Any]) -> Any:
    """Combine summed losses and tokens into the perplexity of the reference answers; None (nan) without tokens."""
    loss = NLL(parts)
    if loss is None or isinstance(loss, np.ndarray):
        return None if loss is None else np.exp(loss)
    return float(np.exp(loss))


def _confusion(name: str, title: str, ratio: Ratio, count: Callable[..., Score]) -> Metric:
    score = functools.partial(count, metric=name)
    return Metric(name=name, title=title, kind="ratio", combine=ratio, score=score)


def _distinct(order: int) -> Metric:
    return Metric(
        name=f"distinct_{order}",
        title=f"Different {order}-grams within an answer",
        kind="ratio",
        combine=Ratio({"different": 1}, {"ngrams": 1}),
        score=functools.partial(text.distinct, order=order),
    )


_METRICS = (
    Metric(name="exact_match", title="Exact match", score=vqa.exact_match),
    Metric(name="exact_match_numeric", title="Exact match, or the same number", score=vqa.exact_match_numeric),
    Metric(name="token_f1", title="Token F1", score=vqa.token_f1),
    Metric(name="closed_accuracy", title="Closed-question accuracy", score=vqa.closed_accuracy),
    _confusion("closed_precision", "Closed-question precision (yes)", PRECISION, vqa.closed_confusion),
    _confusion("closed_recall", "Closed-question recall (yes)", RECALL, vqa.closed_confusion),
    _confusion("closed_f1", "Closed-question F1 (yes)", F1, vqa.closed_confusion),
    Metric(name="open_recall", title="Open-question token recall", score=vqa.open_recall),
    Metric(name="open_f1", title="Open-question token F1", score=vqa.open_f1),
    Metric(name="pope_accuracy", title="POPE accuracy", score=pope.accuracy),
    _confusion("pope_precision", "POPE precision", PRECISION, pope.confusion),
    _confusion("pope_recall", "POPE recall", RECALL, pope.confusion),
    _confusion("pope_f1", "POPE F1", F1, pope.confusion),
    Metric(name="yes_ratio", title="Share of answers that say yes", score=pope.yes_ratio, neutral=True),
    Metric(name="bleu", title="BLEU", kind="ratio", combine=text.combine_bleu, score=text.bleu),
    Metric(name="sentence_bleu", title="BLEU of each answer, mean", score=text.sentence_bleu),
    Metric(name="rouge_l", title="ROUGE-L", score=text.rouge_l),
    Metric(
        name=phantom_shr.NAME,
        title="Hallucinated sentences (SHR), by phantom's facts",
        higher_is_better=False,
        kind="ratio",
        combine=shr.RULES["sightline"],
        score=phantom_shr.hallucinated,
    ),
    _distinct(1),
    _distinct(2),
    Metric(name="answer_length", title="Words per answer", score=text.answer_length, unit="words", neutral=True),
    Metric(
        name="nll",
        title="Reference answer loss",
        higher_is_better=False,
        kind="ratio",
        combine=NLL,
        unit="nats",
    ),
    Metric(
        name="perplexity",
        title="Reference answer perplexity",
        higher_is_better=False,
        kind="ratio",
        combine=perplexity,
        unit="perplexity",
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}

CLOSED_METRICS = frozenset(name for name in METRICS if name.startswith(("closed_", "pope_")))


def metric_named(name: str, folder: Path | None = None) -> Metric:
    """Find a metric: a built-in, or a user's own function as "file.py:function".

    Args:
        name: as the study writes it.
        folder: where relative files start; the study file's folder. None: the current folder.

    Raises:
        StudyError: no such metric, file or function.
    """
    if name in METRICS:
        return METRICS[name]
    if ":" in name:
        function = load_function(name, folder or Path())
        title = name.rpartition(":")[2].replace("_", " ").strip()
        return Metric(name=name, title=title, score=functools.partial(score_by, function, metric=name))
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise StudyError(f"metric {name!r} is unknown{hint} (known: {', '.join(METRICS)}, or your own as FILE.py:FUNCTION)")


def score_answers(metric: Metric, samples: Mapping[str, Sample], answers: Iterable[Answer]) -> list[Score]:
    """Score answers by one metric, in the order given; what a server did not answer has no value.

    Raises:
        DataError: an answer to a sample that is not there.
        ValueError: a metric whose scores come from the engine.
    """
    if metric.score is None:
        raise ValueError(f"the scores of {metric.name} come from the engine, not from answers")
    scores = []
    for answer in answers:
        sample = samples.get(answer.sample_id)
        if sample is None:
            raise DataError(
                f"answers of {answer.model} on {answer.data}: sample {answer.sample_id!r} is not in the data; "
                "score them against the rows they were asked about"
            )
        score = metric.score(sample, answer)
        if answer.finish_reason == NO_ANSWER and score.outcome != "not_applicable":
            reason = f"no answer: {answer.reason}"
            score = Score(sample_id=sample.id, metric=metric.name, outcome="failed", reason=reason)
        scores.append(score)
    return scores

"""Free text against its reference: BLEU, ROUGE-L, how varied answers are and how long. Definitions: docs/metrics.md."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.records import Answer, Sample, Score
from sightline.scoring.normalise import words_of

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

ORDERS = (1, 2, 3, 4)
"""The lengths of n-grams that BLEU counts."""


def bleu(sample: Sample, answer: Answer) -> Score:
    """Count what corpus BLEU is made of: matching and all n-grams of one answer, and both lengths.

    The tokens are sacrebleu's "13a"; `combine_bleu` makes the number.
    """
    counted = _sacrebleu().corpus_score([answer.text], [[sample.answer]])
    parts = {"answer_length": float(counted.sys_len), "reference_length": float(counted.ref_len)}
    for order, matching, total in zip(ORDERS, counted.counts, counted.totals, strict=True):
        parts |= {f"matching_{order}": float(matching), f"total_{order}": float(total)}
    return Score(sample_id=sample.id, metric="bleu", outcome="scored", parts=parts)


def bleu_signature() -> str:
    """Write sacrebleu's signature of the BLEU computed here, as papers quote it."""
    counter = _sacrebleu()
    counter.corpus_score([""], [[""]])  # the signature holds the number of references, known only after scoring
    return counter.get_signature().format()


def combine_bleu(parts: Mapping[str, Any]) -> Any:
    """Combine summed counts into corpus BLEU in [0, 1], as sacrebleu does by default (smoothing "exp").

    Args:
        parts: of `bleu`, summed; floats, or float64 arrays of one shape for many corpora at once. Absent means 0.

    Returns:
        the value; None (in an array: nan) where there is neither an answer nor a reference.

    Source: Papineni et al. 2002; Chen and Cherry 2014 (method 3).
    """

    def part(name: str) -> np.ndarray:
        return np.asarray(parts.get(name, 0.0), dtype=np.float64)

    lengths, references = np.broadcast_arrays(part("answer_length"), part("reference_length"))
    matching = np.stack(np.broadcast_arrays(*(part(f"matching_{order}") for order in ORDERS)))
    total = np.stack(np.broadcast_arrays(*(part(f"total_{order}") for order in ORDERS)))
    halvings = np.cumsum((matching == 0) & (total > 0), axis=0)
    smoothed = np.where(matching > 0, matching, 0.5**halvings)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_precision = np.where(total > 0, np.log(smoothed) - np.log(total), -np.inf).mean(axis=0)
        penalty = np.where(lengths < references, 1 - references / lengths, 0.0)
    value = np.where(matching[0] > 0, np.exp(log_precision + penalty), 0.0)
    value = np.where(lengths + references > 0, value, np.nan)
    if value.ndim:
        return value
    return None if np.isnan(value) else float(value)


def sentence_bleu(sample: Sample, answer: Answer) -> Score:
    """Score an answer by its own BLEU as NLTK computes it with smoothing method 4: words split at white space."""
    value = smoothed_sentence_bleu(sample.answer.split(), answer.text.split())
    return Score(sample_id=sample.id, metric="sentence_bleu", outcome="scored", value=value)


def smoothed_sentence_bleu(reference: Sequence[str], said: Sequence[str]) -> float:
    """Compute BLEU of one sentence, smoothed by Chen and Cherry's method 4 as NLTK has it.

    Orders without a match get 1 / (2^i * 5 / ln(length)) matches, i counting such orders. A sentence of one word
    cannot be smoothed: its empty orders are left out, so that one right word is worth 1.

    Args:
        reference: its words.
        said: the answer's words.

    Returns:
        a rate; like NLTK's, it can pass 1 by a little.

    Source: Chen and Cherry 2014, method 4, in NLTK's version of it (2 to the i in place of K halved).
    """
    if not said:
        return 0.0
    logs, num_empty = [], 0
    for order in ORDERS:
        wanted, given = _ngrams(reference, order), _ngrams(said, order)
        matching: float = (wanted & given).total()
        if matching == 0 and order == 1:
            return 0.0
        if matching == 0 and len(said) > 1:
            num_empty += 1
            matching = math.log(len(said)) / (5 * 2**num_empty)
        if matching > 0:
            logs.append(math.log(matching / max(1, given.total())) / len(ORDERS))
    penalty = min(0.0, 1 - len(reference) / len(said))
    return math.exp(penalty) * math.exp(math.fsum(logs))


def rouge_l(sample: Sample, answer: Answer) -> Score:
    """Score an answer by ROUGE-L's F measure, words stemmed, as Google's rouge-score computes it.

    It sees the letters a to z and digits alone: a reference without any of them is not one it can score.
    """
    if not any(character.isascii() and character.isalnum() for character in sample.answer):
        reason = "ROUGE-L sees the letters a to z and digits alone, and the reference has none"
        return Score(sample_id=sample.id, metric="rouge_l", outcome="not_applicable", reason=reason)
    value = _rouge().score(sample.answer, answer.text)["rougeL"].fmeasure
    return Score(sample_id=sample.id, metric="rouge_l", outcome="scored", value=value)


def distinct(sample: Sample, answer: Answer, *, order: int) -> Score:
    """Count the different n-grams of an answer and all of them: a model that repeats itself has few different ones.

    Args:
        sample: the row.
        answer: to it.
        order: words per n-gram.
    """
    ngrams = _ngrams(words_of(answer.text), order)
    parts = {"different": float(len(ngrams)), "ngrams": float(ngrams.total())}
    return Score(sample_id=sample.id, metric=f"distinct_{order}", outcome="scored", parts=parts)


def corpus_distinct(texts: Sequence[str], order: int) -> float | None:
    """Give the share of different n-grams among all n-grams of all answers together; None where there are none.

    It falls with the number of answers and is no sum over them, so it has no interval.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models".
    """
    ngrams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        ngrams.update(_ngrams(words_of(text), order))
    return len(ngrams) / ngrams.total() if ngrams else None


def answer_length(sample: Sample, answer: Answer) -> Score:
    """Count an answer's words, split at white space."""
    length = float(len(answer.text.split()))
    return Score(sample_id=sample.id, metric="answer_length", outcome="scored", value=length)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


@functools.lru_cache(maxsize=1)
def _sacrebleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU()


@functools.lru_cache(maxsize=1)
def _rouge() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)

"""BLEU, ROUGE-L and the rest, against NLTK, sacrebleu's own corpus score and cases worked out by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import sentence_bleu as nltk_sentence_bleu
from sacrebleu.metrics.bleu import BLEU

from sightline.records import Answer, Message, Sample
from sightline.scoring import text
from sightline.scoring.metrics import METRICS

WORDS = [
    "the",
    "left",
    "lung",
    "shows",
    "a",
    "large",
    "nodule",
    "and",
    "no",
    "effusion",
    "heart",
    "size",
    ",",
    "3.5",
    "cm",
]


def sentences(number: int, seed: int, longest: int = 12) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(0, longest))) for _ in range(number)]


def sample_of(reference: str) -> Sample:
    message = Message(role="user", content=("Describe the picture.",))
    return Sample(id="q", pictures=(), messages=(message,), answer=reference)


def answer_of(said: str) -> Answer:
    return Answer(sample_id="q", model="m", data="d", text=said, finish_reason="stop", num_tokens=1)


REFERENCES, SAID = sentences(400, seed=1), sentences(400, seed=2)
EDGES = [
    ("left lung", "left lung"),
    ("left", "left"),
    ("left", "right"),
    ("left lung", "left"),
    ("left", "left lung nodule"),
    ("the large nodule", "nodule large the"),
    ("a a a a a", "a"),
    ("a", "a a a a a"),
    ("", "left"),
    ("left", ""),
    ("", ""),
    ("Der linke Lungenflügel ist frei.", "Der Lungenflügel ist frei."),
    ("肺部正常", "肺部正常"),
]
PAIRS = [*zip(REFERENCES, SAID, strict=True), *EDGES]


def test_sentence_bleu_is_nltks_with_method_4() -> None:
    smooth = SmoothingFunction().method4
    for reference, said in PAIRS:
        score = text.sentence_bleu(sample_of(reference), answer_of(said))
        if not said:
            assert score.value == 0.0
            continue
        oracle = nltk_sentence_bleu([reference.split()], said.split(), smoothing_function=smooth)
        assert score.value == pytest.approx(oracle, abs=1e-9), (reference, said)


def summed(pairs: list[tuple[str, str]]) -> dict[str, float]:
    parts: Counter[str] = Counter()
    for reference, said in pairs:
        parts.update(text.bleu(sample_of(reference), answer_of(said)).parts)  # type: ignore[arg-type]
    return dict(parts)


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_corpus_bleu_from_summed_counts_is_sacrebleus(start: int) -> None:
    pairs = PAIRS[start : start + 50]
    oracle = BLEU().corpus_score([said for _, said in pairs], [[reference for reference, _ in pairs]]).score / 100
    assert text.combine_bleu(summed(pairs)) == pytest.approx(oracle, abs=1e-9)


@pytest.mark.parametrize("pair", EDGES)
def test_corpus_bleu_of_one_odd_answer_is_sacrebleus(pair: tuple[str, str]) -> None:
    oracle = BLEU().corpus_score([pair[1]], [[pair[0]]]).score / 100
    value = text.combine_bleu(summed([pair]))
    assert (value is None) == (pair == ("", ""))
    assert value is None or value == pytest.approx(oracle, abs=1e-9)


def test_many_corpora_at_once_combine_as_each_by_itself() -> None:
    every = [text.bleu(sample_of(reference), answer_of(said)).parts for reference, said in PAIRS]
    together = text.combine_bleu({name: np.array([parts[name] for parts in every]) for name in every[0]})
    each = [text.combine_bleu(parts) for parts in every]
    assert together == pytest.approx([np.nan if value is None else value for value in each], nan_ok=True)


# Worked out by hand: the longest common subsequence over the words left after stemming, 2 L / (words of both).
@pytest.mark.parametrize(
    ("reference", "said", "f"),
    [
        ("the left lung is clear", "the left lung is clear", 1.0),
        ("the left lung is clear", "clear is lung left the", 2 * 1 / 10),
        ("the left lung is clear", "the lung is not clear", 2 * 4 / 10),
        ("the left lung is clear", "heart", 0.0),
        ("the left lung is clear", "", 0.0),
        ("nodules", "A nodule.", 2 * 1 / 3),  # stemmed: nodules is nodule
        ("gas in the bowels", "the gas of the bowel", 2 * 3 / 9),  # gas, the, bowel
        ("T2-weighted", "t2 weighted", 1.0),
        ("3.5 cm", "3 5 cm", 1.0),
        ("Lungenflügel frei", "Lungenfl gel frei", 1.0),  # letters beyond a to z are blanks to it
    ],
)
def test_rouge_l(reference: str, said: str, f: float) -> None:
    score = text.rouge_l(sample_of(reference), answer_of(said))
    assert score.value == pytest.approx(f, abs=1e-9)


def test_rouge_l_says_where_it_sees_nothing() -> None:
    score = text.rouge_l(sample_of("肺部正常"), answer_of("肺部正常"))
    assert (score.outcome, score.value) == ("not_applicable", None) and "a to z" in score.reason


@pytest.mark.parametrize(
    ("said", "order", "different", "every"),
    [
        ("The heart, the heart, the heart.", 1, 2, 6),
        ("The heart, the heart, the heart.", 2, 2, 5),
        ("heart", 2, 0, 0),
        ("", 1, 0, 0),
    ],
)
def test_distinct_n_grams_within_an_answer(said: str, order: int, different: int, every: int) -> None:
    parts = text.distinct(sample_of("x"), answer_of(said), order=order).parts
    assert dict(parts) == {"different": different, "ngrams": every}


def test_distinct_n_grams_over_all_answers() -> None:
    texts = ["the heart", "The heart.", "the lung"]
    assert text.corpus_distinct(texts, 1) == pytest.approx(3 / 6)
    assert text.corpus_distinct(texts, 2) == pytest.approx(2 / 3)
    assert text.corpus_distinct(["one", "two"], 2) is None


def test_an_answers_length_is_in_words_and_neither_way_is_better() -> None:
    assert text.answer_length(sample_of("x"), answer_of(" The  left\nlung. ")).value == 3.0
    assert METRICS["answer_length"].unit == "words" and METRICS["answer_length"].neutral


def test_perplexity_is_the_exponential_of_the_loss_per_token() -> None:
    combine = METRICS["perplexity"].combine
    assert combine is not None
    assert combine({"nll": 6.0, "tokens": 4.0}) == pytest.approx(math.exp(1.5))
    assert combine({"nll": 0.0, "tokens": 0.0}) is None
    both = combine({"nll": np.array([6.0, 0.0]), "tokens": np.array([4.0, 0.0])})
    assert both == pytest.approx([math.exp(1.5), np.nan], nan_ok=True)


def test_the_signature_names_what_bleu_was_computed_with() -> None:
    assert text.bleu_signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")

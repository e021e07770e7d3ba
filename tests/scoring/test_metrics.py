from __future__ import annotations

import numpy as np
import pytest

from sightline.errors import DataError, StudyError
from sightline.records import Answer, Message, Sample
from sightline.scoring.metrics import METRICS, Ratio, metric_named, score_answers


def test_the_built_in_metrics_are_found_by_name() -> None:
    vqa = ["exact_match", "exact_match_numeric", "token_f1"]
    closed = ["closed_accuracy", "closed_precision", "closed_recall", "closed_f1"]
    probes = ["pope_accuracy", "pope_precision", "pope_recall", "pope_f1", "yes_ratio"]
    text = ["bleu", "sentence_bleu", "rouge_l", "phantom_shr", "distinct_1", "distinct_2", "answer_length"]
    names = [*vqa, *closed, "open_recall", "open_f1", *probes, *text, "nll", "perplexity"]
    assert [metric_named(name).name for name in names] == names == list(METRICS)
    lower = [name for name, metric in METRICS.items() if not metric.higher_is_better]
    assert lower == ["phantom_shr", "nll", "perplexity"]
    assert [name for name, metric in METRICS.items() if metric.neutral] == ["yes_ratio", "answer_length"]


@pytest.mark.parametrize("name", list(METRICS))
def test_scores_carry_the_name_of_their_metric(name: str) -> None:
    sample = Sample(id="1", pictures=(), messages=(Message(role="user", content=("Is it?",)),), answer="yes")
    answer = Answer(sample_id="1", model="m", data="d", text="yes", finish_reason="stop", num_tokens=1)
    metric = METRICS[name]
    if metric.score is None:
        with pytest.raises(ValueError, match="come from the engine"):
            score_answers(metric, {"1": sample}, [answer])
        return
    (score,) = score_answers(metric, {"1": sample}, [answer])
    assert (score.sample_id, score.metric) == ("1", name)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(StudyError, match="did you mean closed_accuracy"):
        metric_named("closed_acuracy")


def test_loss_per_token_weighs_tokens_not_questions() -> None:
    combine = METRICS["nll"].combine
    assert combine is not None
    assert combine({"nll": 1.0 + 9.0, "tokens": 1 + 4}) == pytest.approx(2.0)
    assert combine({"nll": 0.0, "tokens": 0}) is None


def test_a_ratio_of_arrays_is_the_ratio_of_each() -> None:
    ratio = Ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})
    together = ratio({"tp": np.array([3.0, 0.0, 0.0]), "fp": np.array([1.0, 2.0, 0.0])})
    assert together == pytest.approx([6 / 7, 0.0, np.nan], nan_ok=True)
    assert [ratio({"tp": 3, "fp": 1}), ratio({"tp": 0, "fp": 2}), ratio({"tn": 4})] == [6 / 7, 0.0, None]
    assert np.isnan(ratio({"tn": np.ones(2)})).all()
    zero = Ratio({"tp": 1}, {"tp": 1, "fp": 1}, otherwise=0.0)
    assert zero({"tn": 4}) == 0.0 and zero({"tp": np.array([1.0, 0.0])}) == pytest.approx([1.0, 0.0])


def test_an_answer_to_nothing_is_refused() -> None:
    answer = Answer(sample_id="7", model="sft", data="d", text="yes", finish_reason="stop", num_tokens=1)
    with pytest.raises(DataError, match="'7' is not in the data"):
        score_answers(METRICS["exact_match"], {}, [answer])

"""Agreement of judges, against scikit-learn, statsmodels, Krippendorff's published values and his definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sightline.scoring.agreement import cohen_kappa, judges_together, krippendorff_alpha

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D: 4 observers, 12 units, values 1 to 5.
_ = None
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_s_own_example(level, alpha: float):
    assert krippendorff_alpha(OBSERVERS, level) == pytest.approx(alpha, abs=5e-4)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_equals_its_definition_pair_by_pair(level):
    """Observed over expected disagreement, counted over all pairs of ratings, as the definition has it."""
    random = np.random.default_rng(5)
    ratings = [[None if random.random() < 0.2 else int(random.integers(1, 5)) for _ in range(40)] for _ in range(3)]
    units = [[v for v in unit if v is not None] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    pooled = sorted(value for unit in units for value in unit)

    def apart(a: int, b: int) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return float(a - b) ** 2
        low, high = sorted((a, b))
        between = sum(low <= value <= high for value in pooled)
        return (between - (pooled.count(a) + pooled.count(b)) / 2) ** 2 if a != b else 0.0

    observed = sum(apart(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)) / len(
        pooled
    )
    expected = sum(apart(a, b) for a, b in itertools.permutations(pooled, 2)) / (len(pooled) * (len(pooled) - 1))
    assert krippendorff_alpha(ratings, level) == pytest.approx(1 - observed / expected, abs=1e-9)


def test_kappa_equals_another_implementation():
    random = np.random.default_rng(3)
    first, other = random.integers(0, 3, size=(2, 50)).tolist()
    second = [a if random.random() < 0.6 else b for a, b in zip(first, other, strict=True)]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)


def test_where_chance_explains_everything_there_is_no_agreement_to_speak_of():
    assert cohen_kappa([1, 1], [1, 1]) is None and cohen_kappa([None], [1]) is None
    assert krippendorff_alpha([[1.0, 1.0], [1.0, None]]) is None and krippendorff_alpha([[1.0], [None]]) is None
    assert cohen_kappa([1, 0, None], [1, 0, 1]) == 1.0


def test_a_conclusion_that_depends_on_the_judge_says_so():
    values = {
        "a": {1: 1.0, 2: 0.0, 3: 1.0, 4: None},
        "b": {1: 0.9, 2: 0.1, 3: 0.2, 4: 0.5},
        "c": {1: 1.0, 2: 0.0, 3: 1.0},
    }
    together = judges_together(values, {"a": "improved", "b": "no detectable difference", "c": "improved"})
    assert together.depends and together.num_answers == 3
    assert together.kappas["a, c"] == 1.0 and together.kappas["a, b"] == pytest.approx(0.4)
    assert together.sentence().startswith("the conclusion depends on the judge (a: improved, b: no detectable")
    alike = judges_together(values, dict.fromkeys(values, "improved"))
    assert not alike.depends and "every judge concludes the same" in alike.sentence()


def test_a_judge_that_could_not_decide_bears_nobody_out():
    values = {"a": {1: 1.0}, "b": {1: None}, "c": {1: 1.0}}
    two = judges_together(values, {"a": "improved", "b": "cannot decide", "c": "improved"})
    assert not two.depends and "every judge concludes the same" in two.sentence()
    one = judges_together(values, {"a": "improved", "b": "cannot decide"})
    assert not one.depends and one.sentence().startswith("fewer than two judges could decide")

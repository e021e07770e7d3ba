"""Bounds of p: against statsmodels, against every pairing of small tables, and against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from sightline.verdict import audit_bounds
from sightline.verdict.audit_bounds import Side
from sightline.verdict.audit_means import chance_of_best, gain_of_best

Samples = st.tuples(st.integers(1, 3_000), st.integers(1, 3_000)).flatmap(
    lambda sizes: st.tuples(st.integers(0, sizes[0]), st.just(sizes[0]), st.integers(0, sizes[1]), st.just(sizes[1]))
)


@given(Samples)
def test_independent_samples_agree_with_statsmodels(samples: tuple[int, int, int, int]) -> None:
    right, number, other, other_number = samples
    if 0 < right + other < number + other_number:
        oracle = proportions_ztest([right, other], [number, other_number])[1]
        assert audit_bounds.two_proportions_p(*samples) == pytest.approx(oracle, rel=1e-9)
    else:
        assert audit_bounds.two_proportions_p(*samples) == 1.0
    oracle = confint_proportions_2indep(right, number, other, other_number, method="newcomb")
    assert audit_bounds.newcombe_interval(*samples) == pytest.approx(oracle, abs=1e-9)


Stratum = st.integers(1, 14).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)))
"""What each of two models has right, and of how many questions."""


def every_pairing(right: int, other: int, size: int) -> list[tuple[int, int]]:
    """Every (fixed, broke) that answers of these marginals can have: both right on k questions, for each possible k."""
    both = range(max(0, right + other - size), min(right, other) + 1)
    return [(right - k, other - k) for k in both]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.integers(1, 14).flatmap(lambda n: st.tuples(*[st.integers(0, n)] * 2, st.just(n))), min_size=1, max_size=2
    )
)
def test_paired_bounds_are_those_of_every_pairing(strata: list[tuple[int, int, int]]) -> None:
    rights, others, sizes = (tuple(values) for values in zip(*strata, strict=True))
    p_values, changed = [], []
    for pairing in itertools.product(*(every_pairing(*stratum) for stratum in strata)):
        fixed, broke = (sum(values) for values in zip(*pairing, strict=True))
        p_values.append(float(vars(statsmodels_mcnemar([[0, fixed], [broke, 0]], exact=True))["pvalue"]))
        changed.append(fixed + broke)
    found = audit_bounds.paired_bounds(Side([rights], sizes), Side([others], sizes))
    assert found.p == pytest.approx((min(p_values), max(p_values)), abs=1e-12)
    assert (found.fewest, found.most) == (min(changed), max(changed))
    below = [num for num, p in zip(changed, p_values, strict=True) if p < 0.05]
    assert found.below == (max(below, default=0),) * 2


def test_open_counts_widen_the_bounds() -> None:
    # .51 of 426 and .47 of 407 to two decimals: 216 to 219, and 190 to 193.
    own, other = Side([(k,) for k in range(190, 194)], (407,)), Side([(k,) for k in range(216, 220)], (426,))
    p_values = [proportions_ztest([a[0], b[0]], [407, 426])[1] for a, b in itertools.product(own.right, other.right)]
    assert audit_bounds.unpaired_bounds(own, other)["p"] == pytest.approx([min(p_values), max(p_values)])


def test_many_open_counts_keep_the_ends_and_the_nearest() -> None:
    own, other = Side([(k,) for k in range(300, 400)], (1000,)), Side([(k,) for k in range(350, 450)], (1000,))
    low, high = audit_bounds.unpaired_bounds(own, other)["p"]
    assert high == 1.0  # 350 to 399 are open on both sides
    assert low == pytest.approx(proportions_ztest([300, 449], [1000, 1000])[1])


def test_a_design_effect_that_hides_brings_p_to_alpha() -> None:
    z = stats.norm.isf(0.001 / 2)
    effect = audit_bounds.design_effect_to_hide(0.001)
    assert 2 * stats.norm.sf(z / math.sqrt(effect)) == pytest.approx(0.05)


def test_sensitivity_and_criterion_by_hand() -> None:
    # Hits 84.13% and false alarms 15.87%: one standard deviation on either side of a neutral criterion.
    found = audit_bounds.signal_of(8413, 1587, 1587, 8413)
    assert (found.sensitivity, found.criterion) == pytest.approx((2.0, 0.0), abs=1e-3)
    assert audit_bounds.signal_of(10, 0, 0, 10).sensitivity > 3  # nothing missed, nothing false: large, not infinite


def test_the_variance_of_sensitivity_and_criterion_by_simulation() -> None:
    generator = np.random.default_rng(0)
    hits, alarms = generator.binomial(1500, 0.9, 20_000), generator.binomial(1500, 0.3, 20_000)
    z_hits, z_alarms = stats.norm.ppf(hits / 1500), stats.norm.ppf(alarms / 1500)
    found = audit_bounds.signal_of(1350, 450, 150, 1050)
    assert found.sensitivity_variance == pytest.approx((z_hits - z_alarms).var(), rel=0.04)
    assert found.criterion_variance == pytest.approx(((z_hits + z_alarms) / 2).var(), rel=0.04)


@pytest.mark.parametrize("num_variants", [1, 6])
def test_luck_of_the_best_by_simulation(num_variants: int) -> None:
    generator = np.random.default_rng(num_variants)
    base, variants = generator.normal(size=200_000), generator.normal(size=(200_000, num_variants))
    best = (variants.max(axis=1) - base) / math.sqrt(2)
    assert gain_of_best(num_variants) == pytest.approx(best.mean(), abs=0.01)
    assert chance_of_best(num_variants, 1.612) == pytest.approx((best >= 1.612).mean(), abs=0.005)

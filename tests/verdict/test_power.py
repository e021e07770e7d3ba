"""Planning: against McNemar's closed sample size (Connor 1987), against simulated studies, and against `check`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sightline.checking.power import check_detectable
from sightline.errors import RefusedError, StudyError
from sightline.records import Message, Picture, Sample
from sightline.verdict.power import IMAGE_CORRELATION, design_effect, plan_test, questions_needed
from sightline.verdict.statistics import clustered_mean, detectable_difference, t_p


@pytest.mark.parametrize(
    ("discordance", "detectable", "needed"),
    [(0.10, 0.042, 489), (0.20, 0.059, 979), (0.30, 0.072, 1470), (0.40, 0.083, 1960)],
)
def test_one_question_an_image_is_mcnemar_s_closed_form(discordance: float, detectable: float, needed: int) -> None:
    # Connor 1987: (z_a sqrt(D) + z_b sqrt(D - d^2))^2 / d^2 questions, d = 4 points; t needs a few more than z.
    quantiles = stats.norm.ppf([0.975, 0.8])
    connor = (quantiles @ np.sqrt([discordance, discordance - 0.04**2])) ** 2 / 0.04**2
    assert math.ceil(connor) == pytest.approx(needed, abs=1)
    plan = plan_test(451, 451, discordance=discordance, difference=0.04)
    assert plan["detectable"]["expected"] == pytest.approx(detectable, rel=0.01)
    assert connor < plan["needed"]["expected"] < 1.01 * connor + 3


def test_two_samples_are_the_closed_form() -> None:
    # 2.8016 standard errors of the difference of two rates of one half, 416 answers each.
    assert plan_test(416, accuracy=0.5)["detectable"]["unpaired"] == pytest.approx(0.097, abs=5e-4)


def test_the_size_of_vqa_rad() -> None:
    # The specification's simulated studies (451 questions, 203 images) give 6.9 points.
    plan = plan_test(451, 203, accuracy=0.5)
    assert plan["discordance"] == pytest.approx(0.25)
    assert plan["detectable"]["expected"] == pytest.approx(0.069, abs=0.0015)
    bounds = plan["detectable"]
    assert (
        bounds["independent"]
        < bounds["expected"]
        < bounds["alike"]
        < bounds["independent"] * math.sqrt(451 / 203) * 1.01
    )


def simulated_power(
    num_images: int, per_image: int, discordance: float, difference: float, correlation: float
) -> float:
    """Share of simulated studies in which the clustered test finds the difference.

    An image decides for all its questions with probability `correlation`, else each question for itself: two
    differences about one image then correlate by exactly that.
    """
    generator = np.random.default_rng(7)
    num_studies = 4_000
    odds = [(discordance + difference) / 2, (discordance - difference) / 2]
    chances = [odds[1], 1 - discordance, odds[0]]
    own = generator.choice([-1.0, 0.0, 1.0], p=chances, size=(num_studies, num_images, per_image))
    shared = generator.choice([-1.0, 0.0, 1.0], p=chances, size=(num_studies, num_images, 1))
    decides = generator.random((num_studies, num_images, 1)) < correlation
    values = np.where(decides, shared, own).reshape(num_studies, -1)
    return float((t_p(clustered_mean(values, np.repeat(np.arange(num_images), per_image))) < 0.05).mean())


@pytest.mark.parametrize(
    ("num_images", "per_image", "discordance", "correlation"),
    [(200, 2, 0.25, 0.1), (60, 6, 0.2, 0.3), (300, 1, 0.1, 0.1), (40, 4, 0.3, 1.0)],
)
def test_the_promised_power_is_what_studies_have(
    num_images: int, per_image: int, discordance: float, correlation: float
) -> None:
    plan = plan_test(num_images * per_image, num_images, discordance=discordance, correlation=correlation)
    difference = plan["detectable"]["expected"]
    found = simulated_power(num_images, per_image, discordance, difference, correlation)
    # Planned with the discordance for a variance; the true one is smaller by the square of the difference.
    expected = stats.norm.sf(1.96 - 2.8016 / math.sqrt(1 - difference**2 / discordance))
    assert 0.78 < found == pytest.approx(expected, abs=0.025)


def test_the_correlation_within_images_is_that_of_the_calibration() -> None:
    # test_calibration.py: shared difficulty and chance of sd 1, each model's skill on an image of sd one half.
    generator = np.random.default_rng(0)
    skill = generator.normal(0, 0.5, size=(2, 1, 400_000))
    difficulty = generator.normal(size=(1, 2, 400_000))
    right = (skill + difficulty + generator.normal(size=(2, 2, 400_000)) > 0).astype(float)
    first, second = right[1] - right[0]
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(IMAGE_CORRELATION, abs=0.01)


def test_the_discordance_from_an_accuracy_by_simulation() -> None:
    # Two coins that are right with probability P and correlate by one half: copied half of the time.
    generator = np.random.default_rng(0)
    first = generator.random(400_000) < 0.8
    second = np.where(generator.random(400_000) < 0.5, first, generator.random(400_000) < 0.8)
    assert plan_test(100, accuracy=0.8)["discordance"] == pytest.approx((first != second).mean(), abs=0.003)


def test_check_and_power_say_the_same() -> None:
    samples = [
        Sample(
            id=f"q{index}",
            pictures=(Picture(name="p", sha256=f"{index // 3:064d}", width=8, height=8),),
            messages=(Message(role="user", content=(0, "Is there?")),),
            answer="yes",
        )
        for index in range(300)
    ]
    (finding,) = check_detectable(
        "set",
        samples,
        by="exact_match",
        num_comparisons=2,
        detectable=lambda error, degrees, alpha: detectable_difference(error, degrees, alpha=alpha),
    )
    plan = plan_test(300, 100, num_comparisons=2)
    assert 100 * plan["detectable"]["alike"] == pytest.approx(finding.evidence["points_if_alike"])
    assert 100 * plan["detectable"]["independent"] == pytest.approx(finding.evidence["points_if_independent"])
    headline = f"300 questions on 100 images can detect a difference of {finding.evidence['points']:.1f} points or more"
    assert headline in finding.message and plan["sentences"][0].startswith(headline)


def test_what_is_needed_is_what_detects() -> None:
    for per_image in (1.0, 2.5, 7.1):
        needed = questions_needed(0.05, 0.2, per_image, 0.2)
        assert needed is not None
        at, below = (
            plan_test(n, max(5, round(n / per_image)), discordance=0.2, correlation=0.2)["detectable"]["expected"]
            for n in (needed + 3, needed - 10)
        )
        assert at <= 0.0501 and below > 0.05
    assert questions_needed(1e-4, 0.2, 1.0, 0.0) is None
    assert plan_test(difference=0.0001)["sentences"][0].startswith("To detect a difference of 0.0 points, more than")


def test_more_questions_about_few_images_hardly_help() -> None:
    few, many = (plan_test(n, 50, correlation=0.5)["detectable"]["expected"] for n in (100, 2_000))
    assert many > 0.7 * few / math.sqrt(design_effect(2, 0.5)) and many < few


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "give --questions"),
        ((None, 5), {"difference": 0.1}, "--images 5 without --questions"),
        ((0, None), {}, "--questions 0: give a whole number"),
        ((20, 30), {}, "--images 30: more than"),
        ((200, None), {"accuracy": 70}, "--accuracy 70: give a rate between 0 and 1; for 70% write 0.7"),
        ((200, None), {"accuracy": 0.0}, "--accuracy 0: give a rate between 0 and 1"),
        ((200, None), {"accuracy": math.nan}, "--accuracy nan: give a rate"),
        ((200, None), {"difference": 0.5}, "differ on 20.0% of the questions cannot differ by more"),
        ((200, None), {"correlation": 1.5}, "--correlation 1.5: give a number from 0 to 1"),
        ((200, None), {"num_comparisons": 0}, "--comparisons 0"),
        ((200, None), {"accuracy": 0.95, "discordance": 0.2}, "differ on at most 10% of the questions"),
    ],
)
def test_what_cannot_be_is_named(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        plan_test(*arguments, **options)
    assert message in str(caught.value)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(RefusedError, match="fewer than 5 there is no verdict"):
        plan_test(100, 4)


def test_a_test_set_that_can_show_nothing_says_so() -> None:
    assert any("can show nothing" in sentence for sentence in plan_test(10, discordance=0.1)["sentences"])
    assert not any("can show nothing" in sentence for sentence in plan_test(1_000, discordance=0.1)["sentences"])

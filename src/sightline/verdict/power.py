"""Before anything is run: the smallest difference that a test set can detect, and how many questions one would need.

The comparison planned for is the one that `compare` makes: the same questions, paired, clustered by image, t with G - 1
degrees of freedom. On a question two models differ by -1, 0 or 1; the share that is not 0 is the discordance, and for
the variance of a difference that share is taken, which errs towards caution by the square of the mean.
"""

from __future__ import annotations

import math
from typing import Any

from scipy import stats

from sightline.checking.power import CHANGED, IMAGE_CORRELATION
from sightline.errors import RefusedError, StudyError
from sightline.verdict.findings import ALPHA, POWER
from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.statistics import detectable_difference

MODEL_CORRELATION = 0.5
"""Correlation of two models' right and wrong answers, the middle of the 0.3 to 0.7 that Miller 2024 (arXiv 2411.00640)
reports of language models; with an accuracy it gives the discordance, 2 P (1 - P) (1 - correlation)."""

MAX_QUESTIONS = 10_000_000


def plan_test(
    num_questions: int | None = None,
    num_images: int | None = None,
    *,
    accuracy: float | None = None,
    difference: float | None = None,
    discordance: float | None = None,
    correlation: float | None = None,
    num_comparisons: int = 1,
) -> dict[str, Any]:
    """Say what difference a test set can detect, and how large one must be for a wanted difference.

    Args:
        num_questions: of the test set; with a wanted difference it may be left out.
        num_images: the images they are about; as many as questions by default.
        accuracy: expected of both models, in [0, 1]; gives the discordance where that is not given.
        difference: wanted, in [0, 1].
        discordance: share of the questions on which one model is right and the other wrong.
        correlation: of two differences about one image, in [0, 1]; `IMAGE_CORRELATION` by default.
        num_comparisons: planned, corrected together as if by Bonferroni.

    Returns:
        what `sightline power --json` prints; docs/power.md names its keys. Rates in [0, 1].

    Raises:
        StudyError: numbers that cannot be, or do not fit together.
        RefusedError: fewer images than a verdict needs.
    """
    correlation = IMAGE_CORRELATION if correlation is None else correlation
    _check(num_questions, num_images, accuracy, difference, discordance, correlation, num_comparisons)
    per_image = 1.0 if num_questions is None else num_questions / (num_images or num_questions)
    share = discordance if discordance is not None else _discordance(accuracy)
    alpha = ALPHA / num_comparisons
    plan: dict[str, Any] = {
        "schema": 1,
        "num_questions": num_questions,
        "num_images": None if num_questions is None else (num_images or num_questions),
        "questions_per_image": per_image,
        "accuracy": accuracy,
        "discordance": share,
        "discordance_from": _source(accuracy, discordance),
        "correlation": correlation,
        "num_comparisons": num_comparisons,
        "alpha": alpha,
        "power": POWER,
        "design_effect": design_effect(per_image, correlation),
        "detectable": None,
        "needed": None,
    }
    if num_questions is not None:
        plan["detectable"] = {
            name: _detectable(num_questions, per_image, share, within, alpha)
            for name, within in (("expected", correlation), ("independent", 0.0), ("alike", 1.0))
        } | {"unpaired": unpaired_detectable(num_questions, accuracy, alpha)}
    if difference is not None:
        if difference > share:
            raise StudyError(
                f"--difference {difference:g}: two models that differ on {share:.1%} of the questions cannot differ by "
                "more; give a larger --discordance, or a smaller difference"
            )
        plan["needed"] = {"difference": difference} | {
            name: questions_needed(difference, share, per_image, within, alpha=alpha)
            for name, within in (("expected", correlation), ("independent", 0.0), ("alike", 1.0))
        }
    plan["sentences"] = _say(plan)
    return plan


def design_effect(questions_per_image: float, correlation: float) -> float:
    """Compute by how much questions that share images widen the variance of a mean.

    Args:
        questions_per_image: on average; images with unequal numbers widen it further.
        correlation: of two values about one image.

    Source: Kish 1965, section 5.4.
    """
    return 1 + (questions_per_image - 1) * correlation


def questions_needed(
    difference: float, discordance: float, questions_per_image: float, correlation: float, *, alpha: float = ALPHA
) -> int | None:
    """Find the smallest number of questions that detects a difference with the planned power.

    Returns:
        the number; None where ten million are not enough.
    """
    low, high = math.ceil(MIN_GROUPS * questions_per_image), MAX_QUESTIONS
    if _detectable(high, questions_per_image, discordance, correlation, alpha) > difference:
        return None
    while low < high:
        middle = (low + high) // 2
        found = _detectable(middle, questions_per_image, discordance, correlation, alpha)
        low, high = (low, middle) if found <= difference else (middle + 1, high)
    return low


def unpaired_detectable(num_questions: int, accuracy: float | None, alpha: float = ALPHA) -> float:
    """Compute what two independent samples could detect, at one half correct where no accuracy is given.

    Source: the normal approximation for two proportions with equal variances.
    """
    rate = 0.5 if accuracy is None else accuracy
    quantiles = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER))
    return quantiles * math.sqrt(2 * rate * (1 - rate) / num_questions)


def _detectable(num_questions: int, per_image: float, discordance: float, correlation: float, alpha: float) -> float:
    error = math.sqrt(discordance * design_effect(per_image, correlation) / num_questions)
    return detectable_difference(error, num_questions / per_image - 1, alpha=alpha, power=POWER)


def _discordance(accuracy: float | None) -> float:
    return CHANGED if accuracy is None else 2 * accuracy * (1 - accuracy) * (1 - MODEL_CORRELATION)


def _source(accuracy: float | None, discordance: float | None) -> str:
    if discordance is not None:
        return "as given"
    if accuracy is None:
        return "assumed; 10 to 30% is usual"
    return f"of two models {accuracy:.0%} right whose answers correlate by {MODEL_CORRELATION:g}"


def _check(
    num_questions: int | None,
    num_images: int | None,
    accuracy: float | None,
    difference: float | None,
    discordance: float | None,
    correlation: float,
    num_comparisons: int,
) -> None:
    if num_questions is None and difference is None:
        raise StudyError("give --questions (and --images) of a test set, or a --difference that one is wanted for")
    if num_questions is None and num_images is not None:
        raise StudyError(f"--images {num_images} without --questions; give both")
    for name, count in (("questions", num_questions), ("images", num_images), ("comparisons", num_comparisons)):
        if count is not None and not 1 <= count <= MAX_QUESTIONS:
            raise StudyError(f"--{name} {count}: give a whole number of 1 to {MAX_QUESTIONS:,}")
    if num_questions is not None and num_images is not None and num_images > num_questions:
        raise StudyError(
            f"--images {num_images}: more than the {num_questions} questions; count the images asked about"
        )
    for name, rate in (("accuracy", accuracy), ("difference", difference), ("discordance", discordance)):
        if rate is not None and not 0 < rate < 1 and not (name == "discordance" and rate == 1):
            hint = f"; for {rate:g}% write {rate / 100:g}" if 1 <= rate < 100 else ""
            raise StudyError(f"--{name} {rate:g}: give a rate between 0 and 1{hint}")
    if not 0 <= correlation <= 1:
        raise StudyError(f"--correlation {correlation:g}: give a number from 0 to 1")
    if accuracy is not None and discordance is not None and discordance > (most := 2 * min(accuracy, 1 - accuracy)):
        raise StudyError(
            f"--discordance {discordance:g}: two models {accuracy:.0%} right differ on at most {most:.0%} of the "
            "questions; correct one of the two"
        )
    groups = num_images if num_images is not None else num_questions
    if groups is not None and groups < MIN_GROUPS:
        raise RefusedError(
            f"{groups} images: with fewer than {MIN_GROUPS} there is no verdict, whatever the difference; take more"
        )


def _say(plan: dict[str, Any]) -> list[str]:
    several = plan["questions_per_image"] > 1
    told = []
    if (found := plan["detectable"]) is not None:
        points = {name: f"{100 * value:.1f}" for name, value in found.items()}
        told.append(
            f"{plan['num_questions']:,} questions on {plan['num_images']:,} images can detect a difference of "
            f"{points['expected']} points or more ({POWER:.0%} power)."
        )
        if several:
            told.append(
                f"{points['independent']} points if questions about one image were independent, {points['alike']} if "
                "all of them were answered alike."
            )
        told.append(f"{points['unpaired']} points if the two models had been asked different questions.")
        if found["expected"] > plan["discordance"]:
            told.append(
                "Two such models cannot differ by that much: this test set can show nothing. Ask more questions."
            )
    if (needed := plan["needed"]) is not None:
        numbers = {name: _count(needed[name]) for name in ("expected", "independent", "alike")}
        images = f"{plan['questions_per_image']:.1f} an image" if several else "each on an image of its own"
        told.append(
            f"To detect a difference of {100 * needed['difference']:.1f} points, {numbers['expected']} questions are "
            f"needed, {images} ({POWER:.0%} power)."
        )
        if several:
            told.append(f"{numbers['independent']} if they were independent, {numbers['alike']} if answered alike.")
    return [*told, _assumed(plan)]


def _assumed(plan: dict[str, Any]) -> str:
    sentence = f"Taken: the models differ on {plan['discordance']:.1%} of the questions ({plan['discordance_from']})"
    if plan["questions_per_image"] > 1:
        sentence += (
            f"; two differences about one image correlate by {plan['correlation']:g}, and images have equal numbers "
            "of questions (`check` takes those they have)"
        )
    if plan["num_comparisons"] > 1:
        sentence += f"; {plan['num_comparisons']} comparisons are corrected together"
    return f"{sentence}. After a run, `compare` gives what was detectable from the measured error."


def _count(number: int | None) -> str:
    return f"more than {MAX_QUESTIONS:,}" if number is None else f"{number:,}"

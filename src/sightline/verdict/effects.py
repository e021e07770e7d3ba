"""A grid's factors: what each does on average, and whether that depends on another.

Everything here is exploratory. A main effect averages over the other factors' values; an interaction is how much the
effect of one factor changes with another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sightline.scoring.metrics import Metric
from sightline.verdict.pairs import Difference, Refusal
from sightline.verdict.questions import Arms, Asked, EvaluationSet, Question, Run, examine, find_runs, judge, split_name
from sightline.verdict.sentences import measured_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial:
    """Models that cross some settings: each combination of values has one model.

    Args:
        step: the step that makes them.
        factors: setting to its values, in the order given; the first is what the others are held against.
        models: one value of each factor, in their order, to the model that has it.
    """

    step: str
    factors: Mapping[str, tuple[str, ...]]
    models: Mapping[tuple[str, ...], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effect:
    """What is estimated: the mean over pairs of models, times `scale`."""

    title: str
    name: str
    against: str
    pairs: tuple[tuple[str, str], ...]
    scale: int


def factor_effects(
    arms: Arms,
    sets: Mapping[str, EvaluationSet],
    factorials: Sequence[Factorial],
    metrics: Sequence[Metric],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Estimate the main effects and the interactions of two factors, all of them corrected together.

    Args:
        arms: everything measured.
        sets: by name.
        factorials: the study's grids.
        metrics: by which.
        seed: of everything drawn.

    Returns:
        entries of compare.json, `model` and `against` being settings, with `step`, `title` (in words) and `kind`
        ("main effect" or "interaction") besides. An interaction is a difference of two differences; neither direction
        of it is better.
    """
    questions, found = [], []
    for factorial in factorials:
        made = set(factorial.models.values())
        places = sorted({(data, template) for model, data, template in arms if split_name(model)[0] in made})
        for metric, (data, template), effect in itertools.product(metrics, places, list(_effects(factorial))):
            asked = Asked(effect.name, effect.against, metric, data, template)
            runs: list[Run] = []
            for model, against in effect.pairs:
                pairs = find_runs(arms, asked._replace(model=model, against=against))
                runs += () if isinstance(pairs, Refusal) else pairs
            if len(runs) < len(effect.pairs):
                continue
            if effect.scale > 1:
                asked = asked._replace(metric=replace(metric, neutral=True))
            questions.append(_scaled(examine(arms, sets[data], asked, runs, seed=seed), effect.scale))
            kind = "interaction" if effect.scale > 1 else "main effect"
            where = measured_by({"metric": metric.name, "data": data, "template": template})
            found.append({"step": factorial.step, "kind": kind, "title": f"{effect.title}, {where}"})
    return [entry | more for entry, more in zip(judge(questions, seed=seed), found, strict=True)]


def _effects(factorial: Factorial) -> Iterator[_Effect]:
    for place, (name, (first, *others)) in enumerate(factorial.factors.items()):
        averaged = ", ".join(other for other in factorial.factors if other != name)
        for value in others:
            pairs = [
                (model, factorial.models[_with(key, {place: first})])
                for key, model in factorial.models.items()
                if key[place] == value
            ]
            title = f"{name} {value} instead of {first}" + f", averaged over {averaged}" * bool(averaged)
            yield _Effect(title=title, name=f"{name} {value}", against=f"{name} {first}", pairs=tuple(pairs), scale=1)
    for one, other in itertools.combinations(range(len(factorial.factors)), 2):
        yield from _interactions(factorial, one, other)


def _interactions(factorial: Factorial, one: int, other: int) -> Iterator[_Effect]:
    (name, (first, *values)), (beside, (usual, *changes)) = (list(factorial.factors.items())[n] for n in (one, other))
    for value, change in itertools.product(values, changes):
        pairs = []
        for key in factorial.models:
            if (key[one], key[other]) == (value, change):
                both, only_beside, neither, only_one = (
                    factorial.models[_with(key, {one: here, other: there})]
                    for here, there in ((value, change), (first, change), (first, usual), (value, usual))
                )
                pairs += [(both, only_beside), (neither, only_one)]
        yield _Effect(
            title=f"the effect of {name} {value} instead of {first}, with {beside} {change} less with {usual}",
            name=f"{name} {value} with {beside} {change}",
            against=f"{name} {value} with {beside} {usual}",
            pairs=tuple(pairs),
            scale=2,
        )


def _with(key: tuple[str, ...], values: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(values.get(place, value) for place, value in enumerate(key))


def _scaled(question: Question, scale: int) -> Question:
    """Multiply a question's differences: the mean over an interaction's two pairs is half of it."""
    if scale == 1:
        return question

    def times(found: Difference | Refusal) -> Difference | Refusal:
        if isinstance(found, Refusal):
            return found
        low, high = found.interval
        return replace(
            found,
            value=scale * found.value,
            interval=(scale * low, scale * high),
            standard_error=scale * found.standard_error,
        )

    return replace(
        question,
        differences={rule: times(found) for rule, found in question.differences.items()},
        clean=question.clean and times(question.clean),
    )

"""From a question to its verdict: which runs it is about, what they differ by, and what may be said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sightline.records import Sample
from sightline.scoring.metrics import Metric
from sightline.verdict import statistics
from sightline.verdict.columns import ArmScores, group_names
from sightline.verdict.counts import bounds_of_unparsed, brief, counts_of, num_read, num_unparsed, seen_counts
from sightline.verdict.findings import ALPHA, MAX_SEEN, POWER, Adjusted, Counting, Finding, adjust, finding, verdict
from sightline.verdict.pairs import (
    Difference,
    Pairs,
    Refusal,
    Rule,
    estimate_difference,
    pair_scores,
)
from sightline.verdict.sentences import LEAKAGE, ONE_RUN, say

COUNTINGS: tuple[Counting, ...] = ("wrong", "left_out", "clean")

Arms = Mapping[tuple[str, str, str], Mapping[str, ArmScores]]
"""(model, data set, template) to metric name to scores."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """What is known of an evaluation set.

    Args:
        samples: by id.
        seen: sample id to how training has seen it ("row", "image", "near-duplicate"); clean ones are not in it.
        groups: sample id to the name of its group, see `columns.group_names`.
    """

    samples: Mapping[str, Sample]
    seen: Mapping[str, str]
    groups: Mapping[str, str]

    @classmethod
    def of(cls, samples: Mapping[str, Sample], seen: Mapping[str, str] | None = None) -> EvaluationSet:
        """Find the groups of a set's samples."""
        return cls(samples, seen or {}, group_names(samples))


EMPTY_SET = EvaluationSet({}, {}, {})


class Asked(NamedTuple):
    """A comparison brought to one metric, data set and template; with a margin, it is asked whether that is kept."""

    model: str
    against: str
    metric: Metric
    data: str
    template: str
    margin: float | None = None


class Run(NamedTuple):
    """One pair of checkpoints; `seed` is None where neither name has one."""

    seed: int | None
    model: str
    against: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is known about a question before its family is corrected.

    Args:
        asked: the question.
        runs: pairs of checkpoints it averages over.
        pairs: matched scores, or why there are none.
        differences: by rule for unparsed answers; "wrong" alone where there are none.
        bounds: the difference whatever unparsed answers had been; None without any.
        seen: how many questions training has seen, by how.
        clean: the difference on the others; None where all are clean.
    """

    asked: Asked
    runs: tuple[Run, ...]
    pairs: Pairs | Refusal
    differences: Mapping[Rule, Difference | Refusal] = dataclasses.field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    seen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    clean: Difference | Refusal | None = None

    @property
    def difference(self) -> Difference | Refusal:
        """Under the primary rule."""
        if isinstance(self.pairs, Refusal):
            return self.pairs
        primary = self.differences["wrong"]
        if isinstance(primary, Difference) and self.is_leaked and isinstance(self.clean, Refusal):
            num_seen, num_asked = sum(self.seen.values()), len(self.pairs.sample_ids)
            why = self.clean.reason + f": {self.clean.detail}" * bool(self.clean.detail)
            return Refusal(LEAKAGE, f"{num_seen:,} of {num_asked:,} questions; of the others nothing is known: {why}")
        return primary

    @property
    def is_leaked(self) -> bool:
        """Whether training has seen so much that the clean questions must bear the verdict out."""
        return isinstance(self.pairs, Pairs) and sum(self.seen.values()) > MAX_SEEN * len(self.pairs.sample_ids)

    @property
    def num_runs(self) -> int:
        """Training runs: seeds."""
        return len({run.seed for run in self.runs})

    def under(self, counting: Rule | Counting) -> Difference | Refusal:
        """Under another counting, the same where it changes nothing."""
        if counting == "clean":
            return self.clean or self.difference
        return self.differences.get(counting, self.difference)


def split_name(model: str) -> tuple[str, int | None]:
    """Split "sft.a16@0" into recipe and seed; the seed is None without one."""
    recipe, at, seed = model.rpartition("@")
    return (recipe, int(seed)) if at and seed.isdecimal() else (model, None)


def answer_family(
    arms: Arms,
    sets: Mapping[str, EvaluationSet],
    family: Sequence[Asked],
    *,
    seed: int,
    with_checkpoints: bool = True,
) -> list[dict[str, Any]]:
    """Answer a family of questions, corrected together; the single checkpoints of seeded recipes form another.

    Args:
        arms: everything measured.
        sets: by name.
        family: the questions.
        seed: of everything drawn.
        with_checkpoints: whether each training run of a recipe gets a verdict of its own.

    Returns:
        one entry of compare.json per question, in the order asked.
    """
    recipes, checkpoints = [], []
    for asked in family:
        runs = find_runs(arms, asked)
        recipes.append(examine(arms, sets.get(asked.data, EMPTY_SET), asked, runs, seed=seed))
        several = runs if with_checkpoints and not isinstance(runs, Refusal) and len(runs) > 1 else ()
        checkpoints.append(
            [
                examine(arms, sets[asked.data], asked._replace(model=run.model, against=run.against), (run,), seed=seed)
                for run in several
            ]
        )
    entries = judge(recipes, seed=seed)
    singles = iter(judge([question for group in checkpoints for question in group], seed=seed))
    for entry, group in zip(entries, checkpoints, strict=True):
        entry["checkpoints"] = [next(singles) for _ in group]
    return entries


def find_runs(arms: Arms, asked: Asked) -> tuple[Run, ...] | Refusal:
    """Pair the checkpoints of two names: equal seeds, or each seed with a model that has none."""

    def seeds_of(name: str) -> dict[int | None, str]:
        if (name, asked.data, asked.template) in arms:
            return {None: name}
        names = sorted(model for model, *place in arms if place == [asked.data, asked.template])
        return {split_name(model)[1]: model for model in names if split_name(model)[0] == name}

    model, against = seeds_of(asked.model), seeds_of(asked.against)
    if not model or not against:
        missing = " and ".join(name for name, found in ((asked.model, model), (asked.against, against)) if not found)
        return Refusal("nothing scored", f"no answers on {asked.data} by {missing}")
    if None in against:
        return tuple(Run(seed, name, against[None]) for seed, name in sorted(model.items(), key=_by_seed))
    if None in model:
        return tuple(Run(seed, model[None], name) for seed, name in sorted(against.items(), key=_by_seed))
    if model.keys() != against.keys():
        listed = "; ".join(
            f"{name} has seeds {', '.join(str(seed) for seed, _ in sorted(found.items(), key=_by_seed))}"
            for name, found in ((asked.model, model), (asked.against, against))
        )
        return Refusal("unmatched samples", listed)
    return tuple(Run(seed, name, against[seed]) for seed, name in sorted(model.items(), key=_by_seed))


def _by_seed(item: tuple[int | None, str]) -> int:
    return -1 if item[0] is None else item[0]


def examine(arms: Arms, data: EvaluationSet, asked: Asked, runs: Sequence[Run] | Refusal, *, seed: int) -> Question:
    """Pair the scores of a question and estimate the difference under every counting.

    Args:
        arms: everything measured.
        data: the question's evaluation set.
        asked: the question.
        runs: pairs of checkpoints to average over; those of one seed are one training run.
        seed: of everything drawn.
    """
    if isinstance(runs, Refusal):
        return Question(asked=asked, runs=(), pairs=runs)
    place, metric, runs = (asked.data, asked.template), asked.metric, tuple(runs)
    names = [name for run in runs for name in (run.model, run.against)]
    missing = sorted({name for name in names if not arms[name, *place].get(metric.name)})
    if missing:
        refusal = Refusal("nothing scored", f"no {metric.name} on {asked.data} for {', '.join(missing)}")
        return Question(asked=asked, runs=runs, pairs=refusal)
    pairs = pair_scores(
        data.samples,
        metric,
        [arms[run.model, *place][metric.name] for run in runs],
        [arms[run.against, *place][metric.name] for run in runs],
        groups=data.groups,
        seeds=[run.seed for run in runs],
    )
    if isinstance(pairs, Refusal):
        return Question(asked=asked, runs=runs, pairs=pairs)

    def estimate(pairs: Pairs, rule: Rule) -> Difference | Refusal:
        return estimate_difference(metric, pairs, rule, seed=seed, alpha=ALPHA, margin=asked.margin)

    unparsed = any(num_unparsed(pairs).values())
    rules: tuple[Rule, ...] = ("wrong", "left_out") if unparsed else ("wrong",)
    differences: dict[Rule, Difference | Refusal] = {rule: estimate(pairs, rule) for rule in rules}
    is_known = isinstance(differences["wrong"], Difference)
    seen, clean = seen_counts(data.seen, pairs), None
    if seen:
        unseen = pairs.only([name for name in pairs.sample_ids if name not in data.seen])
        clean = estimate(unseen, "wrong") if unseen.sample_ids else Refusal("nothing scored", "no question is left")
    return Question(
        asked=asked,
        runs=runs,
        pairs=pairs,
        differences=differences,
        bounds=bounds_of_unparsed(metric, pairs) if unparsed and is_known else None,
        seen=seen,
        clean=clean,
    )


def judge(questions: Sequence[Question], *, seed: int) -> list[dict[str, Any]]:
    """Correct a family for its size, and give each question its verdict and sentence."""
    decidable = [question for question in questions if isinstance(question.difference, Difference)]
    adjusted = {counting: adjust([question.under(counting) for question in decidable]) for counting in COUNTINGS}
    entries = []
    for question in questions:
        entry = _describe(question, seed)
        if question in decidable:
            place = decidable.index(question)
            _decide(question, entry, {counting: adjusted[counting][place] for counting in COUNTINGS})
        entry["sentence"] = say(entry, family_size=len(decidable), alpha=ALPHA, power=POWER)
        entries.append(entry)
    return entries


def _decide(question: Question, entry: dict[str, Any], adjusted: Mapping[Counting, Adjusted]) -> None:
    """Fill in what a question's family decides."""
    metric, margin = question.asked.metric, question.asked.margin
    primary = adjusted["wrong"]
    entry["p_adjusted"], entry["p_check_adjusted"] = primary.p, primary.p_check
    if entry["margin"] is not None:
        entry["margin"] |= {"not_worse": primary.not_worse and not metric.neutral, "equivalent": primary.equivalent}
    if entry["seen"] and entry["seen"]["clean"]:
        entry["seen"]["clean"]["p_adjusted"] = adjusted["clean"].p
    # What changes nothing about this question must not decide it by changing its family's correction.
    applies = {"wrong": True, "left_out": "left_out" in question.differences, "clean": question.is_leaked}
    findings: dict[Counting, Finding] = {
        counting: finding(question.under(counting), adjusted[counting], metric=metric, num_runs=question.num_runs)
        for counting in COUNTINGS
        if applies[counting]
    }
    entry["verdict"], entry["reason"] = verdict(findings, question.bounds or (), metric=metric, margin=margin)


def _describe(question: Question, seed: int) -> dict[str, Any]:
    """Write a question down as compare.json holds it, its verdict still open."""
    asked, difference = question.asked, question.difference
    known = difference if isinstance(difference, Difference) else None
    detectable = known and statistics.detectable_difference(
        known.standard_error, known.degrees_of_freedom, alpha=ALPHA, power=POWER
    )
    entry: dict[str, Any] = {
        "model": asked.model,
        "against": asked.against,
        "metric": asked.metric.name,
        "data": asked.data,
        "template": asked.template,
        "verdict": "cannot decide",
        "sentence": "",
        "reason": difference.reason if isinstance(difference, Refusal) else "",
        "detail": difference.detail if isinstance(difference, Refusal) else "",
        "unit": asked.metric.unit,
        "higher_is_better": asked.metric.higher_is_better,
        "neutral": asked.metric.neutral,
        "difference": known and known.value,
        "interval": known and list(known.interval),
        "standard_error": known and known.standard_error,
        "degrees_of_freedom": known and known.degrees_of_freedom,
        "p": known and known.p,
        "p_adjusted": None,
        "p_check": known and known.p_check,
        "p_check_adjusted": None,
        "p_check_method": known and known.p_check_method,
        "detectable": detectable,
        "num_groups_needed": known
        and detectable
        and statistics.num_clusters_needed(known.num_groups, detectable, known.value),
        "run_share": known and known.runs and known.runs.share,
        "num_runs_needed": known and known.runs and known.runs.num_needed,
        "margin": known and known.margin and known.margin._asdict() | {"interval": list(known.margin.interval)},
        "method": known and known.method,
        "seed": seed,
        "seeds": sorted({run.seed for run in question.runs if run.seed is not None}),
        "note": ONE_RUN if question.num_runs == 1 else "",
        "by_rule": _by_rule(question),
        "seen": {"num_seen": dict(question.seen), "clean": brief(question.clean)} if question.seen else None,
        "checkpoints": [],
    }
    return entry | counts_of(asked.metric, question.pairs)


def _by_rule(question: Question) -> dict[str, Any] | None:
    """Give the difference without the questions whose answers could not be read, and the bounds; None without any."""
    left_out = question.differences.get("left_out")
    if left_out is None or isinstance(question.pairs, Refusal):
        return None
    return {
        "left_out": brief(left_out),
        "num_left": num_read(question.pairs),
        "left_out_reason": f"{left_out.reason}: {left_out.detail}" if isinstance(left_out, Refusal) else "",
        "bounds": question.bounds and list(question.bounds),
    }

"""Look at a study before it starts: every check in order, findings given as they are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.checking.combined import check_averages, faults_of_averages, faults_of_choices
from sightline.checking.findings import FINDINGS, Finding, in_order
from sightline.checking.labels import check_labels, check_room, check_sharing
from sightline.checking.outside import check_destinations, check_licences
from sightline.checking.overlap import check_overlap, check_whole, seen_items, trained_on
from sightline.checking.pictures import check_identity, near_duplicates
from sightline.checking.plans import (
    check_budgets,
    check_comparisons,
    check_habits,
    check_members,
    check_share_seen,
    check_to_be_made,
)
from sightline.checking.power import check_detectable, check_enough
from sightline.checking.resources import check_cost
from sightline.checking.rows import (
    check_answer_types,
    check_balance,
    check_problems,
    check_repeats,
    check_sizes,
    row_key,
)
from sightline.checking.templates import check_form, check_markers, check_template, check_tokenised
from sightline.data.fetching import pinned
from sightline.data.known_pictures import facts_of
from sightline.data.problems import Problem
from sightline.errors import DataError, SightlineError, StudyError, UnsupportedModelError
from sightline.records import Answer, Picture, Sample
from sightline.runner.curricula import stages_of
from sightline.runner.estimate import bases_of, destinations, estimate_work, is_small, licences, this_machine
from sightline.runner.judges import refuse_judges
from sightline.runner.metrics import metric_of, metrics_of
from sightline.runner.prepare import base_of, common_setting, fit_to_model, prepare, render_samples, study_family
from sightline.runner.reading import Prepared, read_data
from sightline.runner.served import refuse_served_models
from sightline.scoring.metrics import METRICS, Metric
from sightline.study import Plan, Study, model_location, plan_study, refuse_unbuilt, source_location
from sightline.study.names import MAKES_DATA, with_mixed
from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.statistics import detectable_difference, groups_needed

if TYPE_CHECKING:
    from sightline.models.family import Family


class StudyCheck:
    """A look at a study that trains nothing: iterate over it for the findings, as they are found.

    What needs no data comes first, what needs a model last. Findings that the study accepts carry its reason.

    Args:
        study: what is to be looked at.

    Raises:
        StudyError: while iterating: if the study accepts what no check finds, names no metric that there is, or asks
            for what is not built.
        DataError: while iterating: if a source cannot be read or divided, once what was found before has been given.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.problems: list[Problem] = []
        """What was wrong with rows, as far as the look has come."""

    def __iter__(self) -> Iterator[Finding]:
        yield from _accepted(self.study, self._looks())

    def _looks(self) -> Iterator[Finding]:
        study = self.study
        metrics_of(study)
        yield from _check_plan(study, plan_study(study))
        refuse_unbuilt(study)
        prepared = read_data(study)
        self.problems = prepared.problems
        refuse_judges(prepared)
        refuse_served_models(prepared)
        yield from _check_sets(prepared)
        try:
            family = fit_to_model(prepared)
        except SightlineError:
            yield from _check_problems(prepared)  # what is wrong with the rows comes first
            raise
        yield from _check_problems(prepared)
        yield from _check_rendered(prepared, family)

        from sightline.runner.first_loss import look_at_first_loss
        from sightline.runner.make import Shelf, look_at_models

        shelf = Shelf(prepared, Path(), families={model_location(study, study.base): family})
        yield from look_at_models(shelf)
        if is_small(prepared):
            yield from look_at_first_loss(shelf)


def check_prepared(prepared: Prepared, family: Family) -> list[Finding]:
    """Look at everything that can be looked at before a model is loaded.

    Args:
        prepared: the data; which of its test rows training has seen is filled in.
        family: template and tokenizer.

    Returns:
        Findings, faults first; those the study accepts carry its reason.
    """

    def looks() -> Iterator[Finding]:
        yield from _check_plan(prepared.study, prepared.plan)
        yield from _check_sets(prepared)
        yield from _check_problems(prepared)
        yield from _check_rendered(prepared, family)

    return in_order(_accepted(prepared.study, looks()))


def estimate_study(study: Study) -> Finding | None:
    """Estimate what a study needs: its data is read, no model is loaded. None where its base's size is not known.

    Raises:
        SightlineError: if data or base are not here, or rows cannot be used.
    """
    return next((finding for finding in _check_rendered(*prepare(study)) if finding.name == "cost"), None)


def accept(study: Study, finding: Finding) -> Finding:
    """Put the study's reason for going past it on a finding, if it gives one."""
    return dataclasses.replace(finding, accepted=study.accept.get(finding.name))


def _accepted(study: Study, findings: Iterable[Finding]) -> Iterator[Finding]:
    for name in study.accept:
        if name not in FINDINGS:
            raise StudyError(f"accept.{name}: no check finds that; there is {', '.join(sorted(FINDINGS))}")
    yield from (accept(study, finding) for finding in findings)


def _check_plan(study: Study, plan: Plan) -> Iterator[Finding]:
    yield from check_destinations(destinations(study, plan))
    _refuse_combined(study, plan)
    yield from check_averages(plan.runs, study.steps, _bare(study))
    yield from check_comparisons(plan.comparisons, plan.runs, bases_of(study, plan))
    yield from check_members(plan.runs)
    yield from check_habits(plan.runs)
    yield from check_licences(licences(study, plan))


def _refuse_combined(study: Study, plan: Plan) -> None:
    """Refuse averages and choices that cannot be made; see `checking.combined`."""
    bare = _bare(study)
    bases = {name: base_of(study, plan, name) for run in plan.runs for name in (run.name, *run.parents)}
    parts = {name: with_mixed(study, name) for name in (*plan.asked, *(name for run in plan.runs for name in run.on))}
    unfit = dict.fromkeys(study.judges, "is a judge") | {
        name: "has no better side" for name, metric in METRICS.items() if metric.neutral
    }
    faults = [
        *faults_of_averages(plan.runs, study.steps, bases, bare),
        *faults_of_choices(
            plan.runs,
            study.steps,
            bases,
            bare,
            asked={part for name in plan.asked for part in (name, *parts[name])},
            parts=parts,
            unfit=unfit,
        ),
    ]
    if faults:
        raise StudyError("\n".join(dict.fromkeys(faults)))


def _bare(study: Study) -> set[str]:
    """Name the models that have no adapter."""
    return {"base", *(name for name, other in study.models.items() if other.adapter is None)}


def _check_sets(prepared: Prepared) -> Iterator[Finding]:
    # What validation has seen chooses the model, so for the test set it counts as training.
    train = {name: prepared.sets[name] for run in prepared.plan.runs for name in (*run.on, *run.validation)}
    test = {name: prepared.asked(name) for name in prepared.plan.asked}
    to_be_made = {run.name: run for run in prepared.plan.runs if run.method in MAKES_DATA}
    for name, samples in {**train, **test}.items():
        if name in to_be_made:
            yield from check_to_be_made(to_be_made[name], len(samples))
            continue
        yield from check_sizes(name, samples)
        yield from check_repeats(name, samples)
        yield from check_balance(name, samples)
        yield from check_answer_types(name, samples)
        yield from check_markers(name, samples)
        yield from check_identity(name, samples)
    num_steps: dict[str, int] = {}
    num_rows: dict[str, list[int]] = {}
    for run in prepared.plan.runs:
        if run.training is not None:
            stages = stages_of(run, prepared)
            num_steps[run.name] = sum(stage.num_steps(run.training.batch_size) for stage in stages)
            if to_be_made.keys().isdisjoint(run.on):
                num_rows[run.name] = [len(stage.samples) for stage in stages]
    yield from check_share_seen(prepared.plan.runs, num_rows)
    yield from check_budgets(prepared.plan.comparisons, prepared.plan.runs, num_steps)
    yield from check_form(
        train,
        test,
        prompts=prepared.study.evaluate.prompts,
        system=common_setting(prepared.plan, "system", None),  # pyright: ignore
    )
    yield from _check_split(prepared, train, test)
    yield from _check_power(prepared, test)


def _check_split(
    prepared: Prepared, train: Mapping[str, Sequence[Sample]], test: Mapping[str, Sequence[Sample]]
) -> Iterator[Finding]:
    trained = trained_on(train)
    shown, asked = _pictures(train), _pictures(test)
    near = near_duplicates(shown, asked, lambda picture: facts_of(picture).look)
    for name, samples in test.items():
        prepared.seen[name] = dict(seen_items(trained, samples, near))
        loaded = {part: held for data in prepared.read_for(name) for part, held in prepared.loaded[data].items()}
        whole = list(
            check_whole(
                name,
                len(prepared.sets[name]),
                is_whole=name in prepared.whole,
                released={split: len(part.samples) for split, part in loaded.items()},
                num_trained=sum(row_key(sample) in trained.rows for sample in prepared.sets[name])
                if _learns_from_its_source(prepared, name, train)
                else 0,
            )
        )
        yield from whole or check_overlap(name, samples, trained, near)


def _learns_from_its_source(prepared: Prepared, name: str, train: Iterable[str]) -> bool:
    """Whether a set that is asked comes from a source that models are trained on, too."""

    def sources(of: str) -> set[str]:
        return {pinned(source_location(prepared.study, prepared.study.data[data])) for data in prepared.read_for(of)}

    return any(not sources(name).isdisjoint(sources(trained)) for trained in train)


def _pictures(sets: Mapping[str, Sequence[Sample]]) -> dict[str, Picture]:
    return {picture.sha256: picture for samples in sets.values() for sample in samples for picture in sample.pictures}


def _check_power(prepared: Prepared, test: Mapping[str, Sequence[Sample]]) -> Iterator[Finding]:
    study, comparisons = prepared.study, prepared.plan.comparisons
    num_comparisons = len(comparisons) * len(test) * len(study.evaluate.prompts)
    decisive = groups_needed(num_comparisons) if num_comparisons else 0

    def look(name: str, samples: Sequence[Sample], by: str = "") -> list[Finding]:
        return list(check_enough(name, samples, least=MIN_GROUPS, decisive=decisive, by=by))

    few = {name: look(name, samples) for name, samples in test.items()}
    yield from (finding for found in few.values() for finding in found)
    for by in dict.fromkeys(comparison.by for comparison in comparisons):
        metric = metric_of(study, by)
        if metric.unit != "rate":
            continue
        for name, samples in test.items():
            counted = [sample for sample in samples if _counts(metric, sample)]
            if counted and not few[name]:
                yield from look(name, counted, by)
            yield from check_detectable(
                name,
                counted,
                by=by,
                num_comparisons=num_comparisons,
                detectable=lambda error, degrees, alpha: detectable_difference(error, degrees, alpha=alpha),
            )


def _counts(metric: Metric, sample: Sample) -> bool:
    """Whether a metric has anything to say of a question; a user's own is not asked before there are answers."""
    if metric.score is None or ":" in metric.name:
        return True
    answer = Answer(sample_id=sample.id, model="", data="", text=sample.answer, finish_reason="stop", num_tokens=1)
    return metric.score(sample, answer).outcome != "not_applicable"


def _check_problems(prepared: Prepared) -> Iterator[Finding]:
    skips = prepared.on_bad_row == "skip" and "bad-rows" not in prepared.study.accept
    yield from check_problems(prepared.problems, num_rows=prepared.num_rows, skipped=skips)


def _check_rendered(prepared: Prepared, family: Family) -> Iterator[Finding]:
    """Look at the rows as the model sees them."""
    study = prepared.study
    own = _own_template(prepared, family)
    if own is not None and own is not family:
        yield from check_template(own, family, str(common_setting(prepared.plan, "template", "own")))
    to_be_made = {run.name for run in prepared.plan.runs if run.method in MAKES_DATA}
    executed: dict[tuple[str, ...], int] = {}
    seen: set[tuple[object, ...]] = set()
    for run in prepared.plan.runs:
        settings = run.training
        if settings is None:
            continue
        key = (run.on, settings.train_on, settings.eos, settings.question_suffix, settings.system)
        if key in seen:
            continue
        seen.add(key)
        sequences = render_samples(prepared, family, run.on, settings)
        samples = prepared.samples(run.on)
        name = ", ".join(run.on)
        if not samples:
            raise DataError(f"no row of {name} is left to train on; look at the rows left out, `where` and `take`")
        stands_in = not to_be_made.isdisjoint(run.on)  # of rows with other answers, what is at fault in any case
        for finding in check_labels(name, samples, sequences, family.end_token_ids):
            if finding.severity == "fault" or not stands_in:
                yield finding
        if own is not None:
            yield from check_tokenised(name, samples, sequences, own, family.chat.tokenizer.decode)
        longest = max(map(len, sequences))
        row_tokens = settings.row_tokens if isinstance(settings.row_tokens, int) else 4 * longest
        if stands_in:  # their own answers are never learnt, and may be longer than a row
            row_tokens = max(row_tokens, longest)
        for finding in check_sharing(
            name, samples, sequences, row_tokens, batch_size=settings.batch_size, branch_cap=settings.branch_cap
        ):
            executed[run.on] = finding.evidence["executed_tokens"]
            if not stands_in:
                yield finding
    for name in prepared.plan.asked:
        samples = prepared.asked(name)
        room = study.evaluate.for_set(name).max_new_tokens
        where = f"evaluate.decoding.{name}" if name in study.evaluate.decoding else "evaluate"
        lengths = [_answer_length(family, sample.answer, room) for sample in samples]
        yield from check_room(name, samples, lengths, room, key=f"{where}.max_new_tokens")
    work = estimate_work(prepared, family, executed)
    if work is not None:
        yield from check_cost(work, this_machine(), gpu_hours=study.budget.gpu_hours)


def _own_template(prepared: Prepared, family: Family) -> Family | None:
    """Load what renders by the model's own template; None where the model has none."""
    if common_setting(prepared.plan, "template", "own") == "own":
        return family
    try:
        return study_family(
            prepared.study, prepared.plan, model_location(prepared.study, prepared.study.base), template="own"
        )
    except UnsupportedModelError:
        return None


def _answer_length(family: Family, answer: str, limit: int) -> int:
    """Count an answer's tokens with its end; 0 for one too short to reach the limit, as no byte makes two tokens."""
    if len(answer.encode()) < limit:
        return 0
    return len(family.tokenize(answer)[0]) - len(family.tokenize("")[0]) + 1

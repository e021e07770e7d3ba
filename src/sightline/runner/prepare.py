"""Before any weight is loaded: read the data, render it, check it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sightline.data.problems import Bound, Problem, problem_of, too_long
from sightline.data.sets import samples_sha256
from sightline.errors import SightlineError, StudyError
from sightline.records import Sample
from sightline.runner.hub import missing_base, missing_models, refuse_unreachable
from sightline.runner.metrics import metrics_of
from sightline.runner.reading import Prepared, read_data
from sightline.study import Plan, StepRun, Study, Training, model_location
from sightline.study.names import MAKES_DATA, without_stage

if TYPE_CHECKING:
    from sightline.models.family import Family
    from sightline.trees.render import Rendered


def prepare(study: Study) -> tuple[Prepared, Family]:
    """Read, divide and measure a study's data; every bad row is known before anything stops.

    Returns:
        the data, and what renders it; no weights are loaded.

    Raises:
        BadRowsError: naming every row that cannot be used, unless the study skips them.
        DataError: if a source cannot be read or divided.
        StudyError: if there is no such metric.
    """
    metrics_of(study)  # a wrong name is found now, not after the training
    prepared = read_data(study)
    try:
        family = fit_to_model(prepared)
    except SightlineError:
        prepared.refuse_bad_rows()  # what is wrong with the rows comes first
        raise
    prepared.refuse_bad_rows()
    return prepared, family


def fit_to_model(prepared: Prepared) -> Family:
    """Load what renders the study's conversations, and leave out the rows that it cannot take.

    Raises:
        MissingDataError: the base or an adapter is not here, and the hub cannot be reached.
        StudyError: if tokenised rows are to be asked or reworded.
    """
    study = prepared.study
    refuse_unreachable(missing_models(study, prepared.plan))
    family = study_family(study, prepared.plan, model_location(study, study.base))
    leave_out_misplaced(prepared, family)
    leave_out_too_long(prepared, family)
    return family


def common_setting(plan: Plan, name: str, default: object) -> object:
    """Return a setting that every answer depends on, and that therefore must not differ between steps.

    Raises:
        StudyError: if it does; the models would be asked different questions.
    """
    values = {getattr(run.settings, name) for run in plan.runs if run.training}
    if len(values) > 1:
        raise StudyError(f"steps differ in {name} ({sorted(map(str, values))}); their answers could not be compared")
    return values.pop() if values else default


def study_family(study: Study, plan: Plan, location: str, *, template: str | None = None) -> Family:
    """Load template and image processor as all steps agree on them, or with another template.

    Raises:
        MissingDataError: the base is not here, and the hub cannot be reached.
    """
    from sightline.models.loading import load_family

    refuse_unreachable(missing_base(location))
    template = template or str(common_setting(plan, "template", "own"))
    return load_family(
        location,
        pad_square=bool(common_setting(plan, "pad_square", False)),
        min_pixels=common_setting(plan, "min_pixels", None),  # pyright: ignore
        max_pixels=common_setting(plan, "max_pixels", None),  # pyright: ignore
        template_file=None if template == "own" else study.folder / template,
    )


def base_of(study: Study, plan: Plan, model: str) -> str:
    """Name the base a model sits on, as a location: that of the first model it was made from.

    A model on a server has none that is known: its server and name stand for it.
    """
    parents = {run.name: run.parents for run in plan.runs}
    model, _ = without_stage(model)
    while model in parents:
        model = parents[model][0]
    other = study.models.get(model)
    if other and other.server:
        return f"{other.model or 'a model'} on {other.server}"
    return model_location(study, other.base if other and other.base else study.base)


def wording_of(plan: Plan, text: str) -> tuple[str, str | None]:
    """Return the question's wording with the steps' suffix, and their system turn."""
    suffix = str(common_setting(plan, "question_suffix", ""))
    system = common_setting(plan, "system", None)
    return text.replace("{question}", "{question}" + suffix), None if system is None else str(system)


def render_samples(
    prepared: Prepared, family: Family, names: Sequence[str], settings: Training, *, rejected: bool = False
) -> list[Rendered]:
    """Render training or validation sets, once per set and way of rendering; in the order of `Prepared.samples`.

    Args:
        prepared: the data.
        family: template and tokenizer.
        names: of the sets.
        settings: of the training.
        rejected: render the rejected answers of preference pairs instead of the chosen ones.
    """
    return [sequence for name in names for sequence in _render_set(prepared, family, name, settings, rejected)]


def _render_set(
    prepared: Prepared, family: Family, name: str, settings: Training, rejected: bool = False
) -> list[Rendered]:
    from sightline.trees.render import render, render_tokens, reword

    key = (
        name,
        family.rendering_sha256,
        settings.train_on,
        settings.eos,
        settings.question_suffix,
        str(settings.system),
        str(rejected),
    )
    if key not in prepared.rendered:
        known = prepared.known.setdefault(family.rendering_sha256, set())
        prepared.rendered[key] = [
            render_tokens(family, sample.tokens, sample.pictures)
            if sample.tokens
            else render(
                family,
                reword(sample.messages, "{question}" + settings.question_suffix, system=settings.system),
                sample.pictures,
                sample.rejected if rejected else sample.answer,
                train_on=settings.train_on,
                end=settings.eos,
                name=sample.origin or sample.id,
                known=known,
            )
            for sample in prepared.sets[name]
        ]
    return prepared.rendered[key]


def render_prompt(prepared: Prepared, family: Family, sample: Sample, text: str) -> Rendered:
    """Render a question as the models are asked it, in one of the study's wordings."""
    from sightline.trees.render import render, reword

    wording, system = wording_of(prepared.plan, text)
    messages = reword(sample.messages, wording, system=system)
    known = prepared.known.setdefault(family.rendering_sha256, set())
    return render(family, messages, sample.pictures, None, name=sample.origin or sample.id, known=known)


def leave_out_misplaced(prepared: Prepared, family: Family) -> None:
    """Leave out tokenised rows whose image tokens do not match their pictures, or whose ids the model does not have.

    Raises:
        StudyError: if such rows are to be asked, or put into other words.
    """
    from sightline.trees.render import image_places

    num_ids = len(family.chat.tokenizer)
    tokenised = {name for name, samples in prepared.sets.items() if any(sample.tokens for sample in samples)}
    _refuse_to_reword(prepared, tokenised)
    for name in tokenised:
        kept = []
        for sample in prepared.sets[name]:
            found = sample.tokens and image_places(family, sample.tokens, sample.pictures)
            if found and found[0] not in (found[1], len(sample.pictures)):
                told = f"{found[0]:,} image tokens for {len(sample.pictures)} pictures of {found[1]:,} features"
                prepared.problems.append(problem_of(sample, "image-count", told))
            elif sample.tokens and max(sample.tokens.input_ids) >= num_ids:
                told = f"token id {max(sample.tokens.input_ids):,} where the model's tokenizer has {num_ids:,}"
                prepared.problems.append(problem_of(sample, "wrong-type", told))
            else:
                kept.append(sample)
        prepared.sets[name] = tuple(kept)


def _refuse_to_reword(prepared: Prepared, tokenised: set[str]) -> None:
    if asked := sorted(tokenised.intersection(prepared.plan.asked)):
        raise StudyError(
            f"evaluate.on: the rows of {', '.join(asked)} come tokenised, so there is no question to ask; "
            "name a set with questions and answers"
        )
    for run in prepared.plan.runs:
        rewords = run.training is not None and (run.training.question_suffix or run.training.system is not None)
        if rewords and tokenised.intersection((*run.on, *run.validation)):
            raise StudyError(f"{run.name}: tokenised rows take no question_suffix and no system; remove them")


def leave_out_too_long(prepared: Prepared, family: Family) -> None:
    """Leave out samples longer than a row, or than the model's context with room for an answer; they are bad rows.

    Sets that a step will make are measured when they are made.
    """
    from sightline.trees.render import render, reword

    plan, evaluate = prepared.plan, prepared.study.evaluate
    made = {run.name for run in plan.runs if run.method in MAKES_DATA}
    found = {
        (name, sample_id): problem
        for run in plan.runs
        if run.training is not None
        for name in (*run.on, *run.validation)
        if name not in made
        for sample_id, problem in too_long_to_learn(prepared, family, run, name).items()
    }
    known = prepared.known.setdefault(family.rendering_sha256, set())
    for name in plan.asked:
        limit = family.context_length - evaluate.for_set(name).max_new_tokens
        for text in evaluate.prompts.values():
            wording, system = wording_of(plan, text)
            for sample in prepared.asked(name):
                messages = reword(sample.messages, wording, system=system)
                origin = sample.origin or sample.id
                length = len(render(family, messages, sample.pictures, None, name=origin, known=known))
                if length > limit:
                    found[name, sample.id] = _too_long(family, sample, length, limit, "answer")
    if not found:
        return
    prepared.problems += found.values()
    prepared.rendered.clear()
    for name in {name for name, _ in found}:
        prepared.sets[name] = tuple(s for s in prepared.sets[name] if (name, s.id) not in found)


def too_long_to_learn(prepared: Prepared, family: Family, run: StepRun, name: str) -> dict[str, Problem]:
    """Find the samples of a set that are too long for the model's context, or for a training's rows; by their id.

    Args:
        prepared: the data.
        family: template and tokenizer.
        run: what learns from them.
        name: of the set.
    """
    from sightline.trees.row import build_tree

    found: dict[str, Problem] = {}
    settings, samples = run.settings, prepared.sets[name]
    limit, bound = family.context_length, "context"
    if isinstance(settings.row_tokens, int) and settings.row_tokens < limit:
        limit, bound = settings.row_tokens, "row_tokens"

    def measure(sample: Sample, num_tokens: int) -> None:
        if num_tokens > limit:
            found[sample.id] = _too_long(family, sample, num_tokens, limit, bound)

    sequences = _render_set(prepared, family, name, settings)
    for sample, sequence in zip(samples, sequences, strict=True):
        measure(sample, len(sequence))
    if run.method == "dpo":
        others = _render_set(prepared, family, name, settings, rejected=True)
        for sample, *pair in zip(samples, sequences, others, strict=True):
            # One row holds both answers: what they share once as a tree, and twice without sharing.
            both = len(build_tree(pair, (0, 1))) if settings.layout == "tree" else sum(map(len, pair))
            measure(sample, len(pair[1]))
            if bound == "row_tokens":
                measure(sample, both)
    return found


def _too_long(family: Family, sample: Sample, num_tokens: int, limit: int, bound: Bound) -> Problem:
    has_pixels = "max_pixels" in family.picture_settings
    return too_long(sample, num_tokens=num_tokens, limit=limit, bound=bound, has_pixels=has_pixels)


def set_hashes(sets: Mapping[str, tuple[Sample, ...]]) -> dict[str, str]:
    """Hash every data set's rows."""
    return {name: samples_sha256(samples) for name, samples in sets.items()}


def problems_json(prepared: Prepared) -> list[dict[str, object]]:
    """Turn problems into plain values for `data/problems.json`."""
    return [dataclasses.asdict(problem) for problem in prepared.problems]

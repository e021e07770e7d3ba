"""Before any weight is loaded: read the data, render it, check it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sightline.checking.findings import FINDINGS, Finding
from sightline.checking.rows import check_balance, check_overlap, check_repeats, check_sizes
from sightline.data.problems import BadRowsError, Loaded, Problem, too_long
from sightline.data.sets import Source, divide, read_source, samples_sha256
from sightline.errors import DataError, SightlineError, StudyError
from sightline.records import Sample
from sightline.scoring.metrics import metric_named
from sightline.study import Plan, StepRun, Study, Training, model_location, plan_study, source_location

if TYPE_CHECKING:
    from sightline.models.family import Family
    from sightline.trees.render import Rendered


@dataclass(kw_only=True)
class Prepared:
    """A study's data, read and divided.

    Args:
        study: the study.
        plan: what it does.
        sets: "set.split" to its samples.
        loaded: data set to what its source held, split by split.
        problems: rows left out or repaired.
        rendered: what `render_samples` made, by set and way of rendering.
        known: shapes of conversations that rendering has looked at, by what renders; see `trees.render.render`.
    """

    study: Study
    plan: Plan
    sets: dict[str, tuple[Sample, ...]]
    loaded: dict[str, dict[str, Loaded]]
    problems: list[Problem] = field(default_factory=list)
    rendered: dict[tuple[str, ...], list[Rendered]] = field(default_factory=dict)
    known: dict[str, set[Any]] = field(default_factory=dict)

    @property
    def on_bad_row(self) -> Literal["stop", "skip"]:
        """Skip bad rows only if every step that trains says so."""
        asked = {run.settings.on_bad_row for run in self.plan.runs if run.training}
        return "skip" if asked == {"skip"} else "stop"

    def asked(self, name: str) -> tuple[Sample, ...]:
        """Give the rows of a set that the models are asked."""
        return self.sets[name][: self.study.evaluate.rows]

    def refuse_bad_rows(self) -> None:
        """Stop at rows that cannot be used, unless the study skips them.

        Raises:
            BadRowsError: naming every one of them, over all data sets.
        """
        faults = tuple(problem for problem in self.problems if not problem.repaired)
        if faults and self.on_bad_row == "stop":
            num_rows = sum(part.num_rows for parts in self.loaded.values() for part in parts.values())
            raise BadRowsError(faults, num_rows=num_rows)

    def samples(self, names: Sequence[str]) -> tuple[Sample, ...]:
        """Put sets together; ids stay unique by their set's name where they would clash."""
        if len(names) == 1:
            return self.sets[names[0]]
        together = [(name, sample) for name in names for sample in self.sets[name]]
        if len({sample.id for _, sample in together}) == len(together):
            return tuple(sample for _, sample in together)
        return tuple(dataclasses.replace(sample, id=f"{name}/{sample.id}") for name, sample in together)


def prepare(study: Study) -> tuple[Prepared, Family]:
    """Read, divide and measure a study's data; every bad row is known before anything stops.

    Returns:
        the data, and what renders it; no weights are loaded.

    Raises:
        BadRowsError: naming every row that cannot be used, unless the study skips them.
        DataError: if a source cannot be read or divided.
        StudyError: if there is no such metric.
    """
    for name in study.evaluate.metrics:
        metric_named(name, study.folder)  # a wrong name is found now, not after the training
    prepared = read_data(study)
    try:
        family = study_family(study, prepared.plan, model_location(study, study.base))
        leave_out_too_long(prepared, family)
    except SightlineError:
        prepared.refuse_bad_rows()  # what is wrong with the rows comes first
        raise
    prepared.refuse_bad_rows()
    return prepared, family


def read_data(study: Study) -> Prepared:
    """Read and divide every data set the study needs, without the rows that cannot be used.

    Raises:
        DataError: if a source cannot be read or divided.
    """
    plan = plan_study(study)
    prepared = Prepared(study=study, plan=plan, sets={}, loaded={})
    needed = {name.rpartition(".")[0] for name in plan.data}
    for name, block in study.data.items():
        if name not in needed or not block.source:
            continue
        source = Source(
            location=source_location(study, block),
            root=study.folder / study.data_root,
            format=block.format,
            subset=block.subset,
            columns=block.columns,
            images=block.images,
            take=block.take,
            where=block.where,
            seed=block.seed,
        )
        loaded = prepared.loaded[name] = read_source(source)
        prepared.problems += [problem for part in loaded.values() for problem in part.problems]
    for name, loaded in prepared.loaded.items():
        try:
            parts = _divided(study, name, loaded)
        except DataError:
            prepared.refuse_bad_rows()  # too few rows may be left because of them
            raise
        prepared.sets.update({f"{name}.{part}": samples for part, samples in parts.items()})
    return prepared


def _divided(study: Study, name: str, loaded: Mapping[str, Loaded]) -> dict[str, tuple[Sample, ...]]:
    split = study.data[name].split
    return divide(
        name,
        loaded,
        shares=split.shares,
        released=split.released,
        cuts={cut: (part.from_, part.share) for cut, part in split.cuts.items()},
        by=split.by,
        seed=study.data[name].seed,
    )


def common_setting(plan: Plan, name: str, default: object) -> object:
    """Return a setting that every answer depends on, and that therefore must not differ between steps.

    Raises:
        StudyError: if it does; the models would be asked different questions.
    """
    values = {getattr(run.settings, name) for run in plan.runs if run.training}
    if len(values) > 1:
        raise StudyError(f"steps differ in {name} ({sorted(map(str, values))}); their answers could not be compared")
    return values.pop() if values else default


def study_family(study: Study, plan: Plan, location: str) -> Family:
    """Load template and image processor as all steps agree on them."""
    from sightline.models.loading import load_family

    template = str(common_setting(plan, "template", "own"))
    return load_family(
        location,
        pad_square=bool(common_setting(plan, "pad_square", False)),
        min_pixels=common_setting(plan, "min_pixels", None),  # pyright: ignore
        max_pixels=common_setting(plan, "max_pixels", None),  # pyright: ignore
        template_file=None if template == "own" else study.folder / template,
    )


def base_of(study: Study, plan: Plan, model: str) -> str:
    """Name the base a model sits on, as a location: that of the first model it was made from."""
    parents = {run.name: run.parents for run in plan.runs}
    while model in parents:
        model = parents[model][0]
    other = study.models.get(model)
    return model_location(study, other.base if other and other.base else study.base)


def wording_of(plan: Plan, text: str) -> tuple[str, str | None]:
    """Return the question's wording with the steps' suffix, and their system turn."""
    suffix = str(common_setting(plan, "question_suffix", ""))
    system = common_setting(plan, "system", None)
    return text.replace("{question}", "{question}" + suffix), None if system is None else str(system)


def render_samples(prepared: Prepared, family: Family, names: Sequence[str], settings: Training) -> list[Rendered]:
    """Render training or validation sets, once per set and way of rendering; in the order of `Prepared.samples`."""
    return [sequence for name in names for sequence in _render_set(prepared, family, name, settings)]


def _render_set(prepared: Prepared, family: Family, name: str, settings: Training) -> list[Rendered]:
    from sightline.trees.render import render, reword

    key = (
        name,
        family.rendering_sha256,
        settings.train_on,
        settings.eos,
        settings.question_suffix,
        str(settings.system),
    )
    if key not in prepared.rendered:
        known = prepared.known.setdefault(family.rendering_sha256, set())
        prepared.rendered[key] = [
            render(
                family,
                reword(sample.messages, "{question}" + settings.question_suffix, system=settings.system),
                sample.pictures,
                sample.answer,
                train_on=settings.train_on,
                end=settings.eos,
                name=sample.origin or sample.id,
                known=known,
            )
            for sample in prepared.sets[name]
        ]
    return prepared.rendered[key]


def leave_out_too_long(prepared: Prepared, family: Family) -> None:
    """Leave out samples longer than a row, or than the model's context with room for an answer; they are bad rows."""
    from sightline.trees.render import render, reword

    found: dict[tuple[str, str], Problem] = {}
    for run in prepared.plan.runs:
        if run.training is None:
            continue
        rows = run.training.row_tokens
        limit = min(rows, family.context_length) if isinstance(rows, int) else family.context_length
        for name in (*run.on, *run.validation):
            sequences = _render_set(prepared, family, name, run.training)
            for sample, sequence in zip(prepared.sets[name], sequences, strict=True):
                if len(sequence) > limit:
                    found[name, sample.id] = too_long(sample, num_tokens=len(sequence), limit=limit)
    limit = family.context_length - prepared.study.evaluate.max_new_tokens
    known = prepared.known.setdefault(family.rendering_sha256, set())
    for name in prepared.plan.asked:
        for text in prepared.study.evaluate.prompts.values():
            wording, system = wording_of(prepared.plan, text)
            for sample in prepared.asked(name):
                messages = reword(sample.messages, wording, system=system)
                origin = sample.origin or sample.id
                length = len(render(family, messages, sample.pictures, None, name=origin, known=known))
                if length > limit:
                    found[name, sample.id] = too_long(sample, num_tokens=length, limit=limit)
    if not found:
        return
    prepared.problems += found.values()
    prepared.rendered.clear()
    for name in {name for name, _ in found}:
        prepared.sets[name] = tuple(s for s in prepared.sets[name] if (name, s.id) not in found)


def check_prepared(prepared: Prepared, family: Family) -> list[Finding]:
    """Look at everything that can be looked at before training.

    Args:
        prepared: the data.
        family: template and tokenizer.

    Returns:
        Findings, faults first; those the study accepts carry its reason.
    """
    findings: list[Finding] = []
    # What validation has seen chooses the model, so for the test set it counts as training.
    train = {name: prepared.sets[name] for run in prepared.plan.runs for name in (*run.on, *run.validation)}
    test = {name: prepared.asked(name) for name in prepared.plan.asked}
    for name, samples in {**train, **test}.items():
        findings += check_sizes(name, samples)
        findings += check_repeats(name, samples)
        findings += check_balance(name, samples)
    findings += check_overlap(train, test)
    findings += _check_rendered(prepared, family, prepared.plan.runs)
    accepted = prepared.study.accept
    for name in accepted:
        if name not in FINDINGS:
            raise StudyError(f"accept.{name}: no check finds that; there is {', '.join(sorted(FINDINGS))}")
    order = {"fault": 0, "warning": 1, "note": 2}
    return sorted(
        (dataclasses.replace(finding, accepted=accepted.get(finding.name)) for finding in findings),
        key=lambda finding: order[finding.severity],
    )


def _check_rendered(prepared: Prepared, family: Family, runs: Sequence[StepRun]) -> list[Finding]:
    from sightline.checking.labels import check_labels, check_sharing

    findings: list[Finding] = []
    seen: set[tuple[object, ...]] = set()
    for run in runs:
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
        findings += check_labels(name, samples, sequences, family.end_token_ids)
        row_tokens = settings.row_tokens if isinstance(settings.row_tokens, int) else max(map(len, sequences)) * 4
        findings += check_sharing(name, samples, sequences, row_tokens)
    return findings


def set_hashes(sets: Mapping[str, tuple[Sample, ...]]) -> dict[str, str]:
    """Hash every data set's rows."""
    return {name: samples_sha256(samples) for name, samples in sets.items()}


def problems_json(prepared: Prepared) -> list[dict[str, object]]:
    """Turn problems into plain values for `data/problems.json`."""
    return [dataclasses.asdict(problem) for problem in prepared.problems]

"""What a study does, in order: members and grids expanded, seeds repeated through what follows, names resolved."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.errors import StudyError
from sightline.study.keys import nearest
from sightline.study.names import (
    MAKES_DATA,
    Reference,
    as_tuple,
    data_names,
    find_data,
    find_model,
    in_order,
    is_model,
    is_served,
    joint_seeds,
    needs,
    refuse_served,
    refuse_several,
    refuse_shared_names,
    run_name,
    stage_name,
    unique,
    with_mixed,
)
from sightline.study.schema import Study
from sightline.study.steps import Average, Choose, Critique, Dpo, Sft
from sightline.study.text import assign, flatten, validated
from sightline.study.training import PreferenceTraining, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """One thing to make: a step, for one member and one seed.

    Args:
        name: `STEP[.MEMBER][@SEED]`: the model (or data) that it makes.
        step: the step's name.
        member: the member's name, or None.
        seed: the seed, or None where the step is not repeated (it then runs with seed 0).
        method: `sft`, `dpo`, ...
        parents: the models it starts from; more than one only for `average` and `choose`.
        on: data it uses, as `set.split` or the name of a run that makes data.
        validation: the validation splits beside those of `on`.
        stage_data: of each stage of a curriculum, the part of `on` it takes rows from.
        training: every training key, with the member's changes and the hardware's defaults; None where nothing
            is trained.
    """

    name: str
    step: str
    member: str | None
    seed: int | None
    method: str
    parents: tuple[str, ...]
    on: tuple[str, ...]
    validation: tuple[str, ...]
    training: Training | None
    stage_data: tuple[tuple[str, ...], ...] = ()

    @property
    def parent(self) -> str:
        """The one model it starts from."""
        (parent,) = self.parents
        return parent

    @property
    def settings(self) -> Training:
        """Every training key of a run that trains."""
        if self.training is None:
            raise StudyError(f"{self.name}: method {self.method} trains nothing and has no training keys")
        return self.training


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One stated question.

    Args:
        model: the model in question, without its seed.
        against: the model it is compared with, without its seed.
        by: the metric that decides.
        margin: non-inferiority margin in the metric's unit, or None where a difference is asked for.
        pairs: (model, against) checkpoint by checkpoint, one pair per seed.
    """

    model: str
    against: str
    by: str
    margin: float | None
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A study, expanded.

    Args:
        runs: what is made, each after what it depends on.
        models: the models to ask, `base` first.
        asked: the data they are asked about, as `set.split`; the untouched set last.
        comparisons: the study's questions.
        data: every `set.split` that the study needs.
    """

    runs: tuple[StepRun, ...]
    models: tuple[str, ...]
    asked: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    data: tuple[str, ...]


def plan_study(study: Study) -> Plan:
    """Expand a study into what is made, asked and compared.

    Args:
        study: a validated study.

    Returns:
        The plan: runs in an order in which each finds what it needs, every name resolved.

    Raises:
        StudyError: a name that does not exist, a circle of steps, seeds that do not meet.
    """
    refuse_shared_names(study)
    made: dict[str, Reference] = {}
    runs: list[StepRun] = []
    for step_name in in_order(study):
        new = _expand(study, step_name, made)
        runs += new
        members = tuple(dict.fromkeys(run_name(step_name, run.member, None) for run in new))
        made[step_name] = Reference(members, tuple(dict.fromkeys(run.seed for run in new if run.seed is not None)))
    named = study.evaluate.models
    if named is None:
        named = ("base", *study.models, *(name for name in made if study.steps[name].method not in MAKES_DATA))
    models = unique(model for name in named for model in find_model(study, name, made, "evaluate.models").all)
    if study.evaluate.stages:
        stages = {run.name: len(run.training.stages) if run.training else 0 for run in runs}
        models = tuple(
            each
            for model in models
            for each in (*(stage_name(model, stage) for stage in range(1, stages.get(model, 0))), model)
        )
    if not study.evaluate.on:
        raise StudyError(f"evaluate.on is missing; name a test set out of {', '.join(data_names(study))}")
    questions = [(text, "evaluate.on") for text in study.evaluate.on]
    if study.evaluate.untouched:
        questions.append((study.evaluate.untouched, "evaluate.untouched"))
    asked = unique(name for text, where in questions for name in find_data(study, text, made, where).all)
    for name in study.evaluate.decoding:
        if name not in asked:
            raise StudyError(f"evaluate.decoding.{name}: no set that is asked is called so; {nearest(name, asked)}")
    _refuse_beams_of_servers(study, models, asked)
    used = unique(name for run in runs for name in (*run.on, *run.validation))
    sources = unique(part for name in (*used, *asked) for part in (*with_mixed(study, name), name))
    return Plan(
        runs=tuple(runs),
        models=models,
        asked=asked,
        comparisons=tuple(
            comparison for index in range(len(study.compare)) for comparison in _comparisons(study, index, made, models)
        ),
        data=tuple(name for name in sources if name.partition("@")[0] not in study.steps),
    )


def _refuse_beams_of_servers(study: Study, models: tuple[str, ...], asked: tuple[str, ...]) -> None:
    for model in models:
        for name in asked if is_served(study, model) else ():
            if (num_beams := study.evaluate.for_set(name).num_beams) > 1:
                raise StudyError(
                    f"evaluate.num_beams: {num_beams} on {name}, and {model} is on a server, which knows no beams; "
                    "set 1 (for one set: evaluate.decoding), or leave the model out of evaluate.models"
                )


def _expand(study: Study, step_name: str, made: Mapping[str, Reference]) -> list[StepRun]:
    """All runs of one step: seeds outside, members inside."""
    step, where = study.steps[step_name], f"steps.{step_name}"
    parents = [find_model(study, text, made, f"{where}.from") for text in as_tuple(step.from_)]
    refuse_served(study, parents, f"{where}.from")
    on = [find_data(study, text, made, f"{where}.on") for text in getattr(step, "on", ())]
    judges = []
    if isinstance(step, Critique) and step.judge not in study.judges and is_model(study, step.judge):
        judges = [find_model(study, step.judge, made, f"{where}.judge")]
        refuse_served(study, judges, f"{where}.judge")
    seeds = joint_seeds([*parents, *on, *judges], where)
    variants: dict[str | None, Training | None] = {None: None}
    if isinstance(step, Sft | Dpo):
        if step.seeds and needs(study, step_name):
            raise StudyError(f"{where}.seeds: only a root step has seeds; this one repeats with what it follows")
        seeds = seeds or step.seeds
        variants = variants_of(study, step_name, step)
    staged = {member: _stage_data(study, training, made, where) for member, training in variants.items()}
    if not on and not isinstance(step, Average) and not all(stages and all(stages) for stages in staged.values()):
        raise StudyError(f"{where}.on is missing; name data out of {', '.join(data_names(study))}")
    if not isinstance(step, Average | Choose):
        refuse_several(parents[0], f"{where}.from")
    runs = []
    for seed in seeds or (None,):
        models = tuple(name for parent in parents for name in parent.at(seed))
        if isinstance(step, Average | Choose) and len(models) < 2:
            raise StudyError(f"{where}.from: {step.method} needs at least two models and finds {', '.join(models)}")
        if isinstance(step, Average) and step.weights is not None and len(step.weights) != len(models):
            raise StudyError(f"{where}.weights: {len(step.weights)} weights for {len(models)} models")
        for member, training in variants.items():
            own = unique(name for reference in on for name in reference.at(seed))
            stage_data = tuple(
                unique(name for reference in stage for name in reference.at(seed)) or own for stage in staged[member]
            )
            data = unique(name for names in stage_data or (own,) for name in names)
            beside = unique(name for text in data for name in _validation(study, text) if name not in data)
            if training and training.keep == "best" and not beside:
                raise StudyError(f"{where}.keep: best is chosen by validation, and `on` has no validation split")
            runs.append(
                StepRun(
                    name=run_name(step_name, member, seed),
                    step=step_name,
                    member=member,
                    seed=seed,
                    method=step.method,
                    parents=models,
                    on=data,
                    validation=beside if training else (),
                    training=training,
                    stage_data=stage_data,
                )
            )
    return runs


def _stage_data(
    study: Study, training: Training | None, made: Mapping[str, Reference], where: str
) -> list[list[Reference]]:
    """The data that a curriculum's stages name themselves, stage by stage."""
    return [
        [find_data(study, text, made, f"{where}.stages[{number}].on") for text in stage.on]
        for number, stage in enumerate(training.stages if training else ())
    ]


def _validation(study: Study, text: str) -> tuple[str, ...]:
    heads = unique(part.partition(".")[0] for part in with_mixed(study, text))
    return tuple(
        f"{head}.validation" for head in heads if head in study.data and "validation" in study.data[head].split.parts
    )


def variants_of(study: Study, step_name: str, step: Sft | Dpo) -> dict[str | None, Training | None]:
    """The training keys of every member, with the hardware's defaults put where the step says auto."""
    where = f"steps.{step_name}"
    if step.members and step.grid:
        raise StudyError(f"{where} has both members and grid; write the grid's models as members, or the other way")
    kind = PreferenceTraining if isinstance(step, Dpo) else Training
    # Only what is stated, so that `model_fields_set` of what is made of it says what that was.
    own = step.model_dump(include=set(kind.model_fields) - {"seeds"}, exclude_unset=True)
    changes = step.members or grid_members(step.grid, where)
    if not changes:
        return {None: _on_hardware(study, validated(kind, own, f"{where}."))}
    variants: dict[str | None, Training | None] = {}
    for name, values in changes.items():
        block = dict(own)
        prefix = f"{where}.members.{name}." if step.members else f"{where}.grid."
        for dotted, value in flatten(values):
            if dotted == "seeds":
                raise StudyError(f"{prefix}seeds: seeds belong to the step, and every member runs with each")
            assign(block, dotted, value)
        variants[name] = _on_hardware(study, validated(kind, block, prefix))
    return variants


def _on_hardware(study: Study, training: Training) -> Training:
    automatic = [name for name in ("precision", "row_tokens") if getattr(training, name) == "auto"]
    return training.model_copy(update={name: getattr(study.hardware, name) for name in automatic})


def grid_members(grid: Mapping[str, tuple[Any, ...]], where: str) -> dict[str, dict[str, Any]]:
    """Cross a grid's values; a member is called after them, `alpha16-dropout0.05`."""
    members: dict[str, dict[str, Any]] = {}
    if not grid:
        return members
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        name = "-".join(f"{dotted.rsplit('.', 1)[-1]}{_shown(value)}" for dotted, value in chosen.items())
        if name in members:
            raise StudyError(f"{where}.grid makes two members called {name}; write them as members, with names")
        members[name] = chosen
    if not members:
        raise StudyError(f"{where}.grid has a key without values; give each key at least one")
    return members


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _comparisons(study: Study, index: int, made: Mapping[str, Reference], models: tuple[str, ...]) -> list[Comparison]:
    """One stated question for every member that `model` stands for."""
    question, where = study.compare[index], f"compare[{index}]"
    metrics = study.evaluate.metrics
    by = question.by or metrics[0]
    if by not in metrics:
        raise StudyError(f"{where}.by: {by} is not among evaluate.metrics; {nearest(by, metrics)}")
    against = find_model(study, question.against, made, f"{where}.against")
    refuse_several(against, f"{where}.against")
    reference = find_model(study, question.model, made, f"{where}.model")
    seeds = joint_seeds([reference, against], where) or (None,)
    for name in (*reference.all, *against.all):
        if name not in models:
            raise StudyError(f"{where}: {name} is not asked anything; add it to evaluate.models")
    comparisons = []
    for name in reference.names:
        model = Reference((name,), reference.seeds, reference.pinned)
        pairs = tuple((model.at(seed)[0], against.at(seed)[0]) for seed in seeds)
        if any(left == right for left, right in pairs):
            raise StudyError(f"{where}: {question.model} is compared with itself; name another model")
        comparisons.append(Comparison(model=model.one, against=against.one, by=by, margin=question.margin, pairs=pairs))
    return comparisons

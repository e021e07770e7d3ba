"""What a name in a study file stands for: models as `STEP[.MEMBER][@SEED]`, data as `SET.SPLIT`; and who needs whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sightline.errors import StudyError
from sightline.study.keys import nearest
from sightline.study.schema import Study
from sightline.study.steps import Critique, Step
from sightline.study.training import Training

MAKES_DATA = ("critique", "best_of")
"""Methods whose steps make data; all others make models."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The models or data that one name of the study file stands for.

    Args:
        names: one per member, without seed.
        seeds: the seeds they are repeated with; empty where they are not.
        pinned: the one seed that the name itself gave, or None.
    """

    names: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    pinned: int | None = None

    def at(self, seed: int | None) -> tuple[str, ...]:
        """The names for one seed; what is not repeated is the same for every seed."""
        at = self.pinned if self.pinned is not None else seed if self.seeds else None
        return self.names if at is None else tuple(f"{name}@{at}" for name in self.names)

    @property
    def all(self) -> tuple[str, ...]:
        """The names for all seeds."""
        return tuple(name for seed in self.seeds or (None,) for name in self.at(seed))

    @property
    def one(self) -> str:
        """The name as the study file would write it; only where there is a single member."""
        (name,) = self.names
        return run_name(name, None, self.pinned)


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Drop what comes a second time."""
    return tuple(dict.fromkeys(names))


def run_name(step: str, member: str | None, seed: int | None) -> str:
    """Write `STEP[.MEMBER][@SEED]`."""
    return step + (f".{member}" if member is not None else "") + (f"@{seed}" if seed is not None else "")


def split_name(text: str) -> tuple[str, str | None, str | None]:
    """Read `STEP[.MEMBER][@SEED]` into step, member and seed."""
    model, _, seed = text.partition("@")
    head, _, member = model.partition(".")
    return head, member or None, seed or None


def stage_name(model: str, stage: int) -> str:
    """Name a model as it is after one of its training's stages: `STEP[.MEMBER]~STAGE[@SEED]`."""
    recipe, at, seed = model.partition("@")
    return f"{recipe}~{stage}{at}{seed}"


def without_stage(model: str) -> tuple[str, int | None]:
    """Read a model's name into that of the whole training, and the stage after which it is meant."""
    recipe, at, seed = model.partition("@")
    recipe, _, stage = recipe.partition("~")
    return f"{recipe}{at}{seed}", int(stage) if stage else None


def as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Make one name a list of one."""
    return (names,) if isinstance(names, str) else names


def data_names(study: Study) -> list[str]:
    """Everything that `on` can name."""
    names = [f"{name}.{part}" for name, data in study.data.items() if not data.mix for part in data.split.parts]
    names += [name for name, data in study.data.items() if data.mix]
    return names + [name for name, step in study.steps.items() if step.method in MAKES_DATA]


def model_names(study: Study) -> list[str]:
    """Everything that `from` can name, without members and seeds."""
    return ["base", *study.models, *(name for name, step in study.steps.items() if step.method not in MAKES_DATA)]


def is_model(study: Study, text: str) -> bool:
    """Say whether a name, with or without member and seed, is a model's."""
    return split_name(text)[0] in model_names(study)


def refuse_shared_names(study: Study) -> None:
    """Refuse a name that stands for two things."""
    for block, other in (("steps", "models"), ("steps", "data")):
        for name in set(getattr(study, block)) & set(getattr(study, other)):
            raise StudyError(f"{block}.{name} and {other}.{name} have the same name; rename one of them")
    for block in ("steps", "models"):
        if "base" in getattr(study, block):
            raise StudyError(f"{block}.base: 'base' is the name of the study's base model; choose another")


def needs(study: Study, step_name: str) -> tuple[str, ...]:
    """The steps whose results a step uses, refusing names that nothing has."""
    step = study.steps[step_name]
    needed = []
    for text in as_tuple(step.from_):
        head = split_name(text)[0]
        if head not in (known := model_names(study)):
            data = "; it makes data, not a model" if head in study.steps else f"; {nearest(head, known)}"
            raise StudyError(f"steps.{step_name}.from: no model is called {text}{data}")
        needed.append(head)
    needed += [split_name(text)[0] for text in (*getattr(step, "on", ()), *_staged_on(step))]
    if isinstance(step, Critique):
        needed.append(split_name(step.judge)[0])
    return tuple(name for name in dict.fromkeys(needed) if name in study.steps)


def _staged_on(step: Step) -> Iterator[str]:
    """Go through the data that the stages of a step and of its members name; a member's are not validated yet."""
    if isinstance(step, Training):
        yield from (text for stage in step.stages for text in stage.on)
    for member in getattr(step, "members", {}).values():
        stages = member.get("stages")
        for stage in stages if isinstance(stages, list | tuple) else ():
            on = stage.get("on") if isinstance(stage, Mapping) else None
            yield from [on] if isinstance(on, str) else on if isinstance(on, list) else ()


def in_order(study: Study) -> list[str]:
    """Order the steps so that each follows what it needs; ties keep the file's order."""
    ordered: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " needs ".join((*path[path.index(name) :], name))
            raise StudyError(f"steps go in a circle: {circle}; change one `from` or `on`")
        if name not in ordered:
            for needed in needs(study, name):
                visit(needed, (*path, name))
            ordered.append(name)

    for name in study.steps:
        visit(name, ())
    return ordered


def find_model(study: Study, text: str, made: Mapping[str, Reference], where: str) -> Reference:
    """Resolve `STEP[.MEMBER][@SEED]`, `base` or the name of another model."""
    head, member, seed = split_name(text)
    known = model_names(study)
    if head not in known:
        raise StudyError(f"{where}: no model is called {text}; {nearest(head, known)}")
    if head not in made:
        if member or seed:
            raise StudyError(f"{where}: {text} asks for a member or seed of {head}, which this study does not make")
        return Reference((head,))
    return _select(made[head], text, where)


def _select(reference: Reference, text: str, where: str) -> Reference:
    head, member, seed = split_name(text)
    names = reference.names
    if member is not None:
        names = tuple(name for name in names if name == f"{head}.{member}")
        if not names:
            members = [name.partition(".")[2] for name in reference.names if "." in name]
            raise StudyError(f"{where}: {head} has no member {member}; {nearest(member, members)}")
    if seed is None:
        return Reference(names, reference.seeds)
    if seed not in map(str, reference.seeds):
        seeds = ", ".join(map(str, reference.seeds)) or "none"
        raise StudyError(f"{where}: {text} asks for a seed that {head} does not have; its seeds: {seeds}")
    return Reference(names, (), int(seed))


def find_data(study: Study, text: str, made: Mapping[str, Reference], where: str) -> Reference:
    """Resolve `set.split`, a set with one split or a mixture, or a step that makes data."""
    head, _, part = text.partition(".")
    step = head.partition("@")[0]
    if step in study.steps and study.steps[step].method in MAKES_DATA:
        return _select(made[step], text, where)
    if head in study.data:
        data = study.data[head]
        parts = list(data.split.parts)
        if data.mix and not part:
            return Reference((head,))
        if not data.mix and not part and len(parts) == 1:
            return Reference((f"{head}.{parts[0]}",))
        if not data.mix and part in parts:
            return Reference((text,))
        if not data.mix and not part:
            splits = ", ".join(f"{head}.{part}" for part in parts)
            raise StudyError(f"{where}: {text} has several splits; say which: {splits}")
    raise StudyError(f"{where}: no data is called {text}; {nearest(text, data_names(study))}")


def with_mixed(study: Study, name: str) -> tuple[str, ...]:
    """Put what a mixture is made of in its place."""
    head = name.partition(".")[0]
    if head not in study.data or not study.data[head].mix:
        return (name,)
    where = f"data.{head}.mix"
    made = [text for text in study.data[head].mix if text.partition("@")[0] in study.steps]
    if made:
        raise StudyError(f"{where}: {made[0]} is made by a step; name sets of `data`, and put the step under `on`")
    parts = [part for text in study.data[head].mix for part in find_data(study, text, {}, where).names]
    for part in parts:
        if study.data[part.partition(".")[0]].mix:
            raise StudyError(f"{where}: {part} is a mixture itself; name the sets it is made of")
        if parts.count(part) > 1:
            raise StudyError(f"{where} names {part} twice; give it once")
    return tuple(parts)


def joint_seeds(references: Iterable[Reference], where: str) -> tuple[int, ...]:
    """The seeds that several names share, refusing unequal lists; empty where nothing is repeated."""
    lists = {reference.seeds for reference in references if reference.seeds}
    if len({frozenset(seeds) for seeds in lists}) > 1:
        found = " and ".join(str(list(seeds)) for seeds in sorted(lists))
        raise StudyError(f"{where}: seeds {found} meet here; give the steps it follows from the same seeds")
    return min(lists, default=())


def is_served(study: Study, model: str) -> bool:
    """Say whether a model answers on a server: it can be asked, and nothing else."""
    return model in study.models and study.models[model].server is not None


def refuse_served(study: Study, references: Iterable[Reference], where: str) -> None:
    """Refuse a model on a server where its weights are needed."""
    for reference in references:
        for name in reference.names:
            if is_served(study, name):
                raise StudyError(
                    f"{where}: {name} is on a server, which answers and gives no weights and no likelihoods; "
                    "name a model of this machine"
                )


def refuse_several(reference: Reference, where: str) -> None:
    """Refuse a step with members where one model is needed."""
    if len(reference.names) > 1:
        raise StudyError(f"{where}: stands for several models ({', '.join(reference.names)}); name one of them")

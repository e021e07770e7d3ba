"""A study's data: every source read, divided, mixed, and held together for the stages that follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sightline.data.mixing import draw_rows, mix_samples
from sightline.data.problems import BadRowsError, Loaded, Problem
from sightline.data.sets import Source, divide, read_source
from sightline.errors import DataError, StudyError
from sightline.records import Sample
from sightline.runner.hub import missing_data, missing_models, refuse_unreachable
from sightline.study import Plan, StepRun, Study, plan_study, source_location
from sightline.study.names import MAKES_DATA, with_mixed
from sightline.study.steps import BestOf, Critique

if TYPE_CHECKING:
    from sightline.trees.render import Rendered


@dataclass(kw_only=True)
class Prepared:
    """A study's data, read and divided.

    Args:
        study: the study.
        plan: what it does.
        sets: "set.split" to its samples.
        loaded: data set to what its source held, split by split.
        whole: the sets that hold every row of their source.
        seen: for each set that is asked, the rows that training has seen, and how; filled in by the check.
        problems: rows left out or repaired.
        rendered: what `render_samples` made, by set and way of rendering.
        known: shapes of conversations that rendering has looked at, by what renders; see `trees.render.render`.
    """

    study: Study
    plan: Plan
    sets: dict[str, tuple[Sample, ...]]
    loaded: dict[str, dict[str, Loaded]]
    whole: set[str] = field(default_factory=set)
    seen: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rendered: dict[tuple[str, ...], list[Rendered]] = field(default_factory=dict)
    known: dict[str, set[Any]] = field(default_factory=dict)

    @property
    def on_bad_row(self) -> Literal["stop", "skip"]:
        """Skip bad rows only if every step that trains says so, or the study accepts them by name."""
        asked = {run.settings.on_bad_row for run in self.plan.runs if run.training}
        return "skip" if asked == {"skip"} or "bad-rows" in self.study.accept else "stop"

    @property
    def num_rows(self) -> int:
        """Rows read from all sources."""
        return sum(part.num_rows for parts in self.loaded.values() for part in parts.values())

    def asked(self, name: str) -> tuple[Sample, ...]:
        """Give the rows of a set that the models are asked."""
        return self.sets[name][: self.study.evaluate.rows]

    def read_for(self, name: str) -> tuple[str, ...]:
        """Name the data sets whose sources a set's rows were read from; several for a mixture."""
        return tuple(dict.fromkeys(part.partition(".")[0] for part in with_mixed(self.study, name)))

    def refuse_bad_rows(self) -> None:
        """Stop at rows that cannot be used, unless the study skips them.

        Misplaced pictures alone stop nothing here: the check finds them by name, so that a study can accept them.

        Raises:
            BadRowsError: naming every one of them, over all data sets.
        """
        faults = tuple(problem for problem in self.problems if not problem.repaired)
        if any(problem.kind != "image-count" for problem in faults) and self.on_bad_row == "stop":
            raise BadRowsError(faults, num_rows=self.num_rows)

    def samples(self, names: Sequence[str]) -> tuple[Sample, ...]:
        """Put sets together; ids stay unique by their set's name where they would clash."""
        if len(names) == 1:
            return self.sets[names[0]]
        together = [(name, sample) for name in names for sample in self.sets[name]]
        if len({sample.id for _, sample in together}) == len(together):
            return tuple(sample for _, sample in together)
        return tuple(dataclasses.replace(sample, id=f"{name}/{sample.id}") for name, sample in together)


def read_data(study: Study) -> Prepared:
    """Read and divide every data set the study needs, without the rows that cannot be used.

    Raises:
        DataError: if a source cannot be read or divided.
        MissingDataError: if a source must come from the hub, and that cannot be reached.
    """
    plan = plan_study(study)
    if missing := missing_data(study, plan):  # else what is wrong with the rows is said before any model is asked for
        refuse_unreachable(missing | missing_models(study, plan))
    prepared = Prepared(study=study, plan=plan, sets={}, loaded={})
    needed = {name.rpartition(".")[0] for name in plan.data}
    pairs = sets_of_pairs(study, plan)
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
            allow_ties=block.allow_ties,
        )
        loaded = prepared.loaded[name] = read_source(source, as_pairs=name in pairs)
        prepared.problems += [problem for part in loaded.values() for problem in part.problems]
    for name, loaded in prepared.loaded.items():
        try:
            parts = _divided(study, name, loaded)
        except DataError:
            prepared.refuse_bad_rows()  # too few rows may be left because of them
            raise
        prepared.sets.update({f"{name}.{part}": samples for part, samples in parts.items()})
        held = sum(len(part.samples) for part in loaded.values())
        prepared.whole |= {f"{name}.{part}" for part, samples in parts.items() if len(samples) == held}
    for name in plan.data:
        if name in study.data and study.data[name].mix:
            amounts = dict(zip(with_mixed(study, name), study.data[name].mix.values(), strict=True))
            prepared.sets[name] = mix_samples(
                name,
                {part: prepared.sets[part] for part in amounts},
                amounts,
                take=study.data[name].take,
                seed=study.data[name].seed,
            )
    _stand_in(prepared)
    return prepared


def _stand_in(prepared: Prepared) -> None:
    """Give every set that a step will make the rows it asks about, so that plan and data can be checked before."""
    for run in prepared.plan.runs:
        if run.method not in MAKES_DATA:
            continue
        rows = asked_about(prepared, run)
        if tokenised := next((row for row in rows if row.tokens), None):
            raise StudyError(
                f"steps.{run.step}.on: {tokenised.origin or tokenised.id} comes tokenised, so there is no question to "
                "ask; name a set with questions and answers"
            )
        prepared.sets[run.name] = tuple(
            dataclasses.replace(row, rejected=row.answer if run.method == "critique" else None) for row in rows
        )


def asked_about(prepared: Prepared, run: StepRun) -> list[Sample]:
    """Give the rows that a run which makes data asks about: all there are, or `rows` of them, drawn by its seed."""
    samples = prepared.samples(run.on)
    num_rows = step_that_makes(prepared.study, run).rows
    return draw_rows(samples, len(samples) if num_rows is None else num_rows, run.seed or 0)


def put_in_place(prepared: Prepared, name: str, samples: tuple[Sample, ...]) -> None:
    """Put a set's rows in the place of those that were there; what was rendered of these goes."""
    prepared.sets[name] = samples
    for key in [key for key in prepared.rendered if key[0] == name]:
        del prepared.rendered[key]


def step_that_makes(study: Study, run: StepRun) -> Critique | BestOf:
    """Give the step of a run that makes data."""
    step = study.steps[run.step]
    assert isinstance(step, Critique | BestOf), "no other step makes data"
    return step


def sets_of_pairs(study: Study, plan: Plan) -> set[str]:
    """Name the data sets whose rows are read as preference pairs: those that `dpo` trains on.

    Raises:
        StudyError: if one of them is to be learnt as an answer or asked, too.
    """

    def sources(names: Iterable[str]) -> set[str]:
        return {part.partition(".")[0] for name in names for part in with_mixed(study, name)} & study.data.keys()

    def used(runs: Iterable[StepRun]) -> set[str]:
        return sources(name for run in runs for name in (*run.on, *run.validation))

    pairs = used(run for run in plan.runs if run.method == "dpo")
    others = used(run for run in plan.runs if run.method != "dpo") | sources(plan.asked)
    if both := sorted(pairs & others):
        raise StudyError(
            f"data.{both[0]}: dpo reads its rows as preference pairs, and elsewhere they are single answers; "
            "give the pairs a set of their own"
        )
    return pairs


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
        stratify=split.stratify,
    )

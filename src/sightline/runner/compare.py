"""`sightline compare`: a study's own questions, or several models put against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import MissingDataError, RefusedError, StudyError
from sightline.runner.beside import judges_beside
from sightline.runner.carry_out import compare_directory
from sightline.runner.comparing import read_seen
from sightline.runner.metrics import judge_origin, metrics_of
from sightline.runner.results import read_samples, read_scores
from sightline.runner.unmade import not_made, say_models
from sightline.serving.people import has_other_reviews
from sightline.storage import canonical_json, write_file
from sightline.study import Study, load_study, plan_study
from sightline.verdict.compare import Comparison, compare_models
from sightline.verdict.questions import split_name

NOT_STORED = {"is_stored": False}
"""Added to what no compare.json holds, so that nobody is told to look there."""


def compare_runs(runs: Sequence[str], *, by: str | None = None, margin: float | None = None) -> dict[str, Any]:
    """Compare models.

    Args:
        runs: one study's directory, for the questions it states; or several DIR:MODEL, each against the first.
        by: the metric that decides; the study's first by default.
        margin: asks whether a model is no worse by more than this, in the metric's unit.

    Returns:
        the content of compare.json; with `is_stored` False where no such file holds it.

    Raises:
        StudyError: a single model, or models that were asked different data.
        MissingDataError: no such model.
        RefusedError: the models were asked in other words, answered in another way or were judged by another judge.
    """
    if len(runs) == 1 and (Path(runs[0]) / "study.yaml").exists():
        compared = compare_directory(Path(runs[0]), by=by, margin=margin)
        is_stored = by is None and margin is None and (Path(runs[0]) / "compare.json").is_file()
        return compared if is_stored else compared | NOT_STORED
    if len(runs) == 1:
        what = "give a study's directory, or several DIR:MODEL, the baseline first"
        is_named = ":" in runs[0] or Path(runs[0]).exists()
        raise StudyError(f"{runs[0]}: {what}") if is_named else MissingDataError(f"no folder {runs[0]}; {what}")
    arms: dict[tuple[str, str, str], Any] = {}
    samples: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    seen: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    first: Study | None = None
    for run in runs:
        directory, model = _parted(run)
        study = load_study(Path(directory) / "study.yaml")
        plan = plan_study(study)
        here = {metric.name: metric for metric in metrics_of(study)}
        metrics = {name: metric for name, metric in here.items() if not metrics or name in metrics}
        seeded = tuple(name for name in plan.models if split_name(name) == (model, split_name(name)[1]))
        found = read_scores(Path(directory), seeded or (model,), list(here.values()))
        if not found:
            told = say_models(plan.models, not_made(study, Path(directory)))
            raise MissingDataError(f"{run}: no scores of {model!r} there; it has {told}")
        if gone := [name for name in seeded if not any(arm[0] == name for arm in found)]:
            missing = not_made(study, Path(directory))
            notes += [f"{directory}: without {name}: {missing.get(name, 'it has no scores yet')}" for name in gone]
        first = first or study
        _refuse_asked_otherwise(run, study, runs[0], first)
        for (name, data, template), scores in found.items():
            arms[(f"{directory}:{name}", data, template)] = scores
        for name, rows in read_samples(Path(directory), plan.asked, study.evaluate.rows).items():
            asked = {key: (sample.image_id, sample.question, sample.answer) for key, sample in rows.items()}
            known = {key: (s.image_id, s.question, s.answer) for key, s in samples.get(name, rows).items()}
            if asked != known:
                raise StudyError(f"{run}: {name} is not the data the other models were asked; nothing to compare")
            samples[name] = rows
            # A row that one of the models has learnt is none to compare it with another by.
            seen.setdefault(name, {}).update(read_seen(Path(directory)).get(name, {}))
    if not metrics:
        raise StudyError("the studies share no metric")
    shared = {key: {n: s for n, s in scores.items() if n in metrics} for key, scores in arms.items()}
    assert first is not None
    compared = compare_models(
        study=" against ".join(reversed(runs)) if len(runs) == 2 else runs[0],
        samples=samples,
        scores=shared,
        metrics=list(metrics.values()),
        stated=[],
        asked_later=[Comparison(model=run, against=runs[0], by=by, margin=margin) for run in runs[1:]],
        seen=seen,
        accepted_notes=notes,
    )
    beside = {"judges": judges_beside(first, shared, [*compared["stated"], *compared["exploratory"]])}
    return compared | beside | NOT_STORED


def _parted(run: str) -> tuple[str, str]:
    """Part DIR:MODEL.

    Raises:
        StudyError: a study without a model.
        MissingDataError: no study's directory.
    """
    if (Path(run) / "study.yaml").is_file():
        study = load_study(Path(run) / "study.yaml")
        told = say_models(plan_study(study).models, not_made(study, Path(run)))
        raise StudyError(f"{run}: of several studies name the models, as {run}:MODEL; it has {told}")
    directory, _, model = run.rpartition(":")
    folder = directory or run
    if not Path(folder).is_dir():
        raise MissingDataError(f"{run}: no folder {folder}; write DIR:MODEL, where DIR is a study's directory")
    if not directory or not (Path(directory) / "study.yaml").is_file():
        raise MissingDataError(f"{run}: no study.yaml in {folder}; write DIR:MODEL, where DIR is a study's directory")
    return directory, model


def use_new_reviews(directory: Path) -> bool:
    """Compare a study again if people have judged its answers since it was compared.

    Args:
        directory: the study's; its compare.json is written anew where the judgements in it are not those of `reviews/`.

    Returns:
        whether they were not.
    """
    file = directory / "compare.json"
    if not file.is_file() or not has_other_reviews(directory, json.loads(file.read_text(encoding="utf-8"))):
        return False
    write_file(file, canonical_json(compare_directory(directory)))
    return True


def _refuse_asked_otherwise(run: str, study: Study, first_run: str, first: Study) -> None:
    """Refuse models whose answers were made or scored in different ways.

    Raises:
        RefusedError: naming what differs.
    """
    for name in ("prompts", "max_new_tokens", "num_beams", "temperature", "decoding"):
        here, there = getattr(study.evaluate, name), getattr(first.evaluate, name)
        if here != there:
            raise RefusedError(
                f"{run}: evaluate.{name} is {here} and {there} for {first_run}; not comparable; ask both alike"
            )
    judged = {*study.evaluate.metrics} & {*first.evaluate.metrics} & {*study.judges}
    for name in sorted(judged):
        there = first.judges.get(name)
        if there is None or judge_origin(name, study.judges[name], study.folder) != judge_origin(
            name, there, first.folder
        ):
            raise RefusedError(f"{run}: judge {name} is not the one of {first_run}; not comparable, use one judge")

"""A study's judges, carried out: each is asked about every model's answers and tested itself, unless that is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import StudyError
from sightline.generation.keys import read_key
from sightline.records import Answer, Sample
from sightline.runner.display import Display
from sightline.runner.judging import (
    RECORD,
    REFERENCE,
    OpenJudge,
    Part,
    audit,
    forget_others,
    judge_model,
    local_identity,
    open_judge,
    put_to_judge,
    rival_answers,
    settle_unasked,
)
from sightline.runner.metrics import judge_origin, judges_asked, kind_of, metric_of
from sightline.runner.prepare import base_of
from sightline.runner.reading import Prepared, asked_about, step_that_makes
from sightline.runner.results import file_name
from sightline.scoring.judge import Asked
from sightline.storage import MANIFEST, canonical_json, is_finished, read_jsonl, sha256_of, write_manifest
from sightline.study import BestOf, Critique, Judge, Plan, StepRun, Study, model_location
from sightline.study.names import MAKES_DATA, is_model

if TYPE_CHECKING:
    from sightline.models.family import Family
    from sightline.runner.make import Shelf


def refuse_judges(prepared: Prepared, out: Path | None = None) -> None:
    """Stop before anything is made where a judge could not judge in the end.

    Args:
        prepared: the study and its data.
        out: the study's directory; a judge that has finished there needs no key. None: no key is looked for.

    Raises:
        StudyError: a judge compares with a model that is not asked, finds nothing that it is about, has no key, or is
            none that a step can use.
    """
    study, models = prepared.study, prepared.plan.models
    for run in prepared.plan.runs:
        if run.method in MAKES_DATA:
            _refuse_who_judges(run, prepared, out)
    for name, judge in judges_asked(study).items():
        where, kind = f"judges.{name}", kind_of(judge, study.folder)
        if judge.kind == "pairwise" and judge.against not in (REFERENCE, *models):
            known = ", ".join((REFERENCE, *models))
            raise StudyError(f"{where}.against: {judge.against} is not among the models asked; there is {known}")
        left_out = [kind.leaves_out(sample) for part in prepared.plan.asked for sample in prepared.asked(part)]
        if left_out and all(left_out):
            raise StudyError(
                f"{where}: kind {judge.kind} has nothing to judge in evaluate.on; every row is {left_out[0]}"
            )
        if judge.server and out is not None and not is_finished(out / "judges" / name / MANIFEST):
            read_key(judge.key_env, where=judge.server)


def _refuse_who_judges(run: StepRun, prepared: Prepared, out: Path | None) -> None:
    """Refuse a step whose own judge, or metric, could not judge what is drawn for it."""
    study, name = prepared.study, who_judges(step_that_makes(prepared.study, run))
    judge, key = study.judges.get(name), "judge" if run.method == "critique" else "by"
    if judge is None:
        if name != "self" and not is_model(study, name) and metric_of(study, name).score is None:
            raise StudyError(f"{run.name}: {key}: {name} scores no answer that was drawn; choose by another metric")
        return
    if run.method == "critique" and judge.kind != "pairwise":
        raise StudyError(f"judges.{name} is a {judge.kind} judge; a critique needs one of two answers, kind: pairwise")
    if run.method == "best_of" and judge.kind in ("pairwise", "shr"):
        raise StudyError(f"judges.{name}: a {judge.kind} judge has no mark for one answer alone")
    left_out = [kind_of(judge, study.folder).leaves_out(sample) for sample in asked_about(prepared, run)]
    if left_out and all(left_out):
        raise StudyError(f"{run.name}: judges.{name} has nothing to judge there; every row is {left_out[0]}")
    if judge.server and out is not None and not is_finished(out / "data" / f"{run.name}.{MANIFEST}"):
        read_key(judge.key_env, where=judge.server)


def who_judges(step: Critique | BestOf) -> str:
    """Name who says which of a step's own answers are learnt: a judge, a metric or a model, or "self"."""
    return step.judge if isinstance(step, Critique) else step.by


def judge_families(study: Study, plan: Plan) -> dict[str, Family]:
    """Load what renders for local judges, by location.

    A judge on a base of its own keeps that base's settings: those of the study's steps (`pad_square`, `min_pixels`) are
    about the models that are tuned, and another family may not know them.

    Raises:
        SightlineError: such a base is not there, or cannot be run.
    """
    from sightline.generation.local import knows_pictures
    from sightline.models.loading import load_family

    own = {base_of(study, plan, model) for model in plan.models}
    used = {
        *judges_asked(study),
        *(who_judges(step) for step in study.steps.values() if isinstance(step, Critique | BestOf)),
    }
    bases = {model_location(study, base) for name in used & study.judges.keys() if (base := study.judges[name].base)}
    return {location: load_family(location) for location in sorted(bases - own) if knows_pictures(location)}


def carry_out_judge(name: str, shelf: Shelf, hashes: Mapping[str, str], display: Display) -> bool:
    """Have a judge judge every model's answers, and audit it; what is done is kept, and asked of nobody again.

    Args:
        name: in the study.
        shelf: the models, which have all answered.
        hashes: of the data sets.
        display: where the reader sees it.

    Returns:
        whether anything was done.

    Raises:
        ServerDownError: the judge does not answer; what it said so far is kept.
    """
    study, models, out = shelf.prepared.study, shelf.prepared.plan.models, shelf.out
    judge, own = study.judges[name], out / "judges" / name
    origins = {model: _origin(name, judge, model, shelf, hashes) for model in models}
    beside = judge.model_dump(mode="json", include={"audit_rows", "input_price", "output_price"})
    whole = {"models": sha256_of(canonical_json(origins)), **{key: str(value) for key, value in beside.items()}}
    todo = [model for model in models if not is_finished(_manifest(out, model, name), made_from=origins[model])]
    if not todo and is_finished(own / MANIFEST, made_from=whole):
        return False
    num_failed = 0
    with open_judge(name, judge, folder=study.folder, out=out, shelf=shelf) as opened:
        (own / MANIFEST).unlink(missing_ok=True)
        forget_others(opened, [model for model in models if model not in todo])
        for model in todo:  # what an earlier judge said must not stand beside what this one says
            _scores(out, model, name).unlink(missing_ok=True)
        for model in todo:
            num_failed += _judge_one(model, opened, shelf, made_from=origins[model], display=display)
        if judge.audit_rows:
            display.say(f"{name}: the judge itself is tested")
            audit(opened, *_for_audit(opened, shelf))
    if num_failed:
        display.say(
            f"warning: {name}: {num_failed} answers have no score, because their calls failed for good; the same "
            "command asks for these alone again"
        )
    else:
        write_manifest(own / MANIFEST, [own / RECORD], made_from=whole)
    return True


def _scores(out: Path, model: str, judge: str) -> Path:
    return out / "scores" / model / f"{file_name(judge)}.jsonl"


def _manifest(out: Path, model: str, judge: str) -> Path:
    return out / "scores" / model / f"{file_name(judge)}.{MANIFEST}"


def _origin(name: str, judge: Judge, model: str, shelf: Shelf, hashes: Mapping[str, str]) -> dict[str, str]:
    """Say what a judge's scores of a model are made from."""
    study, out = shelf.prepared.study, shelf.out
    compared = {"answers": model, **({"rivals": judge.against} if _has_rivals(judge) else {})}
    return {
        **judge_origin(name, judge, study.folder),
        **({f"judge/{key}": value for key, value in local_identity(judge.base, shelf).items()} if judge.base else {}),
        **{key: sha256_of(out / "answers" / f"{whose}.jsonl") for key, whose in compared.items()},
        **{f"data/{part}": hashes[part] for part in shelf.prepared.plan.asked},
    }


def _has_rivals(judge: Judge) -> bool:
    return judge.kind == "pairwise" and judge.against != REFERENCE


def _judge_one(model: str, judge: OpenJudge, shelf: Shelf, *, made_from: Mapping[str, str], display: Display) -> int:
    """Have one model's answers judged; only where every call came back is that vouched for."""
    out = shelf.out
    rivals = rival_answers(out, judge.settings.against) if _has_rivals(judge.settings) else None
    failed = judge_model(model, judge, _parts(model, shelf), out=out, display=display, rivals=rivals)
    if not failed:
        files = [_scores(out, model, judge.name), judge.folder / f"{model}.jsonl"]
        write_manifest(_manifest(out, model, judge.name), files, made_from=made_from)
    return failed


def _parts(model: str, shelf: Shelf) -> Iterator[Part]:
    """Give a model's answers, set by set and wording by wording."""
    given: dict[tuple[str, str], list[Answer]] = {}
    for row in read_jsonl(shelf.out / "answers" / f"{model}.jsonl"):
        given.setdefault((row["data"], row["template"]), []).append(Answer(**row))
    for data in shelf.prepared.plan.asked:
        samples = {sample.id: sample for sample in shelf.prepared.asked(data)}
        for template in shelf.prepared.study.evaluate.prompts:
            yield Part(data=data, template=template, samples=samples, answers=given.get((data, template), []))


def _for_audit(judge: OpenJudge, shelf: Shelf) -> tuple[Sequence[Sample], Sequence[Asked]]:
    """Choose rows that a judge is about, and answers to be asked about: of one model after the other."""
    rivals = rival_answers(shelf.out, judge.settings.against) if _has_rivals(judge.settings) else None
    by_model = []
    for model in shelf.prepared.plan.models:
        every = [one for part in _parts(model, shelf) for one in put_to_judge(model, judge, part, rivals)]
        by_model.append([one for one in every if settle_unasked(judge.kind, one) is None])
    rows = zip(*filter(None, by_model), strict=False)
    samples = [sample for part in shelf.prepared.plan.asked for sample in shelf.prepared.asked(part)]
    return (
        [sample for sample in samples if not judge.kind.leaves_out(sample)],
        [row[number % len(row)] for number, row in enumerate(rows)],
    )

"""The steps that make data: answers are drawn, and a judge, a metric or the model itself says which are learnt.

Files of a step NAME in the study's directory: `drawn/NAME.jsonl`, every answer that was drawn;
`drawn/NAME.duels.jsonl`, what became of every two that were compared; `data/NAME.jsonl`, the rows that are learnt;
`data/NAME.record.json`, how it went. Until they are made, the rows that the step asks about stand in for them, with
their own answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.checking.findings import Finding, refuse_faults
from sightline.data.sets import samples_sha256, write_samples
from sightline.errors import StudyError
from sightline.generation.calls import CUT
from sightline.records import Answer, Sample
from sightline.runner.display import Display
from sightline.runner.judges import who_judges
from sightline.runner.prepare import wording_of
from sightline.runner.reading import Prepared, asked_about, put_in_place, step_that_makes
from sightline.storage import (
    MANIFEST,
    canonical_json,
    is_finished,
    read_jsonl,
    recorded_origin,
    what_differs,
    write_file,
    write_manifest,
)
from sightline.study import Plan, StepRun, Study, plan_study
from sightline.study.names import MAKES_DATA, is_model, without_stage
from sightline.study.steps import Critique

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sightline.runner.make import Shelf


AT_CHANCE = "critique-at-chance"
"""What a study accepts in order to learn from preferences that are no better than chance."""

AS_TRAINED = "{question}"
"""The wording in which answers are drawn: the one that training uses."""


def record_file(out: Path, name: str) -> Path:
    """Name the file that says how the making of a set went."""
    return out / "data" / f"{name}.record.json"


def read_records(out: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Read how the making of every set went that is made so far."""
    files = {
        run.name: record_file(out, run.name)
        for run in plan.runs
        if run.method in MAKES_DATA and is_finished(out / "data" / f"{run.name}.{MANIFEST}")
    }
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def lost_runs(study: Study, plan: Plan, out: Path) -> set[str]:
    """Name what cannot be made, as it waits for a set that was not made because its judge judges by chance."""
    stopped = {name for name, record in read_records(out, plan).items() if record["stopped"]}
    lost = set(stopped)
    for run in plan.runs:  # each after what it depends on
        judge = {judge_model(study, plan, run)} if run.method == "critique" else set()
        if lost.intersection((*run.parents, *run.on, *run.validation, *judge)):
            lost.add(run.name)
    return lost - stopped


def as_carried_out(study: Study, plan: Plan, out: Path) -> Plan:
    """Leave out of a plan the models that could not be made, and of its questions the checkpoints that are missing.

    What every answer depends on stays as it was planned, so `runs` are left as they are.
    """
    lost = lost_runs(study, plan, out)
    if not lost:
        return plan
    asked = []
    for question in plan.comparisons:
        pairs = tuple(pair for pair in question.pairs if not lost.intersection(pair))
        if pairs:
            asked.append(dataclasses.replace(question, pairs=pairs))
    models = tuple(name for name in plan.models if without_stage(name)[0] not in lost)
    return dataclasses.replace(plan, models=models, comparisons=tuple(asked))


def notes_of_made_data(study: Study, out: Path) -> list[str]:
    """Say how the making of a study's own data went, and what was not made or answered for want of it."""
    plan = plan_study(study)
    notes = []
    for name, record in read_records(out, plan).items():
        notes.append(f"{name}: {record['sentence']}")
        if "findings" in record:
            notes += notes_of_findings([Finding(**made) for made in record["findings"]])
        else:
            notes.append(f"{name}: made by an older version of sightline, which did not look at the rows it made.")
    lost = lost_runs(study, plan, out)
    if missing := [run.name for run in plan.runs if run.name in lost]:
        notes.append(f"Not made: {', '.join(missing)}.")
    for question in plan.comparisons:
        if gone := [pair for pair in question.pairs if lost.intersection(pair)]:
            told = (
                "could not be answered" if len(gone) == len(question.pairs) else f"lacks {len(gone)} of its checkpoints"
            )
            notes.append(f"The question {question.model} against {question.against}, stated before the run, {told}.")
    return notes


def notes_of_findings(findings: Sequence[Finding]) -> list[str]:
    """Say what was found in a made set and is more than a note, for the report and whoever watches."""
    return [
        f"{found.message}." + (f" Accepted: {found.accepted}." if found.accepted else "")
        for found in findings
        if found.severity != "note"
    ]


def make_data(
    run: StepRun,
    shelf: Shelf,
    hashes: dict[str, str],
    display: Display,
    accelerator: Accelerator | None = None,
) -> bool:
    """Make a step's rows unless they are there, and put them in their stand-ins' place; goes on where it was stopped.

    Args:
        run: of a step that makes data.
        shelf: the models.
        hashes: of the data sets; the new one's is added.
        display: where progress is shown.
        accelerator: accelerate's, for several processes, of which one works.

    Returns:
        whether anything was done.

    Raises:
        StudyError: the rows there were made from something else.
        RefusedError: a judge failed, or a model's letters or answers cannot be compared.
        CheckFault: the rows are at fault, and the study does not accept that.
    """
    from sightline.runner.best_of import pick_best
    from sightline.runner.made_rows import look_at_made
    from sightline.runner.self_critique import make_pairs

    made_from = _origin(run, shelf)
    out, study = shelf.out, shelf.prepared.study
    file, manifest = out / "data" / f"{run.name}.jsonl", out / "data" / f"{run.name}.{MANIFEST}"
    is_main = accelerator is None or accelerator.is_main_process
    is_done = is_finished(manifest, made_from=made_from)
    if not is_done and is_main:
        recorded = recorded_origin(manifest)
        if recorded is not None and _of_answers(recorded) != _of_answers(made_from):
            raise StudyError(
                f"{file} was made from something else: {what_differs(recorded, made_from)}; "
                f"give another --out, or remove {manifest}"
            )
        samples = asked_about(shelf.prepared, run)
        drawn = draw_answers(run, shelf, samples, display)
        answers = {name: [answer.text for answer in given] for name, given in drawn.items()}
        work = pick_best if run.method == "best_of" else make_pairs
        made, record = work(run, shelf, samples, answers, display)
        common = _provenance(run, study, record)
        rows = tuple(dataclasses.replace(sample, tags={**sample.tags, **common}) for sample in made)
        findings: list[Finding] = []
        if rows:
            rows, findings = look_at_made(run.name, rows, shelf)
            for told in notes_of_findings(findings):
                display.say(f"{run.name}: {told}")
            refuse_faults(findings)
        if len(rows) < len(made):
            record["sentence"] += f" {len(made) - len(rows):,} of these are too long to be learnt, and are left out."
        record["findings"] = [dataclasses.asdict(finding) for finding in findings]
        write_samples(file, rows)
        num_cut = sum(answer.finish_reason == CUT for given in drawn.values() for answer in given)
        if num_cut:
            record["sentence"] += f" {num_cut:,} drawn answers reached max_new_tokens and count as ending there."
        record |= {"step": run.step, "method": run.method, "on": list(run.on), "num_cut": num_cut, "tags": common}
        record.setdefault("stopped", False)
        write_file(record_file(out, run.name), canonical_json(record))
        files = [file, record_file(out, run.name), out / "drawn" / f"{run.name}.duels.jsonl"]
        write_manifest(manifest, [made for made in files if made.exists()], made_from=made_from)
        display.say(f"{run.name}: {record['sentence']}")
    if accelerator is not None:
        accelerator.wait_for_everyone()
    _take_over(run, shelf.prepared, file)
    hashes[run.name] = samples_sha256(shelf.prepared.sets[run.name])
    return not is_done


def take_over_finished(prepared: Prepared, out: Path, hashes: dict[str, str]) -> None:
    """Put rows that an earlier start made in their stand-ins' place; the others' hashes are not known yet."""
    for run in prepared.plan.runs:
        if run.method in MAKES_DATA:
            hashes.pop(run.name, None)
            if is_finished(out / "data" / f"{run.name}.{MANIFEST}"):
                _take_over(run, prepared, out / "data" / f"{run.name}.jsonl")
                hashes[run.name] = samples_sha256(prepared.sets[run.name])


def _take_over(run: StepRun, prepared: Prepared, file: Path) -> None:
    """Read made rows; their pictures are those of the rows that were asked about."""
    asked = {sample.id: sample for sample in prepared.samples(run.on)}
    made = (
        dataclasses.replace(asked[row["id"]], answer=row["answer"], rejected=row.get("rejected"), tags=row["tags"])
        for row in read_jsonl(file)
    )
    put_in_place(prepared, run.name, tuple(made))


def _of_answers(made_from: Mapping[str, str]) -> dict[str, str]:
    """Leave out what may change in a directory: then a set is made again, of the same answers."""
    may_change = ("accept", "on_bad_row")
    return {
        name: value for name, value in made_from.items() if name not in may_change and not name.startswith("learnt/")
    }


def _origin(run: StepRun, shelf: Shelf) -> dict[str, str]:
    """Say what a step's rows are made from: who answered, what, how, and who judged."""
    from sightline.generation.critique import PROMPT_SHA256
    from sightline.runner.judging import local_identity
    from sightline.runner.metrics import judge_origin, metric_of, metric_origins

    study, step = shelf.prepared.study, step_that_makes(shelf.prepared.study, run)
    judge = who_judges(step)
    depends = _drawn_from(run, shelf) | {"settings/judge": judge, "on_bad_row": shelf.prepared.on_bad_row}
    for other in shelf.prepared.plan.runs:  # how long a row may be is decided by those that learn it
        if other.training is not None and run.name in (*other.on, *other.validation):
            depends[f"learnt/{other.name}"] = repr((other.method, other.settings.row_tokens, other.settings.layout))
    if isinstance(step, Critique):
        depends["accept"] = study.accept.get(AT_CHANCE, "")
    if judge in study.judges:
        depends |= judge_origin(judge, study.judges[judge], study.folder)
        if (base := study.judges[judge].base) is not None:
            depends |= {f"judge/{key}": value for key, value in local_identity(base, shelf).items()}
    elif judge != "self" and not is_model(study, judge):
        depends |= metric_origins([metric_of(study, judge)], study.folder)
    else:
        depends["prompt"] = PROMPT_SHA256
        judge_name = judge_model(study, shelf.prepared.plan, run)
        depends |= {f"judge/{key}": value for key, value in shelf.identity(judge_name).items()}
    return depends


def _drawn_from(run: StepRun, shelf: Shelf) -> dict[str, str]:
    """Say what a step's drawn answers are made from."""
    study, step = shelf.prepared.study, step_that_makes(shelf.prepared.study, run)
    settings = step.model_dump(mode="json", exclude={"judge", "by", "rows"}) | _how_drawn(run, study)
    return {
        **{f"parent/{key}": value for key, value in shelf.identity(run.parent).items()},
        "asked": samples_sha256(tuple(asked_about(shelf.prepared, run))),
        **{f"settings/{name}": str(value) for name, value in settings.items()},
        "wording": repr(wording_of(shelf.prepared.plan, AS_TRAINED)),
    }


def _how_drawn(run: StepRun, study: Study) -> dict[str, Any]:
    """Give what an answer of a step depends on beside model and question, as `Decoding` has it."""
    step = step_that_makes(study, run)
    return {
        "seed": run.seed or 0,
        "temperature": step.temperature,
        "top_k": step.top_k,
        "max_new_tokens": step.max_new_tokens or study.evaluate.max_new_tokens,
    }


def _provenance(run: StepRun, study: Study, record: Mapping[str, Any]) -> dict[str, str]:
    """Say what all rows of a step have in common: who answered and how, who judged and by which prompt."""
    told = {"made_by": run.name, "answered_by": run.parent, **_how_drawn(run, study), "judged_by": record["judge"]}
    told["prompt_sha256"] = record.get("prompt_sha256")
    return {name: str(value) for name, value in told.items() if value is not None}


def judge_model(study: Study, plan: Plan, run: StepRun) -> str:
    """Name the model that judges a critique: the one that answered, or another one, of the run's seed if it has one."""
    step = step_that_makes(study, run)
    assert isinstance(step, Critique), "best_of is judged by metrics"
    if step.judge == "self":
        return run.parent
    seeded = f"{step.judge}@{run.seed}"
    return seeded if any(other.name == seeded for other in plan.runs) else step.judge


def draw_answers(run: StepRun, shelf: Shelf, samples: Sequence[Sample], display: Display) -> dict[str, list[Answer]]:
    """Draw the step's answers, or go on with what an interrupted start has drawn.

    Returns:
        the answers to each sample, in the order in which they were drawn.
    """
    from sightline.generation.answering import Wording, answer_samples, begin_answers, read_partial, write_answers
    from sightline.generation.sampling import Decoding

    step, study = step_that_makes(shelf.prepared.study, run), shelf.prepared.study
    decoding = Decoding(**_how_drawn(run, study), samples=step.samples)
    made_from = _drawn_from(run, shelf)
    path = shelf.out / "drawn" / f"{run.name}.jsonl"
    manifest = path.with_name(f"{run.name}.{MANIFEST}")
    if not is_finished(manifest, made_from=made_from):
        started = begin_answers(path, made_from)
        done = {(answer.sample_id, answer.k): answer for answer in read_partial(path)}
        loaded, (text, system) = shelf.wear(run.parent), wording_of(shelf.prepared.plan, AS_TRAINED)
        wording = Wording(text=text, system=system)
        with display.bar(f"{run.name}: answers", len(samples) * step.samples, "answers", done=len(done)) as bar:

            def rows():
                for row in answer_samples(
                    loaded, samples, decoding, model=run.parent, data=run.name, wording=wording, done=done
                ):
                    bar.advance(len(row))
                    yield row

            write_answers(path, rows(), order={(run.name, sample.id): n for n, sample in enumerate(samples)})
        started.unlink()
        write_manifest(manifest, [path], made_from=made_from)
    drawn: dict[str, list[Answer]] = {sample.id: [] for sample in samples}
    for row in read_jsonl(path):
        drawn[row["sample_id"]].append(Answer(**row))
    return drawn

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

from sightline.data.sets import samples_sha256, write_samples
from sightline.errors import StudyError
from sightline.records import Answer, Sample
from sightline.runner.display import Display
from sightline.runner.prepare import wording_of
from sightline.runner.reading import Prepared, step_that_makes
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
from sightline.study.names import MAKES_DATA, is_model
from sightline.study.steps import Critique

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sightline.runner.make import Shelf


AS_TRAINED = "{question}"
"""The wording in which answers are drawn: the one that training uses."""


def record_file(out: Path, name: str) -> Path:
    """Name the file that says how the making of a set went."""
    return out / "data" / f"{name}.record.json"


def read_records(out: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Read how the making of every set went that is made so far."""
    files = {run.name: record_file(out, run.name) for run in plan.runs if run.method in MAKES_DATA}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def as_carried_out(plan: Plan, out: Path) -> Plan:
    """Leave out of a plan what waits for a set that was not made because its judge judges no better than chance."""
    lost = {name for name, record in read_records(out, plan).items() if record.get("stopped")}
    if not lost:
        return plan
    runs: list[StepRun] = []
    for run in plan.runs:  # each after what it depends on
        if lost.intersection((*run.parents, *run.on, *run.validation)):
            lost.add(run.name)
        elif run.name not in lost or run.method in MAKES_DATA:
            runs.append(run)
    whole = [name for name in plan.models if name.partition("~")[0] not in {each.partition("~")[0] for each in lost}]
    return dataclasses.replace(
        plan,
        runs=tuple(runs),
        models=tuple(whole),
        comparisons=tuple(
            asked for asked in plan.comparisons if not lost.intersection(name for pair in asked.pairs for name in pair)
        ),
    )


def notes_of_made_data(study: Study, out: Path) -> list[str]:
    """Say how the making of a study's own data went, and what was not made for want of it."""
    plan = plan_study(study)
    left = {run.name for run in as_carried_out(plan, out).runs}
    missing = ", ".join(run.name for run in plan.runs if run.name not in left)
    told = [f"{name}: {record['sentence']}" for name, record in read_records(out, plan).items()]
    return [*told, f"Not made: {missing}."] if missing else told


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
    """
    from sightline.runner.best_of import pick_best
    from sightline.runner.self_critique import make_pairs

    made_from = _origin(run, shelf, hashes)
    out = shelf.out
    file, manifest = out / "data" / f"{run.name}.jsonl", out / "data" / f"{run.name}.{MANIFEST}"
    is_main = accelerator is None or accelerator.is_main_process
    is_done = is_finished(manifest, made_from=made_from)
    if not is_done and is_main:
        recorded = recorded_origin(manifest)
        if recorded is not None and recorded != made_from:
            raise StudyError(
                f"{file} was made from something else: {what_differs(recorded, made_from)}; "
                f"give another --out, or remove {manifest}"
            )
        samples = shelf.prepared.sets[run.name]
        answers = draw_answers(run, shelf, samples, made_from, display)
        work = pick_best if run.method == "best_of" else make_pairs
        made, record = work(run, shelf, samples, answers, display)
        write_samples(file, tuple(made))
        record |= {"step": run.step, "method": run.method, "from": run.parent, "on": list(run.on)}
        write_file(record_file(out, run.name), canonical_json(record))
        write_manifest(manifest, [file, record_file(out, run.name)], made_from=made_from)
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
    prepared.sets[run.name] = tuple(
        dataclasses.replace(asked[row["id"]], answer=row["answer"], rejected=row.get("rejected"), tags=row["tags"])
        for row in read_jsonl(file)
    )
    for key in [key for key in prepared.rendered if key[0] == run.name]:
        del prepared.rendered[key]


def _origin(run: StepRun, shelf: Shelf, hashes: Mapping[str, str]) -> dict[str, str]:
    """Say what a step's rows are made from: who answered, what, how, and who judged."""
    from sightline.generation.critique import PROMPT_SHA256
    from sightline.runner.metrics import judge_origin, metric_of, metric_origins

    study, step = shelf.prepared.study, step_that_makes(shelf.prepared.study, run)
    judge = step.judge if isinstance(step, Critique) else step.by
    depends = {f"parent/{key}": value for key, value in shelf.identity(run.parent).items()}
    if judge in study.judges:
        depends |= judge_origin(judge, study.judges[judge], study.folder)
    elif judge != "self" and not is_model(study, judge):
        depends |= metric_origins([metric_of(study, judge)], study.folder)
    else:
        depends["prompt"] = PROMPT_SHA256
        depends |= {f"judge/{key}": value for key, value in shelf.identity(judge_model(run, shelf)).items()}
    return {
        **depends,
        **{f"data/{name}": hashes[name] for name in run.on},
        **{f"settings/{name}": str(value) for name, value in step.model_dump(mode="json").items()},
        "settings/max_new_tokens": str(step.max_new_tokens or study.evaluate.max_new_tokens),
        "wording": repr(wording_of(shelf.prepared.plan, AS_TRAINED)),
        "seed": str(run.seed or 0),
    }


def judge_model(run: StepRun, shelf: Shelf) -> str:
    """Name the model that judges a critique: the one that answered, or another one, of the run's seed if it has one."""
    step = step_that_makes(shelf.prepared.study, run)
    assert isinstance(step, Critique)
    if step.judge == "self":
        return run.parent
    seeded = f"{step.judge}@{run.seed}"
    return seeded if any(other.name == seeded for other in shelf.prepared.plan.runs) else step.judge


def draw_answers(
    run: StepRun, shelf: Shelf, samples: Sequence[Sample], made_from: Mapping[str, str], display: Display
) -> dict[str, list[str]]:
    """Draw the step's answers, or go on with what an interrupted start has drawn.

    Returns:
        the texts for each sample, in the order in which they were drawn.
    """
    from sightline.generation.answering import Wording, answer_samples, read_partial, write_answers
    from sightline.generation.sampling import Decoding

    step = step_that_makes(shelf.prepared.study, run)
    decoding = Decoding(
        max_new_tokens=step.max_new_tokens or shelf.prepared.study.evaluate.max_new_tokens,
        temperature=step.temperature,
        top_k=step.top_k,
        samples=step.samples,
        seed=run.seed or 0,
    )
    path = shelf.out / "drawn" / f"{run.name}.jsonl"
    manifest = path.with_name(f"{run.name}.{MANIFEST}")
    if not is_finished(manifest, made_from=made_from):
        started = path.with_name(f"{path.name}.started")
        if not started.exists() or json.loads(started.read_text(encoding="utf-8")) != dict(made_from):
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)
            write_file(started, canonical_json(dict(made_from)))
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
        write_manifest(manifest, [path], made_from=made_from)
        started.unlink()
    texts: dict[str, list[str]] = {sample.id: [] for sample in samples}
    for row in read_jsonl(path):
        texts[row["sample_id"]].append(Answer(**row).text)
    return texts

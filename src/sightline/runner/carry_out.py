"""The whole study, in order: data, checks, models, answers, scores, verdicts, report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import functools
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.checking.findings import Finding, refuse_faults
from sightline.checking.first_loss import FIRST_LOSS
from sightline.checking.models import MADE_FOR_ANOTHER_BASE
from sightline.data.fetching import is_name, pinned
from sightline.data.sets import write_samples
from sightline.errors import MissingDataError, RefusedError, StudyError
from sightline.records import RunRecord, to_json
from sightline.report.build import build_report
from sightline.runner.beside import stand_beside
from sightline.runner.check import accept, check_prepared
from sightline.runner.clock import Clock
from sightline.runner.comparing import factorials_of, read_seen
from sightline.runner.display import Display
from sightline.runner.judges import carry_out_judge, judge_families, refuse_judges
from sightline.runner.made_data import as_carried_out, lost_runs, make_data, notes_of_made_data, take_over_finished
from sightline.runner.metrics import judges_asked, metrics_of
from sightline.runner.prepare import prepare, problems_json, set_hashes
from sightline.runner.reading import Prepared
from sightline.runner.results import read_samples, read_scores
from sightline.runner.served import notes_of_served_models, refuse_served_models
from sightline.storage import MANIFEST, canonical_json, is_finished, write_file
from sightline.study import (
    Study,
    load_study,
    model_location,
    plan_study,
    refuse_unbuilt,
    resolved_yaml,
    source_location,
    study_sha256,
)
from sightline.study.names import MAKES_DATA, is_served
from sightline.verdict.compare import BASE, Comparison, compare_models
from sightline.verdict.questions import split_name

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sightline.runner.make import Shelf

PACKAGES = ("sightline", "torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pillow")


def run_study(
    study: Study, out: Path, *, until: str | None = None, with_figures: bool = True, display: Display | None = None
) -> Path:
    """Carry a study out; what is finished is kept, what was interrupted goes on.

    Args:
        study: what is asked.
        out: its directory; made when absent.
        until: stop after this step's models are made.
        with_figures: whether the report's figures/ is drawn, which takes seconds.
        display: where progress is shown.

    Returns:
        the report's path, or the directory if `until` stopped before there is one.

    Raises:
        StudyError: if the study asks for what is not built, or the directory belongs to another study.
        BadRowsError: if rows cannot be used.
        CheckFault: if a check found a fault that the study does not accept.
    """
    refuse_unbuilt(study)
    plan = plan_study(study)
    if until is not None and until not in study.steps:
        raise StudyError(f"--until {until}: there is no such step; there is {', '.join(study.steps)}")
    accelerator = _several_processes()
    is_main = accelerator is None or accelerator.is_main_process
    display = display or Display(quiet=not is_main)
    if accelerator is not None and study.budget.gpu_hours is not None:
        raise StudyError("budget.gpu_hours with several processes is not built yet; remove it from the study")
    with _only_one(out) if is_main else contextlib.nullcontext():
        clock = Clock(out / "spent.json" if is_main else None)
        with clock.measure("data"):
            prepared, family = prepare(study)
            refuse_judges(prepared, out)
            refuse_served_models(prepared, out)
        with clock.measure("check"):
            findings = check_prepared(prepared, family)
        _say_findings([found for found in findings if found.severity == "warning" or found.accepted], display)
        refuse_faults(findings)
        _say_rows(prepared, display)

        from sightline.runner.evaluate import evaluate_model
        from sightline.runner.make import Shelf, look_at_models, make_model, refuse_changed
        from sightline.runner.pictures_matter import ask_without_pictures, write_pictures_matter

        spend = functools.partial(_spend, study.budget.gpu_hours, accelerator, clock)
        families = {model_location(study, study.base): family, **judge_families(study, plan)}
        shelf = Shelf(prepared, out, device=accelerator.device if accelerator else None, families=families)
        about_models = look_at_models(shelf)
        _say_findings(about_models, display)
        findings += about_models
        with clock.measure("first loss"):
            findings += _first_losses(shelf, out, display)
        _say_hardware(shelf, display)
        hashes = set_hashes(prepared.sets)
        take_over_finished(prepared, out, hashes)
        for run in plan.runs:
            if run.method not in MAKES_DATA:
                refuse_changed(run, shelf, hashes)
        if is_main:  # only now: a run that is refused leaves the record of an earlier one alone
            _record_start(out, prepared, findings)
        last = next((run.name for run in reversed(plan.runs) if run.step == until), None)
        lost = lost_runs(study, plan, out)
        for run in plan.runs:
            if run.name not in lost:
                with clock.measure(f"train {run.name}") as work:
                    if run.method in MAKES_DATA:
                        work.done = make_data(run, shelf, hashes, display, accelerator)
                        lost = lost_runs(study, plan, out)
                        spend()
                    else:
                        work.done = make_model(run, shelf, hashes, display, spend, accelerator)
            if run.name == last:
                return out
        prepared.plan = as_carried_out(study, plan, out)
        if is_main:
            for model in prepared.plan.models:
                spend()
                with clock.measure(f"evaluate {model}", is_here=not is_served(study, model)) as work:
                    work.done = evaluate_model(model, shelf, hashes, display)
                    if study.evaluate.pictures_matter:
                        work.done = ask_without_pictures(model, shelf, display) or work.done
            for name, judge in judges_asked(study).items():
                spend()
                if judge.kind == "pairwise" and judge.against in lost:
                    display.say(f"warning: {name} is not asked: {judge.against}, which it compares with, was not made")
                    continue
                with clock.measure(f"judge {name}", is_here=judge.server is None) as work:
                    work.done = carry_out_judge(name, shelf, hashes, display)
            with clock.measure("compare"):
                write_file(out / "compare.json", canonical_json(compare_directory(out)))
                write_pictures_matter(out)
            _record_run(out, shelf, hashes, clock)
            build_report(out, with_figures=with_figures)
        if accelerator is not None:
            accelerator.wait_for_everyone()
    return out / "report.html"


def compare_directory(out: Path, *, by: str | None = None, margin: float | None = None) -> dict[str, Any]:
    """Compare a study's models from what its directory holds.

    Args:
        out: the study's directory.
        by: another metric than the study states for its questions, which asks them again, now, without their margins.
        margin: another margin than the study states, in the metric's unit; likewise.

    Raises:
        MissingDataError: if the directory holds no study or no scores.
    """
    if not (out / "study.yaml").exists():
        raise MissingDataError(f"{out}: no study.yaml, so this is no study's directory; `sightline run` makes one")
    study = load_study(out / "study.yaml")
    plan = as_carried_out(study, plan_study(study), out)
    metrics = metrics_of(study)
    scores = read_scores(out, plan.models, metrics)
    missing = [model for model in plan.models if not any(arm[0] == model for arm in scores)]
    if missing:
        raise MissingDataError(f"{out}: no scores of {', '.join(missing)} yet; finish the study with `sightline run`")
    stated = [
        Comparison(model=asked.model, against=asked.against, by=asked.by, margin=asked.margin)
        for asked in plan.comparisons
    ]
    recipes = dict.fromkeys(split_name(model)[0] for model in plan.models if model != BASE)
    asked = stated or [Comparison(model=recipe, against=BASE) for recipe in recipes]
    otherwise = [
        dataclasses.replace(
            question,
            by=by or question.by,
            margin=margin if margin is not None else (question.margin if by in (None, question.by) else None),
        )
        for question in asked
    ]
    samples = read_samples(out, plan.asked, study.evaluate.rows)
    compared = compare_models(
        study=study.name,
        samples=samples,
        scores=scores,
        metrics=metrics,
        stated=stated,
        asked_later=[question for question in otherwise if question not in asked],
        accepted_notes=[
            *study.notes,
            *_accepted_notes(out),
            *notes_of_made_data(study, out),
            *notes_of_served_models(study, plan, out),
        ],
        seen=read_seen(out),
        factorials=list(factorials_of(study)),
    )
    return compared | stand_beside(out, study, plan, compared=compared, samples=samples, scores=scores)


def _accepted_notes(out: Path) -> list[str]:
    if not (out / "checks.json").exists():
        return []
    findings = json.loads((out / "checks.json").read_text(encoding="utf-8"))
    accepted = [
        f"{finding['message']}. Accepted: {finding['accepted']}."
        for finding in findings
        if finding["accepted"] and finding["severity"] != "note"
    ]
    return accepted + [f"{finding['message']}." for finding in findings if finding["name"] == MADE_FOR_ANOTHER_BASE]


def _first_losses(shelf: Shelf, out: Path, display: Display) -> list[Finding]:
    """Measure the loss before the first step, or read what an earlier start found where nothing is left to train.

    Raises:
        CheckFault: if it is no better than a guess and the study does not accept that.
    """
    from sightline.runner.first_loss import look_at_first_loss

    trained = [run.name for run in shelf.prepared.plan.runs if run.training is not None]
    if all(is_finished(out / "models" / name / MANIFEST) for name in trained) and (out / "checks.json").exists():
        recorded = json.loads((out / "checks.json").read_text(encoding="utf-8"))
        return [Finding(**finding) for finding in recorded if finding["name"] == FIRST_LOSS]
    found = [accept(shelf.prepared.study, finding) for finding in look_at_first_loss(shelf)]
    _say_findings(found, display)
    refuse_faults(found)
    return found


def _say_findings(findings: list[Finding], display: Display) -> None:
    for finding in findings:
        accepted = f" (accepted: {finding.accepted})" if finding.accepted else ""
        display.say(f"{finding.severity}: {finding.name}: {finding.message}{accepted}")


def _say_hardware(shelf: Shelf, display: Display) -> None:
    """Say which keys of `hardware` have no effect here."""
    memory_gib = shelf.prepared.study.hardware.memory_gib
    if memory_gib != "auto" and not shelf.on_accelerator:
        display.say(f"note: hardware.memory_gib = {memory_gib:g} has no effect on a CPU; row_tokens bounds a row there")


def _say_rows(prepared: Prepared, display: Display) -> None:
    left_out = len({(problem.file, problem.row) for problem in prepared.problems if not problem.repaired})
    repaired = sum(loaded.num_repaired for parts in prepared.loaded.values() for loaded in parts.values())
    for name, parts in prepared.loaded.items():
        held = ", ".join(f"{part} {loaded.num_rows:,}" for part, loaded in parts.items())
        display.say(f"{name}: rows in the source: {held}")
    sizes = ", ".join(f"{name} {len(prepared.sets[name]):,}" for name in prepared.plan.data)
    display.say(f"rows: {sizes}; {left_out} left out, {repaired} repaired")


def _record_start(out: Path, prepared: Prepared, findings: list[Finding]) -> None:
    study = prepared.study
    write_file(out / "study.yaml", resolved_yaml(study))
    for name in prepared.plan.data:
        write_samples(out / "data" / f"{name}.jsonl", prepared.sets[name])
    write_file(out / "data" / "problems.json", canonical_json(problems_json(prepared)))
    write_file(out / "data" / "seen.json", canonical_json(prepared.seen))
    write_file(out / "checks.json", canonical_json([dataclasses.asdict(finding) for finding in findings]))


def _record_run(out: Path, shelf: Shelf, hashes: Mapping[str, str], clock: Clock) -> None:
    import torch

    from sightline.models.loading import base_identity

    def rounded(values: Mapping[str, float]) -> dict[str, float]:
        return {name: round(value, 3) for name, value in values.items()}

    study = shelf.prepared.study
    versions = {"python": platform.python_version(), "base": base_identity(model_location(study, study.base))}
    for package in (*PACKAGES, "bitsandbytes") if shelf.needs_bitsandbytes else PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    sources = {name: source_location(study, data) for name, data in study.data.items() if data.source}
    versions |= {f"data {name}": pinned(source) for name, source in sources.items() if is_name(source)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    hardware = {
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": shelf.used_precision,
        "peak_memory_kind": "accelerator" if torch.cuda.is_available() else "process",
    }
    if not shelf.has_loaded:  # nothing was computed this time: the numbers are from where they were made
        with contextlib.suppress(OSError, ValueError, KeyError):
            hardware = json.loads((out / "run.json").read_text(encoding="utf-8"))["hardware"]
    record = RunRecord(
        study=study.name,
        study_sha256=study_sha256(study),
        versions=versions,
        hardware=hardware,
        seconds=rounded(clock.seconds),
        peak_memory_gib=rounded(clock.peak_memory_gib),
        data_sha256=dict(hashes),
        notes=tuple(_accepted_notes(out)),
    )
    write_file(out / "run.json", canonical_json(to_json(record)))


def _spend(limit: float | None, accelerator: Accelerator | None, clock: Clock) -> None:
    """Stop where the study's budget ends; all that is finished is kept.

    Raises:
        RefusedError: if the limit is reached.
    """
    if limit is None:
        return
    hours = clock.used() / 3600 * (accelerator.num_processes if accelerator else 1)
    if hours >= limit:
        raise RefusedError(
            f"budget.gpu_hours = {limit:g} is used up ({hours:.3g} hours); "
            "what is finished is kept: raise it, and the same command goes on from here"
        )


def _several_processes() -> Accelerator | None:
    """Join the other processes of a `torchrun` or `accelerate launch`; None when there are none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    import torch
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    # The others wait while one process answers, which can take hours.
    patience = InitProcessGroupKwargs(timeout=datetime.timedelta(days=7))
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Keep a second run out of a study's directory.

    Raises:
        StudyError: naming the process that is at work there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StudyError(f"--out {out} is a file; name a folder") from None
    with (out / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StudyError(
                f"{out}: process {lock.read().strip() or '?'} is at work there; wait for it, or give another --out"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield

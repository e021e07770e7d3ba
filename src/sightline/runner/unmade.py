"""The models that a study was to make and has not made, each with the reason, for those who ask for them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sightline.runner.made_data import lost_runs, read_records
from sightline.study import Study, plan_study
from sightline.study.names import MAKES_DATA


def not_made(study: Study, out: Path) -> dict[str, str]:
    """Name the models of a study's steps that its directory does not hold, each with the reason."""
    plan = plan_study(study)
    lost = lost_runs(study, plan, out)
    stopped = [f"{name}: {record['sentence']}" for name, record in read_records(out, plan).items() if record["stopped"]]
    return {
        run.name: " ".join(stopped) if run.name in lost else "`sightline run` has not come to it"
        for run in plan.runs
        if run.method not in MAKES_DATA and (run.name in lost or not (out / "models" / run.name).exists())
    }


def say_models(known: Iterable[str], missing: Mapping[str, str]) -> str:
    """List the models that a study has, and those that it was to have and has not."""
    there = ", ".join(name for name in known if name not in missing)
    reasons: dict[str, list[str]] = {}
    for name, reason in missing.items():
        reasons.setdefault(reason, []).append(name)
    return there + "".join(f"; not made: {', '.join(names)} ({reason})" for reason, names in reasons.items())

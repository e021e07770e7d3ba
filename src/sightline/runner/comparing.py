"""What a comparison needs to know of a study besides scores: its grids, and which test rows training has seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from sightline.study import Dpo, Sft, Study
from sightline.study.names import run_name
from sightline.study.plan import grid_members
from sightline.study.text import flatten
from sightline.verdict.effects import Factorial


def factorials_of(study: Study) -> Iterator[Factorial]:
    """Find the steps whose members cross settings: every combination of values once, and nothing else changed."""
    for name, step in study.steps.items():
        if not isinstance(step, Sft | Dpo):
            continue
        members = {member: dict(flatten(changes)) for member, changes in _members(step, name).items()}
        settings = list(next(iter(members.values()), {}))
        if not settings or any(list(changes) != settings for changes in members.values()):
            continue
        cells = {
            tuple(_shown(value) for value in changes.values()): run_name(name, member, None)
            for member, changes in members.items()
        }
        factors = {
            setting: tuple(dict.fromkeys(cell[place] for cell in cells)) for place, setting in enumerate(settings)
        }
        if len(cells) == len(members) == math.prod(map(len, factors.values())) > 1:
            crossed = {setting: values for setting, values in factors.items() if len(values) > 1}
            kept = [place for place, setting in enumerate(settings) if setting in crossed]
            models = {tuple(cell[place] for place in kept): model for cell, model in cells.items()}
            yield Factorial(step=name, factors=crossed, models=models)


def read_seen(out: Path) -> dict[str, dict[str, str]]:
    """Read which rows of each test set training has seen, and how; nothing where an earlier version left no record."""
    file = out / "data" / "seen.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _members(step: Sft | Dpo, name: str) -> Mapping[str, Mapping[str, object]]:
    return step.members or grid_members(step.grid, f"steps.{name}")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""What the models took: time, memory and money, and quality against them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from sightline.report.axes import Scale, scale_around
from sightline.report.metric_facts import metric_facts
from sightline.report.reading import Row, StudyFiles
from sightline.report.sides import metric_order
from sightline.report.tables import Cell, Table, columns, number, words
from sightline.report.wording import MISSING, level, rounded, unit_name

PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64")
"""What run.json calls a machine without an accelerator."""

_WORK = ("train ", "evaluate ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A model in a drawing of quality against what it takes.

    Args:
        model: its name.
        x: what it takes.
        y: the metric, percent for rates.
        low: lower end of the metric's interval, or None.
        high: upper end.
    """

    model: str
    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """Quality against one thing that models take.

    Args:
        name: for its file.
        x_title: the horizontal axis, with its unit.
        y_title: the vertical axis, with its unit.
        x: its scale.
        y: its scale.
        spots: one per model.
    """

    name: str
    x_title: str
    y_title: str
    x: Scale
    y: Scale
    spots: tuple[Spot, ...]


def _seconds(files: StudyFiles) -> Mapping[str, float]:
    recorded = (files.run or {}).get("seconds")
    return recorded if isinstance(recorded, Mapping) else {}


def _peaks(files: StudyFiles) -> Mapping[str, float]:
    """Most memory of each piece of work, named as its seconds are, where run.json has it."""
    recorded = (files.run or {}).get("peak_memory_gib")
    return recorded if isinstance(recorded, Mapping) else {}


def _whose_memory(files: StudyFiles) -> str:
    """Say which memory was measured, as run.json has it: " of the accelerator", " of the process", or ""."""
    hardware = (files.run or {}).get("hardware")
    kind = hardware.get("peak_memory_kind") if isinstance(hardware, Mapping) else None
    return f" of the {kind}" if kind in ("accelerator", "process") else ""


def seconds_per_answer(files: StudyFiles) -> dict[str, float]:
    """Divide the time that evaluating a model took by its answers; loading and scoring are in it."""
    seconds = _seconds(files)
    return {
        model: float(seconds[f"evaluate {model}"]) / len(rows)
        for model, rows in files.answers.items()
        if f"evaluate {model}" in seconds and rows
    }


def hours_of_work(files: StudyFiles) -> tuple[str, float] | None:
    """Add up training, answering and judging: what the hours are of, and how many; None where no time was recorded."""
    spent = [float(value) for name, value in _seconds(files).items() if str(name).startswith((*_WORK, "judge "))]
    if not spent:
        return None
    hardware = (files.run or {}).get("hardware")
    device = str(hardware.get("device", "")) if isinstance(hardware, Mapping) else ""
    return ("GPU-hours" if device and device.lower() not in PROCESSORS else "processor hours"), sum(spent) / 3600


def costs_table(files: StudyFiles) -> Table | None:
    """Give what each model took to make and to ask; None where no time was recorded."""
    seconds, peaks, per_answer = _seconds(files), _peaks(files), seconds_per_answer(files)
    models = [name for name in files.answers if f"evaluate {name}" in seconds or f"train {name}" in seconds]
    if not models:
        return None

    def peak(model: str) -> float | None:
        known = [float(peaks[f"{work}{model}"]) for work in _WORK if f"{work}{model}" in peaks]
        return max(known, default=None)

    def shown(value: float | None, digits: int) -> Cell:
        return Cell(shown=MISSING if value is None else rounded(value, digits), value=value)

    rows = []
    for model in models:
        size = files.adapter_bytes.get(model)
        row = [words(model), shown(seconds.get(f"train {model}"), 1), shown(seconds.get(f"evaluate {model}"), 1)]
        row += [number(len(files.answers[model])), shown(per_answer.get(model), 4)]
        row.append(shown(None if size is None else size / 2**20, 2))
        rows.append((*row, *([shown(peak(model), 2)] if peaks else [])))
    titles = ["Model", "#Training (s)", "#Answering and scoring (s)", "#Answers", "#Per answer (s)", "#Adapter (MiB)"]
    titles += [f"#Peak memory{_whose_memory(files)} (GiB)"] if peaks else []
    return Table(
        name="costs",
        title="What each model took",
        columns=columns(*titles),
        rows=tuple(rows),
        note="Wall-clock time on the machine named below, loading and waiting for servers included: a comparison "
        "within this study alone.",
    )


def trades(files: StudyFiles) -> tuple[Trade, ...]:
    """Put the first metric against what models take: time per answer, and peak memory where it was recorded."""
    metric = next(iter(metric_order(files.compare)), "")
    values: dict[str, Row] = {}
    for arm in files.compare.get("arms") or ():
        if metric in arm["metrics"]:
            values.setdefault(arm["model"], arm["metrics"][metric])
    title, unit = metric_facts(files.compare, metric)[:2]
    peaks = {name.partition(" ")[2]: float(value) for name, value in _peaks(files).items() if name.startswith("eval")}
    taken = (
        ("seconds", "seconds per answer, loading and scoring included", seconds_per_answer(files)),
        ("memory", f"peak memory{_whose_memory(files)} while answering (GiB)", peaks),
    )
    return tuple(
        _trade(name, x_title, f"{title} ({unit_name(unit, of_change=False)})", unit, x, values)
        for name, x_title, x in taken
        if len({model for model in x if values.get(model, {}).get("value") is not None}) > 1
    )


def _trade(
    name: str, x_title: str, y_title: str, unit: str, taken: Mapping[str, float], values: Mapping[str, Row]
) -> Trade:
    factor = 100 if unit == "rate" else 1
    spots = []
    for model, x in taken.items():
        value = values.get(model, {})
        if value.get("value") is not None:
            low, high = value.get("interval") or (None, None)
            ends = {"low": low and low * factor, "high": high and high * factor}
            spots.append(Spot(model=model, x=x, y=value["value"] * factor, **ends))
    return Trade(
        name=name,
        x_title=x_title,
        y_title=y_title,
        x=scale_around([0.0, *(spot.x for spot in spots)]),
        y=scale_around([end for spot in spots for end in (spot.y, spot.low, spot.high)]),
        spots=tuple(spots),
    )


def training_table(files: StudyFiles) -> Table | None:
    """Give each training in numbers: steps, samples, tokens and the median time of a step."""
    rows = []
    for model, curve in files.curves.items():
        steps = [row for row in curve if "loss" in row]
        seconds = [float(row["seconds"]) for row in steps if isinstance(row.get("seconds"), int | float)]
        totals = [sum(int(row.get(key) or 0) for row in steps) for key in ("samples", "tokens", "executed_tokens")]
        median = statistics.median(seconds) if seconds else None
        shown = MISSING if median is None else rounded(median, 3)
        rows.append((words(model), number(len(steps)), *map(number, totals), Cell(shown=shown, value=median)))
    titles = ("Model", "#Optimizer steps", "#Samples", "#Tokens", "#Tokens that ran", "#Median time of a step (s)")
    return Table(name="training", title="Training", columns=columns(*titles), rows=tuple(rows)) if rows else None


def in_words(trade: Trade) -> str:
    """Say a drawing of quality against cost for those who cannot see it."""
    return "; ".join(f"{spot.model} {level(spot.y, '')} at {rounded(spot.x, 3)}" for spot in trade.spots)

"""Several wordings of the same questions: how far the difference moves with them, and whether the verdict does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.verdict.sentences import amount, level, model_in_words, subject

PROMPT_DEPENDENT = "prompt-dependent"


def across_wordings(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put together what was asked in more than one wording.

    Args:
        entries: questions of compare.json, in any order of wordings.

    Returns:
        per pair of models, metric and data set: mean, lowest and highest difference over the wordings, their standard
        deviation from three on, the verdict with each, whether the direction depends on the wording, and a sentence.
    """
    grouped: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        grouped.setdefault((entry["model"], entry["against"], entry["metric"], entry["data"]), []).append(entry)
    return [_together(members) for members in grouped.values() if len(members) > 1]


def by_wording(arms: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Say how far each model's own number moves with the wording of the questions.

    Args:
        arms: of compare.json.
        metrics: the names of those to look at.

    Returns:
        per model, data set and metric asked in several wordings: the value with each, their mean and range, and a
        sentence.
    """
    grouped: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for arm in arms:
        for metric in metrics:
            if (measured := arm["metrics"].get(metric)) and measured["value"] is not None:
                grouped.setdefault((arm["data"], metric, arm["model"]), {})[arm["template"]] = measured
    found = []
    for (data, metric, model), by_template in grouped.items():
        if len(by_template) < 2:
            continue
        values = {template: measured["value"] for template, measured in by_template.items()}
        lowest, highest = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        unit = next(iter(by_template.values()))["unit"]
        spread, mean = values[highest] - values[lowest], statistics.fmean(values.values())
        sentence = (
            f"{len(values)} wordings: mean {level(mean, unit)}, from {level(values[lowest], unit)} ({lowest}) to "
            f"{level(values[highest], unit)} ({highest}): the wording alone moves it by "
            f"{amount(spread, unit, signed=False)}."
        )
        place = {"model": model, "data": data, "metric": metric, "unit": unit}
        numbers = {"values": values, "mean": mean, "low": values[lowest], "high": values[highest], "range": spread}
        title = f"{model_in_words(model)}, {metric} on {data}"
        found.append({**place, **numbers, "title": title, "sentence": sentence})
    return found


def _together(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = members[0]
    verdicts = {entry["template"]: entry["verdict"] for entry in members}
    known = [entry["difference"] for entry in members if entry["difference"] is not None]
    found: dict[str, Any] = {key: first[key] for key in ("model", "against", "metric", "data", "unit")} | {
        "num_wordings": len(members),
        "mean": statistics.fmean(known) if known else None,
        "low": min(known, default=None),
        "high": max(known, default=None),
        "sd": statistics.stdev(known) if len(known) > 2 else None,
        "verdicts": verdicts,
        "prompt_dependent": bool(known) and min(known) < 0 < max(known),
    }
    return found | {"title": subject(found), "sentence": _say(found)}


def _say(found: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{template}: {verdict}" for template, verdict in found["verdicts"].items())
    verdicts = f"the verdict depends on the wording ({listed})"
    if len(set(found["verdicts"].values())) == 1:
        verdicts = f"the same verdict with each ({next(iter(found['verdicts'].values()))})"
    if found["mean"] is None:
        return f"{found['num_wordings']} wordings: {verdicts}."
    unit = found["unit"]
    spread = f", standard deviation {amount(found['sd'], unit, signed=False)}" if found["sd"] is not None else ""
    ends = f"from {amount(found['low'], unit).split()[0]} to {amount(found['high'], unit)}"
    direction = f" {PROMPT_DEPENDENT}: the direction changes with the wording." if found["prompt_dependent"] else ""
    return (
        f"{found['num_wordings']} wordings: mean {amount(found['mean'], unit)}, {ends}{spread}; {verdicts}.{direction}"
    )

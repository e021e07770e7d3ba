"""What was lost: how a tuned model does on a set that has nothing to do with what it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sightline.verdict.sentences import amount, subject


def what_was_lost(
    entries: Iterable[Mapping[str, Any]], untouched: str, *, metrics: Collection[str]
) -> list[dict[str, Any]]:
    """Put what a model lost on the untouched set beside what it gained where it was trained.

    Args:
        entries: the comparisons of compare.json, stated and exploratory.
        untouched: the set outside the training domain.
        metrics: the names of those to look at.

    Returns:
        One row per comparison on that set: its verdict, how many questions were forgotten and learnt, the differences
        on the other sets by the same metric, and a sentence.
    """
    every = [entry for entry in entries if entry["metric"] in metrics]
    return [_row(entry, every) for entry in every if entry["data"] == untouched]


def _row(entry: Mapping[str, Any], every: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    same = ("model", "against", "metric", "template")
    elsewhere = {
        other["data"]: other["difference"]
        for other in every
        if other["data"] != entry["data"]
        and all(other[key] == entry[key] for key in same)
        and other["difference"] is not None
    }
    kept = {key: entry[key] for key in (*same, "data", "verdict", "difference", "interval", "num_questions", "unit")}
    found = {**kept, "forgotten": entry["broke"], "learnt": entry["fixed"], "elsewhere": elsewhere}
    gained = "; ".join(f"{amount(value, entry['unit'])} on {data}" for data, value in elsewhere.items())
    beside = f" By the same metric elsewhere: {gained}." if gained else ""
    return {**found, "title": subject(entry), "sentence": f"{_moved(entry)}{entry['sentence']}{beside}"}


def _moved(entry: Mapping[str, Any]) -> str:
    """Count what was forgotten; a loss moves on every question, so nothing is counted there."""
    if not entry["binary"] or entry["neutral"]:
        return ""
    return (
        f"Of {entry['num_questions']:,} questions, {entry['broke']:,} that {entry['against']} answers right were lost "
        f"and {entry['fixed']:,} that it answers wrong were won: "
    )

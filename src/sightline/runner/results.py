"""What a study's directory holds of answers and scores, read back; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.records import Sample, Score, sample_from_json
from sightline.scoring.metrics import Metric
from sightline.storage import read_jsonl


def file_name(metric: str) -> str:
    """Turn a metric's name into a file's; a user's own has a path in it."""
    return metric.replace("/", "_").replace(":", "_")


def read_scores(
    out: Path, models: tuple[str, ...], metrics: list[Metric]
) -> dict[tuple[str, str, str], dict[str, list[Score]]]:
    """Read a study's scores: (model, data set, wording) to metric to scores."""
    arms: dict[tuple[str, str, str], dict[str, list[Score]]] = {}
    for model in models:
        for metric in metrics:
            for row in read_jsonl(out / "scores" / model / f"{file_name(metric.name)}.jsonl"):
                values: dict[str, Any] = {k: v for k, v in row.items() if k not in ("data", "template")}
                arm = arms.setdefault((model, row["data"], row["template"]), {})
                arm.setdefault(metric.name, []).append(Score(**values))
    return arms


def read_samples(out: Path, names: tuple[str, ...], rows: int | None) -> dict[str, dict[str, Sample]]:
    """Read the evaluation sets that a study stored, as far as they were asked: their first `rows` rows."""
    return {
        name: {row["id"]: sample_from_json(row) for row in read_jsonl(out / "data" / f"{name}.jsonl")[:rows]}
        for name in names
    }

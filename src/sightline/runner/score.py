"""Score anyone's answers against anyone's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.data.formats import load_source
from sightline.data.problems import require_clean
from sightline.errors import DataError, StudyError
from sightline.records import Sample, sample_from_json
from sightline.scoring.answer_files import metrics_by_rule, score_file
from sightline.storage import read_jsonl
from sightline.verdict.arms import describe_arm, scores_by_id

TASKS = ("vqa",)


def score_task(
    task: str, answers: Path, data: Path, *, rule: str = "sightline", split: str | None = None
) -> dict[str, Any]:
    """Score a file of answers.

    Args:
        task: what they are scored as; a name of `TASKS`.
        answers: JSON lines with an id, or image and question, and a text.
        data: the questions with their references, in any format that a study reads; pictures need not be there.
        rule: whose reading of closed questions.
        split: which of the source's splits was asked; needed where it has several.

    Returns:
        the arm as `compare.json` describes one: each metric with value, interval and counts.

    Raises:
        StudyError: no such task or rule, or no such split.
        DataError: answers and rows do not match one to one.
    """
    if task not in TASKS:
        raise StudyError(f"no task {task!r}; there is {', '.join(TASKS)}")
    samples = _rows(data, split)
    scores = score_file(answers, samples, rule)
    by_id = {sample.id: sample for sample in samples}
    metrics = metrics_by_rule(rule)
    arms = {name: scores_by_id(by_id, given, arm=str(answers)) for name, given in scores.items()}
    arm = describe_arm(
        by_id, metrics, arms, model=answers.stem, data=str(data), template="as given", seed=0, alpha=0.05
    )
    return {"task": task, "rule": rule, **arm}


def _rows(data: Path, split: str | None) -> tuple[Sample, ...]:
    if (own := _own_rows(data)) is not None:
        return own
    loaded = load_source(data.name, root=data.resolve().parent, with_pictures=False)
    if split is None and len(loaded) > 1:
        raise StudyError(f"{data} has the splits {', '.join(loaded)}; say which was asked: --split NAME")
    name = split or next(iter(loaded))
    if name not in loaded:
        raise StudyError(f"{data} has no split {name!r}; it has {', '.join(loaded)}")
    samples = require_clean(loaded[name], on_bad_row="stop")
    if not samples:
        raise DataError(f"{data}: no rows to score against")
    return samples


def _own_rows(data: Path) -> tuple[Sample, ...] | None:
    """Read rows that a study wrote into its `data/`; None if the file is something else."""
    if data.suffix != ".jsonl" or not data.is_file():
        return None
    with data.open(encoding="utf-8") as lines:
        first = lines.readline()
    try:
        is_own = {"id", "pictures", "messages", "answer", "origin"} <= json.loads(first).keys()
    except (ValueError, AttributeError):
        return None
    return tuple(sample_from_json(row) for row in read_jsonl(data)) if is_own else None

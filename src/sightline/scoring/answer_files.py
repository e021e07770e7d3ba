"""Reads anyone's answers, whatever their tool called the columns, and scores them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.errors import DataError, MissingDataError, StudyError
from sightline.records import Answer, Sample, Score
from sightline.scoring import vqa
from sightline.scoring.metrics import METRICS, Metric, score_answers

ID_KEYS = ("sample_id", "question_id", "id")
TEXT_KEYS = ("prediction", "output", "text", "answer")

CLOSED_RULES: Mapping[str, Callable[[Sample, Answer], Score]] = {
    "sightline": vqa.closed_accuracy,
    "llava-med": vqa.llava_med_closed,
    "llava-med-2023-08": vqa.llava_med_first_closed,
}
"""How known tools decide whether a closed question was answered right; docs/metrics.md has each in words."""

FILE_METRICS = tuple(name for name in METRICS if name != "nll")


def score_file(answers_path: Path, samples: Sequence[Sample], rule: str = "sightline") -> dict[str, list[Score]]:
    """Score a file of answers by every metric that needs nothing but answers.

    Args:
        answers_path: JSON lines; see `read_answers`.
        samples: the rows that were asked.
        rule: whose reading of closed questions, a key of `CLOSED_RULES`.

    Returns:
        metric name to scores, one per sample, in the order of the samples.

    Raises:
        StudyError: no such rule.
        DataError: answers and samples do not match one to one.
    """
    answers = read_answers(answers_path, samples)
    by_id = {sample.id: sample for sample in samples}
    return {metric.name: score_answers(metric, by_id, answers) for metric in metrics_by_rule(rule)}


def metrics_by_rule(rule: str) -> list[Metric]:
    """List the metrics of `score_file`, closed accuracy read by the rule named.

    Raises:
        StudyError: no such rule.
    """
    if rule not in CLOSED_RULES:
        raise StudyError(f"rule {rule!r} is unknown; known rules for vqa: {', '.join(CLOSED_RULES)}")
    closed_accuracy = replace(METRICS["closed_accuracy"], score=CLOSED_RULES[rule])
    return [closed_accuracy if name == "closed_accuracy" else METRICS[name] for name in FILE_METRICS]


def read_answers(answers_path: Path, samples: Sequence[Sample]) -> list[Answer]:
    """Read answers and match each with its sample: by id, else by image name and question, never by position.

    A row has an id (`sample_id`, `question_id` or `id`), or `image` and `question`; and its answer under one of
    `prediction`, `output`, `text` and `answer`. Several of these in one row are refused, except that `prediction`
    or `output` goes before `text` and `answer`, which then hold the question or the reference.

    Returns:
        one answer per sample, in the order of the samples.

    Raises:
        MissingDataError: there is no such file.
        DataError: a row that cannot be read, or answers and samples that do not match one to one.
    """
    rows = _read_rows(answers_path)
    if len(rows) != len(samples):
        raise DataError(
            f"{answers_path}: {len(rows)} answers for {len(samples)} rows of data; they must be the same questions"
        )
    if all(_first_key(row, ID_KEYS) for _, row in rows):
        text_of = _match_by_id(answers_path, rows, samples)
    else:
        text_of = _match_by_image(answers_path, rows, samples)
    return [
        Answer(
            sample_id=sample.id,
            model=answers_path.stem,
            data="",
            text=text_of[sample.id],
            finish_reason="stop",
            num_tokens=0,
        )
        for sample in samples
    ]


Rows = Sequence[tuple[str, Mapping[str, Any]]]
"""Where each row stands, as "file:line", and its content."""


def _read_rows(path: Path) -> Rows:
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist; --answers names a file of JSON lines")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: not JSON ({error}); one object per line") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: a {type(row).__name__} where an object was expected; one object per line")
        rows.append((where, row))
    return rows


def _match_by_id(path: Path, rows: Rows, samples: Sequence[Sample]) -> dict[str, str]:
    known = {sample.id for sample in samples}
    text_of: dict[str, str] = {}
    for where, row in rows:
        sample_id = str(row[_first_key(row, ID_KEYS)])
        if sample_id not in known:
            raise DataError(f"{where}: id {sample_id!r} is not in the data")
        if sample_id in text_of:
            raise DataError(f"{where}: a second answer for id {sample_id!r}; keep one")
        text_of[sample_id] = _text(where, row)
    return text_of


def _match_by_image(path: Path, rows: Rows, samples: Sequence[Sample]) -> dict[str, str]:
    """Match by image name and question; data that repeat such a pair need as many answers, all equal."""
    expected = Counter(_image_and_question(sample) for sample in samples)
    found: dict[tuple[str, str], list[str]] = {}
    for where, row in rows:
        if "image" not in row or "question" not in row:
            raise DataError(f"{where}: neither an id ({', '.join(ID_KEYS)}) nor image and question; add one")
        key = (str(row["image"]), str(row["question"]).strip())
        if key not in expected:
            raise DataError(f"{where}: image {key[0]!r} with question {key[1]!r:.80} is not in the data")
        texts = found.setdefault(key, [])
        texts.append(_text(where, row))
        if len(texts) > expected[key] or len(set(texts)) > 1:
            raise DataError(f"{where}: image {key[0]!r}, question {key[1]!r:.80}: answered twice; keep one, or use ids")
    return {sample.id: found[_image_and_question(sample)][0] for sample in samples}


def _image_and_question(sample: Sample) -> tuple[str, str]:
    return (sample.pictures[0].name if sample.pictures else "", sample.question)


def _text(where: str, row: Mapping[str, Any]) -> str:
    keys = [key for key in TEXT_KEYS if key in row]
    if not keys:
        raise DataError(f"{where}: no answer; expected one of {', '.join(TEXT_KEYS)}, found {', '.join(row)}")
    if len(keys) > 1 and (keys[0] == "text" or keys[:2] == ["prediction", "output"]):
        raise DataError(f"{where}: {' and '.join(keys)} could each be the answer; keep one, or call it prediction")
    value = row[keys[0]]
    if not isinstance(value, str):
        raise DataError(f'{where}: {keys[0]} is {value!r:.60}; an answer is text, "" where the model said nothing')
    return value.strip()


def _first_key(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if row.get(key) is not None), "")

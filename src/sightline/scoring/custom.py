"""A user's own metric: a function in a file of theirs, (question, reference, answer) -> rate or None."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

from sightline.errors import StudyError
from sightline.records import Answer, Sample, Score

MetricFunction = Callable[[str, str, str], float | None]


def load_function(name: str, folder: Path) -> MetricFunction:
    """Load the function that "file.py:function" names.

    The file is run, as an import would run it.

    Args:
        name: file and function, joined by the last colon.
        folder: where a relative file starts.

    Raises:
        StudyError: the file is missing or cannot be run, or has no such function.
    """
    file_name, _, function_name = name.rpartition(":")
    path = folder / file_name
    if not path.is_file():
        raise StudyError(f"metric {name!r}: {path} does not exist; paths start from the study file's folder")
    spec = importlib.util.spec_from_file_location(f"sightline_metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StudyError(f"metric {name!r}: {path} is not a Python file; name it FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise StudyError(f"metric {name!r}: {path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        found = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise StudyError(
            f"metric {name!r}: {path} has no function {function_name!r}; it has {', '.join(found) or 'none'}"
        )
    try:
        inspect.signature(function).bind("question", "reference", "answer")
    except TypeError as error:
        raise StudyError(
            f"metric {name!r}: {path} has {function_name}{inspect.signature(function)}, which cannot be called with "
            "(question, reference, answer)"
        ) from error
    return cast(MetricFunction, function)


def score_by(function: MetricFunction, sample: Sample, answer: Answer, *, metric: str) -> Score:
    """Score one answer by a user's function.

    None means that the question is not one this metric is about. A function that raises, or returns anything
    but a rate in [0, 1] or None, gives the outcome "failed", never a score.
    """
    try:
        value = function(sample.question, sample.answer, answer.text)
    except Exception as error:
        return _failed(sample, metric, f"{type(error).__name__}: {error}")
    if value is None:
        return Score(sample_id=sample.id, metric=metric, outcome="not_applicable", reason="the function returned None")
    try:
        rate = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0.0 <= rate <= 1.0:
        return _failed(sample, metric, f"returned {value!r:.60}; a metric returns a rate in [0, 1], or None")
    return Score(sample_id=sample.id, metric=metric, outcome="scored", value=rate)


def _failed(sample: Sample, metric: str, reason: str) -> Score:
    return Score(sample_id=sample.id, metric=metric, outcome="failed", reason=reason)

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import StudyError
from sightline.records import Answer, Message, Sample
from sightline.scoring.metrics import metric_named

SAMPLE = Sample(id="1", pictures=(), messages=(Message(role="user", content=("Which organ?",)),), answer="liver")
ANSWER = Answer(sample_id="1", model="m", data="d", text="the liver", finish_reason="stop", num_tokens=3)


def metric_of(folder: Path, body: str):
    (folder / "my_metrics.py").write_text(f"def organ_f1(question, reference, answer):\n    {body}\n", encoding="utf-8")
    return metric_named("my_metrics.py:organ_f1", folder)


@pytest.mark.parametrize(
    ("body", "outcome", "value"),
    [
        ("return 0.5", "scored", 0.5),
        ("return float(reference in answer and question == 'Which organ?')", "scored", 1.0),
        ("return reference in answer", "scored", 1.0),
        ("return 0", "scored", 0.0),
        ("return None", "not_applicable", None),
        ("return 'good'", "failed", None),
        ("return '0.5'", "failed", None),
        ("return 1.5", "failed", None),
        ("return float('nan')", "failed", None),
        ("return [1.0]", "failed", None),
        ("return 1 / 0", "failed", None),
    ],
)
def test_what_a_function_returns(tmp_path: Path, body: str, outcome: str, value: float | None) -> None:
    metric = metric_of(tmp_path, body)
    assert (metric.name, metric.title, metric.kind) == ("my_metrics.py:organ_f1", "organ f1", "mean")
    assert metric.score is not None
    score = metric.score(SAMPLE, ANSWER)
    assert (score.metric, score.outcome, score.value) == ("my_metrics.py:organ_f1", outcome, value)
    assert bool(score.reason) is (outcome != "scored")


def test_a_failure_says_what_happened(tmp_path: Path) -> None:
    broken, wrong = metric_of(tmp_path, "return 1 / 0").score, metric_of(tmp_path, "return 7").score
    assert broken is not None and wrong is not None
    assert broken(SAMPLE, ANSWER).reason == "ZeroDivisionError: division by zero"
    assert wrong(SAMPLE, ANSWER).reason == "returned 7; a metric returns a rate in [0, 1], or None"


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"absent.py does not exist"):
        metric_named("absent.py:f", tmp_path)
    metric_of(tmp_path, "return 1.0")
    with pytest.raises(StudyError, match=r"no function 'organ_f2'; it has organ_f1"):
        metric_named("my_metrics.py:organ_f2", tmp_path)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"broken.py cannot be run: ModuleNotFoundError"):
        metric_named("broken.py:f", tmp_path)
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(StudyError, match="is not a Python file"):
        metric_named("notes.txt:f", tmp_path)

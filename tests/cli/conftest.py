from __future__ import annotations

from pathlib import Path

import pytest

from tiny_studies import SMALL, run_study_file, write_small_study

RICH = """
name: rich
base: builtin:tiny
data:
  mine: {source: rows.csv, split: {train: 0.5, test: 0.5, by: image}}
  drawn: {source: "builtin:phantom", images: 10, split: {train: 0.4, test: 0.6, by: image}}
steps: {sft: {on: [mine.train, drawn.train], max_steps: 2, batch_size: 4, seeds: [0, 1]}}
evaluate:
  on: [mine.test, drawn.test]
  metrics: ["my_metrics.py:organ_f1", nll]
  prompts: {plain: "{question}", short: "{question} Answer briefly."}
compare: [{model: sft, against: base}]
"""

MY_METRICS = """
def organ_f1(question, reference, answer):
    if question.startswith("Is"):
        return None
    return float(answer.strip().lower() == reference.strip().lower())
"""


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml`, its rows and its pictures; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    write_small_study(folder, SMALL)
    return folder


@pytest.fixture(scope="session")
def small_study(small_folder: Path) -> Path:
    """The directory of a finished small study; to be copied before it is changed."""
    return run_study_file(small_folder / "small.yaml", "--out", small_folder / "study")


@pytest.fixture(scope="session")
def rich_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished study: two seeds, two sets, two wordings, a metric of the user's own."""
    folder = tmp_path_factory.mktemp("rich")
    write_small_study(folder, RICH)
    (folder / "my_metrics.py").write_text(MY_METRICS, encoding="utf-8")
    return run_study_file(folder / "small.yaml", "--out", folder / "study")

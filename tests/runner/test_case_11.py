"""A study over thousands of rows, 57 of them bad in 19 ways: all are reported, also those too long for the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted_rows import NUM_ROWS, REPAIRED, Planted, plant
from sightline.data.problems import BadRowsError
from sightline.runner.prepare import prepare
from sightline.study import Study, load_study

STUDY = """\
base: builtin:tiny
data: {rows: {source: rows.jsonl, split: {train: 0.8, validation: 0.1, test: 0.1, by: image}}}
steps: {sft: {on: rows.train, row_tokens: 230, on_bad_row: ON_BAD_ROW}}
evaluate: {on: rows.test, max_new_tokens: 1818}  # 230 tokens of context are left for the prompt
"""


def study(planted: Planted, on_bad_row: str) -> Study:
    file: Path = planted.folder / f"{on_bad_row}.yaml"
    file.write_text(STUDY.replace("ON_BAD_ROW", on_bad_row))
    return load_study(file)


def test_the_default_stops_and_names_every_bad_row(tmp_path: Path) -> None:
    planted = plant(tmp_path, num_rows=1_500)
    with pytest.raises(BadRowsError) as stopped:
        prepare(study(planted, "stop"))
    reported = {(problem.row, problem.id, problem.kind) for problem in stopped.value.problems}
    bad = {(line, id, kind) for line, (id, kind) in planted.bad.items() if kind not in REPAIRED}
    # An answer is not part of a test row's prompt, so a long one is no fault there.
    assert reported <= bad and {kind for *_, kind in bad - reported} <= {"too-long"}
    assert len(reported) == len(stopped.value.problems) >= 43


@pytest.mark.slow
def test_skipping_goes_on_with_the_rest(tmp_path: Path) -> None:
    planted = plant(tmp_path)
    prepared, _ = prepare(study(planted, "skip"))
    left_out = {problem.row for problem in prepared.problems if not problem.repaired}
    repaired = {problem.row for problem in prepared.problems if problem.repaired}
    used = sum(map(len, prepared.sets.values()))
    assert len(repaired) == 12
    assert used + len(left_out) == NUM_ROWS

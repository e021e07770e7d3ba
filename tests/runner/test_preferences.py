"""Preference optimisation as a step of a study: pairs read, the reference asked once, the control turned round."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sightline.errors import StudyError
from sightline.runner import run_study
from sightline.runner.reading import read_data
from sightline.study import load_study
from sightline.training.objectives import COLLAPSE_STEPS, collapsed

STUDY = """
name: pairs
base: builtin:tiny
data:
  phantom: {source: builtin:phantom, images: 24, split: {train: 0.5, test: 0.5}}
  pairs: {source: builtin:phantom, images: 12, seed: 5, split: {train: 0.75, validation: 0.25}}
steps:
  dpo: {method: dpo, on: pairs.train, max_steps: 2, batch_size: 6, lora: {rank: 2, dropout: 0}}
  coin: {method: dpo, on: pairs.train, max_steps: 2, batch_size: 6, flip: 1, lora: {rank: 2, dropout: 0}}
evaluate: {on: phantom.test, metrics: [closed_accuracy], rows: 6, max_new_tokens: 4}
"""


def write(folder: Path, text: str = STUDY) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_pairs_are_rows_with_two_answers(tmp_path: Path) -> None:
    prepared = read_data(load_study(write(tmp_path)))
    pairs = prepared.sets["pairs.train"]
    assert pairs and all(pair.rejected and pair.rejected != pair.answer for pair in pairs)
    assert all(sample.rejected is None for sample in prepared.sets["phantom.test"])


def test_a_set_is_either_of_pairs_or_of_answers(tmp_path: Path) -> None:
    text = STUDY.replace("evaluate: {on: phantom.test", "evaluate: {on: pairs.validation")
    with pytest.raises(StudyError, match=r"data\.pairs: dpo reads its rows as preference pairs"):
        read_data(load_study(write(tmp_path, text)))


def test_pairs_of_ones_own_come_from_a_file(tmp_path: Path) -> None:
    from PIL import Image

    rows = []
    for number in range(8):
        Image.new("RGB", (32, 32), (30 * number, 90, 120)).save(tmp_path / f"{number}.png")
        rows.append(
            {"image": f"{number}.png", "prompt": "Describe it.", "chosen": "A film.", "rejected": f"A cat {number}."}
        )
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = STUDY.replace("{source: builtin:phantom, images: 12, seed: 5,", "{source: pairs.jsonl,")
    pairs = read_data(load_study(write(tmp_path, text))).sets["pairs.train"]
    assert len(pairs) == 6
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row | {"rejected": "A film."}) for row in rows))
    tied = text.replace("{source: pairs.jsonl,", "{source: pairs.jsonl, allow_ties: true,")
    assert len(read_data(load_study(write(tmp_path, tied))).sets["pairs.train"]) == 6
    assert {pair.answer for pair in pairs} == {"A film."}
    assert {pair.rejected for pair in pairs} <= {row["rejected"] for row in rows}


def test_a_study_prefers_and_its_control_is_the_other_way_round(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(load_study(write(tmp_path)), out, with_figures=False)
    first = {
        name: json.loads((out / "models" / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("dpo", "coin")
    }
    for row in first.values():  # the policy still is the reference
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert row["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert first["dpo"]["logps/chosen"] == pytest.approx(first["coin"]["logps/rejected"], abs=1e-4)
    assert first["dpo"]["logps/chosen"] > first["dpo"]["logps/rejected"]
    references = {file: file.stat().st_mtime_ns for file in (out / "reference").iterdir()}
    assert len(references) == 2  # of training and validation pairs, for both models
    run_study(load_study(write(tmp_path)), out, with_figures=False)
    assert {file: file.stat().st_mtime_ns for file in (out / "reference").iterdir()} == references


def test_answers_have_collapsed_when_both_have_for_ten_steps() -> None:
    def rows(chosen: float, rejected: float, number: int = COLLAPSE_STEPS) -> list[dict[str, float]]:
        return [{"moved_per_token/chosen": chosen, "moved_per_token/rejected": rejected}] * number

    assert collapsed(rows(-2.5, -3), 2)
    assert not collapsed(rows(-2.5, -3, COLLAPSE_STEPS - 1), 2)
    assert not collapsed(rows(-0.1, -9), 2)  # what training is for
    assert not collapsed([*rows(-2.5, -3, 5), *rows(-1, -3, 5)], 2)

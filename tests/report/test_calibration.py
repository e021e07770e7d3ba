"""Calibration against scikit-learn, and by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from report.fake_study import write_study
from sightline.data.phantom import phantom_samples
from sightline.report.build import build_report
from sightline.report.calibration import NUM_BINS, calibration
from sightline.report.content import gather
from sightline.report.reading import read_study

SAMPLES = {sample.id: sample for sample in phantom_samples(40, seed=2)}


def _rows(seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for name in SAMPLES:
        sure = draw.random()
        rows.append({"sample_id": name, "value": float(draw.random() < sure**2), "parts": {"confidence": sure}})
    return rows


def _calibration(rows: list[dict[str, Any]]):
    return calibration(rows, SAMPLES, model="m", metric="x", data="d", template="plain")


def test_bins_and_scores_are_scikit_learns():
    rows = _rows(0)[: 20 * NUM_BINS]  # bins of exactly equal numbers: both divide alike
    right, sure = [row["value"] for row in rows], [row["parts"]["confidence"] for row in rows]
    found = _calibration(rows)
    fraction, mean = calibration_curve(right, sure, n_bins=NUM_BINS, strategy="quantile")
    assert [one.right for one in found.bins] == pytest.approx(list(fraction), abs=1e-12)
    assert [one.confidence for one in found.bins] == pytest.approx(list(mean), abs=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(right, sure), abs=1e-12)
    assert found.error == pytest.approx(sum(abs(fraction - mean)) / NUM_BINS, abs=1e-12)
    assert found.brier_interval is not None and found.brier_interval[0] < found.brier < found.brier_interval[1]


def test_order_does_not_matter_and_few_images_give_no_interval():
    rows = _rows(1)
    assert _calibration(rows) == _calibration(rows[::-1])
    few = _calibration([row for row in rows if row["sample_id"] in list(SAMPLES)[:4]])
    assert few.num_questions == 4 and few.error_interval is None and few.brier_interval is None


def test_the_report_shows_confidences_where_scores_carry_them(tmp_path: Path):
    write_study(tmp_path)
    assert not gather(read_study(tmp_path)).calibrations
    path = tmp_path / "scores" / "base" / "exact_match.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = "".join(json.dumps({**row, "parts": {"confidence": 0.75}}) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    page = build_report(tmp_path, with_images=False, with_figures=False).read_text(encoding="utf-8")
    assert 'id="calibration"' in page
    right = sum(row["value"] == 1 for row in rows) / len(rows)
    (found,) = gather(read_study(tmp_path)).calibrations
    assert found.brier == pytest.approx(right * 0.25**2 + (1 - right) * 0.75**2)

"""Intervals as papers print them beside a figure: read, held against the figure, its bounds and its questions.

Expected widths are scipy's own binomial intervals; the error of an area is simulated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sightline.errors import DataError
from sightline.verdict.audit import audit_table
from sightline.verdict.audit_figures import Interval, Number, read_number
from sightline.verdict.audit_intervals import area_standard_error
from sightline.verdict.audit_sentences import render_audit


def audited(tmp_path: Path, content: str) -> dict[str, Any]:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    return audit_table(path)


def about(found: dict[str, Any], part: str, kind: str) -> list[str]:
    return [entry["sentence"] for entry in found[part] if entry["kind"] == kind]


@pytest.mark.parametrize(
    ("text", "digits", "low", "high", "level"),
    [
        ("0.85 (0.80-0.90)", (85, 2), (80, 2), (90, 2), None),
        ("0.85 (0.80–0.90)", (85, 2), (80, 2), (90, 2), None),
        ("85.0 [80.1, 89.9]", (850, 1), (801, 1), (899, 1), None),
        ("85.0% (80.1% to 89.9%)", (850, 1), (801, 1), (899, 1), None),
        ("0.85 (95% CI: 0.8–0.90)", (85, 2), (8, 1), (90, 2), 0.95),
        ("0.85(90% CI 0.80,0.90)", (85, 2), (80, 2), (90, 2), 0.9),
        ("85,0 (80,1; 89,9)", (850, 1), (801, 1), (899, 1), None),
        ("85,0 [80,1, 89,9]", (850, 1), (801, 1), (899, 1), None),
        ("$85.0$ (80-90)", (850, 1), (80, 0), (90, 0), None),
        ("0.02 (-0.01-0.05)", (2, 2), (-1, 2), (5, 2), None),
    ],
)
def test_an_interval_beside_a_figure_is_read(
    text: str, digits: tuple[int, int], low: tuple[int, int], high: tuple[int, int], level: float | None
) -> None:
    found = read_number(text, is_size=False)
    assert isinstance(found, Number) and (found.digits, found.decimals) == digits
    assert found.interval == Interval(low, high, level)


@pytest.mark.parametrize("text", ["50.0 (0.3)", "0.85 (0.80-0.90) (n=5)", "(0.80-0.90)", "0.85 (0.80-0.85-0.90)"])
def test_what_is_no_figure_with_an_interval_is_a_fault(text: str) -> None:
    assert "89.60 (88.1-90.9) may stay" in str(read_number(text, is_size=False))


def test_a_size_has_no_interval(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column n: '203 \\(190-210\\)'"):
        audited(tmp_path, "model,n,accuracy\na,203 (190-210),50.0\n")


def test_figures_with_intervals_keep_their_counts(tmp_path: Path) -> None:
    plain = audited(tmp_path, "model,n,Accuracy\na,1297,71.63\nb,1297,78.10\n")
    given = audited(tmp_path, "model,n,Accuracy (95% CI)\na,1297,71.63 (69.1-74.0)\nb,1297,78.10 (75.8-80.3)\n")
    assert [entry["counts"] for entry in given["comparisons"]] == [entry["counts"] for entry in plain["comparisons"]]
    assert given["contradictions"] == [] and len(about(given, "notes", "intervals-fit")) == 1


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("85.2 (85.6-90.1)", "the figure is not in its own interval"),
        ("85.2 (90.1-80.1)", "ends below where it begins"),
        ("99.0 (97.6-100.4)", "goes beyond 0 to 100, where no such figure can be"),
        ("1.0 (-0.4-2.4)", "goes beyond 0 to 100, where no such figure can be"),
        ("85.2 (82.7-87.7)", "203 independent questions give 9.77 to 10.2 by Wald, Wilson and Clopper-Pearson"),
    ],
)
def test_an_interval_that_cannot_be_is_a_contradiction(tmp_path: Path, cell: str, told: str) -> None:
    found = audited(tmp_path, f"model,n,accuracy\na,203,{cell}\nb,203,50.2\n")
    (sentence,) = about(found, "contradictions", "interval")
    assert told in sentence and sentence.startswith(f"a (line 2): accuracy {cell}: ")
    assert sentence in render_audit(found)


@pytest.mark.parametrize("method", ["wilson", "exact", "wald"])
@pytest.mark.parametrize(("right", "total"), [(9, 24), (173, 203), (226, 451), (2980, 3000), (30, 30)])
def test_intervals_by_the_usual_methods_fit_and_those_of_other_sizes_do_not(
    tmp_path: Path, method: str, right: int, total: int
) -> None:
    def ends(number: int) -> tuple[float, float]:
        counted = round(right * number / total)
        if method != "wald":
            low, high = stats.binomtest(counted, number).proportion_ci(method=method)
            return low, high
        half = 1.959964 * math.sqrt(right / total * (1 - right / total) / number)
        return right / total - half, right / total + half

    def sorts(number: int) -> list[str]:
        low, high = ends(number)
        cell = f"{100 * right / total:.3f} ({100 * low:.3f}-{100 * high:.3f})"
        found = audited(tmp_path, f"model,n,accuracy\na,{total},{cell}\n")
        entries = [*found["contradictions"], *found["notes"]]
        return [entry["kind"] for entry in entries if "interval" in entry["kind"]]

    if method == "wald" and right == total:
        return  # it has no width
    assert sorts(total) == ["intervals-fit"]
    assert sorts(3 * total) == ["interval"] and sorts(total // 3) == ["wide-interval"]


def test_the_level_that_is_printed_is_the_one_that_is_checked(tmp_path: Path) -> None:
    low, high = stats.binomtest(173, 203).proportion_ci(0.5, method="wilson")
    cell = f"85.2 ({100 * low:.1f}-{100 * high:.1f})"
    for header, kinds in (("accuracy", ["interval"]), ("accuracy (50% CI)", []), ("accuracy [50% CI]", [])):
        found = audited(tmp_path, f"model,n,{header}\na,203,{cell}\nb,203,50.2\n")
        assert [entry["kind"] for entry in found["contradictions"]] == kinds


def test_what_cannot_be_decided_says_what_is_missing(tmp_path: Path) -> None:
    found = audited(
        tmp_path,
        "model,accuracy,AUC,F1,BLEU\na,0.85 (0.80-0.90),0.90 (0.85-0.95),0.81 (0.7-0.9),31.0 (30-32)\n"
        "b,0.87,0.91 (0.86-0.96),0.80,30.0\n",
    )
    told = about(found, "notes", "interval-undecided")
    # By hand: 0.85 x 0.15 x (1.959964 / 0.05)^2 = 195.9.
    assert "the number of questions is not printed; it is as wide as that of about 196 independent ones" in told[0]
    assert "AUC 0.90 (0.85-0.95) and 1 more: cannot decide" in told[1] and "(`n` and `positives`)" in told[1]
    assert "no share of a fixed number of questions" in told[2] and "their spread is not printed" in told[3]
    assert not [entry for entry in found["means"] if entry["measure"] == "AUC"]
    assert "AUC: areas under the ROC curve, no share of the questions; cannot decide whether" in found["reading"][1]


def test_an_area_is_held_against_the_error_of_its_classes(tmp_path: Path) -> None:
    error = area_standard_error(0.893, 51, 58)
    for scale, factor, kinds in ((1, 1.0, []), (100, 1.0, []), (1, 0.5, ["interval"]), (100, 3.0, [])):
        half = 1.644854 * error * factor
        cell = f"{scale * 0.893:.4f} ({scale * (0.893 - half):.4f}-{scale * (0.893 + half):.4f})"
        found = audited(tmp_path, f"model,n,positives,AUROC (%) (90% CI)\na,109,51,{cell}\n")
        if factor < 2:
            assert [entry["kind"] for entry in found["contradictions"]] == kinds
            assert len(about(found, "notes", "intervals-fit")) == (factor == 1)
        else:
            (sentence,) = about(found, "contradictions", "interval")
            assert "beyond 0 to 100" in sentence


def test_the_error_of_an_area_is_that_of_exponential_scores() -> None:
    rng, area, positives, negatives = np.random.default_rng(0), 0.8, 20, 35
    high_RP = rng.exponential(area / (1 - area), (4_000, positives))
    low_RN = rng.exponential(1.0, (4_000, negatives))
    areas_R = (high_RP[:, :, None] > low_RN[:, None, :]).mean(axis=(1, 2))
    assert areas_R.mean() == pytest.approx(area, abs=0.005)
    assert area_standard_error(area, positives, negatives) == pytest.approx(areas_R.std(), rel=0.04)
    assert area_standard_error(area, negatives, positives) != pytest.approx(areas_R.std(), rel=0.04)

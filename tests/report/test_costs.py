"""What models took: seconds, hours and quality against them, from what run.json says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from report.fake_study import MODELS, write_study
from sightline.report.content import gather
from sightline.report.costs import hours_of_work
from sightline.report.reading import StudyFiles, read_study
from sightline.report.tables import csv_text


def _with_run(directory: Path, **changes: Any) -> StudyFiles:
    write_study(directory)
    path = directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
    return read_study(directory)


def test_seconds_are_divided_by_the_answers_they_made(tmp_path: Path):
    seconds = {"evaluate base": 30.0, "evaluate sft.a8": 60.0, "train sft.a8": 100.0}
    content = gather(_with_run(tmp_path, seconds=seconds))
    rows = {row["Model"]: row for row in csv.DictReader(io.StringIO(csv_text(content.tables["costs"])))}
    num_answers = len(content.files.answers["base"])
    assert rows.keys() == {"base", "sft.a8"}
    assert float(rows["sft.a8"]["Per answer (s)"]) == pytest.approx(60 / num_answers)
    assert rows["base"]["Training (s)"] == "" and rows["sft.a8"]["Training (s)"] == "100.0"
    (trade,) = content.trades
    assert {spot.model: spot.x for spot in trade.spots} == {
        "base": pytest.approx(30 / num_answers),
        "sft.a8": pytest.approx(60 / num_answers),
    }
    (arm,) = [arm for arm in content.files.compare["arms"] if arm["model"] == "base"]
    (spot,) = [spot for spot in trade.spots if spot.model == "base"]
    assert spot.y == pytest.approx(100 * arm["metrics"]["exact_match"]["value"])


@pytest.mark.parametrize(("device", "name"), [("x86_64", "processor hours"), ("NVIDIA H200", "GPU-hours")])
def test_hours_are_of_what_they_were_spent_on(tmp_path: Path, device: str, name: str):
    seconds = {"train sft.a8": 1800.0, "evaluate base": 900.0, "judge critic": 900.0, "data": 5000.0}
    files = _with_run(tmp_path, seconds=seconds, hardware={"device": device})
    assert hours_of_work(files) == (name, 1.0)


@pytest.mark.parametrize(
    ("kind", "whose"), [("accelerator", " of the accelerator"), ("process", " of the process"), (None, "")]
)
def test_memory_is_shown_where_it_was_measured(kind: str | None, whose: str, tmp_path: Path):
    seconds = {f"evaluate {model}": 20.0 for model in MODELS}
    peaks = {f"evaluate {model}": 2.0 + place for place, model in enumerate(MODELS)} | {"train sft.a8": 9.5}
    hardware = {"device": "x86_64"} | ({"peak_memory_kind": kind} if kind else {})
    content = gather(_with_run(tmp_path, seconds=seconds, peak_memory_gib=peaks, hardware=hardware))
    rows = {row["Model"]: row for row in csv.DictReader(io.StringIO(csv_text(content.tables["costs"])))}
    title = f"Peak memory{whose} (GiB)"
    assert (rows["base"][title], rows["sft.a8"][title]) == ("2.0", "9.5")
    assert [trade.name for trade in content.trades] == ["seconds", "memory"]
    assert content.trades[1].x_title == f"peak memory{whose} while answering (GiB)"


def test_memory_that_was_not_measured_is_left_out(tmp_path: Path):
    content = gather(_with_run(tmp_path, seconds={f"evaluate {model}": 20.0 for model in MODELS}))
    assert [trade.name for trade in content.trades] == ["seconds"]
    assert not any("memory" in column.title for column in content.tables["costs"].columns)


def test_without_times_there_is_no_such_section(tmp_path: Path):
    content = gather(_with_run(tmp_path, seconds={}))
    assert "costs" not in content.tables and not content.trades

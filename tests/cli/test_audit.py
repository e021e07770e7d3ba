"""`sightline audit`: a table goes in, sentences or one JSON object come out; a contradiction is a result."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_studies import sightline_command

POPE = Path(__file__).parents[1] / "verdict" / "tables" / "pope.csv"


def test_for_people() -> None:
    ended = sightline_command("audit", POPE)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("pope.csv: 6 rows\n")
    assert "\nContradictions: 1\n" in ended.out and "87.81 cannot follow" in ended.out
    assert ended.out.count("    - cannot decide: Accuracy") == 3


def test_for_machines() -> None:
    ended = sightline_command("audit", POPE, "--against", "HA-DPO", "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    found = json.loads(ended.out)
    assert {entry["against"] for entry in found["comparisons"]} == {"HA-DPO"}
    assert found["comparisons"][0]["p_unpaired"][0] == pytest.approx(0.226848361762, abs=1e-12)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "no such file; give a CSV file"),
        ("model,accuracy\na,=1+1\n", (), "table.csv:2, column accuracy: '=1+1': write the printed number alone"),
        ("model,accuracy\na,50.0\n", ("--against", "b"), "table.csv has no row of 'b'; there are a"),
        ("model,loss\na,50.0\n", ("--sd", "0"), "--sd 0: give a standard deviation above 0"),
        ("model,loss\na,50.0\n", ("--sd", "nan"), "--sd nan: give a standard deviation above 0"),
    ],
)
def test_input_at_fault(content: str | None, options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_text(content, encoding="utf-8")
    ended = sightline_command("audit", table, *options)
    assert (ended.code, ended.out) == (2, "") and message in ended.err


def test_nothing_a_terminal_would_obey(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("model,n,accuracy\n<script>,200,50.0%\n=cmd,200,60.0%\n+ DPO,200,61.0%\n", encoding="utf-8")
    ended = sightline_command("audit", table)
    assert ended.code == 0 and all(line.isprintable() for line in ended.out.splitlines())


def test_without_torch(python_without: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = "import sys; from sightline.cli import main; sys.argv = ['sightline', 'audit', sys.argv[1]]; main()"
    ended = python_without(["torch", "transformers"], code, str(POPE))
    assert ended.returncode == 0 and "Contradictions: 1" in ended.stdout, ended.stderr

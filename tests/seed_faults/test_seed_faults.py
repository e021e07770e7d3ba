"""Faults that ruined published projects: each is found by name in its study, and the healthy twin is left in peace.

What was found in which project: their code was read, and every fault here stood in one of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seed_faults.make_data import write_data
from tiny_studies import sightline_command

STUDIES = Path(__file__).parent / "studies"

FAULTS = {
    "labels_misaligned": {"labels-misaligned"},
    "everything_learnt": {"image-tokens-trained", "end-not-trained"},
    "answers_cut": {"answers-cut"},
    "answers_cut_when_asked": {"answers-cut"},
    "foreign_template": {"foreign-template"},
    "test_rows_in_train": {"same-row-in-train-and-test"},
    "whole_data_set": {"test-is-whole-dataset"},
    "several_factors": {"several-factors-changed"},
    "placeholder_mismatch": {"placeholder-mismatch"},
}
"""Study to the faults it was made with."""

NAMES = frozenset().union(*FAULTS.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All studies beside their data."""
    folder = tmp_path_factory.mktemp("studies")
    write_data(folder)
    for study in STUDIES.glob("*.yaml"):
        shutil.copy(study, folder)
    return folder


def found(study: Path, *arguments: str) -> dict[str, str]:
    """Check a study; returns the faults and warnings of our names, with their messages."""
    ended = sightline_command("check", study, "--json", *arguments)
    findings = json.loads(ended.out)["findings"]
    assert ended.code == (2 if any(f["severity"] == "fault" and not f["accepted"] for f in findings) else 0)
    return {f["name"]: f["message"] for f in findings if f["severity"] != "note" and f["name"] in NAMES}


def accepting(names: set[str]) -> list[str]:
    return [word for name in sorted(names) for word in ("--set", f"accept.{name}=to see what it does")]


def test_every_fault_has_its_study_and_every_study_its_healthy_twin() -> None:
    names = {study.name for study in STUDIES.glob("*.yaml")}
    assert names == {f"{name}{twin}.yaml" for name in FAULTS for twin in ("", ".healthy")}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found_by_name_and_nothing_else(folder: Path, name: str) -> None:
    assert found(folder / f"{name}.yaml").keys() == FAULTS[name]


@pytest.mark.parametrize("name", FAULTS)
def test_the_healthy_twin_is_left_in_peace(folder: Path, name: str) -> None:
    assert found(folder / f"{name}.healthy.yaml") == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_refuses_to_start(folder: Path, tmp_path: Path, name: str) -> None:
    ended = sightline_command("run", folder / f"{name}.yaml", "--out", tmp_path / "study")
    assert ended.code == 2
    assert all(f"{fault}: " in ended.err for fault in FAULTS[name])
    assert not (tmp_path / "study" / "models").exists()


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_goes_past_what_the_study_accepts(folder: Path, tmp_path: Path, name: str) -> None:
    # What a model makes of such rows can be worse than a guess, which is a fault of its own.
    accepted = accepting({*FAULTS[name], "step-0-loss"})
    ended = sightline_command("run", folder / f"{name}.yaml", *accepted, "--out", tmp_path / "study")
    assert ended.code == 0, ended.err
    assert "to see what it does" in (tmp_path / "study" / "report.md").read_text(encoding="utf-8")

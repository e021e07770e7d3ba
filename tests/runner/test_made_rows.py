"""Rows that a step has made are looked at before they are learnt; what stands in for them is not passed off as them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sightline.data.mixing import draw_rows
from sightline.errors import DataError
from sightline.records import Sample
from sightline.runner.check import StudyCheck
from sightline.runner.made_data import _of_answers, _origin, notes_of_findings
from sightline.runner.made_rows import look_at_made
from sightline.runner.make import Shelf
from sightline.runner.prepare import prepare
from sightline.runner.reading import asked_about
from sightline.study import load_study

STUDY = """
name: made
base: builtin:tiny
data: {phantom: {source: builtin:phantom, images: 12, split: {train: 0.7, test: 0.3, by: image}}}
steps:
  pairs: {method: critique, from: base, on: phantom.train, rows: 9}
  dpo: {method: dpo, from: base, on: pairs, max_steps: 1, row_tokens: 300}
evaluate: {on: phantom.test, metrics: [exact_match]}
"""


def shelf_of(folder: Path, *overrides: str) -> Shelf:
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    prepared, family = prepare(load_study(folder / "study.yaml", overrides=list(overrides)))
    return Shelf(prepared, folder / "out", families={prepared.study.base: family})


def made_of(shelf: Shelf, **changed: str) -> tuple[Sample, ...]:
    """Pairs as a step would make them; the first one changed."""
    rows = [dataclasses.replace(row, answer="yes", rejected="no") for row in shelf.prepared.sets["pairs"]]
    return (dataclasses.replace(rows[0], **changed), *rows[1:])


def test_a_pair_that_fits_no_row_is_a_fault_or_left_out(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    made = made_of(shelf, rejected="yes " * 300)
    kept, found = look_at_made("pairs", made, shelf)
    assert kept == made[1:]
    assert found[0].name == "bad-rows" and found[0].stops
    shelf = shelf_of(tmp_path, "accept.bad-rows=they are few")
    kept, found = look_at_made("pairs", made, shelf)
    assert kept == made[1:] == shelf.prepared.sets["pairs"] and not found[0].stops
    [note] = notes_of_findings(found)
    assert note.endswith("Accepted: they are few.")
    with pytest.raises(DataError, match="all 1 are too long"):
        look_at_made("pairs", made[:1], shelf)


def test_both_answers_of_made_pairs_are_looked_at(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    kept, found = look_at_made("pairs", made_of(shelf), shelf)
    trained = [finding.message for finding in found if finding.name == "trained-tokens"]
    assert [message.partition(":")[0] for message in trained] == ["pairs, chosen", "pairs, rejected"]
    assert all(f"answer {len(kept)} of {len(kept)}" in message for message in trained)
    assert not [finding for finding in found if finding.severity != "note"]


def test_nothing_is_said_of_rows_that_are_still_to_be_made(tmp_path: Path) -> None:
    found = list(StudyCheck(shelf_of(tmp_path).prepared.study))
    assert [finding.name for finding in found if finding.message.startswith("pairs")] == ["rows-to-be-made"]
    assert "phantom.train" in {finding.message.partition(":")[0] for finding in found}
    assert not [finding for finding in found if finding.name == "step-0-loss"]


def test_questions_are_drawn_by_the_seed_of_the_run(tmp_path: Path) -> None:
    prepared = shelf_of(tmp_path).prepared
    [run] = [run for run in prepared.plan.runs if run.name == "pairs"]
    everything = prepared.sets["phantom.train"]
    asked = [asked_about(prepared, dataclasses.replace(run, seed=seed)) for seed in (None, 0, 1)]
    assert asked[0] == asked[1] == draw_rows(everything, 9, 0) != list(everything[:9])
    assert asked[2] == draw_rows(everything, 9, 1) != asked[1]


def test_what_stands_in_may_be_longer_than_a_row(tmp_path: Path) -> None:
    found = [finding.name for finding in StudyCheck(shelf_of(tmp_path, "steps.dpo.row_tokens=84").prepared.study)]
    assert "rows-to-be-made" in found and "prefix-sharing" not in found


def test_a_set_is_made_again_of_the_same_answers_where_its_learner_takes_longer_rows(tmp_path: Path) -> None:
    origins = []
    for row_tokens in (300, 400):
        shelf = shelf_of(tmp_path, f"steps.dpo.row_tokens={row_tokens}")
        [run] = [run for run in shelf.prepared.plan.runs if run.name == "pairs"]
        origins.append(_origin(run, shelf))
    assert origins[0] != origins[1] and _of_answers(origins[0]) == _of_answers(origins[1])

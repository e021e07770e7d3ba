"""Side by side: which rows are shown, in what order, and how each answer is marked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from report.fake_study import MODELS, write_study
from sightline.data.phantom import phantom_samples
from sightline.report import sides
from sightline.report.content import tag_filters
from sightline.report.html import moved_by
from sightline.report.reading import StudyFiles, read_study
from sightline.report.sides import MOST_MODELS_APART, side_by_side


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    return read_study(write_study(tmp_path_factory.mktemp("study")))


def test_fixed_and_broken_rows_come_first(files: StudyFiles):
    side = side_by_side(files)
    moved = [any(index < side.num_stated for index in row.flips) for row in side.rows]
    assert any(moved) and not all(moved)
    assert moved == sorted(moved, reverse=True)


def test_every_flip_of_the_comparison_is_on_its_row(files: StudyFiles):
    side = side_by_side(files)
    moved = [(i, one) for i, one in enumerate(side.comparisons) if one["metric"] != "nll"]
    for index, comparison in moved:
        for status in ("fixed", "broke"):
            on_rows = {row.id for row in side.rows if row.flips.get(index) == status}
            assert on_rows == set(comparison[f"{status}_ids"])


def test_a_loss_fixes_and_breaks_nothing(files: StudyFiles):
    side = side_by_side(files)
    losses = {index for index, one in enumerate(side.comparisons) if one["metric"] == "nll"}
    assert any(side.comparisons[index]["fixed_ids"] for index in losses)
    assert not losses & {index for row in side.rows for index in row.flips}


def test_the_cap_keeps_what_moved_and_counts_the_rest(files: StudyFiles):
    whole, few = side_by_side(files), side_by_side(files, most_rows=10)
    assert [row.id for row in few.shown] == [row.id for row in whole.rows][:10]
    assert len(few.rows) == whole.num_shown == len(whole.rows)  # what is counted is counted over all


def test_answers_stand_in_the_order_of_the_models_with_their_marks(files: StudyFiles):
    order = ["base", *sorted(set(MODELS) - {"base"})]
    for row in side_by_side(files).rows:
        assert [one.models for one in row.said] == [(model,) for model in order]
        for one in row.said:
            assert one.mark == ("right" if one.text == row.sample.answer else "wrong")
        assert row.num_right == sum(one.text == row.sample.answer for one in row.said)


def test_many_models_that_said_the_same_are_listed_together(tmp_path: Path):
    models = {"base": 0.4} | {f"sft.m{index}": index / 12 for index in range(12)}
    assert len(models) > MOST_MODELS_APART
    files = read_study(write_study(tmp_path, samples=phantom_samples(2, seed=3), models=models))
    for row in side_by_side(files).rows:
        assert Counter(model for one in row.said for model in one.models) == Counter(list(models))
        kinds = [(one.text, one.mark, one.cut) for one in row.said]
        assert len(set(kinds)) == len(kinds) < len(models)


def test_only_the_first_of_several_answers_is_shown(tmp_path: Path):
    write_study(tmp_path, samples=phantom_samples(1, seed=3))
    path = tmp_path / "answers" / "base.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    later = [{**row, "k": 1, "text": "second thoughts"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *later]))
    said = [one.text for row in side_by_side(read_study(tmp_path)).rows for one in row.said]
    assert said and "second thoughts" not in said


def test_without_stated_questions_the_others_say_what_moved(tmp_path: Path):
    write_study(tmp_path)
    path = tmp_path / "compare.json"
    compare = json.loads(path.read_text())
    path.write_text(json.dumps({**compare, "stated": []}))
    side = side_by_side(read_study(tmp_path))
    assert side.num_stated == 0
    assert any(moved_by(row, side) for row in side.rows)


def test_filters_are_tags_with_a_choice_the_usual_ones_first(files: StudyFiles):
    filters = tag_filters(side_by_side(files).rows)
    assert [key for key, _ in filters][:3] == ["kind", "answer_type", "organ"]
    assert all(len(values) >= 2 and list(values) == sorted(values) for _, values in filters)


def test_each_metric_marks_each_model_by_a_letter(files: StudyFiles):
    side = side_by_side(files)
    for row in side.rows:
        for place, model in enumerate(side.models):
            said = next(one for one in row.said if model in one.models)
            assert row.marks["exact_match"][place] == {"right": "r", "wrong": "w"}[said.mark]
            assert row.marks["nll"][place] == "p"
        assert set(row.marks["closed_accuracy"]) <= (
            set("rwu") if row.sample.tags["answer_type"] == "CLOSED" else {"-"}
        )


def test_answers_are_cut_only_as_far_as_a_bearable_page_asks_for(files: StudyFiles, monkeypatch: pytest.MonkeyPatch):
    whole = side_by_side(files)
    total = sum(len(one.text) for row in whole.rows for one in row.said)
    assert whole.longest == sides.LONGEST_ANSWERS[0]
    monkeypatch.setattr(sides, "MOST_CHARACTERS", total - 1)
    shorter = side_by_side(files).longest
    assert shorter < whole.longest

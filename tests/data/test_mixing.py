"""Mixtures hold the numbers asked for, keep a picture's questions together, and depend on content and seed alone."""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lettered_rows import sample
from sightline.data.mixing import mix_samples
from sightline.errors import DataError, StudyError
from sightline.records import Sample
from sightline.runner.reading import read_data
from sightline.study import load_study, plan_study

LETTERS = string.ascii_letters


def rows(file: str, num_pictures: int, each: int = 3) -> tuple[Sample, ...]:
    """Several questions about each picture; no two rows are alike."""
    return tuple(
        sample(picture * each + number, LETTERS[picture], f"question {number} of {file}?", "yes", file=file)
        for picture in range(num_pictures)
        for number in range(each)
    )


def ids(mixed: Iterable[Sample]) -> list[str]:
    return [row.id for row in mixed]


def counts(mixed: tuple[Sample, ...]) -> Counter[str]:
    return Counter(row.origin.partition(":")[0] for row in mixed)


A, B, C = rows("a.csv", 20), rows("b.csv", 10), rows("c.csv", 30)


def test_whole_numbers_are_rows() -> None:
    mixed = mix_samples("m", {"a": A, "b": B}, {"a": 7, "b": 30})
    assert counts(mixed) == {"a.csv": 7, "b.csv": 30}
    assert [row for row in mixed if row in B] == list(B)
    assert len(set(ids(mixed))) == 37


@pytest.mark.parametrize(
    ("amounts", "take", "expected"),
    [
        # By hand: 10 rows in thirds are 3.33 each; the first of equals gets the row that is left.
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10, [4, 3, 3]),
        # 11 rows: 5.5, 3.3, 2.2; one row is left, and .5 is the largest remainder.
        ({"a": 0.5, "b": 0.3, "c": 0.2}, 11, [6, 3, 2]),
        # 12 rows: 5.4, 4.08, 2.52; the row that is left goes to the smallest share.
        ({"a": 0.45, "b": 0.34, "c": 0.21}, 12, [5, 4, 3]),
        # Without `take` b is used up: 30 / 0.3 = 100 rows.
        ({"a": 0.3, "b": 0.3, "c": 0.4}, None, [30, 30, 40]),
        ({"a": 0.6, "b": 0.1, "c": 0.3}, None, [60, 10, 30]),
    ],
)
def test_shares_become_rows_by_largest_remainders(
    amounts: dict[str, float], take: int | None, expected: list[int]
) -> None:
    mixed = mix_samples("m", {"a": A, "b": B, "c": C}, amounts, take=take)
    assert [counts(mixed)[f"{name}.csv"] for name in "abc"] == expected


def test_rounding_costs_no_row() -> None:
    """14 / 0.14 is 99.99... in floating point; all 14 rows are taken all the same."""
    mixed = mix_samples("m", {"a": A[:14], "c": C}, {"a": 0.14, "c": 0.86})
    assert counts(mixed) == {"a.csv": 14, "c.csv": 86}


@given(st.lists(st.integers(1, 50), min_size=2, max_size=3), st.integers(20, 60))
def test_shares_come_within_a_row_and_to_the_rows_asked_for(weights: list[int], take: int) -> None:
    parts = dict(zip("abc", (A, B, C)[: len(weights)], strict=False))
    shares = {name: weight / sum(weights) for name, weight in zip(parts, weights, strict=True)}
    try:
        mixed = mix_samples("m", parts, shares, take=take)
    except DataError as error:
        assert "comes to no row" in str(error) or "are wanted and it has" in str(error)
        return
    assert len(mixed) == take
    for name, share in shares.items():
        assert abs(counts(mixed)[f"{name}.csv"] - share * take) < 1


def test_too_few_rows_are_named_with_what_would_do() -> None:
    with pytest.raises(DataError, match=r"data\.m\.mix: 31 rows of b are wanted and it has 30; want fewer$"):
        mix_samples("m", {"a": A, "b": B}, {"a": 7, "b": 31})
    with pytest.raises(DataError, match=r"45 rows of b are wanted and it has 30; take 60 at most, or leave `take` out"):
        mix_samples("m", {"a": A, "b": B}, {"a": 0.5, "b": 0.5}, take=90)
    assert len(mix_samples("m", {"a": A, "b": B}, {"a": 0.5, "b": 0.5}, take=60)) == 60


def test_a_share_that_comes_to_no_row_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.m\.mix: the share of b comes to no row"):
        mix_samples("m", {"a": A, "b": B}, {"a": 0.99, "b": 0.01}, take=20)


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_s_questions_stay_together_but_for_one_picture(seed: int) -> None:
    mixed = mix_samples("m", {"a": A}, {"a": 31}, seed=seed)
    held = Counter(row.pictures[0].sha256 for row in mixed)
    assert sorted(held.values()) == [1] + [3] * 10


def test_rows_without_a_picture_are_drawn_conversation_by_conversation() -> None:
    turns = [sample(number // 2, "", f"turn {number}?", "yes", file="chat.json") for number in range(20)]
    mixed = mix_samples("m", {"a": turns}, {"a": 6})
    assert set(Counter(row.origin for row in mixed).values()) == {2}


def test_the_draw_depends_on_content_and_seed_alone() -> None:
    whole = mix_samples("m", {"a": A, "b": B}, {"a": 31, "b": 8}, seed=3)
    shuffled = {name: random.Random(1).sample(part, len(part)) for name, part in (("a", A), ("b", B))}
    again = mix_samples("another name", shuffled, {"a": 31, "b": 8}, seed=3)
    assert set(ids(again)) == set(ids(whole))
    assert [row for row in again if row in A] == [row for row in shuffled["a"] if row in whole]
    assert ids(mix_samples("m", {"b": B, "a": A}, {"b": 8, "a": 31}, seed=3)) == ids([*whole[31:], *whole[:31]])
    assert set(ids(mix_samples("m", {"a": A, "b": B}, {"a": 31, "b": 8}, seed=4))) != set(ids(whole))
    # What is drawn of one set does not depend on the others, and more of it holds what less of it held.
    assert set(ids(whole[:31])) < set(ids(mix_samples("m", {"a": A}, {"a": 40}, seed=3)))


def test_ids_that_would_clash_are_put_behind_their_set() -> None:
    same = rows("a.csv", 5)
    mixed = mix_samples("m", {"x.train": same, "y.train": same}, {"x.train": 15, "y.train": 15})
    assert {row.id for row in mixed} == {f"{part}/{row.id}" for part in ("x.train", "y.train") for row in same}
    assert [row.origin for row in mixed] == [row.origin for row in same] * 2  # where it lies is still where it lies
    assert [row.id for row in mix_samples("m", {"x": A}, {"x": 60})] == [row.id for row in A]


STUDY = """
base: builtin:tiny
data:
  one: {source: builtin:phantom, images: 12, subset: chest, split: {train: 0.5, validation: 0.25, test: 0.25}}
  two: {source: builtin:phantom, images: 12, subset: chart, split: {all: 1}}
  both: {mix: MIX, seed: 5}
steps: {sft: {on: both, max_steps: 1}}
evaluate: {on: one.test}
"""


def write(folder: Path, mix: str) -> Path:
    (folder / "study.yaml").write_text(STUDY.replace("MIX", mix), encoding="utf-8")
    return folder / "study.yaml"


def test_a_study_mixes_splits_and_validates_on_their_validation(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, "{one.train: 9, two: 11}"))
    plan = plan_study(study)
    assert plan.data == ("one.train", "two.all", "both", "one.validation", "one.test")
    assert (plan.runs[0].on, plan.runs[0].validation) == (("both",), ("one.validation",))
    sets = read_data(study).sets
    assert Counter("bar" in s.tags["picture_type"] or "line" in s.tags["picture_type"] for s in sets["both"]) == {
        False: 9,
        True: 11,
    }
    assert sets["both"] == mix_samples(
        "both", {name: sets[name] for name in ("one.train", "two.all")}, {"one.train": 9, "two.all": 11}, seed=5
    )


@pytest.mark.parametrize(
    ("mix", "told"),
    [
        ("{one.train: 5, both: 5}", "both is a mixture itself"),
        ("{two: 5, two.all: 5}", "names two.all twice"),
        ("{one: 5}", "one has several splits; say which"),
        ("{sft: 5}", "sft is made by a step"),
        ("{three: 5}", "no data is called three"),
    ],
)
def test_a_mixture_names_each_set_of_rows_once(tmp_path: Path, mix: str, told: str) -> None:
    with pytest.raises(StudyError, match=f"data.both.mix.*{told}"):
        plan_study(load_study(write(tmp_path, mix)))


@pytest.mark.parametrize(
    ("mix", "told"),
    [
        ("{one.train: 0.5, two: 0.4}", "shares that add up to 0.9"),
        ("{one.train: 1}", "is 1 a share or a row"),
        ("{one.train: 5}, take: 3", "take does not go with numbers of rows"),
        ("{one.train: 5}, images: 3", "images does not go with mix"),
        ("{one.train: 5}, source: a.csv", "exactly one of source and mix"),
        ("{one.train: -5}", "greater than 0"),
    ],
)
def test_amounts_are_rows_or_shares(tmp_path: Path, mix: str, told: str) -> None:
    with pytest.raises(StudyError, match=told):
        load_study(write(tmp_path, mix))

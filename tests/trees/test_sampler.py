"""What meets in a step and in a row: every sample once, an image's samples together, no row too long."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import DataError
from sightline.trees.render import Rendered
from sightline.trees.row import Row, build_tree
from sightline.trees.sampler import fit_branches, group_by_image, pack, plan_epoch, split_by_tokens, step_rows

Layout = Literal["tree", "flat"]


def sequence(token_ids, shows: tuple[int, ...] = (), pictures: tuple[str, ...] = ()) -> Rendered:
    """A sequence that begins with one image token for each of `shows` and learns its second half."""
    ids = np.asarray([99] * len(shows) + list(token_ids), dtype=np.int64)
    return Rendered(
        token_ids_L=ids,
        positions_AL=np.arange(len(ids))[None],
        picture_L=np.asarray([*shows, *[-1] * len(token_ids)], dtype=np.int64),
        offset_L=np.zeros(len(ids), dtype=np.int64),
        weight_L=(np.arange(len(ids)) >= len(ids) // 2).astype(np.float64),
        num_prompt=1,
        pictures=pictures,
    )


def rows_of(sequences: list[Rendered], image_ids: list[str], row_tokens: int, layout: Layout = "tree") -> list[Row]:
    return step_rows(
        range(len(sequences)),
        rendered=sequences.__getitem__,
        image_ids=image_ids,
        row_tokens=row_tokens,
        layout=layout,
    )


IMAGES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=40)
PLANS = {"batch_size": st.integers(1, 12), "branch_cap": st.none() | st.integers(1, 8), "seed": st.integers(0, 2**31)}


@settings(max_examples=150, deadline=None)
@given(image_ids=IMAGES, epoch=st.integers(0, 3), **PLANS)
def test_every_sample_comes_once_in_steps_of_one_size(image_ids, batch_size, branch_cap, seed, epoch) -> None:
    plan = plan_epoch(image_ids, batch_size=batch_size, branch_cap=branch_cap, seed=seed, epoch=epoch)
    assert sorted(number for step in plan for number in step) == list(range(len(image_ids)))
    assert all(len(step) == batch_size for step in plan[:-1]) and 1 <= len(plan[-1]) <= batch_size
    assert plan == plan_epoch(image_ids, batch_size=batch_size, branch_cap=branch_cap, seed=seed, epoch=epoch)


@settings(max_examples=150, deadline=None)
@given(chunks_per_image=st.lists(st.integers(1, 4), min_size=1, max_size=6), **PLANS)
def test_an_images_samples_stay_together_up_to_the_cap(chunks_per_image, batch_size, branch_cap, seed) -> None:
    cap = min(branch_cap or batch_size, batch_size)
    image_ids = [str(image) for image, chunks in enumerate(chunks_per_image) for _ in range(chunks * cap)]
    plan = plan_epoch(image_ids, batch_size=batch_size, branch_cap=branch_cap, seed=seed, epoch=0)
    shown = [image_ids[number] for step in plan for number in step]
    # Every image has whole chunks here, so wherever the image changes, a whole number of them has passed.
    assert all(len(list(run)) % cap == 0 for _, run in groupby(shown))


def test_the_rest_of_an_image_is_a_chunk_of_its_own() -> None:
    image_ids = ["a"] * 7 + ["b"] * 3
    for seed in range(20):
        plan = plan_epoch(image_ids, batch_size=3, branch_cap=None, seed=seed, epoch=0)
        runs = [len(list(run)) for _, run in groupby(image_ids[number] for step in plan for number in step)]
        assert set(runs) <= {1, 3, 4, 6, 7}


def test_no_chunk_is_longer_than_the_cap() -> None:
    image_ids = ["a"] * 60 + ["b"] * 60
    num_runs = {}
    for cap in (1, 4, 60):
        plan = plan_epoch(image_ids, batch_size=60, branch_cap=cap, seed=3, epoch=0)
        num_runs[cap] = len(list(groupby(image_ids[number] for step in plan for number in step)))
    assert num_runs[1] > 30 > num_runs[4] > 5 and num_runs[60] == 2


def test_seed_and_epoch_are_what_changes_a_plan() -> None:
    image_ids = [str(number // 3) for number in range(30)]
    plans = {
        (seed, epoch): plan_epoch(image_ids, batch_size=4, branch_cap=3, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len({str(plan) for plan in plans.values()}) == 9
    # Within an image the order changes too, so a cap below its number of samples mixes new sets.
    assert len({tuple(n for step in plan for n in step if n < 3) for plan in plans.values()}) > 1


def test_images_are_in_order_of_first_appearance() -> None:
    assert group_by_image(["b", "a", "b", "c", "a"]) == [[0, 2], [1, 4], [3]]


SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=2, max_size=9), st.sampled_from("ab")), min_size=1, max_size=12
)


@settings(max_examples=150, deadline=None)
@given(found=SEQUENCES, row_tokens=st.integers(9, 30))
def test_rows_hold_every_sample_once_and_no_row_is_too_long(found, row_tokens: int) -> None:
    sequences, image_ids = [sequence(tokens) for tokens, _ in found], [image for _, image in found]
    layouts: tuple[Layout, ...] = ("tree", "flat")
    rows = {layout: rows_of(sequences, image_ids, row_tokens, layout) for layout in layouts}
    for laid in rows.values():
        assert sorted(number for row in laid for number in row.branches) == list(range(len(found)))
        assert all(len(row) <= row_tokens for row in laid)
        for row in laid:
            for number, path in zip(row.branches, row.paths, strict=True):
                assert row.token_ids_T[path].tolist() == sequences[number].token_ids_L.tolist()
    whole = rows_of(sequences, image_ids, 1000)
    weights = [sum(row.weight_M.sum() for row in laid) for laid in (*rows.values(), whole)]
    assert len(set(weights)) == 1
    assert all(len(row) == row.num_logical_tokens for row in rows["flat"])
    assert sum(map(len, whole)) <= sum(map(len, rows["tree"])) <= sum(map(len, rows["flat"]))


@settings(max_examples=60, deadline=None)
@given(found=SEQUENCES, random=st.randoms(use_true_random=False))
def test_the_order_of_a_steps_samples_changes_no_number_of_tokens(found, random) -> None:
    sequences, image_ids = [sequence(tokens) for tokens, _ in found], [image for _, image in found]
    order = random.sample(range(len(found)), len(found))
    shuffled = step_rows(order, rendered=sequences.__getitem__, image_ids=image_ids, row_tokens=1000)
    straight = rows_of(sequences, image_ids, 1000)
    assert sorted(map(len, shuffled)) == sorted(map(len, straight))


def test_the_same_words_about_two_images_are_not_shared() -> None:
    [row] = rows_of([sequence([1, 2]), sequence([1, 2])], ["a", "b"], 10)
    assert len(row) == 4
    [row] = rows_of([sequence([1, 2]), sequence([1, 2])], ["a", "a"], 10)
    assert len(row) == 2


def test_a_tree_that_does_not_fit_repeats_its_prefix_and_loses_nothing() -> None:
    prefix = list(range(100, 120))
    sequences = [sequence([*prefix, *[branch] * 5]) for branch in range(10)]
    parts = fit_branches([[n] for n in range(10)], sequences.__getitem__, 40)
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    rows = rows_of(sequences, ["a"] * 10, 40)
    assert sorted(map(len, rows)) == [30, 40, 40]
    assert all(row.token_ids_T[:20].tolist() == prefix for row in rows)
    assert fit_branches([[n] for n in range(10)], sequences.__getitem__, 70) == [list(range(10))]


@pytest.mark.parametrize("row_tokens", [8, 9, 12])
def test_pictures_in_another_order_are_counted_as_they_are_laid(row_tokens: int) -> None:
    keys = ("left", "right")
    sequences = [sequence([1] * 6, (0, 1), keys), sequence([1] * 6, (1, 0), keys)]
    assert len(build_tree(sequences, [0, 1])) == 16
    assert all(len(row) <= row_tokens for row in rows_of(sequences, ["both"] * 2, row_tokens))


def test_a_sample_longer_than_a_row_is_named() -> None:
    sequences = [sequence([1] * 2), sequence([1] * 11)]
    with pytest.raises(DataError, match=r"^sample 1 has 11 tokens, more than a row's 10; raise row_tokens"):
        rows_of(sequences, ["a", "a"], 10)
    assert len(rows_of(sequences, ["a", "a"], 11)) == 1


# --- rows of trees, and rows of ranks -------------------------------------------------------------------------------


def trees_of(lengths: list[int]) -> list[Row]:
    return [build_tree([sequence([number] * length)], [number]) for number, length in enumerate(lengths)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10), max_size=25))
def test_packing_keeps_every_tree_and_no_two_rows_that_would_fit_in_one(lengths: list[int]) -> None:
    rows = pack(trees_of(lengths), 10)
    assert Counter(number for row in rows for number in row.branches) == Counter(range(len(lengths)))
    assert all(len(row) <= 10 for row in rows)
    fewest = sorted(map(len, rows))[:2]
    assert len(fewest) < 2 or sum(fewest) > 10
    assert [row.branches for row in rows] == [row.branches for row in pack(trees_of(lengths), 10)]


def test_packing_puts_the_longest_first_where_they_fit() -> None:
    assert [row.branches for row in pack(trees_of([2, 7, 5, 3, 3]), 10)] == [(1, 3), (2, 4, 0)]


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=20), num_ranks=st.integers(1, 6))
def test_ranks_share_all_rows_evenly(lengths: list[int], num_ranks: int) -> None:
    rows = trees_of(lengths)
    shares = split_by_tokens(rows, num_ranks)
    assert len(shares) == num_ranks
    assert Counter(id(row) for share in shares for row in share) == Counter(map(id, rows))
    loads = [sum(map(len, share)) for share in shares]
    best = max([math.ceil(sum(lengths) / num_ranks), *lengths])
    assert max(loads) <= 4 / 3 * best + max(lengths, default=0) / 3
    assert max(loads) - min(loads) <= max(lengths, default=0)
    again = split_by_tokens(rows, num_ranks)
    assert [[id(row) for row in share] for share in again] == [[id(row) for row in share] for share in shares]


def test_long_rows_are_shared_out_before_short_ones() -> None:
    loads = [sum(map(len, share)) for share in split_by_tokens(trees_of([1, 1, 1, 1, 4]), 2)]
    assert loads == [4, 4]

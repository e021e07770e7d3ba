"""The tree in a row, against a trie built independently: nothing is lost, nothing is seen that should not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.trees.render import Rendered
from sightline.trees.row import Row, build_tree, join_rows, pad_row, visible

Cell = tuple[int, tuple[int, ...], str | None, int]
"""What makes two tokens one: id, position on every axis, picture key and offset in the picture."""


@dataclass(frozen=True)
class Branch:
    """A sequence as cells, and as `build_tree` takes it."""

    cells: tuple[Cell, ...]
    rendered: Rendered


def sequence(
    token_ids: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    positions: Sequence[Sequence[int]] | None = None,
    shows: Sequence[str | None] | None = None,
    pictures: tuple[str, ...] = (),
) -> Branch:
    length = len(token_ids)
    shows = shows or [None] * length
    positions = positions or [range(length)]
    seen: Counter[str] = Counter()
    offsets = []
    for key in shows:
        offsets.append(0 if key is None else seen[key])
        seen.update([key] if key is not None else [])
    axes = list(zip(*positions, strict=True))
    return Branch(
        cells=tuple(zip(map(int, token_ids), axes, shows, offsets, strict=True)),
        rendered=Rendered(
            token_ids_L=np.asarray(token_ids, dtype=np.int64),
            positions_AL=np.asarray(positions, dtype=np.int64),
            picture_L=np.asarray([-1 if key is None else pictures.index(key) for key in shows]),
            offset_L=np.asarray(offsets),
            weight_L=np.asarray(weights if weights is not None else [1.0] * length, dtype=np.float64),
            num_prompt=1,
            pictures=pictures,
        ),
    )


@st.composite
def branches(draw: st.DrawFn, num_axes: int) -> Branch:
    """Few ids, steps and pictures, so that sequences often agree for a while and part in each of them."""
    length = draw(st.integers(1, 8))

    def listed(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=length, max_size=length))

    # Most sequences count positions by ones; the others leave one out somewhere.
    gap = draw(st.sampled_from([length] * 4 + list(range(length))))
    positions = [[place + (place >= gap) * (axis + 1) for place in range(length)] for axis in range(num_axes)]
    return sequence(
        listed(st.integers(0, 1)),
        weights=listed(st.sampled_from([0.0, 1.0, 0.5])),
        positions=positions,
        shows=listed(st.sampled_from([None, None, "left", "right"])),
        pictures=tuple(draw(st.permutations(["left", "right"]))),
    )


MANY = st.integers(1, 3).flatmap(lambda num_axes: st.lists(branches(num_axes), min_size=1, max_size=8))
LISTS = st.integers(1, 2).flatmap(
    lambda num_axes: st.lists(st.lists(branches(num_axes), min_size=1, max_size=4), min_size=1, max_size=4)
)


def num_nodes(found: Sequence[Branch]) -> int:
    """Nodes of the trie of the sequences: their distinct beginnings."""
    return len({branch.cells[:end] for branch in found for end in range(1, len(branch.cells) + 1)})


def check_row(row: Row, found: Sequence[Branch], num_pads: int = 0) -> None:
    """Hold a row against its sequences, in the order of `row.paths`."""
    assert len(row.paths) == len(row.branches) == len(found)
    mask = visible(row)
    for number, (branch, path) in enumerate(zip(found, row.paths, strict=True)):
        keys = [None if index < 0 else row.pictures[index] for index in row.picture_T[path]]
        axes = map(tuple, row.positions_AT[:, path].T.tolist())
        cells = zip(row.token_ids_T[path].tolist(), axes, keys, row.offset_T[path].tolist(), strict=True)
        assert tuple(cells) == branch.cells
        for depth, place in enumerate(path):
            assert np.flatnonzero(mask[place]).tolist() == path[: depth + 1].tolist()
        own = row.branch_M == number
        targets = zip(row.source_M[own].tolist(), row.target_M[own].tolist(), row.weight_M[own].tolist(), strict=True)
        weights, ids = branch.rendered.weight_L.tolist(), branch.rendered.token_ids_L.tolist()
        expected = [(int(path[i - 1]), ids[i], weights[i]) for i in range(1, len(ids)) if weights[i] > 0]
        assert list(targets) == expected
    assert len(row.branch_M) == 0 or 0 <= row.branch_M.min() <= row.branch_M.max() < len(found)
    assert len(np.unique(np.concatenate(row.paths))) == len(row) - num_pads  # no token belongs to nobody
    assert row.num_logical_tokens == sum(len(branch.cells) for branch in found)
    dtypes = {row.token_ids_T.dtype, row.positions_AT.dtype, row.subtree_end_T.dtype, row.picture_T.dtype}
    assert dtypes | {row.offset_T.dtype, row.source_M.dtype, row.target_M.dtype} == {np.dtype(np.int64)}


@settings(max_examples=200, deadline=None)
@given(MANY)
def test_a_tree_is_its_sequences_and_nothing_else(found: list[Branch]) -> None:
    row = build_tree([branch.rendered for branch in found], range(10, 10 + len(found)))
    check_row(row, found)
    assert row.branches == tuple(range(10, 10 + len(found)))
    assert len(row) == num_nodes(found)


@settings(max_examples=60, deadline=None)
@given(MANY, st.randoms(use_true_random=False))
def test_the_order_of_the_sequences_changes_no_count(found: list[Branch], random) -> None:
    shuffled = random.sample(found, len(found))
    first, second = (build_tree([b.rendered for b in some], range(len(some))) for some in (found, shuffled))
    assert len(first) == len(second)
    assert visible(first).sum() == visible(second).sum()
    assert first.weight_M.sum() == second.weight_M.sum()


@settings(max_examples=100, deadline=None)
@given(LISTS, st.integers(0, 3))
def test_joined_and_padded_rows_keep_every_tree(lists: list[list[Branch]], num_pads: int) -> None:
    trees = [build_tree([b.rendered for b in found], range(len(found))) for found in lists]
    joined = join_rows(trees)
    everyone = [branch for found in lists for branch in found]
    check_row(joined, everyone)
    assert len(joined) == sum(map(len, trees)) and len(set(joined.pictures)) == len(joined.pictures)
    assert joined.branches == tuple(number for tree in trees for number in tree.branches)

    padded = pad_row(joined, len(joined) + num_pads, pad_token_id=9)
    check_row(padded, everyone, num_pads)
    mask = visible(padded)
    for pad in range(len(joined), len(padded)):
        assert np.flatnonzero(mask[pad]).tolist() == np.flatnonzero(mask[:, pad]).tolist() == [pad]
    assert (padded.token_ids_T[len(joined) :] == 9).all() and (padded.picture_T[len(joined) :] == -1).all()


def test_the_row_of_the_documentation() -> None:
    r, b, d, e, c = 10, 11, 12, 13, 14
    found = [sequence([r, b, d]), sequence([r, c]), sequence([r, b, e])]
    row = build_tree([branch.rendered for branch in found], [0, 1, 2])
    assert row.token_ids_T.tolist() == [r, b, d, e, c]
    assert row.subtree_end_T.tolist() == [5, 4, 3, 4, 5]
    assert visible(row).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 0, 0, 0, 1],
    ]


def test_equal_sequences_are_one_path_with_targets_for_each() -> None:
    twice = [sequence([5, 6, 7], weights=[0, 0, 1]), sequence([5, 6, 7], weights=[0, 0.5, 2])]
    row = build_tree([branch.rendered for branch in twice], [3, 3])
    assert len(row) == 3 and row.branches == (3, 3)
    assert row.source_M.tolist() == [1, 0, 1] and row.target_M.tolist() == [7, 6, 7]
    assert row.weight_M.tolist() == [1, 0.5, 2] and row.branch_M.tolist() == [0, 1, 1]


def test_a_shared_token_predicts_the_first_token_of_every_answer() -> None:
    found = [sequence([1, 2, answer], weights=[0, 0, 1]) for answer in (7, 8, 9)]
    row = build_tree([branch.rendered for branch in found], [0, 1, 2])
    assert row.source_M.tolist() == [1, 1, 1] and row.target_M.tolist() == [7, 8, 9]


def test_a_sequence_that_ends_within_another_shares_all_of_it() -> None:
    found = [sequence([1, 2, 3, 4]), sequence([1, 2]), sequence([1, 2, 3])]
    row = build_tree([branch.rendered for branch in found], [0, 1, 2])
    assert len(row) == 4 and row.subtree_end_T.tolist() == [4] * 4


def test_tokens_that_differ_in_more_than_their_id_stay_apart() -> None:
    keys = ("left", "right")
    one = sequence([1, 3, 9], shows=[None, "left", None], pictures=keys).rendered
    for other in (
        replace(one, positions_AL=np.asarray([[0, 2, 3]])),
        replace(one, picture_L=np.asarray([-1, 1, -1])),
        replace(one, offset_L=np.asarray([0, 1, 0])),
    ):
        row = build_tree([one, other], [0, 1])
        assert [path.tolist() for path in row.paths] == [[0, 1, 2], [0, 3, 4]]


def test_a_picture_is_known_by_its_key_whatever_its_number() -> None:
    one = sequence([3, 3, 5], shows=["left", "left", None], pictures=("left", "right"))
    other = sequence([3, 3, 6], shows=["left", "left", None], pictures=("right", "left"))
    row = build_tree([one.rendered, other.rendered], [0, 1])
    assert len(row) == 4 and row.picture_T.tolist() == [0, 0, -1, -1]


def test_padding_to_less_than_the_row_is_refused() -> None:
    row = build_tree([sequence([1, 2, 3]).rendered], [0])
    with pytest.raises(ValueError, match="3 tokens does not fit in 2"):
        pad_row(row, 2, pad_token_id=0)
    assert len(pad_row(row, 3, pad_token_id=0)) == 3


def test_a_conversation_of_many_turns_is_as_deep_as_it_is_long() -> None:
    branches = [sequence(range(length)) for length in range(1, 600)]
    row = build_tree([branch.rendered for branch in branches], range(len(branches)))
    assert len(row) == 599
    assert all(path.tolist() == list(range(length)) for length, path in enumerate(row.paths, start=1))
    assert (row.subtree_end_T == 599).all()

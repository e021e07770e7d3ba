"""The tree in a row: sequences merged at their common prefixes, laid out depth-first in one row of tokens.

The whole attention rule is one integer per token:

    query q may see key k   iff   k <= q < subtree_end[k]

`subtree_end[k]` is the place just after the last descendant of token k. A row may hold several trees, any depth and
padding (`subtree_end` = own place + 1); the rule stays the same.

Shapes: T tokens of a row, A position axes, M targets, K branches, L tokens of one sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.trees.render import Rendered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One or more trees, depth-first.

    Args:
        token_ids_T: int64[T].
        positions_AT: int64[A, T], logical: a token's position in its own sequence, not in the row.
        subtree_end_T: int64[T].
        picture_T: int64[T], which of `pictures` an image token shows; -1 for text and padding.
        offset_T: int64[T], which of the picture's features an image token carries.
        pictures: the distinct picture keys of the row.
        source_M: int64[M], the token whose output predicts the target.
        target_M: int64[M], token ids.
        weight_M: float64[M].
        branch_M: int64[M], which of `branches` the target belongs to.
        branches: K numbers by which the caller knows its samples.
        paths: for each branch, int64[L]: the row's places of its tokens, first to last.
    """

    token_ids_T: NDArray[np.int64]
    positions_AT: NDArray[np.int64]
    subtree_end_T: NDArray[np.int64]
    picture_T: NDArray[np.int64]
    offset_T: NDArray[np.int64]
    pictures: tuple[str, ...]
    source_M: NDArray[np.int64]
    target_M: NDArray[np.int64]
    weight_M: NDArray[np.float64]
    branch_M: NDArray[np.int64]
    branches: tuple[int, ...]
    paths: tuple[NDArray[np.int64], ...]

    def __len__(self) -> int:
        return len(self.token_ids_T)

    @property
    def num_logical_tokens(self) -> int:
        """Tokens of all branches, counted as if nothing were shared."""
        return sum(len(path) for path in self.paths)


def build_tree(sequences: Sequence[Rendered], branches: Sequence[int]) -> Row:
    """Merge sequences at their common prefixes.

    Tokens are one while they and all before them agree in id, in position and, for image tokens, in picture and
    offset. Children keep the order in which their first sequence was given.

    Args:
        sequences: the rendered samples of one image; at least one.
        branches: their numbers, by which the caller knows them.
    """
    picture_index: dict[str, int] = {}
    keys = [merge_keys(sequence, picture_index) for sequence in sequences]

    pieces: list[tuple[int, int, int]] = []  # (sequence, first token, end token), in row order
    ends: list[tuple[int, int, int]] = []  # (first place, end place, subtree_end)
    paths: list[list[NDArray[np.int64]]] = [[] for _ in sequences]
    length = 0
    # Sequences that differ from the first token on are trees of their own, side by side. A stack, not recursion: a
    # conversation of many turns is a tree as deep.
    waiting: list[tuple[list[int], int] | tuple[int, int]] = [
        (members, 0) for members in reversed(_by_next_token(keys, range(len(keys)), 0))
    ]
    while waiting:
        members, depth = waiting.pop()
        if isinstance(members, int):  # all below this node is laid
            ends.append((members, depth, length))
            continue
        first = members[0]
        stop = min(depth + agreement(keys[first][depth:], keys[member][depth:]) for member in members)
        start, length = length, length + stop - depth
        pieces.append((first, depth, stop))
        for member in members:
            paths[member].append(np.arange(start, length))
        waiting.append((start, length))
        waiting += [(group, stop) for group in reversed(_by_next_token(keys, members, stop))]

    subtree_end_T = np.empty(length, dtype=np.int64)
    for start, own_end, end in ends:
        subtree_end_T[start:own_end] = end
    whole_paths = tuple(np.concatenate(path) for path in paths)
    return Row(
        token_ids_T=np.concatenate([sequences[s].token_ids_L[a:b] for s, a, b in pieces]),
        positions_AT=np.concatenate([sequences[s].positions_AL[:, a:b] for s, a, b in pieces], axis=1),
        subtree_end_T=subtree_end_T,
        # Columns -2 and -1 of the merge keys are the picture's number in this row and the offset within it.
        picture_T=np.concatenate([keys[s][a:b, -2] for s, a, b in pieces]),
        offset_T=np.concatenate([keys[s][a:b, -1] for s, a, b in pieces]),
        pictures=tuple(picture_index),
        branches=tuple(branches),
        paths=whole_paths,
        **_targets(sequences, whole_paths),
    )


def _by_next_token(keys: Sequence[NDArray[np.int64]], members: Iterable[int], depth: int) -> list[list[int]]:
    """Group the sequences that go on by their next token, in order of first appearance."""
    groups: dict[bytes, list[int]] = {}
    for member in members:
        if len(keys[member]) > depth:
            groups.setdefault(keys[member][depth].tobytes(), []).append(member)
    return list(groups.values())


def merge_keys(sequence: Rendered, picture_index: dict[str, int]) -> NDArray[np.int64]:
    """Give everything two tokens must agree in to be one: int64[L, 1 + A + 2].

    Args:
        sequence: the tokens.
        picture_index: numbers of the picture keys met so far; new ones are added.
    """
    for key in sequence.pictures:
        picture_index.setdefault(key, len(picture_index))
    numbers = np.asarray([picture_index[key] for key in sequence.pictures] + [-1], dtype=np.int64)
    columns = [sequence.token_ids_L, *sequence.positions_AL, numbers[sequence.picture_L], sequence.offset_L]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def agreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Measure the common beginning of two sequences' merge keys, in tokens."""
    shorter = min(len(a), len(b))
    differs = a[:shorter].ravel() != b[:shorter].ravel()
    first = int(differs.argmax()) if shorter else 0
    return first // a.shape[1] if shorter and differs[first] else shorter


def _targets(sequences: Sequence[Rendered], paths: Sequence[NDArray[np.int64]]) -> dict[str, NDArray]:
    """Explicit rows (source, target, weight, branch): the token before predicts the token, once per branch."""
    columns: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
    for branch, (sequence, path) in enumerate(zip(sequences, paths, strict=True)):
        learnt = np.flatnonzero(sequence.weight_L)
        learnt = learnt[learnt > 0]  # nothing comes before the first token, so nothing predicts it
        columns.append(
            (
                path[learnt - 1],
                sequence.token_ids_L[learnt],
                sequence.weight_L[learnt],
                np.full(len(learnt), branch, dtype=np.int64),
            )
        )
    names = ("source_M", "target_M", "weight_M", "branch_M")
    return {name: np.concatenate(column) for name, column in zip(names, zip(*columns, strict=True), strict=True)}


def join_rows(rows: Sequence[Row]) -> Row:
    """Put trees side by side in one row; they do not see each other."""
    if len(rows) == 1:
        return rows[0]
    pictures = tuple(dict.fromkeys(key for row in rows for key in row.pictures))
    number = {key: index for index, key in enumerate(pictures)}
    starts = np.cumsum([0, *(len(row) for row in rows)])
    first_branch = np.cumsum([0, *(len(row.branches) for row in rows)])

    def renumbered(row: Row) -> NDArray[np.int64]:
        return np.asarray([*(number[key] for key in row.pictures), -1], dtype=np.int64)[row.picture_T]

    return Row(
        token_ids_T=np.concatenate([row.token_ids_T for row in rows]),
        positions_AT=np.concatenate([row.positions_AT for row in rows], axis=1),
        subtree_end_T=np.concatenate([row.subtree_end_T + start for row, start in zip(rows, starts, strict=False)]),
        picture_T=np.concatenate([renumbered(row) for row in rows]),
        offset_T=np.concatenate([row.offset_T for row in rows]),
        pictures=pictures,
        source_M=np.concatenate([row.source_M + start for row, start in zip(rows, starts, strict=False)]),
        target_M=np.concatenate([row.target_M for row in rows]),
        weight_M=np.concatenate([row.weight_M for row in rows]),
        branch_M=np.concatenate([row.branch_M + first for row, first in zip(rows, first_branch, strict=False)]),
        branches=tuple(branch for row in rows for branch in row.branches),
        paths=tuple(path + start for row, start in zip(rows, starts, strict=False) for path in row.paths),
    )


def pad_row(row: Row, length: int, pad_token_id: int) -> Row:
    """Fill a row up to `length` tokens with padding that sees and is seen by nothing but itself."""
    missing = length - len(row)
    if missing < 0:
        raise ValueError(f"a row of {len(row)} tokens does not fit in {length}")
    tail = np.arange(len(row), length)
    return Row(
        token_ids_T=np.concatenate([row.token_ids_T, np.full(missing, pad_token_id)]),
        positions_AT=np.pad(row.positions_AT, ((0, 0), (0, missing))),
        subtree_end_T=np.concatenate([row.subtree_end_T, tail + 1]),
        picture_T=np.concatenate([row.picture_T, np.full(missing, -1)]),
        offset_T=np.concatenate([row.offset_T, np.zeros(missing, dtype=np.int64)]),
        pictures=row.pictures,
        source_M=row.source_M,
        target_M=row.target_M,
        weight_M=row.weight_M,
        branch_M=row.branch_M,
        branches=row.branches,
        paths=row.paths,
    )


def visible(row: Row) -> NDArray[np.bool_]:
    """Write the attention rule out as a dense mask, bool[T, T]: entry [q, k] says whether q sees k.

    A root with two branches `b` and `c`, `b` with two children: row r b d e c, subtree_end 5 4 3 4 5:

        r: 1 0 0 0 0
        b: 1 1 0 0 0
        d: 1 1 1 0 0
        e: 1 1 0 1 0
        c: 1 0 0 0 1
    """
    place = np.arange(len(row))
    return (place[None, :] <= place[:, None]) & (place[:, None] < row.subtree_end_T[None, :])

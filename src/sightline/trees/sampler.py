"""Which samples meet in one optimizer step, and in which rows.

Sharing pays only if an image's questions meet in one step. So chunks of an image's questions are shuffled, not single
questions; `batch_size` still counts samples. The list of samples in a step depends on data, seed and epoch only: the
ranks split it afterwards, by tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from sightline.errors import DataError
from sightline.trees.render import Rendered
from sightline.trees.row import Row, agreement, build_tree, join_rows, merge_keys


def plan_epoch(
    image_ids: Sequence[str], *, batch_size: int, branch_cap: int | None, seed: int, epoch: int
) -> list[tuple[int, ...]]:
    """List the samples of each optimizer step of one epoch; every sample comes exactly once.

    Args:
        image_ids: each sample's image group, in the order of the data.
        batch_size: samples per step; the last step may have fewer.
        branch_cap: most samples of one image that stay together; None for `batch_size`.
        seed: with `epoch`, the only source of randomness.
        epoch: from 0.

    Returns:
        Sample numbers, step by step. A chunk that does not fit is cut; its rest opens the next step.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    cap = min(branch_cap or batch_size, batch_size)
    chunks = []
    for members in group_by_image(image_ids):
        shuffled = rng.permutation(members)
        chunks += [shuffled[start : start + cap] for start in range(0, len(shuffled), cap)]
    order = np.concatenate([chunks[index] for index in rng.permutation(len(chunks))])
    return [tuple(int(i) for i in order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


def group_by_image(image_ids: Iterable[str]) -> list[list[int]]:
    """Collect the numbers of the samples of each image, images in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for number, image_id in enumerate(image_ids):
        groups.setdefault(image_id, []).append(number)
    return list(groups.values())


def step_rows(
    samples: Sequence[int],
    *,
    rendered: Callable[[int], Rendered],
    image_ids: Sequence[str],
    row_tokens: int,
    layout: Literal["tree", "flat"] = "tree",
    together: int = 1,
) -> list[Row]:
    """Lay the samples of a step out in rows of at most `row_tokens` tokens.

    Args:
        samples: their numbers.
        rendered: gives a sample's sequence by its number.
        image_ids: each sample's image group, by number.
        row_tokens: the longest row.
        layout: "tree" shares what an image's samples have in common, "flat" shares nothing.
        together: sequences of a sample, which stay in one row: 2 for a pair of answers. Sample n has the sequences
            from n * together on; `rendered` and a row's `branches` count sequences.

    Raises:
        DataError: if a single sample is longer than a row.
    """
    units = [range(number * together, (number + 1) * together) for number in samples]
    if layout == "flat":
        alone = [join_rows([build_tree([rendered(branch)], [branch]) for branch in unit]) for unit in units]
        for number, row in zip(samples, alone, strict=True):
            if len(row) > row_tokens:
                raise _too_long(number, len(row), row_tokens)
        return pack(alone, row_tokens)
    trees = [
        build_tree([rendered(branch) for branch in part], part)
        for group in group_by_image(image_ids[number] for number in samples)
        for part in fit_branches([units[i] for i in group], rendered, row_tokens)
    ]
    return pack(trees, row_tokens)


def fit_branches(
    units: Sequence[Sequence[int]], rendered: Callable[[int], Rendered], row_tokens: int
) -> list[list[int]]:
    """Divide an image's sequences so that each part's tree fits a row; the parts repeat the prefix.

    Args:
        units: the numbers of the sequences, those of a sample together.
        rendered: gives a sequence by its number.
        row_tokens: the longest row.

    Raises:
        DataError: if a single sample is longer than a row.
    """
    everything = [branch for unit in units for branch in unit]
    if sum(len(rendered(branch)) for branch in everything) <= row_tokens:  # fits even if nothing is shared
        return [everything] if everything else []
    picture_index: dict[str, int] = {}
    keys = {branch: merge_keys(rendered(branch), picture_index) for branch in everything}

    def added(unit: Sequence[int], to: Sequence[int]) -> int:
        """Count the tokens that a unit adds to a tree."""
        number, there = 0, list(to)
        for branch in unit:
            number += len(keys[branch]) - max((agreement(keys[branch], keys[other]) for other in there), default=0)
            there.append(branch)
        return number

    parts: list[list[int]] = []
    length = 0
    for unit in units:
        more = added(unit, parts[-1]) if parts else 0
        if not parts or length + more > row_tokens:
            length = added(unit, [])
            if length > row_tokens:
                raise _too_long(unit[0] // len(unit), length, row_tokens)
            parts.append(list(unit))
        else:
            parts[-1] += unit
            length += more
    return parts


def _too_long(number: int, num_tokens: int, row_tokens: int) -> DataError:
    return DataError(
        f"sample {number} has {num_tokens} tokens, more than a row's {row_tokens}; "
        "raise row_tokens, shorten the row or set on_bad_row: skip"
    )


def pack(trees: Sequence[Row], row_tokens: int) -> list[Row]:
    """Put trees together into as few rows as first-fit-decreasing finds; deterministic."""
    bins: list[list[Row]] = []
    room: list[int] = []
    for index in sorted(range(len(trees)), key=lambda i: (-len(trees[i]), i)):
        tree = trees[index]
        place = next((b for b, free in enumerate(room) if free >= len(tree)), None)
        if place is None:
            bins.append([])
            room.append(row_tokens)
            place = len(bins) - 1
        bins[place].append(tree)
        room[place] -= len(tree)
    return [join_rows(members) for members in bins]


def split_by_tokens(rows: Sequence[Row], num_ranks: int) -> list[list[Row]]:
    """Share rows out over ranks so that their tokens are even; a rank may get none."""
    shares: list[list[Row]] = [[] for _ in range(num_ranks)]
    load = [0] * num_ranks
    for row in sorted(rows, key=len, reverse=True):
        lightest = load.index(min(load))
        shares[lightest].append(row)
        load[lightest] += len(row)
    return shares

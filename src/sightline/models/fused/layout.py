"""Which blocks of a row's attention are empty, full or mixed: what a blockwise kernel must know of the tree.

The rule is `k <= q < subtree_end[k]`. Lists of blocks are made on the host, once a row, and used by every layer.

Shapes: T row tokens (a multiple of `BLOCK`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 128
"""Rows are padded to a multiple of this many tokens."""


ALIGNED = 4
"""Numbers of 32 bits in 16 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How a kernel cuts a row up.

    Args:
        by: whether one program has a block of queries and meets blocks of keys, or the other way round.
        query_block: tokens of a block of queries; divides `BLOCK`.
        key_block: tokens of a block of keys; divides `BLOCK`.
        num_warps: of a program.
        num_stages: of its software pipeline.
    """

    by: Literal["query", "key"]
    query_block: int
    key_block: int
    num_warps: int
    num_stages: int


FORWARD = Tiling(by="query", query_block=64, key_block=32, num_warps=4, num_stages=3)
BACKWARD_KEYS = Tiling(by="key", query_block=64, key_block=64, num_warps=4, num_stages=2)
BACKWARD_QUERIES = Tiling(by="query", query_block=64, key_block=32, num_warps=4, num_stages=2)
"""Small blocks: a question is some 25 tokens, and a block that only touches it is mostly masked. Swept on an H200."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockList:
    """For each block of one side, the blocks of the other side that it meets.

    Args:
        tiling: what the blocks are.
        start: int32[blocks + 1]; block b's partners are `partner[start[b] : start[b + 1]]`.
        middle: int32[blocks]; from here to the next start every pair of tokens is visible, before it only some.
        partner: int32[pairs].
    """

    tiling: Tiling
    start: Tensor
    middle: Tensor
    partner: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeLayout:
    """A row's attention rule, ready for kernels.

    Args:
        subtree_end_T: int32[T].
        forward: for the forward pass.
        backward_keys: for the gradient of keys and values.
        backward_queries: for the gradient of queries.
    """

    subtree_end_T: Tensor
    forward: BlockList
    backward_keys: BlockList
    backward_queries: BlockList


def tree_layout(
    subtree_end_T: NDArray[np.int64],
    device: torch.device,
    tilings: tuple[Tiling, Tiling, Tiling] = (FORWARD, BACKWARD_KEYS, BACKWARD_QUERIES),
) -> TreeLayout:
    """List the blocks of a row and bring them to the device in one copy that the host does not wait for."""
    parts = [subtree_end_T, *(part for tiling in tilings for part in _lists(subtree_end_T, tiling))]
    # Each starts at a multiple of 16 bytes, as fresh memory does: Triton compiles anew for another alignment.
    lengths = [-(-len(part) // ALIGNED) * ALIGNED for part in parts]
    host = torch.zeros(sum(lengths), dtype=torch.int32, pin_memory=device.type == "cuda")
    for room, part in zip(host.split(lengths), parts, strict=True):
        room[: len(part)] = torch.from_numpy(part)
    there = host.to(device, non_blocking=True).split(lengths)
    ends, *found = (room[: len(part)] for room, part in zip(there, parts, strict=True))
    lists = [
        BlockList(tiling=tiling, start=found[at], middle=found[at + 1], partner=found[at + 2])
        for at, tiling in zip((0, 3, 6), tilings, strict=True)
    ]
    return TreeLayout(subtree_end_T=ends, forward=lists[0], backward_keys=lists[1], backward_queries=lists[2])


def _lists(
    subtree_end_T: NDArray[np.int64], tiling: Tiling
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List each block's partners, those that see only some pairs first: start, middle and partner of a `BlockList`."""
    some, whole = _seen_blocks(subtree_end_T, tiling.query_block, tiling.key_block)
    if tiling.by == "key":
        some, whole = some.T, whole.T
    mixed = some & ~whole
    start = np.concatenate([[0], np.cumsum(some.sum(axis=1))])
    middle = start[:-1] + mixed.sum(axis=1)
    # Of each block, the mixed partners and then the whole ones: one row-major search finds them in that order.
    partners = np.nonzero(np.concatenate([mixed, whole], axis=1))[1]
    return start, middle, partners % some.shape[1]


def _seen_blocks(
    subtree_end_T: NDArray[np.int64], query_block: int, key_block: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which (query block, key block) pairs have anything to see, and which see everything: bool[Q, K] each."""
    ends = subtree_end_T.reshape(-1, key_block)
    first_query = np.arange(0, len(subtree_end_T), query_block)[:, None]
    first_key = np.arange(0, len(subtree_end_T), key_block)[None]
    before = first_key + key_block <= first_query
    overlap = ~before & (first_key < first_query + query_block)
    some = overlap | (before & (ends.max(axis=1)[None] > first_query))
    whole = before & (ends.min(axis=1)[None] >= first_query + query_block)
    return some, whole

"""Tree decoding: the prompts of a row are read once, then all their answers grow together.

Order is logical. Every leaf reserves `max_new_tokens` slots in depth-first order, directly after its prompt's last
token, and `k <= q < subtree_end[k]` is evaluated on slot numbers, whatever the physical order in the cache.

Shapes: T prompt tokens of a row, N active leaves, C tokens in the cache, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.generation.sampling import Decoding, choose_tokens, leaf_generator
from sightline.models.forward import hidden_states_at, on_device, stock_positions
from sightline.models.growing_cache import GrowingCache
from sightline.models.loading import LoadedModel
from sightline.models.steady import steady_attention
from sightline.trees.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One answer to be generated.

    Args:
        branch: which of the row's branches it continues.
        sample_id: keys its random numbers, with `k`.
        k: which of several answers to the same prompt.
    """

    branch: int
    sample_id: str
    k: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Logical places of a row's tokens and leaves.

    Args:
        token_T: int64[T], slot of each prompt token.
        end_T: int64[T], `subtree_end` in slots.
        leaf_N: int64[N], first slot of each leaf.
    """

    token_T: NDArray[np.int64]
    end_T: NDArray[np.int64]
    leaf_N: NDArray[np.int64]


def reserve_slots(row: Row, leaves: Sequence[Leaf], max_new_tokens: int) -> Slots:
    """Give every leaf its slots, directly after the last token of its prompt."""
    anchors = np.asarray([row.paths[leaf.branch][-1] for leaf in leaves])
    leaves_at = np.bincount(anchors, minlength=len(row))
    before = np.concatenate([[0], np.cumsum(leaves_at)]) * max_new_tokens  # slots reserved before a place
    token_T = np.arange(len(row)) + before[:-1]
    in_order = np.argsort(anchors, kind="stable")
    earlier = np.empty_like(anchors)  # leaves before this one at the same place
    earlier[in_order] = np.arange(len(anchors)) - np.searchsorted(anchors[in_order], anchors[in_order])
    return Slots(
        token_T=token_T,
        end_T=row.subtree_end_T + before[row.subtree_end_T],
        leaf_N=token_T[anchors] + 1 + earlier * max_new_tokens,
    )


@steady_attention()
def decode_row(loaded: LoadedModel, row: Row, leaves: Sequence[Leaf], decoding: Decoding) -> list[list[int]]:
    """Generate all answers of a row.

    Args:
        loaded: the model.
        row: prompts without answers.
        leaves: what to generate; several may continue one branch.
        decoding: see `Decoding`; beams are not done here.

    Returns:
        each leaf's token ids, its end token included if it came.
    """
    language_model, head = loaded.family.language_model(loaded.inner), loaded.family.head(loaded.inner)
    longest, ends = decoding.max_new_tokens, np.asarray(loaded.end_token_ids)
    slots = reserve_slots(row, leaves, longest)
    anchors = np.asarray([row.paths[leaf.branch][-1] for leaf in leaves])
    drawn = decoding.temperature != 0
    generators = [leaf_generator(decoding.seed, leaf.sample_id, leaf.k) for leaf in leaves] if drawn else []
    cache = GrowingCache(reserved=len(leaves)) if longest > 1 else None
    # What the cache holds, token by token: its slot and where its subtree ends.
    slot_C, end_C = on_device(slots.token_T, loaded.device), on_device(slots.end_T, loaded.device)
    tokens_NL = np.zeros((len(leaves), longest), dtype=np.int64)
    lengths_N = np.zeros(len(leaves), dtype=np.int64)
    active = np.arange(len(leaves))

    with torch.no_grad():
        # Slots grow with places, so among the prompts' own tokens the rule reads the same in both.
        places, leaf_place = np.unique(anchors, return_inverse=True)
        hidden_SD = hidden_states_at(loaded, row, places, cache=cache)
        logits_NV = head(hidden_SD.index_select(0, on_device(leaf_place, loaded.device)))
        for step in range(longest):
            chosen = choose_tokens(logits_NV.float(), decoding, [generators[leaf] for leaf in active] if drawn else [])
            tokens_NL[active, step] = chosen
            lengths_N[active] = step + 1
            active = active[~np.isin(chosen, ends)]
            if not len(active) or step + 1 == longest:
                break
            slot_N = on_device(slots.leaf_N[active] + step, loaded.device)
            slot_C = torch.cat([slot_C, slot_N])
            end_C = torch.cat([end_C, on_device(slots.leaf_N[active] + longest, loaded.device)])
            tokens_N = on_device(tokens_NL[active, step], loaded.device)
            hidden_ND = language_model(
                inputs_embeds=language_model.get_input_embeddings()(tokens_N)[None],  # pyright: ignore
                # The rule, on slots: bool[1, 1, N, C].
                attention_mask=((slot_C[None] <= slot_N[:, None]) & (slot_N[:, None] < end_C[None]))[None, None],
                position_ids=_next_positions(row, anchors[active], step, loaded.device),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[0]
            logits_NV = head(hidden_ND)
    return [tokens[:length].tolist() for tokens, length in zip(tokens_NL, lengths_N, strict=True)]


def _next_positions(row: Row, anchors: NDArray[np.int64], step: int, device: torch.device) -> Tensor:
    """Positions of the new tokens: on every axis one after the highest of the prompt's last token, then counting on."""
    highest_N = row.positions_AT[:, anchors].max(axis=0)
    return stock_positions(on_device(np.tile(highest_N + 1 + step, (len(row.positions_AT), 1)), device))

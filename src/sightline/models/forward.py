"""From rows to log-probabilities.

Shapes: T row tokens, M targets, S distinct sources, K branches, D model width, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.models.loading import LoadedModel
from sightline.trees.row import Row


def row_mask(row: Row, device: torch.device) -> Tensor:
    """Write `k <= q < subtree_end[k]` as a dense mask for SDPA: bool[1, 1, T, T]."""
    subtree_end_T = torch.from_numpy(row.subtree_end_T).to(device)
    place_T = torch.arange(len(row), device=device)
    return ((place_T[None, :] <= place_T[:, None]) & (place_T[:, None] < subtree_end_T[None, :]))[None, None]


def row_embeddings(loaded: LoadedModel, row: Row) -> Tensor:
    """Embed a row's tokens, pictures in their places: [T, D]."""
    embed = loaded.family.language_model(loaded.inner).get_input_embeddings()  # pyright: ignore
    embeddings_TD = embed(torch.from_numpy(row.token_ids_T).to(loaded.device))
    places = np.flatnonzero(row.picture_T >= 0)
    if not len(places):
        return embeddings_TD
    features = loaded.features.of(row.pictures)
    starts = np.cumsum([0, *(len(features[key]) for key in row.pictures)])
    chosen = torch.from_numpy(starts[row.picture_T[places]] + row.offset_T[places]).to(loaded.device)
    stacked = torch.cat([features[key] for key in row.pictures]).to(embeddings_TD.dtype)
    return embeddings_TD.index_copy(0, torch.from_numpy(places).to(loaded.device), stacked.index_select(0, chosen))


def row_positions(row: Row, device: torch.device) -> Tensor:
    """Give position ids as the language model takes them: int64[1, T], or [A, 1, T] for several axes."""
    positions_AT = torch.from_numpy(row.positions_AT).to(device)
    return positions_AT if len(positions_AT) == 1 else positions_AT[:, None]


def row_hidden_states(loaded: LoadedModel, row: Row) -> Tensor:
    """Run the language model over a row: [T, D], after its last norm."""
    output = loaded.family.language_model(loaded.inner)(
        inputs_embeds=row_embeddings(loaded, row)[None],
        attention_mask=row_mask(row, loaded.device),
        position_ids=row_positions(row, loaded.device),
        use_cache=False,
    )
    return output.last_hidden_state[0]


def row_logprobs(loaded: LoadedModel, row: Row) -> Tensor:
    """Log-probability of every target given what its branch shows before it.

    Returns:
        float[M] in nats, float32 or the model's own type if that is wider; differentiable.
    """
    hidden_TD = row_hidden_states(loaded, row)
    sources, place_M = np.unique(row.source_M, return_inverse=True)
    # index_select: its backward is deterministic on the CPU where advanced indexing with repeats is not.
    hidden_SD = hidden_TD.index_select(0, torch.from_numpy(sources).to(loaded.device))
    logits_SV = loaded.family.head(loaded.inner)(hidden_SD)
    wide = torch.promote_types(logits_SV.dtype, torch.float32)
    logprobs_SV = torch.log_softmax(logits_SV.to(wide), dim=-1)
    flat_M = torch.from_numpy(place_M * logprobs_SV.shape[1] + row.target_M).to(loaded.device)
    return logprobs_SV.flatten().index_select(0, flat_M)


def branch_sums(row: Row, values_M: Tensor) -> Tensor:
    """Add up values over each branch's targets, with their weights: [K]."""
    weight_M = torch.from_numpy(row.weight_M).to(values_M)
    sums_K = values_M.new_zeros(len(row.branches))
    return sums_K.index_add(0, torch.from_numpy(row.branch_M).to(values_M.device), values_M * weight_M)

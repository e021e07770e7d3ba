"""From rows to log-probabilities.

Shapes: T row tokens, A position axes, I image tokens of a row, L tokens of one sequence, M targets, S distinct sources,
K branches, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.models.fused.binding import fused_decoder
from sightline.models.loading import LoadedModel
from sightline.models.offload import saved_on_host
from sightline.trees.render import Rendered
from sightline.trees.row import Row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowInputs:
    """What a language model is given of a row; any decoder that keeps the rule of the tree can run on it.

    Args:
        embeddings_TD: float[T, D], pictures in their places.
        positions_AT: int64[A, T].
        subtree_end_T: int64[T]: query q sees key k iff k <= q < subtree_end[k].
        image_I: int64[I], the places of the image tokens, ascending.
        deepstack: float[I, D] each, to be added at `image_I` to what the first, second, ... layer gives on.
    """

    embeddings_TD: Tensor
    positions_AT: Tensor
    subtree_end_T: Tensor
    image_I: Tensor
    deepstack: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.embeddings_TD)


def on_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to the device; the host goes on at once, whatever the device still has to do."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def row_inputs(loaded: LoadedModel, row: Row) -> RowInputs:
    """Embed a row's tokens, pictures in their places, and bring along all else the language model needs."""
    embed = loaded.family.language_model(loaded.inner).get_input_embeddings()  # pyright: ignore
    embeddings_TD = embed(on_device(row.token_ids_T, loaded.device))
    places = np.flatnonzero(row.picture_T >= 0)
    image_I, deepstack = on_device(places, loaded.device), ()
    if len(places):
        seen = loaded.features.of(row.pictures)
        views = [seen[key] for key in row.pictures]
        starts = np.cumsum([0, *map(len, views)])
        chosen_I = on_device(starts[row.picture_T[places]] + row.offset_T[places], loaded.device)

        def gather(features: list[Tensor]) -> Tensor:
            return torch.cat(features).to(embeddings_TD.dtype).index_select(0, chosen_I)

        embeddings_TD = embeddings_TD.index_copy(0, image_I, gather([view.features_ND for view in views]))
        deepstack = tuple(gather(list(level)) for level in zip(*(view.deepstack for view in views), strict=True))
    return RowInputs(
        embeddings_TD=embeddings_TD,
        positions_AT=on_device(row.positions_AT, loaded.device),
        subtree_end_T=on_device(row.subtree_end_T, loaded.device),
        image_I=image_I,
        deepstack=deepstack,
    )


def tree_mask(subtree_end_T: Tensor) -> Tensor:
    """Write `k <= q < subtree_end[k]` as a dense mask for SDPA: bool[1, 1, T, T]."""
    place_T = torch.arange(len(subtree_end_T), device=subtree_end_T.device)
    return ((place_T[None, :] <= place_T[:, None]) & (place_T[:, None] < subtree_end_T[None, :]))[None, None]


def stock_positions(positions_AT: Tensor) -> Tensor:
    """Give position ids as a stock language model takes them: int64[1, T], or [A, 1, T] for several axes."""
    return positions_AT if len(positions_AT) == 1 else positions_AT[:, None]


def stock_hidden_states(loaded: LoadedModel, inputs: RowInputs, *, cache: Any = None) -> Tensor:
    """Run the stock language model on a row, with a dense mask.

    Args:
        loaded: the model.
        inputs: the row.
        cache: an empty cache to be filled with the row's keys and values.

    Returns:
        float[T, D], after its last norm.
    """
    arguments: dict[str, Any] = {}
    if inputs.deepstack:
        shown_T = torch.zeros(len(inputs), dtype=torch.bool, device=loaded.device)
        shown_T[inputs.image_I] = True
        arguments = {"visual_pos_masks": shown_T[None], "deepstack_visual_embeds": list(inputs.deepstack)}
    output = loaded.family.language_model(loaded.inner)(
        inputs_embeds=inputs.embeddings_TD[None],
        attention_mask=tree_mask(inputs.subtree_end_T),
        position_ids=stock_positions(inputs.positions_AT),
        past_key_values=cache,
        use_cache=cache is not None,
        **arguments,
    )
    return output.last_hidden_state[0]


def hidden_states_at(loaded: LoadedModel, row: Row, places: np.ndarray, *, cache: Any = None) -> Tensor:
    """Run the language model over a row, by fused layers where there are some for model and device.

    Args:
        loaded: the model.
        row: what to run.
        places: int64[S], the tokens whose outputs are wanted, none twice.
        cache: an empty cache to be filled with the row's keys and values.

    Returns:
        float[S, D], after the last norm.
    """
    asked_S = on_device(places, loaded.device)
    decoder = fused_decoder(loaded)
    if decoder is None:
        # index_select: its backward is deterministic on the CPU where advanced indexing with repeats is not.
        with saved_on_host(loaded.inner) if loaded.offload and torch.is_grad_enabled() else nullcontext():
            return stock_hidden_states(loaded, row_inputs(loaded, row), cache=cache).index_select(0, asked_S)
    from sightline.models.fused.states import fused_states

    return fused_states(loaded, decoder, row, asked_S, cache=cache)


def row_logprobs(loaded: LoadedModel, row: Row) -> Tensor:
    """Log-probability of every target given what its branch shows before it.

    Returns:
        float[M] in nats, float32 or the model's own type if that is wider; differentiable.
    """
    sources, place_M = np.unique(row.source_M, return_inverse=True)
    logits_SV = loaded.family.head(loaded.inner)(hidden_states_at(loaded, row, sources))
    wide = torch.promote_types(logits_SV.dtype, torch.float32)
    logprobs_SV = torch.log_softmax(logits_SV.to(wide), dim=-1)
    flat_M = on_device(place_M * logprobs_SV.shape[1] + row.target_M, loaded.device)
    return logprobs_SV.flatten().index_select(0, flat_M)


def save_memory(loaded: LoadedModel, *, recompute: bool = False, offload: bool = False) -> None:
    """Choose what training keeps for the backward pass, and where.

    Args:
        loaded: the model.
        recompute: keep only what enters each layer, and compute the rest again.
        offload: keep it in host memory.
    """
    loaded.recompute, loaded.offload = recompute, offload
    language_model: Any = loaded.family.language_model(loaded.inner)
    # Renamed in transformers 5.2x; the old name warns there.
    kind = "activation" if hasattr(language_model, "activation_checkpointing_enable") else "gradient"
    if recompute:
        getattr(language_model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        language_model.disable_input_require_grads()  # a hook of transformers' that the other kind would need
    else:
        getattr(language_model, f"{kind}_checkpointing_disable")()


def set_mode(modules: Sequence[nn.Module], *, training: bool) -> None:
    """Put modules, each named here itself, into training mode or out of it.

    `module.train()` walks through a 7B model for 12 ms, in which the device would wait. What a module does beside in a
    `train` of its own is not done: nothing that a language model with adapters is made of needs it.
    """
    for module in modules:
        module.__dict__["training"] = training


def branch_sums(row: Row, values_M: Tensor) -> Tensor:
    """Add up values over each branch's targets, with their weights: [K]."""
    weight_M = on_device(row.weight_M, values_M.device).to(values_M)
    sums_K = values_M.new_zeros(len(row.branches))
    return sums_K.index_add(0, on_device(row.branch_M, values_M.device), values_M * weight_M)


def stock_inputs(loaded: LoadedModel, sequence: Rendered) -> dict[str, Tensor]:
    """Give one sequence as the stock model's own `forward` and `generate` take it: a batch of one."""
    ids_L = torch.from_numpy(sequence.token_ids_L).to(loaded.device)
    # As the text shows them, which need not be the order in which they were given.
    order = dict.fromkeys(sequence.picture_L[sequence.picture_L >= 0].tolist())
    return {
        "input_ids": ids_L[None],
        "attention_mask": torch.ones_like(ids_L)[None],
        **loaded.family.stock_inputs(ids_L),
        **loaded.features.stock_inputs([sequence.pictures[number] for number in order]),
    }

"""Run a model's fused layers on a row, in place of its stock language model.

Shapes: T row tokens, S tokens asked for, D width, G key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.models.forward import row_inputs, stock_positions
from sightline.models.fused.binding import rotary_angles
from sightline.models.fused.decoder import FusedDecoder, FusedInputs
from sightline.models.fused.layout import BLOCK, tree_layout
from sightline.trees.row import Row, pad_row

if TYPE_CHECKING:
    from sightline.models.loading import LoadedModel


def fused_states(loaded: LoadedModel, decoder: FusedDecoder, row: Row, asked_S: Tensor, *, cache: Any = None) -> Tensor:
    """Give the hidden states after the last norm at some of a row's tokens.

    Args:
        loaded: the model, whose own rotary angles and last norm are used.
        decoder: its layers.
        row: of any length; padded here.
        asked_S: int64[S], which tokens.
        cache: an empty cache to be filled with the row's keys and values.

    Returns:
        [S, D]; differentiable.
    """
    language_model: Any = loaded.family.language_model(loaded.inner)
    padded = pad_row(row, -(-len(row) // BLOCK) * BLOCK, pad_token_id=loaded.family.end_token_ids[0])
    inputs = row_inputs(loaded, padded)
    cos_TE, sin_TE = rotary_angles(language_model, stock_positions(inputs.positions_AT))
    drawing = decoder.drops and language_model.training and torch.is_grad_enabled()
    given = FusedInputs(
        layout=tree_layout(padded.subtree_end_T, loaded.device),
        cos_TE=cos_TE,
        sin_TE=sin_TE,
        asked_S=asked_S,
        extra={number: (inputs.image_I, features) for number, features in enumerate(inputs.deepstack)},
        # From torch's generator on the host, which the training loop seeds by step and row.
        seeds=torch.randint(1 << 31, (4 * len(decoder.layers),)).tolist() if drawing else (),
        recompute=loaded.recompute,
        offload=loaded.offload,
    )
    hidden_SD = decoder(inputs.embeddings_TD, given, None if cache is None else _filling(cache, len(row)))
    return language_model.norm(hidden_SD)


def _filling(cache: Any, num_tokens: int) -> Callable[[int, Tensor, Tensor], None]:
    def fill(number: int, keys_TGE: Tensor, values_TGE: Tensor) -> None:
        cache.update(*(part[:num_tokens].transpose(0, 1)[None] for part in (keys_TGE, values_TGE)), number)

    return fill

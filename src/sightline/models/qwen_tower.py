"""Attention of a Qwen vision tower: all windows of a picture in one call; the stock module makes one for each.

Shapes: S patches of a picture, H heads, E head width.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


@contextmanager
def windows_at_once(tower: nn.Module) -> Iterator[None]:
    """Let a tower's stock attention modules see all windows at once while inside; the same numbers, without waiting.

    The stock module asks the device for the windows' lengths three times a layer and then attends window by window:
    some 80 calls a layer for a picture of 1,280 image tokens.
    """
    stock = [
        module
        for module in tower.modules()
        if type(module).__name__.endswith("VisionAttention") and type(module).__module__.startswith("transformers.")
    ]
    for module in stock:
        module.forward = MethodType(_attend, module)
    try:
        yield
    finally:
        for module in stock:
            del module.forward


def _attend(
    attention: Any, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any
) -> Tensor:
    """Attend within windows; see the stock module's `forward`, whose arguments these are."""
    rotate = importlib.import_module(type(attention).__module__).apply_rotary_pos_emb_vision
    query, key, value = attention.qkv(hidden_states).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
    query, key = rotate(query, key, *position_embeddings)
    mask_SS = None
    if len(cu_seqlens) > 2:
        place_S = torch.arange(len(hidden_states), device=cu_seqlens.device)
        window_S = torch.bucketize(place_S, cu_seqlens[1:].to(place_S.dtype), right=True)
        mask_SS = window_S[:, None] == window_S[None]
    seen_HSE = scaled_dot_product_attention(
        *(part.transpose(0, 1)[None] for part in (query, key, value)), attn_mask=mask_SS
    )[0]
    return attention.proj(seen_HSE.transpose(0, 1).flatten(1))

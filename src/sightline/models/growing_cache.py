"""Keys and values of a row's prompts and of all its answers, in memory that is set aside ahead of them.

Takes the place of a transformers cache, whose layers are copied whole for every step of the answers.

Shapes: G key-value heads, C tokens in the cache, N new tokens, E head width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

GROWTH = 1 / 8
"""Share by which a layer's memory grows when it is full."""


class GrowingCache:
    """What attention layers of transformers ask of a cache: `update` and `get_seq_length`, for a batch of one.

    Args:
        reserved: tokens to be added in later updates for which room is set aside at the first.
    """

    def __init__(self, reserved: int = 0) -> None:
        self.reserved = reserved
        self._held: dict[int, tuple[Tensor, Tensor]] = {}
        self._lengths: dict[int, int] = {}

    def update(self, keys_GNE: Tensor, values_GNE: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append to one layer.

        Args:
            keys_GNE: [1, G, N, E].
            values_GNE: [1, G, N, E].
            layer: its number.

        Returns:
            all keys and values of the layer so far: [1, G, C, E], views of its memory.
        """
        start = self._lengths.get(layer, 0)
        end = start + keys_GNE.shape[2]
        held = self._held.get(layer)
        if held is None or held[0].shape[2] < end:
            room = end + (self.reserved if held is None else int(GROWTH * end))
            fresh = [part.new_empty(*part.shape[:2], room, part.shape[3]) for part in (keys_GNE, values_GNE)]
            for new, old in zip(fresh, held or (), strict=False):
                new[:, :, :start] = old[:, :, :start]
            held = self._held[layer] = (fresh[0], fresh[1])
        for kept, part in zip(held, (keys_GNE, values_GNE), strict=True):
            kept[:, :, start:end] = part
        self._lengths[layer] = end
        return held[0][:, :, :end], held[1][:, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        """Count the tokens a layer holds."""
        return self._lengths.get(layer, 0)

"""Attention kernels that need no preparation for a length they have not seen."""

from __future__ import annotations

from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel


def steady_attention() -> Any:
    """Keep stock attention from cuDNN, which plans each new length for some 0.1 s; rows and pictures have many.

    A context manager, and a decorator.
    """
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])

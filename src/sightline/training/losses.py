"""Losses as sums with counts; the division happens once, by the total of the optimizer step.

Shapes: M targets.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LossSum(NamedTuple):
    """A loss that can be added up over rows and ranks.

    Args:
        total: float[], nats; differentiable.
        count: what `total` is to be divided by, after adding up.
    """

    total: Tensor
    count: Tensor


def sft_loss(logprob_M: Tensor, weight_M: Tensor) -> LossSum:
    """Negative log-likelihood of the targets.

    Args:
        logprob_M: float[M], nats.
        weight_M: float[M], how much each target counts.

    Returns:
        the weighted sum, and the sum of weights.
    """
    return LossSum(-(logprob_M * weight_M).sum(), weight_M.sum())

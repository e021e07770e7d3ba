"""The optimizers a study can choose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from torch import Tensor

from sightline.models.quantize import require_bitsandbytes


def make_optimizer(
    name: Literal["adamw", "adamw_8bit"], parameters: Iterable[Tensor], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make an optimizer with PyTorch's betas and epsilon.

    Args:
        name: "adamw", or "adamw_8bit", which keeps both moments in 8 bits, in blocks of 256 values; those of tensors
            under 4,096 values stay float32.
        parameters: what to train.
        learning_rate: of the first step.
        weight_decay: decoupled, times the learning rate.

    Raises:
        StudyError: if bitsandbytes is needed and not installed.

    Source:
        Loshchilov and Hutter 2019; Dettmers et al. 2022, 8-bit optimizers via block-wise quantization.
    """
    if name == "adamw":
        parameters = list(parameters)
        on_gpu = all(parameter.device.type == "cuda" for parameter in parameters)
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=on_gpu or None)
    require_bitsandbytes("optimizer: adamw_8bit")
    from bitsandbytes.optim.adamw import AdamW8bit

    made: Any = AdamW8bit(parameters, lr=learning_rate, weight_decay=weight_decay)
    return cast(torch.optim.Optimizer, made)

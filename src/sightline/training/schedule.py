"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Literal


def warmup_steps(warmup: float, num_steps: int) -> int:
    """Turn the study's `warmup` into steps: a share of all steps below 1, a count from 1 on."""
    return round(warmup * num_steps) if warmup < 1 else int(warmup)


def learning_rate_at(
    step: int,
    *,
    num_steps: int,
    peak: float,
    warmup: float,
    schedule: Literal["cosine", "linear", "constant"],
) -> float:
    """Return the learning rate of an optimizer step.

    Args:
        step: from 0.
        num_steps: of the whole training.
        peak: the rate after warm-up.
        warmup: see `warmup_steps`; the rate rises linearly and reaches `peak` with the last warm-up step.
        schedule: what follows: half a cosine to 0, a line to 0, or `peak` throughout.
    """
    rising = warmup_steps(warmup, num_steps)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(1, num_steps - rising)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak * (1 - done) if schedule == "linear" else peak

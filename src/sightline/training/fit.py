"""How long a row may be: the study's word, or as long as memory allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.models.forward import on_device, row_logprobs
from sightline.models.loading import LoadedModel
from sightline.training.batches import RenderedSet
from sightline.training.losses import LossSum
from sightline.trees.sampler import plan_epoch

CPU_ROW = 1024
"""Tokens of a row on the CPU, where longer rows are not faster."""

PROBES = (1024, 3072)
"""Tokens of the two rows from whose peaks memory is extrapolated; it grows linearly with a row's length."""

MARGIN = 0.92
"""Share of the memory that is planned with; the rest is for fragments and for the optimizer's moments."""


def choose_row_tokens(
    asked: int | Literal["auto"],
    loaded: LoadedModel,
    data: RenderedSet,
    *,
    batch_size: int,
    branch_cap: int | None,
    layout: Literal["tree", "flat"],
    seed: int,
    memory_gib: float | None,
    loss: Callable[[Tensor, Tensor], LossSum],
    longest: int,
) -> int:
    """Choose the longest row of a training.

    Args:
        asked: the study's `row_tokens`.
        loaded: the model, its adapter attached.
        data: what is learnt.
        batch_size: samples per step: a row longer than a whole step is of no use.
        branch_cap: see `trees.sampler.plan_epoch`.
        layout: of the rows.
        seed: of the order, for the steps looked at.
        memory_gib: most memory of the device to use; None for all that is free.
        loss: sums a row's loss.
        longest: tokens of the longest sample, which has to fit.

    Raises:
        SightlineError: if not even the longest sample fits.
    """
    if loaded.device.type != "cuda":
        return asked if asked != "auto" else max(longest, CPU_ROW)
    device = torch.device(
        "cuda", loaded.device.index if loaded.device.index is not None else torch.cuda.current_device()
    )
    free, total = torch.cuda.mem_get_info(device)
    limit = torch.cuda.memory_reserved(device) + free
    if memory_gib is not None:
        limit = min(limit, int(memory_gib * 2**30))
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    if asked != "auto":
        return asked
    steps = plan_epoch(data.image_ids, batch_size=batch_size, branch_cap=branch_cap, seed=seed, epoch=0)[:16]
    most = max(sum(map(len, data.rows(step, row_tokens=1 << 30, layout=layout))) for step in steps)
    peaks = [_peak(loaded, data, steps[0], max(length, longest), layout, loss) for length in PROBES]
    (short, at_short), (long, at_long) = peaks
    if long == short:  # a step is no longer than the shorter probe
        fits = most if at_long <= limit * MARGIN else 0
    else:
        slope = (at_long - at_short) / (long - short)
        fits = int((limit * MARGIN - at_short) / slope) + short
    if fits < longest:
        raise SightlineError(
            f"a row of {longest} tokens, the longest sample, takes about {at_long / 2**30:.1f} GiB, and "
            f"{limit * MARGIN / 2**30:.1f} GiB are to be used; set gradient_checkpointing: true, quantize: nf4 or a "
            "smaller max_pixels, or give a larger hardware.memory_gib"
        )
    return min(fits, max(most, longest))


def _peak(
    loaded: LoadedModel,
    data: RenderedSet,
    samples: tuple[int, ...],
    row_tokens: int,
    layout: Literal["tree", "flat"],
    loss: Callable[[Tensor, Tensor], LossSum],
) -> tuple[int, int]:
    """Run one row of a step forward and backward: its tokens, and the most memory that was in use, in bytes."""
    row = max(data.rows(samples, row_tokens=row_tokens, layout=layout), key=len)
    torch.cuda.reset_peak_memory_stats(loaded.device)
    try:
        total = loss(row_logprobs(loaded, row), on_device(row.weight_M, loaded.device)).total
        total.backward()
    except torch.cuda.OutOfMemoryError as error:
        raise SightlineError(
            f"a row of {len(row)} tokens does not fit in memory: {error}; set gradient_checkpointing: true, "
            "quantize: nf4 or a smaller max_pixels, or give row_tokens yourself"
        ) from error
    finally:
        loaded.module.zero_grad(set_to_none=True)
    return len(row), torch.cuda.max_memory_allocated(loaded.device)

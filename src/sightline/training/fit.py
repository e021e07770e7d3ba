"""How long a row may be: the study's word, or as long as memory allows."""

from __future__ import annotations

from typing import Literal

import torch

from sightline.errors import SightlineError
from sightline.models.features import KEPT_SHARE, SOON_SHARE
from sightline.models.forward import row_logprobs
from sightline.models.fused.binding import fused_decoder
from sightline.models.loading import LoadedModel
from sightline.models.memory import named_when_full
from sightline.models.steady import steady_attention
from sightline.training.batches import RenderedSet
from sightline.training.objectives import Objective
from sightline.trees.sampler import plan_epoch

CPU_ROW = 1024
"""Tokens of a row on the CPU, where longer rows are not faster."""

SHORTER = "set gradient_checkpointing: true, quantize: nf4, a smaller max_pixels or a smaller row_tokens"
"""What to do when a row does not fit."""

PROBES = (1024, 3072)
"""Tokens of the rows from whose peaks memory is extrapolated, as if it grew with a row's length alone. It also grows
with the targets, by the head's outputs, so the step with the most targets is probed."""

GRID = 512
"""Rows are chosen in multiples of so many tokens, so that a little more or less free memory changes nothing."""

MARGIN = 0.85
"""Share of the memory that is planned with; rows differ in length, and what was freed lies in pieces of other sizes."""

BYTES_OF_STATE = 12
"""Of every trained parameter: AdamW's two moments, and the gradient that waits while a step's further rows run."""


def limit_memory(loaded: LoadedModel, memory_gib: float | None) -> int:
    """Hold this process to a share of its accelerator's memory, or to all of it.

    Args:
        loaded: the model; what it keeps of pictures is bounded, too.
        memory_gib: most memory to use; None for all that is free.

    Returns:
        Bytes that may be used; 0 on the CPU, where nothing is held.
    """
    if loaded.device.type != "cuda":
        return 0
    index = loaded.device.index if loaded.device.index is not None else torch.cuda.current_device()
    free, total = torch.cuda.mem_get_info(index)
    limit = torch.cuda.memory_reserved(index) + free
    if memory_gib is not None:
        limit = min(limit, int(memory_gib * 2**30))
    torch.cuda.set_per_process_memory_fraction(1.0 if memory_gib is None else min(1.0, limit / total), index)
    loaded.features.max_bytes = int(KEPT_SHARE * limit)
    return limit


def choose_row_tokens(
    asked: int | Literal["auto"],
    loaded: LoadedModel,
    data: RenderedSet,
    *,
    batch_size: int,
    branch_cap: int | None,
    layout: Literal["tree", "flat"],
    seed: int,
    limit: int,
    num_ranks: int,
    objective: Objective,
    longest: int,
) -> int:
    """Choose the longest row of a training.

    Args:
        asked: the study's `row_tokens`.
        loaded: the model, its adapter attached.
        data: what is learnt.
        batch_size: samples per step.
        branch_cap: see `trees.sampler.plan_epoch`.
        layout: of the rows.
        seed: of the order, for the steps looked at.
        limit: bytes of the device that may be used; see `limit_memory`.
        num_ranks: processes that share a step's rows.
        objective: what is minimised.
        longest: tokens of the longest sample, which has to fit.

    Raises:
        SightlineError: if not even the longest sample fits.
    """
    if asked != "auto":
        return asked
    if loaded.device.type != "cuda":
        return max(longest, CPU_ROW)
    fused_decoder(loaded)  # its buffers are there before anything is measured
    trained = sum(parameter.numel() for parameter in loaded.module.parameters() if parameter.requires_grad)
    room = limit * (MARGIN - KEPT_SHARE * (1 + SOON_SHARE)) - trained * BYTES_OF_STATE
    steps = plan_epoch(data.image_ids, batch_size=batch_size, branch_cap=branch_cap, seed=seed, epoch=0)[:16]
    laid_out = [data.rows(step, row_tokens=1 << 30, layout=layout) for step in steps]
    shortest = min(sum(map(len, rows)) for rows in laid_out)
    _, densest = max(zip((sum(len(row.source_M) for row in rows) for rows in laid_out), steps, strict=True))
    idle = torch.cuda.memory_allocated(loaded.device)
    length, peak = _peak(loaded, data, densest, max(PROBES[0], longest), layout, objective)
    slope = (peak - idle) / length
    if idle + slope * PROBES[1] < room:  # a longer one says it better, if it fits
        longer, at_longer = _peak(loaded, data, densest, max(PROBES[1], longest), layout, objective)
        slope = max(slope / 2, (at_longer - peak) / max(1, longer - length)) if longer > length else slope
    fits = length + int((room - peak) / slope)
    if fits < longest:
        raise SightlineError(
            f"a row of {longest} tokens, the longest sample, takes about {(peak + limit - room) / 2**30:.1f} GiB with "
            f"what the optimizer and pictures need, and {limit / 2**30:.1f} GiB are to be used; set "
            "gradient_checkpointing: true, quantize: nf4 or a smaller max_pixels, or give a larger hardware.memory_gib"
        )
    fits = max(fits // GRID * GRID, longest)
    # One process runs a step as one row if it can; several need a row each.
    return fits if num_ranks == 1 else min(fits, max(shortest // num_ranks, longest))


@steady_attention()
def _peak(
    loaded: LoadedModel,
    data: RenderedSet,
    samples: tuple[int, ...],
    row_tokens: int,
    layout: Literal["tree", "flat"],
    objective: Objective,
) -> tuple[int, int]:
    """Run one row of a step forward and backward: its tokens, and the most memory that was in use, in bytes."""
    row = max(data.rows(samples, row_tokens=row_tokens, layout=layout), key=len)
    torch.cuda.reset_peak_memory_stats(loaded.device)
    loaded.module.train()  # as it will be: dropout takes memory, and stock modules save it only in training
    try:
        with named_when_full(f"a row of {len(row):,} tokens", SHORTER), torch.random.fork_rng(devices=[loaded.device]):
            total = objective.loss(row, row_logprobs(loaded, row)).total
            total.backward()
    finally:
        loaded.module.eval()
        loaded.module.zero_grad(set_to_none=True)
    return len(row), torch.cuda.max_memory_allocated(loaded.device)

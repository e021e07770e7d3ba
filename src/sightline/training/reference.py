"""What the reference thinks of the answers of preference pairs, computed once before the training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.models.forward import branch_sums, row_logprobs
from sightline.models.loading import LoadedModel
from sightline.models.steady import steady_attention
from sightline.training.batches import RenderedSet


@steady_attention()
def answer_logprobs(loaded: LoadedModel, data: RenderedSet, *, row_tokens: int) -> NDArray[np.float64]:
    """Sum the log-probabilities of every sequence's targets; nothing is trained and nothing dropped.

    Args:
        loaded: the reference: the policy's base, or what the policy starts from.
        data: sequences with answers.
        row_tokens: the longest row; longer samples have rows of their own.

    Returns:
        float64[N], nats, one per sequence.
    """
    found = np.full(len(data.sequences), np.nan)
    rows = data.rows(range(len(data)), row_tokens=max(row_tokens, data.longest("tree")), layout="tree")
    with torch.no_grad(), loaded.features.expecting(key for row in rows for key in row.pictures):
        for row in rows:
            found[list(row.branches)] = branch_sums(row, row_logprobs(loaded, row)).double().cpu().numpy()
    return found

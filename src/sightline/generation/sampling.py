"""How the next token is chosen.

Shapes: N leaves, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sightline.models.forward import on_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How answers are generated.

    Args:
        max_new_tokens: longest answer, its end token included.
        temperature: 0 takes the likeliest token, above it samples.
        top_k: sample among the k likeliest; None for all.
        top_p: sample among the likeliest tokens that together reach this probability; None for all.
        num_beams: above 1, beam search by the stock `generate`.
        samples: answers per prompt.
        seed: with the sample's id and k, the only source of randomness.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int = 1
    samples: int = 1
    seed: int = 0


def leaf_generator(seed: int, sample_id: str, k: int) -> np.random.Generator:
    """Give a leaf its own random numbers, so that regrouping changes nothing."""
    digest = hashlib.sha256(f"{seed}\x00{sample_id}\x00{k}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def choose_tokens(logits_NV: Tensor, decoding: Decoding, generators: Sequence[np.random.Generator]) -> list[int]:
    """Choose each leaf's next token.

    Args:
        logits_NV: float[N, V].
        decoding: temperature, top_k and top_p.
        generators: one per leaf; each gives one number per token.
    """
    if decoding.temperature == 0:
        return logits_NV.argmax(dim=-1).tolist()
    cumulative_NV = token_probabilities(logits_NV, decoding).cumsum(-1)
    draw_N = np.asarray([generator.random() for generator in generators])
    wanted_N = on_device(draw_N, logits_NV.device) * cumulative_NV[:, -1]
    # A token that cannot come adds nothing, so the first place that lies above the draw is never one of those.
    chosen_N = torch.searchsorted(cumulative_NV, wanted_N[:, None], right=True)
    return chosen_N.clamp_(max=cumulative_NV.shape[1] - 1)[:, 0].tolist()


def token_probabilities(logits_NV: Tensor, decoding: Decoding) -> Tensor:
    """Say how likely each token is to be drawn: what temperature, then top_k, then top_p leave, as Transformers has it.

    Args:
        logits_NV: float[N, V].
        decoding: temperature above 0, top_k and top_p.

    Returns:
        float64[N, V], in the order of the vocabulary.
    """
    probability_NV = torch.softmax(logits_NV.double() / decoding.temperature, dim=-1)
    if decoding.top_k is None and decoding.top_p is None:
        return probability_NV
    sorted_NV, order_NV = probability_NV.sort(dim=-1, descending=True, stable=True)
    if decoding.top_k is not None:
        sorted_NV[:, decoding.top_k :] = 0
        sorted_NV /= sorted_NV.sum(-1, keepdim=True)
    if decoding.top_p is not None:
        before_NV = sorted_NV.cumsum(-1) - sorted_NV
        sorted_NV[before_NV >= decoding.top_p] = 0
        sorted_NV /= sorted_NV.sum(-1, keepdim=True)
    return torch.zeros_like(sorted_NV).scatter_(1, order_NV, sorted_NV)

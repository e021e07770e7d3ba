"""Losses as sums; the division happens once, by the count of the whole optimizer step.

Shapes: M targets, P pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PreferenceLoss = Literal["sigmoid", "sigmoid_norm", "hinge", "ipo"]


def sft_loss(logprob_M: Tensor, weight_M: Tensor) -> Tensor:
    """Sum the negative log-likelihood of the targets.

    Args:
        logprob_M: float[M], nats.
        weight_M: float[M], how much each target counts.

    Returns:
        float[], nats; to be divided by the sum of weights.
    """
    return -(logprob_M * weight_M).sum()


def preference_loss(
    chosen_P: Tensor,
    rejected_P: Tensor,
    *,
    beta: float,
    kind: PreferenceLoss = "sigmoid",
    label_smoothing: float = 0.0,
    chosen_tokens_P: Tensor | None = None,
    rejected_tokens_P: Tensor | None = None,
) -> Tensor:
    """Weigh each pair by how much more likely than under the reference its answers have become.

    Args:
        chosen_P: float[P], log-probability of the chosen answer less the reference's, nats, summed over its tokens.
        rejected_P: float[P], of the rejected one.
        beta: how strongly the policy is held to the reference; for "ipo" the regularisation, tau in the paper.
        kind: "sigmoid", DPO's own; "hinge", SLiC's; "ipo", a square around 1 / (2 beta); "sigmoid_norm", DPO's on
            means over tokens. "ipo" takes means over tokens, too, as its authors do.
        label_smoothing: assumed share of wrongly ordered pairs (conservative DPO); "sigmoid" and "sigmoid_norm".
        chosen_tokens_P: float[P], tokens of the chosen answers; needed where means are taken.
        rejected_tokens_P: float[P], of the rejected ones.

    Returns:
        float[P].

    Raises:
        ValueError: tokens are missing, or a loss without label smoothing is given some.

    Source: Rafailov et al. 2023, equation 7, and Mitchell 2023 for label smoothing; Zhao et al. 2023 (SLiC-HF);
        Azar et al. 2023, equation 17.
    """
    if label_smoothing and kind not in ("sigmoid", "sigmoid_norm"):
        raise ValueError(f"label_smoothing is {label_smoothing}: {kind} has none")
    if kind in ("ipo", "sigmoid_norm"):
        if chosen_tokens_P is None or rejected_tokens_P is None:
            raise ValueError(f"{kind} takes means over tokens; give chosen_tokens_P and rejected_tokens_P")
        chosen_P, rejected_P = chosen_P / chosen_tokens_P, rejected_P / rejected_tokens_P
    margin_P = chosen_P - rejected_P
    if kind == "ipo":
        return (margin_P - 1 / (2 * beta)) ** 2
    if kind == "hinge":
        return torch.relu(1 - beta * margin_P)
    right_P, wrong_P = logsigmoid(beta * margin_P), logsigmoid(-beta * margin_P)
    return -(1 - label_smoothing) * right_P - label_smoothing * wrong_P

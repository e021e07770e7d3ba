"""What a training minimises: sums over a row's targets, and what a step's sums are divided by.

Shapes: M targets, K branches, N sequences, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.models.forward import branch_sums, on_device
from sightline.training.losses import PreferenceLoss, preference_loss, sft_loss
from sightline.trees.row import Row

PREFERENCE_METRICS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "moved_per_token/chosen",
    "moved_per_token/rejected",
    "kl",
    "tokens/chosen",
    "tokens/rejected",
)
"""What `Preference` tells of a step, means over pairs. An answer's reward is beta times the log-ratio, by how much it
has become more likely than under the reference; `kl` is half the mean square of the log-ratio, which to second order is
the divergence, had the policy drawn the answers."""


class RowLoss(NamedTuple):
    """A row's part of a step.

    Args:
        total: float[]; differentiable. Added up over rows and ranks, and divided by the step's count.
        metrics: float[] each, by name; added up and divided alike, for the reader.
    """

    total: Tensor
    metrics: Mapping[str, Tensor]


class Objective(Protocol):
    """What is minimised."""

    @property
    def together(self) -> int:
        """Sequences of a sample, which have to be in one row."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what every row tells beside its loss."""
        ...

    def loss(self, row: Row, logprob_M: Tensor) -> RowLoss:
        """Sum the loss of a row from its targets' log-probabilities, in nats."""
        ...

    def count(self, row: Row) -> float:
        """Say how much a row adds to what the step's sums are divided by."""
        ...


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Supervised fine-tuning: the negative log-likelihood per target."""

    together: int = 1
    metrics: tuple[str, ...] = ()

    def loss(self, row: Row, logprob_M: Tensor) -> RowLoss:
        """See `Objective`."""
        return RowLoss(sft_loss(logprob_M, on_device(row.weight_M, logprob_M.device)), {})

    def count(self, row: Row) -> float:
        """See `Objective`: the sum of the targets' weights."""
        return float(row.weight_M.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preference:
    """Preference optimisation: the loss per pair. Sequence 2p is pair p's chosen answer, 2p + 1 its rejected one.

    Args:
        reference_N: float64[N], log-probability of each sequence's answer under the reference, nats.
        beta: see `losses.preference_loss`; so are kind and label_smoothing.
        kind: of the loss.
        label_smoothing: assumed share of wrongly ordered pairs.
        sft_weight: weight of the chosen answer's own negative log-likelihood per token (Pang et al. 2024).
    """

    reference_N: NDArray[np.float64]
    beta: float
    kind: PreferenceLoss = "sigmoid"
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    together: int = field(default=2, init=False)
    metrics: tuple[str, ...] = field(default=PREFERENCE_METRICS, init=False)

    def loss(self, row: Row, logprob_M: Tensor) -> RowLoss:
        """See `Objective`."""
        branches_K = np.asarray(row.branches)
        order_K = np.argsort(branches_K)  # pair by pair: chosen, rejected
        tokens_K = np.bincount(row.branch_M, weights=row.weight_M, minlength=len(branches_K))

        def halves(values_K: np.ndarray) -> tuple[Tensor, Tensor]:
            there = on_device(np.ascontiguousarray(values_K[order_K]), logprob_M.device).to(logprob_M.dtype)
            return there[0::2], there[1::2]

        sums_K = branch_sums(row, logprob_M).index_select(0, on_device(order_K, logprob_M.device))
        chosen_P, rejected_P = sums_K[0::2], sums_K[1::2]
        reference_chosen_P, reference_rejected_P = halves(self.reference_N[branches_K])
        chosen_tokens_P, rejected_tokens_P = halves(tokens_K)
        moved_chosen_P, moved_rejected_P = chosen_P - reference_chosen_P, rejected_P - reference_rejected_P
        loss_P = preference_loss(
            moved_chosen_P,
            moved_rejected_P,
            beta=self.beta,
            kind=self.kind,
            label_smoothing=self.label_smoothing,
            chosen_tokens_P=chosen_tokens_P,
            rejected_tokens_P=rejected_tokens_P,
        )
        if self.sft_weight:
            loss_P = loss_P - self.sft_weight * chosen_P / chosen_tokens_P
        with torch.no_grad():
            right_P = (moved_chosen_P > moved_rejected_P).to(loss_P.dtype)
            told = (
                self.beta * moved_chosen_P,
                self.beta * moved_rejected_P,
                self.beta * (moved_chosen_P - moved_rejected_P),
                right_P,
                chosen_P,
                rejected_P,
                moved_chosen_P / chosen_tokens_P,
                moved_rejected_P / rejected_tokens_P,
                (moved_chosen_P**2 + moved_rejected_P**2) / 4,
                chosen_tokens_P,
                rejected_tokens_P,
            )
        metrics = {name: values_P.detach().sum() for name, values_P in zip(self.metrics, told, strict=True)}
        return RowLoss(loss_P.sum(), metrics)

    def count(self, row: Row) -> float:
        """See `Objective`: the number of pairs."""
        return len(row.branches) / 2


COLLAPSE_STEPS = 10
"""Steps over which the log-ratios are averaged before answers count as collapsed."""


def collapsed(rows: Sequence[Mapping[str, Any]], nats_per_token: float) -> bool:
    """Say whether chosen and rejected answers alike have become much less likely than under the reference.

    Args:
        rows: what `Preference` told of the steps so far.
        nats_per_token: how much.
    """
    last = rows[-COLLAPSE_STEPS:]
    if len(last) < COLLAPSE_STEPS:
        return False
    return all(
        sum(row[f"moved_per_token/{side}"] for row in last) / len(last) < -nats_per_token
        for side in ("chosen", "rejected")
    )

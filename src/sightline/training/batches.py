"""Which rows an optimizer step runs, known from data, seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sightline.trees.render import Rendered
from sightline.trees.row import Row
from sightline.trees.sampler import plan_epoch, split_by_tokens, step_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedSet:
    """Samples as the model sees them.

    Args:
        sequences: one per sample.
        image_ids: each sample's image group.
        sha256: of what they were rendered from, for the checkpoint's fingerprint.
    """

    sequences: Sequence[Rendered]
    image_ids: Sequence[str]
    sha256: str = ""

    def rows(self, samples: Sequence[int], *, row_tokens: int, layout: Any) -> list[Row]:
        """Lay some of the samples out in rows."""
        return step_rows(
            samples,
            rendered=self.sequences.__getitem__,
            image_ids=self.image_ids,
            row_tokens=row_tokens,
            layout=layout,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one optimizer step runs.

    Args:
        samples: their numbers, over all ranks.
        epoch: passes over the data after the step, as a fraction.
        rows: over all ranks.
        own: this rank's rows, each with its number among all.
        total_weight: what the sums of the step are divided by.
    """

    samples: tuple[int, ...]
    epoch: float
    rows: Sequence[Row]
    own: Sequence[tuple[int, Row]]
    total_weight: float

    @property
    def pictures(self) -> list[str]:
        """Keys of the pictures that this rank's rows show, in their order."""
        return list(dict.fromkeys(key for _, row in self.own for key in row.pictures))


class Plan:
    """Which samples come in which step, epoch after epoch.

    Args:
        data: what is learnt.
        batch_size: samples per step.
        branch_cap: see `trees.sampler.plan_epoch`.
        seed: of the order.
        epochs: passes over the data, where `max_steps` is not given.
        max_steps: optimizer steps.
        row_tokens: longest row.
        layout: "tree" or "flat".
        rank: of this process.
        num_ranks: processes that share a step's rows.
    """

    def __init__(
        self,
        data: RenderedSet,
        *,
        batch_size: int,
        branch_cap: int | None,
        seed: int,
        epochs: float | None,
        max_steps: int | None,
        row_tokens: int,
        layout: Literal["tree", "flat"],
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.data, self.seed, self.row_tokens, self.layout = data, seed, row_tokens, layout
        self.batch_size, self.branch_cap = batch_size, branch_cap
        self.rank, self.num_ranks = rank, num_ranks
        self._cached: tuple[int, list[tuple[int, ...]]] = (0, self._epoch(0))
        self.per_epoch = len(self._cached[1])
        self.num_steps = max_steps or math.ceil(self.per_epoch * (epochs or 1) - 1e-9)

    def _epoch(self, epoch: int) -> list[tuple[int, ...]]:
        return plan_epoch(
            self.data.image_ids, batch_size=self.batch_size, branch_cap=self.branch_cap, seed=self.seed, epoch=epoch
        )

    def samples(self, step: int) -> tuple[int, ...]:
        """List the samples of a step, counted from 0."""
        epoch, index = divmod(step, self.per_epoch)
        if self._cached[0] != epoch:
            self._cached = (epoch, self._epoch(epoch))
        return self._cached[1][index]

    def batch(self, step: int) -> Batch:
        """Lay a step out, counted from 0."""
        samples = self.samples(step)
        rows = self.data.rows(samples, row_tokens=self.row_tokens, layout=self.layout)
        numbers = {id(row): number for number, row in enumerate(rows)}
        return Batch(
            samples=samples,
            epoch=(step + 1) / self.per_epoch,
            rows=rows,
            own=[(numbers[id(row)], row) for row in split_by_tokens(rows, self.num_ranks)[self.rank]],
            total_weight=float(sum(row.weight_M.sum() for row in rows)),
        )

"""Which rows an optimizer step runs, known from data, seed and epoch alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from sightline.trees.render import Rendered
from sightline.trees.row import Row
from sightline.trees.sampler import plan_epoch, split_by_tokens, step_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedSet:
    """Samples as the model sees them.

    Args:
        sequences: those of each sample, one after another.
        image_ids: each sample's image group.
        sha256: of what they were rendered from, for the checkpoint's fingerprint.
        together: sequences of a sample: 1, or 2 for a pair of answers.
    """

    sequences: Sequence[Rendered]
    image_ids: Sequence[str]
    sha256: str = ""
    together: int = 1

    def __len__(self) -> int:
        return len(self.image_ids)

    def longest(self, layout: Any) -> int:
        """Count the tokens of the sample that needs most of a row."""
        if self.together == 1:
            return max(map(len, self.sequences), default=0)
        alone = (self.rows([number], row_tokens=1 << 40, layout=layout) for number in range(len(self)))
        return max((len(row) for rows in alone for row in rows), default=0)

    def rows(self, samples: Sequence[int], *, row_tokens: int, layout: Any) -> list[Row]:
        """Lay some of the samples out in rows."""
        return step_rows(
            samples,
            rendered=self.sequences.__getitem__,
            image_ids=self.image_ids,
            row_tokens=row_tokens,
            layout=layout,
            together=self.together,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of a training: which samples, for how long.

    Args:
        samples: their numbers.
        epochs: passes over them, where `max_steps` is not given.
        max_steps: optimizer steps.
    """

    samples: Sequence[int]
    epochs: float | None = None
    max_steps: int | None = None

    def per_epoch(self, batch_size: int) -> int:
        """Count the optimizer steps of one pass."""
        return math.ceil(len(self.samples) / batch_size)

    def num_steps(self, batch_size: int) -> int:
        """Count the optimizer steps of the stage."""
        return self.max_steps or math.ceil(self.per_epoch(batch_size) * (self.epochs or 1) - 1e-9)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step of a training lies.

    Args:
        stage: of how many before it is over, counted from 0.
        step: within the stage, counted from 0.
        num_steps: of the stage.
    """

    stage: int
    step: int
    num_steps: int

    @property
    def is_first(self) -> bool:
        """Whether the stage begins with it."""
        return self.step == 0

    @property
    def is_last(self) -> bool:
        """Whether the stage ends with it."""
        return self.step + 1 == self.num_steps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one optimizer step runs.

    Args:
        samples: their numbers, over all ranks.
        epoch: passes over the data after the step, as a fraction; of several stages each counts its own.
        rows: over all ranks.
        own: this rank's rows, each with its number among all.
    """

    samples: tuple[int, ...]
    epoch: float
    rows: Sequence[Row]
    own: Sequence[tuple[int, Row]]

    @property
    def pictures(self) -> list[str]:
        """Keys of the pictures that this rank's rows show, in their order."""
        return list(dict.fromkeys(key for _, row in self.own for key in row.pictures))


class Plan:
    """Which samples come in which step: stage after stage, and in each of them epoch after epoch.

    Args:
        data: what is learnt.
        stages: its parts, in their order.
        batch_size: samples per step.
        branch_cap: see `trees.sampler.plan_epoch`.
        seed: of the order.
        row_tokens: longest row.
        layout: "tree" or "flat".
        rank: of this process.
        num_ranks: processes that share a step's rows.
    """

    def __init__(
        self,
        data: RenderedSet,
        stages: Sequence[Stage],
        *,
        batch_size: int,
        branch_cap: int | None,
        seed: int,
        row_tokens: int,
        layout: Literal["tree", "flat"],
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.data, self.seed, self.row_tokens, self.layout = data, seed, row_tokens, layout
        self.batch_size, self.branch_cap = batch_size, branch_cap
        self.rank, self.num_ranks = rank, num_ranks
        self.stages = list(stages)
        self.per_epoch = [stage.per_epoch(batch_size) for stage in self.stages]
        lengths = [stage.num_steps(batch_size) for stage in self.stages]
        self.num_steps = sum(lengths)
        self._lengths, self._first = lengths, [0, *accumulate(lengths[:-1])]
        # Epochs are numbered through, so that no two stages shuffle alike.
        begun = [math.ceil(length / per_epoch) for length, per_epoch in zip(lengths, self.per_epoch, strict=True)]
        self._first_epoch = [0, *accumulate(begun[:-1])]
        self._cached: tuple[int, list[tuple[int, ...]]] = (-1, [])

    def place(self, step: int) -> Place:
        """Say where a step lies, counted from 0."""
        stage = bisect_right(self._first, step) - 1
        return Place(stage, step - self._first[stage], self._lengths[stage])

    def ends_epoch(self, step: int) -> bool:
        """Say whether a pass over its stage's samples, or the stage, ends with a step."""
        place = self.place(step)
        return place.is_last or (place.step + 1) % self.per_epoch[place.stage] == 0

    def samples(self, step: int) -> tuple[int, ...]:
        """List the samples of a step, counted from 0."""
        place = self.place(step)
        epoch, index = divmod(place.step, self.per_epoch[place.stage])
        epoch += self._first_epoch[place.stage]
        if self._cached[0] != epoch:
            numbers = self.stages[place.stage].samples
            steps = plan_epoch(
                [self.data.image_ids[number] for number in numbers],
                batch_size=self.batch_size,
                branch_cap=self.branch_cap,
                seed=self.seed,
                epoch=epoch,
            )
            self._cached = epoch, [tuple(numbers[index] for index in chosen) for chosen in steps]
        return self._cached[1][index]

    def epochs(self, step: int) -> float:
        """Count the passes over each stage's samples up to and with a step, added up."""
        place = self.place(step)
        before = sum(self._lengths[stage] / self.per_epoch[stage] for stage in range(place.stage))
        return before + (place.step + 1) / self.per_epoch[place.stage]

    def batch(self, step: int) -> Batch:
        """Lay a step out, counted from 0."""
        samples = self.samples(step)
        rows = self.data.rows(samples, row_tokens=self.row_tokens, layout=self.layout)
        numbers = {id(row): number for number, row in enumerate(rows)}
        return Batch(
            samples=samples,
            epoch=self.epochs(step),
            rows=rows,
            own=[(numbers[id(row)], row) for row in split_by_tokens(rows, self.num_ranks)[self.rank]],
        )

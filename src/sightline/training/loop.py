"""One training loop, as an iterator of step records: a callback of your own is a for-loop.

Every step's samples are known from data, seed and epoch; ranks share its rows by tokens, add up gradients of sums,
and the division by the step's total weight happens once. So micro-batches, ranks and layout change nothing. Dropout
alone, drawn row by row, differs with the rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.errors import DataError, SightlineError
from sightline.models.forward import row_logprobs
from sightline.models.loading import LoadedModel
from sightline.study import Training
from sightline.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from sightline.training.losses import LossSum, sft_loss
from sightline.training.schedule import learning_rate_at
from sightline.trees.render import Rendered
from sightline.trees.row import Row
from sightline.trees.sampler import plan_epoch, split_by_tokens, step_rows

if TYPE_CHECKING:
    from accelerate import Accelerator


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one optimizer step did, over all ranks.

    Args:
        step: from 1.
        num_steps: of the whole training.
        epoch: passes over the data so far, as a fraction.
        loss: nats per target, before the step.
        learning_rate: of the step.
        grad_norm: before clipping.
        samples: answers in the step.
        tokens: tokens of these samples, counted as if nothing were shared.
        executed_tokens: tokens that really ran.
        seconds: wall-clock time of the step.
        validation_loss: nats per target, where it was measured after this step.
    """

    step: int
    num_steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    samples: int
    tokens: int
    executed_tokens: int
    seconds: float
    validation_loss: float | None = None


def settings_by_key(settings: Training) -> dict[str, str]:
    """Write down, key by key, the settings that a training's result depends on."""
    values = settings.model_dump(mode="json", exclude={"save_every", "keep_checkpoints", "seeds", "on_bad_row"})
    flat = {key: value for key, value in values.items() if key != "lora"}
    flat |= {f"lora.{key}": value for key, value in values["lora"].items()}
    return {f"settings/{key}": json.dumps(value, ensure_ascii=False) for key, value in sorted(flat.items())}


def longest_row(settings: Training, *sets: RenderedSet | None) -> int:
    """Choose the row length: the study's, or enough tokens to keep the device busy and to hold every sample."""
    if settings.row_tokens != "auto":
        return settings.row_tokens
    longest = max((len(sequence) for data in sets if data for sequence in data.sequences), default=0)
    return max(longest, 6144 if torch.cuda.is_available() else 1024)


def train(
    loaded: LoadedModel,
    data: RenderedSet,
    settings: Training,
    *,
    seed: int = 0,
    validation: RenderedSet | None = None,
    checkpoints: Path | None = None,
    made_from: Mapping[str, str] | None = None,
    accelerator: Accelerator | None = None,
    loss: Callable[[Tensor, Tensor], LossSum] = sft_loss,
) -> Iterator[StepRecord]:
    """Train whatever parameters of the model require gradients; on exhaustion the model holds the kept weights.

    Args:
        loaded: the model, its adapter attached.
        data: what to learn.
        settings: the study's training keys.
        seed: of sampling and dropout.
        validation: its loss is measured every `eval_every` steps (every epoch) and at the end.
        checkpoints: folder to save to every `save_every` steps and to resume from.
        made_from: what the result depends on, by name; a checkpoint made from something else is refused. By default
            base, settings, data and seed.
        accelerator: accelerate's, for several processes; one process without.
        loss: sums a row's loss from log-probabilities and weights.

    Yields:
        a record per optimizer step; when resuming, of the remaining steps only.

    Raises:
        DataError: if there is nothing to learn from.
        SightlineError: if the loss is no number, naming step and samples.
    """
    if not data.sequences:
        raise DataError("no samples to train on; look at the data and its `where` and `take`")
    row_tokens = longest_row(settings, data, validation)
    plan = _Plan(data, settings, seed)
    parameters = {name: p for name, p in sorted(loaded.module.named_parameters()) if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    fingerprint = dict(
        made_from or {**settings_by_key(settings), "data": data.sha256, "base": loaded.base, "seed": str(seed)}
    )
    state = TrainingState(step=0, weights={}, optimizer={}, fingerprint=fingerprint)
    resumed = load_checkpoint(checkpoints, fingerprint=fingerprint) if checkpoints else None
    if resumed is not None:
        state = resumed
        with torch.no_grad():
            for name, tensor in state.weights.items():
                parameters[name].copy_(tensor)
        restore_optimizer(optimizer, parameters, state.optimizer)
        torch.set_rng_state(state.random_state)

    rank, num_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    while state.step < plan.num_steps:
        began = time.perf_counter()
        samples, epoch = plan.samples(state.step)
        rows = data.rows(samples, row_tokens=row_tokens, layout=settings.layout)
        total_weight = float(sum(row.weight_M.sum() for row in rows))
        numbers = {id(row): number for number, row in enumerate(rows)}
        rate = learning_rate_at(
            state.step,
            num_steps=plan.num_steps,
            peak=settings.learning_rate,
            warmup=settings.warmup,
            schedule=settings.schedule,
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        loaded.module.train()
        loss_sum = torch.zeros((), dtype=torch.float64)
        for row in split_by_tokens(rows, num_ranks)[rank]:
            # Dropout is keyed by step and row, so neither an interruption nor the number of ranks changes it.
            with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
                torch.manual_seed(_key(seed, state.step, numbers[id(row)]))
                weight_M = torch.from_numpy(row.weight_M).to(loaded.device)
                row_loss = loss(row_logprobs(loaded, row), weight_M).total / total_weight
                row_loss.backward()  # pyright: ignore
            loss_sum += row_loss.detach().cpu().double()
        loaded.module.eval()
        loss_value = _add_up(accelerator, parameters, loss_sum)
        if not math.isfinite(loss_value):
            raise SightlineError(
                f"step {state.step + 1}: the loss is {loss_value}; samples {list(samples)[:8]}. "
                "Lower learning_rate, or look at these rows with `sightline show`"
            )
        grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip))
        if not math.isfinite(grad_norm):
            raise SightlineError(
                f"step {state.step + 1}: the gradient's norm is {grad_norm}; samples {list(samples)[:8]}. "
                "Lower learning_rate, or look at these rows with `sightline show`"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        state.step += 1
        last = state.step == plan.num_steps
        measured = last or state.step % (settings.eval_every or plan.per_epoch) == 0
        validation_loss = mean_loss(loaded, validation, row_tokens, accelerator) if measured and validation else None
        if validation_loss is not None and validation_loss < (math.inf if state.best_loss is None else state.best_loss):
            state.best_loss = validation_loss
            if settings.keep == "best":
                state.best_weights = {name: p.detach().clone() for name, p in parameters.items()}
        record = StepRecord(
            step=state.step,
            num_steps=plan.num_steps,
            epoch=epoch,
            loss=loss_value,
            learning_rate=rate,
            grad_norm=grad_norm,
            samples=len(samples),
            tokens=sum(row.num_logical_tokens for row in rows),
            executed_tokens=sum(len(row) for row in rows),
            seconds=time.perf_counter() - began,
            validation_loss=validation_loss,
        )
        state.rows.append({key: value for key, value in asdict(record).items() if value is not None})
        if checkpoints and rank == 0 and not last and state.step % settings.save_every == 0:
            state.weights = {name: p.detach() for name, p in parameters.items()}
            state.optimizer = optimizer_tensors(optimizer, {p: name for name, p in parameters.items()})
            state.random_state = torch.get_rng_state()
            save_checkpoint(checkpoints, state, keep=settings.keep_checkpoints)
        yield record

    if settings.keep == "best" and state.best_weights:
        with torch.no_grad():
            for name, tensor in state.best_weights.items():
                parameters[name].copy_(tensor)


class _Plan:
    """Which samples come in which step, epoch after epoch."""

    def __init__(self, data: RenderedSet, settings: Training, seed: int) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.per_epoch = len(self._epoch(0))
        wanted = settings.max_steps or math.ceil(self.per_epoch * (settings.epochs or 1) - 1e-9)
        self.num_steps = wanted
        self._cached: tuple[int, list[tuple[int, ...]]] = (0, self._epoch(0))

    def _epoch(self, epoch: int) -> list[tuple[int, ...]]:
        return plan_epoch(
            self.data.image_ids,
            batch_size=self.settings.batch_size,
            branch_cap=self.settings.branch_cap,
            seed=self.seed,
            epoch=epoch,
        )

    def samples(self, step: int) -> tuple[tuple[int, ...], float]:
        """Return the step's samples and how many epochs are done after it."""
        epoch, index = divmod(step, self.per_epoch)
        if self._cached[0] != epoch:
            self._cached = (epoch, self._epoch(epoch))
        return self._cached[1][index], (step + 1) / self.per_epoch


def mean_loss(loaded: LoadedModel, data: RenderedSet, row_tokens: int, accelerator: Accelerator | None = None) -> float:
    """Measure the loss on a data set: nats per target, nothing trained, dropout off."""
    rows = data.rows(range(len(data.sequences)), row_tokens=row_tokens, layout="tree")
    rank, num_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for row in split_by_tokens(rows, num_ranks)[rank]:
            weight_M = torch.from_numpy(row.weight_M).to(loaded.device)
            total += sft_loss(row_logprobs(loaded, row), weight_M).total.cpu().double()
    if accelerator is not None and num_ranks > 1:
        total = accelerator.reduce(total.to(accelerator.device), reduction="sum").cpu()  # pyright: ignore
    return float(total) / float(sum(row.weight_M.sum() for row in rows))


def _add_up(accelerator: Accelerator | None, parameters: Mapping[str, Tensor], loss_sum: Tensor) -> float:
    """Add gradients and loss over the ranks; a rank without rows adds nothing."""
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if accelerator is None or accelerator.num_processes == 1:
        return float(loss_sum)
    flat = torch.cat([p.grad.flatten().to(torch.promote_types(p.dtype, torch.float32)) for p in parameters.values()])  # pyright: ignore
    flat = accelerator.reduce(flat, reduction="sum")
    start = 0
    for parameter in parameters.values():
        part = flat[start : start + parameter.numel()]  # pyright: ignore
        parameter.grad.copy_(part.view_as(parameter))  # pyright: ignore
        start += parameter.numel()
    return float(accelerator.reduce(loss_sum.to(accelerator.device), reduction="sum"))  # pyright: ignore


def _key(*numbers: int) -> int:
    """Mix numbers into a seed for torch."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1

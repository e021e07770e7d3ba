"""One training loop, as an iterator of step records: a callback of your own is a for-loop.

Every step's samples are known from data, seed and epoch; ranks share its rows by tokens, add up gradients of sums,
and the division by the step's total weight happens once. So micro-batches, ranks and layout change nothing. Dropout
alone, drawn row by row, differs with the rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from sightline.errors import DataError, SightlineError
from sightline.models.forward import row_logprobs, set_mode
from sightline.models.loading import LoadedModel
from sightline.models.memory import named_when_full
from sightline.models.offload import read_later
from sightline.models.steady import steady_attention
from sightline.study import Training
from sightline.training.batches import Batch, Plan, RenderedSet, Stage
from sightline.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from sightline.training.fit import SHORTER, choose_row_tokens, limit_memory
from sightline.training.objectives import Likelihood, Objective
from sightline.training.optimizer import make_optimizer
from sightline.training.schedule import learning_rate_at
from sightline.trees.sampler import split_by_tokens

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one optimizer step did, over all ranks.

    Args:
        step: from 1.
        num_steps: of the whole training.
        epoch: passes over the data so far, as a fraction.
        loss: nats per target, before the step.
        learning_rate: of the step.
        grad_norm: before clipping; 0 where the step was skipped.
        samples: answers in the step.
        tokens: tokens of these samples, counted as if nothing were shared.
        executed_tokens: tokens that really ran.
        seconds: wall-clock time of the step.
        validation_loss: nats per target, where it was measured after this step.
        stage: of a curriculum, from 1.
        skipped: True where gradients of half precision overflowed, so that no weight was changed.
        stopped: why the training ended with this step, where it did not come to its end.
        metrics: what the objective tells of the step, by name.
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
    stage: int | None = None
    skipped: bool | None = None
    stopped: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Give what `metrics.jsonl` says of the step: every field that has a value, and the objective's own."""
        row = {key: value for key, value in asdict(self).items() if key != "metrics" and value is not None}
        return row | dict(self.metrics)


def settings_by_key(settings: Training) -> dict[str, str]:
    """Write down, key by key, the settings that a training's result depends on."""
    values = settings.model_dump(mode="json", exclude={"save_every", "keep_checkpoints", "seeds", "on_bad_row"})
    flat = {key: value for key, value in values.items() if key != "lora"}
    flat |= {f"lora.{key}": value for key, value in values["lora"].items()}
    return {f"settings/{key}": json.dumps(value, ensure_ascii=False) for key, value in sorted(flat.items())}


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
    memory_gib: float | None = None,
    objective: Objective | None = None,
    stages: Sequence[Stage] = (),
    stage_done: Callable[[int], None] | None = None,
    validation_objective: Objective | None = None,
    collapsed: Callable[[Sequence[Mapping[str, Any]]], bool] | None = None,
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
        memory_gib: most memory of the accelerator to use; all that is free by default.
        objective: what is minimised; the answers' likelihood by default.
        stages: a curriculum over the data; by default one stage of all, as long as the settings say.
        stage_done: called with a stage's number when it has ended and another follows; may be called again for the
            same stage when a training is resumed.
        validation_objective: what is measured on `validation`; `objective` by default.
        collapsed: given the rows of all steps so far, says whether the training has gone wrong and ends here.

    Yields:
        a record per optimizer step; when resuming, of the remaining steps only.

    Raises:
        DataError: if there is nothing to learn from.
        SightlineError: if the loss is no number, naming step and samples.
    """
    objective = objective or Likelihood()
    validation_objective = validation_objective or objective
    if not data.sequences:
        raise DataError("no samples to train on; look at the data and its `where` and `take`")
    fingerprint = dict(
        made_from or {**settings_by_key(settings), "data": data.sha256, "base": loaded.base, "seed": str(seed)}
    )
    fingerprint["computed in"] = str(loaded.dtype)  # `precision: auto` differs from card to card
    resumed = load_checkpoint(checkpoints, fingerprint=fingerprint) if checkpoints else None
    rank, num_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    limit = limit_memory(loaded, memory_gib)
    # A resumed run keeps its rows, whatever else is in memory now; ranks agree, whatever memory each of them has.
    row_tokens = resumed.row_tokens if resumed else None
    failed: SightlineError | None = None
    try:
        row_tokens = row_tokens or choose_row_tokens(
            settings.row_tokens,
            loaded,
            data,
            batch_size=settings.batch_size,
            branch_cap=settings.branch_cap,
            layout=settings.layout,
            seed=seed,
            limit=limit,
            num_ranks=num_ranks,
            objective=objective,
            longest=max(part.longest(settings.layout) for part in (data, validation) if part),
        )
    except SightlineError as error:
        failed, row_tokens = error, 0  # the other ranks wait to hear of it
    if accelerator is not None and num_ranks > 1:
        chosen = torch.tensor([row_tokens], device=accelerator.device)
        row_tokens = int(cast(Tensor, accelerator.gather(chosen)).min())
    if failed is not None:
        raise failed
    if not row_tokens:
        raise SightlineError(f"rank {rank}: another rank found no row that fits; its error says why")
    whole = Stage(samples=range(len(data)), epochs=settings.epochs, max_steps=settings.max_steps)
    plan = Plan(
        data,
        stages or (whole,),
        batch_size=settings.batch_size,
        branch_cap=settings.branch_cap,
        seed=seed,
        row_tokens=row_tokens,
        layout=settings.layout,
        rank=rank,
        num_ranks=num_ranks,
    )
    modules = list(loaded.module.modules())
    parameters = {name: p for name, p in sorted(loaded.module.named_parameters()) if p.requires_grad}
    optimizer = make_optimizer(
        settings.optimizer,
        parameters.values(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    # Gradients of half precision vanish below 6e-8 unless the loss is scaled up (Micikevicius et al. 2018).
    scaler = torch.amp.GradScaler(loaded.device.type, enabled=loaded.dtype == torch.float16)
    state = TrainingState(step=0, weights={}, optimizer={}, fingerprint=fingerprint, row_tokens=row_tokens)
    if resumed is not None:
        state = resumed
        with torch.no_grad():
            for name, tensor in state.weights.items():
                parameters[name].copy_(tensor)
        restore_optimizer(optimizer, parameters, state.optimizer)
        scaler.load_state_dict(state.loss_scale)
        torch.set_rng_state(state.random_state)

    batches = map(plan.batch, range(state.step, plan.num_steps))
    batch, upcoming = next(batches, None), next(batches, None)
    with loaded.features.expecting(_pictures(batch, upcoming)):
        while batch is not None:
            began = time.perf_counter()
            place, alone = plan.place(state.step), settings.carry_over == "weights"
            if alone and place.is_first and state.step:
                optimizer.state.clear()
            rate = learning_rate_at(
                place.step if alone else state.step,
                num_steps=place.num_steps if alone else plan.num_steps,
                peak=settings.learning_rate,
                warmup=settings.warmup,
                schedule=settings.schedule,
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            set_mode(modules, training=True)
            sums = _run_rows(loaded, batch, objective, scaler, seed=seed, step=state.step)
            set_mode(modules, training=False)
            sums = _add_up(accelerator, parameters, sums)
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip)
            read = read_later(torch.stack([*sums.values(), norm.to(sums["loss"])]))
            # While the device is at it, the next steps are laid out, and it is given their pictures to go on with.
            following = next(batches, None)
            loaded.features.expect(_pictures(following))
            loaded.features.see(_pictures(upcoming))
            *found, grad_norm = read()
            values = dict(zip(sums, found, strict=True))
            loss_value = values.pop("loss")
            _refuse_no_number(state.step, batch, loss_value, grad_norm, scaler)
            scaler.step(optimizer)  # as it is, unless gradients of half precision overflowed
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            state.step += 1
            seconds = time.perf_counter() - began
            ended = place.is_last if settings.eval_every else plan.ends_epoch(state.step - 1)
            measured = ended or (settings.eval_every is not None and state.step % settings.eval_every == 0)
            validation_loss = (
                mean_loss(loaded, validation, row_tokens, accelerator, validation_objective)
                if measured and validation
                else None
            )
            if validation_loss is not None and validation_loss < (
                math.inf if state.best_loss is None else state.best_loss
            ):
                state.best_loss = validation_loss
                if settings.keep == "best":
                    state.best_weights = {name: p.detach().clone() for name, p in parameters.items()}
            record = StepRecord(
                step=state.step,
                num_steps=plan.num_steps,
                epoch=batch.epoch,
                loss=loss_value,
                learning_rate=rate,
                grad_norm=grad_norm if math.isfinite(grad_norm) else 0.0,
                samples=len(batch.samples),
                tokens=sum(row.num_logical_tokens for row in batch.rows),
                executed_tokens=sum(len(row) for row in batch.rows),
                seconds=seconds,
                validation_loss=validation_loss,
                stage=place.stage + 1 if len(plan.stages) > 1 else None,
                skipped=None if math.isfinite(grad_norm) else True,
                metrics=values,
            )
            if stage_done and place.is_last and upcoming is not None:
                stage_done(place.stage)  # before a checkpoint lets the stage be skipped
            if collapsed and collapsed([*state.rows, record.as_row()]):
                record, upcoming = dataclasses.replace(record, stopped="collapsed"), None
            state.rows.append(record.as_row())
            if checkpoints and rank == 0 and upcoming is not None and state.step % settings.save_every == 0:
                state.weights = {name: p.detach() for name, p in parameters.items()}
                state.optimizer = optimizer_tensors(optimizer, {p: name for name, p in parameters.items()})
                state.loss_scale = scaler.state_dict()
                state.random_state = torch.get_rng_state()
                save_checkpoint(checkpoints, state, keep=settings.keep_checkpoints)
            batch, upcoming = upcoming, following
            yield record

    if settings.keep == "best" and state.best_weights:
        with torch.no_grad():
            for name, tensor in state.best_weights.items():
                parameters[name].copy_(tensor)


@steady_attention()
def mean_loss(
    loaded: LoadedModel,
    data: RenderedSet,
    row_tokens: int,
    accelerator: Accelerator | None = None,
    objective: Objective | None = None,
) -> float:
    """Measure the loss on a data set: nothing trained, dropout off; nats per target for the answers' likelihood."""
    objective = objective or Likelihood()
    rows = data.rows(range(len(data)), row_tokens=row_tokens, layout="tree")
    rank, num_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    total = torch.zeros((), dtype=torch.float64, device=loaded.device)
    with torch.no_grad():
        for row in split_by_tokens(rows, num_ranks)[rank]:
            total += objective.loss(row, row_logprobs(loaded, row)).total
    if accelerator is not None and num_ranks > 1:
        total = cast(Tensor, accelerator.reduce(total.to(accelerator.device), reduction="sum"))
    return float(total) / sum(map(objective.count, rows))


@steady_attention()
def _run_rows(
    loaded: LoadedModel,
    batch: Batch,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    *,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """Add up the gradients, the loss and the objective's metrics of this rank's rows, on the device: float64[] each."""
    names = ("loss", *objective.metrics)  # a rank may have no row
    sums = {name: torch.zeros((), dtype=torch.float64, device=loaded.device) for name in names}
    scaler.scale(sums["loss"])  # so that it knows the scale in any case
    count = sum(map(objective.count, batch.rows))
    if not count:
        raise DataError(
            f"step {step + 1}: no token is learnt in samples {list(batch.samples)[:8]}; look at their labels"
        )
    for number, row in batch.own:
        # Dropout is keyed by step and row: an interruption does not change it, nor the number of ranks if rows stay.
        devices = [loaded.device] if loaded.device.type == "cuda" else []
        with named_when_full(f"a row of {len(row):,} tokens", SHORTER), torch.random.fork_rng(devices=devices):
            torch.manual_seed(_key(seed, step, number))
            found = objective.loss(row, row_logprobs(loaded, row))
            row_loss = found.total / count
            scaler.scale(row_loss).backward()  # pyright: ignore
        sums["loss"] += row_loss.detach()
        for name, value in found.metrics.items():
            sums[name] += value / count
    return sums


def _pictures(*batches: Batch | None) -> list[str]:
    """List the pictures of batches, those of the first one first."""
    return [key for batch in batches if batch for key in batch.pictures]


def _refuse_no_number(
    step: int, batch: Batch, loss_value: float, grad_norm: float, scaler: torch.amp.GradScaler
) -> None:
    """Stop where loss or gradient are no numbers; half precision may overflow while the scale is still being found."""
    overflow = scaler.is_enabled() and scaler.get_scale() > 1
    for value, what in ((loss_value, "the loss"), (grad_norm, "the gradient's norm")):
        if not math.isfinite(value) and not (overflow and what != "the loss"):
            raise SightlineError(
                f"step {step + 1}: {what} is {value}; samples {list(batch.samples)[:8]}. "
                "Lower learning_rate, or look at these rows with `sightline show`"
            )


def _add_up(
    accelerator: Accelerator | None, parameters: Mapping[str, Tensor], sums: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Add gradients, loss and metrics over the ranks; a rank without rows adds nothing."""
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if accelerator is None or accelerator.num_processes == 1:
        return sums
    flat = torch.cat([p.grad.flatten().to(torch.promote_types(p.dtype, torch.float32)) for p in parameters.values()])  # pyright: ignore
    flat = accelerator.reduce(flat, reduction="sum")
    start = 0
    for parameter in parameters.values():
        part = flat[start : start + parameter.numel()]  # pyright: ignore
        parameter.grad.copy_(part.view_as(parameter))  # pyright: ignore
        start += parameter.numel()
    stacked = accelerator.reduce(torch.stack(list(sums.values())).to(accelerator.device), reduction="sum")
    return dict(zip(sums, cast(Tensor, stacked), strict=True))


def _key(*numbers: int) -> int:
    """Mix numbers into a seed for torch."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1

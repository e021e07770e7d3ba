"""The steps that train: an adapter put on, trained, and published beside its curve."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.checking.models import agreed_shape
from sightline.models.adapters import adapter_shape, attach_lora, detach_adapter, load_adapter, save_adapter
from sightline.models.forward import save_memory
from sightline.models.loading import LoadedModel
from sightline.runner.curricula import stages_of, stages_record
from sightline.runner.display import Display
from sightline.runner.preferences import objective_of, rendered_pairs
from sightline.runner.prepare import render_samples
from sightline.runner.publishing import publishing
from sightline.runner.reading import Prepared
from sightline.storage import json_line, sha256_of
from sightline.study import PreferenceTraining, StepRun, Training
from sightline.study.continued import knows_shape
from sightline.training.checkpoint import newest_rows
from sightline.training.loop import RenderedSet, train
from sightline.training.objectives import collapsed
from sightline.training.track import track

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sightline.runner.make import Shelf


OFTEN = 0.05
"""Share of a training's steps that may be skipped while the scale of the loss is being found."""


def train_model(
    run: StepRun,
    shelf: Shelf,
    hashes: Mapping[str, str],
    made_from: Mapping[str, str],
    display: Display,
    spend: Callable[[], None],
    accelerator: Accelerator | None,
) -> None:
    """Train one adapter; an interrupted training goes on from its newest checkpoint.

    Args:
        run: what to make.
        shelf: the models there are.
        hashes: of the data sets.
        made_from: what the model depends on.
        display: where progress is shown.
        spend: called after every step; raises when the budget is used up.
        accelerator: accelerate's, for several processes.
    """
    folder, settings = shelf.out / "models" / run.name, run.settings
    loaded = shelf.base(shelf.base_of(run.parent))
    data = _rendered_set(shelf.prepared, loaded, run.on, settings, hashes)
    measured = any(shelf.prepared.sets[name] for name in run.validation)
    validation = _rendered_set(shelf.prepared, loaded, run.validation, settings, hashes) if measured else None
    is_main = accelerator is None or accelerator.is_main_process
    objectives: dict[str, Any] = {}
    if isinstance(settings, PreferenceTraining):
        objectives["objective"] = objective_of(run, shelf, run.on, data, made_from, turn=True, keep=is_main)
        if validation:
            objectives["validation_objective"] = objective_of(
                run, shelf, run.validation, validation, made_from, keep=is_main
            )
        if settings.collapse is not None:
            objectives["collapsed"] = functools.partial(collapsed, nats_per_token=settings.collapse)
        loaded = shelf.base(shelf.base_of(run.parent))
    seed = run.seed or 0
    parent = shelf.adapter_folder(run.parent)
    if parent is None:
        attach_lora(loaded, **dict(settings.lora), train=settings.train, seed=seed)
    else:
        load_adapter(loaded, parent, trainable=True)
        is_trained = any(other.name == run.parent and other.training for other in shelf.prepared.plan.runs)
        if not is_trained or not knows_shape(shelf.prepared.study, run.parent):
            # From elsewhere, or averaged or chosen, or trained on from there: what it is like, its files say.
            shape = agreed_shape(run, adapter_shape(loaded))
            display.say(f"{run.name}: goes on with {run.parent}: {shape}")

    save_memory(loaded, recompute=settings.gradient_checkpointing, offload=settings.offload == "activations")
    memory_gib = shelf.prepared.study.hardware.memory_gib
    work = folder.parent / f".{run.name}.work"
    if not newest_rows(work):  # what an earlier start left without a checkpoint may be of other settings
        shutil.rmtree(work, ignore_errors=True)
    rows = []
    stages = stages_of(run, shelf.prepared) if settings.stages else []

    def stage_done(number: int) -> None:
        if is_main:
            at = work / "stages" / str(number + 1)
            shutil.rmtree(at, ignore_errors=True)
            at.mkdir(parents=True)
            save_adapter(loaded, at)

    steps = train(
        loaded,
        data,
        settings,
        stages=stages,
        stage_done=stage_done,
        **objectives,
        seed=seed,
        validation=validation,
        checkpoints=work,
        made_from=made_from,
        accelerator=accelerator,
        memory_gib=None if memory_gib == "auto" else memory_gib,
    )
    first = next(steps, None)
    if loaded.unfused:
        display.say(f"{run.name}: runs by stock modules, more slowly: {loaded.unfused}")
    if first is not None:
        tracked = shelf.prepared.study.track
        with (
            display.bar(run.name, first.num_steps, "steps", done=first.step - 1) as bar,
            track(
                run.name,
                tensorboard=shelf.out / "tensorboard" if tracked.tensorboard and is_main else None,
                wandb=tracked.wandb if is_main else None,
                settings=settings.model_dump(mode="json"),
            ) as send,
        ):
            for record in itertools.chain([first], steps):
                send(record)
                spend()
                rows.append(record.as_row())
                if record.stopped:
                    display.say(
                        f"warning: {run.name}: stopped at step {record.step}: chosen and rejected answers alike became "
                        "far less likely than under the reference; lower learning_rate, or raise beta"
                    )
                shown = "" if record.validation_loss is None else f", validation {record.validation_loss:.3f}"
                bar.advance(text=f"loss {record.loss:.3f}{shown}")
    if num_skipped := sum("skipped" in row for row in rows):
        display.say(
            f"{'warning' if num_skipped > OFTEN * len(rows) else 'note'}: {run.name}: gradients of half precision "
            f"overflowed in {num_skipped:,} of {len(rows):,} steps, which changed nothing"
        )
    if is_main:
        done = _rows_of_checkpoint(work, before=first.step if first else None)
        with publishing(folder, made_from) as made:
            save_adapter(loaded, made)
            if stages:
                (made / "stages.json").write_text(stages_record(run, shelf.prepared, stages), encoding="utf-8")
            if (work / "stages").exists():
                shutil.copytree(work / "stages", made / "stages")
            (made / "metrics.jsonl").write_text("".join(json_line(row) for row in [*done, *rows]), encoding="utf-8")
        shutil.rmtree(work, ignore_errors=True)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    save_memory(loaded)
    detach_adapter(loaded)


def _rows_of_checkpoint(work: Path, *, before: int | None) -> list[dict[str, object]]:
    """Read the records of the steps an interrupted run had done."""
    return [row for row in newest_rows(work) if before is None or row["step"] < before]  # pyright: ignore


def _rendered_set(
    prepared: Prepared, loaded: LoadedModel, names: tuple[str, ...], settings: Training, hashes: Mapping[str, str]
) -> RenderedSet:
    sha256 = sha256_of("\n".join(hashes[name] for name in names))
    if isinstance(settings, PreferenceTraining):
        return rendered_pairs(prepared, loaded, names, settings, sha256)
    sequences = render_samples(prepared, loaded.family, names, settings)
    samples = prepared.samples(names)
    for sample in samples:
        loaded.features.register(sample.pictures)
    return RenderedSet(
        sequences=sequences,
        image_ids=[sample.image_id for sample in samples],
        sha256=sha256,
    )

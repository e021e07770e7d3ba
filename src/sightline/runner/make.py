"""Make a study's models: attach, train, publish; and put the right adapter on when one is asked for."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.checking.findings import Finding
from sightline.checking.models import agreed_shape, check_models
from sightline.errors import MissingDataError, StudyError
from sightline.models.adapter_files import adapter_files, base_of_adapter, fetch_adapter
from sightline.models.adapters import adapter_shape, attach_lora, detach_adapter, load_adapter, save_adapter
from sightline.models.forward import save_memory
from sightline.models.loading import (
    LoadedModel,
    base_identity,
    choose_dtype,
    compute_device,
    load_model,
    precision_name,
)
from sightline.models.quantize import quantization_of
from sightline.runner.curricula import stages_of, stages_record
from sightline.runner.display import Display
from sightline.runner.preferences import objective_of, rendered_pairs
from sightline.runner.prepare import base_of, common_setting, render_samples, study_family
from sightline.runner.reading import Prepared
from sightline.storage import MANIFEST, is_finished, json_line, publish_folder, recorded_origin, sha256_of, what_differs
from sightline.study import PreferenceTraining, StepRun, Training, model_location
from sightline.study.names import without_stage
from sightline.training.checkpoint import newest_rows
from sightline.training.loop import RenderedSet, settings_by_key, train
from sightline.training.objectives import collapsed
from sightline.training.track import track

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from sightline.models.family import Family


class Shelf:
    """The study's models: one base in memory at a time, wearing one adapter at a time.

    Args:
        prepared: the study's data and plan.
        out: the study's directory.
        device: where to compute; None chooses.
        families: what renders for bases that are known already, by location.
    """

    def __init__(
        self,
        prepared: Prepared,
        out: Path,
        device: torch.device | str | None = None,
        families: Mapping[str, Family] | None = None,
    ) -> None:
        self.prepared, self.out, self.device = prepared, out, device
        plan = prepared.plan
        # Every answer depends on these, so all steps must agree, and `base` is asked in the same way as the tuned.
        self.precision: Any = common_setting(plan, "precision", prepared.study.hardware.precision)
        self.quantize: Any = common_setting(plan, "quantize", None)
        self._loaded: LoadedModel | None = None
        self._families: dict[str, Family] = dict(families or {})
        self._identities: dict[str, str] = {}
        self._fetched: dict[str, Path] = {}

    def family(self, base: str) -> Family:
        """Give what renders for a base, by location."""
        if base not in self._families:
            self._families[base] = study_family(self.prepared.study, self.prepared.plan, base)
        return self._families[base]

    def _base_identity(self, location: str) -> str:
        if location not in self._identities:
            self._identities[location] = base_identity(location)
        return self._identities[location]

    @property
    def on_accelerator(self) -> bool:
        """Whether models run on an accelerator."""
        return compute_device(self.device).type != "cpu"

    @property
    def needs_bitsandbytes(self) -> bool:
        """Whether bitsandbytes has a part in the study's numbers."""
        plan = self.prepared.plan
        bases = {self.base_of(model) for model in plan.models}
        return any(quantization_of(base, self.quantize) for base in bases) or any(
            run.training is not None and run.training.optimizer == "adamw_8bit" for run in plan.runs
        )

    @property
    def used_precision(self) -> str:
        """The number format that `precision` comes to here, never "auto"."""
        return precision_name(choose_dtype(self.precision, compute_device(self.device)))

    @property
    def has_loaded(self) -> bool:
        """Whether any weights were needed."""
        return self._loaded is not None

    def base_of(self, model: str) -> str:
        """Name the base a model sits on, as a location."""
        return base_of(self.prepared.study, self.prepared.plan, model)

    def base(self, location: str) -> LoadedModel:
        """Give a bare base, loading it if another one is in memory."""
        if self._loaded is None or self._loaded.base != location:
            self._loaded = None  # let go of the old one before the new one comes
            self._loaded = load_model(
                location,
                self.family(location),
                precision=self.precision,
                quantize=self.quantize,
                device=self.device,
            )
        detach_adapter(self._loaded)
        return self._loaded

    def adapter_folder(self, model: str) -> Path | None:
        """Say where a model's adapter lies, fetching what lies on the hub; None for a base.

        Raises:
            MissingDataError: if there is no such folder, or it cannot be fetched.
        """
        study = self.prepared.study
        if model == "base":
            return None
        if model in study.models:
            adapter = study.models[model].adapter
            if adapter is None:
                return None
            location = model_location(study, adapter)
            if Path(location).is_dir():
                return Path(location)
            if Path(location).is_absolute():
                raise MissingDataError(f"models.{model}.adapter: there is no folder {location}")
            if location not in self._fetched:
                self._fetched[location] = fetch_adapter(location)
            return self._fetched[location]
        whole, stage = without_stage(model)
        return self.out / "models" / whole / (f"stages/{stage}" if stage else "")

    def wear(self, model: str) -> LoadedModel:
        """Give a model ready to answer."""
        loaded = self.base(self.base_of(model))
        folder = self.adapter_folder(model)
        if folder is not None:
            load_adapter(loaded, folder)
        return loaded

    def identity(self, model: str) -> dict[str, str]:
        """Name exactly what a model is: its base as it is stored and run, and its adapter's bytes."""
        folder, base = self.adapter_folder(model), self.base_of(model)
        named = {
            "base": self._base_identity(base),
            "rendering": self.family(base).rendering_sha256,
            "precision": str(self.precision),
            "quantize": str(quantization_of(base, self.quantize)),
        }
        if folder is not None:
            named |= {file.name: sha256_of(file) for file in adapter_files(folder)}
            made_for = base_of_adapter(folder)
            if model in self.prepared.study.models and made_for not in (None, base):
                named["adapter made for"] = str(made_for)
        return named


def look_at_models(shelf: Shelf) -> list[Finding]:
    """Look at the models that a study uses and did not make, and at what its steps put on them; no weight is read.

    Returns:
        notes for the reader.

    Raises:
        SightlineError: naming every model that cannot be used and every step that does not fit one.
    """
    plan = shelf.prepared.plan
    made = {run.name for run in plan.runs}
    made |= {model for model in plan.models if without_stage(model)[0] in made}
    used = dict.fromkeys([*plan.models, *(parent for run in plan.runs for parent in run.parents)])
    return check_models(shelf, [name for name in used if name not in made], plan.runs)


def origin_of(run: StepRun, shelf: Shelf, hashes: Mapping[str, str], *, with_parent: bool = True) -> dict[str, str]:
    """Say what a model is made from: parent, rows, settings and seed."""
    parent = shelf.identity(run.parent) if with_parent else {}
    return {
        **{f"parent/{key}": value for key, value in parent.items()},
        **settings_by_key(run.settings),
        **{f"data/{name}": hashes[name] for name in (*run.on, *run.validation)},
        "seed": str(run.seed or 0),
    }


def refuse_changed(run: StepRun, shelf: Shelf, hashes: Mapping[str, str]) -> None:
    """Stop before anything is recorded where a finished model was made from something else.

    Raises:
        StudyError: saying what differs.
    """
    folder = shelf.out / "models" / run.name
    recorded = recorded_origin(folder / MANIFEST)
    parent = shelf.adapter_folder(run.parent)
    if recorded is None:
        return
    is_there = parent is None or run.parent in shelf.prepared.study.models or is_finished(parent / MANIFEST)
    now = origin_of(run, shelf, hashes, with_parent=is_there)
    if not any(key.startswith("parent/") for key in now):  # it is to be made again: the rest must still agree
        recorded = {key: value for key, value in recorded.items() if not key.startswith("parent/")}
    if recorded != now:
        raise StudyError(
            f"{folder} was made otherwise: {what_differs(recorded, now)}; give another --out, or remove it"
        )


def make_model(
    run: StepRun,
    shelf: Shelf,
    hashes: Mapping[str, str],
    display: Display,
    spend: Callable[[], None],
    accelerator: Accelerator | None = None,
) -> bool:
    """Train one adapter unless it is there; an interrupted training goes on from its newest checkpoint.

    Args:
        run: what to make.
        shelf: the models there are.
        hashes: of the data sets.
        display: where progress is shown.
        spend: called after every step; raises when the budget is used up.
        accelerator: accelerate's, for several processes.

    Returns:
        whether anything was done.

    Raises:
        StudyError: if a finished model of that name was made from something else.
    """
    folder = shelf.out / "models" / run.name
    made_from = origin_of(run, shelf, hashes)
    if is_finished(folder / MANIFEST, made_from=made_from):
        display.say(f"{run.name}: finished earlier")
        return False
    refuse_changed(run, shelf, hashes)
    settings = run.settings
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
        if run.parent in shelf.prepared.study.models:
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
    if is_main:
        done = _rows_of_checkpoint(work, before=first.step if first else None)
        made = folder.parent / f".{run.name}.made"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        save_adapter(loaded, made)
        if stages:
            (made / "stages.json").write_text(stages_record(run, shelf.prepared, stages), encoding="utf-8")
        if (work / "stages").exists():
            shutil.copytree(work / "stages", made / "stages")
        (made / "metrics.jsonl").write_text("".join(json_line(row) for row in [*done, *rows]), encoding="utf-8")
        publish_folder(made, folder, made_from=made_from)
        shutil.rmtree(work, ignore_errors=True)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    save_memory(loaded)
    detach_adapter(loaded)
    return True


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

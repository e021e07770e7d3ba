"""Make a study's models: train, average, choose, publish; and put the right adapter on when one is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.checking.findings import Finding
from sightline.checking.models import check_models
from sightline.errors import MissingDataError, StudyError
from sightline.models.adapter_files import adapter_files, base_of_adapter, fetch_adapter
from sightline.models.adapters import detach_adapter, load_adapter
from sightline.models.loading import (
    LoadedModel,
    base_identity,
    choose_dtype,
    compute_device,
    load_model,
    precision_name,
)
from sightline.models.quantize import quantization_of
from sightline.runner.averages import average_models, average_settings
from sightline.runner.choices import choice_settings, choose_model
from sightline.runner.display import Display
from sightline.runner.prepare import base_of, common_setting, study_family
from sightline.runner.publishing import publishing
from sightline.runner.reading import Prepared
from sightline.runner.train import train_model
from sightline.storage import MANIFEST, is_finished, recorded_origin, sha256_of, what_differs
from sightline.study import Average, Choose, StepRun, model_location
from sightline.study.names import is_served, without_stage
from sightline.training.loop import settings_by_key

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
        self._stored_as: dict[str, str | None] = {}
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

    def _quantization(self, location: str) -> str | None:
        if location not in self._stored_as:
            self._stored_as[location] = quantization_of(location, self.quantize)
        return self._stored_as[location]

    @property
    def on_accelerator(self) -> bool:
        """Whether models run on an accelerator."""
        return compute_device(self.device).type != "cpu"

    @property
    def needs_bitsandbytes(self) -> bool:
        """Whether bitsandbytes has a part in the study's numbers."""
        plan = self.prepared.plan
        bases = {self.base_of(model) for model in plan.models if not is_served(self.prepared.study, model)}
        return any(self._quantization(base) for base in bases) or any(
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
        """Name the base that a model of this machine sits on, as a location."""
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
        """Give a model of this machine ready to answer."""
        loaded = self.base(self.base_of(model))
        folder = self.adapter_folder(model)
        if folder is not None:
            load_adapter(loaded, folder)
        return loaded

    def identity(self, model: str) -> dict[str, str]:
        """Name exactly what a model is: its base as it is stored and run, its adapter's bytes; or server and name."""
        if is_served(self.prepared.study, model):
            block = self.prepared.study.models[model]
            return {"server": str(block.server), "model": block.model or ""}
        folder, base = self.adapter_folder(model), self.base_of(model)
        named = {
            "base": self._base_identity(base),
            "rendering": self.family(base).rendering_sha256,
            "precision": str(self.precision),
            "quantize": str(self._quantization(base)),
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
    here = [name for name in used if name not in made and not is_served(shelf.prepared.study, name)]
    return check_models(shelf, here, plan.runs)


def origin_of(run: StepRun, shelf: Shelf, hashes: Mapping[str, str], *, with_parents: bool = True) -> dict[str, str]:
    """Say what a model is made from: parents, rows, settings and seed."""
    parents = {f"parent/{name}/": shelf.identity(name) for name in run.parents} if with_parents else {}
    if run.training is not None and parents:
        parents = {"parent/": parents.popitem()[1]}  # of a training there is but one
    return {
        **{f"{before}{key}": value for before, parent in parents.items() for key, value in parent.items()},
        **_settings_of(run, shelf),
        **{f"data/{name}": hashes[name] for name in (*run.on, *run.validation) if name in hashes},
        "seed": str(run.seed or 0),
    }


def _settings_of(run: StepRun, shelf: Shelf) -> dict[str, str]:
    """Write down the settings that a model depends on."""
    match shelf.prepared.study.steps[run.step]:
        case Average() as step:
            return average_settings(run, step)
        case Choose() as step:
            return choice_settings(shelf, step)
    return settings_by_key(run.settings)


def refuse_changed(run: StepRun, shelf: Shelf, hashes: Mapping[str, str]) -> None:
    """Stop before anything is recorded where a finished model was made from something else.

    Raises:
        StudyError: saying what differs.
    """
    folder = shelf.out / "models" / run.name
    recorded = recorded_origin(folder / MANIFEST)
    if recorded is None:
        return
    now = origin_of(run, shelf, hashes, with_parents=all(_is_there(shelf, parent) for parent in run.parents))
    if not any(key.startswith("parent/") for key in now):  # it is to be made again: the rest must still agree
        recorded = {key: value for key, value in recorded.items() if not key.startswith("parent/")}
    unknown = {f"data/{name}" for name in run.on if name not in hashes}  # rows that are still to be made, as well
    recorded = {key: value for key, value in recorded.items() if key not in unknown}
    if recorded != now:
        raise StudyError(
            f"{folder} was made otherwise: {what_differs(recorded, now)}; give another --out, or remove it"
        )


def _is_there(shelf: Shelf, model: str) -> bool:
    """Whether a model is from elsewhere, or made already."""
    folder = shelf.adapter_folder(model)
    return folder is None or model in shelf.prepared.study.models or is_finished(folder / MANIFEST)


def make_model(
    run: StepRun,
    shelf: Shelf,
    hashes: Mapping[str, str],
    display: Display,
    spend: Callable[[], None],
    accelerator: Accelerator | None = None,
) -> bool:
    """Make one model unless it is there; what was interrupted goes on from where it was.

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
    match shelf.prepared.study.steps[run.step]:
        case Average() as step:
            make = functools.partial(average_models, run, step, shelf, display)
        case Choose() as step:
            make = functools.partial(choose_model, run, step, shelf, hashes, display, spend)
        case _:
            train_model(run, shelf, hashes, made_from, display, spend, accelerator)
            return True
    if accelerator is None or accelerator.is_main_process:
        with publishing(folder, made_from) as made:
            make(made)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return True

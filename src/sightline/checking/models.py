"""Checks on models before any weight is read: bases and adapters are there, and fit each other and what trains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sightline.checking.findings import Finding
from sightline.errors import SightlineError, StudyError
from sightline.study import StepRun, Training
from sightline.study.continued import differences, stated_shape

if TYPE_CHECKING:
    from sightline.models.family import Family
    from sightline.models.loading import LoadedModel

MADE_FOR_ANOTHER_BASE = "adapter-made-for-another-base"


class Models(Protocol):
    """Knows where a study's models lie and how they are run."""

    precision: Any
    """A key of the study file."""
    quantize: Any
    """A key of the study file."""
    device: Any
    """Where to compute; None chooses."""

    def base_of(self, model: str) -> str:
        """Name the base a model sits on: a hub name, a folder or "builtin:tiny"."""
        ...

    def family(self, base: str) -> Family:
        """Load what renders for a base."""
        ...

    def adapter_folder(self, model: str) -> Path | None:
        """Say where a model's adapter lies, fetching what lies on the hub; None for a base."""
        ...


def check_models(models: Models, names: Sequence[str], runs: Sequence[StepRun]) -> list[Finding]:
    """Look at the models that a study uses and did not make, and at what its steps put on them.

    Configurations and the headers of weight files are read, and the hub's adapters fetched; weights are not read. The
    adapters are put on an outline of their base by the code that puts them on the base itself.

    Args:
        models: where they lie.
        names: those that are asked or trained on: "base", and names of `models`.
        runs: the study's, in order.

    Returns:
        A note for every adapter that says it was made for another base.

    Raises:
        SightlineError: naming every model that cannot be used and every step that does not fit; of the error's own
            kind where there is one.
    """
    faults: list[SightlineError] = []
    outlines: dict[str, LoadedModel | None] = {}
    folders: dict[str, Path | None] = {}
    for name in names:
        with _gathered(faults, _where(name)):
            if (base := models.base_of(name)) not in outlines:
                outlines[base] = None
                outlines[base] = _outline(models, base)
        with _gathered(faults, _where(name)):
            folders[name] = models.adapter_folder(name)

    found: list[Finding] = []
    shapes: dict[str, Mapping[str, object]] = {}
    trained_on = {run.parent for run in runs if run.training}
    for name, folder in folders.items():
        outline = outlines[models.base_of(name)]
        if folder is not None and outline is not None:
            with _gathered(faults, _where(name)):
                shapes[name] = _shape_on(outline, folder, trainable=name in trained_on)
                found += _made_for_another(name, folder, outline.base)

    tried: set[str] = set()
    for run in runs:
        if run.training is None:
            continue
        base, settings = models.base_of(run.parent), run.settings
        outline, key = outlines.get(base), f"{base} {settings.lora} {settings.train}"
        with _gathered(faults, run.name):
            if run.parent in shapes:
                shapes[run.name] = shapes[run.parent]  # whatever is trained further keeps it
                agreed_shape(run, shapes[run.parent])
            elif run.parent in folders and folders[run.parent] is None and outline is not None and key not in tried:
                tried.add(key)
                outlines[base] = None  # what a failure leaves behind is of no use
                _try_fresh(outline, settings)
                outlines[base] = outline
    if len(faults) > 1:
        raise StudyError("\n".join(map(str, faults)))
    if faults:
        raise faults[0]
    return found


def agreed_shape(run: StepRun, held: Mapping[str, object]) -> str:
    """Describe the shape of an adapter that its files alone tell; what a step states must be what the adapter has.

    Args:
        run: goes on with the adapter.
        held: the adapter's shape, by the study's keys.

    Raises:
        StudyError: saying what differs.
    """
    if found := differences(stated_shape(run.settings), held):
        raise StudyError(
            f"{run.name}: goes on with the adapter {run.parent}, and {found}; remove that from "
            f"steps.{run.step}, and the adapter's own is taken"
        )
    return ", ".join(f"{name.removeprefix('lora.')} {value}" for name, value in held.items() if value)


def _where(name: str) -> str:
    return "base" if name == "base" else f"models.{name}"


@contextmanager
def _gathered(faults: list[SightlineError], where: str) -> Iterator[None]:
    """Keep what is wrong for the end, with its place in front, so that one fault never hides another."""
    try:
        yield
    except SightlineError as error:
        text = str(error)
        faults.append(error if text.startswith(where) else type(error)(f"{where}: {text}"))


def _outline(models: Models, base: str) -> LoadedModel:
    from sightline.models.loading import choose_dtype, compute_device, outline_model
    from sightline.models.quantize import require_quantization

    family = models.family(base)
    require_quantization(base, models.quantize)
    return outline_model(base, family, choose_dtype(models.precision, compute_device(models.device)))


def _shape_on(outline: LoadedModel, folder: Path, *, trainable: bool) -> Mapping[str, object]:
    """Put an adapter on an outline and take it off again; its shape by the study's keys."""
    from sightline.models.adapters import adapter_shape, detach_adapter, load_adapter

    load_adapter(outline, folder, trainable=trainable)
    shape = adapter_shape(outline)
    detach_adapter(outline)
    return shape


def _try_fresh(outline: LoadedModel, settings: Training) -> None:
    from sightline.models.adapters import attach_lora, detach_adapter

    attach_lora(outline, **dict(settings.lora), train=settings.train)
    detach_adapter(outline)


def _made_for_another(name: str, folder: Path, base: str) -> Iterator[Finding]:
    from sightline.models.adapter_files import base_of_adapter

    made_for = base_of_adapter(folder)
    if made_for not in (None, base):
        yield Finding(
            name=MADE_FOR_ANOTHER_BASE,
            severity="note",
            message=f"models.{name}: its adapter_config.json says it was made for {made_for!r}, and here it sits on "
            f"{base!r}; its tensors fit, but whether the two have the same weights cannot be seen from that",
            evidence={"model": name, "made_for": made_for, "base": base},
        )

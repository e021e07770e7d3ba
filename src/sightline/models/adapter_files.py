"""Adapters on disk, this study's or anybody's: fetched, and read in the names that the model has now.

Whatever such a file holds must find its place: an adapter that silently changes nothing, or half of what it should, is
the field's most common fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import CorruptError, DataError, MissingDataError, UnsupportedModelError, first_line
from sightline.models.loading import LoadedModel

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What an adapter consists of, in PEFT's format."""

OLDER_WEIGHTS = "adapter_model.bin"
BESIDE = "non_lora_trainables.bin"
"""Where LLaVA's original code puts the projector it has trained beside the adapter."""

PREFIX = "base_model.model."
"""What PEFT puts before a module's own name."""

Naming = tuple[tuple[str, str], ...]
"""How modules' names begin in a file, each with how they begin now."""

NAMINGS: tuple[Naming, ...] = (
    (),
    (("model.vision_tower.vision_model.", "model.vision_tower."),),
    (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("multi_modal_projector", "model.multi_modal_projector"),
        ("vision_tower.vision_model.", "model.vision_tower."),
    ),
    (("visual.", "model.visual."), ("model.", "model.language_model.")),
    (
        ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
        ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
        ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
        ("model.", "model.language_model."),
    ),
)
"""As now; transformers 4.52 and some time after (LLaVA); before 4.52 (LLaVA, then Qwen-VL); LLaVA's original code."""

UNDERSTOOD = {
    *("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "use_dora", "lora_bias"),
    *("rank_pattern", "alpha_pattern", "target_modules", "exclude_modules", "modules_to_save"),
    *("layers_to_transform", "layers_pattern"),
}
WITHOUT_EFFECT = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "init_lora_weights", "loftq_config", "megatron_core", "qalora_group_size", "runtime_config"),
}
"""Keys of a configuration that say nothing of what a stored adapter computes."""

CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that move a part of the base's weights into the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAdapter:
    """An adapter as a file holds it, in the names of the model it is to sit on.

    Args:
        config: a `peft.LoraConfig`.
        weights: its tensors by PEFT's names.
    """

    config: Any
    weights: Mapping[str, Tensor]


def fetch_adapter(name: str) -> Path:
    """Fetch an adapter from the hub, or find it where it was fetched before.

    Args:
        name: owner/name.

    Returns:
        the folder it lies in.

    Raises:
        MissingDataError: if it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=[*ADAPTER_FILES, BESIDE]))
        if not (folder / ADAPTER_FILES[1]).is_file():
            folder = Path(snapshot_download(name, allow_patterns=[ADAPTER_FILES[0], OLDER_WEIGHTS, BESIDE]))
    except Exception as error:  # hub, network and cache errors share no class
        raise MissingDataError(
            f"adapter {name!r} is no folder here and could not be fetched "
            f"({type(error).__name__}: {first_line(error)}); download https://huggingface.co/{name} and name its folder"
        ) from error
    return folder


def adapter_files(folder: Path) -> list[Path]:
    """List the files that decide what an adapter computes, its configuration first.

    Raises:
        CorruptError: if one is missing.
    """
    weights = ADAPTER_FILES[1] if (folder / ADAPTER_FILES[1]).is_file() else OLDER_WEIGHTS
    for name in (ADAPTER_FILES[0], weights):
        if not (folder / name).is_file():
            missing = name if name == ADAPTER_FILES[0] else ADAPTER_FILES[1]
            raise CorruptError(f"{folder}: {missing} is missing; an adapter has {' and '.join(ADAPTER_FILES)}")
    return [folder / ADAPTER_FILES[0], folder / weights, *folder.glob(BESIDE)]


def base_of_adapter(folder: Path) -> str | None:
    """Read which base an adapter says it was made for.

    Raises:
        CorruptError: if its configuration is missing or torn.
    """
    return _read_config(adapter_files(folder)[0]).get("base_model_name_or_path")


def read_adapter(folder: Path, loaded: LoadedModel, *, with_values: bool | None = None) -> StoredAdapter:
    """Read a stored adapter for a bare model.

    Args:
        folder: with the files of `adapter_files`.
        loaded: the model, without an adapter.
        with_values: read the tensors, not their names and shapes alone; by default unless the model is an outline.

    Raises:
        CorruptError: if a file is missing or torn, or a tensor has no place in the model or is of no use, naming the
            first.
        UnsupportedModelError: if it is no LoRA adapter, or one with parts that are not supported.
    """
    from peft import LoraConfig

    config_file, *weight_files = adapter_files(folder)
    values = _read_config(config_file)
    _refuse_foreign_parts(folder, values)
    config = LoraConfig(**{key: values[key] for key in UNDERSTOOD & values.keys()})
    outline = loaded.device.type == "meta" if with_values is None else not with_values
    stored = {name: tensor for file in weight_files for name, tensor in _read_weights(file, outline=outline).items()}
    naming = _naming_of(folder, stored, loaded)
    weights = {_name_now(name, naming): tensor for name, tensor in stored.items()}
    adapted = {module_of(name) for name in weights if ".lora_" in name}
    endings = tuple(config.modules_to_save or ())
    whole = [name for name, _ in loaded.inner.named_modules() if name and _name_then(name, naming).endswith(endings)]
    if any(file.name == BESIDE for file in weight_files):
        whole += names_of_parts(loaded.inner, [loaded.family.vision_modules(loaded.inner)["projector"]])
    _fit_targets(folder, config, adapted, naming, loaded)
    _fit_patterns(folder, config, adapted, naming)
    config.modules_to_save = sorted(whole) or None
    return StoredAdapter(config=config, weights=weights)


def write_adapter(folder: Path, config: Any, weights: Mapping[str, Tensor], *, base: str) -> None:
    """Write an adapter so that equal adapters are equal bytes: sorted configuration, no paths, no dates.

    Args:
        folder: must exist.
        config: a `peft.LoraConfig`.
        weights: tensors by PEFT's names.
        base: the model it was made for.
    """
    from safetensors.torch import save_file

    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    values.update(base_model_name_or_path=base, inference_mode=True)
    text = json.dumps(values, indent=2, sort_keys=True, default=str) + "\n"
    (folder / ADAPTER_FILES[0]).write_text(text, encoding="utf-8")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
    save_file(tensors, folder / ADAPTER_FILES[1], metadata={"format": "pt"})


def refuse_without_effect(folder: Path, stored: StoredAdapter) -> None:
    """Refuse an adapter that adapts no module, or leaves every one that it adapts as it is.

    Args:
        folder: where it was read from.
        stored: with values.

    Raises:
        DataError: saying which.
    """
    factors = [(name, tensor) for name, tensor in stored.weights.items() if ".lora_" in name]
    if not stored.weights:
        raise DataError(f"{folder}: the adapter holds no tensors, so it adapts no module; fetch or make it again")
    grown = any(tensor.any() for name, tensor in factors if ".lora_A" not in name and "lora_embedding_A" not in name)
    if len(factors) == len(stored.weights) and not grown:
        num = len({module_of(name) for name, _ in factors})
        raise DataError(
            f"{folder}: the adapter changes nothing: the second factor of its update (lora_B) is 0 in all {num} "
            "modules, as before the first training step; train it, or name the right folder"
        )


def names_of_parts(module: nn.Module, parts: Iterable[nn.Module]) -> list[str]:
    """Name the topmost modules with parameters that parts of a model consist of; lists are taken apart."""
    inside = {id(below) for part in parts for below in part.modules()}
    names: list[str] = []
    for name, below in module.named_modules():
        whole = id(below) in inside and not isinstance(below, nn.ModuleList) and any(True for _ in below.parameters())
        if whole and not name.startswith(tuple(f"{above}." for above in names)):
            names.append(name)
    return names


def _read_config(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptError(f"{file}: no JSON ({error}); fetch or make the adapter again") from error
    if not isinstance(values, dict):
        raise CorruptError(f"{file}: holds {type(values).__name__}, not a configuration")
    return values


def _read_weights(file: Path, *, outline: bool) -> dict[str, Tensor]:
    """Read tensors; of a safetensors file only the header where an outline is enough."""
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            weights = _read_header(file) if outline else load_file(file)
        else:
            weights = torch.load(file, map_location="meta" if outline else "cpu", weights_only=True)
    except Exception as error:  # whatever a torn file makes its reader raise
        raise CorruptError(f"{file}: {first_line(error)}; fetch or make the adapter again") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CorruptError(f"{file}: holds other things than tensors by name")
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CorruptError(f"{file}: {name} is of type {tensor.dtype}, and an adapter's tensors have fractions")
        if not outline and not torch.isfinite(tensor.float()).all():
            raise CorruptError(f"{file}: {name} holds values that are no finite numbers; its training went wrong")
    return weights


def _read_header(file: Path) -> dict[str, Tensor]:
    """Give the tensors of a file as outlines: any type with fractions as float32, any other as int64."""
    from safetensors import safe_open

    weights = {}
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118  # not a mapping
            part = opened.get_slice(name)
            dtype = torch.float32 if part.get_dtype().startswith(("F", "BF")) else torch.int64
            weights[name] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
    return weights


def _refuse_foreign_parts(folder: Path, values: Mapping[str, Any]) -> None:
    """Refuse what a configuration asks for and would be passed over."""
    kind = values.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(f"{folder}: the adapter is of type {kind}; only LORA is supported")
    others = sorted(key for key in values.keys() - UNDERSTOOD - WITHOUT_EFFECT if values[key])
    if others:
        raise UnsupportedModelError(
            f"{folder}: {others[0]} = {values[others[0]]!r} is not supported; merge the adapter into its base and name "
            "the result as a base"
        )
    start = str(values.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGE_THE_BASE):
        raise UnsupportedModelError(
            f"{folder}: the adapter began as {start}, so it belongs to a base with other weights; save it as plain "
            "LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _naming_of(folder: Path, weights: Iterable[str], loaded: LoadedModel) -> Naming:
    """Find the naming in which every tensor has a place in the model."""
    places = {name for name, _ in loaded.inner.named_modules()} | {name for name, _ in loaded.inner.named_parameters()}

    def lost(naming: Naming) -> list[str]:
        return [name for name in sorted(weights) if module_of(_name_now(name, naming)) not in places]

    naming = min(NAMINGS, key=lambda naming: len(lost(naming)))
    if nowhere := lost(naming):
        raise CorruptError(
            f"{folder}: {len(nowhere)} tensors do not fit {loaded.base}, for example {nowhere[0]}; "
            "is the adapter for another base?"
        )
    return naming


def _name_now(name: str, naming: Naming) -> str:
    """Turn a tensor's name in the file into today's."""
    inner = name.removeprefix(PREFIX)
    return PREFIX + next((now + inner.removeprefix(then) for then, now in naming if inner.startswith(then)), inner)


def _name_then(name: str, naming: Naming) -> str:
    """Turn a module's name of today into the file's."""
    return next((then + name.removeprefix(now) for then, now in naming if name.startswith(now)), name)


def module_of(name: str) -> str:
    """Name the module that a LoRA tensor adapts; any other tensor is its own."""
    return name.removeprefix(PREFIX).partition(".lora_")[0]


def _fit_targets(folder: Path, config: Any, adapted: set[str], naming: Naming, loaded: LoadedModel) -> None:
    """Make the configuration fit the modules that the file has tensors for, and no others.

    Today's names may make an expression fit more than it did, and on the vision side it often fits what was never
    meant; the tensors say what was. But where they leave out single modules of a side that they adapt, some are lost.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    layers = nn.Linear | nn.Embedding | nn.Conv2d | nn.Conv3d
    language = {id(module) for module in loaded.family.language_model(loaded.inner).modules()}
    sides = {name: id(layer) in language for name, layer in loaded.inner.named_modules() if isinstance(layer, layers)}
    named = {name for name in sides if check_target_module_exists(config, _name_then(name, naming))}
    if config.target_modules == "all-linear":  # as PEFT reads it: not the head
        head = loaded.family.head(loaded.inner)
        named = {n for n, layer in loaded.inner.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    if odd := sorted(adapted - named):
        raise CorruptError(f"{folder}: there are tensors for {odd[0]}, which target_modules does not name")
    # An adapter may lack the vision side, which its maker left out without saying so; never the language model.
    adapted_sides = {sides[name] for name in adapted} | {True for name in named if sides[name]}
    if absent := sorted(name for name in named - adapted if sides[name] in adapted_sides):
        raise CorruptError(f"{folder}: target_modules names {absent[0]}, and there are no tensors for it")
    if naming or named != adapted or config.target_modules == "all-linear":
        config.target_modules = adapted
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None


def _fit_patterns(folder: Path, config: Any, adapted: set[str], naming: Naming) -> None:
    """Turn the ranks and scales of single modules into today's names."""
    for field in ("rank_pattern", "alpha_pattern"):
        pattern: dict[str, Any] = getattr(config, field)
        # PEFT takes the first entry that fits the end of a module's name.
        chosen = {
            name: next((key for key in pattern if re.match(rf"(.*\.)?({key})$", _name_then(name, naming))), None)
            for name in sorted(adapted)
        }
        if unused := sorted(pattern.keys() - set(chosen.values())):
            raise CorruptError(f"{folder}: {field} names {unused[0]}, which fits no module of the adapter")
        if naming:
            setattr(config, field, {name: pattern[key] for name, key in chosen.items() if key is not None})

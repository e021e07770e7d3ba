"""LoRA adapters by peft: put on, taken off, written and read in PEFT's own format."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import CorruptError, UnsupportedModelError, first_line
from sightline.models.adapter_files import names_of_parts, read_adapter, write_adapter
from sightline.models.loading import LoadedModel


def attach_lora(
    loaded: LoadedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    bias: str = "none",
    rslora: bool = False,
    dora: bool = False,
    targets: str | None = None,
    train: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Put a fresh LoRA adapter on a model.

    Args:
        loaded: the model; any adapter on it must have been taken off before.
        rank: of the update.
        alpha: scale; the update is multiplied by alpha / rank.
        dropout: share of the adapter's inputs set to 0 in training.
        bias: "none", "all" or "lora_only".
        rslora: scale by alpha / sqrt(rank) instead.
        dora: learn magnitude and direction apart.
        targets: regular expression over module names; the family's own by default.
        train: parts of the vision side ("vision", "projector") that are trained in full, as copies beside the base's.
        seed: of the initial weights.

    Raises:
        UnsupportedModelError: if the targets fit no layer, or one that cannot be adapted or is trained in full anyway.
    """
    from peft import LoraConfig, get_peft_model

    parts = loaded.family.vision_modules(loaded.inner)
    whole = names_of_parts(loaded.inner, [parts[name] for name in train])
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  # peft takes fractions too
        lora_dropout=dropout,
        bias=bias,  # pyright: ignore[reportArgumentType]
        use_rslora=rslora,
        use_dora=dora,
        target_modules=targets or loaded.family.lora_targets,
    )
    _refuse_targets(loaded, config, whole)
    _refuse_coarse_biases(loaded, bias)
    config.modules_to_save = whole or None
    _keep_biases(loaded, bias)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with _without_alias_warning():
            model = get_peft_model(loaded.module, config)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise UnsupportedModelError(
            f"lora.targets {config.target_modules!r} fits what cannot be adapted: {first_line(error)}"
        ) from error
    finally:
        torch.set_rng_state(state)
    _adopt(loaded, model)


def load_adapter(loaded: LoadedModel, folder: Path, *, trainable: bool = False) -> None:
    """Put a stored adapter on a model, this study's or anybody's.

    Args:
        loaded: the model; any adapter on it is taken off first.
        folder: the adapter's, with the files that PEFT writes.
        trainable: whether it is to be trained on.

    Raises:
        CorruptError: if a file is missing or torn, or adapter and model do not fit tensor for tensor.
        UnsupportedModelError: if the adapter is of a kind that is not supported.
    """
    from peft import get_peft_model

    detach_adapter(loaded)
    stored = read_adapter(folder, loaded)
    stored.config.inference_mode = not trainable
    if trainable:
        _refuse_coarse_biases(loaded, stored.config.bias)
    _keep_biases(loaded, stored.config.bias)
    try:
        with _without_alias_warning():
            _adopt(loaded, get_peft_model(loaded.module, stored.config))  # pyright: ignore[reportArgumentType]
        _fill_in(adapter_weights(loaded.module), stored.weights, loaded.base)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever peft makes of an odd configuration
        detach_adapter(loaded)
        raise CorruptError(f"{folder}: {first_line(error)}") from error
    if not trainable:
        loaded.module.requires_grad_(False)


def _fill_in(ours: Mapping[str, Tensor], stored: Mapping[str, Tensor], base: str) -> None:
    """Copy stored values into an adapter's tensors; none may be left over on either side."""
    if unused := sorted(stored.keys() - ours.keys()):
        raise CorruptError(f"{len(unused)} tensors do not fit {base}, for example {unused[0]}")
    if unfilled := sorted(ours.keys() - stored.keys()):
        raise CorruptError(f"{len(unfilled)} tensors are missing, for example {unfilled[0]}")
    for name, tensor in sorted(ours.items()):
        if tensor.shape != stored[name].shape:
            found, wanted = list(stored[name].shape), list(tensor.shape)
            raise CorruptError(f"{name} is {found} and on {base} would be {wanted}; is the adapter for another base?")
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(stored[name])


def detach_adapter(loaded: LoadedModel) -> None:
    """Take the adapter off; the base is as it was."""
    biases, loaded.biases = loaded.biases, {}
    if hasattr(loaded.module, "peft_config"):
        for name, wrapper in _trained_in_full(loaded.inner).items():
            loaded.inner.set_submodule(name, wrapper.original_module)  # peft would leave the trained copy behind
        _adopt(loaded, loaded.module.unload())  # pyright: ignore
        with torch.no_grad():
            for name, parameter in loaded.module.named_parameters():
                if name in biases:
                    parameter.copy_(biases[name])
        loaded.module.requires_grad_(False)


def fold_in_adapter(loaded: LoadedModel) -> float:
    """Make the adapter that a model wears part of the base's weights, each rounded once, to its own type.

    Args:
        loaded: freshly loaded, of plain layers; afterwards it wears no adapter and is no longer its base.

    Returns:
        What rounding takes from the change of the weights: Frobenius norm of the difference over that of the change.

    Raises:
        UnsupportedModelError: if a weight is not the adapted layer's alone, or peft cannot fold the adapter in.
    """
    from peft.tuners.lora import LoraLayer

    layers = {name: layer for name, layer in loaded.inner.named_modules() if isinstance(layer, LoraLayer)}
    _refuse_tied(loaded, [*layers, *_trained_in_full(loaded.inner)])
    lost, changed = [0.0], [0.0]
    for name, layer in layers.items():
        linear: Any = layer.get_base_layer()
        before, dtype = linear.weight.detach(), linear.weight.dtype
        linear.to(torch.promote_types(dtype, torch.float32))
        try:
            layer.merge(safe_merge=True)  # pyright: ignore
        except (ValueError, RuntimeError) as error:
            raise UnsupportedModelError(f"{name}: its update cannot be folded in: {first_line(error)}") from error
        exact = linear.weight.detach()
        linear.to(dtype)
        lost.append(float(torch.linalg.vector_norm(linear.weight.detach().to(exact.dtype) - exact)))
        changed.append(float(torch.linalg.vector_norm(exact - before.to(exact.dtype))))
    for wrapper in _trained_in_full(loaded.inner).values():
        wrapper.original_module.load_state_dict(wrapper.modules_to_save["default"].state_dict())
    loaded.biases = {}  # those that the adapter brought along stay
    detach_adapter(loaded)
    return math.hypot(*lost) / math.hypot(*changed) if any(changed) else 0.0


def _refuse_tied(loaded: LoadedModel, adapted: Sequence[str]) -> None:
    """Refuse to change a weight that other parts of the model use as well: with the adapter on, they keep it."""
    places: dict[int, list[str]] = {}
    for name, parameter in loaded.inner.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    for names in places.values():
        inside = [name for name in names if name.startswith(tuple(f"{module}." for module in adapted))]
        if inside and len(names) > len(inside):
            other = next(name for name in names if name not in inside)
            raise UnsupportedModelError(
                f"{inside[0]} is one weight with {other}, which the adapter leaves alone, so folding it in would "
                "change both; keep the adapter as it is"
            )


def _trained_in_full(module: nn.Module) -> dict[str, Any]:
    """Find peft's wrappers of what is trained in full, by the names of what they wrap."""
    return {name: below for name, below in module.named_modules() if hasattr(below, "modules_to_save")}


def _refuse_targets(loaded: LoadedModel, config: Any, whole: Sequence[str]) -> None:
    """Refuse targets that fit nothing, and what would be trained twice; peft would pass over the latter in silence."""
    from peft.tuners.tuners_utils import check_target_module_exists

    fitting = [name for name, _ in loaded.inner.named_modules() if check_target_module_exists(config, name)]
    if not fitting:
        raise UnsupportedModelError(f"lora.targets {config.target_modules!r} fits no module of {loaded.base}")
    _refuse_unasked(loaded, str(config.target_modules), fitting)
    if whole and config.bias != "none":
        raise UnsupportedModelError(f"lora.bias: {config.bias} and train: both train the biases of {whole[0]}; use one")
    if twice := [name for name in fitting if name.startswith(tuple(f"{above}." for above in whole))]:
        raise UnsupportedModelError(f"lora.targets fits {twice[0]}, which `train` trains in full; narrow lora.targets")


def _refuse_unasked(loaded: LoadedModel, targets: str, fitting: Sequence[str]) -> None:
    """Refuse targets that fit modules outside the language model by the way, naming nothing that is only there."""
    inside = {id(module) for module in loaded.family.language_model(loaded.inner).modules()}
    inside.add(id(loaded.family.head(loaded.inner)))
    names = {name: id(module) in inside for name, module in loaded.inner.named_modules()}
    shared = {part for name, is_inside in names.items() if is_inside for part in name.split(".")}
    for name in fitting:
        if not names[name] and not any(part in targets for part in name.split(".") if part not in shared):
            raise UnsupportedModelError(
                f"lora.targets {targets!r} fits {name}, too, which is not of the language model; "
                "narrow it, or name that part in it if it is meant"
            )


def _refuse_coarse_biases(loaded: LoadedModel, bias: str) -> None:
    """Refuse to train biases that peft leaves in a type in which a step is rounded away."""
    if bias != "none" and loaded.dtype in (torch.bfloat16, torch.float16):
        raise UnsupportedModelError(
            f"lora.bias: {bias} trains the base's own biases, which in {str(loaded.dtype).removeprefix('torch.')} lose "
            "most of every step; use precision: fp32, or bias: none"
        )


def _keep_biases(loaded: LoadedModel, bias: str) -> None:
    """Remember the base's biases where an adapter brings its own: peft leaves those behind when it goes."""
    if bias != "none":
        loaded.biases = {n: p.detach().clone() for n, p in loaded.inner.named_parameters() if n.endswith("bias")}


def _keep_in_float32(module: nn.Module, device: torch.device) -> None:
    """Let what is trained in full keep float32 weights and compute in the base's type, as peft does with adapters."""
    for wrapper in _trained_in_full(module).values():
        copy = wrapper.modules_to_save["default"]
        dtype = next(wrapper.original_module.parameters()).dtype
        if dtype in (torch.bfloat16, torch.float16):
            copy.float()
            _compute_in(copy, dtype, device)


def _compute_in(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    forward = module.forward

    def cast(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        if isinstance(value, dict):  # what transformers models give back
            return type(value)(**{key: cast(inner) for key, inner in value.items()})
        return type(value)(map(cast, value)) if isinstance(value, tuple | list) else value

    def computing(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, dtype):
            return cast(forward(*args, **kwargs))

    module.forward = computing


@contextmanager
def _without_alias_warning() -> Iterator[None]:
    """Silence peft's use of a property that transformers 5.2x renamed; it is not the user's to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


def _adopt(loaded: LoadedModel, model: Any) -> None:
    """Make a model, with or without peft's wrapper, the bundle's own."""
    loaded.module = model.eval()
    loaded.decoder, loaded.unfused = None, ""  # its layers hold the adapter that was on before
    _keep_in_float32(loaded.inner, loaded.device)
    below = [module for part in loaded.family.vision_modules(loaded.inner).values() for module in part.modules()]
    changed = any(hasattr(module, "lora_A") or hasattr(module, "modules_to_save") for module in below)
    adapted = bool(loaded.biases) or changed
    # What a picture looks like changes with an adapter on the vision side, when it comes and when it goes.
    if adapted or loaded.vision_adapted:
        loaded.features.forget()
    loaded.vision_adapted = adapted


def adapter_shape(loaded: LoadedModel) -> dict[str, Any]:
    """Describe the adapter that a model wears by the study file's keys."""
    config: Any = loaded.module.peft_config["default"]  # pyright: ignore
    targets = config.target_modules if isinstance(config.target_modules, str) else sorted(config.target_modules)
    parts = loaded.family.vision_modules(loaded.inner)
    return {
        "lora.rank": config.r,
        "lora.alpha": config.lora_alpha,
        "lora.dropout": config.lora_dropout,
        "lora.bias": config.bias,
        "lora.rslora": config.use_rslora,
        "lora.dora": config.use_dora,
        "lora.targets": None if targets == loaded.family.lora_targets else targets,
        "train": sorted(name for name, part in parts.items() if _trained_in_full(part)),
    }


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Return the adapter's tensors by PEFT's names."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, save_embedding_layers=False)


def save_adapter(loaded: LoadedModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapter that a model wears; see `write_adapter`.

    Args:
        loaded: the model that wears it.
        folder: must exist.
        weights: other values for its tensors, e.g. the best ones; its own by default.
    """
    config = loaded.module.peft_config["default"]  # pyright: ignore
    write_adapter(folder, config, weights or adapter_weights(loaded.module), base=loaded.base)

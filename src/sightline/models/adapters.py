"""LoRA adapters by peft: put on, taken off, written and read in PEFT's own format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import CorruptError, UnsupportedModelError
from sightline.models.loading import LoadedModel

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


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
        seed: of the initial weights.

    Raises:
        UnsupportedModelError: if the targets hit no module.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  # peft takes fractions too
        lora_dropout=dropout,
        bias=bias,  # pyright: ignore[reportArgumentType]
        use_rslora=rslora,
        use_dora=dora,
        target_modules=targets or loaded.family.lora_targets,
    )
    _keep_biases(loaded, bias)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with _without_alias_warning():
            model = get_peft_model(loaded.module, config)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise UnsupportedModelError(
            f"lora.targets {config.target_modules!r} fits no module of {loaded.base}"
        ) from error
    finally:
        torch.set_rng_state(state)
    _adopt(loaded, model)


def load_adapter(loaded: LoadedModel, folder: Path, *, trainable: bool = False) -> None:
    """Put a stored adapter on a model.

    Raises:
        CorruptError: if a file is missing, or the adapter's weights do not fit the model's modules.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise CorruptError(f"{folder}: {name} is missing; make the model again")
    try:
        kind = json.loads((folder / ADAPTER_FILES[0]).read_text(encoding="utf-8")).get("peft_type")
        if kind != "LORA":
            raise ValueError(f"it is of type {kind}; only LORA is supported")
        config = LoraConfig.from_pretrained(str(folder))
        config.inference_mode = not trainable
        config.base_model_name_or_path = None  # ours may be "builtin:tiny", which peft would warn about
        weights = load_file(folder / ADAPTER_FILES[1])
        _keep_biases(loaded, str(getattr(config, "bias", "none")))
        with _without_alias_warning():
            _adopt(loaded, get_peft_model(loaded.module, config))  # pyright: ignore[reportArgumentType]
        report = set_peft_model_state_dict(loaded.module, weights)
        # An adapter that silently changes nothing is the field's most common fault.
        odd = sorted((set(weights) ^ set(adapter_weights(loaded.module))) | set(report.unexpected_keys))
        if odd:
            raise ValueError(f"{len(odd)} tensors do not fit {loaded.base}, for example {odd[0]}")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        detach_adapter(loaded)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptError(f"{folder}: {reason}") from error
    if not trainable:
        loaded.module.requires_grad_(False)


def detach_adapter(loaded: LoadedModel) -> None:
    """Take the adapter off; the base is as it was."""
    if hasattr(loaded.module, "peft_config"):
        biases, loaded.biases = loaded.biases, {}
        _adopt(loaded, loaded.module.unload())  # pyright: ignore
        with torch.no_grad():
            for name, parameter in loaded.module.named_parameters():
                if name in biases:
                    parameter.copy_(biases[name])
        loaded.module.requires_grad_(False)


def _keep_biases(loaded: LoadedModel, bias: str) -> None:
    """Remember the base's biases where an adapter brings its own: peft leaves those behind when it goes."""
    if bias != "none":
        loaded.biases = {n: p.detach().clone() for n, p in loaded.inner.named_parameters() if n.endswith("bias")}


@contextmanager
def _without_alias_warning() -> Iterator[None]:
    """Silence peft's use of a property that transformers 5.2x renamed; it is not the user's to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


def _adopt(loaded: LoadedModel, model: Any) -> None:
    """Make a model, with or without peft's wrapper, the bundle's own."""
    loaded.module = model.eval()
    parts = loaded.family.vision_modules(loaded.inner).values()
    adapted = bool(loaded.biases) or any(hasattr(module, "lora_A") for part in parts for module in part.modules())
    # What a picture looks like changes with an adapter on the vision side, when it comes and when it goes.
    if adapted or loaded.vision_adapted:
        loaded.features.forget()
    loaded.vision_adapted = adapted


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Return the adapter's tensors by PEFT's names."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, save_embedding_layers=False)


def save_adapter(loaded: LoadedModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write an adapter so that equal adapters are equal bytes: sorted configuration, no paths, no dates.

    Args:
        loaded: the model that wears it.
        folder: must exist.
        weights: other values for its tensors, e.g. the best ones; its own by default.
    """
    from safetensors.torch import save_file

    config = loaded.module.peft_config["default"].to_dict()  # pyright: ignore
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    config.update(base_model_name_or_path=loaded.base, inference_mode=True)
    text = json.dumps(config, indent=2, sort_keys=True, default=str) + "\n"
    (folder / ADAPTER_FILES[0]).write_text(text, encoding="utf-8")
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in sorted((weights or adapter_weights(loaded.module)).items())
    }
    save_file(tensors, folder / ADAPTER_FILES[1], metadata={"format": "pt"})

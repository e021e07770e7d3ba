"""A base with an adapter folded in, as a model of its own that transformers, vLLM and others load without sightline.

What is folded into has just been loaded: weights that have computed may have been repacked, or hold another adapter.
"""

from __future__ import annotations

import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sightline.data.cards import CARD
from sightline.errors import MissingDataError, first_line
from sightline.models.adapters import fold_in_adapter, load_adapter
from sightline.models.family import Family
from sightline.models.loading import LoadedModel, base_location, load_model
from sightline.models.quantize import Quantization, plain_weight

NOT_BESIDE = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.index.json"),
    *("config.json", "generation_config.json", "manifest.json", ".*"),
)
"""Files of a base that do not go with a model made from it: weights, and what is written anew."""

BASE_CARD = "README.base.md"
"""What a base's card is called beside a model made from it, which has one of its own."""

SHARD = "5GB"
"""Largest file of weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A model with an adapter folded in.

    Args:
        loaded: the model.
        rounding: what rounding its weights took from their change; see `fold_in_adapter`.
    """

    loaded: LoadedModel
    rounding: float


def merge_adapter(
    base: str,
    folder: Path,
    *,
    family: Family | None = None,
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp64"] = "bf16",
    quantize: Quantization | None = None,
    device: str | torch.device | None = None,
) -> Merged:
    """Load a base and fold an adapter into it.

    Args:
        base: a hub name, a folder or "builtin:tiny".
        folder: the adapter's.
        family: as `load_family` gave it.
        precision: type of the weights.
        quantize: store the base so, and take it back to plain weights, before the adapter comes: what an adapter that
            was trained on such a base belongs to. A base whose checkpoint is quantised is taken back in any case.
        device: where to compute.

    Raises:
        SightlineError: if base or adapter cannot be had or do not fit.
    """
    loaded = load_model(base, family, precision=precision, quantize=quantize, device=device)
    to_plain_layers(loaded)
    load_adapter(loaded, folder)
    return Merged(rounding=fold_in_adapter(loaded), loaded=loaded)


def to_plain_layers(loaded: LoadedModel) -> None:
    """Put plain linear layers in the place of quantised ones, with the weights these multiply with."""
    quantizer = getattr(loaded.module, "hf_quantizer", None)
    if quantizer is None:
        return
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    layers = [(n, m) for n, m in loaded.module.named_modules() if isinstance(m, Linear4bit | Linear8bitLt)]
    for name, layer in layers:
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        plain.weight = nn.Parameter(plain_weight(layer, loaded.dtype), requires_grad=False)
        plain.bias = layer.bias
        loaded.module.set_submodule(name, plain.eval())
    quantizer.remove_quantization_config(loaded.module)


def write_model(loaded: LoadedModel, folder: Path) -> None:
    """Write a model as transformers reads it: weights in shards, configuration, and what goes with its base's.

    Args:
        loaded: wears no adapter.
        folder: must exist.

    Raises:
        MissingDataError: if the base's other files cannot be had.
    """
    module: Any = loaded.module
    module.save_pretrained(folder, max_shard_size=SHARD)
    for file in sorted(folder_beside(loaded.base).iterdir()):
        if file.name == CARD:
            shutil.copyfile(file, folder / BASE_CARD)
        elif file.is_file() and not any(fnmatch.fnmatch(file.name, pattern) for pattern in NOT_BESIDE):
            shutil.copyfile(file, folder / file.name)


def folder_beside(base: str) -> Path:
    """Say where the files of a base lie that are no weights, fetching those that are on the hub.

    Raises:
        MissingDataError: if they cannot be fetched.
    """
    location = base_location(base)
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import snapshot_download

    weights = [pattern for pattern in NOT_BESIDE if pattern.startswith("*")]
    try:
        return Path(snapshot_download(location, ignore_patterns=[*weights, "*/*"]))
    except Exception as error:  # hub, network and cache errors share no class
        raise MissingDataError(
            f"base {base!r}: its tokenizer, processor and licence could not be fetched "
            f"({type(error).__name__}: {first_line(error)}); they go into the merged folder"
        ) from error

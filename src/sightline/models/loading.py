"""Load a base model with everything the other rooms need of it."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from sightline.errors import MissingDataError, StudyError, UnsupportedModelError, first_line
from sightline.models.chat import Chat
from sightline.models.family import Family
from sightline.models.features import PictureFeatures
from sightline.models.llava import Llava
from sightline.models.quantize import Quantization, quantized_arguments, require_quantization, settle_quantized
from sightline.models.qwen import Qwen
from sightline.storage import sha256_of
from sightline.study.keys import nearest

if TYPE_CHECKING:
    from sightline.models.fused.decoder import FusedDecoder

FAMILIES = {"llava": Llava, "qwen2_vl": Qwen, "qwen2_5_vl": Qwen, "qwen3_vl": Qwen}
"""Model types we know; a family is one small file with what really differs."""

BUILTIN = ("tiny",)
"""Models that come with sightline, each a folder below `assets`; "builtin:tiny" names one."""

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}

NOT_BUILT = {
    "qwen3_vl_moe": "its mixture-of-experts layers are not built",
    "qwen2_5_omni": "sound and video are not built",
    "qwen3_5": "its linear-attention layers carry one state from token to token, which branches cannot share",
    "llava_next": "its pictures in tiles (any resolution) are not built",
    "llava_onevision": "its pictures in tiles (any resolution) are not built",
    "llava_next_video": "video is not built",
    "video_llava": "video is not built",
    "gemma3": "its image tokens see each other in both directions, which is not built",
    "paligemma": "its prompts see themselves in both directions, which is not built",
}
"""Model types people ask for, with what is missing."""


@dataclass(kw_only=True, slots=True)
class LoadedModel:
    """A model ready to be run on rows.

    Args:
        base: the name it was asked for by.
        module: the model; the runner puts adapters on it and takes them off again.
        family: what differs between families: template, pictures, modules.
        features: its picture features, computed once while the vision side is frozen.
        device: where it computes.
        dtype: in which its weights are.
        generation: the model's own generation configuration.
        biases: the base's own, while an adapter that trains biases is on it; else empty.
        vision_adapted: whether the adapter changes what a picture passes before the language model.
        fuse: whether to run the language model by fused layers; None: on accelerators, in half precision.
        decoder: these layers, once they are made; see `models.fused`.
        unfused: why this model has none, where they were wanted.
        recompute: keep only what enters each layer and compute the rest again for the backward pass.
        offload: what is kept for the backward pass waits in host memory.
    """

    base: str
    module: nn.Module
    family: Family
    features: PictureFeatures
    device: torch.device
    dtype: torch.dtype
    generation: dict[str, Any] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    vision_adapted: bool = False
    fuse: bool | None = None
    decoder: FusedDecoder | None = None
    unfused: str = ""
    recompute: bool = False
    offload: bool = False

    @property
    def inner(self) -> nn.Module:
        """The stock model, whether it wears an adapter or not."""
        return self.module.get_base_model() if hasattr(self.module, "get_base_model") else self.module  # pyright: ignore

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Tokens at which an answer ends: the template's and the generation configuration's."""
        configured = self.generation.get("eos_token_id") or []
        listed = configured if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys([*self.family.end_token_ids, *listed]))


def base_location(base: str) -> str:
    """Turn the study's name of a base into what transformers loads: a folder or a hub name.

    Raises:
        MissingDataError: if nothing of that name is built in.
    """
    builtin, colon, name = base.rpartition("builtin:")
    if builtin or not colon:
        return base
    if name not in BUILTIN:
        raise MissingDataError(f"base {base!r} is not built in; {nearest(base, (f'builtin:{own}' for own in BUILTIN))}")
    return str(importlib.resources.files("sightline") / "assets" / name)


def compute_device(device: str | torch.device | None = None) -> torch.device:
    """Pick where to compute: where asked, else the first accelerator, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_dtype(precision: Literal["auto", "bf16", "fp16", "fp32", "fp64"], device: torch.device) -> torch.dtype:
    """Pick the weights' type; "auto" is bfloat16 where the device computes in it, float32 on the CPU."""
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def precision_name(dtype: torch.dtype) -> str:
    """Name a type of weights as the study file does."""
    return next(name for name, named in PRECISIONS.items() if named == dtype)


def load_family(
    base: str,
    *,
    pad_square: bool = False,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    template_file: Path | None = None,
) -> Family:
    """Load what rendering needs of a base: template, tokenizer and image processor, no weights.

    Args:
        base: a hub name, a folder or "builtin:tiny".
        pad_square: see `Llava`.
        min_pixels: see `Qwen`.
        max_pixels: see `Qwen`.
        template_file: a chat template instead of the model's own.

    Raises:
        UnsupportedModelError: if the family is not known, saying which are.
        StudyError: if the family's pictures know no such setting.
        MissingDataError: if the model is neither a folder nor to be had from the hub.
    """
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.processing_utils import ProcessorMixin

    location = base_location(base)
    config = read_config(base)
    family = FAMILIES[config.model_type]
    asked = {"pad_square": pad_square, "min_pixels": min_pixels, "max_pixels": max_pixels}
    settings: dict[str, Any] = {name: value for name, value in asked.items() if value}
    for name in settings:
        if name not in family.picture_settings:
            raise StudyError(
                f"{name}: pictures of {base!r} ({config.model_type}) know no such setting, only "
                f"{', '.join(family.picture_settings)}; remove it"
            )
    # Part by part: the whole processor of a Qwen brings one for videos, which cannot be had without torchvision.
    with _naming(base, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    with _naming(base, "its chat template"):
        chat_template = ProcessorMixin.get_processor_dict(location)[0].get("chat_template")
    # One image backend everywhere: the two differ by up to 0.03 per normalised pixel.
    with _naming(base, "its image processor"):
        image_processor = AutoImageProcessor.from_pretrained(location, backend="pil", trust_remote_code=False)
    processor = SimpleNamespace(tokenizer=tokenizer, image_processor=image_processor, chat_template=chat_template)
    return family(config, processor, Chat(processor, template_file), **settings)


def read_config(base: str) -> Any:
    """Read a base's configuration and refuse those we cannot run, each with its reason.

    Raises:
        MissingDataError: if the model is neither a folder nor to be had from the hub.
        UnsupportedModelError: if the family is not known, saying which are.
    """
    from transformers import AutoConfig, PreTrainedConfig

    location = base_location(base)
    looks_like_path = location.startswith((".", "/", "~")) or location.count("/") > 1
    if looks_like_path and not (Path(location) / "config.json").is_file():
        raise MissingDataError(
            f"base {base!r} is neither a folder with a model nor to be had from the hub: there is no config.json"
        )
    try:
        plain, _ = PreTrainedConfig.get_config_dict(location)
        kind = plain.get("model_type", "")
        if "mm_vision_tower" in plain:
            raise UnsupportedModelError(f"base {base!r} {_twin_of_original(base)}")
        if kind in NOT_BUILT:
            raise UnsupportedModelError(
                f"base {base!r} is of type {kind!r}: {NOT_BUILT[kind]}; supported: {', '.join(FAMILIES)}"
            )
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    except OSError as error:
        raise MissingDataError(
            f"base {base!r} is neither a folder with a model nor to be had from the hub: {first_line(error)}"
        ) from error
    except ValueError as error:
        raise UnsupportedModelError(
            f"base {base!r}: its configuration is of no known model type ({first_line(error)}); "
            f"supported: {', '.join(FAMILIES)}"
        ) from error
    if config.model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"base {base!r} is of type {config.model_type!r}, which sightline cannot run with exact prefix sharing; "
            f"supported: {', '.join(FAMILIES)}"
        )
    return config


def _twin_of_original(base: str) -> str:
    """Name the Hugging Face twin of weights in the original LLaVA repository's format."""
    name = base.rstrip("/").rpartition("/")[2]
    twins = {f"llava-v1.5-{size}": f"llava-hf/llava-1.5-{size}-hf" for size in ("7b", "13b")}
    use = f"use its Hugging Face twin: {twins[name]}" if name in twins else "use a twin from huggingface.co/llava-hf"
    return f"is in the format of the original LLaVA repository, which transformers does not read; {use}"


def load_model(
    base: str,
    family: Family | None = None,
    *,
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp64"] = "auto",
    quantize: Quantization | None = None,
    device: str | torch.device | None = None,
) -> LoadedModel:
    """Load a vision-language model for training, scoring and generation.

    Args:
        base: a hub name, a folder or "builtin:tiny"; one that bitsandbytes has quantised is loaded as it is.
        family: as `load_family` gave it; loaded when absent.
        precision: type of the weights, and of what is computed with quantised ones.
        quantize: store the language model's linear layers in 4 bits ("nf4", double quantisation) or 8 ("int8").
        device: where to; the first accelerator, else the CPU.

    Raises:
        MissingDataError: if the weights cannot be loaded.
        StudyError: if bitsandbytes is needed and not installed.
        UnsupportedModelError: if the model is quantised in a way that is not supported.
    """
    from transformers import AutoModelForImageTextToText

    family = family or load_family(base)
    where = compute_device(device)
    location, dtype, config = base_location(base), choose_dtype(precision, where), read_config(base)
    require_quantization(base, quantize)
    quantized = quantized_arguments(base, config, family, quantize, dtype, where)
    # A dense boolean mask is exact under SDPA and silently wrong under "eager".
    with _without_bar(), _naming(base, "its weights"):
        module = AutoModelForImageTextToText.from_pretrained(
            location, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False, **quantized
        )
    module = cast(nn.Module, module)
    if quantized:
        settle_quantized(module, dtype)
    else:
        module = module.to(where)
    return wrap_model(base, module.eval().requires_grad_(False), family, where)


def outline_model(base: str, family: Family, dtype: torch.dtype) -> LoadedModel:
    """Build a model of names and shapes alone, on which adapters can be tried before any weight is read.

    Args:
        base: a hub name, a folder or "builtin:tiny".
        family: as `load_family` gave it.
        dtype: in which its weights would be.

    Raises:
        MissingDataError: if a folder lacks weights, or holds some that are torn.
    """
    from transformers import AutoModelForImageTextToText

    config = read_config(base)
    _require_weights(base)
    with torch.device("meta"):
        module = AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)
    return wrap_model(base, cast(nn.Module, module).eval().requires_grad_(False), family, torch.device("meta"))


def _require_weights(base: str) -> None:
    """Look whether a folder's weights are there, by the headers of their files; the hub is trusted to have them."""
    from safetensors import safe_open

    folder = Path(base_location(base))
    if not folder.is_dir() or any(folder.glob("pytorch_model*")):
        return
    with _naming(base, "its weights"):
        index = folder / "model.safetensors.index.json"
        names = {"model.safetensors"}
        if index.is_file() and not (folder / "model.safetensors").is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(names):
            if not (folder / name).is_file():
                raise OSError(f"{folder / name} is missing")
            with safe_open(folder / name, framework="pt"):
                pass


def base_identity(base: str) -> str:
    """Name the exact weights of a base: the hub's commit, or a hash of the folder's files.

    A file beyond 50 MB is told apart by its size, its beginning and samples of its content, so that a study starts at
    once.

    Raises:
        MissingDataError: if there is no such model.
    """
    folder = Path(base_location(base))
    if not folder.is_dir():
        return f"{base}@{read_config(base)._commit_hash}"
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return f"{base}@{sha256_of(chr(10).join(f'{file.name} {_content_sha256(file)}' for file in files))[:16]}"


def _content_sha256(file: Path, whole_up_to: int = 50_000_000, num_samples: int = 64, length: int = 1 << 16) -> str:
    size = file.stat().st_size
    if size <= whole_up_to:
        return sha256_of(file)
    with file.open("rb") as content:
        pieces = [str(size).encode()]
        for number in range(num_samples):
            content.seek(number * (size - length) // (num_samples - 1))
            pieces.append(content.read(length))
    return sha256_of(b"".join(pieces))


@contextmanager
def _naming(base: str, what: str) -> Iterator[None]:
    """Name base and part where transformers or safetensors only says that something is wrong."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise MissingDataError(f"base {base!r}: {what} cannot be loaded: {first_line(error)}") from error


@contextmanager
def _without_bar() -> Iterator[None]:
    """Silence the bar transformers draws over ours while it fills in weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def wrap_model(base: str, module: nn.Module, family: Family, device: torch.device) -> LoadedModel:
    """Bundle a model that is already in memory."""
    generation = getattr(module, "generation_config", None)
    return LoadedModel(
        base=base,
        module=module,
        family=family,
        features=PictureFeatures(module, family, device),
        device=device,
        dtype=next(module.parameters()).dtype,
        generation=generation.to_dict() if generation is not None else {},
    )

"""Bases stored in 4 or 8 bits by bitsandbytes (QLoRA; LLM.int8's weights).

Shapes: O outputs, D inputs.

Two things bitsandbytes does by itself are switched off, layer by layer, because answers would depend on them. On CPUs
with AVX512-BF16 its 4-bit layers repack their weights at the first forward in evaluation mode, and what reads them
afterwards, training included, reads nonsense. And its 8-bit layers round activations too, except the columns in which
any token of the call is large: a token's numbers would then depend on which others share its row.
"""

from __future__ import annotations

import importlib.util
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sightline.errors import StudyError, UnsupportedModelError, install_advice

if TYPE_CHECKING:
    from sightline.models.family import Family

Quantization = Literal["nf4", "int8"]


def require_bitsandbytes(asked: str) -> None:
    """Stop where bitsandbytes is asked for and not installed.

    Args:
        asked: what asks for it, e.g. "quantize: nf4".

    Raises:
        StudyError: saying how to install it.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise StudyError(f"{asked} needs bitsandbytes; {install_advice('quantize')}")


def quantization_of(base: str, asked: Quantization | None) -> str | None:
    """Say how a base's language model is stored in memory: as its checkpoint has it, else as the study asks.

    Args:
        base: a hub name, a folder or "builtin:tiny".
        asked: the study's `quantize`.

    Returns:
        "nf4", "fp4", "int8", or None for plain weights.

    Raises:
        MissingDataError: if there is no such model.
        UnsupportedModelError: if the checkpoint is quantised by another method than bitsandbytes, or otherwise than
            asked.
    """
    from sightline.models.loading import read_config

    stored = stored_quantization(base, read_config(base))
    if stored and asked and stored != asked:
        raise UnsupportedModelError(
            f"base {base!r} is stored as {stored} already, so quantize: {asked} is not possible; leave quantize out, "
            "or name the unquantised model"
        )
    return stored or asked


def require_quantization(base: str, asked: Quantization | None) -> None:
    """Stop where a base cannot be stored as its checkpoint has it and the study asks.

    Raises:
        MissingDataError: if there is no such model.
        StudyError: if bitsandbytes is needed and not installed.
        UnsupportedModelError: as `quantization_of`.
    """
    if stored := quantization_of(base, asked):
        require_bitsandbytes(f"quantize: {asked}" if asked else f"base {base!r}, which is stored as {stored},")


def stored_quantization(base: str, config: Any) -> str | None:
    """Read from a model's configuration how its checkpoint is quantised.

    Raises:
        UnsupportedModelError: if it is by another method than bitsandbytes.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    values = stored if isinstance(stored, dict) else stored.to_dict()
    in_4, in_8 = bool(values.get("load_in_4bit")), bool(values.get("load_in_8bit"))
    method = values.get("quant_method") or ("bitsandbytes" if in_4 or in_8 else "an unnamed method")
    if method != "bitsandbytes" or in_4 == in_8:
        raise UnsupportedModelError(
            f"base {base!r} is quantised by {method}; supported are bitsandbytes checkpoints (4 or 8 bits) and plain "
            "ones, with quantize: nf4 or int8 where memory is short"
        )
    return "int8" if in_8 else str(values.get("bnb_4bit_quant_type", "fp4"))


def quantized_arguments(
    base: str, config: Any, family: Family, asked: Quantization | None, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Give what `from_pretrained` needs to make or read a quantised model; nothing for a plain one.

    Args:
        base: the model's name.
        config: its configuration.
        family: says which part is the language model; the rest stays as it is.
        asked: the study's `quantize`.
        dtype: in which it computes.
        device: where to.

    Raises:
        UnsupportedModelError: if the type is none that bitsandbytes computes in.
    """
    stored = stored_quantization(base, config)
    if not (stored or asked):
        return {}
    if dtype == torch.float64:
        raise UnsupportedModelError("bitsandbytes does not compute in float64; choose fp32, or no quantize")
    placed: dict[str, Any] = {"device_map": {"": device}}
    if stored:
        return placed
    from transformers import BitsAndBytesConfig

    return placed | {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=asked == "nf4",
            load_in_8bit=asked == "int8",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=_outside_language_model(config, family),
        )
    }


def _outside_language_model(config: Any, family: Family) -> list[str]:
    """Name the topmost modules that hold nothing of the language model: vision side and head.

    Full names: bitsandbytes' list matches from a name's start, so a bare "vision_tower" would keep nothing out.
    """
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        module = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    inside = {id(part) for part in family.language_model(module).modules()}
    outside: list[str] = []
    for name, part in module.named_modules():
        if any(id(below) in inside for below in part.modules()) or name.startswith(tuple(f"{o}." for o in outside)):
            continue
        outside.append(name)
    return outside


def settle_quantized(module: nn.Module, dtype: torch.dtype) -> None:
    """Make a loaded model's quantised layers compute the same in training and evaluation, alone and among others.

    Args:
        module: the model.
        dtype: in which its layers compute.
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for layer in module.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
            layer.compute_dtype, layer.compute_type_is_set = dtype, True
        elif isinstance(layer, Linear8bitLt):
            layer.init_8bit_state()
            layer.forward = MethodType(_linear_8bit, layer)


def _linear_8bit(layer: Any, x: Tensor) -> Tensor:
    result = _WeightOnly.apply(x, layer.weight.data, layer.state.SCB)
    return result if layer.bias is None else result + layer.bias.to(x.dtype)  # pyright: ignore


class _WeightOnly(torch.autograd.Function):
    """x W^T with W kept in 8 bits; autograd by itself would keep a copy of W in full for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OD: Tensor, largest_O: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OD, largest_O)
        return nn.functional.linear(x, _dequantized(weight_OD, largest_O, x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        weight_OD, largest_O = ctx.saved_tensors
        return gradient @ _dequantized(weight_OD, largest_O, gradient.dtype), None, None


def plain_weight(linear: Any, dtype: torch.dtype) -> Tensor:
    """Give a linear layer's weight as it is multiplied with, however it is stored: [O, D]."""
    if getattr(linear.weight, "quant_state", None) is not None:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(linear.weight.data, linear.weight.quant_state).to(dtype)
    if getattr(getattr(linear, "state", None), "SCB", None) is not None:
        return _dequantized(linear.weight.data, linear.state.SCB, dtype)
    return linear.weight.to(dtype)


def _dequantized(weight_OD: Tensor, largest_O: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo LLM.int8's rounding: 127 stands for each row's largest absolute value."""
    return weight_OD.to(dtype).mul_((largest_O / 127)[:, None])

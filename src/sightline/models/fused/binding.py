"""From a stock language model, with or without peft's adapter, to fused layers; or the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models.fused import operations
from sightline.models.fused.decoder import Attend, FusedDecoder, FusedLayer
from sightline.models.fused.weights import Factors, FoldedLinear
from sightline.models.quantize import plain_weight

if TYPE_CHECKING:
    from sightline.models.loading import LoadedModel

NAMES = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
"""The linears of a layer, as Llama and everything shaped like it names them."""


def fused_decoder(loaded: LoadedModel) -> FusedDecoder | None:
    """Give a model's fused layers, made when first asked for; None where it is to run by its stock modules.

    What stands in the way is left in `loaded.unfused`, for the runner to say.
    """
    wanted = loaded.fuse
    if wanted is None:
        wanted = loaded.device.type == "cuda" and loaded.dtype in (torch.bfloat16, torch.float16)
    if loaded.decoder is not None and not loaded.decoder.holds_its_weights:
        loaded.decoder = None  # the model has been moved or converted since
    if wanted and loaded.decoder is None and not loaded.unfused:
        try:
            loaded.decoder = bind(loaded.family.language_model(loaded.inner), dtype=loaded.dtype)
        except UnsupportedModelError as error:
            loaded.unfused = str(error)
    return loaded.decoder


def bind(language_model: nn.Module, *, dtype: torch.dtype) -> FusedDecoder:
    """Build fused layers over a language model's own weights.

    The stock modules stay usable: plain weights become views of the folded buffers, quantised ones stay as they are.

    Args:
        language_model: without its head; its linears may wear peft's LoRA.
        dtype: to compute in.

    Raises:
        UnsupportedModelError: if something in it has no place in a fused layer, saying what.
    """
    for stock in language_model.layers:  # pyright: ignore  # all of them, before any weight is moved
        _refuse_unknown(stock)
    layers: list[FusedLayer] = []
    scratch: dict[tuple[int, int], Tensor] = {}

    def folded(*linears: nn.Module) -> FoldedLinear:
        bases = [base_linear(each) for each in linears]
        return FoldedLinear(
            bases,
            [_factors(each) for each in linears],
            dtype=dtype,
            weigh=plain_weight if any(_is_stored_otherwise(each, dtype) for each in bases) else None,
            scratch=scratch,
        )

    for stock in language_model.layers:  # pyright: ignore
        attn, mlp = stock.self_attn, stock.mlp
        query_norm, key_norm = (getattr(attn, name, None) for name in ("q_norm", "k_norm"))
        layers.append(
            FusedLayer(
                norm_D=stock.input_layernorm.weight,
                qkv=folded(attn.q_proj, attn.k_proj, attn.v_proj),
                query_norm_E=None if query_norm is None else query_norm.weight,
                key_norm_E=None if key_norm is None else key_norm.weight,
                o=folded(attn.o_proj),
                feed_norm_D=stock.post_attention_layernorm.weight,
                gate_up=folded(mlp.gate_proj, mlp.up_proj),
                down=folded(mlp.down_proj),
            )
        )
    config: Any = language_model.config
    attend = Attend(
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        scale=float(language_model.layers[0].self_attn.scaling),  # pyright: ignore
        eps=float(config.rms_norm_eps),
    )
    head_width = layers[0].o.num_inputs // attend.num_heads
    return FusedDecoder(layers, attend, _kernels(layers[0].norm_D.device, dtype, head_width))


def rotary_angles(language_model: nn.Module, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Give the cosines and sines of a row's rotary angles, float32[T, E] each, by the model's own module."""
    wide = torch.empty(0, dtype=torch.float32, device=position_ids.device)
    cos, sin = language_model.rotary_emb(wide, position_ids)  # pyright: ignore
    if cos.ndim == 4:  # one table for each axis; the attention picks channels from each
        sections = [*language_model.config.rope_parameters["mrope_section"]] * 2  # pyright: ignore
        cos, sin = (
            torch.cat([part[number % 3] for number, part in enumerate(table.split(sections, dim=-1))], dim=-1)
            for table in (cos, sin)
        )
    return cos[0].float().contiguous(), sin[0].float().contiguous()


def base_linear(linear: Any) -> nn.Module:
    """Return the frozen module under peft's wrapper, if there is one."""
    return linear.base_layer if hasattr(linear, "base_layer") else linear


def _is_stored_otherwise(linear: nn.Module, dtype: torch.dtype) -> bool:
    weight: Any = linear.weight
    packed = getattr(weight, "quant_state", None) is not None or hasattr(getattr(linear, "state", None), "SCB")
    return packed or weight.dtype != dtype


def _factors(linear: Any) -> Factors | None:
    if not getattr(linear, "lora_A", None):
        return None
    (name,) = linear.lora_A
    return Factors(
        a_RI=linear.lora_A[name].weight,
        b_OR=linear.lora_B[name].weight,
        scale=float(linear.scaling[name]),
        dropout=float(getattr(linear.lora_dropout[name], "p", 0.0)),
    )


def _refuse_unknown(stock: Any) -> None:
    """Look at one layer for anything that fused layers do not compute."""
    for name, parameter in stock.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            raise UnsupportedModelError(f"{name} is trained itself")
    for name, module in stock.named_modules():
        if hasattr(module, "modules_to_save"):
            raise UnsupportedModelError(f"{name} is trained in full beside the adapter")
    known = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
    if other := {name for name, _ in stock.named_children()} - known:
        raise UnsupportedModelError(f"a decoder layer has {', '.join(sorted(other))}")
    attn = stock.self_attn
    if other := {name for name, _ in attn.named_children()} - {*NAMES["self_attn"], "q_norm", "k_norm", "rotary_emb"}:
        raise UnsupportedModelError(f"attention has {', '.join(sorted(other))}")
    if getattr(attn, "sliding_window", None) or getattr(attn, "attention_dropout", 0.0):
        raise UnsupportedModelError("attention has a sliding window or dropout")
    if other := {name for name, _ in stock.mlp.named_children()} - {*NAMES["mlp"], "act_fn"}:
        raise UnsupportedModelError(f"the feed-forward has {', '.join(sorted(other))}")
    gate = torch.linspace(-3, 3, 7, dtype=torch.float64)
    if not torch.allclose(stock.mlp.act_fn(gate), nn.functional.silu(gate)):
        raise UnsupportedModelError("the feed-forward's gate is not SiLU")
    for part, names in NAMES.items():
        for name in names:
            _refuse_unknown_adapter(getattr(getattr(stock, part), name), name)


def _refuse_unknown_adapter(linear: Any, name: str) -> None:
    if not getattr(linear, "lora_A", None):
        return
    if len(linear.lora_A) > 1 or linear.disable_adapters or linear.merged:
        raise UnsupportedModelError(f"{name} has several adapters, or one that is merged or off")
    (adapter,) = linear.lora_A
    if adapter in getattr(linear, "lora_variant", {}) or getattr(linear, "use_dora", {}).get(adapter):
        raise UnsupportedModelError(f"{name} has DoRA or another variant of LoRA")
    if linear.lora_B[adapter].bias is not None:
        raise UnsupportedModelError(f"{name}'s adapter has a bias")


def _kernels(device: torch.device, dtype: torch.dtype, head_width: int) -> Any:
    """Choose Triton kernels where the card runs them, plain torch elsewhere."""
    half = dtype in (torch.bfloat16, torch.float16)
    fits = half and head_width in (16, 32, 64, 128)
    if device.type == "cuda" and fits and torch.cuda.get_device_capability(device) >= (8, 0):
        from sightline.models.fused import kernels

        return kernels
    return operations

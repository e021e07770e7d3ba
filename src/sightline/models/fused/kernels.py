"""What a decoder layer does between its matrix products, as Triton kernels: the functions of `operations.py`.

Values are read and written in their own type and computed in float32. No kernel depends on the number of tokens, so a
row of any length runs without compiling anew.

Shapes: T row tokens, D width, F feed-forward width, H heads, G key-value heads, E head width, W = (H + 2 G) E.
"""

# pyright: reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sightline.models.fused.attention import attention, attention_backward

__all__ = [
    "add_norm",
    "attention",
    "attention_backward",
    "dropped",
    "head_norm",
    "head_norm_backward",
    "norm_backward",
    "rotate",
    "swiglu",
    "swiglu_backward",
]


def add_norm(
    hidden_TD: Tensor, delta_TD: Tensor | None, weight_D: Tensor, eps: float, spare: int
) -> tuple[Tensor, Tensor]:
    """See `operations.add_norm`."""
    num_tokens, width = hidden_TD.shape
    total = hidden_TD if delta_TD is None else torch.empty_like(hidden_TD)
    normed = hidden_TD.new_empty(num_tokens, width + spare)
    block = triton.next_power_of_2(width)
    _add_norm[(num_tokens,)](
        hidden_TD,
        hidden_TD if delta_TD is None else delta_TD,
        weight_D,
        total,
        normed,
        width,
        hidden_TD.stride(0),
        normed.stride(0),
        eps,
        ADD=delta_TD is not None,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return total, normed


def norm_backward(
    grad_TD: Tensor, hidden_TD: Tensor, weight_D: Tensor, eps: float, residual_TX: Tensor
) -> tuple[Tensor, Tensor]:
    """See `operations.norm_backward`."""
    num_tokens, width = hidden_TD.shape
    out, normed = torch.empty_like(residual_TX), torch.empty_like(hidden_TD)
    block = triton.next_power_of_2(width)
    _norm_backward[(num_tokens,)](
        grad_TD,
        hidden_TD,
        weight_D,
        residual_TX,
        out,
        normed,
        width,
        grad_TD.stride(0),
        residual_TX.stride(0),
        eps,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return out, normed


def head_norm(values_TW: Tensor, first: int, num_heads: int, weight_E: Tensor, eps: float) -> Tensor:
    """See `operations.head_norm`."""
    num_tokens, width = len(values_TW), len(weight_E)
    before = values_TW.new_empty(num_tokens, num_heads, width)
    _head_norm[(num_tokens,)](
        values_TW,
        before,
        weight_E,
        values_TW.stride(0),
        first,
        num_heads,
        eps,
        E=width,
        HEADS=triton.next_power_of_2(num_heads),
    )
    return before


def head_norm_backward(
    grad_TW: Tensor, first: int, num_heads: int, before_THE: Tensor, weight_E: Tensor, eps: float
) -> None:
    """See `operations.head_norm_backward`."""
    _head_norm_backward[(len(grad_TW),)](
        grad_TW,
        before_THE,
        weight_E,
        grad_TW.stride(0),
        first,
        num_heads,
        eps,
        E=len(weight_E),
        HEADS=triton.next_power_of_2(num_heads),
    )


def rotate(values_TW: Tensor, cos_TE: Tensor, sin_TE: Tensor, num_heads: int, *, backward: bool = False) -> None:
    """See `operations.rotate`."""
    half = cos_TE.shape[1] // 2
    heads = min(8, triton.next_power_of_2(num_heads))
    _rotate[(len(values_TW), triton.cdiv(num_heads, heads))](
        values_TW,
        cos_TE,
        sin_TE,
        values_TW.stride(0),
        num_heads,
        HALF=half,
        HEADS=heads,
        BACKWARD=backward,
    )


def swiglu(gate_up_T2F: Tensor, spare: int) -> Tensor:
    """See `operations.swiglu`."""
    num_tokens, both = gate_up_T2F.shape
    out = gate_up_T2F.new_empty(num_tokens, both // 2 + spare)
    _swiglu[(num_tokens, triton.cdiv(both // 2, _CHUNK))](
        gate_up_T2F, out, both // 2, gate_up_T2F.stride(0), out.stride(0), BLOCK=_CHUNK
    )
    return out


def swiglu_backward(gate_up_T2F: Tensor, grad_TF: Tensor, spare: int) -> tuple[Tensor, Tensor]:
    """See `operations.swiglu_backward`."""
    num_tokens, both = gate_up_T2F.shape
    out = gate_up_T2F.new_empty(num_tokens, both + spare)
    gated = torch.empty_like(grad_TF)
    _swiglu_backward[(num_tokens, triton.cdiv(both // 2, _CHUNK))](
        gate_up_T2F,
        grad_TF,
        out,
        gated,
        both // 2,
        gate_up_T2F.stride(0),
        grad_TF.stride(0),
        out.stride(0),
        BLOCK=_CHUNK,
    )
    return out, gated


def dropped(values_TD: Tensor, share: float, seed: int) -> Tensor:
    """See `operations.dropped`; the draws are Philox's, so they depend on seed and place alone."""
    num_tokens, width = values_TD.shape
    out = values_TD.new_empty(num_tokens, width)
    _dropped[(num_tokens, triton.cdiv(width, _CHUNK))](
        values_TD, out, width, values_TD.stride(0), out.stride(0), share, seed, BLOCK=_CHUNK
    )
    return out


_CHUNK = 2048
"""Columns that one program of an elementwise kernel handles."""


def _warps(block: int) -> int:
    return max(1, min(16, block // 512))


@triton.jit
def _add_norm(
    hidden, delta, weight, total, normed, width, stride, stride_n, eps, ADD: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    x = tl.load(hidden + row * stride + cols, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(delta + row * stride + cols, mask=inside, other=0.0).to(tl.float32)
        stored = x.to(total.dtype.element_ty)
        tl.store(total + row * stride + cols, stored, mask=inside)
        x = stored.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x) / width + eps)
    w = tl.load(weight + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * stride_n + cols, (x * scale * w).to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward(grad, hidden, weight, residual, out, normed, width, stride_g, stride_r, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    x = tl.load(hidden + row * width + cols, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + cols, mask=inside, other=0.0).to(tl.float32)
    scaled = tl.load(grad + row * stride_g + cols, mask=inside, other=0.0).to(tl.float32) * w
    scale = tl.rsqrt(tl.sum(x * x) / width + eps)
    unit = x * scale
    through = scale * (scaled - unit * (tl.sum(scaled * unit) / width))
    kept = tl.load(residual + row * stride_r + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * stride_r + cols, (kept + through).to(out.dtype.element_ty), mask=inside)
    tl.store(normed + row * width + cols, (unit * w).to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _head_norm(values, before, weight, stride, first, num_heads, eps, E: tl.constexpr, HEADS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head, col = tl.arange(0, HEADS)[:, None], tl.arange(0, E)[None]
    inside = head < num_heads
    place = values + row * stride + (first + head) * E + col
    x = tl.load(place, mask=inside, other=0.0)
    tl.store(before + (row * num_heads + head) * E + col, x, mask=inside)
    x = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / E + eps)[:, None]
    y = x * scale * tl.load(weight + tl.arange(0, E)).to(tl.float32)[None]
    tl.store(place, y.to(values.dtype.element_ty), mask=inside)


@triton.jit
def _head_norm_backward(grad, before, weight, stride, first, num_heads, eps, E: tl.constexpr, HEADS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head, col = tl.arange(0, HEADS)[:, None], tl.arange(0, E)[None]
    inside = head < num_heads
    place = grad + row * stride + (first + head) * E + col
    x = tl.load(before + (row * num_heads + head) * E + col, mask=inside, other=0.0).to(tl.float32)
    scaled = tl.load(place, mask=inside, other=0.0).to(tl.float32) * tl.load(weight + tl.arange(0, E)).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / E + eps)[:, None]
    unit = x * scale
    through = scale * (scaled - unit * (tl.sum(scaled * unit, axis=1) / E)[:, None])
    tl.store(place, through.to(grad.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(values, cos, sin, stride, num_heads, HALF: tl.constexpr, HEADS: tl.constexpr, BACKWARD: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    col = tl.arange(0, HALF)
    inside = head < num_heads
    place = values + row * stride + head * (2 * HALF) + col[None]
    lower = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    upper = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    at = row * (2 * HALF) + col
    cos_low, cos_up = tl.load(cos + at)[None], tl.load(cos + at + HALF)[None]
    sin_low, sin_up = tl.load(sin + at)[None], tl.load(sin + at + HALF)[None]
    if BACKWARD:  # the transpose of the forward map
        first = lower * cos_low + upper * sin_up
        second = upper * cos_up - lower * sin_low
    else:
        first = lower * cos_low - upper * sin_low
        second = upper * cos_up + lower * sin_up
    tl.store(place, first.to(values.dtype.element_ty), mask=inside)
    tl.store(place + HALF, second.to(values.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu(gate_up, out, width, stride, stride_o, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    gate = tl.load(gate_up + row * stride + cols, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * stride + width + cols, mask=inside, other=0.0).to(tl.float32)
    gated = gate * tl.sigmoid(gate) * up
    tl.store(out + row * stride_o + cols, gated.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu_backward(gate_up, grad, out, gated, width, stride, stride_g, stride_o, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    gate = tl.load(gate_up + row * stride + cols, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * stride + width + cols, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grad + row * stride_g + cols, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    silu = gate * share
    grad_gate = g * up * share * (1 + gate * (1 - share))
    tl.store(out + row * stride_o + cols, grad_gate.to(out.dtype.element_ty), mask=inside)
    tl.store(out + row * stride_o + width + cols, (g * silu).to(out.dtype.element_ty), mask=inside)
    tl.store(gated + row * stride_g + cols, (silu * up).to(gated.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["seed"])
def _dropped(values, out, width, stride, stride_o, share, seed, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    kept = tl.rand(seed, row * width + cols) >= share
    x = tl.load(values + row * stride + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * stride_o + cols, tl.where(kept, x / (1 - share), 0.0).to(out.dtype.element_ty), mask=inside)

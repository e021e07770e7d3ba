"""What a decoder layer does between its matrix products, in plain torch: for any device, and the kernels' oracle.

`kernels.py` has the same functions for CUDA. A buffer that a product will read has spare columns at its end for the
low-rank factors: X = D + spare; these functions fill the first D.

Shapes: T row tokens, D width, F feed-forward width, H heads, G key-value heads, E head width, W = (H + 2 G) E.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models.fused.layout import TreeLayout


def add_norm(
    hidden_TD: Tensor, delta_TD: Tensor | None, weight_D: Tensor, eps: float, spare: int
) -> tuple[Tensor, Tensor]:
    """Add what the last sublayer made to the residual stream and normalise the sum.

    Returns:
        the sum [T, D], and its RMS norm in a buffer [T, D + spare].
    """
    total = hidden_TD if delta_TD is None else hidden_TD + delta_TD
    normed = total.new_empty(len(total), total.shape[1] + spare)
    normed[:, : total.shape[1]] = _normed(total, weight_D, eps)
    return total, normed


def norm_backward(
    grad_TD: Tensor, hidden_TD: Tensor, weight_D: Tensor, eps: float, residual_TX: Tensor
) -> tuple[Tensor, Tensor]:
    """Pull a gradient back through an RMS norm and add it to the residual stream's.

    Args:
        grad_TD: gradient of the normed values.
        hidden_TD: what was normalised.
        weight_D: of the norm; frozen.
        eps: of the norm.
        residual_TX: gradient of the residual stream after the sublayer, in a buffer with spare columns.

    Returns:
        the residual stream's gradient before the sublayer [T, X], and the normed values [T, D].
    """
    width = hidden_TD.shape[1]
    wide = _wide(hidden_TD)
    rstd = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    scaled = _wide(grad_TD) * _wide(weight_D)
    unit = wide * rstd
    through = rstd * (scaled - unit * (scaled * unit).mean(-1, keepdim=True))
    out = torch.empty_like(residual_TX)
    out[:, :width] = (_wide(residual_TX[:, :width]) + through).to(out.dtype)
    return out, (unit * _wide(weight_D)).to(hidden_TD.dtype)


def head_norm(values_TW: Tensor, first: int, num_heads: int, weight_E: Tensor, eps: float) -> Tensor:
    """Normalise some heads of a projection in place; returns their values before, [T, heads, E]."""
    heads = _heads(values_TW, first, num_heads, len(weight_E))
    before = heads.clone()
    heads.copy_(_normed(before, weight_E, eps))
    return before


def head_norm_backward(
    grad_TW: Tensor, first: int, num_heads: int, before_THE: Tensor, weight_E: Tensor, eps: float
) -> None:
    """Pull the gradient of some heads back through `head_norm`, in place."""
    heads = _heads(grad_TW, first, num_heads, len(weight_E))
    wide = _wide(before_THE)
    rstd = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    scaled, unit = _wide(heads) * _wide(weight_E), wide * rstd
    heads.copy_(rstd * (scaled - unit * (scaled * unit).mean(-1, keepdim=True)))


def rotate(values_TW: Tensor, cos_TE: Tensor, sin_TE: Tensor, num_heads: int, *, backward: bool = False) -> None:
    """Turn the first heads of a projection by their positions, in place (Su et al. 2021); backward turns them back."""
    heads = _heads(values_TW, 0, num_heads, cos_TE.shape[1])
    wide, sin = _wide(heads), sin_TE[:, None]
    lower, upper = (wide * sin if backward else wide).chunk(2, dim=-1)
    turned = torch.cat((upper, -lower), dim=-1) if backward else torch.cat((-upper, lower), dim=-1) * sin
    heads.copy_(wide * cos_TE[:, None] + turned)


def swiglu(gate_up_T2F: Tensor, spare: int) -> Tensor:
    """Gate the feed-forward values: silu(gate) * up, in a buffer [T, F + spare]."""
    gate, up = gate_up_T2F.chunk(2, dim=-1)
    out = gate.new_empty(len(gate), gate.shape[1] + spare)
    out[:, : gate.shape[1]] = F.silu(_wide(gate)) * _wide(up)
    return out


def swiglu_backward(gate_up_T2F: Tensor, grad_TF: Tensor, spare: int) -> tuple[Tensor, Tensor]:
    """Return the gradient of gate and up in a buffer [T, 2 F + spare], and the gated values [T, F]."""
    gate, up = (_wide(part) for part in gate_up_T2F.chunk(2, dim=-1))
    grad, share = _wide(grad_TF), torch.sigmoid(gate)
    width = gate.shape[1]
    out = gate_up_T2F.new_empty(len(gate), 2 * width + spare)
    out[:, :width] = grad * up * share * (1 + gate * (1 - share))
    out[:, width : 2 * width] = grad * gate * share
    return out, (gate * share * up).to(gate_up_T2F.dtype)


def attention(
    values_TW: Tensor, layout: TreeLayout, num_heads: int, num_kv_heads: int, scale: float, spare: int
) -> tuple[Tensor, Tensor]:
    """Attend along the tree.

    Args:
        values_TW: queries, keys and values side by side, already turned.
        layout: the row's rule.
        num_heads: H.
        num_kv_heads: G.
        scale: of the scores.
        spare: columns to leave at the end.

    Returns:
        [T, H E + spare], and the log of each query's summed scores float32[H, T], empty here.
    """
    out_HTE = _attend(values_TW, layout, num_heads, num_kv_heads, scale)
    width = num_heads * out_HTE.shape[-1]
    out = values_TW.new_empty(len(values_TW), width + spare)
    out[:, :width] = out_HTE.transpose(0, 1).flatten(1)
    return out, values_TW.new_empty(0)


def attention_backward(
    grad_TO: Tensor,
    values_TW: Tensor,
    out_TO: Tensor,
    logsum_HT: Tensor,
    layout: TreeLayout,
    num_heads: int,
    num_kv_heads: int,
    scale: float,
    spare: int,
) -> Tensor:
    """Return the gradient of queries, keys and values in a buffer [T, W + spare]; see `attention`."""
    with torch.enable_grad():
        values = values_TW.detach().requires_grad_()
        out_HTE = _attend(values, layout, num_heads, num_kv_heads, scale)
    grad_HTE = grad_TO.unflatten(1, (num_heads, -1)).transpose(0, 1)
    (found,) = torch.autograd.grad(out_HTE, values, grad_HTE)
    grad = values_TW.new_empty(len(values_TW), values_TW.shape[1] + spare)
    grad[:, : values_TW.shape[1]] = found
    return grad


def dropped(values_TD: Tensor, share: float, seed: int) -> Tensor:
    """Set a share of the values to 0 and scale the rest up; the same seed drops the same values."""
    generator = torch.Generator(device=values_TD.device).manual_seed(seed)
    kept = torch.rand(values_TD.shape, generator=generator, device=values_TD.device) >= share
    return values_TD * kept / (1 - share)


def _attend(values_TW: Tensor, layout: TreeLayout, num_heads: int, num_kv_heads: int, scale: float) -> Tensor:
    heads_HTE = values_TW.unflatten(1, (num_heads + 2 * num_kv_heads, -1)).transpose(0, 1)
    query, key, value = heads_HTE.split([num_heads, num_kv_heads, num_kv_heads])
    # Repeated by hand: with a mask, SDPA's own grouping leaves all but its slowest way, which keeps every score.
    key, value = (part.repeat_interleave(num_heads // num_kv_heads, dim=0) for part in (key, value))
    place_T = torch.arange(len(values_TW), device=values_TW.device)
    visible = (place_T[None] <= place_T[:, None]) & (place_T[:, None] < layout.subtree_end_T[None])
    return F.scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=visible[None, None],
        scale=scale,
    )[0]


def _heads(values_TW: Tensor, first: int, num_heads: int, width: int) -> Tensor:
    return values_TW[:, first * width : (first + num_heads) * width].unflatten(1, (num_heads, width))


def _normed(values: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = _wide(values)
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * _wide(weight)).to(values.dtype)


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))

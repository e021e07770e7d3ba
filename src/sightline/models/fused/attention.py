"""Attention along the tree, forward and backward, as Triton kernels over lists of blocks.

The online softmax and the recomputation in the backward pass are FlashAttention-2's (Dao 2023); what is skipped and
what is masked comes from `TreeLayout`. Two backward kernels, one by key block and one by query block, instead of atomic
additions: the same row has the same gradient bits every time.

Shapes: T row tokens, H heads, G key-value heads, E head width, W = (H + 2 G) E, O = H E.
"""

# pyright: reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sightline.models.fused.layout import Tiling, TreeLayout

LOG2_E = 1.4426950408889634


def attention(
    values_TW: Tensor, layout: TreeLayout, num_heads: int, num_kv_heads: int, scale: float, spare: int
) -> tuple[Tensor, Tensor]:
    """See `operations.attention`; the logarithm is to base 2."""
    num_tokens, width = values_TW.shape
    head_width = width // (num_heads + 2 * num_kv_heads)
    out = values_TW.new_empty(num_tokens, num_heads * head_width + spare)
    logsum = torch.empty(num_heads, num_tokens, dtype=torch.float32, device=values_TW.device)
    blocks, tiling = layout.forward, layout.forward.tiling
    _forward[(num_tokens // tiling.query_block, num_heads)](
        values_TW,
        out,
        logsum,
        layout.subtree_end_T,
        blocks.start,
        blocks.middle,
        blocks.partner,
        num_tokens,
        scale * LOG2_E,
        values_TW.stride(0),
        out.stride(0),
        num_heads,
        num_kv_heads,
        **_constants(tiling, head_width),
    )
    return out, logsum


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
    """See `operations.attention_backward`."""
    num_tokens, width = values_TW.shape
    head_width = width // (num_heads + 2 * num_kv_heads)
    grad = values_TW.new_empty(num_tokens, width + spare)
    through = torch.empty_like(logsum_HT)
    _weigh[(num_tokens // 16, num_heads)](
        grad_TO, out_TO, through, num_tokens, grad_TO.stride(0), out_TO.stride(0), E=head_width, M=16, num_warps=1
    )
    strides = values_TW.stride(0), grad_TO.stride(0), grad.stride(0)
    common = (scale * LOG2_E, scale, num_tokens, *strides, num_heads, num_kv_heads)
    read = (values_TW, grad_TO, grad, logsum_HT, through, layout.subtree_end_T)
    blocks, tiling = layout.backward_keys, layout.backward_keys.tiling
    _backward_keys[(num_tokens // tiling.key_block, num_kv_heads)](
        *read, blocks.start, blocks.middle, blocks.partner, *common, **_constants(tiling, head_width)
    )
    blocks, tiling = layout.backward_queries, layout.backward_queries.tiling
    _backward_queries[(num_tokens // tiling.query_block, num_heads)](
        *read, blocks.start, blocks.middle, blocks.partner, *common, **_constants(tiling, head_width)
    )
    return grad


def _constants(tiling: Tiling, head_width: int) -> dict[str, int]:
    return {
        "E": head_width,
        "M": tiling.query_block,
        "N": tiling.key_block,
        "num_warps": tiling.num_warps,
        "num_stages": tiling.num_stages,
    }


@triton.jit
def _forward_block(
    acc, top, total, q, key_at, value_at, place_m, place_n, ends, scale, stride, E: tl.constexpr, MASK: tl.constexpr
):
    col = tl.arange(0, E)
    k = tl.load(key_at + place_n[:, None] * stride + col[None])
    s = tl.dot(q, tl.trans(k)) * scale
    if MASK:
        end = tl.load(ends + place_n)
        s = tl.where((place_n[None] <= place_m[:, None]) & (place_m[:, None] < end[None]), s, -1e30)
    new_top = tl.maximum(top, tl.max(s, axis=1))
    p = tl.exp2(s - new_top[:, None])
    if MASK:  # a query that sees nothing of its first blocks must not count them
        p = tl.where(s > -1e29, p, 0.0)
    fade = tl.exp2(top - new_top)
    total = total * fade + tl.sum(p, axis=1)
    v = tl.load(value_at + place_n[:, None] * stride + col[None, :])
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
    return acc, new_top, total


@triton.jit
def _forward(
    values, out, logsum, ends, start, middle, partner, num_tokens, scale, stride, stride_o, num_heads, num_kv_heads,
    E: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    block, head = tl.program_id(0), tl.program_id(1)
    group = head // (num_heads // num_kv_heads)
    place_m = (block * M + tl.arange(0, M)).to(tl.int64)
    col = tl.arange(0, E)
    q = tl.load(values + place_m[:, None] * stride + head * E + col[None])
    key_at = values + (num_heads + group) * E
    value_at = values + (num_heads + num_kv_heads + group) * E
    acc = tl.zeros([M, E], tl.float32)
    top = tl.full([M], -1e30, tl.float32)
    total = tl.zeros([M], tl.float32)
    first, border, last = tl.load(start + block), tl.load(middle + block), tl.load(start + block + 1)
    for i in range(border, last):
        place_n = (tl.load(partner + i) * N + tl.arange(0, N)).to(tl.int64)
        acc, top, total = _forward_block(
            acc, top, total, q, key_at, value_at, place_m, place_n, ends, scale, stride, E, False
        )
    for i in range(first, border):
        place_n = (tl.load(partner + i) * N + tl.arange(0, N)).to(tl.int64)
        acc, top, total = _forward_block(
            acc, top, total, q, key_at, value_at, place_m, place_n, ends, scale, stride, E, True
        )
    acc = acc / total[:, None]
    tl.store(out + place_m[:, None] * stride_o + head * E + col[None], acc.to(out.dtype.element_ty))
    tl.store(logsum + head * num_tokens + place_m, top + tl.log2(total))


@triton.jit
def _weigh(grad, out, through, num_tokens, stride_g, stride_o, E: tl.constexpr, M: tl.constexpr):
    head = tl.program_id(1)
    place = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    col = head * E + tl.arange(0, E)
    g = tl.load(grad + place[:, None] * stride_g + col[None]).to(tl.float32)
    o = tl.load(out + place[:, None] * stride_o + col[None]).to(tl.float32)
    tl.store(through + head * num_tokens + place, tl.sum(g * o, axis=1))


@triton.jit
def _key_block(
    dk, dv, k, v, query_at, grad_at, logsum_at, through_at, place_m, place_n, end, scale, stride, stride_g,
    E: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    col = tl.arange(0, E)
    q = tl.load(query_at + place_m[:, None] * stride + col[None])
    s = tl.dot(k, tl.trans(q)) * scale
    p = tl.exp2(s - tl.load(logsum_at + place_m)[None])
    if MASK:
        p = tl.where((place_n[:, None] <= place_m[None]) & (place_m[None] < end[:, None]), p, 0.0)
    g = tl.load(grad_at + place_m[:, None] * stride_g + col[None])
    dv = tl.dot(p.to(g.dtype), g, dv)
    ds = p * (tl.dot(v, tl.trans(g)) - tl.load(through_at + place_m)[None])
    dk = tl.dot(ds.to(q.dtype), q, dk)
    return dk, dv


@triton.jit
def _backward_keys(
    values, grad_out, grad, logsum, through, ends, start, middle, partner, scale, plain_scale, num_tokens, stride,
    stride_g, stride_d, num_heads, num_kv_heads, E: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    block, group = tl.program_id(0), tl.program_id(1)
    place_n = (block * N + tl.arange(0, N)).to(tl.int64)
    col = tl.arange(0, E)
    key_col = (num_heads + group) * E
    value_col = (num_heads + num_kv_heads + group) * E
    k = tl.load(values + place_n[:, None] * stride + key_col + col[None])
    v = tl.load(values + place_n[:, None] * stride + value_col + col[None])
    end = tl.load(ends + place_n)
    dk = tl.zeros([N, E], tl.float32)
    dv = tl.zeros([N, E], tl.float32)
    per_group = num_heads // num_kv_heads
    first, border, last = tl.load(start + block), tl.load(middle + block), tl.load(start + block + 1)
    for head in range(group * per_group, (group + 1) * per_group):
        query_at, grad_at = values + head * E, grad_out + head * E
        logsum_at, through_at = logsum + head * num_tokens, through + head * num_tokens
        for i in range(border, last):
            place_m = (tl.load(partner + i) * M + tl.arange(0, M)).to(tl.int64)
            dk, dv = _key_block(
                dk, dv, k, v, query_at, grad_at, logsum_at, through_at, place_m, place_n, end, scale, stride, stride_g,
                E, False,
            )  # fmt: skip
        for i in range(first, border):
            place_m = (tl.load(partner + i) * M + tl.arange(0, M)).to(tl.int64)
            dk, dv = _key_block(
                dk, dv, k, v, query_at, grad_at, logsum_at, through_at, place_m, place_n, end, scale, stride, stride_g,
                E, True,
            )  # fmt: skip
    place = grad + place_n[:, None] * stride_d + col[None]
    tl.store(place + key_col, (dk * plain_scale).to(grad.dtype.element_ty))
    tl.store(place + value_col, dv.to(grad.dtype.element_ty))


@triton.jit
def _query_block(
    dq,
    q,
    g,
    logsum_m,
    through_m,
    key_at,
    value_at,
    place_m,
    place_n,
    ends,
    scale,
    stride,
    E: tl.constexpr,
    MASK: tl.constexpr,
):
    col = tl.arange(0, E)
    k = tl.load(key_at + place_n[:, None] * stride + col[None])
    v = tl.load(value_at + place_n[:, None] * stride + col[None])
    p = tl.exp2(tl.dot(q, tl.trans(k)) * scale - logsum_m[:, None])
    if MASK:
        end = tl.load(ends + place_n)
        p = tl.where((place_n[None] <= place_m[:, None]) & (place_m[:, None] < end[None]), p, 0.0)
    ds = p * (tl.dot(g, tl.trans(v)) - through_m[:, None])
    return tl.dot(ds.to(k.dtype), k, dq)


@triton.jit
def _backward_queries(
    values, grad_out, grad, logsum, through, ends, start, middle, partner, scale, plain_scale, num_tokens, stride,
    stride_g, stride_d, num_heads, num_kv_heads, E: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    block, head = tl.program_id(0), tl.program_id(1)
    group = head // (num_heads // num_kv_heads)
    place_m = (block * M + tl.arange(0, M)).to(tl.int64)
    col = tl.arange(0, E)
    q = tl.load(values + place_m[:, None] * stride + head * E + col[None])
    g = tl.load(grad_out + place_m[:, None] * stride_g + head * E + col[None])
    logsum_m = tl.load(logsum + head * num_tokens + place_m)
    through_m = tl.load(through + head * num_tokens + place_m)
    key_at = values + (num_heads + group) * E
    value_at = values + (num_heads + num_kv_heads + group) * E
    dq = tl.zeros([M, E], tl.float32)
    first, border, last = tl.load(start + block), tl.load(middle + block), tl.load(start + block + 1)
    for i in range(border, last):
        place_n = (tl.load(partner + i) * N + tl.arange(0, N)).to(tl.int64)
        dq = _query_block(
            dq, q, g, logsum_m, through_m, key_at, value_at, place_m, place_n, ends, scale, stride, E, False
        )
    for i in range(first, border):
        place_n = (tl.load(partner + i) * N + tl.arange(0, N)).to(tl.int64)
        dq = _query_block(
            dq, q, g, logsum_m, through_m, key_at, value_at, place_m, place_n, ends, scale, stride, E, True
        )
    tl.store(grad + place_m[:, None] * stride_d + head * E + col[None], (dq * plain_scale).to(grad.dtype.element_ty))

"""A language model's layers as one differentiable function, written out by hand: few passes over memory, no graph.

What a backward pass needs is kept layer by layer; what is cheap to make again (norms, gated values) is not kept. Only
frozen weights and LoRA factors are known here; anything else is left to the stock modules.

Shapes: T row tokens, S rows that are asked for, D width, F feed-forward width, H heads, G key-value heads, E head
width, W = (H + 2 G) E; a letter X or Y marks a buffer with spare columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from sightline.models.fused import operations
from sightline.models.fused.layout import TreeLayout
from sightline.models.fused.weights import FoldedLinear
from sightline.models.offload import to_host


@dataclass(slots=True, kw_only=True)
class FusedLayer:
    """One decoder layer: norm, attention, norm, gated feed-forward.

    Args:
        norm_D: weight of the norm before attention.
        qkv: query, key and value projections.
        query_norm_E: weight of the norm over each query head, in models that have one.
        key_norm_E: likewise for keys.
        o: output projection.
        feed_norm_D: weight of the norm before the feed-forward.
        gate_up: gate and up projections.
        down: down projection.
    """

    norm_D: Tensor
    qkv: FoldedLinear
    query_norm_E: Tensor | None
    key_norm_E: Tensor | None
    o: FoldedLinear
    feed_norm_D: Tensor
    gate_up: FoldedLinear
    down: FoldedLinear

    @property
    def linears(self) -> tuple[FoldedLinear, FoldedLinear, FoldedLinear, FoldedLinear]:
        """All four matrices, in the order of the forward pass."""
        return self.qkv, self.o, self.gate_up, self.down


@dataclass(frozen=True, slots=True, kw_only=True)
class Attend:
    """How a layer attends.

    Args:
        num_heads: H.
        num_kv_heads: G.
        scale: of the scores.
        eps: of the norms.
    """

    num_heads: int
    num_kv_heads: int
    scale: float
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedInputs:
    """What the layers are given with a row.

    Args:
        layout: its attention rule.
        cos_TE: float32, cosines of the rotary angles.
        sin_TE: float32, their sines.
        asked_S: int64[S], the tokens whose outputs are wanted.
        extra: (places, features [places, D]) to be added after a layer, by the layer's number.
        seeds: of the dropout, one per layer and matrix; empty where nothing is dropped.
        recompute: keep only what enters each layer, and compute the rest again for the backward pass.
        offload: what is kept for the backward pass waits in host memory.
    """

    layout: TreeLayout
    cos_TE: Tensor
    sin_TE: Tensor
    asked_S: Tensor
    extra: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    recompute: bool = False
    offload: bool = False


@dataclass(slots=True, eq=False)
class _Kept:
    """What one layer's backward pass needs."""

    hidden_TD: Tensor
    values_TW: Tensor | None = None
    before_heads: tuple[Tensor, ...] = ()
    attended_TX: Tensor | None = None
    logsum_HT: Tensor | None = None
    middle_TD: Tensor | None = None
    gate_up_T2F: Tensor | None = None
    inner: list[Tensor] = field(default_factory=list)

    def moved(self, move: Callable[[Tensor], Tensor]) -> _Kept:
        """Have every tensor moved."""

        def each(value: Any) -> Any:
            if isinstance(value, Tensor):
                return move(value)
            return type(value)(map(move, value)) if value else value

        return _Kept(**{part.name: each(getattr(self, part.name)) for part in fields(self)})


class FusedDecoder:
    """A decoder's layers.

    Args:
        layers: first to last.
        attend: how they attend.
        kernels: the module with the functions of `operations`; plain torch by default.
    """

    def __init__(self, layers: Sequence[FusedLayer], attend: Attend, kernels: Any = operations) -> None:
        self.layers, self.attend, self.kernels = list(layers), attend, kernels

    @property
    def parameters(self) -> list[nn.Parameter | None]:
        """Every factor, A then B, layer by layer and matrix by matrix; None where a linear has no adapter."""
        return [
            parameter
            for layer in self.layers
            for linear in layer.linears
            for each in linear.factors
            for parameter in ((each.a_RI, each.b_OR) if each else (None, None))
        ]

    @property
    def holds_its_weights(self) -> bool:
        """Whether the stock modules still read the buffers' memory, so that both are one model."""
        return all(linear.is_shared for layer in self.layers for linear in layer.linears)

    @property
    def drops(self) -> bool:
        """Whether any adapter drops inputs in training."""
        return any(linear.dropout for layer in self.layers for linear in layer.linears)

    def __call__(
        self, embeddings_TD: Tensor, given: FusedInputs, keep_keys: Callable[[int, Tensor, Tensor], None] | None = None
    ) -> Tensor:
        """Run the layers over a row.

        Args:
            embeddings_TD: what enters the first layer.
            given: see `FusedInputs`.
            keep_keys: called with each layer's number, keys [T, G, E] and values [T, G, E], for a cache.

        Returns:
            the residual stream after the last layer at the tokens asked for, [S, D]; differentiable with respect to
            the embeddings, the extra features and the factors.
        """
        for layer in self.layers:
            for linear in layer.linears:
                if linear.weigh is None:
                    linear.refresh()
        features = [feature for _, feature in given.extra.values()]
        if torch.is_grad_enabled() and keep_keys is None:  # what fills a cache is not trained
            return _Run.apply(self, given, len(features), embeddings_TD, *features, *self.parameters)  # pyright: ignore
        return self.forward(embeddings_TD, given, features, None, keep_keys)

    def forward(
        self,
        hidden_TD: Tensor,
        given: FusedInputs,
        features: Sequence[Tensor],
        kept: list[_Kept] | None,
        keep_keys: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Compute the residual stream at the tokens asked for, appending what a backward pass needs to `kept`."""
        delta_TD = None
        added = dict(zip(given.extra, features, strict=True))
        for number in range(len(self.layers)):
            hidden_TD, delta_TD, of_layer = self._layer(number, hidden_TD, delta_TD, given, keep_keys)
            if number in added:
                delta_TD.index_add_(0, given.extra[number][0], added[number].to(delta_TD.dtype))
            if kept is not None:
                of_layer = _Kept(hidden_TD=of_layer.hidden_TD) if given.recompute else of_layer
                kept.append(of_layer.moved(to_host) if given.offload else of_layer)
        assert delta_TD is not None
        out_TD = hidden_TD + delta_TD
        return out_TD if self._narrows(len(self.layers) - 1, given) else out_TD.index_select(0, given.asked_S)

    def _narrows(self, number: int, given: FusedInputs) -> bool:
        """Say whether a layer goes on with the tokens asked for alone, once keys and values of all are there."""
        return number == len(self.layers) - 1 and number not in given.extra

    def _layer(
        self,
        number: int,
        hidden_TD: Tensor,
        delta_TD: Tensor | None,
        given: FusedInputs,
        keep_keys: Callable[[int, Tensor, Tensor], None] | None,
    ) -> tuple[Tensor, Tensor, _Kept]:
        """Run one layer: what is in the stream before its last sublayer, what that one adds, and what is kept."""
        layer, attend, ops = self.layers[number], self.attend, self.kernels
        heads, kv_heads = attend.num_heads, attend.num_kv_heads
        hidden_TD, normed_TX = ops.add_norm(hidden_TD, delta_TD, layer.norm_D, attend.eps, layer.qkv.spare)
        kept = _Kept(hidden_TD=hidden_TD)
        values_TW = self._project(number, 0, normed_TX, given, kept)
        if layer.query_norm_E is not None and layer.key_norm_E is not None:
            kept.before_heads = (
                ops.head_norm(values_TW, 0, heads, layer.query_norm_E, attend.eps),
                ops.head_norm(values_TW, heads, kv_heads, layer.key_norm_E, attend.eps),
            )
        ops.rotate(values_TW, given.cos_TE, given.sin_TE, heads + kv_heads)
        if keep_keys is not None:
            parts = values_TW.unflatten(1, (heads + 2 * kv_heads, -1)).split([heads, kv_heads, kv_heads], dim=1)
            keep_keys(number, parts[1], parts[2])
        attended_TX, kept.logsum_HT = ops.attention(
            values_TW, given.layout, heads, kv_heads, attend.scale, layer.o.spare
        )
        kept.values_TW, kept.attended_TX = values_TW, attended_TX
        if self._narrows(number, given):
            hidden_TD, attended_TX = (each.index_select(0, given.asked_S) for each in (hidden_TD, attended_TX))
        out_TD = self._project(number, 1, attended_TX, given, kept)
        middle_TD, normed_TX = ops.add_norm(hidden_TD, out_TD, layer.feed_norm_D, attend.eps, layer.gate_up.spare)
        gate_up_T2F = self._project(number, 2, normed_TX, given, kept)
        gated_TX = ops.swiglu(gate_up_T2F, layer.down.spare)
        delta_TD = self._project(number, 3, gated_TX, given, kept)
        kept.middle_TD, kept.gate_up_T2F = middle_TD, gate_up_T2F
        return middle_TD, delta_TD, kept

    def _project(self, number: int, which: int, x_TX: Tensor, given: FusedInputs, kept: _Kept) -> Tensor:
        linear = self.layers[number].linears[which]
        seed = self._seed(number, which, given)
        read = None if seed is None else self.kernels.dropped(x_TX[:, : linear.num_inputs], linear.dropout, seed)
        out, inner_TS = linear.project(x_TX, read)
        kept.inner.append(inner_TS.clone())  # without the rest of the buffer, which need not stay
        return out

    def _seed(self, number: int, which: int, given: FusedInputs) -> int | None:
        return given.seeds[4 * number + which] if given.seeds and self.layers[number].linears[which].dropout else None

    def backward(
        self, grad_SD: Tensor, given: FusedInputs, kept: list[_Kept], *, needed: bool
    ) -> tuple[Tensor | None, dict[int, Tensor], list[Tensor | None]]:
        """Return the gradients of embeddings, of extra features by layer, and of `parameters`.

        Args:
            grad_SD: gradient of what `forward` returned.
            given: as given to `forward`.
            kept: as `forward` left it; emptied.
            needed: whether the embeddings' gradient is wanted.
        """
        last = len(self.layers) - 1
        grad_TX = _with_spare(grad_SD, self.layers[-1].down.spare)
        if not self._narrows(last, given):
            grad_TX = _spread(grad_TX, given.asked_S, len(kept[-1].hidden_TD))
        of_features: dict[int, Tensor] = {}
        of_factors: list[list[Tensor | None]] = []
        for number in reversed(range(len(self.layers))):
            if number in given.extra:
                of_features[number] = grad_TX[:, : grad_SD.shape[1]].index_select(0, given.extra[number][0])
            of_layer = kept.pop()
            if given.offload:
                of_layer = of_layer.moved(lambda tensor: tensor.to(grad_SD.device, non_blocking=True))
            if of_layer.values_TW is None:
                _, _, of_layer = self._layer(number, of_layer.hidden_TD, None, given, None)
            grad_TX, found = self._layer_backward(number, grad_TX, given, of_layer, needed or number > 0)
            of_factors.append(found)
        embeddings = grad_TX[:, : grad_SD.shape[1]] if needed else None
        return embeddings, of_features, [each for found in reversed(of_factors) for each in found]

    def _layer_backward(
        self, number: int, grad_TX: Tensor, given: FusedInputs, kept: _Kept, needed: bool
    ) -> tuple[Tensor, list[Tensor | None]]:
        layer, attend, ops = self.layers[number], self.attend, self.kernels
        heads, kv_heads = attend.num_heads, attend.num_kv_heads
        assert kept.values_TW is not None and kept.attended_TX is not None and kept.logsum_HT is not None
        assert kept.middle_TD is not None and kept.gate_up_T2F is not None
        narrows = self._narrows(number, given)
        grad_TF = self._pull_back(number, 3, grad_TX, given)
        grad_gate_up, gated_TF = ops.swiglu_backward(kept.gate_up_T2F, grad_TF, layer.gate_up.spare)
        of_down = self._factors(number, 3, grad_TX, gated_TF, given, kept)
        kept.gate_up_T2F = None
        grad_TD = self._pull_back(number, 2, grad_gate_up, given)
        grad_TX, normed_TD = ops.norm_backward(grad_TD, kept.middle_TD, layer.feed_norm_D, attend.eps, grad_TX)
        of_gate_up = self._factors(number, 2, grad_gate_up, normed_TD, given, kept)
        del grad_gate_up, normed_TD, grad_TF, gated_TF
        grad_TX = _respaced(grad_TX, layer.o)
        grad_TO = self._pull_back(number, 1, grad_TX, given)
        assert grad_TO is not None
        attended_TO = kept.attended_TX[:, : layer.o.num_inputs]
        read_TO = attended_TO.index_select(0, given.asked_S) if narrows else attended_TO
        of_o = self._factors(number, 1, grad_TX, read_TO, given, kept)
        if narrows:  # all other tokens of the last layer matter through their keys and values only
            grad_TO = _spread(grad_TO, given.asked_S, len(attended_TO))
            grad_TX = _spread(grad_TX, given.asked_S, len(attended_TO))
        grad_TY = ops.attention_backward(
            grad_TO, kept.values_TW, kept.attended_TX, kept.logsum_HT, given.layout, heads, kv_heads, attend.scale,
            layer.qkv.spare,
        )  # fmt: skip
        ops.rotate(grad_TY, given.cos_TE, given.sin_TE, heads + kv_heads, backward=True)
        if kept.before_heads and layer.query_norm_E is not None and layer.key_norm_E is not None:
            ops.head_norm_backward(grad_TY, 0, heads, kept.before_heads[0], layer.query_norm_E, attend.eps)
            ops.head_norm_backward(grad_TY, heads, kv_heads, kept.before_heads[1], layer.key_norm_E, attend.eps)
        grad_TD = self._pull_back(number, 0, grad_TY, given, needed=needed)
        if grad_TD is None:  # nothing below is trained; the adapter still reads the normed values
            _, normed_TX = ops.add_norm(kept.hidden_TD, None, layer.norm_D, attend.eps, 0)
            return grad_TX, [*self._factors(number, 0, grad_TY, normed_TX, given, kept), *of_o, *of_gate_up, *of_down]
        grad_TX = _respaced(grad_TX, self.layers[max(number - 1, 0)].down)
        grad_TX, normed_TD = ops.norm_backward(grad_TD, kept.hidden_TD, layer.norm_D, attend.eps, grad_TX)
        of_qkv = self._factors(number, 0, grad_TY, normed_TD, given, kept)
        return grad_TX, [*of_qkv, *of_o, *of_gate_up, *of_down]

    def _pull_back(
        self, number: int, which: int, grad_TY: Tensor, given: FusedInputs, *, needed: bool = True
    ) -> Tensor | None:
        linear, seed = self.layers[number].linears[which], self._seed(number, which, given)
        if seed is None:
            return linear.pull_back(grad_TY, needed=needed)
        return linear.pull_back(
            grad_TY, mixed=lambda grad: self.kernels.dropped(grad, linear.dropout, seed), needed=needed
        )

    def _factors(
        self, number: int, which: int, grad_TY: Tensor, read_TI: Tensor, given: FusedInputs, kept: _Kept
    ) -> list[Tensor | None]:
        linear, seed = self.layers[number].linears[which], self._seed(number, which, given)
        if seed is not None:
            read_TI = self.kernels.dropped(read_TI, linear.dropout, seed)
        return linear.factor_gradients(grad_TY, read_TI, kept.inner[which])


class _Run(torch.autograd.Function):
    """The layers as one node of autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, decoder: FusedDecoder, given: FusedInputs, num_features: int, hidden_TD: Tensor, *rest: Tensor
    ):
        ctx.decoder, ctx.given, ctx.num_features, ctx.kept = decoder, given, num_features, []
        return decoder.forward(hidden_TD, given, rest[:num_features], ctx.kept)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor):  # pyright: ignore
        embeddings, of_features, of_factors = ctx.decoder.backward(
            grad_SD, ctx.given, ctx.kept, needed=ctx.needs_input_grad[3]
        )
        features = [of_features[number] for number in ctx.given.extra]
        return None, None, None, embeddings, *features, *of_factors


def _with_spare(values_TD: Tensor, spare: int) -> Tensor:
    out = values_TD.new_empty(len(values_TD), values_TD.shape[1] + spare)
    out[:, : values_TD.shape[1]] = values_TD
    return out


def _respaced(grad_TX: Tensor, linear: FoldedLinear) -> Tensor:
    """Give a gradient the spare columns that the next product's factors need; most often it has them."""
    if grad_TX.shape[1] == linear.num_outputs + linear.spare:
        return grad_TX
    return _with_spare(grad_TX[:, : linear.num_outputs], linear.spare)


def _spread(values_SD: Tensor, places_S: Tensor, num_tokens: int) -> Tensor:
    """Put rows into their places among zeros."""
    return values_SD.new_zeros(num_tokens, values_SD.shape[1]).index_copy_(0, places_S, values_SD)

"""Frozen weights with their low-rank factors folded in, so that LoRA is part of one large matrix product.

A buffer holds, for linears that read the same input,

    [ W   s B ]      W: the frozen weights, one linear below the other
    [ A    0  ]      A, B: the factors, s their scale

Forward, `y = [x | x A^T] [W | s B]^T` reads its upper rows; backward, `dx = [dy | dy s B] [W ; A]` its left columns.

Shapes: T row tokens, I inputs, O outputs of all the linears together, S spare rows and columns, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SPARE = 64
"""Spare rows and columns come in multiples of this many, as the matrix units like them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """One linear's adapter.

    Args:
        a_RI: its first factor, float32 where it is trained in half precision.
        b_OR: its second factor, likewise.
        scale: of the update.
        dropout: share of the adapter's inputs set to 0 in training.
    """

    a_RI: nn.Parameter
    b_OR: nn.Parameter
    scale: float
    dropout: float


class FoldedLinear:
    """Linears that share an input, as one matrix.

    Args:
        linears: the frozen modules, with `weight` [outputs, I]; the weights become views of the buffer.
        factors: each linear's adapter, or None.
        weigh: gives a linear's weight in the type to compute in where it is stored otherwise (quantised); the buffer
            is then made anew for every use, in `scratch`.
        scratch: buffers by shape, shared among layers.
    """

    def __init__(
        self,
        linears: Sequence[nn.Module],
        factors: Sequence[Factors | None],
        *,
        dtype: torch.dtype,
        weigh: Callable[[nn.Module, torch.dtype], Tensor] | None = None,
        scratch: dict[tuple[int, int], Tensor] | None = None,
    ) -> None:
        self.linears, self.factors = list(linears), list(factors)
        self.weigh = weigh
        self.widths: list[int] = [int(linear.out_features) for linear in linears]  # pyright: ignore
        self.num_inputs = int(linears[0].in_features)  # pyright: ignore
        self.num_outputs = sum(self.widths)
        self.has_bias = any(linear.bias is not None for linear in linears)
        rank = sum(len(each.a_RI) for each in factors if each)
        self.bias_column = rank
        self.spare = -(-max(1, rank + self.has_bias) // SPARE) * SPARE
        self.dropout = max((each.dropout for each in factors if each), default=0.0)
        shape = (self.num_outputs + self.spare, self.num_inputs + self.spare)
        device = next(linears[0].parameters()).device
        if weigh is None:
            self.buffer = torch.zeros(shape, dtype=dtype, device=device)
            for linear, rows in zip(self.linears, self._rows(), strict=True):
                with torch.no_grad():
                    self.buffer[rows, : self.num_inputs].copy_(linear.weight)  # pyright: ignore
                # The stock module reads the same memory from now on.
                linear.weight = nn.Parameter(self.buffer[rows, : self.num_inputs], requires_grad=False)
        else:
            assert scratch is not None
            if shape not in scratch:
                scratch[shape] = torch.zeros(shape, dtype=dtype, device=device)
            self.buffer = scratch[shape]
        self._places = self._factor_places()

    @property
    def is_shared(self) -> bool:
        """Whether the frozen modules' weights are still views of the buffer; quantised ones never are."""
        if self.weigh is not None:
            return True
        row_bytes = self.buffer.stride(0) * self.buffer.element_size()
        return all(
            linear.weight.data_ptr() == self.buffer.data_ptr() + rows.start * row_bytes  # pyright: ignore
            for linear, rows in zip(self.linears, self._rows(), strict=True)
        )

    def _factor_places(self) -> list[tuple[Factors, Tensor, Tensor]]:
        """Find where in the buffer each adapter's factors go: A and B. Once, as `refresh` has no time for slicing."""
        places, rank = [], 0
        for each, rows in zip(self.factors, self._rows(), strict=True):
            if each:
                own = slice(rank, rank + len(each.a_RI))
                below = self.buffer[self.num_outputs :, : self.num_inputs][own]
                places.append((each, below, self.buffer[rows, self.num_inputs :][:, own]))
                rank = own.stop
        return places

    def _rows(self) -> list[slice]:
        starts = [sum(self.widths[:number]) for number in range(len(self.widths))]
        return [slice(start, start + width) for start, width in zip(starts, self.widths, strict=True)]

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the factors, which the optimizer has changed, into the buffer."""
        inputs, outputs = self.num_inputs, self.num_outputs
        if self.weigh is not None:  # another layer may have used it since
            self.buffer[outputs:, :inputs].zero_()
            self.buffer[:outputs, inputs:].zero_()
            for linear, rows in zip(self.linears, self._rows(), strict=True):
                self.buffer[rows, :inputs].copy_(self.weigh(linear, self.buffer.dtype))
        if self.has_bias:
            for linear, rows in zip(self.linears, self._rows(), strict=True):
                if linear.bias is not None:
                    self.buffer[rows, inputs + self.bias_column].copy_(linear.bias)  # pyright: ignore
        for each, a_place, b_place in self._places:
            a_place.copy_(each.a_RI)
            torch.mul(each.b_OR, each.scale, out=b_place)

    def project(self, x_TX: Tensor, adapter_input_TI: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the linears and their adapters.

        Args:
            x_TX: the input in its first I columns; the spare ones are filled here.
            adapter_input_TI: what the adapter reads, where dropout makes it another; the input itself by default.

        Returns:
            [T, O], and the adapter's inner values [T, S], which `pull_back` needs.
        """
        if self.weigh is not None:
            self.refresh()
        inner_TS = x_TX[:, self.num_inputs :]
        read = x_TX[:, : self.num_inputs] if adapter_input_TI is None else adapter_input_TI
        torch.mm(read, self.buffer[self.num_outputs :, : self.num_inputs].t(), out=inner_TS)
        if self.has_bias:
            inner_TS[:, self.bias_column] = 1
        return torch.mm(x_TX, self.buffer[: self.num_outputs].t()), inner_TS

    def pull_back(
        self, grad_TY: Tensor, *, mixed: Callable[[Tensor], Tensor] | None = None, needed: bool = True
    ) -> Tensor | None:
        """Give the input's gradient.

        Args:
            grad_TY: gradient of the outputs in its first O columns; the spare ones are filled here, and
                `factor_gradients` reads them.
            mixed: drops the same values of a gradient as were dropped of the adapter's input; None without dropout.
            needed: whether anything below is trained.

        Returns:
            [T, I], or None if not needed.
        """
        if self.weigh is not None:
            self.refresh()
        inputs, outputs = self.num_inputs, self.num_outputs
        torch.mm(grad_TY[:, :outputs], self.buffer[:outputs, inputs:], out=grad_TY[:, outputs:])
        if self.has_bias:  # it has no input to pass on to, and may be too large for half precision
            grad_TY[:, outputs + self.bias_column] = 0
        if not needed:
            return None
        if mixed is None:
            return torch.mm(grad_TY, self.buffer[:, :inputs])
        through = mixed(torch.mm(grad_TY[:, outputs:], self.buffer[outputs:, :inputs]))
        return torch.mm(grad_TY[:, :outputs], self.buffer[:outputs, :inputs]).add_(through)

    def factor_gradients(self, grad_TY: Tensor, read_TI: Tensor, inner_TS: Tensor) -> list[Tensor | None]:
        """Give the gradients of each linear's factors, A then B, in float32; None where a linear has no adapter.

        Args:
            grad_TY: as `pull_back` left it.
            read_TI: what the adapter read.
            inner_TS: as `project` gave it.
        """
        if not any(self.factors):
            return [None] * (2 * len(self.factors))
        outputs = self.num_outputs
        grad_a = _product(grad_TY[:, outputs:].t(), read_TI)
        found: list[Tensor | None] = []
        rank = 0
        for each, rows in zip(self.factors, self._rows(), strict=True):
            if each is None:
                found += [None, None]
                continue
            own = slice(rank, rank + len(each.a_RI))
            grad_b = _product(grad_TY[:, rows].t(), inner_TS[:, own])
            found += [grad_a[own].to(each.a_RI.dtype), (grad_b * each.scale).to(each.b_OR.dtype)]
            rank = own.stop
        return found


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply into float32 where the device can do so in one go."""
    if left.device.type == "cuda" and left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return torch.mm(left, right)

"""Between device and host: activations that wait in host memory for the backward pass, values that are read later.

On a CPU they are there already: nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def to_host(tensor: Tensor) -> Tensor:
    """Copy a tensor to pinned memory; the device goes on with its next work once the copy has been read."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def read_later(values: Tensor) -> Callable[[], list[Any]]:
    """Start to copy values to the host; what is returned waits for them, but for nothing the device was given since."""
    there = to_host(values)
    arrived = torch.cuda.current_stream(values.device).record_event() if values.device.type == "cuda" else None

    def read() -> list[Any]:
        if arrived is not None:
            arrived.synchronize()
        return there.tolist()

    return read


@contextmanager
def saved_on_host(module: nn.Module) -> Iterator[None]:
    """Keep on the host what stock modules save for their backward pass inside; their weights stay where they are."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        stays = tensor.untyped_storage().data_ptr() in weights  # a view of a weight is saved as often as the weight
        return tensor.device, tensor if stays else to_host(tensor)

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=True)

    with saved_tensors_hooks(pack, unpack):
        yield

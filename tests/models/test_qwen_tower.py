"""All windows at once: what the stock tower computes window by window, with gradients, and without a trace left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.data.pictures import open_picture
from sightline.models.qwen_tower import windows_at_once
from tiny_families import QWENS, noise, random_model


def seen(tower: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    output: Any = tower(inputs["pixel_values"].double(), grid_thw=inputs["image_grid_thw"], return_dict=True)
    return output.pooler_output, *(getattr(output, "deepstack_features", None) or ())


@pytest.mark.parametrize("name", QWENS)
def test_windows_at_once_are_the_stock_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = random_model(name)
    tower: Any = loaded.inner.model.visual  # pyright: ignore
    windows: list[int] = []
    attention = next(module for module in tower.modules() if type(module).__name__.endswith("VisionAttention"))
    attention.register_forward_pre_hook(
        lambda _, args, more: windows.append(len(more["cu_seqlens"]) - 1), with_kwargs=True
    )
    tower.requires_grad_(True)
    # A picture that does not fill its last windows.
    inputs = loaded.family.picture_inputs(open_picture(noise(1, 40, 24)))
    found: dict[str, list[Tensor]] = {}
    for how in ("stock", "at once"):
        tower.zero_grad()
        if how == "stock":
            values = seen(tower, inputs)
        else:
            with windows_at_once(tower):
                assert "forward" in attention.__dict__
                values = seen(tower, inputs)
        sum(value.sin().sum() for value in values).backward()  # pyright: ignore
        found[how] = [
            *values,
            *(parameter.grad.clone() for parameter in tower.parameters() if parameter.grad is not None),
        ]
    assert len(found["stock"]) == len(found["at once"]) > 20
    for ours, stock in zip(found["at once"], found["stock"], strict=True):
        # The rotary angles make float32 of it on both sides.
        torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    assert windows[0] == windows[1] and (windows[0] > 1 or name != "qwen2_5_vl")
    assert "forward" not in attention.__dict__

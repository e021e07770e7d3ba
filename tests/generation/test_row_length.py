"""How many tokens a row of prompts has by default."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from sightline.generation.answering import CPU_ROW, GPU_ROW, row_length


def seven_billion(device: str) -> SimpleNamespace:
    """What `row_length` looks at of LLaVA-1.5-7B: 14 GB of weights, 512 KiB of keys and values a token."""
    config = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32)
    weight = nn.Parameter(torch.empty(7 * 10**9, dtype=torch.bfloat16, device="meta"), requires_grad=False)
    return SimpleNamespace(
        device=torch.device(device),
        dtype=torch.bfloat16,
        inner=SimpleNamespace(parameters=lambda: iter([weight])),
        family=SimpleNamespace(language_model=lambda _: SimpleNamespace(config=config)),
    )


@pytest.mark.parametrize(
    ("gigabytes", "tokens"),
    [(141, GPU_ROW), (24, 4096), (16, CPU_ROW), (1000, GPU_ROW)],  # (24 - 14) / 4 GB hold 4,768 tokens
)
def test_a_rows_keys_and_values_take_a_share_of_the_cards_memory(gigabytes: int, tokens: int, monkeypatch) -> None:
    card = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert row_length(seven_billion("cuda")) == tokens  # pyright: ignore


def test_rows_are_short_on_the_cpu() -> None:
    assert row_length(seven_billion("cpu")) == CPU_ROW  # pyright: ignore

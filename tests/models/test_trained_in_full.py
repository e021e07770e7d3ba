"""Projector and vision tower trained in full beside the adapter: used, saved, found again, and gone when taken off."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models.adapter_files import ADAPTER_FILES
from sightline.models.adapters import (
    adapter_shape,
    adapter_weights,
    attach_lora,
    detach_adapter,
    load_adapter,
    save_adapter,
)
from sightline.models.forward import row_logprobs, stock_inputs
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.training.losses import sft_loss
from sightline.trees.render import Rendered, render
from sightline.trees.sampler import step_rows
from tiny_families import noise, random_model

BOTH = ("projector", "vision")
CASES = [
    ("llava", ("projector",)),
    ("llava", ("vision",)),
    ("llava", BOTH),
    ("qwen2_vl", ("projector",)),
    ("qwen2_5_vl", ("vision",)),
    ("qwen3_vl", BOTH),
]


def sequences_of(loaded: LoadedModel) -> list[Rendered]:
    shown = noise(1)
    loaded.features.register([shown])
    questions = ("where is it", "how many", "which side")
    return [
        render(loaded.family, [Message(role="user", content=(0, question))], [shown], "left") for question in questions
    ]


def loss_and_gradients(loaded: LoadedModel, layout: Any = "tree") -> tuple[Tensor, dict[str, Tensor]]:
    sequences = sequences_of(loaded)
    loaded.module.zero_grad()
    rows = step_rows(range(3), rendered=sequences.__getitem__, image_ids=["a"] * 3, row_tokens=512, layout=layout)
    losses = [sft_loss(row_logprobs(loaded, row), torch.from_numpy(row.weight_M)) for row in rows]
    total = torch.stack(losses).sum()
    if total.requires_grad:
        total.backward()
    gradients = {name: p.grad.clone() for name, p in loaded.module.named_parameters() if p.grad is not None}
    return total.detach(), gradients


def stock_logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        return loaded.module(**stock_inputs(loaded, sequences_of(loaded)[0])).logits


def trained(name: str, parts: tuple[str, ...], *, dtype: torch.dtype = torch.float64, **settings: Any) -> LoadedModel:
    """A model whose adapter and trained parts are not as they began."""
    loaded = random_model(name, dtype=dtype)
    attach_lora(loaded, **{"rank": 2, "alpha": 4, "train": parts, **settings})
    with torch.no_grad():
        for number, parameter in enumerate(loaded.module.parameters()):
            if parameter.requires_grad:
                noise_like = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                parameter.add_(0.1 * noise_like)
    return loaded


@pytest.mark.parametrize(("name", "parts"), CASES, ids=str)
def test_they_learn_the_same_shared_or_not(name: str, parts: tuple[str, ...]) -> None:
    loaded = trained(name, parts)
    whole = {n for n, p in loaded.module.named_parameters() if p.requires_grad and "lora_" not in n}
    assert whole and all(".modules_to_save.default." in n for n in whole)
    assert adapter_shape(loaded)["train"] == sorted(parts)
    assert loaded.features.trained
    loss, gradients = loss_and_gradients(loaded)
    flat_loss, flat_gradients = loss_and_gradients(loaded, "flat")
    torch.testing.assert_close(loss, flat_loss, rtol=0, atol=1e-9)
    assert gradients.keys() == flat_gradients.keys()
    assert sum(bool(gradients[n].norm() > 1e-6) for n in whole & gradients.keys()) > len(whole) / 3
    for n, gradient in flat_gradients.items():
        # The Qwen towers and norms compute in float32 inside, whatever the model's type.
        assert (gradients[n] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, n


@pytest.mark.parametrize(("name", "parts"), CASES, ids=str)
def test_they_come_back_and_go_again(tmp_path: Path, name: str, parts: tuple[str, ...]) -> None:
    from peft import PeftModel

    bare = random_model(name, dtype=torch.float32)
    base = {n: tensor.clone() for n, tensor in bare.module.state_dict().items()}
    base_logits, base_loss = stock_logits(bare), loss_and_gradients(bare)[0]
    original = trained(name, parts, dtype=torch.float32)
    expected, loss = stock_logits(original), loss_and_gradients(original)[0]
    assert not torch.allclose(expected, base_logits, atol=1e-2)
    save_adapter(original, tmp_path)

    # An oracle without peft's wrappers: the trained weights put into a plain copy of the base, and LoRA merged.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = PeftModel.from_pretrained(random_model(name, dtype=torch.float32).module, str(tmp_path))  # pyright: ignore
        merged = copy.deepcopy(stock).merge_and_unload()  # pyright: ignore
    plain = random_model(name, dtype=torch.float32)
    plain.module.load_state_dict(merged.state_dict())
    torch.testing.assert_close(stock_logits(plain), expected, rtol=0, atol=1e-4)

    for _ in range(2):
        load_adapter(bare, tmp_path)
        assert torch.equal(stock_logits(bare), expected)
        # Kept features of the base would make this the base's.
        torch.testing.assert_close(loss_and_gradients(bare)[0], loss, rtol=1e-5, atol=0)
        assert not any(parameter.requires_grad for parameter in bare.module.parameters())
        detach_adapter(bare)
        assert bare.module.state_dict().keys() == base.keys()
        assert all(torch.equal(tensor, base[n]) for n, tensor in bare.module.state_dict().items())
        assert torch.equal(stock_logits(bare), base_logits)
        assert torch.equal(loss_and_gradients(bare)[0], base_loss)
    load_adapter(bare, tmp_path, trainable=True)
    learning = {n for n, parameter in bare.module.named_parameters() if parameter.requires_grad}
    assert learning == {n for n, parameter in original.module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("name", "parts"), [case for case in CASES if case[1] == BOTH], ids=str)
def test_weights_are_float32_on_a_bf16_base_and_answers_are_those_of_training(
    tmp_path: Path, name: str, parts: tuple[str, ...]
) -> None:
    loaded = trained(name, parts, dtype=torch.bfloat16)
    learning = [parameter for parameter in loaded.module.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in learning} == {torch.float32}
    loss, gradients = loss_and_gradients(loaded)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    exact = trained(name, parts, dtype=torch.float32)
    with torch.no_grad():
        for name_, parameter in exact.module.named_parameters():
            parameter.copy_(loaded.module.get_parameter(name_))
    torch.testing.assert_close(loss, loss_and_gradients(exact)[0], rtol=0.1, atol=0)
    save_adapter(loaded, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / ADAPTER_FILES[1]).values()} == {torch.float32}
    with torch.no_grad():
        for parameter in learning:
            parameter.mul_(1 + 2**-12)  # less than bf16 can hold
    save_adapter(loaded, tmp_path)
    answering = random_model(name, dtype=torch.bfloat16)
    load_adapter(answering, tmp_path)
    for key, tensor in adapter_weights(answering.module).items():
        assert torch.equal(tensor, adapter_weights(loaded.module)[key]), key
    assert torch.equal(stock_logits(answering), stock_logits(loaded))


BOTH_SIDES = r".*(vision_tower|language_model).*\.q_proj"


def test_a_part_cannot_be_trained_twice() -> None:
    loaded = random_model("llava", dtype=torch.float32)
    with pytest.raises(UnsupportedModelError, match=r"lora\.targets fits model\.vision_tower.*q_proj, which `train`"):
        attach_lora(loaded, rank=2, alpha=4, targets=BOTH_SIDES, train=["vision"])
    with pytest.raises(UnsupportedModelError, match=r"lora\.bias: all and train"):
        attach_lora(loaded, rank=2, alpha=4, bias="all", train=["projector"])
    attach_lora(loaded, rank=2, alpha=4, targets=BOTH_SIDES, train=["projector"])
    assert any("vision_tower" in name for name in adapter_weights(loaded.module))


def test_biases_are_not_trained_in_half_precision() -> None:
    loaded = random_model("llava", dtype=torch.bfloat16)
    with pytest.raises(UnsupportedModelError, match=r"lora\.bias: all trains .* in bfloat16 lose"):
        attach_lora(loaded, rank=2, alpha=4, bias="all")


def test_adapter_weights_are_float32_on_a_bf16_base() -> None:
    loaded = random_model("llava", dtype=torch.bfloat16)
    attach_lora(loaded, rank=2, alpha=4, dora=True)
    assert {p.dtype for p in loaded.module.parameters() if p.requires_grad} == {torch.float32}
    assert loaded.dtype == next(loaded.inner.parameters()).dtype == torch.bfloat16
    assert isinstance(loaded.family.head(loaded.inner), nn.Linear)

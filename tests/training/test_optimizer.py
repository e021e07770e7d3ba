"""The optimizers: 8-bit AdamW is near the plain one, and a resumed run is the uninterrupted one bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightline.models.adapters import adapter_weights, attach_lora
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.study import Training
from sightline.training.checkpoint import optimizer_tensors, restore_optimizer
from sightline.training.loop import RenderedSet, train
from sightline.training.optimizer import make_optimizer
from sightline.trees.render import render
from tiny_llava import picture, random_llava

NAMES = ("adamw", "adamw_8bit")


def fresh(seed: int = 0) -> tuple[LoadedModel, RenderedSet]:
    """A model whose larger factors have the 4,096 values from which moments take 8 bits."""
    loaded = random_llava(dtype=torch.float32, layers=1)
    attach_lora(loaded, rank=128, alpha=128, seed=seed)
    shown = picture(1)
    loaded.features.register([shown])
    sequences = [
        render(loaded.family, [Message(role="user", content=(0, question))], [shown], answer)
        for question, answer in (("left?", "no"), ("how many", "7"), ("is there a lung", "yes"), ("right?", "yes"))
    ]
    return loaded, RenderedSet(sequences=sequences, image_ids=[shown.sha256] * 4, sha256="data")


def settings(name: str, **changes: Any) -> Training:
    return Training(
        **{
            "batch_size": 2,
            "max_steps": 6,
            "learning_rate": 1e-3,
            "lora": {"rank": 128, "alpha": 128, "dropout": 0},
            "optimizer": name,
            "weight_decay": 0.01,
            "save_every": 2,
            **changes,
        }
    )


def steps_of(name: str, num_steps: int) -> tuple[torch.optim.Optimizer, dict[str, torch.nn.Parameter]]:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`") if name == "adamw_8bit" else None
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in (("large", (64, 64)), ("other", (128, 64)), ("small", (8,)))
    }
    optimizer = make_optimizer(name, parameters.values(), learning_rate=0.01, weight_decay=0.1)  # pyright: ignore
    for number in range(num_steps):
        take_step(optimizer, parameters, number)
    return optimizer, parameters


def take_step(optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator) + 0.5
    optimizer.step()


def test_eight_bits_are_near_the_plain_optimizer() -> None:
    plain, theirs = steps_of("adamw", 20)
    eight, ours = steps_of("adamw_8bit", 20)
    assert type(plain) is torch.optim.AdamW
    started = steps_of("adamw", 0)[1]
    for name, parameter in ours.items():
        moved = (theirs[name] - started[name]).norm()
        assert 0 < (parameter - theirs[name]).norm() < 0.05 * moved or name == "small"
    torch.testing.assert_close(ours["small"], theirs["small"], rtol=0, atol=1e-6)  # its moments stay float32
    assert eight.state[ours["large"]]["state1"].dtype == torch.uint8
    for group, other in zip(plain.param_groups, eight.param_groups, strict=True):
        assert {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")} == {
            key: other[key] for key in ("lr", "betas", "eps", "weight_decay")
        }


@pytest.mark.parametrize("name", NAMES)
def test_the_state_comes_back_exactly(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    whole, expected = steps_of(name, 5)
    first, parameters = steps_of(name, 3)
    tensors = optimizer_tensors(first, {parameter: key for key, parameter in parameters.items()})
    save_file(tensors, tmp_path / "state")
    second, again = steps_of(name, 0)
    with torch.no_grad():
        for key, parameter in again.items():
            parameter.copy_(parameters[key])
    restore_optimizer(second, again, load_file(tmp_path / "state"))
    for key, parameter in again.items():
        was, now = first.state[parameters[key]], second.state[parameter]
        assert was.keys() == now.keys()
        assert [type(value) for value in was.values()] == [type(now[kind]) for kind in was]
        assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(now[kind])) for kind, value in was.items())
        assert all(value.dtype == now[kind].dtype for kind, value in was.items() if isinstance(value, torch.Tensor))
    for number in (3, 4):
        take_step(second, again, number)
    assert all(torch.equal(parameter, expected[key]) for key, parameter in again.items())
    assert whole.state[expected["large"]]["step"] == second.state[again["large"]]["step"] == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, name: str) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`")
    whole, data = fresh()
    reference = [record.loss for record in train(whole, data, settings(name), checkpoints=tmp_path / "whole")]
    cut, data = fresh()
    run = train(cut, data, settings(name), checkpoints=tmp_path / "cut")
    for _ in range(5):
        next(run)
    folder = max((tmp_path / "cut").glob("step-*"))
    kinds = {tensor.dtype for tensor in load_file(folder / "optimizer.safetensors").values()}
    assert (torch.uint8 in kinds) == (name == "adamw_8bit")
    resumed, data = fresh(seed=9)
    rest = [record.loss for record in train(resumed, data, settings(name), checkpoints=tmp_path / "cut")]
    assert rest == reference[-2:]
    ours, theirs = adapter_weights(resumed.module), adapter_weights(whole.module)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    other, data = fresh()
    list(train(other, data, settings("adamw" if name == "adamw_8bit" else "adamw_8bit")))
    assert any(not torch.equal(adapter_weights(other.module)[key], theirs[key]) for key in theirs)


def test_a_state_that_a_file_cannot_hold_is_an_error_not_a_loss() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.state[parameter]["history"] = [1.0]
    with pytest.raises(TypeError, match="AdamW keeps a list as history"):
        optimizer_tensors(optimizer, {parameter: "p"})

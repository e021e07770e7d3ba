"""Adapters of any origin: older names land where they belong, and what cannot land is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.errors import CorruptError, MissingDataError, UnsupportedModelError
from sightline.models.adapter_files import ADAPTER_FILES, BESIDE, base_of_adapter, fetch_adapter
from sightline.models.adapters import adapter_weights, attach_lora, load_adapter, save_adapter
from sightline.models.forward import row_logprobs
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.trees.render import render
from sightline.trees.sampler import step_rows
from tiny_families import noise, random_model
from tiny_llava import random_llava

CONFIG, WEIGHTS = ADAPTER_FILES


def rename(folder: Path, change: Callable[[str], str]) -> None:
    save_file({change(name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def configure(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | changes))


def answers(loaded: LoadedModel) -> Tensor:
    """What a model makes of a picture and some words."""
    shown = noise(1)
    loaded.features.register([shown])
    messages = [Message(role="user", content=(0, "where is it"))]
    sequence = render(loaded.family, messages, [shown], "to the left")
    (row,) = step_rows([0], rendered=[sequence].__getitem__, image_ids=["a"], row_tokens=512, layout="tree")
    with torch.no_grad():
        return row_logprobs(loaded, row)


def stored_adapter(folder: Path, family: str = "llava", **settings: Any) -> Tensor:
    """Save a random adapter; returns what the model says with it."""
    loaded = random_model(family, dtype=torch.float32)
    attach_lora(loaded, **{"rank": 2, "alpha": 4, **settings})
    for number, parameter in enumerate(loaded.module.parameters()):
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    folder.mkdir()
    save_adapter(loaded, folder)
    return answers(loaded)


def loaded_with(folder: Path, family: str = "llava", **how: Any) -> LoadedModel:
    loaded = random_model(family, dtype=torch.float32)
    load_adapter(loaded, folder, **how)
    return loaded


def before_4_52_llava(name: str) -> str:
    name = name.replace("model.model.language_model.", "model.language_model.model.")
    name = name.replace("model.model.vision_tower.", "model.vision_tower.vision_model.")
    return name.replace("model.model.multi_modal_projector", "model.multi_modal_projector")


def before_4_52_qwen(name: str) -> str:
    return name.replace("model.model.language_model.", "model.model.").replace("model.model.visual.", "model.visual.")


# --- older names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], r"^language_model\..*\.(q_proj|down_proj)$"], ids=str)
def test_names_of_llava_before_transformers_4_52(tmp_path: Path, targets: Any) -> None:
    expected = stored_adapter(tmp_path / "a", targets=r".*language_model\..*\.(q_proj|down_proj)")
    rename(tmp_path / "a", before_4_52_llava)
    configure(tmp_path / "a", target_modules=targets)
    loaded = loaded_with(tmp_path / "a")
    assert torch.equal(answers(loaded), expected)
    assert {name.rsplit(".lora_")[0].rsplit(".")[-1] for name in adapter_weights(loaded.module)} == {
        "q_proj",
        "down_proj",
    }
    assert "vision_tower" not in "".join(adapter_weights(loaded.module))  # where a bare q_proj fits too
    (tmp_path / "again").mkdir()
    save_adapter(loaded, tmp_path / "again")  # now in today's names
    assert torch.equal(answers(loaded_with(tmp_path / "again")), expected)


def test_a_list_that_fits_the_vision_side_too_means_what_the_tensors_say(tmp_path: Path) -> None:
    expected = stored_adapter(tmp_path / "a", targets=r".*language_model\..*\.(q_proj|down_proj)")
    configure(tmp_path / "a", target_modules=["q_proj", "down_proj"])
    loaded = loaded_with(tmp_path / "a")
    assert torch.equal(answers(loaded), expected)
    assert "vision_tower" not in "".join(adapter_weights(loaded.module))


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_names_of_qwen_before_transformers_4_52(tmp_path: Path, family: str) -> None:
    expected = stored_adapter(tmp_path / "a", family, targets=r".*\.(q_proj|v_proj|qkv)")
    assert any("visual" in name for name in load_file(tmp_path / "a" / WEIGHTS))
    rename(tmp_path / "a", before_4_52_qwen)
    configure(tmp_path / "a", target_modules=r"^(?:model\.layers|visual\.blocks).*\.(q_proj|v_proj|qkv)$")
    assert torch.equal(answers(loaded_with(tmp_path / "a", family)), expected)


def test_a_vision_tower_of_older_names(tmp_path: Path) -> None:
    expected = stored_adapter(
        tmp_path / "a", train=["projector"], targets=r".*(vision_tower|language_model).*\.(q_proj|v_proj)"
    )
    rename(tmp_path / "a", before_4_52_llava)
    configure(tmp_path / "a", target_modules=["q_proj", "v_proj"], modules_to_save=["multi_modal_projector"])
    assert torch.equal(answers(loaded_with(tmp_path / "a")), expected)


def test_scales_of_single_modules_follow_the_names(tmp_path: Path) -> None:
    expected = stored_adapter(tmp_path / "a")
    rename(tmp_path / "a", before_4_52_llava)
    configure(tmp_path / "a", target_modules=r"language_model\..*_proj")
    plain = answers(loaded_with(tmp_path / "a"))
    assert torch.equal(plain, expected)
    configure(tmp_path / "a", alpha_pattern={"language_model.model.layers.0.mlp.up_proj": 40})
    changed = loaded_with(tmp_path / "a")
    assert not torch.allclose(answers(changed), plain, atol=1e-3)
    layers: dict[str, Any] = {name: m for name, m in changed.inner.named_modules() if hasattr(m, "lora_A")}
    scales = {name: layer.scaling["default"] for name, layer in layers.items()}
    assert len(scales) == 2 * 7
    assert {name for name, scale in scales.items() if scale == 20} == {"model.language_model.layers.0.mlp.up_proj"}
    assert set(scales.values()) == {2, 20}


def test_the_projector_of_llavas_original_code_is_used(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a")
    rename(tmp_path / "a", lambda name: name.replace("model.model.language_model.", "model.model."))
    configure(
        tmp_path / "a", target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    without = answers(loaded_with(tmp_path / "a"))
    generator = torch.Generator().manual_seed(1)
    projector = {
        f"base_model.model.model.mm_projector.{number}.{kind}": torch.randn(shape, generator=generator)
        for number in (0, 2)
        for kind, shape in (("weight", (32, 32)), ("bias", (32,)))
    }
    torch.save(projector, tmp_path / "a" / BESIDE)
    found = answers(loaded_with(tmp_path / "a"))

    by_hand = random_llava(dtype=torch.float32)
    for number, linear in ((0, "linear_1"), (2, "linear_2")):
        for kind in ("weight", "bias"):
            parameter = by_hand.module.get_parameter(f"model.multi_modal_projector.{linear}.{kind}")
            parameter.copy_(projector[f"base_model.model.model.mm_projector.{number}.{kind}"])
    (tmp_path / "a" / BESIDE).unlink()
    load_adapter(by_hand, tmp_path / "a")
    torch.testing.assert_close(found, answers(by_hand), rtol=0, atol=1e-6)
    assert not torch.allclose(found, without, atol=1e-2)


# --- other files -----------------------------------------------------------------------------------------------------


def test_weights_in_torchs_own_format_and_in_half_precision(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a")
    halves = {name: tensor.bfloat16() for name, tensor in load_file(tmp_path / "a" / WEIGHTS).items()}
    save_file(halves, tmp_path / "a" / WEIGHTS)
    loaded = loaded_with(tmp_path / "a", trainable=True)
    assert {tensor.dtype for tensor in adapter_weights(loaded.module).values()} == {torch.float32}
    expected = answers(loaded)
    (tmp_path / "a" / WEIGHTS).unlink()
    torch.save(halves, tmp_path / "a" / "adapter_model.bin")
    assert torch.equal(answers(loaded_with(tmp_path / "a")), expected)
    torch.save({"weights": object()}, tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(CorruptError, match=r"adapter_model\.bin"):
        loaded_with(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peft_type": "IA3"}, "of type IA3; only LORA"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters = .* is not supported"),
        ({"a_key_of_tomorrow": 3}, "a_key_of_tomorrow = 3 is not supported"),
    ],
)
def test_what_would_be_passed_over_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    stored_adapter(tmp_path / "a")
    configure(tmp_path / "a", **change)
    with pytest.raises(UnsupportedModelError, match=named):
        loaded_with(tmp_path / "a")


def test_a_scale_that_fits_no_module_is_refused(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a")
    configure(tmp_path / "a", alpha_pattern={"layers.7.mlp.up_proj": 8})
    with pytest.raises(CorruptError, match=r"alpha_pattern names layers\.7\.mlp\.up_proj, which fits no module"):
        loaded_with(tmp_path / "a")


def test_a_tensor_that_no_adapter_parameter_takes_is_refused(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a")
    weights = load_file(tmp_path / "a" / WEIGHTS)
    save_file({**weights, "base_model.model.lm_head.weight": torch.zeros(260, 32)}, tmp_path / "a" / WEIGHTS)
    with pytest.raises(CorruptError, match=r"1 tensors do not fit random, for example base_model.model.lm_head.weight"):
        loaded_with(tmp_path / "a")


def test_a_module_in_full_without_its_tensors_is_refused(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a")
    configure(tmp_path / "a", modules_to_save=["multi_modal_projector"])
    with pytest.raises(CorruptError, match=r"4 tensors are missing, for example .*multi_modal_projector"):
        loaded_with(tmp_path / "a")


def test_an_adapter_of_another_family_is_refused(tmp_path: Path) -> None:
    stored_adapter(tmp_path / "a", targets=r".*vision_tower.*\.q_proj")
    with pytest.raises(CorruptError, match=r"do not fit random, for example .*; is the adapter for another base"):
        loaded_with(tmp_path / "a", "qwen2_vl")


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_an_adapter_comes_from_the_hub_with_its_older_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_adapter(tmp_path / "hub")
    torch.save(load_file(tmp_path / "hub" / WEIGHTS), tmp_path / "hub" / "adapter_model.bin")
    (tmp_path / "hub" / WEIGHTS).unlink()

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        assert name == "owner/name"
        (tmp_path / "cache").mkdir(exist_ok=True)
        for file in (tmp_path / "hub").iterdir():
            if file.name in allow_patterns:
                shutil.copy(file, tmp_path / "cache")
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    folder = fetch_adapter("owner/name")
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG, "adapter_model.bin"]
    assert base_of_adapter(folder) == "random"
    loaded_with(folder)


def test_an_adapter_that_cannot_be_had_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingDataError, match="'owner/no-such-adapter' is no folder here and could not be fetched"):
        fetch_adapter("owner/no-such-adapter")


@pytest.mark.parametrize("kept", [2, 14])
def test_half_an_adapter_for_all_linear_layers_is_none(tmp_path: Path, kept: int) -> None:
    stored_adapter(tmp_path / "a")
    configure(tmp_path / "a", target_modules="all-linear")
    file = tmp_path / "a" / ADAPTER_FILES[1]
    tensors = dict(sorted(load_file(file).items())[:kept])
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CorruptError, match="and there are no tensors for it"):
        loaded_with(tmp_path / "a")

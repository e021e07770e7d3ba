"""A merged model says what base and adapter say, loads with plain transformers, and is rounded once."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models import merging
from sightline.models.adapter_files import ADAPTER_FILES
from sightline.models.adapters import attach_lora, fold_in_adapter, load_adapter, save_adapter
from sightline.models.loading import LoadedModel, base_location, load_family, load_model
from sightline.models.merging import merge_adapter, write_model
from tiny_llava import random_llava

TINY = "builtin:tiny"
LAYER = "model.language_model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def family():
    return load_family(TINY)


@pytest.fixture
def adapter(tmp_path: Path, family) -> Callable[..., Path]:
    """A function that stores an adapter of random weights for the built-in model."""

    def store(**settings: Any) -> Path:
        loaded = load_model(TINY, family, precision="fp32")
        attach_lora(loaded, **{"rank": 4, "alpha": 6, **settings})
        for number, parameter in enumerate(loaded.module.parameters()):
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(number))
        folder = tmp_path / "adapter"
        folder.mkdir()
        save_adapter(loaded, folder)
        return folder

    return store


def logprobs(module: nn.Module) -> Tensor:
    """What a stock forward says to a picture and some words."""
    ids = torch.tensor([[1, *[3] * 64, 40, 41, 42, 43]])
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64).to(next(module.parameters()).dtype)
    with torch.no_grad():
        logits = module(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
    return logits.float().log_softmax(-1)


def worn(folder: Path, family, **how: Any) -> LoadedModel:
    loaded = load_model(TINY, family, **how)
    load_adapter(loaded, folder)
    return loaded


def read_back(folder: Path) -> nn.Module:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()  # pyright: ignore


def full_update(folder: Path, layer: str = LAYER) -> Tensor:
    """What an adapter's files add to a weight, in float64."""
    tensors = load_file(folder / ADAPTER_FILES[1])
    down, up = (tensors[f"base_model.model.{layer}.lora_{factor}.weight"].double() for factor in "AB")
    return 6 / 4 * up @ down


@pytest.mark.parametrize(
    "settings",
    [{}, {"dora": True}, {"train": ["projector"]}, {"bias": "all"}],
    ids=["lora", "dora", "in full", "biases"],
)
def test_a_merged_model_says_what_base_and_adapter_say(tmp_path: Path, adapter, family, settings: dict) -> None:
    folder, out = adapter(**settings), tmp_path / "merged"
    expected = logprobs(worn(folder, family, precision="fp32").module)
    merged = merge_adapter(TINY, folder, family=family, precision="fp32")
    assert merged.rounding == 0 and not hasattr(merged.loaded.module, "peft_config")
    out.mkdir()
    write_model(merged.loaded, out)
    assert (logprobs(read_back(out)) - expected).abs().max() < 1e-4
    assert (logprobs(load_model(TINY, family, precision="fp32").module) - expected).abs().max() > 0.1


def test_peft_merges_to_the_same(adapter, family) -> None:
    folder = adapter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = worn(folder, family, precision="fp32").module.merge_and_unload()  # pyright: ignore
    ours = merge_adapter(TINY, folder, family=family, precision="fp32").loaded.module
    for (name, here), there in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=1e-7, msg=name)


def test_half_precision_is_rounded_once_and_says_what_that_takes(adapter, family) -> None:
    folder = adapter()
    base: Any = load_model(TINY, family, precision="bf16").module
    merged = merge_adapter(TINY, folder, family=family, precision="bf16")
    lost, changed = [], []
    names = [name for name in load_file(folder / ADAPTER_FILES[1]) if "lora_A" in name]
    for layer in (name.removeprefix("base_model.model.").removesuffix(".lora_A.weight") for name in names):
        exact: Tensor = base.get_submodule(layer).weight.double() + full_update(folder, layer)
        found: Any = merged.loaded.module.get_submodule(layer).weight
        assert found.dtype == torch.bfloat16
        assert (found == exact.bfloat16()).double().mean() > 0.999  # float32 in between may round a tie otherwise
        lost.append(torch.linalg.matrix_norm(found.double() - exact))
        changed.append(torch.linalg.matrix_norm(full_update(folder, layer)))
    by_hand = torch.stack(lost).norm() / torch.stack(changed).norm()
    assert merged.rounding == pytest.approx(float(by_hand), rel=1e-3) and merged.rounding > 1e-3


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_base_is_taken_back_to_the_weights_it_multiplies_with(
    tmp_path: Path, adapter, family, quantize: Any
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`")
    folder, out = adapter(), tmp_path / "merged"
    stored_so = worn(folder, family, precision="fp32", quantize=quantize)
    expected = logprobs(stored_so.module)  # an evaluating forward, after which peft would merge into nonsense
    merged = merge_adapter(TINY, folder, family=family, precision="fp32", quantize=quantize)
    out.mkdir()
    write_model(merged.loaded, out)
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    assert (logprobs(read_back(out)) - expected).abs().max() < 1e-4
    plain = merge_adapter(TINY, folder, family=family, precision="fp32").loaded
    assert (logprobs(plain.module) - expected).abs().max() > 1e-2


def test_what_lies_beside_the_weights_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter) -> None:
    base, out = Path(shutil.copytree(base_location(TINY), tmp_path / "base")), tmp_path / "merged"
    (base / "LICENSE").write_text("terms")
    (base / "README.md").write_text("card")
    (base / "pytorch_model.bin").write_text("other weights")
    monkeypatch.setattr(merging, "SHARD", "2MB")
    merged = merge_adapter(str(base), adapter(), precision="bf16")
    expected = logprobs(merged.loaded.module)
    out.mkdir()
    write_model(merged.loaded, out)
    assert (out / "LICENSE").read_text() == "terms" and (out / "README.base.md").read_text() == "card"
    assert not (out / "pytorch_model.bin").exists() and not (out / "README.md").exists()
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert len([*out.glob("model-*.safetensors")]) > 1
    assert torch.equal(logprobs(read_back(out)), expected)
    assert load_family(str(out)).rendering_sha256 == merged.loaded.family.rendering_sha256


def test_a_weight_that_another_part_shares_is_not_folded_into() -> None:
    loaded = random_llava(dtype=torch.float32)
    loaded.module.lm_head.weight = loaded.inner.model.language_model.embed_tokens.weight  # pyright: ignore
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft sees the danger, too
        attach_lora(loaded, rank=2, alpha=4, targets=r".*embed_tokens")
    with pytest.raises(UnsupportedModelError, match=r"embed_tokens\S* is one weight with lm_head\.weight, which the"):
        fold_in_adapter(loaded)

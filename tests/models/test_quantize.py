"""Bases in 4 and 8 bits: what is stored so, that all paths compute with the same weights, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import StudyError, UnsupportedModelError
from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.adapters import adapter_weights, attach_lora, detach_adapter, load_adapter, save_adapter
from sightline.models.forward import row_logprobs, stock_inputs
from sightline.models.loading import LoadedModel, load_model
from sightline.models.quantize import quantization_of, require_bitsandbytes
from sightline.records import Message, Sample
from sightline.study import Training
from sightline.training.loop import RenderedSet, train
from sightline.training.losses import sft_loss
from sightline.trees.render import Rendered, render
from sightline.trees.sampler import step_rows
from tiny_llava import picture
from tiny_wide import save_wide_llava

pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`")

KINDS = ("nf4", "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wide_llava(tmp_path_factory.mktemp("wide"))


def quantized(folder: Path, kind: Any = None, **how: Any) -> LoadedModel:
    return load_model(str(folder), **{"precision": "fp32", "device": "cpu", "quantize": kind, **how})


def layers_of(loaded: LoadedModel) -> dict[str, Any]:
    """The quantised layers by name; an adapter around one does not count."""
    kinds = ("Linear4bit", "Linear8bitLt")
    found = {n: m for n, m in loaded.inner.named_modules() if type(m).__name__ in kinds and not hasattr(m, "lora_A")}
    return {name.removesuffix(".base_layer"): layer for name, layer in found.items()}


def bytes_of(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: layer.weight.data.clone() for name, layer in layers_of(loaded).items()}


def dequantized(folder: Path, loaded: LoadedModel) -> LoadedModel:
    """A plain model with the weights that bitsandbytes itself makes of the quantised ones."""
    import bitsandbytes.functional as functional

    plain = quantized(folder)
    with torch.no_grad():
        for name, layer in layers_of(loaded).items():
            weight = (
                functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
                if type(layer).__name__ == "Linear4bit"
                else functional.int8_vectorwise_dequant(layer.weight.data, layer.state.SCB)
            )
            plain.module.get_parameter(f"{name}.weight").copy_(weight)
    return plain


def sequences_of(loaded: LoadedModel) -> list[Rendered]:
    shown = picture(1)
    loaded.features.register([shown])
    questions = ("where is it", "how many", "which side of the lung")
    return [
        render(loaded.family, [Message(role="user", content=(0, question))], [shown], "to the left")
        for question in questions
    ]


def loss_and_gradients(loaded: LoadedModel, layout: Any = "tree") -> tuple[float, dict[str, Tensor]]:
    sequences = sequences_of(loaded)
    loaded.module.zero_grad()
    rows = step_rows(range(3), rendered=sequences.__getitem__, image_ids=["a"] * 3, row_tokens=512, layout=layout)
    total = torch.stack([sft_loss(row_logprobs(loaded, row), torch.from_numpy(row.weight_M)) for row in rows])
    if total.requires_grad:
        total.sum().backward()
    gradients = {name: p.grad.clone() for name, p in loaded.module.named_parameters() if p.grad is not None}
    return float(total.detach().sum()), gradients


def stock_loss(loaded: LoadedModel) -> float:
    """The same loss as a stock forward has it, sequence by sequence."""
    total = 0.0
    for sequence in sequences_of(loaded):
        inputs = stock_inputs(loaded, sequence)
        with torch.no_grad():
            logprobs = loaded.module(**inputs).logits[0].log_softmax(-1)
        sources = torch.from_numpy(sequence.weight_L).nonzero()[:, 0] - 1
        total -= float(logprobs[sources, inputs["input_ids"][0, sources + 1]].sum())
    return total


def with_adapter(loaded: LoadedModel, **settings: Any) -> LoadedModel:
    attach_lora(loaded, **{"rank": 4, "alpha": 8, **settings})
    for number, parameter in enumerate(loaded.module.parameters()):
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    return loaded


# --- what is stored so -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_language_models_linear_layers_and_nothing_else(folder: Path, kind: str) -> None:
    plain, loaded = quantized(folder), quantized(folder, kind)
    linears = {
        name
        for name, module in plain.module.named_modules()
        if isinstance(module, nn.Linear) and ".language_model." in name
    }
    assert len(linears) == 2 * 7 and layers_of(loaded).keys() == linears
    for name, tensor in plain.module.state_dict().items():
        if name.removesuffix(".weight") not in linears:
            assert torch.equal(loaded.module.state_dict()[name], tensor), name
    for layer in layers_of(loaded).values():
        assert layer.weight.dtype == (torch.uint8 if kind == "nf4" else torch.int8)
        if kind == "nf4":
            state = layer.weight.quant_state
            assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, torch.float32)
    assert loaded.dtype == torch.float32 and not any(p.requires_grad for p in loaded.module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_computed_in_the_studys_precision(folder: Path, kind: str) -> None:
    loaded = with_adapter(quantized(folder, kind, precision="bf16"))
    assert loaded.dtype == torch.bfloat16
    assert {p.dtype for p in loaded.module.parameters() if p.requires_grad} == {torch.float32}
    loss, gradients = loss_and_gradients(loaded)
    assert loss == pytest.approx(loss_and_gradients(with_adapter(quantized(folder, kind)))[0], rel=0.05)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    if kind == "nf4":
        assert {layer.compute_dtype for layer in layers_of(loaded).values()} == {torch.bfloat16}


# --- one set of weights for all paths --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_paths_are_the_stock_forward_on_the_dequantised_weights(folder: Path, kind: str) -> None:
    loaded = quantized(folder, kind)
    expected = stock_loss(dequantized(folder, loaded))
    assert abs(expected - stock_loss(quantized(folder))) > 0.01  # rounding the weights does change the answer
    assert stock_loss(loaded) == pytest.approx(expected, rel=1e-5)
    for layout in ("tree", "flat"):
        assert loss_and_gradients(loaded, layout)[0] == pytest.approx(expected, rel=1e-5)
    loaded.module.train()
    assert loss_and_gradients(loaded)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"train": ["projector"]}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_dequantised_weights_shared_or_not(folder: Path, kind: str, settings: Any) -> None:
    loaded = quantized(folder, kind)
    plain = with_adapter(dequantized(folder, loaded), **settings)
    with_adapter(loaded, **settings)
    for name, parameter in plain.module.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, loaded.module.get_parameter(name))
    _, expected = loss_and_gradients(plain)
    for layout in ("tree", "flat"):
        _, found = loss_and_gradients(loaded, layout)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_eight_bit_numbers_do_not_depend_on_what_else_is_in_the_row(folder: Path) -> None:
    import bitsandbytes.nn.modules as stock

    layer = layers_of(quantized(folder, "int8"))["model.language_model.layers.0.self_attn.q_proj"]
    token, neighbour = torch.linspace(-1, 1, 64)[None], torch.zeros(1, 64)
    neighbour[0, 3] = 50.0  # an outlier, which bitsandbytes takes a whole column out for
    together = torch.cat([token, neighbour])
    torch.testing.assert_close(layer(together)[:1], layer(token), rtol=0, atol=1e-6)
    theirs = stock.Linear8bitLt.forward
    assert (theirs(layer, together)[:1] - theirs(layer, token)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_training_measuring_and_answering_leave_the_weights_alone(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes.nn.modules as stock

    # As on a CPU that has what bitsandbytes packs its weights for.
    monkeypatch.setattr(stock, "has_avx512bf16", lambda: True)
    loaded = quantized(folder, kind)
    before = bytes_of(loaded)
    attach_lora(loaded, rank=8, alpha=16)
    sequences = sequences_of(loaded)
    data = RenderedSet(sequences=sequences, image_ids=["a"] * 3)
    settings = Training(batch_size=3, max_steps=8, learning_rate=0.01, lora={"rank": 8, "dropout": 0}, eval_every=2)  # pyright: ignore
    records = list(train(loaded, data, settings, validation=data))
    assert records[-1].validation_loss < records[0].loss / 2  # pyright: ignore
    shown = picture(1)
    sample = Sample(id="s", pictures=(shown,), messages=(Message(role="user", content=(0, "how many")),), answer="")
    [[answer]] = answer_samples(loaded, [sample], Decoding(max_new_tokens=4), model="m", data="d")
    assert answer.text
    after = bytes_of(loaded)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    measured, _ = loss_and_gradients(loaded)
    loaded.module.train()
    assert loss_and_gradients(loaded)[0] == pytest.approx(measured, rel=1e-6)
    loaded.module.eval()
    assert measured / sum(map(float, (s.weight_L.sum() for s in sequences))) == pytest.approx(  # pyright: ignore
        records[-1].validation_loss, rel=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_comes_back_onto_the_same_base_and_goes_again(tmp_path: Path, folder: Path, kind: str) -> None:
    loaded = quantized(folder, kind)
    base = stock_loss(loaded)
    with_adapter(loaded)
    expected = stock_loss(loaded)
    assert abs(expected - base) > 0.1
    save_adapter(loaded, tmp_path)
    detach_adapter(loaded)
    assert stock_loss(loaded) == base
    load_adapter(loaded, tmp_path)
    assert stock_loss(loaded) == expected
    assert len(adapter_weights(loaded.module)) == 2 * 2 * 7
    fresh = quantized(folder, kind)
    load_adapter(fresh, tmp_path)
    assert stock_loss(fresh) == expected


# --- checkpoints that are quantised already, and what is refused -----------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_checkpoint_is_loaded_as_it_is(tmp_path: Path, folder: Path, kind: str) -> None:
    loaded = quantized(folder, kind)
    shutil.copytree(folder, tmp_path / "stored")
    loaded.module.save_pretrained(tmp_path / "stored")  # pyright: ignore
    for asked in (None, kind):
        again = quantized(tmp_path / "stored", asked)
        assert all(torch.equal(bytes_of(again)[name], weight) for name, weight in bytes_of(loaded).items())
        assert stock_loss(again) == stock_loss(loaded)
        assert quantization_of(str(tmp_path / "stored"), asked) == kind  # pyright: ignore
    other = "int8" if kind == "nf4" else "nf4"
    with pytest.raises(UnsupportedModelError, match=f"is stored as {kind} already, so quantize: {other} is not"):
        quantized(tmp_path / "stored", other)
    assert layers_of(quantized(tmp_path / "stored", precision="bf16")).keys() == layers_of(loaded).keys()


def test_what_a_base_is_stored_as(folder: Path) -> None:
    assert quantization_of(str(folder), None) is None
    assert quantization_of(str(folder), "nf4") == "nf4"
    assert quantization_of("builtin:tiny", "int8") == "int8"


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors"])
def test_other_methods_are_refused_by_name(tmp_path: Path, folder: Path, method: str) -> None:
    shutil.copytree(folder, tmp_path / "stored")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (tmp_path / "stored" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=f"is quantised by {method}; supported are bitsandbytes"):
        quantized(tmp_path / "stored")


def test_float64_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="does not compute in float64"):
        quantized(folder, "nf4", precision="fp64")


def test_a_missing_bitsandbytes_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(StudyError, match=r"quantize: nf4 needs bitsandbytes; .*pip install '\.\[quantize\]'"):
        quantized(folder, "nf4")
    with pytest.raises(StudyError, match="optimizer: adamw_8bit needs"):
        require_bitsandbytes("optimizer: adamw_8bit")
    quantized(folder)

"""Fused layers, by plain torch, against the stock modules: outputs, gradients of everything, the cache, dropout.

The kernels of the GPU are compared with plain torch in `test_gpu_fused.py`.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models import offload
from sightline.models.adapters import attach_lora, detach_adapter
from sightline.models.family import LANGUAGE_LINEARS
from sightline.models.forward import hidden_states_at, row_inputs, save_memory
from sightline.models.fused import decoder, operations
from sightline.models.fused.binding import bind, fused_decoder
from sightline.models.fused.layout import BlockList, Tiling, tree_layout
from sightline.models.fused.states import fused_states
from sightline.models.loading import LoadedModel
from sightline.records import Message, Sample
from sightline.trees.row import Row, join_rows, visible
from test_equivalence import gradients, random_sequences, relative_error, rows_of
from tiny_families import NAMES, compute_in_own_type, noise, random_model


def adapted(name: str, *, dropout: float = 0.0) -> LoadedModel:
    loaded = random_model(name)
    compute_in_own_type(loaded)
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout)
    loaded.module.double()
    for name_, parameter in loaded.module.named_parameters():
        if "lora_B" in name_:
            torch.nn.init.normal_(parameter, std=0.1)
    return loaded


def fused(loaded: LoadedModel, *, recompute: bool = False, offload: bool = False) -> LoadedModel:
    return dataclasses.replace(loaded, fuse=True, recompute=recompute, offload=offload)


def a_row(loaded: LoadedModel, seed: int = 3) -> Row:
    return join_rows(rows_of(random_sequences(loaded, seed), "tree"))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_the_stock_ones(name: str, recompute: bool) -> None:
    loaded = adapted(name)
    row = a_row(loaded)
    loss, stock = gradients(loaded, [row])
    ours = fused(loaded, recompute=recompute)
    found_loss, found = gradients(ours, [row])
    assert ours.decoder is not None
    assert found_loss == pytest.approx(loss, rel=1e-7)  # rotary angles are float32 on both sides, but cast apart
    assert found.keys() == stock.keys() and len(found) > 20
    for tensor in stock:
        assert relative_error(found[tensor], stock[tensor]) < 1e-6, tensor


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_pictures_are_the_stock_ones(name: str) -> None:
    """With the vision side trained: embeddings and deepstack features pass their gradients on."""
    loaded = adapted(name)
    for part in loaded.family.vision_modules(loaded.inner).values():
        part.requires_grad_(True)
    row = a_row(loaded)
    _, stock = gradients(loaded, [row])
    _, found = gradients(fused(loaded), [row])
    reached = [tensor for tensor in stock if "lora" not in tensor and float(stock[tensor].norm()) > 1e-6]
    assert len(reached) > 10
    for tensor in reached:
        assert relative_error(found[tensor], stock[tensor]) < 1e-6, tensor


def test_only_what_is_asked_for_comes_out_and_the_cache_is_filled() -> None:
    loaded = adapted("qwen3_vl")
    row = a_row(loaded)
    places = np.asarray([1, len(row) - 1, len(row) // 2])
    caches = [DynamicCache(config=loaded.family.language_model(loaded.inner).config) for _ in range(2)]  # pyright: ignore
    with torch.no_grad():
        stock = hidden_states_at(loaded, row, places, cache=caches[0])
    found = hidden_states_at(fused(loaded), row, places, cache=caches[1])  # with a graph or without
    assert found.shape == stock.shape
    torch.testing.assert_close(found, stock, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(caches[1].layers, caches[0].layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mine.values, theirs.values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_answers_are_the_stock_ones(name: str) -> None:
    loaded = adapted(name)
    asked = [
        Sample(id=f"{n}", pictures=(noise(n % 2),), messages=(Message(role="user", content=(0, q)),), answer="no")
        for n, q in enumerate(("left?", "left or right?", "how many 7", "is there a lung"))
    ]

    def answers(model: LoadedModel) -> list[tuple[str, str]]:
        rows = answer_samples(model, asked, Decoding(max_new_tokens=8), model="m", data="d")
        return sorted((answer.sample_id, answer.text) for row in rows for answer in row)

    assert answers(fused(loaded)) == answers(loaded)


def test_dropout_is_one_draw_forward_and_backward() -> None:
    """The gradient is the derivative of the very function that dropped, by finite differences."""
    loaded = fused(adapted("llava", dropout=0.3))
    row = a_row(loaded)
    loaded.module.train()
    decoder = fused_decoder(loaded)
    assert decoder is not None and decoder.drops
    parameter = decoder.parameters[1]
    assert parameter is not None
    asked_S = torch.from_numpy(np.unique(row.source_M))

    def value() -> Tensor:
        torch.manual_seed(5)
        return fused_states(loaded, decoder, row, asked_S).sin().sum()

    value().backward()
    direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = float((parameter.grad * direction).sum())  # pyright: ignore
    with torch.enable_grad():
        parameter.data += 1e-6 * direction
        above = float(value().detach())
        parameter.data -= 2e-6 * direction
        below = float(value().detach())
    assert slope == pytest.approx((above - below) / 2e-6, rel=1e-5)
    loaded.module.eval()
    evaluated = float(value().detach())
    assert evaluated != pytest.approx(above, rel=1e-3)


def test_stock_modules_stay_as_they_were() -> None:
    loaded = random_model("qwen2_5_vl")
    row = a_row(loaded)
    places = np.arange(len(row))
    before = hidden_states_at(loaded, row, places)
    language_model = loaded.family.language_model(loaded.inner)
    bind(language_model, dtype=torch.float64)
    assert torch.equal(hidden_states_at(loaded, row, places), before)
    attach_lora(loaded, rank=4, alpha=8)
    bind(language_model, dtype=torch.float64)
    detach_adapter(loaded)
    assert torch.equal(hidden_states_at(loaded, row, places), before)


def test_what_has_no_place_in_fused_layers_runs_by_stock_modules_and_is_said() -> None:
    loaded = random_model("llava")
    attach_lora(loaded, rank=4, alpha=8, dora=True)
    wanted = fused(loaded)
    assert fused_decoder(wanted) is None
    assert "DoRA" in wanted.unfused
    row = a_row(loaded)
    assert hidden_states_at(wanted, row, np.arange(3)).shape == (3, row_inputs(loaded, row).embeddings_TD.shape[1])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's use of a renamed property
@pytest.mark.parametrize("part", ["input_layernorm", "down_proj"])
def test_parts_of_a_layer_that_are_trained_in_full_are_not_fused(part: str) -> None:
    from peft import LoraConfig, get_peft_model

    loaded = random_model("llava")
    config = LoraConfig(r=4, target_modules=LANGUAGE_LINEARS.replace("|down_proj", ""), modules_to_save=[part])
    loaded.module = get_peft_model(loaded.module, config)  # pyright: ignore
    wanted = fused(loaded)
    assert fused_decoder(wanted) is None
    assert part in wanted.unfused


def test_a_model_that_was_converted_is_bound_anew() -> None:
    loaded = fused(adapted("llava"))
    row = a_row(loaded)
    first = fused_decoder(loaded)
    loaded.module.float()
    loaded.module.double()
    with torch.no_grad():
        for name, parameter in loaded.module.named_parameters():
            if name.endswith("q_proj.base_layer.weight") and "language_model" in name:
                parameter.mul_(0.5)
        found = hidden_states_at(loaded, row, np.arange(9))
        stock = hidden_states_at(dataclasses.replace(loaded, fuse=False, decoder=None), row, np.arange(9))
    assert fused_decoder(loaded) is not first
    torch.testing.assert_close(found, stock, rtol=1e-6, atol=1e-6)


def test_checkpointing_leaves_no_hook_behind() -> None:
    loaded = adapted("llava")
    row = a_row(loaded)
    loaded.module.train()
    _, plain = gradients(loaded, [row])
    embed = loaded.family.language_model(loaded.inner).get_input_embeddings()  # pyright: ignore
    save_memory(loaded, recompute=True)
    _, found = gradients(loaded, [row])
    save_memory(loaded)
    assert not embed._forward_hooks
    assert all(relative_error(found[name], plain[name]) < 1e-12 for name in plain)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_activations_that_waited_elsewhere_give_the_same_gradients(
    name: str, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = adapted(name)
    row = a_row(loaded)
    loaded.module.train()
    _, plain = gradients(loaded, [row])
    moved: list[int] = []

    def to_host(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(tensor.untyped_storage().data_ptr())
        return tensor.clone()

    monkeypatch.setattr(offload, "to_host", to_host)
    monkeypatch.setattr(decoder, "to_host", to_host)
    save_memory(loaded, recompute=recompute, offload=True)
    for model in (loaded, fused(loaded, recompute=recompute, offload=True)):
        moved.clear()
        _, found = gradients(model, [row])
        assert len(moved) >= len(loaded.family.language_model(loaded.inner).layers)  # pyright: ignore
        assert not {parameter.untyped_storage().data_ptr() for parameter in loaded.module.parameters()} & set(moved)
        assert all(relative_error(found[tensor], plain[tensor]) < 1e-9 for tensor in plain)
    save_memory(loaded)


def test_float32_on_the_cpu_is_not_fused_unasked() -> None:
    assert fused_decoder(random_model("llava")) is None


@pytest.mark.parametrize("by", ["query", "key"])
@pytest.mark.parametrize("sizes", [(64, 32), (32, 64), (128, 128)])
def test_block_lists_cover_exactly_what_is_visible(by: str, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    ends = np.arange(1, 513)
    at = 0
    while at + 150 < 512:  # trees of a prefix and three branches
        prefix, branches = int(rng.integers(5, 90)), rng.integers(1, 20, 3)
        end = at + prefix + int(branches.sum())
        ends[at : at + prefix] = end
        place = at + prefix
        for length in branches:
            ends[place : place + length] = place + length
            place += length
        at = end
    seen = (np.arange(512)[None] <= np.arange(512)[:, None]) & (np.arange(512)[:, None] < ends[None])
    tiling = Tiling(by=by, query_block=sizes[0], key_block=sizes[1], num_warps=4, num_stages=2)  # pyright: ignore
    blocks: BlockList = tree_layout(ends, torch.device("cpu"), (tiling, tiling, tiling)).forward
    own, other = sizes if by == "query" else sizes[::-1]
    seen = seen if by == "query" else seen.T
    listed = np.zeros_like(seen)
    for block in range(512 // own):
        first, middle, last = int(blocks.start[block]), int(blocks.middle[block]), int(blocks.start[block + 1])
        for number in range(first, last):
            partner = int(blocks.partner[number])
            part = np.s_[block * own : (block + 1) * own, partner * other : (partner + 1) * other]
            assert not listed[part].any()
            listed[part] = True
            assert number < middle or seen[part].all()
    assert not (seen & ~listed).any()
    assert listed.mean() < 0.5


@pytest.mark.parametrize("num_tokens", [128, 384, 640, 1152])
def test_lists_of_any_length_are_aligned_alike_so_that_no_kernel_is_compiled_again(num_tokens: int) -> None:
    layout = tree_layout(np.arange(num_tokens) + 1, torch.device("cpu"))
    lists = (layout.forward, layout.backward_keys, layout.backward_queries)
    tensors = [layout.subtree_end_T, *(part for each in lists for part in (each.start, each.middle, each.partner))]
    assert [tensor.data_ptr() % 16 for tensor in tensors] == [0] * 10


def test_plain_attention_follows_the_rule() -> None:
    loaded = random_model("llava")
    row = a_row(loaded)
    ends = np.concatenate([row.subtree_end_T, np.arange(len(row), 512) + 1])
    values = torch.randn(512, 4 * 8, dtype=torch.float64)
    out, _ = operations.attention(values, tree_layout(ends, torch.device("cpu")), 2, 1, 0.3, 0)
    mask = torch.from_numpy(visible(row))
    heads = values[: len(row)].unflatten(1, (4, 8)).transpose(0, 1)
    scores = (heads[:2] @ heads[2].T * 0.3).masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) @ heads[3]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(out[: len(row)], expected)

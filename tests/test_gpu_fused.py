"""On a CUDA device: the kernels compute what plain torch computes, and sharing costs no accuracy in bfloat16."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.adapters import attach_lora
from sightline.models.forward import on_device, row_logprobs
from sightline.models.fused import operations
from sightline.models.fused.layout import tree_layout
from sightline.models.loading import LoadedModel, load_model, wrap_model
from sightline.records import Message, Sample
from sightline.training.losses import sft_loss
from sightline.trees.row import Row
from test_equivalence import random_sequences, rows_of
from tiny_families import QWENS, random_model
from tiny_llava import picture
from tiny_wide import save_wide_llava

pytestmark = pytest.mark.gpu

NAMES = ("llava", *QWENS)


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def tree_ends(length: int, seed: int = 0) -> np.ndarray:
    """Subtree ends of trees with a prefix of some 100 tokens and three branches of some 20."""
    rng = np.random.default_rng(seed)
    ends, at = np.arange(1, length + 1), 0
    while at + 230 < length:
        prefix, branches = int(rng.integers(60, 130)), rng.integers(10, 30, 3)
        end = at + prefix + int(branches.sum())
        ends[at : at + prefix] = end
        place = at + prefix
        for size in branches:
            ends[place : place + size] = place + size
            place += size
        at = end
    return ends


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_elementwise_kernels_compute_what_plain_torch_computes(dtype: torch.dtype) -> None:
    from sightline.models.fused import kernels

    torch.manual_seed(0)
    tolerance = 3e-3 if dtype == torch.bfloat16 else 5e-4

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda").to(dtype)

    hidden, delta, weight, grad, residual = (
        values(256, 3584),
        values(256, 3584),
        values(3584),
        values(256, 3584),
        values(256, 3584 + 64),
    )
    gate_up, grad_up = values(256, 2 * 1700), values(256, 1700)
    cos, sin = (table.repeat(1, 2) for table in torch.randn(2, 256, 64, device="cuda"))
    pairs = [
        (ops.add_norm(hidden, delta, weight, 1e-5, 64)[1][:, :3584] for ops in (kernels, operations)),
        (ops.add_norm(hidden, delta, weight, 1e-5, 64)[0] for ops in (kernels, operations)),
        (ops.norm_backward(grad, hidden, weight, 1e-5, residual)[0][:, :3584] for ops in (kernels, operations)),
        (ops.norm_backward(grad, hidden, weight, 1e-5, residual)[1] for ops in (kernels, operations)),
        (ops.swiglu(gate_up, 64)[:, :1700] for ops in (kernels, operations)),
        (ops.swiglu_backward(gate_up, grad_up, 64)[0][:, :3400] for ops in (kernels, operations)),
        (ops.swiglu_backward(gate_up, grad_up, 64)[1] for ops in (kernels, operations)),
    ]
    for number, (found, exact) in enumerate(pairs):
        assert relative(found, exact) < tolerance, number
    for backward in (False, True):
        heads = values(256, 12 * 128)
        mine, theirs = heads.clone(), heads.clone()
        kernels.rotate(mine, cos, sin, 9, backward=backward)
        operations.rotate(theirs, cos, sin, 9, backward=backward)
        assert relative(mine, theirs) < tolerance
        assert torch.equal(mine[:, 9 * 128 :], heads[:, 9 * 128 :])
    mine, theirs = heads.clone(), heads.clone()
    befores = [ops.head_norm(each, 2, 5, weight[:128], 1e-6) for ops, each in ((kernels, mine), (operations, theirs))]
    assert torch.equal(*befores) and relative(mine, theirs) < tolerance
    kernels.head_norm_backward(mine, 2, 5, befores[0], weight[:128], 1e-6)
    operations.head_norm_backward(theirs, 2, 5, befores[1], weight[:128], 1e-6)
    assert relative(mine, theirs) < tolerance
    dropped = kernels.dropped(hidden, 0.25, 7)
    assert abs(float((dropped == 0).float().mean()) - 0.25) < 0.01
    assert torch.equal(dropped, kernels.dropped(hidden, 0.25, 7))
    assert not torch.equal(dropped, kernels.dropped(hidden, 0.25, 8))


@pytest.mark.parametrize("head_width", [16, 64, 128])
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_attention_kernels_compute_what_plain_torch_computes(head_width: int, num_kv_heads: int) -> None:
    from sightline.models.fused import kernels

    torch.manual_seed(0)
    heads, width = 4, (4 + 2 * num_kv_heads) * head_width
    layout = tree_layout(tree_ends(1536), torch.device("cuda"))
    values = torch.randn(1536, width, device="cuda").bfloat16()
    grad = torch.randn(1536, heads * head_width, device="cuda").bfloat16()
    common = (layout, heads, num_kv_heads, head_width**-0.5, 64)
    out, logsum = kernels.attention(values, *common)
    exact, empty = operations.attention(values.double(), *common)
    shown = np.s_[:, : heads * head_width]
    assert relative(out[shown], exact[shown]) < 5e-3
    found = kernels.attention_backward(grad, values, out, logsum, *common)[:, :width]
    wanted = operations.attention_backward(grad.double(), values.double(), exact, empty, *common)[:, :width]
    for start, end in ((0, heads), (heads, heads + num_kv_heads), (heads + num_kv_heads, heads + 2 * num_kv_heads)):
        part = np.s_[:, start * head_width : end * head_width]
        assert relative(found[part], wanted[part]) < 1e-2
    again = kernels.attention_backward(grad, values, out, logsum, *common)[:, :width]
    assert torch.equal(found, again)  # no atomic additions: the same bits every time


def on_gpu(name: str, folder: Path, dtype: torch.dtype, seed: int) -> LoadedModel:
    """A family's model of random weights with an adapter that does something."""
    if name == "llava":
        precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
        loaded = load_model(str(save_wide_llava(folder, seed=seed)), precision=precision)  # pyright: ignore
    else:
        made = random_model(name, dtype=dtype, seed=seed)
        loaded = wrap_model("random", made.module.cuda(), made.family, torch.device("cuda"))
    attach_lora(loaded, rank=4, alpha=8)
    torch.manual_seed(seed)
    for parameter_name, parameter in loaded.module.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.05)
    return loaded


def logprobs_and_gradients(loaded: LoadedModel, rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Log-probabilities in the branches' order, and all adapter gradients in one vector."""
    loaded.module.zero_grad()
    found: dict[int, Tensor] = {}
    for row in rows:
        logprob_M = row_logprobs(loaded, row)
        sft_loss(logprob_M, on_device(row.weight_M, loaded.device)).backward()
        found |= {b: logprob_M.detach()[torch.from_numpy(row.branch_M == k)] for k, b in enumerate(row.branches)}
    grads = [p.grad.flatten() for _, p in sorted(loaded.module.named_parameters()) if p.grad is not None]
    return torch.cat([found[branch] for branch in sorted(found)]), torch.cat(grads)


@pytest.mark.parametrize("name", NAMES)
def test_fused_bfloat16_error_is_no_larger_than_flats_own(name: str, tmp_path: Path) -> None:
    """Against a float32 oracle by stock modules: the fused tree, the fused flat and the stock flat, 8 seeds."""
    errors: dict[str, list[tuple[float, float]]] = {"tree": [], "flat": [], "stock": []}
    for seed in range(8):
        rounded = on_gpu(name, tmp_path / f"{seed}", torch.bfloat16, seed)
        oracle = on_gpu(name, tmp_path / f"{seed}", torch.float32, seed)
        oracle.module.load_state_dict(rounded.module.state_dict())
        sequences = random_sequences(rounded, seed + 50)
        random_sequences(oracle, seed + 50)  # makes the pictures known to the oracle too
        exact = logprobs_and_gradients(oracle, rows_of(sequences, "flat"))
        stock = dataclasses.replace(rounded, fuse=False)
        for arm, model in (("tree", rounded), ("flat", rounded), ("stock", stock)):
            found = logprobs_and_gradients(model, rows_of(sequences, "tree" if arm == "tree" else "flat"))
            errors[arm].append(tuple(relative(f, e) for f, e in zip(found, exact, strict=True)))  # pyright: ignore
        assert rounded.decoder is not None and rounded.decoder.kernels is not operations
    tree, flat, stock = (np.median(np.asarray(found), axis=0) for found in errors.values())
    print(f"{name}: log-probabilities and gradients: tree {tree}, flat {flat}, stock flat {stock}")
    assert (flat > 1e-4).all() and (flat < 0.3).all()
    assert (tree <= 1.2 * flat).all()
    assert (tree <= 1.2 * stock).all()


def test_fused_greedy_answers_do_not_depend_on_sharing(tmp_path: Path) -> None:
    """In bfloat16 numbers move with the rows, so answers may part where two tokens are as good as equal, rarely."""
    loaded = on_gpu("llava", tmp_path / "model", torch.bfloat16, 0)
    asked = [
        Sample(
            id=f"{number}-{place}",
            pictures=(picture(number),),
            messages=(Message(role="user", content=(0, question)),),
            answer="no",
        )
        for number in range(3)
        for place, question in enumerate(("left?", "left or right?", "how many 7", "is there a lung"))
    ]

    def texts(row_tokens: int) -> dict[str, str]:
        rows = answer_samples(loaded, asked, Decoding(max_new_tokens=4), model="m", data="d", row_tokens=row_tokens)
        return {answer.sample_id: answer.text for row in rows for answer in row}

    shared, alone = texts(4096), texts(1)
    assert sum(shared[name] == alone[name] for name in alone) >= len(alone) - 1


def num_compiled() -> int:
    """Count the variants of our kernels that Triton has compiled in this process."""
    from triton.runtime import JITFunction

    from sightline.models.fused import attention, kernels

    ours = [
        value for module in (attention, kernels) for value in vars(module).values() if isinstance(value, JITFunction)
    ]
    return sum(len(kernel.device_caches[torch.cuda.current_device()][0]) for kernel in ours)


def test_rows_of_other_lengths_compile_nothing(tmp_path: Path) -> None:
    loaded = on_gpu("llava", tmp_path / "model", torch.bfloat16, 0)

    def step(seed: int, num_branches: int) -> int:
        rows = rows_of(random_sequences(loaded, seed, num_branches), "tree")
        logprobs_and_gradients(loaded, rows)
        return sum(map(len, rows))

    for seed in (0, 1):
        step(seed, 6)
    after_two = num_compiled()
    lengths = {step(seed, num_branches) for seed, num_branches in enumerate((1, 2, 3, 5, 9, 17, 33, 4, 7, 12), start=2)}
    assert len(lengths) > 5
    assert num_compiled() == after_two > 5

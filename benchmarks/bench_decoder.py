"""How close a decoder's training step comes to its own matrix products, on LLaVA-1.5-7B's shape with random weights.

    python benchmarks/bench_decoder.py [--layers 32] [--tokens 12288] [--profile]

One row of trees like VQA-RAD's: 581 shared tokens, about six questions of 25. Forward and backward through all layers,
LoRA rank 16 on every linear, bfloat16; vision, head and optimizer are left out. The rate is compared with bare
products of the layer's own four shapes, forward and backward, in the same process.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaModel

from sightline.models.fused.binding import bind, rotary_angles
from sightline.models.fused.decoder import FusedDecoder, FusedInputs
from sightline.models.fused.layout import tree_layout

WIDTH, FEED, HEADS = 4096, 11008, 32
SHAPES = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * FEED), (FEED, WIDTH))
"""Inputs and outputs of a layer's four products."""


def trees(num_tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out trees like VQA-RAD's: subtree ends, positions, and the sources of answers."""
    rng = np.random.default_rng(seed)
    ends, positions, sources = np.arange(1, num_tokens + 1), np.zeros(num_tokens, dtype=np.int64), []
    at = 0
    while True:
        lengths = rng.integers(18, 33, size=int(rng.integers(3, 10)))
        end = at + 581 + int(lengths.sum())
        if end > num_tokens:
            return ends, positions, np.asarray(sources)
        ends[at : at + 581] = end
        positions[at : at + 581] = np.arange(581)
        place = at + 581
        for length in lengths:
            ends[place : place + length] = place + length
            positions[place : place + length] = 581 + np.arange(length)
            sources += range(place + length - 5, place + length - 1)
            place += length
        at = end


def model(num_layers: int) -> torch.nn.Module:
    """Make the language model with random weights and an adapter on every linear."""
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=FEED,
        num_hidden_layers=num_layers,
        num_attention_heads=HEADS,
        vocab_size=64,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        made = LlamaModel(config)
    torch.set_default_dtype(torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=r".*_proj")
    wrapped = get_peft_model(made, lora)  # pyright: ignore
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    return wrapped


def seconds(function, repeats: int = 5) -> float:
    """Time a function on the device: the median of some calls after two that do not count."""
    times = []
    for number in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        if number >= 2:
            times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def products_rate(num_tokens: int) -> float:
    """Measure bare products of the layer's own four shapes, forward and backward: TFLOP/s."""
    tensors = [
        (
            torch.randn(num_tokens, inputs, device="cuda", dtype=torch.bfloat16),
            torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16),
            torch.randn(num_tokens, outputs, device="cuda", dtype=torch.bfloat16),
        )
        for inputs, outputs in SHAPES
    ]

    def run() -> None:
        for _ in range(4):
            for x, weight, grad in tensors:
                torch.mm(x, weight.t())
                torch.mm(grad, weight)

    return 4 * 4 * num_tokens * sum(i * o for i, o in SHAPES) / seconds(run) / 1e12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--tokens", type=int, nargs="+", default=[12288])
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    wrapped = model(given.layers)
    stock = wrapped.base_model.model  # pyright: ignore
    decoder: FusedDecoder = bind(stock, dtype=torch.bfloat16)
    for num_tokens in given.tokens:
        ends, positions, sources = trees(num_tokens)
        cos, sin = rotary_angles(stock, torch.from_numpy(positions)[None].cuda())
        row = FusedInputs(
            layout=tree_layout(ends, torch.device("cuda")),
            cos_TE=cos,
            sin_TE=sin,
            asked_S=torch.from_numpy(sources).cuda(),
        )
        embeddings = torch.randn(num_tokens, WIDTH, device="cuda", dtype=torch.bfloat16)
        grad = torch.randn(len(sources), WIDTH, device="cuda", dtype=torch.bfloat16) * 1e-3

        def step(embeddings=embeddings, row=row, grad=grad) -> None:
            decoder(embeddings, row).backward(grad)

        rate = products_rate(num_tokens)
        torch.cuda.reset_peak_memory_stats()
        took = seconds(step)
        ours = 4 * given.layers * num_tokens * sum(i * o for i, o in SHAPES) / took / 1e12
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"T={num_tokens}: {took * 1e3:.1f} ms, {ours:.0f} TFLOP/s, products alone {rate:.0f}, "
            f"share {ours / rate:.3f}, peak {peak:.1f} GiB",
            flush=True,
        )
        if given.profile:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                step()
                torch.cuda.synchronize()
            print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=28, max_name_column_width=70))


if __name__ == "__main__":
    main()

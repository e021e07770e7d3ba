"""Hugging Face `generate` as a rival: a model both sides share in memory, and its inputs prepared ahead by workers."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from models_of_real_shape import build_model, make_folder
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from sightline.generation.answering import Wording, render_asked
from sightline.models.loading import LoadedModel, load_family, wrap_model
from sightline.records import Sample


@dataclass(kw_only=True)
class Arm:
    """What one way of asking took."""

    questions: int
    seconds: float
    peak_gib: float
    texts: dict[str, str] = field(repr=False)
    shares: dict[str, float] = field(default_factory=dict)


def now(device: torch.device) -> float:
    """Read the clock once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """Most memory in use since the last reset; 0 on the CPU, where nobody counts."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


class Prepared(torch.utils.data.Dataset):
    """Batches of questions as the stock processor gives them, each made when a worker is asked for it."""

    def __init__(self, processor: Any, samples: Sequence[Sample], batch: int, dtype: torch.dtype) -> None:
        self.processor, self.dtype = processor, dtype
        self.batches = [samples[start : start + batch] for start in range(0, len(samples), batch)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        batch = self.batches[number]
        content = [[{"type": "image"}, {"type": "text", "text": sample.question}] for sample in batch]
        texts = [
            self.processor.apply_chat_template([{"role": "user", "content": each}], add_generation_prompt=True)
            for each in content
        ]
        images = [Image.open(str(sample.pictures[0].path)).convert("RGB") for sample in batch]
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        return {**inputs, "pixel_values": inputs["pixel_values"].to(self.dtype)}


def num_workers(batch: int, num_batches: int, pixels: int) -> int:
    """Choose as many workers as there are cores to spare and as shared memory can carry the batches of."""
    in_flight = 3 * batch * pixels * pixels * 3 * 2  # a worker's two prefetched batches and the one it makes, bfloat16
    room = shutil.disk_usage("/dev/shm").free // in_flight
    if not room:
        sys.exit(f"/dev/shm has no room for {in_flight >> 20} MiB; generate would be starved of pictures")
    return min(12, max(1, (os.cpu_count() or 2) - 2), max(1, num_batches // 4), room)


def generate(loaded: LoadedModel, processor: Any, samples: Sequence[Sample], batch: int, **asked: Any) -> Arm:
    """Answer by the stock `generate`, in batches padded on the left; of several answers the last one is kept.

    Args:
        loaded: the model.
        processor: its stock processor.
        samples: what is asked.
        batch: questions at a time.
        asked: arguments of `generate`.
    """
    cuda = loaded.device.type == "cuda"
    prepared = Prepared(processor, samples, batch, loaded.dtype)
    workers = num_workers(batch, len(prepared), processor.image_processor.crop_size["height"])
    loader = torch.utils.data.DataLoader(prepared, batch_size=None, num_workers=workers, pin_memory=cuda, timeout=60)
    ids: list[str] = [sample.id for sample in samples]
    said: list[str] = []

    def answer(inputs: Mapping[str, torch.Tensor]) -> list[str]:
        given = {name: tensor.to(loaded.device, non_blocking=True) for name, tensor in inputs.items()}
        with torch.no_grad():
            output = loaded.module.generate(  # pyright: ignore
                **given, **asked, use_cache=True, pad_token_id=processor.tokenizer.pad_token_id
            )
        each = len(output) // len(given["input_ids"])
        new = output[each - 1 :: each, given["input_ids"].shape[1] :].tolist()
        return [text.strip() for text in processor.batch_decode(new, skip_special_tokens=True)]

    batches = iter(loader)
    first = next(batches)
    check_prompts(loaded, samples[:batch], first["input_ids"])
    answer(first)  # warms up
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began = now(loaded.device)
    said += answer(first)
    for inputs in batches:
        said += answer(inputs)
    seconds = now(loaded.device) - began
    texts = dict(zip(ids, said, strict=True))
    return Arm(questions=len(samples), seconds=seconds, peak_gib=peak_gib(loaded.device), texts=texts)


def check_prompts(loaded: LoadedModel, samples: Sequence[Sample], input_ids: torch.Tensor) -> None:
    """Assert that both sides are asked the same tokens."""
    for prompt, ids in zip(render_asked(loaded, samples, Wording()), input_ids, strict=True):
        assert prompt.token_ids_L.tolist() == ids[len(ids) - len(prompt) :].tolist()


def model_of(
    shape: str, texts: Sequence[str], folder: Path, dtype: torch.dtype | None = None
) -> tuple[LoadedModel, Any]:
    """Make a model with random weights, and the stock processor with the same image backend as ours."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_folder(shape, texts, folder)
    module = build_model(folder, device=device).eval().requires_grad_(False)
    loaded = wrap_model(shape, module.to(dtype) if dtype else module, load_family(str(folder)), torch.device(device))
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return loaded, processor

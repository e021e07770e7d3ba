"""What a study needs: disk, memory, hours and price, estimated from counts before any weight is read."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.checking.findings import Finding

ACCELERATOR_RATE = 400e12
"""Operations per second of one accelerator in training: LLaVA-1.5-7B in bf16 on an H200, as measured."""
CORE_RATE = 40e9
"""Operations per second of a processor core in float32, in products as small as those of small models."""
FASTEST_RATE = 2.5e15
"""Operations per second that no single accelerator exceeds in bf16."""
DECODING_SHARE = 0.1
"""Of that rate, when answers are written token by token and memory, not arithmetic, is the limit."""
PRICE_PER_HOUR = 3.0
"""Of an accelerator, in dollars, to turn hours into an order of magnitude."""

BYTES_PER_WEIGHT = {"nf4": 0.56, "int8": 1.0, "bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "auto": 2.0}
BYTES_PER_TRAINED = 16
"""A trained weight, its gradient and the two moments of AdamW, in float32."""

GIB = 2**30


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of a model's tensors from the heads of its safetensors files; empty without such."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            head = json.loads(opened.read(length))
        shapes |= {name: tuple(entry["shape"]) for name, entry in head.items() if name != "__metadata__"}
    return shapes


def count_parameters(base: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, str] | None:
    """Count a base's parameters, or read them off its name ("llava-1.5-7b-hf"); None where neither tells.

    Returns:
        the number, and where it is from.
    """
    if shapes:
        return float(sum(math.prod(shape) for shape in shapes.values())), "counted in its files"
    named = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z0-9])", base.rpartition("/")[2].lower())
    return (float(named[1]) * 1e9, "by its name") if named else None


def count_adapter(shapes: Mapping[str, tuple[int, ...]], targets: str, rank: int) -> int:
    """Count the parameters of a low-rank adapter on the layers whose names fit a pattern."""
    modules = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == 2}
    return rank * sum(sum(shape) for name, shape in modules.items() if re.fullmatch(targets, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a study computes, in counts.

    Args:
        parameters: of the base.
        parameters_from: where that number is from.
        num_trained: parameters of one adapter; 0 where not known.
        trained_tokens: that run in all trainings together, shared ones once.
        asked_tokens: of prompts, over models and wordings.
        answer_tokens: that are written at most.
        num_models: adapters that are made.
        num_checkpoints: kept while one is trained.
        weights: how the base is stored ("bf16", "nf4", ...).
        recomputes: whether activations are computed again in the backward pass.
        download_bytes: of base and data that are not here yet; None where not known.
    """

    parameters: float
    parameters_from: str
    num_trained: int
    trained_tokens: float
    asked_tokens: float
    answer_tokens: float
    num_models: int
    num_checkpoints: int
    weights: str
    recomputes: bool
    download_bytes: float | None = 0

    @property
    def training_operations(self) -> float:
        """Forward 2 operations per weight and token, backward through frozen weights 2, recomputing 2 more.

        Source: Kaplan et al. 2020, section 2.1, without the gradients of weights that are not trained.
        """
        return (6 if self.recomputes else 4) * self.parameters * self.trained_tokens

    def hours(self, rate: float) -> float:
        """Estimate the time of training and answering at a rate of operations per second."""
        answering = 2 * self.parameters * (self.asked_tokens + self.answer_tokens / DECODING_SHARE)
        return (self.training_operations + answering) / rate / 3600

    @property
    def memory_gib(self) -> float:
        """Weights, and what an adapter's training keeps; activations come on top."""
        return (self.parameters * BYTES_PER_WEIGHT[self.weights] + self.num_trained * BYTES_PER_TRAINED) / GIB

    @property
    def disk_gib(self) -> float:
        """Adapters, checkpoints with both moments, and what is downloaded."""
        kept = self.num_trained * 4 * (self.num_models + 3 * self.num_checkpoints)
        return (kept + (self.download_bytes or 0)) / GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to compute with.

    Args:
        num_accelerators: 0 where there is none.
        num_cores: of the processor.
        memory_gib: of one accelerator, or of the machine without one.
        free_disk_gib: where the study would be written.
    """

    num_accelerators: int
    num_cores: int
    memory_gib: float
    free_disk_gib: float


def check_cost(work: Work, machine: Machine, *, gpu_hours: float | None) -> Iterator[Finding]:
    """Estimate memory, disk, hours and price, and say what does not fit.

    Args:
        work: what is computed.
        machine: with what.
        gpu_hours: the study's budget.
    """
    hours = work.hours(ACCELERATOR_RATE)
    here = work.hours(CORE_RATE * machine.num_cores)
    short = [
        f"{what} {needed:.1f} GiB where {there:.1f} are there"
        for what, needed, there in (
            ("memory", work.memory_gib, machine.memory_gib),
            ("disk", work.disk_gib, machine.free_disk_gib),
        )
        if needed > there
    ]
    times = f"about {_time(hours)} and {hours * PRICE_PER_HOUR:.2f} dollars on one accelerator"
    if not machine.num_accelerators:
        times += f", about {_time(here)} here, on {machine.num_cores} cores"
    yield Finding(
        name="cost",
        severity="warning" if short else "note",
        message=f"{times}; {work.memory_gib:.2f} GiB of memory before activations, {work.disk_gib:.2f} GiB of disk"
        + (f"; not enough: {', '.join(short)}" if short else "")
        + f". Assumed: {work.parameters / 1e6:,.0f} million parameters ({work.parameters_from}), "
        f"{work.trained_tokens:,.0f} tokens in training at {'6' if work.recomputes else '4'} operations a parameter, "
        f"{work.asked_tokens:,.0f} read and at most {work.answer_tokens:,.0f} written in evaluation, "
        f"{ACCELERATOR_RATE / 1e12:.0f} TFLOP/s and {PRICE_PER_HOUR:g} dollars an hour"
        + ("" if work.num_trained else "; the adapter's size is not known before the base is here"),
        remedy="free some, store the base in fewer bits (quantize: nf4), or use another machine" if short else "",
        evidence={
            "hours": hours, "hours_here": here, "dollars": hours * PRICE_PER_HOUR, "memory_gib": work.memory_gib,
            "disk_gib": work.disk_gib, "parameters": work.parameters, "trained_tokens": work.trained_tokens,
        },
    )  # fmt: skip
    if gpu_hours is not None and (least := work.hours(FASTEST_RATE)) > gpu_hours:
        yield Finding(
            name="over-budget",
            severity="fault",
            message=f"budget.gpu_hours is {gpu_hours:g}, and no accelerator can do this in less than {least:.2g} hours",
            remedy="raise the budget, or ask for less: fewer rows, epochs, members or seeds",
            evidence={"least_hours": least, "gpu_hours": gpu_hours},
        )


def _time(hours: float) -> str:
    for unit, seconds, most in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 48)):
        number = max(1, round(hours * 3600 / seconds))
        if number <= most:
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{hours / 24:.0f} days"

"""sightline itself, by its own training loop: with shared prefixes (tree) and, in the same engine, without (flat)."""

from __future__ import annotations

import time
from typing import Any, Literal

from models_of_real_shape import build_model
from workload import NOT_LEARNT, as_sample

from arms.watch import ALPHA, BETA, CLIP, LEARNING_RATE, RANK, Job, Watch, adapter_type


def train(
    job: Job,
    watch: Watch,
    *,
    layout: Literal["tree", "flat"],
    row_tokens: int | Literal["auto"] = "auto",
    quantize: Literal["nf4", "int8"] | None = None,
    memory_gib: float | None = None,
    old_card: bool = False,
    gradient_checkpointing: bool = False,
    offload: bool = False,
) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do.
        watch: times.
        layout: whether prefixes are shared.
        row_tokens: tokens of one forward pass.
        quantize: how the base is stored; such an arm loads it by path.
        memory_gib: most memory to use; all there is by default.
        gradient_checkpointing: compute activations again.
        offload: keep activations in host memory.
        old_card: pretend that the card has neither bfloat16 nor Triton, as a T4: half precision and SDPA.
    """
    import torch

    from sightline.models.adapters import attach_lora
    from sightline.models.forward import save_memory
    from sightline.models.loading import load_family, load_model, wrap_model
    from sightline.study import PreferenceTraining, Training
    from sightline.training.batches import RenderedSet
    from sightline.training.loop import train as train_steps
    from sightline.trees.render import render

    family = load_family(str(job.folder))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if old_card:
        torch.cuda.get_device_capability = lambda device=None: (7, 5)
    if quantize:
        loaded = load_model(str(job.folder), family, precision="fp16" if old_card else "auto", quantize=quantize)
    else:
        module = build_model(job.folder, device=device.type).eval().requires_grad_(False)
        loaded = wrap_model(str(job.folder), module, family, device)
    samples = [as_sample(number, question) for number, question in enumerate(job.workload.questions)]
    loaded.features.register([picture for sample in samples for picture in sample.pictures])
    data = RenderedSet(
        sequences=[render(family, s.messages, s.pictures, s.answer, name=s.id) for s in samples],
        image_ids=[sample.image_id for sample in (samples[::2] if job.pairs else samples)],
        together=2 if job.pairs else 1,
    )
    notes: dict[str, Any] = {}
    if job.pairs:
        notes["objective"] = preference(loaded, data, notes)
    attach_lora(loaded, rank=RANK, alpha=ALPHA)
    save_memory(loaded, recompute=gradient_checkpointing, offload=offload)
    watch.check_trained(loaded.module)
    for step in job.workload.steps:
        longest = sum(len(data.sequences[number]) for number in step)
        numbers = [number // 2 for number in step[::2]] if job.pairs else step
        _check(job, data.rows(numbers, row_tokens=longest, layout=layout), step)
    settings = (PreferenceTraining if job.pairs else Training).model_validate(
        dict(
            batch_size=job.samples_per_step,
            branch_cap=job.workload.branch_cap,
            row_tokens=row_tokens,
            layout=layout,
            max_steps=len(job.workload.steps),
            learning_rate=LEARNING_RATE,
            schedule="constant",
            warmup=0,
            clip=CLIP,
            lora={"rank": RANK, "alpha": ALPHA, "dropout": 0.0},
        )
    )
    losses = []
    watch.begin()
    objective = notes.pop("objective", None)
    for record in train_steps(loaded, data, settings, memory_gib=memory_gib, objective=objective):
        watch.step_done(num_questions=record.samples, executed_tokens=record.executed_tokens)
        losses.append(record.loss)
    layers = "stock" if loaded.decoder is None else loaded.decoder.kernels.__name__.rpartition(".")[2]
    ran = f"rows of {row_tokens} tokens, {layers}"
    return {"first_loss": losses[0], "adapters": adapter_type(loaded.module), "pass": ran, **notes}


def preference(loaded: Any, data: Any, notes: dict[str, Any]) -> Any:
    """Make DPO's objective, asking the reference about every pair, and note how long that took."""
    from sightline.generation.answering import row_length
    from sightline.training.objectives import Preference
    from sightline.training.reference import answer_logprobs

    began = time.perf_counter()
    reference_N = answer_logprobs(loaded, data, row_tokens=row_length(loaded))
    notes["reference_seconds"], notes["num_pairs"] = time.perf_counter() - began, len(data)
    return Preference(reference_N=reference_N, beta=BETA)


def _check(job: Job, rows: Any, step: tuple[int, ...]) -> None:
    """See that a step's rows hold its questions, token by token and target by target."""
    found = {
        number: (row.token_ids_T[row.paths[k]].tolist(), row.target_M[row.branch_M == k].tolist())
        for row in rows
        for k, number in enumerate(row.branches)
    }
    expected = {
        number: (job.workload.token_ids[number], [t for t in job.workload.labels[number] if t != NOT_LEARNT])
        for number in step
    }
    if found != expected:
        raise ValueError(f"a step's rows hold other questions or targets than the workload's {step[:8]}...")

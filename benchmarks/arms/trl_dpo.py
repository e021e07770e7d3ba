"""TRL's DPOTrainer with its vision collator: at its defaults, and as fast as its documented options make it.

Its reference is the model without the adapter, asked in every step: for pictures it refuses to do that beforehand.
"""

from __future__ import annotations

from typing import Any

from models_of_real_shape import build_model

from arms.hf_trainer import arguments, run, with_adapter
from arms.watch import BETA, Job, Watch


def train(
    job: Job, watch: Watch, *, checkpointing: bool, liger: bool = False, bf16_adapters: bool = False, workers: int = 0
) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do.
        watch: times and checks.
        checkpointing: recompute activations; TRL's default.
        liger: replace norms, rotary embedding and SwiGLU by Liger's kernels.
        bf16_adapters: keep the adapter in bfloat16; PEFT's default for such a base is float32.
        workers: processes that prepare batches.
    """
    import torch
    from transformers import AutoProcessor
    from trl import DPOConfig, DPOTrainer

    model = build_model(job.folder, device="cuda" if torch.cuda.is_available() else "cpu")
    trainer = DPOTrainer(
        **with_adapter(model, bf16=bf16_adapters),
        args=DPOConfig(
            **arguments(job),
            beta=BETA,
            max_length=None,
            gradient_checkpointing=checkpointing,
            use_liger_kernel=liger,
            dataloader_num_workers=workers,
        ),
        train_dataset=pairs_as_dataset(job),
        processing_class=AutoProcessor.from_pretrained(job.folder),
    )
    return run(trainer, watch)


def pairs_as_dataset(job: Job) -> Any:
    """Make the dataset that TRL documents: images with prompt, chosen and rejected."""
    from datasets import Dataset, Image, List

    rows: list[dict[str, Any]] = []
    order, questions = job.workload.order, job.workload.questions
    for chosen, rejected in zip(order[0::2], order[1::2], strict=True):
        asked = [{"type": "image"}, {"type": "text", "text": questions[chosen].question}]
        row: dict[str, Any] = {"images": [questions[chosen].picture], "prompt": [{"role": "user", "content": asked}]}
        for column, number in (("chosen", chosen), ("rejected", rejected)):
            said = [{"type": "text", "text": questions[number].answer}]
            row[column] = [{"role": "assistant", "content": said}]
        rows.append(row)
    return Dataset.from_list(rows).cast_column("images", List(Image()))

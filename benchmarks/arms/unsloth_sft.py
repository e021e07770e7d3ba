"""Unsloth's FastVisionModel under the SFTTrainer it patches, as its vision notebooks set them up."""

from __future__ import annotations

import os
from typing import Any

from arms.hf_trainer import arguments, rows_as_dataset, run
from arms.watch import ALPHA, RANK, Job, Watch


def train(job: Job, watch: Watch, *, checkpointing: str | bool, nf4: bool = False, workers: int = 0) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do; the model is loaded by path, from disk.
        watch: times and checks.
        checkpointing: "unsloth" is its default: activations recomputed and offloaded.
        nf4: keep the base in 4 bits; its default.
        workers: processes that prepare batches.
    """
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(job.scratch / "unsloth_compiled")
    from unsloth import FastVisionModel  # before transformers, peft and trl, all of which it patches
    from unsloth.trainer import UnslothVisionDataCollator
    from trl import SFTConfig, SFTTrainer  # isort: skip

    model, processor = FastVisionModel.from_pretrained(
        str(job.folder),
        load_in_4bit=nf4,
        use_gradient_checkpointing=checkpointing,
        max_seq_length=2048,
    )
    model = FastVisionModel.get_peft_model(
        model,
        finetune_vision_layers=False,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0,
        bias="none",
        use_gradient_checkpointing=checkpointing,
    )
    FastVisionModel.for_training(model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments(job),
            max_length=None,
            gradient_checkpointing=bool(checkpointing),
            dataloader_num_workers=workers,
            remove_unused_columns=False,
            dataset_text_field="",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows_as_dataset(job),
        processing_class=processor,
        data_collator=UnslothVisionDataCollator(model, processor),
    )
    return run(trainer, watch)

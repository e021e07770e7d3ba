"""ms-swift's SFT pipeline, with its collator and the template written as the other arms have it."""

from __future__ import annotations

import json
from typing import Any

from arms.hf_trainer import arguments, clock
from arms.watch import ALPHA, RANK, Job, Watch


def train(job: Job, watch: Watch, *, checkpointing: bool, liger: bool = False, workers: int = 0) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do; the model is loaded by path, from disk.
        watch: times and checks.
        checkpointing: recompute activations; its default.
        liger: replace norms, rotary embedding and SwiGLU by Liger's kernels.
        workers: processes that prepare batches.
    """
    import torch
    from swift.arguments import SftArguments
    from swift.callbacks import callbacks_map
    from swift.pipelines.train import sft_main
    from swift.template.register import TemplateMeta, register_template
    from swift.template.templates.llava import LlavaHfTemplate

    register_template(
        TemplateMeta(
            "bench",
            prefix=["<s>"],
            prompt=["USER: {{QUERY}} ASSISTANT:"],
            chat_sep=["</s>"],
            suffix=["</s>"],
            template_cls=LlavaHfTemplate,
        )
    )
    rows = [job.workload.questions[number] for (number,) in job.rows]
    file = job.scratch / "swift.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for row in rows:
            messages = [
                {"role": "user", "content": f"<image>{row.question}"},
                {"role": "assistant", "content": f" {row.answer}"},
            ]
            lines.write(json.dumps({"messages": messages, "images": [row.picture]}) + "\n")
    notes: dict[str, Any] = {}
    callbacks_map["watch"] = lambda args, trainer: clock(watch, notes)
    given = dict(
        model=str(job.folder),
        model_type="llava1_5_hf",
        template="bench",
        torch_dtype="bfloat16" if torch.cuda.is_available() else "float32",
        dataset=[str(file)],
        dataset_shuffle=False,
        train_dataloader_shuffle=False,
        split_dataset_ratio=0.0,
        lazy_tokenize=True,
        max_length=2048,
        tuner_type="lora",
        lora_rank=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules=["all-linear"],
        freeze_vit=True,
        freeze_aligner=True,
        attn_impl="sdpa",
        use_liger_kernel=liger,
        gradient_checkpointing=checkpointing,
        dataloader_num_workers=workers,
        callbacks=["watch"],
        **arguments(job),
    )
    sft_main(SftArguments(**given))
    return notes

"""LLaMA-Factory's SFT workflow, with its collator and the template written as the other arms have it."""

from __future__ import annotations

import json
import os
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
    os.environ["DISABLE_VERSION_CHECK"] = "1"  # its pins end before the transformers that the other arms use
    from llamafactory.data.formatter import EmptyFormatter, StringFormatter
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.template import register_template
    from llamafactory.train.tuner import run_exp

    register_template(
        name="bench",
        format_user=StringFormatter(slots=["USER: {{content}} ASSISTANT:"]),
        format_assistant=StringFormatter(slots=[" {{content}}", {"eos_token"}]),
        format_prefix=EmptyFormatter(slots=[{"bos_token"}]),
        mm_plugin=get_mm_plugin(name="llava", image_token="<image>"),
    )
    questions = [job.workload.questions[number] for (number,) in job.rows]
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"<image>\n{question.question}"},
                {"role": "assistant", "content": question.answer},
            ],
            "images": [question.picture],
        }
        for question in questions
    ]
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    about = {"bench": {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (job.scratch / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (job.scratch / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    notes: dict[str, Any] = {}
    given = dict(
        stage="sft",
        do_train=True,
        model_name_or_path=str(job.folder),
        dataset="bench",
        dataset_dir=str(job.scratch),
        template="bench",
        cutoff_len=2048,
        disable_shuffling=True,
        overwrite_cache=True,
        finetuning_type="lora",
        lora_rank=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        lora_target="all",
        flash_attn="sdpa",
        enable_liger_kernel=liger,
        disable_gradient_checkpointing=not checkpointing,
        dataloader_num_workers=workers,
        **arguments(job),
    )
    del given["train_sampling_strategy"]  # `disable_shuffling` says it
    run_exp(given, callbacks=[clock(watch, notes)])
    return notes

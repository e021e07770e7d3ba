"""TRL's SFTTrainer with its vision collator: at its defaults, and as fast as its documented options make it."""

from __future__ import annotations

from typing import Any

from models_of_real_shape import build_model

from arms.hf_trainer import arguments, rows_as_dataset, run, with_adapter
from arms.watch import Job, Watch


def train(
    job: Job,
    watch: Watch,
    *,
    checkpointing: bool,
    liger: bool = False,
    nf4: bool = False,
    bf16_adapters: bool = False,
    workers: int = 0,
) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do.
        watch: times and checks.
        checkpointing: recompute activations; TRL's default.
        liger: replace norms, rotary embedding and SwiGLU by Liger's kernels.
        nf4: keep the base in 4 bits, doubly quantised, by bitsandbytes.
        bf16_adapters: keep the adapter in bfloat16; PEFT's default for such a base is float32.
        workers: processes that prepare batches.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(job.folder)
    if nf4:
        model = AutoModelForImageTextToText.from_pretrained(
            job.folder,
            dtype=torch.bfloat16,
            device_map={"": device},
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
                llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "model.visual", "lm_head"],
            ),
        )
    else:
        model = build_model(job.folder, device=device)
    trainer = SFTTrainer(
        **with_adapter(model, bf16=bf16_adapters),
        args=SFTConfig(
            **arguments(job),
            max_length=None,
            gradient_checkpointing=checkpointing,
            use_liger_kernel=liger,
            dataloader_num_workers=workers,
            remove_unused_columns=not job.merged,
        ),
        train_dataset=rows_as_dataset(job),
        processing_class=processor,
        data_collator=Conversations(processor) if job.merged else None,
    )
    return run(trainer, watch)


class Conversations:
    """Collates conversations of several turns, learning every answer: what TRL's own collator has no option for here.

    Args:
        processor: the model's.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Render, tokenise and pad; an answer's labels are its own tokens and the end token after it."""
        tokenizer = self.processor.tokenizer
        texts = [self.processor.apply_chat_template(example["messages"], tokenize=False) for example in examples]
        batch = self.processor(
            text=texts,
            images=[example["images"] for example in examples],
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=False,
        )
        batch["labels"] = batch["input_ids"].new_full(batch["input_ids"].shape, -100)
        for ids, labels, example in zip(batch["input_ids"], batch["labels"], examples, strict=True):
            answers = [turn["content"][0]["text"] for turn in example["messages"] if turn["role"] == "assistant"]
            ends = (ids == tokenizer.eos_token_id).nonzero().flatten().tolist()
            for end, answer in zip(ends, answers, strict=True):
                start = end - len(tokenizer(f" {answer}", add_special_tokens=False).input_ids)
                labels[start : end + 1] = ids[start : end + 1]
        return batch

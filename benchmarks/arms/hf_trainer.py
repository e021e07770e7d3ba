"""What TRL and Unsloth have in common: a dataset of rows, a configuration, and a callback that tells the watch."""

from __future__ import annotations

from typing import Any

from models_of_real_shape import LANGUAGE_LINEARS

from arms.watch import ALPHA, CLIP, LEARNING_RATE, RANK, Job, Watch, adapter_type


def rows_as_dataset(job: Job) -> Any:
    """Make the dataset both trainers document: images with prompt and completion, or with a whole conversation."""
    from datasets import Dataset, Image, List

    rows: list[dict[str, Any]] = []
    for numbers in job.rows:
        questions = [job.workload.questions[number] for number in numbers]
        messages: list[dict[str, Any]] = []
        for question in questions:
            picture = [] if messages else [{"type": "image"}]
            asked = [*picture, {"type": "text", "text": question.question}]
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": [{"type": "text", "text": question.answer}]})
        columns = {"messages": messages} if job.merged else {"prompt": messages[:1], "completion": messages[1:]}
        rows.append({"images": [questions[0].picture], **columns})
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def arguments(job: Job) -> dict[str, Any]:
    """Give the settings all arms share; whatever else a trainer's configuration has stays at its default."""
    import torch

    rows = min(job.micro_batch, job.samples_per_step)
    return dict(
        output_dir=str(job.scratch),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=job.samples_per_step // rows,
        max_steps=job.num_steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=CLIP,
        weight_decay=0.0,
        train_sampling_strategy="sequential",
        bf16=torch.cuda.is_available(),
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )


def with_adapter(model: Any, *, bf16: bool) -> dict[str, Any]:
    """Give a trainer's `model` and `peft_config` for the LoRA adapter that every arm trains.

    Args:
        model: the base.
        bf16: keep the adapter in bfloat16; PEFT's default for such a base is float32.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=LANGUAGE_LINEARS)
    if bf16:
        return {"model": get_peft_model(model, lora, autocast_adapter_dtype=False), "peft_config": None}
    return {"model": model, "peft_config": lora}


def clock(watch: Watch, notes: dict[str, Any]) -> Any:
    """Make the callback that lets the watch look on, and notes what should stand beside the times."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            watch.follow(model)
            notes["adapters"] = adapter_type(model)
            watch.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            watch.step_done()

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            notes["first_loss"] = next(entry["loss"] for entry in state.log_history if "loss" in entry)

    return Clock()


def run(trainer: Any, watch: Watch) -> dict[str, Any]:
    """Train, with the watch looking on; return what should stand beside the times."""
    notes: dict[str, Any] = {}
    trainer.add_callback(clock(watch, notes))
    trainer.train()
    return notes

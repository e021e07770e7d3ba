"""A training loop as one would write it by hand: transformers, PEFT, one row a question. A check on the others."""

from __future__ import annotations

from typing import Any

from models_of_real_shape import LANGUAGE_LINEARS, build_model

from arms.watch import ALPHA, CLIP, LEARNING_RATE, RANK, Job, Watch, adapter_type


def train(job: Job, watch: Watch, *, workers: int = 0) -> dict[str, Any]:
    """Train the job.

    Args:
        job: what to do.
        watch: times and checks.
        workers: processes that prepare batches.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from PIL import Image
    from torch.utils.data import DataLoader
    from transformers import AutoProcessor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(job.folder)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=LANGUAGE_LINEARS)
    model = get_peft_model(build_model(job.folder, device=device), lora, autocast_adapter_dtype=False).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    watch.follow(model)

    def collate(numbers: list[int]) -> Any:
        asked = [job.workload.questions[number] for number in numbers]
        conversations = [
            [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.question}]},
                {"role": "assistant", "content": question.answer},
            ]
            for question in asked
        ]
        batch = processor(
            text=[processor.apply_chat_template(conversation, tokenize=False) for conversation in conversations],
            images=[Image.open(question.picture).convert("RGB") for question in asked],
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=False,
        )
        batch["labels"] = torch.full_like(batch["input_ids"], -100)
        for row, question in enumerate(asked):
            end = int(batch["attention_mask"][row].sum())
            start = end - 1 - len(processor.tokenizer(f" {question.answer}", add_special_tokens=False).input_ids)
            batch["labels"][row, start:end] = batch["input_ids"][row, start:end]
        return batch

    order = [number for (number,) in job.rows]
    loader = DataLoader(order, batch_size=job.micro_batch, collate_fn=collate, num_workers=workers, pin_memory=True)  # pyright: ignore
    first_loss = torch.zeros((), device=device)
    watch.begin()
    batches = iter(loader)
    for step in job.workload.steps:
        num_learnt = len(job.workload.learnt(step))
        for _ in range(len(step) // job.micro_batch):
            batch = next(batches).to(device)
            share = (batch["labels"] >= 0).sum() / num_learnt
            loss = model(**batch, use_cache=False).loss * share
            loss.backward()
            if step is job.workload.steps[0]:
                first_loss += loss.detach()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        watch.step_done()
    return {"first_loss": float(first_loss), "adapters": adapter_type(model)}

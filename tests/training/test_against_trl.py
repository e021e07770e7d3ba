"""DPO is what TRL's DPOTrainer makes of the same pairs: tokens, loss, rewards and gradients, in float32."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.data.pictures import open_picture
from sightline.models.adapters import adapter_weights, attach_lora
from sightline.models.loading import LoadedModel
from sightline.training.objectives import Preference
from sightline.training.reference import answer_logprobs
from test_equivalence import relative_error
from tiny_families import noise, random_model
from training.test_preferences import CROSSED, ONE, THREE, pair_set, step

BETA, RANK, ALPHA = 0.3, 4, 8


def trainer_of(loaded: LoadedModel, rows: list[dict[str, Any]], folder: Path, loss: str) -> Any:
    """TRL's trainer of a model's copy, its fresh adapter on the same layers, noise where it would begin with zeros."""
    pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from peft import LoraConfig

    trainer = trl.DPOTrainer(
        model=copy.deepcopy(loaded.module),
        args=trl.DPOConfig(
            output_dir=str(folder),
            beta=BETA,
            loss_type=[loss],
            max_length=None,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.family.processor,  # pyright: ignore
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=loaded.family.lora_targets),
    )
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return trainer


def rows_of(pairs: list[tuple[str, str]], num_pictures: int = 2) -> list[dict[str, Any]]:
    """The pairs of `pair_set` as TRL reads them."""
    return [
        {
            "images": [open_picture(noise(number))],
            "prompt": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": ("left?", "how many")[place % 2]}],
                }
            ],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": chosen}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "text", "text": rejected}]}],
        }
        for number in range(num_pictures)
        for place, (chosen, rejected) in enumerate(pairs)
    ]


CASES = {
    "1": (ONE, "sigmoid"),
    "3": (THREE, "sigmoid"),
    "3x3": (CROSSED, "sigmoid"),
    "means over tokens": (THREE, "sigmoid_norm"),
    "hinge": (THREE, "hinge"),
    "ipo": (THREE, "ipo"),
}


@pytest.mark.parametrize(("pairs", "loss"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore")  # TRL's and accelerate's own
def test_tokens_loss_rewards_and_gradients(pairs: list[tuple[str, str]], loss: Any, tmp_path: Path) -> None:
    loaded = random_model("llava", dtype=torch.float32)
    processor = loaded.family.processor  # pyright: ignore
    processor.chat_template = "<s>" + processor.chat_template  # TRL adds none of its own
    rows = rows_of(pairs)
    trainer = trainer_of(loaded, rows, tmp_path, loss)
    data = pair_set(loaded, pairs)
    reference = answer_logprobs(loaded, data, row_tokens=512)
    attach_lora(loaded, rank=RANK, alpha=ALPHA)
    theirs = adapter_weights(trainer.model)
    with torch.no_grad():
        for name, tensor in adapter_weights(loaded.module).items():
            tensor.copy_(theirs[name])

    batch = trainer.data_collator(rows)
    seen = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    ours = [sequence.token_ids_L.tolist() for sequence in data.sequences]
    assert seen == ours[0::2] + ours[1::2]

    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()
    _, value, metrics, gradients = step(loaded, data, Preference(reference_N=reference, beta=BETA, kind=loss), "tree")
    assert value == pytest.approx(float(expected), rel=1e-5)
    told = {name: sum(values) / len(values) for name, values in trainer._metrics["train"].items()}
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert metrics[name] == pytest.approx(told[name], rel=1e-4, abs=1e-5)
    for name in ("logps/chosen", "logps/rejected"):
        assert metrics[name] == pytest.approx(told[name], rel=1e-5)
    wanted = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert wanted.keys() == gradients.keys()
    for name, gradient in wanted.items():
        assert relative_error(gradients[name], gradient) < 1e-4, name

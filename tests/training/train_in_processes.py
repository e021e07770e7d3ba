"""Trains a LLaVA of random weights in float64 and writes losses and adapter; run alone or under torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import save_file

from sightline.models.adapters import adapter_weights, attach_lora
from sightline.records import Message
from sightline.study import Training
from sightline.training.loop import RenderedSet, train
from sightline.trees.render import render
from tiny_llava import picture, random_llava

out = Path(sys.argv[1])
accelerator = Accelerator(cpu=True)
loaded = random_llava()
attach_lora(loaded, rank=4, alpha=8, dropout=0.0)
sequences, image_ids = [], []
for number in range(7):
    shown = picture(number)
    loaded.features.register([shown])
    for question in ("left?", "how many", "is there a lung")[: 1 + number % 3]:
        messages = [Message(role="user", content=(0, question))]
        sequences.append(render(loaded.family, messages, [shown], str(number)))
        image_ids.append(shown.sha256)
data = RenderedSet(sequences=sequences, image_ids=image_ids)
# Rows of 60 tokens: a step has several, the last step fewer than there are processes.
# A process with more room would choose longer ones; all must lay out the same rows.
row_tokens = 60 + 10 * accelerator.process_index
settings = Training(batch_size=4, epochs=3, learning_rate=0.01, row_tokens=row_tokens, eval_every=3)
records = list(train(loaded, data, settings, validation=data, accelerator=accelerator))
if accelerator.is_main_process:
    trace = [[record.loss, record.grad_norm, record.validation_loss] for record in records]
    out.with_suffix(".json").write_text(json.dumps({"processes": accelerator.num_processes, "trace": trace}))
    save_file({name: tensor.contiguous() for name, tensor in adapter_weights(loaded.module).items()}, out)
if accelerator.num_processes > 1:
    accelerator.wait_for_everyone()
    accelerator.end_training()

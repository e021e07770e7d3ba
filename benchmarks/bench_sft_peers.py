"""LoRA SFT on VQA-RAD, sightline beside its peers: the same questions in the same steps, one process an arm.

    python benchmarks/bench_sft_peers.py --data FOLDER --arms trl-best,sightline-tree --json FILE --markdown FILE

Weights are random and of real shape (`models_of_real_shape`), so times mean something and losses do not. Every arm runs
forward, backward, clipping and AdamW over the same questions in the same steps; token ids, labels and the number of
trained parameters are compared in every step, outside the timing. README.md says what each arm is.
"""

from __future__ import annotations

import argparse

from models_of_real_shape import add_weights, make_folder
from peers import Arm, main, workload_file
from workload import plan, vqa_rad_questions, with_exactly

TRL_BEST = {"checkpointing": False, "liger": True, "workers": 8}
UNSLOTH_BEST = {"checkpointing": False, "workers": 8}
ARMS = {
    "sightline-tree": Arm(module="sightline", about="shared prefixes", options={"layout": "tree"}),
    "sightline-flat": Arm(module="sightline", about="the same engine, nothing shared", options={"layout": "flat"}),
    "sightline-nf4": Arm(
        module="sightline",
        about="shared prefixes, 4-bit base",
        options={"layout": "tree", "quantize": "nf4"},
        needs_weights=True,
    ),
    "sightline-nf4-22": Arm(
        module="sightline",
        about="4-bit base in 22 GiB",
        options={"layout": "tree", "quantize": "nf4", "memory_gib": 22},
        needs_weights=True,
    ),
    "sightline-nf4-14": Arm(
        module="sightline",
        about="4-bit base in 14 GiB, half precision and SDPA as on a T4",
        options={"layout": "tree", "quantize": "nf4", "memory_gib": 14, "old_card": True},
        needs_weights=True,
    ),
    "sightline-qwen": Arm(
        module="sightline", about="shared prefixes", options={"layout": "tree"}, shape="qwen2.5-vl-7b"
    ),
    "sightline-offload": Arm(
        module="sightline",
        about="activations computed again from what waits in host memory",
        options={"layout": "tree", "gradient_checkpointing": True, "offload": True},
    ),
    "sightline-checkpointing": Arm(
        module="sightline",
        about="activations computed again",
        options={"layout": "tree", "gradient_checkpointing": True},
    ),
    "plain": Arm(module="plain_loop", about="hand-written loop, bf16 adapters", micro_batch=8, options={"workers": 8}),
    "trl-defaults": Arm(
        module="trl_sft", about="TRL at its defaults: checkpointing", micro_batch=8, options={"checkpointing": True}
    ),
    "trl-best": Arm(module="trl_sft", about="TRL, no checkpointing, Liger", options=TRL_BEST),
    "trl-best-bf16": Arm(
        module="trl_sft", about="the same, bf16 adapters", options={**TRL_BEST, "bf16_adapters": True}
    ),
    "trl-merged": Arm(
        module="trl_sft", about="TRL best on multi-turn data: another objective", options=TRL_BEST, merged=True
    ),
    "trl-merged-bf16": Arm(
        module="trl_sft",
        about="the same, bf16 adapters",
        options={**TRL_BEST, "bf16_adapters": True},
        merged=True,
    ),
    "trl-nf4": Arm(
        module="trl_sft", about="TRL best, 4-bit base", options={**TRL_BEST, "nf4": True}, needs_weights=True
    ),
    "trl-qwen": Arm(
        module="trl_sft", about="TRL best on Qwen2.5-VL", micro_batch=8, options=TRL_BEST, shape="qwen2.5-vl-7b"
    ),
    "trl-qwen-bf16": Arm(
        module="trl_sft",
        about="the same, bf16 adapters",
        micro_batch=8,
        options={**TRL_BEST, "bf16_adapters": True},
        shape="qwen2.5-vl-7b",
    ),
    "unsloth-defaults": Arm(
        module="unsloth_sft",
        about="Unsloth at its defaults: offloaded checkpointing",
        options={"checkpointing": "unsloth"},
        needs_weights=True,
    ),
    "unsloth-best": Arm(
        module="unsloth_sft", about="Unsloth, no checkpointing", options=UNSLOTH_BEST, needs_weights=True
    ),
    "unsloth-nf4": Arm(
        module="unsloth_sft",
        about="Unsloth best, 4-bit base",
        options={**UNSLOTH_BEST, "nf4": True},
        needs_weights=True,
    ),
    "swift-best": Arm(
        module="swift_sft", about="ms-swift, no checkpointing, Liger", options=TRL_BEST, needs_weights=True
    ),
    "llamafactory-best": Arm(
        module="llamafactory_sft",
        about="LLaMA-Factory, no checkpointing, Liger",
        options=TRL_BEST,
        needs_weights=True,
    ),
}


def prepare(given: argparse.Namespace, shape: str) -> None:
    """Make a shape's folder and workload, unless an earlier call did."""
    import torch

    folder, file = given.work / shape, workload_file(given, shape)
    if not file.is_file():
        questions = vqa_rad_questions(given.data)
        make_folder(shape, [text for q in questions for text in (q.question, q.answer)], folder)
        if given.questions:
            questions = with_exactly(questions, given.questions)
        name = f"exactly {given.questions} questions an image" if given.questions else "VQA-RAD, as it is"
        plan(
            name + (f", at most {given.branch_cap} together" if given.branch_cap else ""),
            questions,
            batch_size=given.batch_size,
            num_steps=given.warmup + given.steps + 1,
            branch_cap=given.branch_cap,
            folder=folder,
        ).write(file)
    if given.weights:
        add_weights(folder, device="cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main("LoRA SFT beside its peers", "question", ARMS, prepare)

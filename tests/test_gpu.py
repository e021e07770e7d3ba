"""What the CPU tests show, on a CUDA device: shared and unshared rows agree; in bfloat16 sharing costs no accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.loading import LoadedModel, wrap_model
from sightline.records import Message, Sample
from sightline.trees.render import render
from sightline.trees.sampler import step_rows
from tiny_llava import picture, random_llava

pytestmark = pytest.mark.gpu
QUESTIONS = ("left?", "left or right?", "how many 7", "is there a lung")


def on_gpu(dtype: torch.dtype, seed: int = 0) -> LoadedModel:
    loaded = random_llava(dtype=dtype, seed=seed)
    return wrap_model("random", loaded.module.cuda(), loaded.family, torch.device("cuda"))


def samples() -> list[Sample]:
    return [
        Sample(
            id=f"{number}-{place}",
            pictures=(picture(number),),
            messages=(Message(role="user", content=(0, question)),),
            answer=f"no, {number}",
        )
        for number in range(3)
        for place, question in enumerate(QUESTIONS)
    ]


def logprobs(loaded: LoadedModel, layout: str) -> torch.Tensor:
    from sightline.models.forward import row_logprobs

    asked = samples()
    loaded.features.register([shown for sample in asked for shown in sample.pictures])
    sequences = [render(loaded.family, s.messages, s.pictures, s.answer) for s in asked]
    rows = step_rows(
        range(len(asked)),
        rendered=sequences.__getitem__,
        image_ids=[sample.image_id for sample in asked],
        row_tokens=4096,
        layout=layout,  # pyright: ignore
    )
    found: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for row in rows:
            logprob_M = row_logprobs(loaded, row).double().cpu()
            found |= {b: logprob_M[torch.from_numpy(row.branch_M == k)] for k, b in enumerate(row.branches)}
    return torch.cat([found[number] for number in range(len(asked))])


def test_tree_equals_flat_in_float64() -> None:
    loaded = on_gpu(torch.float64)
    torch.testing.assert_close(logprobs(loaded, "tree"), logprobs(loaded, "flat"), rtol=0, atol=1e-9)


def test_the_gpu_agrees_with_the_cpu() -> None:
    # Stock norms and rotary angles are computed in float32, which rounds differently on the two devices.
    ours, theirs = logprobs(on_gpu(torch.float64), "tree"), logprobs(random_llava(dtype=torch.float64), "tree")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_bfloat16_error_is_no_larger_than_flats_own() -> None:
    errors: dict[str, list[float]] = {"tree": [], "flat": []}
    for seed in range(8):
        rounded, oracle = on_gpu(torch.bfloat16, seed), on_gpu(torch.float32, seed)
        oracle.module.load_state_dict(rounded.module.state_dict())
        exact = logprobs(oracle, "flat")
        for layout, found in errors.items():
            found.append(float((logprobs(rounded, layout) - exact).norm() / exact.norm()))
    tree, flat = (float(np.median(found)) for found in errors.values())
    print(f"median relative error in bfloat16: tree {tree:.3e}, flat {flat:.3e}, ratio {tree / flat:.3f}")
    assert 1e-4 < flat < 0.2 and tree <= 1.2 * flat


def test_greedy_answers_do_not_depend_on_sharing() -> None:
    loaded = on_gpu(torch.float64)

    def texts(row_tokens: int) -> dict[str, str]:
        rows = answer_samples(
            loaded, samples(), Decoding(max_new_tokens=12), model="m", data="d", row_tokens=row_tokens
        )
        return {answer.sample_id: answer.text for row in rows for answer in row}

    assert texts(4096) == texts(1)

"""What we compute for one sample is what the stock processor and model compute, for every family.

The oracle is transformers itself: its processor on the rendered text and the opened pictures, its forward with the
positions it works out, its `generate`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.data.pictures import open_picture
from sightline.generation.answering import Wording, answer_samples, render_asked
from sightline.generation.decoding import Leaf, decode_row
from sightline.generation.sampling import Decoding
from sightline.models.adapters import attach_lora
from sightline.models.forward import row_inputs, row_logprobs, stock_hidden_states, stock_inputs
from sightline.models.loading import LoadedModel
from sightline.records import Message, Picture, Sample
from sightline.trees.render import Rendered, render
from sightline.trees.row import build_tree
from test_equivalence import random_sequences
from tiny_families import NAMES, QWENS, noise, random_model

WIDE, TALL, SQUARE = noise(1, 40, 16), noise(2, 17, 33), noise(3, 24, 24)

PROMPTS: dict[str, tuple[tuple[str | int, ...], list[Picture]]] = {
    "one picture": ((0, "is there an opacity?"), [WIDE]),
    "several pictures": ((0, 1, 2, "what changed?"), [WIDE, TALL, SQUARE]),
    "pictures within the text": (("before ", 0, " and after ", 1, ": what changed?"), [TALL, WIDE]),
    "pictures in another order": (("after ", 1, " and before ", 0, ": what changed?"), [TALL, WIDE]),
    "text before the picture": (("how many? ", 0), [SQUARE]),
    "no picture": (("what is an opacity?",), []),
}


def stock_batch(loaded: LoadedModel, content: tuple[str | int, ...], shown: list[Picture], answer: str | None) -> Any:
    """The stock processor's inputs for a prompt, answered or to be answered."""
    family: Any = loaded.family
    messages = [Message(role="user", content=content)]
    if answer is not None:
        messages.append(Message(role="assistant", content=(answer,)))
    text = family.chat_text(messages, generation_prompt=answer is None)
    images = [open_picture(shown[part]) for part in content if isinstance(part, int)]
    return family.processor(text=text, images=images or None, return_tensors="pt")


def rendered(loaded: LoadedModel, content: tuple[str | int, ...], shown: list[Picture], answer: str | None) -> Rendered:
    loaded.features.register(shown)
    return render(loaded.family, [Message(role="user", content=content)], shown, answer)


def stock_logprobs(loaded: LoadedModel, batch: Any, sequence: Rendered) -> Tensor:
    ids = torch.from_numpy(sequence.token_ids_L)
    assert batch["input_ids"][0, : len(ids)].tolist() == ids.tolist()
    with torch.no_grad():
        logprobs = torch.log_softmax(loaded.module(**batch).logits[0].float(), -1)
    learnt = torch.from_numpy(np.flatnonzero(sequence.weight_L))
    return logprobs[learnt - 1, ids[learnt]]


@pytest.fixture(scope="module", params=NAMES)
def bare(request: pytest.FixtureRequest) -> LoadedModel:
    return random_model(request.param, dtype=torch.float32)


@pytest.fixture(scope="module", params=NAMES)
def adapted(request: pytest.FixtureRequest) -> LoadedModel:
    loaded = random_model(request.param, dtype=torch.float32)
    attach_lora(loaded, rank=4, alpha=8)
    for name, parameter in loaded.module.named_parameters():
        if "lora_B" in name:  # B starts at 0, and the adapter would change nothing
            nn.init.normal_(parameter, std=0.1)
    return loaded


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logprobs_are_those_of_the_stock_forward(bare: LoadedModel, prompt: str) -> None:
    sequence = rendered(bare, *PROMPTS[prompt], "no, left lung")
    with torch.no_grad():
        ours = row_logprobs(bare, build_tree([sequence], [0]))
    stock = stock_logprobs(bare, stock_batch(bare, *PROMPTS[prompt], "no, left lung"), sequence)
    assert len(ours) == len("no, left lung") + (1 if bare.family.end_tokens[0] == "<|im_end|>" else 2)  # bytes, end
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["several pictures", "no picture"])
def test_logprobs_with_an_adapter_are_those_of_the_stock_forward(adapted: LoadedModel, prompt: str) -> None:
    sequence = rendered(adapted, *PROMPTS[prompt], "no, left lung")
    batch = stock_batch(adapted, *PROMPTS[prompt], "no, left lung")
    with torch.no_grad():
        ours = row_logprobs(adapted, build_tree([sequence], [0]))
        with adapted.module.disable_adapter():  # pyright: ignore
            without = row_logprobs(adapted, build_tree([sequence], [0]))
    torch.testing.assert_close(ours, stock_logprobs(adapted, batch, sequence), rtol=0, atol=1e-5)
    assert float((ours - without).abs().max()) > 0.01


@pytest.mark.parametrize("prompt", PROMPTS)
def test_stock_inputs_are_those_of_the_stock_processor(bare: LoadedModel, prompt: str) -> None:
    ours = stock_inputs(bare, rendered(bare, *PROMPTS[prompt], None))
    stock = stock_batch(bare, *PROMPTS[prompt], None)
    assert ours.keys() == stock.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], stock[name], rtol=0, atol=0)


# --- positions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QWENS)
def test_positions_are_those_the_stock_model_works_out(name: str) -> None:
    loaded = random_model(name)
    sequences = [sequence for seed in range(8) for sequence in random_sequences(loaded, seed)]
    assert {len(sequence.pictures) for sequence in sequences} == {0, 1, 2}
    for sequence in sequences:
        inputs = stock_inputs(loaded, sequence)
        stock, _ = loaded.inner.model.get_rope_index(  # pyright: ignore
            inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs.get("image_grid_thw")
        )
        assert sequence.positions_AL.tolist() == stock[:, 0].tolist()


def test_positions_of_text_count_on(bare: LoadedModel) -> None:
    sequence = rendered(bare, *PROMPTS["no picture"], "no")
    assert (sequence.positions_AL == np.arange(len(sequence))).all()
    assert len(sequence.positions_AL) == (1 if bare.module.config.model_type == "llava" else 3)  # pyright: ignore


def test_a_picture_taken_for_text_would_be_seen() -> None:
    """Qwen2.5-VL says nothing when it is not told which tokens are image tokens, and numbers them like text."""
    loaded = random_model("qwen2_5_vl", dtype=torch.float32)
    sequence = rendered(loaded, *PROMPTS["several pictures"], "no")
    inputs = stock_inputs(loaded, sequence)
    with torch.no_grad():
        told = loaded.module(**inputs).logits
        loaded.inner.model.rope_deltas = None  # pyright: ignore
        untold = loaded.module(**{name: value for name, value in inputs.items() if name != "mm_token_type_ids"}).logits
    assert float((told - untold).abs().max()) > 0.1
    assert len(np.unique(sequence.positions_AL, axis=1).T) == len(sequence)  # every token has a place of its own
    assert sequence.positions_AL.max() < len(sequence) - 1


# --- deepstack ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaking", ["left out", "in another order", "elsewhere"])
def test_deepstack_features_reach_their_layers_and_places(breaking: str) -> None:
    loaded = random_model("qwen3_vl")
    inputs = row_inputs(loaded, build_tree([rendered(loaded, *PROMPTS["several pictures"], "no")], [0]))
    first, second = inputs.deepstack
    assert (
        len(first)
        == len(second)
        == len(inputs.image_I)
        == sum(loaded.family.num_image_tokens(shown) for shown in (WIDE, TALL, SQUARE))
    )
    broken = {
        "left out": {"deepstack": ()},
        "in another order": {"deepstack": (second, first)},
        "elsewhere": {"deepstack": (first.flip(0), second.flip(0))},
    }[breaking]
    with torch.no_grad():
        difference = stock_hidden_states(loaded, dataclasses.replace(inputs, **broken)) - stock_hidden_states(
            loaded, inputs
        )
    assert float(difference.abs().max()) > 1e-3


# --- decoding -------------------------------------------------------------------------------------------------------


def test_greedy_tokens_are_the_stock_ones(bare: LoadedModel) -> None:
    """All prompts in one row, each with two ends that share its beginning."""
    asked = [
        Sample(
            id=f"{prompt} {more}",
            pictures=tuple(shown),
            messages=(Message(role="user", content=(*content, more)),),
            answer="yes",
        )
        for prompt, (content, shown) in PROMPTS.items()
        for more in ("left?", "left or right?")
    ]
    prompts = render_asked(bare, asked, Wording())
    row = build_tree(prompts, range(len(asked)))
    leaves = [Leaf(branch=number, sample_id=sample.id) for number, sample in enumerate(asked)]
    answers = decode_row(bare, row, leaves, Decoding(max_new_tokens=16))
    for prompt, tokens in zip(prompts, answers, strict=True):
        stock = bare.inner.generate(  # pyright: ignore
            **stock_inputs(bare, prompt),
            do_sample=False,
            max_new_tokens=16,
            eos_token_id=list(bare.end_token_ids),
            pad_token_id=0,
        )
        assert tokens == stock[0, len(prompt) :].tolist()
    assert len({tuple(tokens) for tokens in answers}) > 3


@pytest.mark.parametrize("prompt", ["pictures in another order", "no picture"])
def test_beams_are_the_stock_search(bare: LoadedModel, prompt: str) -> None:
    content, shown = PROMPTS[prompt]
    sample = Sample(id="1", pictures=tuple(shown), messages=(Message(role="user", content=content),), answer="yes")
    [[answer]] = answer_samples(bare, [sample], Decoding(max_new_tokens=6, num_beams=3), model="m", data="d")
    batch = stock_batch(bare, content, shown, None)
    output = bare.inner.generate(  # pyright: ignore
        **batch, num_beams=3, do_sample=False, max_new_tokens=6, eos_token_id=list(bare.end_token_ids), pad_token_id=0
    )
    assert answer.text == bare.family.chat.decode(output[0, batch["input_ids"].shape[1] :].tolist())

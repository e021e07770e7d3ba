"""The embedded model is small, loads like any LLaVA, keeps to its template, and has learnt something."""

from __future__ import annotations

import importlib.resources
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.phantom import phantom_samples
from sightline.data.pictures import open_picture

torch = pytest.importorskip("torch", reason="the embedded model needs sightline[train]")
pytest.importorskip("transformers", reason="the embedded model needs sightline[train]")

FOLDER = Path(str(importlib.resources.files("sightline"))) / "assets" / "tiny"
BASE_SEED = 1971
"""The seed of the pictures the model was made from; those of other seeds are new to it."""


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval()


@cache
def tokenizer_of_the_folder() -> Any:
    """Hypothesis draws many examples for one fixture, so those tests ask here."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


def render(processor: Any, messages: list[dict[str, Any]], *, prompt: bool) -> str:
    return processor.apply_chat_template(messages, add_generation_prompt=prompt)


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10_000_000


def test_the_weights_are_few_in_bf16_and_as_wide_as_4_bit_kernels_need(model: Any):
    from safetensors import safe_open

    with safe_open(FOLDER / "model.safetensors", framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert sum(weight.numel() for weight in stored.values()) <= 4_000_000
    text = model.model.language_model
    linear = [module for module in text.modules() if isinstance(module, torch.nn.Linear)]
    assert linear and all(m.in_features % 64 == 0 == m.out_features % 64 for m in linear)
    assert model.config.text_config.max_position_embeddings >= 2048


def test_generation_is_greedy_and_ends_with_the_tokenizers_end(model: Any, processor: Any):
    assert model.generation_config.do_sample is False
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_a_picture_is_64_tokens_whatever_its_shape(processor: Any):
    from PIL import Image

    for size in ((64, 64), (500, 90)):
        inputs = processor(images=Image.new("RGB", size), text="USER: <image>\nWhat? ASSISTANT:", return_tensors="pt")
        assert int((inputs["input_ids"] == processor.image_token_id).sum()) == 64
        assert inputs["pixel_values"].shape == (1, 3, 64, 64)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_survives_the_tokenizer(text: str):
    tokenizer = tokenizer_of_the_folder()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token is None
    assert tokenizer.decode(ids) == text


def test_the_template_is_that_of_llava(processor: Any):
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
        {"role": "user", "content": [{"type": "text", "text": "And here? "}, {"type": "image"}]},
        {"role": "assistant", "content": "no"},
    ]
    first, second = "Be brief. USER: <image>\nIs it? ASSISTANT: yes</s>", "USER: And here? <image>\n ASSISTANT:"
    assert render(processor, messages[:-1], prompt=True) == first + second
    assert render(processor, messages, prompt=False) == first + second + " no</s>"


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=30)
PARTS = st.lists(st.one_of(st.just({"type": "image"}), WORDS.map(lambda t: {"type": "text", "text": t})), max_size=4)
CONTENT = st.one_of(WORDS, PARTS)
TURNS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(system=st.none() | WORDS, turns=TURNS)
def test_a_prompt_is_a_prefix_of_its_conversation_in_text_and_in_tokens(system: str | None, turns: list[Any]):
    tokenizer = tokenizer_of_the_folder()
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert whole.startswith(prompt) and whole.endswith("</s>")
    prompt_ids, whole_ids = tokenizer(prompt)["input_ids"], tokenizer(whole)["input_ids"]
    assert whole_ids[: len(prompt_ids)] == prompt_ids
    assert prompt_ids.count(tokenizer.bos_token_id) == 1


def test_it_answers_new_pictures_better_than_the_majority(model: Any, processor: Any):
    samples = [s for s in phantom_samples(16, seed=BASE_SEED + 2) if len(s.pictures) == 1]
    right = 0
    for sample in samples:
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sample.question}]}]
        inputs = processor(
            images=open_picture(sample.pictures[0]),
            text=render(processor, messages, prompt=True),
            return_tensors="pt",
        )
        with torch.no_grad():
            tokens = model.generate(**inputs, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
        right += processor.decode(tokens, skip_special_tokens=True).strip() == sample.answer
    majority = Counter(sample.answer for sample in samples).most_common(1)[0][1]
    assert right / len(samples) > majority / len(samples) + 0.2

"""Local models as judges: the replies of our own decoding, of the stock `generate` for text, and none of them twice."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sightline.data.phantom import phantom_samples
from sightline.errors import StudyError
from sightline.generation.answering import answer_samples
from sightline.generation.calls import TOO_LONG, Call, ReplyDecoding
from sightline.generation.ledger import Ledger
from sightline.generation.local import LocalEngine, knows_pictures, text_engine, text_identity, vision_engine
from sightline.generation.sampling import Decoding
from sightline.models.loading import LoadedModel, load_model
from tiny_llava import byte_tokenizer

SHORT = ReplyDecoding(max_new_tokens=6)
IDENTITY = {"base": "builtin:tiny"}


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("builtin:tiny")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of random weights, saved as transformers saves one."""
    folder = tmp_path_factory.mktemp("text-model")
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    model = LlamaForCausalLM(LlamaConfig(**sizes, eos_token_id=1, bos_token_id=0, pad_token_id=2))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_vision_language_model_replies_as_it_answers(tiny: LoadedModel):
    samples = phantom_samples(4, seed=1)[:6]
    calls = [Call(name=s.id, text=s.question, pictures=s.pictures) for s in samples]
    replies = vision_engine(lambda: tiny, IDENTITY).ask(calls, SHORT)
    plain = [
        dataclasses.replace(
            s, messages=(dataclasses.replace(s.messages[-1], content=(*range(len(s.pictures)), s.question)),)
        )
        for s in samples
    ]
    rows = answer_samples(tiny, plain, Decoding(max_new_tokens=6), model="m", data="d")
    expected = {answer.sample_id: answer for row in rows for answer in row}
    assert [(r.text, r.finish_reason) for r in replies] == [
        (expected[s.id].text, expected[s.id].finish_reason) for s in samples
    ]
    assert {reply.outcome for reply in replies} == {"answered"}


def engine_of(kind: str, tiny: LoadedModel, text_model: Path, ledger: Ledger | None = None) -> LocalEngine:
    if kind == "vision":
        return vision_engine(lambda: tiny, IDENTITY, ledger)
    return text_engine(str(text_model), {"base": "text"}, ledger)


@pytest.mark.parametrize("kind", ["vision", "text"])
def test_a_prompt_beyond_the_context_has_an_empty_reply_and_the_others_are_asked(
    kind: str, tiny: LoadedModel, text_model: Path
):
    calls = [Call(name="short", text="Is it so?"), Call(name="long", text="no " * 3000)]
    short, long = engine_of(kind, tiny, text_model).ask(calls, SHORT)
    assert (long.outcome, long.text, long.finish_reason) == ("answered", "", TOO_LONG)
    assert short.num_completion_tokens and short.finish_reason != TOO_LONG
    [alone] = engine_of(kind, tiny, text_model).ask(calls[1:], SHORT)
    assert alone.finish_reason == TOO_LONG


@pytest.mark.parametrize("kind", ["vision", "text"])
def test_local_replies_are_kept_and_drawn_anew_when_asked_again(
    kind: str, tiny: LoadedModel, text_model: Path, tmp_path: Path
):
    ledger = Ledger(tmp_path / "calls.jsonl")
    engine = engine_of(kind, tiny, text_model, ledger)
    calls = [Call(name=str(n), text="Is it so? " * (1 + n)) for n in range(3)]
    told: list[object] = []
    first = engine.ask(calls, SHORT, on_reply=told.append)
    assert all(reply.num_completion_tokens for reply in first)
    ledger.close()
    again = Ledger(tmp_path / "calls.jsonl")
    assert engine_of(kind, tiny, text_model, again).ask(calls, SHORT, on_reply=told.append) == first
    assert len(told) == 3
    drawn = ReplyDecoding(max_new_tokens=12, temperature=20.0, seed=0)  # the tiny model is sure of itself
    texts = [engine_of(kind, tiny, text_model).ask([dataclasses.replace(calls[0], number=n)], drawn) for n in (0, 0, 1)]
    assert texts[0][0].text == texts[1][0].text != texts[2][0].text
    again.close()


def test_a_batch_of_texts_says_what_each_says_alone(text_model: Path):
    engine = text_engine(str(text_model), {"base": "text"})
    calls = [Call(name=str(n), text="word " * (1 + 3 * n)) for n in range(4)]
    together = [reply.text for reply in engine.ask(calls, SHORT)]
    assert together == [engine.ask([call], SHORT)[0].text for call in calls]
    assert len(set(together)) > 1


def test_text_models_are_told_from_others_and_known_by_their_weights(text_model: Path, tmp_path: Path):
    assert knows_pictures("builtin:tiny") and not knows_pictures(str(text_model))
    assert knows_pictures(str(tmp_path)), "what is no model is left to the loader, which says so"
    before = text_identity(str(text_model))
    copy = shutil.copytree(text_model, tmp_path / text_model.name)
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert text_identity(str(text_model)) == before != text_identity(str(copy))


def test_texts_that_end_a_reply_end_it(text_model: Path):
    engine = text_engine(str(text_model), {"base": "text"})
    [whole] = engine.ask([Call(name="a", text="word")], SHORT)
    [cut] = engine.ask([Call(name="a", text="word")], dataclasses.replace(SHORT, stop=(whole.text[2:4],)))
    assert (cut.text, cut.finish_reason) == (whole.text[:2], "stop")


def test_a_text_model_is_shown_no_picture(text_model: Path):
    sample = phantom_samples(1, seed=1)[0]
    with pytest.raises(StudyError, match=r"row 1: .* knows no pictures; choose a vision-language model as judge"):
        text_engine(str(text_model), {}).ask([Call(name="row 1", text="a", pictures=sample.pictures)], SHORT)

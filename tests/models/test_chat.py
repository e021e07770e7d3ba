"""The text side: the model's own template, its own beginning token, and spans that point at the text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sightline.errors import UnsupportedModelError
from sightline.models.chat import Chat
from sightline.models.loading import load_family
from sightline.records import Message
from tiny_llava import byte_tokenizer

ECHO = (
    "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}/{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def processor(template: str | None = ECHO, tokenizer: PreTrainedTokenizerFast | None = None) -> SimpleNamespace:
    return SimpleNamespace(tokenizer=tokenizer or byte_tokenizer(), chat_template=template)


@cache
def chat_of(name: str) -> Chat:
    """Hypothesis draws many examples for one tokenizer."""
    return Chat(processor()) if name == "bytes" else load_family(name).chat


MESSAGES = [
    Message(role="system", content=("Be brief.",)),
    Message(role="user", content=("a ", 0, " b ", 1)),
    Message(role="assistant", content=("no",)),
]


def test_turns_and_their_parts_reach_the_template_in_order() -> None:
    chat = Chat(processor())
    said = "[system]Be brief./[user]a /<image>/ b /<image>/[assistant]no/"
    assert chat.text(MESSAGES, generation_prompt=False) == said
    assert chat.text(MESSAGES[:2], generation_prompt=True) == said.removesuffix("no/")


def test_a_template_of_the_users_own_replaces_the_models(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}«{{ m['content'][0]['text'] }}»{% endfor %}", encoding="utf-8")
    chat = Chat(processor(), file)
    assert chat.text([Message(role="user", content=("é",))], generation_prompt=True) == "«é»"


def test_the_tokenizers_template_serves_where_the_processor_has_none() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ 'from the tokenizer' }}"
    assert Chat(processor(None, tokenizer)).text(MESSAGES, generation_prompt=True) == "from the tokenizer"


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    chat = Chat(processor("{{ messages.__class__.__mro__[-1].__subclasses__() }}"))
    with pytest.raises(Exception, match="unsafe"):
        chat.text(MESSAGES, generation_prompt=True)


def test_a_model_that_cannot_be_rendered_exactly_is_refused() -> None:
    endless = byte_tokenizer()
    endless.eos_token = None
    slow = SimpleNamespace(is_fast=False, eos_token="</s>", chat_template=None)
    for unusable, message in [
        (processor(None), "no chat template; name one"),
        (processor(ECHO, endless), "no end token"),
        (SimpleNamespace(tokenizer=slow, chat_template=ECHO), "no fast tokenizer"),
    ]:
        with pytest.raises(UnsupportedModelError, match=message):
            Chat(unusable)


@pytest.mark.parametrize("text", ["", "a lung", "<image> left?"])
def test_the_tokenizers_beginning_is_put_before_a_text_once(text: str) -> None:
    chat = Chat(processor())
    ids, spans = chat.tokenize(text)
    assert ids.tolist() == byte_tokenizer()(text).input_ids
    assert (ids == 0).sum() == 1 and spans[0].tolist() == [0, 0]
    written, _ = chat.tokenize("<s>" + text)
    assert written.tolist() == ids.tolist()


def test_an_end_that_the_tokenizer_adds_is_not_taken_for_a_beginning() -> None:
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    chat = Chat(processor(ECHO, tokenizer))
    assert chat.prefix_ids == [0]
    assert 1 not in chat.tokenize("a")[0]


def test_a_tokenizer_without_a_beginning_adds_none() -> None:
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # pyright: ignore
    chat = Chat(processor(ECHO, tokenizer))
    ids, spans = chat.tokenize("ab")
    assert chat.prefix_ids == [] and ids.shape == (2,) and spans.tolist() == [[0, 1], [1, 2]]
    assert chat.tokenize("")[1].shape == (0, 2)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30), st.sampled_from(["bytes", "builtin:tiny"]))
def test_spans_cover_the_text_in_order(text: str, name: str) -> None:
    chat = chat_of(name)
    ids, spans = chat.tokenize("|" + text)
    begin, end = spans[len(chat.prefix_ids) :].T
    assert len(ids) == len(spans) and (end > begin).all()
    # One character may be several tokens of equal span; nothing is skipped and nothing goes back.
    assert begin[0] == 0 and end[-1] == len(text) + 1
    assert ((begin[1:] == end[:-1]) | ((begin[1:] == begin[:-1]) & (end[1:] == end[:-1]))).all()
    assert chat.tokenizer.decode(ids[len(chat.prefix_ids) :]) == "|" + text


def test_answers_are_decoded_without_special_tokens_and_stripped() -> None:
    chat = Chat(processor())
    ids, _ = chat.tokenize(" no, 左 lung \n</s><pad>")
    assert chat.decode(ids.tolist()) == "no, 左 lung"
    assert chat.decode([1]) == "" == chat.decode([])


def test_what_is_remembered_of_a_text_is_nobodys_to_change() -> None:
    chat = Chat(processor())
    ids, spans = chat.tokenize("again")
    first = ids.tolist(), spans.tolist()
    ids[:], spans[:] = 0, 0
    assert tuple(array.tolist() for array in chat.tokenize("again")) == first
    said = [chat.text(MESSAGES[:2], generation_prompt=prompt) for prompt in (True, False, True)]
    assert said[0] == said[2] == said[1] + "[assistant]"

"""Rendering many questions at once gives exactly what rendering each by itself gives, and looks at a shape once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sightline.errors import UnsupportedModelError
from sightline.generation import answering
from sightline.generation.answering import Wording, render_asked
from sightline.models.chat import Chat
from sightline.models.loading import load_family
from sightline.records import Message, Picture, Sample
from sightline.trees.render import Rendered, Shape, render, reword
from tiny_families import NAMES, noise, random_model
from tiny_llava import CHAT_TEMPLATE, byte_tokenizer, random_llava


@dataclass
class Characters:
    """A template in which a picture takes as many tokens as it is wide."""

    chat: Chat
    image_token: str = "<image>"
    image_token_id: int = 3
    end_tokens: tuple[str, ...] = ("</s>",)

    def chat_text(self, messages, *, generation_prompt: bool) -> str:
        return self.chat.text(messages, generation_prompt=generation_prompt)

    def tokenize(self, text: str):
        return self.chat.tokenize(text)

    def num_image_tokens(self, picture: Picture) -> int:
        return picture.width

    def picture_key(self, picture: Picture) -> str:
        return picture.sha256

    def positions(self, token_ids_L, pictures):
        return np.arange(len(token_ids_L))[None]


def sentencepiece_like(scheme: str, **added: bool) -> PreTrainedTokenizerFast:
    """Pieces over characters in which a blank is a sign of its own, put before a text in one of several ways."""
    signs = ["<s>", "</s>", "<pad>", "<image>", "\u2581", *map(chr, range(33, 127)), "\u2581a", "ab", ">a"]
    merges = [("\u2581", "a"), ("a", "b"), (">", "a")]
    tokenizer = Tokenizer(models.BPE(vocab={sign: n for n, sign in enumerate(signs)}, merges=merges, unk_token="<pad>"))
    if scheme == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)  # pyright: ignore
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>", AddedToken("<image>", special=True, **added)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@cache
def template(kind: str) -> Characters:
    made = {
        "bytes": byte_tokenizer,
        "strip": lambda: sentencepiece_like("first", lstrip=True, rstrip=True),
        **{
            scheme: lambda scheme=scheme: sentencepiece_like(scheme)
            for scheme in ("first", "always", "never", "legacy")
        },
    }
    return Characters(Chat(SimpleNamespace(tokenizer=made[kind](), chat_template=CHAT_TEMPLATE)))


def assert_same(found: Rendered, exact: Rendered) -> None:
    for name in ("token_ids_L", "positions_AL", "picture_L", "offset_L", "weight_L"):
        mine, theirs = getattr(found, name), getattr(exact, name)
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs), name
    for name in ("num_prompt", "pictures", "straddles"):
        assert getattr(found, name) == getattr(exact, name)


TEXTS = st.text("ab> .?\n", max_size=6)
CONTENTS = st.lists(st.one_of(TEXTS, st.just(0), st.just(1)), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", ["bytes", "first", "always", "never", "legacy", "strip"])
@settings(max_examples=60, deadline=None)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=3), answer=st.sampled_from([None, "a", "b a", ">ab"]))
def test_a_known_shape_gives_the_same_tokens(kind: str, contents: list[list[str | int]], answer: str | None) -> None:
    pictures = [Picture(name=name, sha256=name, width=width, height=1) for name, width in (("p", 3), ("q", 2))]
    roles = ["user", "assistant"] * 2
    turns: list[Message] = []
    shown = 0
    for place, content in enumerate(contents if len(contents) % 2 else contents[:-1]):
        parts: list[str | int] = []
        for part in content if roles[place] == "user" else ["b"]:
            if isinstance(part, int) and shown == 2:
                continue
            parts.append(shown if isinstance(part, int) else part)
            shown += isinstance(part, int)
        turns.append(Message(role=roles[place], content=tuple(parts) or ("a",)))  # pyright: ignore
    known: set[Shape] = set()
    exact = render(template(kind), turns, pictures[:shown], answer)
    assert_same(render(template(kind), turns, pictures[:shown], answer, known=known), exact)
    assert len(known) == 1
    assert_same(render(template(kind), turns, pictures[:shown], answer, known=known), exact)


def test_a_tokenizer_that_joins_image_tokens_is_not_trusted() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image><image>"], special_tokens=True)
    joining = Characters(
        Chat(SimpleNamespace(tokenizer=tokenizer, chat_template=CHAT_TEMPLATE.replace(r"<image>\n", "<image>")))
    )
    [picture] = [Picture(name="p", sha256="p", width=3, height=1)]
    known: set[Shape] = set()
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="image tokens"):
            render(joining, [Message(role="user", content=(0, "a"))], [picture], None, known=known)
        assert not known


def sample(name: str, *content: str | int) -> Sample:
    pictures = tuple(noise(number) for number in range(sum(isinstance(part, int) for part in content)))
    return Sample(id=name, pictures=pictures, messages=(Message(role="user", content=content),), answer=f"no, {name}")


@pytest.mark.parametrize("name", [*NAMES, "builtin:tiny"])
@pytest.mark.parametrize("with_answers", [False, True])
def test_many_are_rendered_as_each_is(name: str, with_answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "builtin:tiny":
        loaded = random_llava()
        loaded.family = load_family(name)
    else:
        loaded = random_model(name)
    samples = [
        sample("1", 0, "is there a cat?"),
        sample("2", 0, "is there a dog?"),
        sample("3", 0, "is there a cat?"),
        sample("4", 0, "before, ", 1, "after?"),
        sample("5", "no picture"),
    ]
    wording = Wording(text="Look: {question} Be brief.", system="You see.")
    counted: list[str] = []

    def counting(*arguments, **named):
        counted.append(named["name"])
        return render(*arguments, **named)

    monkeypatch.setattr(answering, "render", counting)
    found = render_asked(loaded, samples, wording, with_answers=with_answers)
    assert counted == (["1", "2", "3", "4", "5"] if with_answers else ["1", "2", "4", "5"])
    for asked, rendered in zip(samples, found, strict=True):
        messages = reword(asked.messages, wording.text, system=wording.system)
        assert_same(rendered, render(loaded.family, messages, asked.pictures, asked.answer if with_answers else None))

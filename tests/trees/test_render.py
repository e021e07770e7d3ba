"""From conversation to tokens: exactly the answer and its end are learnt, and the ids are the stock processor's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import models, processors
from transformers import AutoProcessor, PreTrainedTokenizerFast

from sightline.data.pictures import open_picture
from sightline.errors import DataError, UnsupportedModelError
from sightline.models.chat import Chat
from sightline.models.family import Family
from sightline.models.loading import base_location, load_family
from sightline.records import Message, Picture
from sightline.trees.render import Rendered, render, reword
from tiny_llava import byte_tokenizer, picture, random_llava

IN_PLACE = "{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}"
PICTURES_FIRST = (
    "{% for c in m['content'] if c['type'] == 'image' %}<image>{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}"
)


def chat_template(user: str = IN_PLACE, head: str = "A:", after: str = "</s>", bos: str = "") -> str:
    """Write a template: how a user turn is shown, how an answer begins and what follows it."""
    return (
        f"{bos}{{% for m in messages %}}{{% if m['role'] == 'system' %}}{{{{ m['content'][0]['text'] }}}} "
        f"{{% elif m['role'] == 'user' %}}U:{user}|"
        f"{{% else %}}{head}{{{{ m['content'][0]['text'] }}}}{{{{ {after!r} }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {head!r} }}}}{{% endif %}}"
    )


OWN_END = chat_template()
END_AND_PADDING = chat_template(after="</s>\n")
SPACE_AND_NO_END = chat_template(user=PICTURES_FIRST, after=" ")  # as the hub's LLaVA-1.5 ends an answer
NO_END = chat_template(after="")
BLANK_BEFORE_ANSWER = chat_template(head="A:\n", after="</s>\n")
TEMPLATES = [OWN_END, END_AND_PADDING, SPACE_AND_NO_END, NO_END, BLANK_BEFORE_ANSWER]


@dataclass
class Bytes:
    """A template over bytes in which a picture takes as many tokens as it is wide."""

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

    def learnt(self, rendered: Rendered) -> str:
        return self.chat.tokenizer.decode(rendered.token_ids_L[rendered.weight_L > 0], skip_special_tokens=False)


def of(template: str, tokenizer: PreTrainedTokenizerFast | None = None) -> Bytes:
    processor = SimpleNamespace(tokenizer=tokenizer or byte_tokenizer(), chat_template=template)
    return Bytes(Chat(processor))


@cache
def cached(template: str) -> Bytes:
    """Hypothesis draws many examples for one template."""
    return of(template)


def shown(name: str, width: int = 2) -> Picture:
    return Picture(name=name, sha256=name, width=width, height=1)


def user(*content: str | int) -> Message:
    return Message(role="user", content=content)


def said(text: str) -> Message:
    return Message(role="assistant", content=(text,))


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_answer_and_one_end_token_are_the_targets(template: str) -> None:
    rendered = render(of(template), [user(0, "left?")], [shown("a")], "no, right")
    assert of(template).learnt(rendered) == "no, right</s>"
    assert set(rendered.weight_L) == {0.0, 1.0} and rendered.weight_L[-1] == 1
    assert rendered.num_prompt == int(np.argmax(rendered.weight_L > 0)) and not rendered.straddles


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_is_trained_begins_with_what_is_asked(template: str) -> None:
    messages = [user(0, "left?"), said("no"), user("right?")]
    asked = render(of(template), messages, [shown("a")], None)
    answered = render(of(template), messages, [shown("a")], "no")
    assert asked.token_ids_L.tolist() == answered.token_ids_L[: len(asked)].tolist()
    assert not asked.weight_L.any() and asked.num_prompt == len(asked) == answered.num_prompt


@pytest.mark.parametrize("template", TEMPLATES)
def test_earlier_answers_are_history_even_when_the_same(template: str) -> None:
    messages = [user(0, "left?"), said("no"), user("right?")]
    rendered = render(of(template), messages, [shown("a")], "no")
    assert of(template).learnt(rendered) == "no</s>"
    whole = of(template).chat.tokenizer.decode(rendered.token_ids_L)
    assert whole.count("no") == 2 and whole.endswith("no</s>")


def test_train_on_all_learns_everything_but_images() -> None:
    rendered = render(of(OWN_END), [user(0, "left?"), said("no"), user("right?")], [shown("a")], "7", train_on="all")
    assert (rendered.weight_L == (rendered.picture_L < 0)).all() and (rendered.picture_L >= 0).sum() == 2
    assert of(OWN_END).learnt(rendered) == "<s>U:left?|A:no</s>U:right?|A:7</s>"
    assert rendered.num_prompt == len(rendered) - len("7.")


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_end_none_leaves_the_answer_open(template: str) -> None:
    rendered = render(of(template), [user("left?")], [], "no", end="none")
    assert of(template).learnt(rendered) == "no"


@pytest.mark.parametrize(
    ("template", "end"),
    [(template, end) for template in TEMPLATES for end in ("auto", "none")],
)
@pytest.mark.parametrize("answer", ["", "  "])
def test_an_empty_answer_is_refused(template: str, end, answer: str) -> None:
    with pytest.raises(DataError, match=r"^a\.csv:7: the answer .* yields no token"):
        render(of(template), [user("left?")], [], answer, end=end, name="a.csv:7")


@pytest.mark.parametrize("template", TEMPLATES)
def test_spaces_around_an_answer_do_not_hide_its_end(template: str) -> None:
    rendered = render(of(template), [user("left?")], [], "  no ")
    learnt = of(template).learnt(rendered)
    assert learnt.strip().removesuffix("</s>").strip() == "no" and learnt.endswith("</s>")
    assert learnt.count("</s>") == 1


@pytest.mark.parametrize("template", [OWN_END, SPACE_AND_NO_END])
@pytest.mark.parametrize("answer", ["a  b", "a\n\nb"])
def test_blanks_within_an_answer_are_learnt_with_it(template: str, answer: str) -> None:
    assert of(template).learnt(render(of(template), [user("left?")], [], answer)) == answer + "</s>"


@pytest.mark.parametrize(("question", "answer"), [("left?", "no</s>"), ("left?", "a </s> b"), ("left</s>?", "no")])
def test_an_end_token_within_a_text_is_refused(question: str, answer: str) -> None:
    with pytest.raises(DataError, match=r"^a\.csv:7: the text contains '</s>', which ends an answer"):
        render(of(OWN_END), [user(question)], [], answer, name="a.csv:7")


def test_a_tokenizer_that_trims_its_spans_hides_no_blank() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(  # pyright: ignore
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)]),
        ]
    )
    template = of(OWN_END, tokenizer)
    assert template.learnt(render(template, [user("left?")], [], "a  b")) == "a  b</s>"


def test_a_beginning_token_is_not_doubled() -> None:
    plain = render(of(OWN_END), [user("left?")], [], "no")
    written = render(of(chat_template(bos="<s>")), [user("left?")], [], "no")
    assert plain.token_ids_L.tolist() == written.token_ids_L.tolist()
    assert (plain.token_ids_L == 0).sum() == 1 and plain.token_ids_L[0] == 0


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=20)


@hypothesis_settings(max_examples=100, deadline=None)
@given(question=WORDS, answer=WORDS.filter(str.strip))
def test_any_text_is_learnt_as_it_is(question: str, answer: str) -> None:
    for template in (OWN_END, NO_END):
        rendered = render(cached(template), [user(question)], [], answer)
        expected = answer if template == OWN_END else answer.rstrip()
        assert cached(template).learnt(rendered) == expected + "</s>"


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_stand_where_they_were_put() -> None:
    pictures = [shown("a", 2), shown("b", 3)]
    rendered = render(of(OWN_END), [user("1: ", 1, " and ", 0, "?")], pictures, "no")
    at = rendered.picture_L >= 0
    assert rendered.picture_L[at].tolist() == [1, 1, 1, 0, 0]
    assert rendered.offset_L[at].tolist() == [0, 1, 2, 0, 1] and not rendered.offset_L[~at].any()
    assert (rendered.token_ids_L == 3).tolist() == at.tolist()
    assert rendered.pictures == ("a", "b")


def test_pictures_of_several_turns_keep_their_order() -> None:
    messages = [user(0, "left?"), said("no"), user("and ", 1, "?")]
    rendered = render(of(OWN_END), messages, [shown("a"), shown("b")], "yes")
    assert rendered.picture_L[rendered.picture_L >= 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("content", [("left?", 0), ("left ", 0, " or right?"), (0, "left?", 1)])
def test_a_template_that_moves_pictures_is_refused(content: tuple[str | int, ...]) -> None:
    pictures = [shown("a"), shown("b")][: sum(isinstance(part, int) for part in content)]
    assert render(of(OWN_END), [user(*content)], pictures, "no").weight_L.any()
    with pytest.raises(UnsupportedModelError, match="order of pictures and text") as caught:
        render(of(SPACE_AND_NO_END), [user(*content)], pictures, "no", name="a.csv:7")
    assert str(caught.value).startswith("a.csv:7: ") and "template: FILE" in str(caught.value)


def test_a_text_that_also_stands_in_the_templates_own_words_does_not_hide_a_moved_picture() -> None:
    with pytest.raises(UnsupportedModelError, match="order of pictures and text"):
        render(of(SPACE_AND_NO_END), [user("U", 0)], [shown("a")], "no")


@pytest.mark.parametrize(
    "messages",
    [
        [user(0, "what is <image>?")],
        [Message(role="system", content=("<image>",)), user(0)],
        [user(0), said("<image>")],
    ],
)
def test_the_image_token_in_a_text_is_refused(messages: list[Message]) -> None:
    with pytest.raises(DataError, match=r"^a\.csv:7: the text contains '<image>'"):
        render(of(OWN_END), [*messages, user("left?")], [shown("a")], "no", name="a.csv:7")


def test_the_image_token_in_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a\.csv:7: .*'<image>'"):
        render(of(OWN_END), [user(0, "left?")], [shown("a")], "an <image>", name="a.csv:7")


@pytest.mark.parametrize(
    ("template", "content"),
    [(OWN_END, ("left?",)), (chat_template(user="{{ m['content'][-1]['text'] }}"), (0, "left?"))],
)
def test_a_picture_that_is_not_shown_is_refused(template: str, content: tuple[str | int, ...]) -> None:
    with pytest.raises(DataError, match="1 pictures, but the rendered prompt shows 0"):
        render(of(template), [user(*content)], [shown("a")], "no")


def test_an_image_token_that_the_tokenizer_does_not_know_is_refused() -> None:
    chat = of(chat_template(user="<picture>{{ m['content'][-1]['text'] }}")).chat
    with pytest.raises(UnsupportedModelError, match="'<picture>' is not special"):
        render(Bytes(chat, image_token="<picture>"), [user(0, "left?")], [shown("a")], "no")


# --- templates that cannot be trained as they are asked -------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        chat_template().replace("add_generation_prompt %}{{ 'A:' }}", "add_generation_prompt %}{{ 'A: think' }}"),
        chat_template(user="{% if not loop.last %}answered {% endif %}" + IN_PLACE),
    ],
)
def test_a_template_that_rewrites_the_prompt_once_answered_is_refused(template: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"^a\.csv:7: .*differently once it is answered"):
        render(of(template), [user("left?")], [], "no", name="a.csv:7")


def test_an_answer_written_as_content_items_is_refused() -> None:
    template = chat_template().replace("{{ m['content'][0]['text'] }}{{ '</s>'", "{{ m['content'] }}{{ '</s>'")
    assert template != OWN_END
    with pytest.raises(UnsupportedModelError):
        render(of(template), [user("left?")], [], "no")


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A byte tokenizer in which a colon and the letter after it can become one token."""
    tokenizer = byte_tokenizer()
    backend = tokenizer.backend_tokenizer
    vocabulary = {**backend.get_vocab(), ":n": len(backend.get_vocab())}
    backend.model = models.BPE(vocab=vocabulary, merges=[(":", "n")])
    backend.pre_tokenizer.use_regex = False  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def test_a_token_that_straddles_the_border_is_flagged_and_not_learnt() -> None:
    template = of(OWN_END, merging_tokenizer())
    straddling = render(template, [user("left?")], [], "no")
    assert straddling.straddles and template.learnt(straddling) == "o</s>"
    beside = render(template, [user("left?")], [], "yes")
    assert not beside.straddles and template.learnt(beside) == "yes</s>"
    assert not render(template, [user("left:not?")], [], "yes").straddles  # merged in the question alone


# --- the stock processor as oracle ----------------------------------------------------------------------------------

CONVERSATIONS = [
    [user(0, "is there an opacity?")],
    [user(0, 1, "which is larger?")],
    [user(0, "before, ", 1, "after: what changed?")],
    [Message(role="system", content=("Be brief.",)), user(0, "left?"), said("no"), user("right?")],
    [user(0, "left?"), said("no"), user("and here? ", 1)],
    [user("Grüße, 胸部, 🙂: what is a lung?")],
]


@cache
def family_and_processor(base: str) -> tuple[Family, object]:
    if base == "random":
        family = random_llava().family
        return family, family.processor  # pyright: ignore
    return load_family(base), AutoProcessor.from_pretrained(base_location(base))


def stock_ids(processor, messages: list[Message], pictures: list[Picture], *, prompt: bool) -> list[int]:
    conversation = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else {"type": "image", "image": open_picture(pictures[part])}
                for part in message.content
            ],
        }
        for message in messages
    ]
    encoded = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, add_generation_prompt=prompt, return_tensors="pt"
    )
    return encoded["input_ids"][0].tolist()


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
@pytest.mark.parametrize("base", ["random", "builtin:tiny"])
def test_ids_are_the_stock_processors(base: str, messages: list[Message]) -> None:
    family, processor = family_and_processor(base)
    pictures = [picture(part) for message in messages for part in message.content if isinstance(part, int)]
    asked = render(family, messages, pictures, None)
    assert asked.token_ids_L.tolist() == stock_ids(processor, messages, pictures, prompt=True)
    answered = render(family, messages, pictures, "no, 左 lung")
    whole = stock_ids(processor, [*messages, said("no, 左 lung")], pictures, prompt=False)
    assert answered.token_ids_L.tolist() == whole
    assert family.chat.decode(answered.token_ids_L[answered.num_prompt :].tolist()) == "no, 左 lung"
    assert (answered.picture_L >= 0).sum() == len(pictures) * (9 if base == "random" else 64)


# --- another wording ------------------------------------------------------------------------------------------------


def test_reword_puts_words_around_the_last_question() -> None:
    history = (user(0, "left?"), said("no"))
    reworded = reword([*history, user("right?")], "Look: {question} Answer briefly.")
    assert reworded == (*history, user("Look: right? Answer briefly."))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ((0, "left?"), (0, "Q: left? End.")),
        (("left?", 0), ("Q: left? End.", 0)),
        (("before ", 0, " after ", 1), ("Q: before ", 0, " after  End.", 1)),
        ((0,), (0, "Q:  End.")),
    ],
)
def test_reword_leaves_pictures_in_their_place(content, expected) -> None:
    assert reword([user(*content)], "Q: {question} End.") == (user(*expected),)


def test_reword_adds_a_system_turn_and_plain_wording_changes_nothing() -> None:
    messages = (user(0, "left?"), said("no"), user("right?"))
    assert reword(messages, "{question}") == messages
    assert reword([user(0)], "{question}") == (user(0),)
    system = Message(role="system", content=("Be brief.",))
    assert reword(messages, "{question}", system="Be brief.") == (system, *messages)

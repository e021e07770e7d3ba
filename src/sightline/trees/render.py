"""From a conversation to tokens: the model's own chat template, and which tokens are learnt.

The conversation is rendered whole and tokenised whole, once as it is asked (with the generation prompt) and once
as it is answered. Whatever follows the first is the answer: character offsets decide, never re-tokenised pieces.

Shapes: L tokens of one sequence, A position axes (1, or 3 for M-RoPE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DataError, UnsupportedModelError
from sightline.records import NOT_A_TARGET, Message, Picture, Tokens

Shape = tuple[tuple[str, tuple[bool, ...]], ...]
"""A conversation without its texts: each turn's role, and which parts of it are pictures."""


class Template(Protocol):
    """What rendering must know of a model; `models` has one for every family."""

    image_token: str
    """The text that stands for one image token; the template writes it once per picture."""
    image_token_id: int
    end_tokens: tuple[str, ...]
    """Texts with which the template may end an answer; the first is appended where it ends without one."""

    def chat_text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """Render a conversation by the model's own chat template; one `image_token` per picture."""
        ...

    def tokenize(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids [L] and their character spans [L, 2]; tokens without text have empty spans."""
        ...

    def num_image_tokens(self, picture: Picture) -> int:
        """Say how many image tokens the model's processor makes of a picture."""
        ...

    def picture_key(self, picture: Picture) -> str:
        """Name what the model sees of a picture: its pixels and everything the processor does to them."""
        ...

    def positions(self, token_ids_L: NDArray[np.int64], pictures: Sequence[Picture]) -> NDArray[np.int64]:
        """Return the family's own position ids [A, L] of one whole sequence."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rendered:
    """One conversation as the model sees it.

    Args:
        token_ids_L: int64[L].
        positions_AL: int64[A, L].
        picture_L: int64[L], which of `pictures` an image token shows; -1 for text.
        offset_L: int64[L], which of that picture's features an image token carries; 0 for text.
        weight_L: float64[L], how much each token's log-probability counts; 0 where nothing is learnt.
        num_prompt: tokens before the answer.
        pictures: `Template.picture_key` of each picture.
        straddles: whether a token reaches over the border between prompt and answer, so that generation
            starts from other ids than training saw.
    """

    token_ids_L: NDArray[np.int64]
    positions_AL: NDArray[np.int64]
    picture_L: NDArray[np.int64]
    offset_L: NDArray[np.int64]
    weight_L: NDArray[np.float64]
    num_prompt: int
    pictures: tuple[str, ...]
    straddles: bool = False

    def __len__(self) -> int:
        return len(self.token_ids_L)


def render(
    template: Template,
    messages: Sequence[Message],
    pictures: Sequence[Picture],
    answer: str | None,
    *,
    train_on: Literal["answer", "all"] = "answer",
    end: Literal["auto", "none"] = "auto",
    name: str = "",
    known: set[Shape] | None = None,
) -> Rendered:
    """Render a prompt, with its answer when there is one.

    What depends on a conversation's shape alone need not be found out for each of many: whether the template keeps
    pictures in their places, and whether a picture's image tokens may be put in after tokenising (special tokens are
    cut out first, so that they change no other; a text of some 25 tokens is tokenised instead of one of 600).

    Args:
        template: the model's.
        messages: the prompt; the last message is the user's.
        pictures: those the messages refer to by index.
        answer: what is to be learnt or scored; None for a prompt to be answered.
        train_on: "answer" learns the answer and its end, "all" every token that is not an image token.
        end: "auto" appends the end token where the template gives none; "none" leaves the answer open.
        name: the row, for errors.
        known: the shapes of which both have been found true of this very template; filled here.

    Raises:
        DataError: if a text itself holds the image token or an end token, or an answer yields no token.
        UnsupportedModelError: if the template moves pictures, or rewrites the prompt once it is answered.
    """
    if answer is not None and not answer.strip():
        raise DataError(f"{name}: the answer {answer!r} yields no token of its own; give an answer with text")
    texts = [message.text for message in messages] + [answer or ""]
    # The tokenizer takes these for what they stand for wherever it meets them, an end in mid-answer included.
    meanings = {template.image_token: "stands for a picture"} | dict.fromkeys(template.end_tokens, "ends an answer")
    for token, meaning in meanings.items():
        if any(token in text for text in texts):
            raise DataError(f"{name}: the text contains {token!r}, which {meaning}; remove it")
    prompt_text = template.chat_text(messages, generation_prompt=True)
    shape = tuple((message.role, tuple(isinstance(part, int) for part in message.content)) for message in messages)
    is_known = known is not None and shape in known
    order = _check_pictures(template, prompt_text, messages, len(pictures), name, is_known)
    counts, border = [template.num_image_tokens(pictures[index]) for index in order], len(prompt_text)
    prompt_ids, _ = (_tokenize_short if is_known else _tokenize_whole)(template, prompt_text, counts, border)
    if known is not None and not is_known:
        is_known = np.array_equal(_tokenize_short(template, prompt_text, counts, border)[0], prompt_ids)
        known |= {shape} if is_known else set()
    if answer is None:
        return _assemble(template, prompt_ids, order, pictures, np.zeros(len(prompt_ids)), len(prompt_ids), False)

    answered = [*messages, Message(role="assistant", content=(answer,))]
    text = template.chat_text(answered, generation_prompt=False)
    if not text.startswith(prompt_text):
        raise UnsupportedModelError(
            f"{name}: the chat template writes the prompt differently once it is answered, so what is trained is not "
            f"what is asked; found {text[:border][-60:]!r} where the question ends {prompt_text[-60:]!r}. "
            "Use a template whose generation prompt begins every answer (template: FILE)"
        )
    text = _close(template, text, border, answer, end, name)
    ids, begins = (_tokenize_short if is_known else _tokenize_whole)(template, text, counts, border)
    straddles = not np.array_equal(ids[: len(prompt_ids)], prompt_ids)
    # The answer begins with the first token of its own; one that straddles the border is shown to the user by the
    # check. Spans say no more than that: some tokenizers give blanks and parts of characters empty ones.
    if not begins.any():
        raise DataError(f"{name}: the answer {answer!r} yields no token of its own; give an answer with text")
    num_prompt = int(np.argmax(begins))
    learnt = np.arange(len(ids)) >= num_prompt if train_on == "answer" else ids != template.image_token_id
    return _assemble(template, ids, order, pictures, learnt.astype(np.float64), num_prompt, straddles)


def render_tokens(template: Template, tokens: Tokens, pictures: Sequence[Picture]) -> Rendered:
    """Take a row as it came tokenised: no template, and what its labels name is learnt.

    An image token may stand once for each picture or once for each of its features. Where a label is not the id at
    its place, the id is what is learnt: no model can be taught to predict what it does not go on to read.

    Args:
        template: the model's.
        tokens: ids and labels.
        pictures: in the order in which their image tokens stand.

    Raises:
        UnsupportedModelError: if image tokens and pictures do not match; `image_places` tells before.
    """
    ids = np.asarray(tokens.input_ids, dtype=np.int64)
    weight_L = (np.asarray(tokens.labels) != NOT_A_TARGET).astype(np.float64)
    slots = ids == template.image_token_id
    if pictures and np.count_nonzero(slots) == len(pictures):
        times = np.ones(len(ids), dtype=np.int64)
        times[slots] = [template.num_image_tokens(picture) for picture in pictures]
        ids, weight_L = ids.repeat(times), weight_L.repeat(times)
    weight_L[:1] = 0  # nothing stands before the first token that could predict it
    num_prompt = int(np.argmax(weight_L > 0)) if weight_L.any() else len(ids)
    return _assemble(template, ids, range(len(pictures)), pictures, weight_L, num_prompt, False)


def image_places(template: Template, tokens: Tokens, pictures: Sequence[Picture]) -> tuple[int, int]:
    """Count a tokenised row's image tokens, and the features its pictures have for them.

    The counts match if they are equal, or if there is one image token for each picture.
    """
    slots = np.count_nonzero(np.asarray(tokens.input_ids) == template.image_token_id)
    return int(slots), sum(template.num_image_tokens(picture) for picture in pictures)


def _close(template: Template, text: str, border: int, answer: str, end: Literal["auto", "none"], name: str) -> str:
    """Cut what the template puts after the answer's end token; where it gives none, strip padding and append one."""
    start = text.find(answer.strip(), border)
    if start < 0 or text[border:start].strip():
        raise UnsupportedModelError(
            f"{name}: the chat template writes {text[border:][:60]!r} where the answer {answer!r:.60} was given; use a "
            "template that writes an answer as it is (template: FILE)"
        )
    after = start + len(answer.strip())
    if end == "none":
        return text[:after]
    ends = [(text.find(token, after), token) for token in template.end_tokens if text.find(token, after) >= 0]
    if ends:
        found, token = min(ends)
        return text[: found + len(token)]
    return text.rstrip() + template.end_tokens[0]


def _check_pictures(
    template: Template, text: str, messages: Sequence[Message], num_pictures: int, name: str, keeps_order: bool
) -> list[int]:
    """Return the pictures in the order the text shows them, having checked that they stand where they were put."""
    order = [part for message in messages for part in message.content if isinstance(part, int)]
    found = text.count(template.image_token)
    if found != len(order) or sorted(order) != list(range(num_pictures)):
        raise DataError(
            f"{name}: {num_pictures} pictures, but the rendered prompt shows {found}; use each picture once"
        )
    if order and not keeps_order:
        _check_order(template, messages, name)
    return order


def _check_order(template: Template, messages: Sequence[Message], name: str) -> None:
    """Render the conversation once more with a mark for each text, which nothing else can be taken for."""
    marks = iter(range(sum(len(message.content) for message in messages)))
    marked = [
        Message(
            role=message.role,
            content=tuple(part if isinstance(part, int) else f"\ue000{next(marks)}\ue001" for part in message.content),
        )
        for message in messages
    ]
    text = template.chat_text(marked, generation_prompt=True)
    cursor = 0
    for message, original in zip(marked, messages, strict=True):
        for part, was in zip(message.content, original.content, strict=True):
            piece = template.image_token if isinstance(part, int) else part
            at = text.find(piece, cursor)
            if at < 0:
                what = "a picture" if isinstance(part, int) else repr(was)[:60]
                raise UnsupportedModelError(
                    f"{name}: the chat template does not keep the order of pictures and text: {what} comes earlier "
                    "than it was put; put the pictures where the template puts them, or give a template of your own "
                    "(template: FILE)"
                )
            cursor = at + len(piece)


def _tokenize_whole(
    template: Template, text: str, counts: Sequence[int], border: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Write every image token out, then tokenise: ids [L], and which tokens lie wholly after the border, bool[L].

    Args:
        template: the model's.
        text: with one image token for each picture.
        counts: each picture's image tokens.
        border: a place in the text after all pictures.
    """
    pieces = text.split(template.image_token)
    tokens = [template.image_token * count for count in counts]
    border += sum(map(len, tokens)) - len(template.image_token) * len(counts)
    ids, spans = template.tokenize("".join(p + t for p, t in zip(pieces, [*tokens, ""], strict=True)))
    return ids, _lies_after(spans, border)


def _tokenize_short(
    template: Template, text: str, counts: Sequence[int], border: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tokenise, then write every image token out; see `_tokenize_whole`."""
    ids, spans = template.tokenize(text)
    slots = ids == template.image_token_id
    if np.count_nonzero(slots) != len(counts):  # which is then said of the whole
        return _tokenize_whole(template, text, counts, border)
    times = np.ones(len(ids), dtype=np.int64)
    times[slots] = counts
    return ids.repeat(times), _lies_after(spans, border).repeat(times)


def _lies_after(spans: NDArray[np.int64], border: int) -> NDArray[np.bool_]:
    return (spans[:, 0] >= border) & (spans[:, 1] > spans[:, 0])


def _assemble(
    template: Template,
    ids: NDArray[np.int64],
    order: Sequence[int],
    pictures: Sequence[Picture],
    weight_L: NDArray[np.float64],
    num_prompt: int,
    straddles: bool,
) -> Rendered:
    picture_L = np.full(len(ids), -1, dtype=np.int64)
    offset_L = np.zeros(len(ids), dtype=np.int64)
    slots = np.flatnonzero(ids == template.image_token_id)
    counts = [template.num_image_tokens(pictures[index]) for index in order]
    if sum(counts) != len(slots):
        raise UnsupportedModelError(
            f"the tokenizer makes {len(slots)} image tokens of {sum(counts)}; {template.image_token!r} is not special"
        )
    picture_L[slots] = np.repeat(np.asarray(order, dtype=np.int64), counts)
    offset_L[slots] = np.concatenate([np.arange(count) for count in counts]) if counts else 0
    return Rendered(
        token_ids_L=ids,
        positions_AL=template.positions(ids, [pictures[index] for index in order]),
        picture_L=picture_L,
        offset_L=offset_L,
        weight_L=weight_L,
        num_prompt=num_prompt,
        pictures=tuple(template.picture_key(picture) for picture in pictures),
        straddles=straddles,
    )


def reword(messages: Sequence[Message], wording: str, *, system: str | None = None) -> tuple[Message, ...]:
    """Put the last question into another wording, e.g. "{question} Answer briefly."; add a system turn when given.

    Pictures keep their place: the wording's text before `{question}` goes before the question's first text, the rest
    after its last.
    """
    before, _, after = wording.partition("{question}")
    last = messages[-1]
    texts = [place for place, part in enumerate(last.content) if isinstance(part, str)]
    content = list(last.content)
    if texts:
        content[texts[0]] = before + str(content[texts[0]])
        content[texts[-1]] = str(content[texts[-1]]) + after
    elif before + after:
        content.append(before + after)
    head: tuple[Message, ...] = ()
    earlier = tuple(messages[:-1])
    if system is not None:  # in place of the data's own, if it has one
        head = (Message(role="system", content=(system,)),)
        earlier = tuple(message for message in earlier if message.role != "system")
    return (*head, *earlier, Message(role=last.role, content=tuple(content)))

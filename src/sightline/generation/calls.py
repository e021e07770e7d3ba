"""What an engine is asked and what it replies: the same for a server and for a local model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from sightline.records import Message, Picture
from sightline.storage import canonical_json, sha256_of

CUT = "length"
"""The finish reason of a reply that reached the longest length."""

TOO_LONG = "context"
"""The finish reason of an empty reply: the prompt and the longest reply together exceed a local model's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDecoding:
    """How replies are generated.

    Args:
        max_new_tokens: longest reply.
        temperature: 0 is greedy.
        top_p: sample among the likeliest tokens that together reach this probability; None for all.
        stop: texts that end a reply.
        seed: of what is drawn, for servers that know one; None draws anew each time.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One thing to ask.

    Args:
        name: how messages call it, such as the row's name; no part of what is asked.
        text: the prompt, after the pictures.
        pictures: in the order in which they are shown.
        messages: a conversation in place of the one turn of pictures and text; it refers to the pictures by index.
        schema: JSON schema that the reply should follow, for servers that can hold a model to one.
        number: which time the same is asked; equal calls with equal numbers are one call.
        may_be_empty: whether a model that ends without a word has replied; else it is a fault, and it is asked again.
    """

    name: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    messages: tuple[Message, ...] = ()
    schema: Mapping[str, Any] | None = None
    number: int = 0
    may_be_empty: bool = False

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The turns that are put, whichever way they were given."""
        return self.messages or (Message(role="user", content=(*range(len(self.pictures)), self.text)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of a call.

    Args:
        key: of the call, see `call_key`.
        outcome: "answered", or "failed" after all tries.
        text: the reply, as it came; empty when failed.
        finish_reason: "stop", `CUT`, `TOO_LONG`, "refusal", or the server's own word.
        reason: why the call failed.
        model: the name by which the server called what answered.
        num_prompt_tokens: as the server counted them; None where it did not.
        num_completion_tokens: likewise.
        num_tries: how often it was sent.
        num_lost: tries that were sent and whose reply never came whole, though the server may have billed one.
        structured: whether the server was asked to hold to the schema; not every server does.
    """

    key: str
    outcome: Literal["answered", "failed"]
    text: str = ""
    finish_reason: str = ""
    reason: str = ""
    model: str = ""
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    num_tries: int = 1
    num_lost: int = 0
    structured: bool = False


class Responder(Protocol):
    """Whatever can be asked many things at once: a server or a local model."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything about who answers that decides what is said."""
        ...

    def ask(
        self, calls: Sequence[Call], decoding: ReplyDecoding, *, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        """Ask; the replies come in the calls' order, and `on_reply` is told of each as it comes."""
        ...


def call_key(identity: Mapping[str, str], call: Call, decoding: ReplyDecoding) -> str:
    """Hash all that decides a reply: who is asked, the words, the pictures' pixels, the schema and the decoding."""
    asked = {
        "identity": dict(identity),
        "text": call.text,
        "pictures": [picture.sha256 for picture in call.pictures],
        "schema": call.schema,
        "number": call.number,
        "decoding": asdict(decoding),
    }
    if call.messages:
        asked["messages"] = [asdict(message) for message in call.messages]
    return sha256_of(canonical_json(asked))


def without_thoughts(text: str) -> str:
    """Remove what a reasoning model thought aloud; nothing is left of a reply that was cut while thinking."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    # The template may have opened the thoughts, so that the reply holds their end alone.
    text = text.rpartition("</think>")[2]
    return text.partition("<think>")[0].strip()

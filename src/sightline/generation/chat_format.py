"""OpenAI's chat format: turns are written in it, and completions read."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from sightline.data.pictures import open_picture
from sightline.generation.calls import CUT
from sightline.generation.retries import BrokenReplyError
from sightline.records import Message, Picture


def write_turn(message: Message, urls: Sequence[str]) -> dict[str, Any]:
    """Write a turn of a conversation.

    Args:
        message: the turn. Only a user's is given in parts: some servers refuse those of other roles.
        urls: of the conversation's pictures.
    """
    if message.role != "user":
        return {"role": message.role, "content": message.text}
    parts = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": urls[part]}}
        for part in message.content
    ]
    return {"role": "user", "content": parts}


def picture_url(picture: Picture) -> str:
    """Write a picture as PNG, which carries nothing but its pixels."""
    buffer = io.BytesIO()
    open_picture(picture).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_completion(body: str, hide: Callable[[str], str], *, may_be_empty: bool = False) -> dict[str, Any]:
    """Read a chat completion out of a response's body.

    Args:
        body: as it came.
        hide: removes the key from a text.
        may_be_empty: whether a model that ended by itself without a word has replied.

    Raises:
        BrokenReplyError: it is no completion, or says nothing where that is no reply. One that was cut or withheld
            before its first word is a reply in any case: asked again, it would be so again.
    """
    try:
        completion = json.loads(body)
        choice = completion["choices"][0]
        message, finish_reason = choice["message"], str(choice.get("finish_reason") or "")
        text, refusal = message.get("content"), message.get("refusal")
        usage = completion.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BrokenReplyError(f"no chat completion ({type(error).__name__}: {error}) in {body[:80]!r}") from None
    if refusal:
        text, finish_reason = str(refusal), "refusal"
    if text is not None and not isinstance(text, str):
        raise BrokenReplyError(f"the content is {type(text).__name__}, not a text, in {body[:80]!r}")
    said_all = (CUT, "content_filter", *(("stop",) if may_be_empty else ()))
    if not (text or "").strip() and finish_reason not in said_all:
        raise BrokenReplyError("the reply is empty")
    return {
        "text": hide(_whole_characters(text or "")),
        "finish_reason": finish_reason,
        "model": hide(_whole_characters(str(completion.get("model") or ""))),
        "num_prompt_tokens": counts[0] if isinstance(counts[0], int) else None,
        "num_completion_tokens": counts[1] if isinstance(counts[1], int) else None,
    }


def _whole_characters(text: str) -> str:
    """Replace halves of surrogate pairs, which servers cut apart and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

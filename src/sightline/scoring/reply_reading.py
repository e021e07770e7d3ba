"""What the judges' readers share: finding the last fitting JSON object in a reply, and putting texts into prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from sightline.scoring.judge import UnreadableError

Result = TypeVar("Result")

MAX_OBJECTS = 500
"""Opening braces that are tried, from the end."""


def last_object(text: str, read: Callable[[dict[str, Any]], Result]) -> Result:
    """Read the last JSON object of a reply that says what was asked.

    The last one counts because what comes before may be thoughts, or quotes from the answer that is judged.

    Args:
        text: the reply.
        read: one object to what it says; raises `UnreadableError` with what is wrong.

    Raises:
        UnreadableError: no object fits; says what is wrong with the last.
    """
    decoder = json.JSONDecoder(strict=False)
    starts = [place for place, sign in enumerate(text) if sign == "{"][-MAX_OBJECTS:]
    fault = "no JSON object in the reply"
    found: list[tuple[int, int, dict[str, Any]]] = []
    for start in starts:
        if found and start < found[-1][1]:
            continue  # inside the one before
        try:
            values, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            fault = "broken or cut JSON"
            continue
        found.append((start, end, values))
    for number, (_, _, values) in enumerate(reversed(found)):
        try:
            return read(values)
        except UnreadableError as error:
            fault = str(error) if number == 0 else fault
    raise UnreadableError(fault)


def as_flag(value: Any) -> bool | None:
    """Read true or false, written as JSON has it or as a word; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.strip().lower())
    return None


def fenced(tag: str, text: str) -> str:
    """Put a text between tags that it cannot close itself."""
    return f"<{tag}>\n{text.replace(f'</{tag}', f'< /{tag}')}\n</{tag}>"

"""Turning a row of any source into samples: who says what, and where the pictures stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sightline.data.album import Album
from sightline.data.problems import shown
from sightline.data.row_reader import RowReader
from sightline.records import Message, Picture, Sample

PLACEHOLDER = "<image>"

ROLES: Mapping[str, str] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
"""Who speaks, by the names that LLaVA's and OpenAI's formats use."""

Part = str | None
"""A piece of a turn: a text, or None where a picture stands."""


def split_at_pictures(text: str) -> list[Part]:
    """Cut a text at `<image>`, keeping the order.

    The line breaks next to a placeholder belong to the format, not to the text: what stands between a picture
    and a text is the chat template's business.

    Args:
        text: a turn as LLaVA's format writes it.

    Returns:
        Texts, and None where a picture stands; empty texts are left out.
    """
    pieces = text.split(PLACEHOLDER)
    if len(pieces) == 1:
        return [text.strip()]
    parts: list[Part] = []
    for index, piece in enumerate(pieces):
        if index:
            parts.append(None)
            piece = piece.lstrip("\r\n")
        if index < len(pieces) - 1:
            piece = piece.rstrip("\r\n")
        if piece.strip():
            parts.append(piece)
    if isinstance(parts[0], str):
        parts[0] = parts[0].lstrip()
    if isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    return parts


def build_samples(
    reader: RowReader,
    turns: Sequence[tuple[str, list[Part]]],
    pictures: tuple[Picture, ...],
    tags: Mapping[str, str],
    *,
    unmarked: Literal["first", "last"] = "first",
) -> list[Sample]:
    """Make one sample of each assistant turn; the turns before it are its history.

    Args:
        reader: the row's reader, which gathers what is wrong.
        turns: role and parts of every turn, in order.
        pictures: in the order the placeholders use them.
        tags: facts of the row.
        unmarked: whether pictures with no placeholder anywhere open or end the first user turn.

    Returns:
        The samples; empty when anything is wrong.
    """
    roles = [role for role, _ in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        reader.report("bad-turns", f"the turns are {', '.join(roles) or 'none'}")
        return []
    num_placed = sum(part is None for role, parts in turns for part in parts if role == "user")
    if any(part is None for role, parts in turns for part in parts if role != "user"):
        reader.report("image-count", f"`{PLACEHOLDER}` in a turn that is not the user's")
    if num_placed not in (0, len(pictures)) and not reader.at_fault:
        reader.report("image-count", f"{num_placed} `{PLACEHOLDER}` for {len(pictures)} pictures")
    if reader.at_fault:
        return []

    messages: list[Message] = []
    samples: list[Sample] = []
    num_answers = roles.count("assistant")
    next_picture = 0
    for role, parts in turns:
        if role == "assistant":
            answer = "".join(part for part in parts if part)
            samples.append(
                Sample(
                    id=reader.id if num_answers == 1 else f"{reader.id}#{len(samples) + 1}",
                    pictures=pictures,
                    messages=tuple(messages),
                    answer=answer,
                    tags=tags,
                    origin=f"{reader.file}:{reader.row.number}",
                )
            )
        content: list[str | int] = []
        for part in parts:
            if part is None:
                content.append(next_picture)
                next_picture += 1
            else:
                content.append(part)
        if role == "user" and num_placed == 0 and not any(message.role == "user" for message in messages):
            all_pictures = range(len(pictures))
            content = [*all_pictures, *content] if unmarked == "first" else [*content, *all_pictures]
        messages.append(Message(role=role, content=tuple(content)))  # type: ignore[arg-type]  # a value of ROLES
    return samples


def read_plain(reader: RowReader, fields: Mapping[str, str], tag_columns: Sequence[str], album: Album) -> list[Sample]:
    """Read a row of image, question and answer.

    Args:
        reader: the row's reader, which gathers what is wrong.
        fields: our names ("image", "question", "answer") to the row's columns; without "image" rows are text alone.
        tag_columns: columns to keep as tags.
        album: where the pictures are.

    Returns:
        One sample, or none when anything is wrong.
    """
    question = reader.text(fields["question"], "question")
    answer = reader.text(fields["answer"], "answer")
    pictures: tuple[Picture, ...] = ()
    if reader.has_picture(fields.get("image")):
        pictures = reader.pictures(reader.row.values[fields["image"]], album)
    tags = reader.tags(tag_columns)
    turns = [("user", split_at_pictures(question)), ("assistant", split_at_pictures(answer))]
    return build_samples(reader, turns, pictures, tags)


def read_conversation(
    reader: RowReader, fields: Mapping[str, str], tag_columns: Sequence[str], album: Album
) -> list[Sample]:
    """Read a row of turns: LLaVA's `conversations` (from, value) or `messages` (role, content).

    Args:
        reader: the row's reader, which gathers what is wrong.
        fields: our names ("image", "conversations") to the row's columns.
        tag_columns: columns to keep as tags.
        album: where the pictures are.

    Returns:
        One sample for each assistant turn, or none when anything is wrong. A row without image is text alone.
    """
    # Those who mix text into such sets leave the image out; where one was lost, its `<image>` is one too many.
    reader.needs_picture = False
    return _read_dialogue(reader, fields, tag_columns, album, unmarked="first")


def read_text_first(
    reader: RowReader, fields: Mapping[str, str], tag_columns: Sequence[str], album: Album
) -> list[Sample]:
    """Read a row of turns without placeholders, whose pictures come after the first question; as `read_conversation`.

    A row without a picture is at fault: no placeholder would tell that one was lost.
    """
    return _read_dialogue(reader, fields, tag_columns, album, unmarked="last")


def _read_dialogue(
    reader: RowReader,
    fields: Mapping[str, str],
    tag_columns: Sequence[str],
    album: Album,
    *,
    unmarked: Literal["first", "last"],
) -> list[Sample]:
    turns = _read_turns(reader, fields["conversations"])
    pictures: tuple[Picture, ...] = ()
    if reader.has_picture(fields.get("image")):
        pictures = reader.pictures(reader.row.values[fields["image"]], album)
    tags = reader.tags(tag_columns)
    if reader.at_fault:
        return []
    return build_samples(reader, turns, pictures, tags, unmarked=unmarked)


def _read_turns(reader: RowReader, column: str) -> list[tuple[str, list[Part]]]:
    values = reader.row.values.get(column)
    if values is None:
        reader.report("missing-key", f"no {shown(column)}, the column of the turns")
        return []
    if not isinstance(values, list):
        reader.report("wrong-type", f"{shown(column)} is {shown(values)}, not a list of turns")
        return []
    turns = []
    for number, turn in enumerate(values, start=1):
        speaker = (turn.get("from") or turn.get("role")) if isinstance(turn, Mapping) else None
        role = ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None or not isinstance(turn, Mapping):
            reader.report("wrong-type", f"turn {number} is {shown(turn)}, without a known speaker")
            continue
        parts = _turn_parts(reader, turn.get("value", turn.get("content")), number)
        if role != "system" and not any(part is None or part for part in parts) and not reader.at_fault:
            what = "answer" if role == "assistant" else "question"
            reader.report(f"empty-{what}", f"turn {number} is empty")
        turns.append((role, parts))
    return turns


def _turn_parts(reader: RowReader, content: object, number: int) -> list[Part]:
    if isinstance(content, str):
        return split_at_pictures(reader.checked(content, f"text of turn {number}"))
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        parts: list[Part] = []
        for part in content:
            if part.get("type") == "image":
                parts.append(None)
            elif isinstance(part.get("text"), str):
                parts.extend(split_at_pictures(reader.checked(part["text"], f"text of turn {number}")))
            else:
                reader.report("wrong-type", f"turn {number} has a part {shown(part)}")
        return parts
    reader.report("wrong-type", f"turn {number} says {shown(content)}, not a text")
    return []

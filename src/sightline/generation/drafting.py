"""Drafting data: an engine looks at a folder of pictures and proposes questions, answers and facts about them.

What it proposes is a draft: a person reads it and writes `accepted: true` into its row, or it is never used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sightline.data.album import Album
from sightline.data.drafts import has_failed
from sightline.data.pictures import SUFFIXES, PictureError
from sightline.data.problems import REMEDIES, shown
from sightline.data.rows import BadLine, read_table
from sightline.errors import DataError, MissingDataError
from sightline.records import Picture
from sightline.storage import json_line

PROMPT_TYPES = ("question", "description", "reasoning", "instruction")
"""What a draft's question can be, unless the caller names other kinds."""


class Engine(Protocol):
    """Whatever can look at pictures and answer: a server, a local model, a person."""

    def ask(self, pictures: Sequence[Picture], prompt: str) -> str:
        """Answer a prompt about pictures.

        Args:
            pictures: in the order the prompt speaks of them.
            prompt: the text.

        Returns:
            The reply, as it is.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """What came of drafting.

    Args:
        num_there: drafts that an earlier run had made.
        num_made: drafts made now.
        num_failed: replies that were no draft; they are in the file with what is wrong, and are asked for again.
        unreadable: pictures that could not be opened, as "name: what is wrong".
    """

    num_there: int
    num_made: int
    num_failed: int
    unreadable: tuple[str, ...]


def draft_folder(
    folder: Path,
    drafts: Path,
    engine: Engine,
    *,
    num_per_picture: int = 1,
    prompt_types: Sequence[str] = PROMPT_TYPES,
) -> Drafted:
    """Draft rows about every picture of a folder, going on where an earlier run stopped.

    Each draft is on disk before the next is asked for. Rows that are there are never changed, so that people may
    accept the first while the last are made, as long as they do not write to the file at the same moment.

    Args:
        folder: of pictures, whatever is inside it included.
        drafts: JSON lines; made when absent, else appended to.
        engine: who is asked.
        num_per_picture: drafts of each picture.
        prompt_types: what a question may be; the engine says which it is.

    Returns:
        What came of it.

    Raises:
        MissingDataError: the folder is not there, or holds no picture.
        DataError: a line of the file of drafts cannot be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder of pictures")
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not names:
        raise MissingDataError(f"{folder}: no picture there; those of {', '.join(SUFFIXES)} are taken")
    asked = _questions_there(drafts)
    album = Album(folder)
    num_there = sum(map(len, asked.values()))
    num_made = num_failed = 0
    unreadable = []
    for name in names:
        there = asked.get(name, {})
        numbers = [number for number in range(1, num_per_picture + 1) if number not in there]
        if not numbers:
            continue
        try:
            picture, _ = album.picture(name, name=name)
        except PictureError as error:
            unreadable.append(f"{name}: {error.found}")
            continue
        for number in numbers:
            reply = engine.ask((picture,), request_text(prompt_types, list(there.values())))
            row: dict[str, Any] = {"id": f"{name}:{number}", "image": name, "number": number}
            try:
                draft = parse_draft(reply, prompt_types)
            except ValueError as error:
                _append(drafts, {**row, "fault": str(error), "reply": reply})
                num_failed += 1
                continue
            _append(drafts, {**row, **draft, "accepted": None})
            there[number] = draft["question"]
            num_made += 1
    return Drafted(num_there=num_there, num_made=num_made, num_failed=num_failed, unreadable=tuple(unreadable))


def request_text(prompt_types: Sequence[str], earlier: Sequence[str]) -> str:
    """Write what the engine is asked.

    Args:
        prompt_types: what a question may be.
        earlier: questions that the picture has already.
    """
    lines = [
        "Look at the picture and write one training example for a model that answers about pictures.",
        "Reply with one JSON object and nothing else, with the keys",
        '"question": what a person might ask or request about this picture, answerable from the picture alone;',
        '"answer": the correct answer, complete and without anything that the picture does not show;',
        '"domain": the subject in one or two words, such as "cooking" or "chest x-ray";',
        '"ambiguity": a number from 0 (only one answer is right) to 1 (anything could be right);',
        f'"prompt_type": one of {", ".join(prompt_types)}.',
    ]
    if earlier:
        lines.append(f"Ask about something else than: {json.dumps(list(earlier), ensure_ascii=False)}")
    return "\n".join(lines)


def parse_draft(reply: str, prompt_types: Sequence[str] = PROMPT_TYPES) -> dict[str, Any]:
    """Read a draft from a reply: its first JSON object, whatever stands around it.

    Args:
        reply: the engine's words.
        prompt_types: what a question may be.

    Returns:
        question, answer, domain and prompt_type as texts, ambiguity in [0, 1].

    Raises:
        ValueError: the reply holds no such object; says what is wrong.
    """
    start = reply.find("{")
    if start < 0:
        raise ValueError(f"no JSON object in the reply {shown(reply)}")
    try:
        values, _ = json.JSONDecoder(strict=False).raw_decode(reply, start)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken or cut JSON ({error})") from None
    draft: dict[str, Any] = {}
    for key in ("question", "answer", "domain", "prompt_type"):
        value = values.get(key)
        if key == "answer" and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key!r} is {shown(value)}, not a text")
        draft[key] = value.strip()
    ambiguity = values.get("ambiguity")
    if not isinstance(ambiguity, int | float) or isinstance(ambiguity, bool) or not 0 <= ambiguity <= 1:
        raise ValueError(f"'ambiguity' is {shown(ambiguity)}, not a number from 0 to 1")
    if draft["prompt_type"] not in prompt_types:
        raise ValueError(f"'prompt_type' is {shown(draft['prompt_type'])}, not one of {', '.join(prompt_types)}")
    return {**draft, "ambiguity": float(ambiguity)}


def _questions_there(drafts: Path) -> dict[str, dict[int, str]]:
    """Read which drafts are there: image to number to question. A last line that was cut is put aside."""
    if not drafts.exists():
        return {}
    _put_aside_cut_line(drafts)
    there: dict[str, dict[int, str]] = {}
    if not drafts.stat().st_size:
        return there
    for row in read_table(drafts, file=drafts.name, syntax="jsonl").rows:
        if isinstance(row, BadLine):
            raise DataError(f"{drafts}:{row.number}: {row.found}; {REMEDIES[row.kind]}")
        image, number = row.values.get("image"), row.values.get("number")
        if isinstance(image, str) and isinstance(number, int) and not has_failed(row.values):
            there.setdefault(image, {})[number] = str(row.values.get("question"))
    return there


def _put_aside_cut_line(drafts: Path) -> None:
    """End a last line that lacks its end; what a crash has cut goes into a file beside, for nothing is thrown away."""
    content = drafts.read_bytes()
    if not content or content.endswith(b"\n"):
        return
    line = content.rpartition(b"\n")[2]
    try:
        json.loads(line)
    except ValueError:
        with drafts.with_name(f"{drafts.name}.cut").open("ab") as aside:
            aside.write(line + b"\n")
        with drafts.open("r+b") as file:
            file.truncate(len(content) - len(line))
        return
    with drafts.open("ab") as file:
        file.write(b"\n")


def _append(drafts: Path, row: dict[str, Any]) -> None:
    drafts.parent.mkdir(parents=True, exist_ok=True)
    with drafts.open("a", encoding="utf-8") as file:
        file.write(json_line(row))
        file.flush()
        os.fsync(file.fileno())

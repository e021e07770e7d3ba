"""Where people's judgements are kept: one JSONL file per reviewer, on disk before the page says "saved".

Lines are only ever appended. A line that a crash cut short was never confirmed: it is cut off with words when the
store is opened, and the page, which keeps what is not confirmed, sends it again. Who changes their mind appends; the
last word counts. A line names an answer by the hash of its text and no model, so whoever reads the file stays blind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from sightline.errors import CorruptError, DataError, RefusedError
from sightline.storage import json_line, sha256_of, write_file
from sightline.verdict.reviewers import Label, Preference, Told

FOLDER = "reviews"
"""The folder of a study's directory in which judgements are."""

LONGEST_NAME = 60

Task = Literal["label", "preference"]

VERDICTS: Mapping[Task, Mapping[str, float | None]] = {
    "label": {"correct": 1.0, "incorrect": 0.0, "cannot_say": None},
    "preference": {"left": 1.0, "neither": 0.5, "right": 0.0, "cannot_say": None},
}
"""What can be said of one answer, and of two, with its value."""

_FIELDS = ("id", "at", "reviewer", "task", "data", "template", "sample_id", "answers", "verdict", "random", "repeat")

Row = Mapping[str, Any]


def reviewer_name(text: str) -> str:
    """Bring a name to one spelling.

    Raises:
        DataError: no name, or one that is too long.
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise DataError(
            f"reviewer {name[:LONGEST_NAME]!r}: give a name of 1 to {LONGEST_NAME} letters; initials will do"
        )
    return name


def file_of(reviewer: str) -> str:
    """Name a reviewer's file: readable, safe on any disk, and another one for every name; case does not count."""
    plain = re.sub(r"[^a-z0-9]+", "-", unicodedata.normalize("NFKD", reviewer).casefold()).strip("-")
    return f"{plain[:30] or 'reviewer'}-{sha256_of(reviewer.casefold())[:8]}.jsonl"


class Judgements:
    """The judgements of a study, open for writing.

    Args:
        folder: where they are; made when absent.

    Raises:
        RefusedError: another process has them open.
        CorruptError: a line that is no judgement, other than one cut short by a crash.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.repairs: list[str] = []
        """What was cut off on opening, in words."""
        self._files: dict[str, int] = {}
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise RefusedError(
                f"{folder} is in use by another `sightline review`; everybody can review at its address"
            ) from None
        try:
            for path in sorted(folder.glob("*.jsonl")):
                self._cut_torn_line(path)
            self.rows = read_reviews(folder)
        except BaseException:
            self.close()
            raise
        self._known = {row["id"] for row in self.rows}

    def _cut_torn_line(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return
        with path.open("rb+") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
        number = content.count(b"\n") + 1
        self.repairs.append(
            f"{path}:{number}: a crash cut this line short ({len(content) - whole} bytes); it was never confirmed as "
            "saved and is removed; the reviewer's browser has it and sends it again"
        )

    def save(self, row: Row) -> None:
        """Keep a judgement; when this returns it is on disk. One whose id is known is kept once.

        Raises:
            OSError: it could not be written; nothing of it is left.
        """
        if row["id"] in self._known:
            return
        file = self._file(row["reviewer"])
        length, content = os.fstat(file).st_size, json_line(dict(row)).encode()
        try:
            while content:
                content = content[os.write(file, content) :]
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, length)
            raise
        self.rows.append(row)
        self._known.add(row["id"])

    def _file(self, reviewer: str) -> int:
        name = file_of(reviewer)
        if name not in self._files:
            path = self.folder / name
            if not path.exists():
                write_file(path, "")  # the folder knows it, durably
            self._files[name] = os.open(path, os.O_WRONLY | os.O_APPEND)
        return self._files[name]

    def close(self) -> None:
        """Let another process have them."""
        for file in (*self._files.values(), self._lock):
            os.close(file)
        self._files.clear()


def read_reviews(folder: Path) -> list[Row]:
    """Read all judgements, reviewer by reviewer in the order in which they were made; what a crash cut is left out.

    Args:
        folder: `reviews` in a study's directory; one that is not there holds none.

    Raises:
        CorruptError: naming the line that is no judgement.
    """
    rows: list[Row] = []
    for path in sorted(folder.glob("*.jsonl")):
        *lines, _torn = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                known = all(name in row for name in _FIELDS) and row["verdict"] in VERDICTS[row["task"]]
            except (ValueError, KeyError, TypeError):
                known = False
            if not known:
                raise CorruptError(f"{path}:{number}: no judgement; put back the line as the review page wrote it")
            rows.append(row)
    return rows


def what_reviewers_say(rows: Iterable[Row]) -> tuple[list[Label], list[Preference]]:
    """Turn judgements into labels and preferences, the last word of each reviewer on each answer."""
    last: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        last[(row["reviewer"].casefold(), row["task"], *_place(row), *row["answers"], row["repeat"])] = row
    labels, preferences = [], []
    for row in last.values():
        told = [Told(*_place(row), text) for text in row["answers"]]
        value = VERDICTS[row["task"]][row["verdict"]]
        reviewer = row["reviewer"].casefold()
        if row["task"] == "label":
            labels.append(Label(reviewer=reviewer, of=told[0], value=value, is_random=row["random"]))
        else:
            left, right = told
            preferences.append(
                Preference(reviewer=reviewer, left=left, right=right, value=value, is_repeat=row["repeat"])
            )
    return labels, preferences


def _place(row: Row) -> tuple[str, str, str]:
    return row["data"], row["template"], row["sample_id"]

"""The ledger of calls: what was sent, what came back, kept so that a crash at any moment loses no reply.

JSON lines, appended and synced to disk before a reply counts. Appending cannot damage what is there, a line cut by a
crash is recognised by its checksum, people can read it, and copying a study copies it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.errors import RefusedError
from sightline.generation.calls import Reply
from sightline.storage import json_line, sha256_of

SUM = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the calls of a ledger took.

    Args:
        num_answered: calls with a reply.
        num_failed: calls that failed for good; asked again in another run, they count again.
        num_tries: requests sent.
        num_prompt_tokens: as far as the server counted.
        num_completion_tokens: likewise.
        num_uncounted: replies whose tokens the server did not count.
        cost: in the prices' currency; None without prices.
        num_possibly_billed_twice: requests that the server may have answered without the reply being stored.
        num_unreadable_lines: lines of the ledger that were cut or changed.
    """

    num_answered: int
    num_failed: int
    num_tries: int
    num_prompt_tokens: int
    num_completion_tokens: int
    num_uncounted: int
    cost: float | None
    num_possibly_billed_twice: int
    num_unreadable_lines: int


class Ledger:
    """The calls of one engine, on disk.

    Args:
        path: of the ledger; made when absent.

    Raises:
        RefusedError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.answered: dict[str, Reply] = {}
        """Replies by key."""
        self.num_unreadable = 0
        """Lines that were cut or changed; their calls are made again."""
        self.num_lost = 0
        """Calls that the server may have answered, and billed, without the reply being stored."""
        self.rows: list[Reply] = []
        """Every outcome in order, failed calls included."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise RefusedError(
                f"{path} is in use by another process; wait until it ends, or judge in another directory"
            ) from None
        self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.write(self._file, b"\n")  # the cut line stays, as one that cannot be read
        in_flight: Counter[str] = Counter()
        for line in content.split(b"\n"):
            if not line:
                continue
            row = _read_line(line)
            if row is None:
                self.num_unreadable += 1
            elif "sent" in row:
                in_flight[row["sent"]] += 1
            else:
                reply = Reply(**row["reply"])
                in_flight[reply.key] -= 1
                self._take(reply)
        self.num_lost += sum(count for count in in_flight.values() if count > 0)

    def _take(self, reply: Reply) -> None:
        self.rows.append(reply)
        self.num_lost += reply.num_lost
        if reply.outcome == "answered":
            self.answered[reply.key] = reply

    def note_sent(self, key: str) -> None:
        """Record that a call is about to be sent: survives this process, not a power cut."""
        self._write([{"sent": key, "at": round(time.time(), 3)}])

    def store(self, replies: Iterable[Reply]) -> None:
        """Record outcomes; when this returns they are on disk."""
        replies = list(replies)
        self._write([{"reply": asdict(reply), "at": round(time.time(), 3)} for reply in replies])
        os.fsync(self._file)
        for reply in replies:
            self._take(reply)

    def spent(self, *, input_price: float | None = None, output_price: float | None = None) -> Spent:
        """Add up what the calls took.

        Args:
            input_price: of a million prompt tokens.
            output_price: of a million completion tokens.
        """
        prompt = sum(reply.num_prompt_tokens or 0 for reply in self.rows)
        completion = sum(reply.num_completion_tokens or 0 for reply in self.rows)
        cost = None
        if input_price is not None and output_price is not None:
            cost = (prompt * input_price + completion * output_price) / 1e6
        answered = [reply for reply in self.rows if reply.outcome == "answered"]
        return Spent(
            num_answered=len(answered),
            num_failed=len(self.rows) - len(answered),
            num_tries=sum(reply.num_tries for reply in self.rows),
            num_prompt_tokens=prompt,
            num_completion_tokens=completion,
            num_uncounted=sum(reply.num_prompt_tokens is None for reply in answered),
            cost=cost,
            num_possibly_billed_twice=self.num_lost,
            num_unreadable_lines=self.num_unreadable,
        )

    def _write(self, rows: list[dict[str, Any]]) -> None:
        content = "".join(json_line({**row, SUM: _checksum(row)}) for row in rows).encode()
        while content:
            content = content[os.write(self._file, content) :]

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def _read_line(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        expected = row.pop(SUM)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return row if expected == _checksum(row) else None


def _checksum(row: dict[str, Any]) -> str:
    return sha256_of(json_line(row))[:16]

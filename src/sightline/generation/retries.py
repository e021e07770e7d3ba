"""What can go wrong between us and a server, what is worth another try, and when to give the server up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from sightline.errors import SightlineError

FaultKind = Literal[
    "rate limit",
    "quota",
    "server error",
    "timeout",
    "connection",
    "broken reply",
    "unauthorised",
    "not there",
    "refused",
]

WORTH_ANOTHER_TRY: frozenset[FaultKind] = frozenset(
    ("rate limit", "server error", "timeout", "connection", "broken reply")
)
HOPELESS: frozenset[FaultKind] = frozenset(("quota", "unauthorised", "not there"))
"""What the next call would meet, too: the engine stops at the first."""
LOST: frozenset[FaultKind] = frozenset(("timeout", "connection", "broken reply", "server error"))
"""After these the server may have made a reply that never came, if what was asked had reached it."""
NOT_CONNECTED = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol")
"""httpx's names of what goes wrong before a request is sent."""

QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded", "credits_exhausted")

MAX_IN_A_ROW = 10
MAX_SILENT_SECONDS = 30.0
MIN_SILENT_TRIES = 3
"""Fewer say nothing: one slow reply can take longer than the silence that is borne."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
LONGEST_ASKED_WAIT_SECONDS = 300.0
"""A server that asks for more patience than this is asked again in another run."""


class ServerDownError(SightlineError, ConnectionError):
    """A server that does not answer, or not us; what it said before is kept, and there is no honest number."""

    exit_code = 3


class BrokenReplyError(ValueError):
    """A reply that is no chat completion: not JSON, cut, empty, or of another shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One try that failed.

    Args:
        kind: decides what happens next.
        said: what was found, without the key.
        wait_seconds: how long the server asked to be left alone; None where it did not say.
        was_sent: whether the request had left; no connection, and nobody can bill it.
    """

    kind: FaultKind
    said: str
    wait_seconds: float | None = None
    was_sent: bool = True

    @property
    def is_lost(self) -> bool:
        """Whether the server may have made, and billed, a reply that never came."""
        return self.was_sent and self.kind in LOST

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same call may succeed later."""
        return self.kind in WORTH_ANOTHER_TRY and (self.wait_seconds or 0) <= LONGEST_ASKED_WAIT_SECONDS

    def __str__(self) -> str:
        return f"{self.kind}: {self.said}"


def fault_of(error: Exception, hide: Callable[[str], str]) -> Fault:
    """Say what an error of the client, or of reading its reply, means.

    Args:
        error: as raised.
        hide: removes the key from a text.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, BrokenReplyError):
        return Fault(kind="broken reply", said=hide(str(error))[:300])
    # What broke stands in the cause; its text names hosts and ports, never headers.
    cause = type(error.__cause__).__name__
    was_sent = cause not in NOT_CONNECTED
    if isinstance(error, TimeoutError | APITimeoutError):
        return Fault(kind="timeout", said="no reply in time", was_sent=was_sent)
    if isinstance(error, APIConnectionError):
        said = hide(f"{cause}: {error.__cause__}")[:300]
        return Fault(kind="connection", said=said, was_sent=was_sent)
    if not isinstance(error, APIStatusError):
        return Fault(kind="broken reply", said=hide(f"{type(error).__name__}: {error}")[:300])
    status, code = error.status_code, {str(error.code), str(error.type)}
    body: Any = error.body
    said = hide(f"{status} {body.get('message', body) if isinstance(body, dict) else error.message}")[:300]
    headers = error.response.headers
    if status in (401, 402):
        return Fault(kind="unauthorised" if status == 401 else "quota", said=said)
    if status == 404:
        return Fault(kind="not there", said=said)
    if status == 429:
        if code & set(QUOTA_CODES):
            return Fault(kind="quota", said=said)
        return Fault(kind="rate limit", said=said, wait_seconds=asked_wait(headers))
    if status == 408:
        return Fault(kind="timeout", said=said, wait_seconds=asked_wait(headers))
    if status >= 500:
        return Fault(kind="server error", said=said, wait_seconds=asked_wait(headers))
    if 300 <= status < 400:
        said = hide(f"{status} sends us to {headers.get('location', 'elsewhere')}; write that address if it is right")
    return Fault(kind="refused", said=said)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Read how long a server asks to be left alone: `Retry-After` as seconds or as a date, or `retry-after-ms`.

    A date is compared with the server's own `Date`, where it sends one: its clock may not be ours.

    Returns:
        Seconds from now, or None.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None or (seconds := _number(text)) is not None:
        return None if text is None else seconds
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("date"))
    return max(0.0, until - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return None


def backoff_seconds(num_failed: int) -> float:
    """Choose how long to wait before another try: doubling, half of it by chance so that callers come apart."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (num_failed - 1))
    return longest * random.uniform(0.5, 1.0)


@dataclass(slots=True, kw_only=True)
class Health:
    """Whether a server still answers; it is told of every try and raises when there is no point in going on.

    Args:
        server: for the message.
        has_answered: whether it ever did; until then it is asked one thing at a time.
        clock: seconds, never going back.
    """

    server: str
    has_answered: bool = False
    clock: Callable[[], float] = time.monotonic
    _tries_in_a_row: int = field(default=0, init=False)
    _calls_in_a_row: int = field(default=0, init=False)
    _last_unsent: Fault | None = field(default=None, init=False)
    _was_reached: bool = field(default=False, init=False)
    """Whether any call ended with something that had been sent."""
    _silent_since: float | None = field(default=None, init=False)

    def answered(self) -> None:
        """Take note of a reply."""
        self.has_answered = self._was_reached = True
        self._tries_in_a_row = self._calls_in_a_row = 0
        self._silent_since = None

    def try_failed(self, fault: Fault) -> None:
        """Take note of a failed try.

        Being told to wait is no silence. Otherwise a server is down that has never answered in `MAX_IN_A_ROW` tries
        or `MAX_SILENT_SECONDS`, or that has answered and has since been silent for both: faults that only come often,
        or to all that is in flight at once, have replies in between.

        Raises:
            ServerDownError: when the server is down, or will not serve us.
        """
        if fault.kind in HOPELESS:
            raise self._down("stopped at once", fault)
        if (fault.wait_seconds or 0) > LONGEST_ASKED_WAIT_SECONDS:
            raise self._down(f"it asks to be left alone for {fault.wait_seconds:.0f} s", fault)
        if fault.kind not in ("rate limit", "refused"):
            self._tries_in_a_row += 1
            self._silent_since = self.clock() if self._silent_since is None else self._silent_since
            is_long = self.clock() - self._silent_since >= MAX_SILENT_SECONDS
            are_many = self._tries_in_a_row >= MAX_IN_A_ROW
            if self.has_answered:
                is_down = are_many and is_long
            else:
                is_down = are_many or (is_long and self._tries_in_a_row >= MIN_SILENT_TRIES)
            if is_down:
                raise self._down(f"{self._tries_in_a_row} tries failed in a row", fault)

    def call_failed(self, fault: Fault) -> None:
        """Take note of a call that failed for good.

        Raises:
            ServerDownError: after `MAX_IN_A_ROW` of them without a reply in between.
        """
        self._calls_in_a_row += 1
        if fault.was_sent:
            self._was_reached = True
        else:
            self._last_unsent = fault
        if self._calls_in_a_row >= MAX_IN_A_ROW:
            raise self._down(f"{self._calls_in_a_row} calls failed in a row", fault)

    def round_ended(self) -> None:
        """Take note that all calls have ended.

        Raises:
            ServerDownError: no call could reach the server in the end, however few they were. (A row on which a living
                server always times out is that row's fault.)
        """
        if self._last_unsent is not None and not self._was_reached:
            raise self._down(f"it could not be reached by any of {self._calls_in_a_row} calls", self._last_unsent)

    def _down(self, why: str, fault: Fault) -> ServerDownError:
        return ServerDownError(
            f"{self.server}: {why}, the last with {fault}; replies so far are kept, run again to go on"
        )

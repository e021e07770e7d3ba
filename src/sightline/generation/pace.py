"""How fast a server may be asked: so many requests and tokens a minute, and not before it wants to be asked again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Pace:
    """A limit that holds in every window of a minute, wherever it starts.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: of prompts and replies; None for no limit.
        window_seconds: what a minute is; a little more, because requests do not travel evenly.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    window_seconds: float = 61.0
    _sent: deque[list[float]] = field(default_factory=deque, init=False)
    _not_before: float = field(default=0.0, init=False)

    def rest(self, seconds: float) -> None:
        """Let nothing be sent for a while, because the server asked so."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    async def wait(self, num_tokens: int) -> list[float]:
        """Wait until a request may be sent, and count it.

        Args:
            num_tokens: as estimated beforehand.

        Returns:
            What `correct` takes.
        """
        while (seconds := self._seconds_to_wait(num_tokens)) > 0:
            await asyncio.sleep(seconds)
        entry = [time.monotonic(), float(num_tokens)]
        if self.requests_per_minute is not None or self.tokens_per_minute is not None:
            self._sent.append(entry)
        return entry

    @staticmethod
    def correct(entry: list[float], num_tokens: int) -> None:
        """Put what a request really took in the place of its estimate."""
        entry[1] = float(num_tokens)

    def _seconds_to_wait(self, num_tokens: int) -> float:
        now = time.monotonic()
        if now < self._not_before:
            return self._not_before - now
        while self._sent and self._sent[0][0] <= now - self.window_seconds:
            self._sent.popleft()
        if not self._sent:
            return 0.0  # a request larger than the limit goes alone
        is_full = self.requests_per_minute is not None and len(self._sent) >= self.requests_per_minute
        used = sum(entry[1] for entry in self._sent)
        if not is_full and (self.tokens_per_minute is None or used + num_tokens <= self.tokens_per_minute):
            return 0.0
        return max(0.001, self._sent[0][0] + self.window_seconds - now)

"""An engine for drafting: any server that speaks OpenAI's chat format, asked about one picture after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sightline.errors import DataError, StudyError
from sightline.generation import remote
from sightline.generation.calls import Call, ReplyDecoding
from sightline.generation.retries import ServerDownError
from sightline.records import Picture

TEMPERATURE = 1.0
"""Drafts should differ; it is also what servers take when none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEngine:
    """A server that is shown pictures and asked; made by `connect`."""

    remote: remote.RemoteEngine
    max_new_tokens: int

    def ask(self, pictures: Sequence[Picture], prompt: str) -> str:
        """Answer a prompt about pictures, which come before it; as `drafting.Engine`.

        Raises:
            DataError: the server gave no answer after all tries.
        """
        call = Call(name="drafting", text=prompt, pictures=tuple(pictures))
        decoding = ReplyDecoding(max_new_tokens=self.max_new_tokens, temperature=TEMPERATURE)
        try:
            [reply] = self.remote.ask([call], decoding)
            failed = reply.reason
        except ServerDownError as error:
            failed, reply = str(error), None
        if reply is None or reply.outcome == "failed":
            raise DataError(
                f"{self.remote.server}: no answer from {self.remote.model} ({failed}); drafts made so far are kept, "
                "run again to go on"
            )
        return reply.text


def connect(
    server: str,
    model: str,
    *,
    send_images: bool,
    key_env: str | None = None,
    max_new_tokens: int = 1024,
    timeout_seconds: float = 120.0,
    max_retries: int = 4,
) -> ServerEngine:
    """Connect to a server that may be shown pictures.

    Args:
        server: address up to and with "/v1".
        model: the server's name of the model.
        send_images: whether pictures may leave this machine; drafting does not work without.
        key_env: environment variable that holds the key; None for a server without keys.
        max_new_tokens: longest reply.
        timeout_seconds: longest wait for a reply.
        max_retries: how often a picture is asked about again after 429, 5xx or a lost connection.

    Returns:
        The engine; nothing is sent yet.

    Raises:
        StudyError: sending pictures is not allowed, or the variable holds no key.
    """
    if not send_images:
        raise StudyError(f"{server}: drafting would send pictures there; allow it with `send_images: true`, or do not")
    engine = remote.connect(
        server,
        model,
        key_env=key_env,
        send_images=True,
        concurrency=1,
        timeout_seconds=timeout_seconds,
        num_tries=max_retries + 1,
    )
    return ServerEngine(remote=engine, max_new_tokens=max_new_tokens)

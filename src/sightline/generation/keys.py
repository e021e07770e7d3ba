"""Keys of servers: taken from the environment, shown to nobody but the server they are for."""

from __future__ import annotations

import base64
import os
import re
from urllib.parse import quote, quote_plus

from sightline.errors import StudyError
from sightline.study.servers import address_fault

NO_KEY = "none"
"""What a server without keys is sent, because the client insists on one."""

HIDDEN = "(the key)"
SHORTEST = 8
"""Shorter keys are no secrets, and their letters stand in any text."""


class Key:
    """A key that cannot be printed.

    Args:
        text: the key itself; None where the server wants none.
    """

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __repr__(self) -> str:
        return HIDDEN if self._text else "(no key)"

    def reveal(self) -> str:
        """Give the key, to be handed to the client and to nothing else."""
        return self._text or NO_KEY

    def hide_in(self, text: str) -> str:
        """Remove the key from a text that a server wrote: whole, encoded, or its first letters and what follows."""
        if not self._text or len(self._text) < SHORTEST:
            return text
        key = self._text
        forms = {key, quote(key, safe=""), quote_plus(key), repr(key)[1:-1]}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(key.encode()).decode().rstrip("="))
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, HIDDEN)
        return re.sub(re.escape(key[:SHORTEST]) + r"[\w*.…-]*", HIDDEN, text)


def read_key(key_env: str | None, *, where: str) -> Key:
    """Take a key from the environment.

    Args:
        key_env: the variable that holds it; None for a server without keys.
        where: who asks, for messages.

    Raises:
        StudyError: the variable holds no key.
    """
    if key_env is None:
        return Key(None)
    text = os.environ.get(key_env, "").strip()
    if not text:
        raise StudyError(f"{where}: the environment variable {key_env} holds no key; set it")
    return Key(text)


def refuse_secrets_in(server: str) -> None:
    """Refuse an address that holds a secret: addresses are written into files, keys are not.

    Raises:
        StudyError: without repeating the address.
    """
    if fault := address_fault(server):
        raise StudyError(f"server: {fault}")

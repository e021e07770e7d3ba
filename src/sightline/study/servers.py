"""The keys by which a model on a server is reached: judges and models of a study share them."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import model_validator

from sightline.study.keys import Keys, key


def address_fault(server: str) -> str:
    """Say what is wrong with a server's address, without repeating it; "" where nothing is."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "not an address; write for example http://localhost:8000/v1"
    if parts.username or parts.password or parts.query or parts.fragment:
        return (
            "the address holds a user name, a password or a query, and addresses are written into the study's files; "
            "put the key into an environment variable and name that as key_env"
        )
    return ""


class Served(Keys):
    """How a model on a server is reached, if it is on one."""

    server: str | None = key(None, "the model is on this machine")
    """Address of an OpenAI-compatible server."""
    model: str | None = key(None, "the server's only model")
    """The model's name on the server."""
    key_env: str | None = key(None, "no key")
    """Environment variable that holds the key."""
    send_images: bool = key(False, "pictures stay on the machine")
    """Whether pictures may leave the machine for this server."""
    concurrency: int = key(16, "most servers take as many", ge=1)
    """Most calls in flight."""
    requests_per_minute: int | None = key(None, "no limit", ge=1)
    """Most requests in any minute."""
    tokens_per_minute: int | None = key(None, "no limit", ge=1)
    """Most tokens of prompts and replies in any minute, estimated before and corrected after."""
    timeout_seconds: float = key(120.0, "a long reply of a large model", gt=0)
    """Longest wait for one reply."""
    tries: int = key(6, "with waits between, half a minute of faults", ge=1)
    """How often a call is sent, after 429, 5xx, timeouts and lost connections, before it counts as failed."""
    input_price: float | None = key(None, "no cost is shown", ge=0)
    """Price of a million prompt tokens, in your currency."""
    output_price: float | None = key(None, "no cost is shown", ge=0)
    """Price of a million reply tokens, in your currency."""

    @model_validator(mode="after")
    def _has_an_address(self) -> Served:
        if self.server is not None and (fault := address_fault(self.server)):
            raise ValueError(f"server: {fault}")
        for name, field in Served.model_fields.items() if self.server is None else ():
            if getattr(self, name) != field.default:
                raise ValueError(f"{name} is about a server, and none is named; add server, or remove {name}")
        return self

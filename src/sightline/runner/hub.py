"""Bases on the hub: whether one is here already, and whether the hub can be reached for one that is not."""

from __future__ import annotations

import os
from pathlib import Path

from sightline.errors import MissingDataError, first_line

CONNECT_SECONDS = 5.0
"""Longest wait for the hub to take a call; the hub's own library tries again and again for most of a minute."""


UNREACHABLE = ("ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError")
"""Errors of a call that nobody took."""


def base_folder(location: str) -> Path | None:
    """Find the folder in which a base's files lie on this machine; None when they are not here."""
    if location.startswith("builtin:"):
        from sightline.models.loading import base_location

        return Path(base_location(location))
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(location, "config.json")
    except HFValidationError:  # no name that the hub could have
        return None
    return Path(config).parent if isinstance(config, str) else None


def refuse_unreachable(location: str) -> None:
    """Stop where a base is not here and the hub does not take a call; whatever it answers is another's business.

    Args:
        location: a hub name, a folder or "builtin:tiny".

    Raises:
        MissingDataError: saying what to do.
    """
    if Path(location).is_absolute() or base_folder(location) is not None:
        return
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return
    address = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        get_session().head(address, timeout=CONNECT_SECONDS)
    except Exception as error:  # which package's they are depends on the hub library's version
        if type(error).__name__ not in UNREACHABLE:  # slow or odd, but there
            return
        raise MissingDataError(
            f"base {location!r} is not on this machine, and {address} cannot be reached ({first_line(error)}); run "
            "this again with a network, or name a folder with the model"
        ) from error

"""What a study takes from the hub: whether it is here already, and whether the hub can be reached for what is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sightline.data.fetching import by_hand, is_fetched, is_name
from sightline.errors import MissingDataError, first_line
from sightline.study import Plan, Study, model_location, source_location

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
    return _cached(location, "config.json")


def _cached(name: str, file: str) -> Path | None:
    """Find the folder in which the hub's library keeps a model or an adapter, by a file that each of them has."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


def missing_base(location: str) -> dict[str, str]:
    """Name a base that must come from the hub and is not here, with what to do by hand; else nothing."""
    is_elsewhere = location.startswith("builtin:") or Path(location).is_absolute()
    return {} if is_elsewhere or base_folder(location) else {f"base {location!r}": "name a folder with the model"}


def missing_models(study: Study, plan: Plan) -> dict[str, str]:
    """Name the bases and adapters that a study uses, that must come from the hub, and that are not here."""
    used = {*plan.models, *(parent for run in plan.runs for parent in run.parents)}
    others = [other for name, other in study.models.items() if name in used]
    missing: dict[str, str] = {}
    for base in (study.base, *(other.base for other in others if other.base)):
        missing |= missing_base(model_location(study, base))
    for adapter in (model_location(study, other.adapter) for other in others if other.adapter):
        if not Path(adapter).is_absolute() and _cached(adapter, "adapter_config.json") is None:
            missing[f"adapter {adapter!r}"] = "name a folder with the adapter"
    return missing


def missing_data(study: Study, plan: Plan) -> dict[str, str]:
    """Name the sources that a study reads, that must come from the hub, and that are not here."""
    return {
        f"data {source!r}": by_hand(source)
        for name, source in sources_read(study, plan).items()
        if is_name(source) and not is_fetched(source, subset=study.data[name].subset)
    }


def sources_read(study: Study, plan: Plan) -> dict[str, str]:
    """Give the sources that a study reads, by data set."""
    needed = {name.rpartition(".")[0] for name in plan.data}
    return {name: source_location(study, data) for name, data in study.data.items() if name in needed and data.source}


def refuse_unreachable(missing: Mapping[str, str]) -> None:
    """Stop where something is not here and the hub does not take a call; whatever it answers is another's business.

    Args:
        missing: each with what to do by hand, in words; nothing is asked where this is empty.

    Raises:
        MissingDataError: naming all of it, and what to do.
    """
    if not missing:
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
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not on this machine, and {address} cannot be "
            f"reached ({first_line(error)}); run this again with a network. By hand: {'; '.join(missing.values())}"
        ) from error

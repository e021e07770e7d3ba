"""A dataset's card: what the head of its README.md says about licence, parts and files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from sightline.errors import DataError

CARD = "README.md"

_LONGEST = 2**20


def read_card(folder: Path) -> Mapping[str, Any]:
    """Read the head of a folder's README.md; empty when there is none, or when it cannot be read."""
    try:
        with (folder / CARD).open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST)
    except OSError:
        return {}
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        head = yaml.safe_load(parts[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return head if isinstance(head, Mapping) else {}


def licence_in(card: Mapping[str, Any]) -> str | None:
    """Tell the licence a card names, as it names it."""
    licence = card.get("license")
    named = card.get("license_name") if licence == "other" else licence
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named) if named else None


def declared_patterns(card: Mapping[str, Any], subset: str | None, *, where: str) -> dict[str, list[str]] | None:
    """Tell which files a card declares for a subset, split by split.

    Args:
        card: the head of the card.
        subset: its `config_name`; None takes the only one, or the default.
        where: the dataset, for the message.

    Returns:
        Split to patterns of file names from the dataset's folder; None when the card declares no such files.

    Raises:
        DataError: there are several subsets and none is chosen.
    """
    by_name = _configs(card)
    if subset is None and len(by_name) > 1:
        subset = _default(card)
        if subset not in by_name:
            raise DataError(f"{where}: choose a `subset`; there are {', '.join(by_name)}")
    patterns = by_name.get(subset, {}) if subset is not None else next(iter(by_name.values()), {})
    is_odd = any("://" in one or one.startswith("/") or ".." in one.split("/") for p in patterns.values() for one in p)
    return None if is_odd else patterns or None


def patterns_of_others(card: Mapping[str, Any], patterns: Collection[str]) -> list[str]:
    """List the patterns of files that a card declares for other subsets only."""
    every = [one for splits in _configs(card).values() for ones in splits.values() for one in ones]
    return [one for one in every if one not in patterns]


def _configs(card: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    configs = card.get("configs")
    known = [one for one in configs if isinstance(one, Mapping)] if isinstance(configs, list) else []
    return {str(one.get("config_name")): _by_split(one.get("data_files")) for one in known}


def _default(card: Mapping[str, Any]) -> str:
    marked = [one for one in card["configs"] if isinstance(one, Mapping) and one.get("default") is True]
    return str(marked[0].get("config_name")) if marked else "default"


def _by_split(data_files: object) -> dict[str, list[str]]:
    """Bring the four ways of writing `data_files` into one."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, Mapping):
        return {str(split): _listed(paths) for split, paths in data_files.items()}
    if not isinstance(data_files, list):
        return {}
    found: dict[str, list[str]] = {}
    for one in data_files:
        split, paths = (one.get("split"), one.get("path")) if isinstance(one, Mapping) else ("train", one)
        found.setdefault(str(split), []).extend(_listed(paths))
    return found


def _listed(paths: object) -> list[str]:
    return [str(path) for path in paths] if isinstance(paths, list) else [str(paths)]

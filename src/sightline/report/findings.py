"""What reading the data and checking the study found, whatever shape it was recorded in, as rows to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.report.reading import StudyFiles
from sightline.report.wording import shortened

MOST_FINDINGS = 200

_KIND = ("kind", "name", "check", "fault")
_LEVEL = ("level", "severity", "outcome", "status")
_WHERE = ("where", "file", "origin", "sample_id")
_FOUND = ("found", "message", "what", "text", "reason")
_ADVICE = ("remedy", "advice", "do", "action")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found.

    Args:
        kind: its name.
        level: "fault", "warning", "repaired", ...; may be empty.
        where: the row or file.
        found: what was found there.
        advice: what to do, or what was done.
    """

    kind: str
    level: str
    where: str
    found: str
    advice: str


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = entry.get(key)
        if value not in (None, "", [], {}):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            return shortened(text, 400)
    return ""


def _where(entry: Mapping[str, Any]) -> str:
    """The row as file:row, with its id and picture where those say more."""
    place = _first(entry, _WHERE)
    if place and isinstance(entry.get("row"), int):
        place = f"{place}:{entry['row']}"
    who = [f"{key} {entry[key]}" for key in ("id", "image") if entry.get(key) not in (None, "", str(entry.get("row")))]
    return shortened(" ".join(filter(None, (place, f"({', '.join(who)})" if who and place else ""))), 400)


def _finding(entry: Any, level: str) -> Finding:
    if not isinstance(entry, Mapping):
        return Finding(kind="", level=level, where="", found=shortened(str(entry), 400), advice="")
    kind, found = _first(entry, _KIND), _first(entry, _FOUND)
    if "repaired" in entry:
        level = "repaired" if entry["repaired"] else "left out"
    return Finding(
        kind=kind,
        level=_first(entry, _LEVEL) or level,
        where=_where(entry),
        found=found or _first({"all": {key: entry[key] for key in sorted(entry)}}, ("all",)),
        advice=_first(entry, _ADVICE),
    )


def findings(recorded: Any) -> tuple[Finding, ...]:
    """Bring a list of problems or check results into one shape.

    Args:
        recorded: a list of entries, or a mapping of level ("faults", "warnings", ...) to such lists.

    Returns:
        One finding per entry.
    """
    if isinstance(recorded, Mapping):
        return tuple(
            _finding(entry, key.removesuffix("s"))
            for key, entries in recorded.items()
            if isinstance(entries, list)
            for entry in entries
        )
    return tuple(_finding(entry, "") for entry in recorded or ())


def accepted_faults(files: StudyFiles) -> tuple[tuple[str, str], ...]:
    """The faults the study accepts by name, each with its reason."""
    accepted = files.study.get("accept")
    return tuple((str(name), str(reason)) for name, reason in accepted.items()) if isinstance(accepted, Mapping) else ()


def notes(files: StudyFiles) -> tuple[str, ...]:
    """What the reader should know before believing a number, each once."""
    recorded = (files.run or {}).get("notes") or ()
    return tuple(dict.fromkeys(str(note) for note in (*(files.compare.get("notes") or ()), *recorded)))

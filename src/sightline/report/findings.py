"""What reading the data and checking the study found, whatever shape it was recorded in, as rows to be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.reading import StudyFiles
from sightline.report.wording import shortened

MOST_CHANGED = 8
"""Changed files that are named; the others are counted."""

MOST_FINDINGS = 200

_KIND = ("kind", "name", "check", "fault")
_LEVEL = ("level", "severity", "outcome", "status")
_WHERE = ("where", "file", "origin", "sample_id")
_FOUND = ("found", "message", "what", "text", "reason")
_ORDER = {"fault": 0, "left out": 0, "warning": 1, "repaired": 1, "note": 2}
_COLUMNS = (
    ("Level", "level"),
    ("Kind", "kind"),
    ("Where", "where"),
    ("Found", "found"),
    ("Done, or to do", "advice"),
)
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
    advice = _first(entry, _ADVICE)
    if entry.get("accepted"):
        advice = f"accepted: {shortened(str(entry['accepted']), 400)}"
    if "repaired" in entry:
        level = "repaired" if entry["repaired"] else "left out"
    return Finding(
        kind=kind,
        level=_first(entry, _LEVEL) or level,
        where=_where(entry),
        found=found or _first({"all": {key: entry[key] for key in sorted(entry)}}, ("all",)),
        advice=advice,
    )


def findings(recorded: Any) -> tuple[Finding, ...]:
    """Bring a list of problems or check results into one shape.

    Args:
        recorded: a list of entries, or a mapping of level ("faults", "warnings", ...) to such lists.

    Returns:
        One finding per entry, the gravest first.
    """
    if isinstance(recorded, Mapping):
        listed = [
            (entry, key.removesuffix("s")) for key, rows in recorded.items() if isinstance(rows, list) for entry in rows
        ]
    else:
        listed = [(entry, "") for entry in recorded or ()]
    found = [_finding(entry, level) for entry, level in listed]
    return tuple(sorted(found, key=lambda one: _ORDER.get(one.level, len(_ORDER))))


def columns(found: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    """The titles and fields of a table of findings, without the columns that would stay empty."""
    return tuple((title, name) for title, name in _COLUMNS if any(getattr(one, name) for one in found))


def accepted_faults(files: StudyFiles) -> tuple[tuple[str, str], ...]:
    """The faults the study accepts by name, each with its reason, as far as no note gives that reason already."""
    accepted = files.study.get("accept")
    if not isinstance(accepted, Mapping):
        return ()
    told = " ".join(notes(files))
    return tuple((str(name), str(reason)) for name, reason in accepted.items() if f"Accepted: {reason}" not in told)


def doubt(files: StudyFiles) -> str:
    """Say that a report's numbers may follow from files that were changed since; "" where none is known to be."""
    if not (num := len(files.changed)):
        return ""
    named = ", ".join(files.changed[:MOST_CHANGED]) + (
        f" and {num - MOST_CHANGED:,} more" if num > MOST_CHANGED else ""
    )
    what = f"{num:,} files are" if num > 1 else "one file is"
    return (
        f"The numbers of this report need not follow from its files: {what} not what the run wrote ({named}). "
        "sightline report --verify says which numbers do not; sightline run makes anew what was changed."
    )


def notes(files: StudyFiles) -> tuple[str, ...]:
    """What the reader should know before believing a number, each once."""
    recorded = (files.run or {}).get("notes") or ()
    said = (*_about_tiny(files.study), *(files.compare.get("notes") or ()), *recorded)
    return tuple(dict.fromkeys(map(str, said)))


def _about_tiny(study: Mapping[str, Any]) -> Iterator[str]:
    """Say that the model made for trying things out knows nothing of other people's data."""
    data = study.get("data")
    sets = data.values() if isinstance(data, Mapping) else ()
    sources = [each.get("source") if isinstance(each, Mapping) else each for each in sets]
    if study.get("base") == "builtin:tiny" and any(source not in (None, "builtin:phantom") for source in sources):
        yield (
            "builtin:tiny knows the words of builtin:phantom alone, and this study's data are others: it shows that "
            "the study runs from end to end, and none of its numbers mean anything"
        )

"""`sightline check` as one HTML page: what stops the study first, each with why it matters and what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.checking.findings import FINDINGS, Finding, in_order
from sightline.data.problems import Problem
from sightline.report.findings import MOST_FINDINGS, columns, findings
from sightline.report.page import render_page
from sightline.report.why import WHY
from sightline.report.wording import count, rounded, shortened

MOST_LINES = 20
"""Rows of a finding's evidence that the page lists."""

LONGEST_FACT = 40
"""Characters of a text that still stands among numbers."""

LONGEST_VALUE = 400

_SIZES = (("num_rows", "Rows"), ("num_images", "Images"), ("max_per_image", "Most rows on one image"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a finding rests on.

    Args:
        facts: name and value.
        lists: name and lines, such as file:row; how many more there are.
        tables: name, column titles and rows.
    """

    facts: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, tuple[str, ...], int], ...] = ()
    tables: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """One finding, ready to be shown.

    Args:
        name: by which it can be accepted.
        about: what the check looks for.
        message: what was found.
        why: why it matters.
        remedy: what to do.
        accepted: the reason for going past it, or "".
        evidence: what it rests on.
    """

    name: str
    about: str
    message: str
    why: str
    remedy: str
    accepted: str
    evidence: Evidence


def check_page(title: str, found: Sequence[Finding], problems: Sequence[Problem]) -> str:
    """Write the page.

    Args:
        title: the study's name.
        found: every finding, in any order.
        problems: rows that cannot be used, and rows that were repaired.

    Returns:
        One HTML document that needs no other file.
    """
    ordered = in_order(found)
    faults = [finding for finding in ordered if finding.stops]
    accepted = [finding for finding in ordered if finding.accepted is not None and finding.severity != "note"]
    warnings = [finding for finding in ordered if finding.severity == "warning" and finding.accepted is None]
    sizes = [finding for finding in ordered if finding.name == "data-size"]
    notes = [finding for finding in ordered if finding.severity == "note" and finding.name != "data-size"]
    rows = findings([dataclasses.asdict(problem) for problem in problems])
    left_out = {(problem.file, problem.row) for problem in problems if not problem.repaired}
    repaired = {(problem.file, problem.row) for problem in problems if problem.repaired} - left_out
    return render_page(
        "check.html.j2",
        title=title,
        styles=("check.css",),
        verdict=_verdict(len(faults)),
        tone="bad" if faults else "good",
        counts=_counts(len(accepted), len(warnings), len(notes) + len(sizes), len(left_out), len(repaired)),
        faults=[_view(finding) for finding in faults],
        accepted=[_view(finding) for finding in accepted],
        warnings=[_view(finding) for finding in warnings],
        notes=[_view(finding) for finding in notes],
        size_columns=_size_columns(sizes),
        sizes=_sizes(sizes),
        rows=rows[:MOST_FINDINGS],
        num_rows=len(rows),
        row_columns=columns(rows),
        most=MOST_LINES,
    )


def _verdict(num_faults: int) -> str:
    if not num_faults:
        return "Nothing stops this study."
    return "1 fault stops this study." if num_faults == 1 else f"{num_faults} faults stop this study."


def _counts(num_accepted: int, num_warnings: int, num_notes: int, num_left_out: int, num_repaired: int) -> str:
    """Say in one line what else there is."""
    parts = [
        _several(num_accepted, "accepted finding") if num_accepted else "",
        _several(num_warnings, "warning") if num_warnings else "no warning",
        _several(num_left_out, "row") + " that cannot be used" if num_left_out else "every row can be used",
        _several(num_repaired, "row") + " repaired on reading" if num_repaired else "",
        _several(num_notes, "note") if num_notes else "",
    ]
    line = ", ".join(filter(None, parts))
    return f"{line[:1].upper()}{line[1:]}."


def _several(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'s'[: number != 1]}"


def _view(finding: Finding) -> FindingView:
    return FindingView(
        name=finding.name,
        about=FINDINGS.get(finding.name, ""),
        message=_sentence(finding.message),
        why=WHY.get(finding.name, ""),
        remedy=_sentence(finding.remedy),
        accepted=finding.accepted or "",
        evidence=evidence_of(finding.evidence),
    )


def _sentence(text: str) -> str:
    """End a message as a sentence; names at its beginning keep their case."""
    return f"{text}." if text and text[-1] not in ".!?" else text


def evidence_of(evidence: Mapping[str, Any]) -> Evidence:
    """Bring a finding's evidence, whatever its shape, into facts, lists and tables."""
    facts: list[tuple[str, str]] = []
    lists: list[tuple[str, tuple[str, ...], int]] = []
    tables: list[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = []
    # Mappings of one shape side by side, such as counts part by part, are one table.
    nested = {key: value for key, value in evidence.items() if isinstance(value, Mapping)}
    alike = {tuple(value) for value in nested.values()}
    if len(nested) > 1 and len(alike) == 1 and all(_is_plain(v) for value in nested.values() for v in value.values()):
        titles = tuple(_in_words(key) for key in alike.pop())
        lines = tuple((_in_words(key), *map(_value, value.values())) for key, value in nested.items())
        tables.append(("", ("", *titles), lines))
        evidence = {key: value for key, value in evidence.items() if key not in nested}
    for key, value in evidence.items():
        if value in ("", [], {}):
            continue
        name = _in_words(key)
        if isinstance(value, Mapping):
            tables.append((name, (), tuple((str(inner), _value(held)) for inner, held in value.items())))
        elif isinstance(value, str) and len(value) > LONGEST_FACT:
            lists.append((name, (_value(value),), 0))
        elif isinstance(value, list | tuple):
            lists.append((name, tuple(map(_line, value[:MOST_LINES])), max(0, len(value) - MOST_LINES)))
        else:
            facts.append((name, _value(value)))
    return Evidence(facts=tuple(facts), lists=tuple(lists), tables=tuple(tables))


def _line(value: Any) -> str:
    """Write one line of a list: rows that belong together are joined."""
    return " ↔ ".join(map(_value, value)) if isinstance(value, list | tuple) else _value(value)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping | list | tuple)


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return rounded(value, 0 if abs(value) >= 100 else 3) if abs(value) >= 0.001 or not value else f"{value:.2g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return shortened(text, LONGEST_VALUE)


def _in_words(key: str) -> str:
    return shortened(key.removeprefix("num_").replace("_", " "), LONGEST_FACT)


def _size_columns(sizes: Iterable[Finding]) -> tuple[tuple[str, str], ...]:
    """The columns of the table of sizes: the usual ones, then counts that only some sets have, such as answer types."""
    known = dict(_SIZES)
    others = dict.fromkeys(key for finding in sizes for key in finding.evidence if key not in known)
    return (*_SIZES, *((key, _in_words(key)) for key in others))


def _sizes(sizes: Sequence[Finding]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    names = [key for key, _ in _size_columns(sizes)]
    return tuple(
        (finding.message.partition(": ")[0], tuple(_value(finding.evidence.get(name)) for name in names))
        for finding in sizes
    )

"""Findings on the terminal: each as it is found, in its severity's colour, and their number and names last."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sightline.checking.findings import Finding, Severity

STYLES: Mapping[Severity, str] = {"fault": "bold red", "warning": "yellow", "note": "dim"}
"""Of the severity's word; where there is no terminal, nothing is coloured."""


def print_findings(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Print findings as they come: a line each, or on a terminal as many as it takes, set off from the word.

    A look at a large set takes minutes, and what it finds first is there to be read after seconds.

    Yields:
        each finding, once it is printed.
    """
    console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)
    for finding in findings:
        style = STYLES["note" if finding.accepted else finding.severity]
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        accepted = f" (accepted: {finding.accepted})" if finding.accepted else ""
        word = Text(f"{finding.severity:8}", style=style)
        told = Text.assemble((finding.name, style), f": {finding.message}{remedy}{accepted}")
        if console.is_terminal:
            table = Table.grid(padding=(0, 1, 0, 0))
            table.add_row(word, told)
            console.print(table)
        else:
            console.print(Text.assemble(word, " ", told))
            sys.stdout.flush()
        yield finding


def summary(findings: Sequence[Finding]) -> str:
    """Count findings, and name those that matter."""
    told = []
    for severity in STYLES:
        found = [finding for finding in findings if finding.severity == severity]
        names = ", ".join(dict.fromkeys(finding.name + (" accepted" if finding.accepted else "") for finding in found))
        counted = f"{len(found)} {severity}{'' if len(found) == 1 else 's'}"
        told.append(f"{counted} ({names})" if found and severity != "note" else counted)
    return ", ".join(told)

"""What a check says: a name, how bad it is, what was found and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.errors import CheckFault

Severity = Literal["fault", "warning", "note"]

FINDINGS = frozenset(
    (
        "answer-balance",
        "contradictory-rows",
        "data-size",
        "end-not-trained",
        "image-tokens-trained",
        "prefix-sharing",
        "repeated-rows",
        "same-image-in-train-and-test",
        "same-row-in-train-and-test",
        "token-straddles-answer",
        "trained-tokens",
    )
)
"""Every name a check gives; a study's `accept` names one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check found.

    Args:
        name: by which a study can accept it.
        severity: a fault stops a run unless accepted; a warning and a note are reported.
        message: what was found, in plain words, with its counts.
        remedy: what to do; empty for a note.
        evidence: rows, counts and an example, as plain JSON values.
        accepted: the study's reason for going past a fault.
    """

    name: str
    severity: Severity
    message: str
    remedy: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    accepted: str | None = None


def refuse_faults(findings: Sequence[Finding]) -> None:
    """Stop at faults that the study did not accept.

    Raises:
        CheckFault: naming each of them, what to do, and how to go past it.
    """
    faults = [finding for finding in findings if finding.severity == "fault" and finding.accepted is None]
    if faults:
        lines = [f"{fault.name}: {fault.message}; {fault.remedy}" for fault in faults]
        raise CheckFault(
            "\n".join(lines) + f"\nTo go past a fault, name it in the study: accept: {{{faults[0].name}: your reason}}"
        )

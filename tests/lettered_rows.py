"""Rows about pictures that are named by one letter each, for the checks."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.checking.findings import Finding
from sightline.records import Message, Picture, Sample


def sample(row: int, pictures: str, question: str, answer: str, file: str = "a.csv", **tags: str) -> Sample:
    """A row about pictures named by one letter each."""
    return Sample(
        id=f"{file}:{row}",
        pictures=tuple(Picture(name=name, sha256=name * 64, width=8, height=8) for name in pictures),
        messages=(Message(role="user", content=(*range(len(pictures)), question)),),
        answer=answer,
        tags=tags,
        origin=f"{file}:{row}",
    )


CLEAN = [
    sample(1, "A", "left?", "yes"),
    sample(2, "A", "right?", "no"),
    sample(3, "B", "left?", "no"),
    sample(4, "AB", "left?", "no"),
]


def only(findings: Iterator[Finding]) -> Finding:
    [finding] = findings
    return finding

"""What leaves the machine, and under which licences what comes from elsewhere may be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sightline.checking.findings import Finding


def check_destinations(destinations: Sequence[str]) -> Iterator[Finding]:
    """List every place to which something would go.

    Args:
        destinations: each with what goes there.
    """
    told = "; ".join(destinations)
    yield Finding(
        name="destinations",
        severity="note",
        message=f"leaves this machine: {told}" if destinations else "nothing leaves this machine",
        evidence={"destinations": list(destinations)},
    )


def check_licences(licences: Mapping[str, str | None]) -> Iterator[Finding]:
    """Name the licences of base and data, and what has none that could be found.

    Args:
        licences: what is used, with its licence; None where none was found.
    """
    known = [f"{name}: {licence}" for name, licence in licences.items() if licence]
    unknown = [name for name, licence in licences.items() if not licence]
    looked_up = f"not known, to be looked up before anything is published: {', '.join(unknown)}" if unknown else ""
    yield Finding(
        name="licences",
        severity="note",
        message="; ".join([*known, looked_up] if looked_up else known),
        evidence=dict(licences),
    )

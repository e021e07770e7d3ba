"""Every name a check gives is one that a study can accept."""

from __future__ import annotations

import re
from pathlib import Path

from sightline.checking.findings import FINDINGS

CHECKS = Path(__file__).parents[2] / "src" / "sightline" / "checking"


def test_every_finding_is_listed_once_and_given_somewhere() -> None:
    given = {name for file in CHECKS.glob("*.py") for name in re.findall(r'name="([a-z-]+)"', file.read_text())}
    assert given == FINDINGS

"""Every name a check gives is one that a study can accept and the docs explain."""

from __future__ import annotations

import re
from pathlib import Path

from sightline.checking.findings import FINDINGS

ROOT = Path(__file__).parents[2]
CODE = [file for room in ("checking", "runner") for file in (ROOT / "src" / "sightline" / room).glob("*.py")]


def test_every_finding_is_given_somewhere_and_every_name_given_is_listed() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in CODE}
    given = {name for text in texts.values() for name in re.findall(r'name="([a-z0-9-]+)"', text)}
    assert given <= FINDINGS.keys()
    written = "".join(text for file, text in texts.items() if file.name != "findings.py")
    assert [name for name in FINDINGS if f'"{name}"' not in written] == []


def test_the_docs_explain_every_finding_once_and_nothing_else() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(.+)`$", text, flags=re.MULTILINE) == list(FINDINGS)

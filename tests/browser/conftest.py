"""Chromium, for pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _chromium(playwright: Any) -> str:
    named = os.environ.get("CHROMIUM")
    for candidate in (named, shutil.which("chromium"), "/usr/bin/chromium", playwright.chromium.executable_path):
        if candidate and Path(candidate).is_file():
            return candidate
    pytest.skip("needs Chromium: run scripts/install_browser.sh, or set CHROMIUM to one")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A browser for all pages of the session."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra `dev` brings")
    with sync_api.sync_playwright() as playwright:
        # Root, as in most containers, has no sandbox; the pages are our own.
        options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=_chromium(playwright), args=options)
        yield browser
        browser.close()

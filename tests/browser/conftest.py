"""Chromium, for pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.visits import OpenPage, Visit


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


@pytest.fixture(scope="session")
def page(browser: Any) -> Any:
    """The page of all visits; another one would be a process of its own, which costs a second of processor time."""
    return browser.new_page()


@pytest.fixture
def open_page(page: Any) -> Iterator[OpenPage]:
    """A function that opens a file, with `width` and `scheme`, as if nobody had been in the browser before."""
    visits: list[Visit] = []

    def open_file(path: Path, *, width: int = 1280, scheme: str = "light") -> Visit:
        visits.append(Visit(page, path, width=width, scheme=scheme))
        return visits[-1]

    yield open_file
    for one in visits:
        one.leave()

"""The table of published data sets: whole, told in full by messages, and printed in the docs as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.data.formats import FORMATS, OPENERS
from sightline.data.release import Release, size_in_words
from sightline.data.releases import RELEASES, release_of, release_on_hub, updated

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.title)
def test_each_release_says_what_a_person_needs(release: Release):
    assert release.format in FORMATS
    assert release.address.startswith("https://") and release.layout and release.files
    assert release.revision is None or re.fullmatch("[0-9a-f]{40}", release.revision)
    assert release.hub is None or release.address.endswith(release.hub)
    told = str(release.missing("there", "nothing"))
    for part in (release.title, release.address, release.files, *release.layout, release.licence or "looked up"):
        assert part in told
    assert (f"`source: {release.hub}`" in told) is bool(release.hub)


def test_every_opener_has_a_release_to_tell_of():
    assert OPENERS.keys() - {release.format for release in RELEASES} <= {"drafts"}  # which are the study's own
    assert OPENERS.keys() <= FORMATS.keys()


def test_the_docs_print_the_table():
    page = DOCS.read_text(encoding="utf-8")
    assert page == updated(page), "run: python -m sightline.data.releases docs/formats.md"
    by_their_endings = {"csv", "jsonl", "json", "huggingface", "llava"}
    assert {
        format for format in FORMATS if f"`{format}`" not in page and f"`format: {format}`" not in page
    } <= by_their_endings


def test_a_release_is_found_by_its_hub_its_format_and_its_name():
    slake = release_on_hub("bokelvin/SLAKE@main")
    assert slake and slake.title == "SLAKE"
    assert release_of("data/Slake/") == release_of("anything", "slake") == slake
    assert release_on_hub("someone/slake") is None and release_of("rows.csv") is None
    assert release_of("slake", "csv") is None  # the study says that it is something else


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(None, "size not known"), (12, "12 bytes"), (34_496_718, "34.5 MB"), (58_000_000_000, "58 GB"), (2_000, "2 kB")],
)
def test_sizes_in_words(num_bytes: int | None, words: str):
    assert size_in_words(num_bytes) == words

"""The page of `check`: what stops the study first, every shape of evidence, and texts that stay texts."""

from __future__ import annotations

import pytest

from report.planted_findings import FOUND, PROBLEMS
from report.test_build import Elements
from sightline.checking.findings import FINDINGS, Finding
from sightline.report.check_page import check_page, evidence_of
from sightline.report.why import WHY


@pytest.fixture(scope="module")
def page() -> Elements:
    return Elements(check_page("vqa-rad", FOUND, PROBLEMS))


def _sections(page: Elements) -> list[str | None]:
    return [attributes["id"] for attributes in page.all("section")]


def test_faults_come_first_and_the_summary_is_calm(page: Elements):
    assert _sections(page) == ["faults", "accepted", "warnings", "rows", "sizes", "notes"]
    head = page.text[: page.text.index("answers whose end is not a target")]
    assert "2 faults stop this study." in head
    assert "1 accepted finding, 1 warning, 1 row that cannot be used, 1 row repaired on reading, 2 notes." in head


def test_each_finding_has_what_why_and_what_to_do(page: Elements):
    fault = page.text[page.text.index("end-not-trained") : page.text.index("same-row-in-train-and-test")]
    for words in (
        "rad.train: in 1794 of 1794 rows the answer's end is not a target.",
        WHY["end-not-trained"],
        "set eos: auto.",
        "train.json:20",
        "and 5 more",
        "accept: {end-not-trained: your reason}",
    ):
        assert words in fault
    assert "train.json:21" not in page.text


def test_an_accepted_fault_stops_nothing_and_keeps_its_reason(page: Elements):
    accepted = page.text[page.text.index("same-row-in-train-and-test") : page.text.index("same-image-in-train")]
    assert "replaying the published split" in accepted
    assert "test.json:12 ↔ train.json:640" in accepted
    assert "To go past it" not in accepted


def test_without_a_fault_nothing_stops():
    assert "Nothing stops this study." in check_page("s", [], [])
    assert "No warning, every row can be used." in check_page("s", [], [])
    fault = Finding(name="cost", severity="fault", message="no room")
    assert "1 fault stops this study." in check_page("s", [fault], [])


def test_bad_rows_are_named_with_what_to_do(page: Elements):
    rows = page.text[page.text.index("Rows left out or repaired", 2000) :]
    assert "train.json:17 (image synpic371.jpg)" in rows and "copy the file again" in rows
    assert rows.index("truncated-image") < rows.index("converted to RGB")


def test_sizes_are_one_table(page: Elements):
    sizes = page.text[page.text.index("Most rows on one image") :]
    for cell in ("CLOSED", "rad.train", "1,794", "313", "10", "1,000"):
        assert cell in sizes


def test_texts_stay_texts_and_nothing_is_fetched(page: Elements):
    assert page.all("script") == [] and page.all("img") == [] and page.all("iframe") == []
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None and "script-src 'none'" in policy
    for _, attributes in page.found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "\x1b" not in page.text and "\u202e" not in page.text


def test_evidence_of_every_shape():
    held = evidence_of(
        {
            "num_rows": 12_345,
            "share": 0.12345,
            "parameters": 3446080.0,
            "hours": 0.000123,
            "destinations": [],
            "known": True,
            "absent": None,
            "rows": ["a:1", ["b:2", "c:3"], 7],
            "released": {"train": "train"},
        }
    )
    assert dict(held.facts) == {
        "rows": "12,345",
        "share": "0.123",
        "parameters": "3,446,080",
        "hours": "0.00012",
        "known": "yes",
        "absent": "–",
    }
    assert held.lists == (("rows", ("a:1", "b:2 ↔ c:3", "7"), 0),)
    assert held.tables == (("released", (), (("train", "train"),)),)


def test_counts_of_one_shape_are_one_table():
    held = evidence_of({"image": {"trained": 0, "total": 64}, "end": {"trained": 2, "total": 2}})
    assert held.tables == (("", ("", "trained", "total"), (("image", "0", "64"), ("end", "2", "2"))),)
    assert held.facts == () and held.lists == ()


def test_every_finding_has_a_reason_to_matter():
    assert set(WHY) == set(FINDINGS), "give the finding its sentence in report/why.py, or take the old one out"

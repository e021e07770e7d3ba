"""The report in Chromium: it is quiet, it works, it fits a phone, it can be read in the dark, and data stays data."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from browser.visits import CONTRAST, OpenPage, elsewhere, runs_out, scroll_through
from report.fake_study import MODELS, write_study
from report.hostile_study import write_hostile_study
from sightline.data.phantom import phantom_samples
from sightline.report.build import build_report
from sightline.report.html import FIRST_ROWS

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")
from playwright import sync_api

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(write_study(tmp_path_factory.mktemp("study")), with_figures=False)


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(write_hostile_study(tmp_path_factory.mktemp("hostile")), with_figures=False)


@pytest.fixture(scope="module")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = phantom_samples(45, seed=4)
    directory = write_study(tmp_path_factory.mktemp("long"), samples=samples, models={"base": 0.4, "sft": 0.8})
    return build_report(directory, with_images=False, with_figures=False)


def test_the_page_is_quiet_and_asks_for_nothing(open_page: OpenPage, report: Path):
    visit = open_page(report)
    visit.page.mouse.wheel(0, 20_000)
    assert visit.complaints == []
    assert elsewhere(visit, report) == []


def test_pictures_are_drawn(open_page: OpenPage, report: Path):
    visit = open_page(report)
    box = visit.page.locator("#list .row:visible .pictures svg").first.bounding_box()
    assert box is not None and box["width"] > 100 and box["height"] > 50
    drawn = visit.page.evaluate(
        "[...document.querySelectorAll('.pictures use')].every(use => document.querySelector(use.getAttribute('href')))"
    )
    assert drawn


def test_fixed_and_broken_filter_by_comparison(open_page: OpenPage, report: Path):
    visit = open_page(report)
    everything = visit.shown()
    visit.page.locator("#controls").get_by_role("radio", name="Fixed").check()
    fixed = visit.shown()
    assert 0 < len(fixed) < len(everything)
    assert visit.page.locator("#list .row:not([hidden]):not(:has(.tag.good))").count() == 0
    visit.page.locator("#controls").get_by_role("radio", name="Broken").check()
    broken = visit.shown()
    visit.choose("comparison", "3")
    assert 0 < len(visit.shown()) < len(broken)
    assert visit.page.locator("#tally").inner_text() == f"{len(visit.shown())} of {len(everything)} questions"


def test_tags_search_and_sort(open_page: OpenPage, report: Path):
    visit = open_page(report)
    page, everything = visit.page, visit.shown()
    page.locator("select[name='tag:answer_type']").select_option("CLOSED")
    closed = visit.shown()
    assert 0 < len(closed) < len(everything)
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("BAR chart")
    found = page.locator("#list .row:not([hidden])").all_text_contents()
    assert 0 < len(found) < len(closed)
    assert all("bar" in text.lower() and "chart" in text.lower() for text in found)
    visit.choose("sort", "question")
    assert visit.shown() == sorted(visit.shown(), key=str.lower)
    page.locator("[name=words]").fill("nobody says this")
    assert visit.shown() == [] and page.locator("#nothing").is_visible()
    page.locator("#clear").click()
    assert visit.shown() == everything


def _number(page: sync_api.Page, section: str, row: str, column: str) -> sync_api.Locator:
    """The link in a table's row and column, both by what a reader sees."""
    table = page.locator(f"#{section} table", has=page.get_by_role("columnheader", name=column, exact=True)).first
    titles = table.locator("thead th").all_inner_texts()
    cells = table.locator("tbody tr", has=page.get_by_role("rowheader", name=row, exact=True)).locator("th, td")
    return cells.nth(titles.index(column)).locator("a")


@pytest.mark.parametrize(
    ("section", "row", "column"),
    [
        ("mistakes", "base", "No where yes is right"),
        ("mistakes", "sft.frozen", "Right"),
        ("unread", "sft.a8", "Not read"),
        ("exploratory", "sft.a16", "Fixed"),
    ],
)
def test_a_number_leads_to_exactly_its_answers(open_page: OpenPage, report: Path, section: str, row: str, column: str):
    visit = open_page(report)
    link = _number(visit.page, section, row, column)
    number = int(link.inner_text().replace(",", ""))
    link.click()
    assert number > 0 and len(visit.shown()) == number
    assert visit.page.evaluate("document.activeElement.matches('#list .row')")


def test_a_metrics_value_leads_to_the_questions_it_is_about(open_page: OpenPage, report: Path):
    visit = open_page(report)
    compare = json.loads((report.parent / "compare.json").read_text(encoding="utf-8"))
    arm = next(arm for arm in compare["arms"] if arm["model"] == "sft.a8")["metrics"]["closed_accuracy"]
    row = visit.page.locator("#results .panel", has_text=arm["title"]).locator("tr", has_text="sft.a8")
    row.locator("a").first.click()
    assert len(visit.shown()) == arm["num_scored"] + arm["num_unparsed"]
    assert visit.page.locator("[name=metric]").input_value() == "closed_accuracy"
    assert visit.page.locator("#controls .set-here").inner_text() == " (2)"


def test_rows_join_the_page_as_a_reader_comes_to_them(open_page: OpenPage, long_report: Path):
    page = open_page(long_report).page
    total = page.evaluate("JSON.parse(document.getElementById('facts').content.textContent).rows.length")
    assert total > FIRST_ROWS and page.locator("#list .row").count() == FIRST_ROWS
    page.locator("#list .row").first.focus()
    page.keyboard.press("End")
    assert page.locator("#list .row").count() == total
    assert page.evaluate("document.activeElement === document.querySelector('#list').lastElementChild")
    page.locator("#controls [name=sort]").select_option("question")
    assert page.locator("#list .row").count() == FIRST_ROWS
    page.evaluate("document.getElementById('more').scrollIntoView({behavior: 'instant'})")
    sync_api.expect(page.locator("#list .row").nth(FIRST_ROWS)).to_be_attached()
    last = page.evaluate("[...document.querySelectorAll('#list .question')].map(e => e.textContent)")
    assert last == sorted(last, key=str.lower)


def test_a_picture_leads_to_its_own_file(open_page: OpenPage, report: Path):
    page = open_page(report).page
    with page.context.expect_page() as opened:
        page.locator("#list .original").first.click()
    assert opened.value.url.startswith((report.parent / "data" / "pictures").as_uri())
    assert opened.value.evaluate("document.images[0].naturalWidth") > 0


def test_arrow_keys_move_among_the_rows(open_page: OpenPage, report: Path):
    page = open_page(report).page
    focused = "[...document.querySelectorAll('#list .row')].indexOf(document.activeElement)"
    page.locator("#list .row").first.focus()
    for key, expected in (("ArrowDown", 1), ("j", 2), ("ArrowUp", 1), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == expected, key
    assert page.locator("#list .row[tabindex='0']").count() == 1


def test_everything_can_be_reached_and_has_a_name(open_page: OpenPage, report: Path):
    page = open_page(report).page
    unnamed = page.evaluate(
        """[...document.querySelectorAll('select, input, [role=img], [role=region]')]
           .filter(e => !(e.getAttribute('aria-label') || e.closest('label')?.textContent.trim()))
           .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_without_script_everything_can_still_be_read(browser: sync_api.Browser, report: Path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert not page.locator("#controls").is_visible()
    assert page.locator("#list .row").first.is_visible()
    context.close()


@pytest.mark.parametrize("which", ["report", "hostile_report"])
def test_nothing_runs_out_of_the_side(open_page: OpenPage, request: pytest.FixtureRequest, which: str):
    page = open_page(request.getfixturevalue(which)).page
    for width in (320, 380, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        scroll_through(page)
        assert (width, runs_out(page, width)) == (width, [])


READ = ["h1", ".lede", ".sentence", ".tag.good", ".tag.bad", ".facts dt", ".by", ".note", ".worth.good", ".worth.bad"]
READ += [
    ".tags",
    ".notes li",
    "pre",
    "nav a",
    ".segments input:checked + span",
    "svg .tick",
    "svg .label",
    ".baseline th",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page: OpenPage, report: Path, scheme: str):
    measured = open_page(report, scheme=scheme).page.evaluate(CONTRAST, READ)
    assert {selector for selector, _ in measured} == set(READ)
    assert [pair for pair in measured if pair[1] < 4.5] == []


def test_the_page_prints_without_its_controls(open_page: OpenPage, report: Path):
    page = open_page(report).page
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#controls").is_visible() and not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_hostile_data_is_inert(open_page: OpenPage, hostile_report: Path):
    visit = open_page(hostile_report)
    page = visit.page
    page.locator("#list .row").first.hover()
    page.locator("[name=words]").fill("<script>")
    assert len(visit.shown()) > 0
    assert page.evaluate("window.reached") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("img, iframe, object, embed, [onerror], [onload], [onmouseover]").count() == 0
    addresses = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert all(re.fullmatch(r"#[a-z]+|data/pictures/[0-9a-f]+\.png", address) for address in addresses)
    assert visit.complaints == []
    assert elsewhere(visit, hostile_report) == []


def test_the_policy_stops_a_script_that_got_in_all_the_same(open_page: OpenPage, report: Path, tmp_path: Path):
    broken_into = tmp_path / "report.html"
    text = report.read_text(encoding="utf-8")
    broken_into.write_text(
        text.replace("<main>", "<main><script>window.reached = 1</script><img src=x onerror='window.reached = 1'>"),
        encoding="utf-8",
    )
    assert open_page(broken_into).page.evaluate("window.reached") is None


def test_all_models_are_named_on_a_phone(open_page: OpenPage, report: Path):
    page = open_page(report, width=380).page
    for model in MODELS:
        assert page.locator("#results .model", has_text=model).first.is_visible()

"""The pages of `show` and `check` in Chromium: quiet, self-contained, readable anywhere, reachable by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser.visits import CONTRAST, OpenPage, elsewhere, runs_out
from report.hostile_study import ATTACKS, write_hostile_rows
from report.planted_findings import FOUND, PROBLEMS
from sightline.report.check_page import check_page
from tiny_studies import sightline_command

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

pytestmark = pytest.mark.browser

READ = {
    "show": ["h1", ".lede", ".t.trained", ".t.read", ".t.special", ".t.picture", ".by", "summary", ".saved text"],
    "check": ["h1", ".summary", ".finding .sentence", ".tag", ".by", ".because dt", ".because dd", ".lines", "nav a"],
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both pages, of data whose every text tries to be something else."""
    folder = tmp_path_factory.mktemp("pages")
    study = write_hostile_rows(folder)
    ended = sightline_command("show", study, "--html", folder / "show.html", "--rows", "15", "--set", "name=a-study")
    assert (ended.code, ended.out) == (0, f"{folder / 'show.html'}\n"), ended.err
    (folder / "check.html").write_text(check_page("a study " + ATTACKS[0], FOUND, PROBLEMS), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("show", "check")}


@pytest.mark.parametrize("name", ["show", "check"])
def test_the_page_is_quiet_and_asks_for_nothing(open_page: OpenPage, pages: dict[str, Path], name: str):
    visit = open_page(pages[name])
    visit.page.mouse.wheel(0, 20_000)
    assert visit.complaints == [] and elsewhere(visit, pages[name]) == []
    assert visit.page.evaluate("window.reached") is None
    assert visit.page.locator("img, iframe, object, embed, [onerror], [onload], [onmouseover]").count() == 0
    assert visit.page.locator("a:not([href^='#'])").count() == 0
    assert visit.page.evaluate("document.scripts.length") == (1 if name == "show" else 0)


@pytest.mark.parametrize("name", ["show", "check"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_runs_out_of_the_side(open_page: OpenPage, pages: dict[str, Path], name: str, width: int):
    assert runs_out(open_page(pages[name], width=width).page, width) == []


@pytest.mark.parametrize("name", ["show", "check"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page: OpenPage, pages: dict[str, Path], name: str, scheme: str):
    measured = open_page(pages[name], scheme=scheme).page.evaluate(CONTRAST, READ[name])
    assert {selector for selector, _ in measured} == set(READ[name])
    assert [pair for pair in measured if pair[1] < 4.5] == []


@pytest.mark.parametrize("name", ["show", "check"])
def test_the_page_prints(open_page: OpenPage, pages: dict[str, Path], name: str):
    page = open_page(pages[name]).page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_arrow_keys_go_from_token_to_token_and_say_what_it_is(open_page: OpenPage, pages: dict[str, Path]):
    page = open_page(pages["show"]).page
    readout = page.locator("#readout")
    assert not readout.is_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.t')"):
            break
    assert readout.inner_text().startswith("token 0, id 1, position 0, not trained, special")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("token 1, id ")
    page.keyboard.press("End")
    assert readout.inner_text().endswith(", trained, special")
    assert page.locator(".tokens").first.locator("[tabindex='0']").count() == 1  # one stop for Tab, however long
    page.locator(".tokens .picture").first.hover()
    assert "tokens 4–67, id 3, position 4–67, not trained" in readout.inner_text()


def test_tokens_stand_in_their_order_whatever_their_direction(open_page: OpenPage, pages: dict[str, Path]):
    page = open_page(pages["show"], width=1280).page
    hebrew = page.locator(".tokens", has_text="gnp.exe").first
    disordered = hebrew.evaluate(
        """line => { const boxes = [...line.querySelectorAll('.t')].map(t => t.getClientRects()[0]);
           const back = (box, before) => Math.abs(box.top - before.top) < 4 && box.left < before.left - 1;
           return boxes.slice(1).filter((box, i) => back(box, boxes[i])).length }"""
    )
    assert disordered == 0
    assert "⟨U+202E⟩" in hebrew.inner_text() and "␛[31m" in hebrew.inner_text()


def test_pictures_are_drawn_with_their_size_in_tokens(open_page: OpenPage, pages: dict[str, Path]):
    page = open_page(pages["show"]).page
    box = page.locator(".pictures svg").first.bounding_box()
    assert box is not None and box["width"] > 100
    assert page.locator(".pictures figcaption").first.inner_text() == "64 tokens 64 × 64"

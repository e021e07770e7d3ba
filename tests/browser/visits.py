"""Pages opened in Chromium, and what can be asked of every one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright import sync_api


class Visit:
    """A file that was opened in a page, with what it said on the console and every address it asked for."""

    def __init__(self, page: sync_api.Page, path: Path, *, width: int, scheme: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked_for: list[str] = []
        self._listeners: dict[Any, Any] = {
            "console": lambda message: self.complaints.append(message.text),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "request": lambda request: self.asked_for.append(request.url),
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="null", color_scheme=scheme)  # type: ignore[arg-type]
        page.mouse.move(0, 0)
        page.goto(path.as_uri())

    def leave(self) -> None:
        """Close what was opened beside the page, and leave nothing behind in it."""
        for other in self.page.context.pages:
            if other is not self.page:
                other.close()
        self.page.evaluate("localStorage.clear()")
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.goto("about:blank")

    def shown(self) -> list[str]:
        """The questions in view, in their order."""
        return self.page.locator("#list .row:not([hidden]) .question").all_text_contents()

    def choose(self, name: str, value: str) -> None:
        self.page.locator(f"#controls [name={name}]").select_option(value)


OpenPage = Callable[..., Visit]
"""The fixture `open_page`."""


def elsewhere(visit: Visit, path: Path) -> list[str]:
    """The addresses a page asked for beside its own."""
    return [url for url in visit.asked_for if url != path.as_uri() and not url.startswith("data:")]


def scroll_through(page: sync_api.Page) -> None:
    """Bring every part of a page into view once; what is far away is not laid out before."""
    page.evaluate(
        """async () => {
          for (let top = 0; top < document.documentElement.scrollHeight; top += innerHeight) {
            scrollTo(0, top);
            await new Promise(requestAnimationFrame);
          }
        }"""
    )


def runs_out(page: sync_api.Page, width: int) -> list[str]:
    """What sticks out of the page's right side, but for what scrolls by itself."""
    found = page.evaluate(
        """[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
           && !e.closest('.scroll, pre, .store, .unseen, svg')).map(e => e.outerHTML.slice(0, 120))"""
    )
    scrolls = page.evaluate("document.documentElement.scrollWidth")
    return found + ([f"the page scrolls to {scrolls}"] if scrolls > width else [])


CONTRAST = """selectors => selectors.flatMap(selector => {
  const channels = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = color => channels(color).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    const color = getComputedStyle(e).backgroundColor;
    return color.includes('rgba(0, 0, 0, 0)') && e.parentElement ? ground(e.parentElement) : color;
  };
  return [...document.querySelectorAll(selector)].slice(0, 3).map(e => {
    const style = getComputedStyle(e);
    const [a, b] = [light(e instanceof SVGElement ? style.fill : style.color), light(ground(e))].sort((x, y) => y - x);
    return [selector, (a + 0.05) / (b + 0.05)];
  });
})"""
"""For `page.evaluate` with selectors: [selector, contrast ratio to its ground] of the first three of each."""

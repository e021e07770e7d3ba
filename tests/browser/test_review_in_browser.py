"""The review page in Chromium: nothing judged is lost, keys suffice, nobody is told the model, data stays data."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.visits import CONTRAST, runs_out
from report.fake_study import write_study
from report.hostile_study import ATTACKS
from sightline.data.phantom import phantom_samples
from sightline.serving.judgements import Row, read_reviews

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")
from playwright import sync_api

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
MODELS = {"base": 0.42, "sft.a16": 0.78}
VERDICTS = ["correct", "incorrect", "cannot_say"]
# What was judged while the server was away reaches it after it has looked up the queue and before the page has it.
SENT_WHILE_THE_QUEUE_IS_ON_ITS_WAY = """
(() => {
  const ask = window.fetch.bind(window);
  const waiting = () => Object.keys(localStorage).some((key) => /[0-9]{14}/.test(key));
  let looked;
  const lookedUp = new Promise((resolve) => { looked = resolve; });
  window.fetch = async (address, ...rest) => {
    if (address === "judgements") await lookedUp;
    const reply = await ask(address, ...rest);
    if (address.startsWith("queue")) {
      looked();
      while (waiting()) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return reply;
  };
})();
"""
WAITING = "{} not saved yet: the server does not answer; kept in this browser, trying again"


class Server:
    """`sightline review` in a process of its own, which can be killed and started again."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sightline", "review", str(self.study), "--no-open"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.said = []
        while not self.said or not self.said[-1].startswith("http://"):
            line = self.process.stdout.readline()
            assert line, "the server ended before it printed its address"
            self.said.append(line.strip())
        self.address = self.said[-1]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stored(self) -> list[Row]:
        return read_reviews(self.study / "reviews")


class Seat:
    """A reviewer at the page, with everything that page was told and said."""

    def __init__(self, browser: sync_api.Browser, server: Server, *, width: int = 1280, scheme: str = "light") -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.context.set_default_timeout(10_000)
        self.told: list[str] = []
        self.asked_for: list[str] = []
        self.complaints: list[str] = []
        self.open()

    def open(self) -> None:
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked_for.append(request.url))
        self.page.on("response", self._note)
        self.page.goto(self.server.address)

    def _note(self, reply: sync_api.Response) -> None:
        self.told.append(f"{reply.url} {reply.headers}")
        if "image/" not in reply.headers.get("content-type", ""):
            with contextlib.suppress(sync_api.Error):
                self.told.append(reply.text())

    def begin(self, name: str, *, pairs: bool = False) -> None:
        """Type the name and choose, with keys alone; the page has the cursor in the right place."""
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(name)
        if pairs:
            self.page.keyboard.press("Tab")
            self.page.keyboard.press("ArrowRight")
        self.page.keyboard.press("Enter")
        self.page.locator("#judge").wait_for()

    def press(self, *keys: int | str) -> None:
        for key in keys:
            self.page.keyboard.press(str(key))

    def status(self, words: str) -> None:
        sync_api.expect(self.page.locator("#status")).to_have_text(words, timeout=15_000)


@contextlib.contextmanager
def running(study: Path) -> Iterator[Server]:
    server = Server(study)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A study of 60 questions or so, served for all tests that do not kill it."""
    with running(write_study(tmp_path_factory.mktemp("study"), models=MODELS)) as server:
        yield server


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A study whose every text tries to be something else."""
    folder = write_study(tmp_path_factory.mktemp("hostile"), samples=phantom_samples(4, seed=5), models=MODELS)
    many = len(ATTACKS)

    def rewrite(path: Path, change) -> None:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            change(number, row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def question(number: int, row: dict) -> None:
        row["messages"][-1]["content"] = [0, ATTACKS[number % many]]
        row["answer"] = ATTACKS[(number + 1) % many]
        row["pictures"][0]["name"] = ATTACKS[(number + 3) % many]

    rewrite(folder / "data" / "phantom.test.jsonl", question)
    for shift, model in enumerate(MODELS):
        rewrite(
            folder / "answers" / f"{model}.jsonl",
            lambda number, row, shift=shift: row.update(text=ATTACKS[(number + shift) % many]),
        )
    compare = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    (folder / "compare.json").write_text(json.dumps(compare | {"study": " ".join(ATTACKS)}), encoding="utf-8")
    with running(folder) as server:
        yield server


def test_twenty_judgements_survive_a_killed_server_and_a_closed_page(browser: sync_api.Browser, tmp_path: Path) -> None:
    with running(write_study(tmp_path / "study", models=MODELS)) as server:
        seat = Seat(browser, server)
        seat.begin("Ada")
        keys = [1 + (3 * number // 2) % 3 for number in range(20)]
        seat.press(*keys[:9])
        seat.status("saved")
        first = server.stored()
        assert len(first) == 9  # what the page calls saved is on disk
        server.kill()
        seat.press(*keys[9:15])
        seat.status(WAITING.format(6))
        seat.page.close()
        # What the crash left of a line that was being written.
        (path,) = (tmp_path / "study" / "reviews").glob("*.jsonl")
        path.write_bytes(path.read_bytes() + b'{"id": "017')
        server.start()
        assert "a crash cut this line short" in server.said[0]
        seat.open()
        seat.begin("Ada")
        seat.press(*keys[15:20])
        seat.status("saved")
        seat.page.reload()
        seat.begin("Ada")
        assert seat.page.locator("#place").inner_text() == f"21 of {len(seat_queue(seat))}"
        assert "20 judged" in seat.page.locator("#who").inner_text()
        rows = server.stored()
        assert [row["verdict"] for row in rows] == [VERDICTS[key - 1] for key in keys]
        assert len({row["id"] for row in rows}) == 20 and rows[:9] == first
        assert len({(row["sample_id"], *row["answers"]) for row in rows}) == 20
        assert seat.page.evaluate("Object.keys(localStorage).filter(key => /[0-9]{14}/.test(key)).length") == 0


def test_what_is_sent_while_the_queue_is_fetched_is_not_asked_again(browser: sync_api.Browser, tmp_path: Path) -> None:
    with running(write_study(tmp_path / "study", models=MODELS)) as server:
        seat = Seat(browser, server)
        seat.begin("Ada")
        server.kill()
        seat.press(1, 2)
        seat.status(WAITING.format(2))
        seat.page.close()
        server.start()
        seat.context.add_init_script(SENT_WHILE_THE_QUEUE_IS_ON_ITS_WAY)
        seat.open()
        seat.begin("Ada")
        assert seat.page.locator("#place").inner_text().startswith("3 of ")
        assert "2 judged" in seat.page.locator("#who").inner_text()
        assert len(server.stored()) == 2


def seat_queue(seat: Seat) -> list[dict]:
    return seat.page.evaluate("fetch('queue?task=label&reviewer=Ada').then(r => r.json()).then(r => r.items)")


@pytest.mark.slow
def test_a_page_left_open_goes_on_by_itself_when_the_server_is_back(browser: sync_api.Browser, tmp_path: Path) -> None:
    with running(write_study(tmp_path / "study", models=MODELS)) as server:
        seat = Seat(browser, server)
        seat.begin("Ada")
        server.kill()
        seat.press(1, 2)
        seat.status(WAITING.format(2))
        server.start()
        seat.status("saved")
        assert [row["verdict"] for row in server.stored()] == ["correct", "incorrect"]


def test_pairs_by_keyboard_going_back_and_changing_one_s_mind(browser: sync_api.Browser, server: Server) -> None:
    seat = Seat(browser, server)
    seat.begin("Keys", pairs=True)
    page = seat.page
    assert page.locator(".answer h3").all_inner_texts() == ["Answer A", "Answer B"]
    seat.press(1, 2, 3, 4)
    seat.press("ArrowLeft", "ArrowLeft")
    assert page.locator("#verdicts [aria-pressed=true]").inner_text().split() == ["3", "B", "is", "better"]
    assert not page.locator("#reference").is_visible()
    seat.press("r")
    assert page.locator("#reference").is_visible()
    seat.press("z")
    assert page.locator("#large").is_visible()
    seat.press("1")  # nobody judges by accident behind the picture
    seat.press("Escape", "1")
    seat.status("saved")
    own = [row for row in server.stored() if row["reviewer"] == "Keys"]
    assert [row["verdict"] for row in own] == ["left", "neither", "right", "cannot_say", "left"]
    assert own[2]["sample_id"] == own[4]["sample_id"] and [row["saw_reference"] for row in own[3:]] == [False, True]
    assert page.locator("#place").inner_text().startswith("5 of ")
    stops = []
    for _ in range(12):
        seat.press("Tab")
        stops.append(page.evaluate("document.activeElement.innerText || document.activeElement.tagName"))
    named = " ".join(stops)
    assert all(words in named for words in ("Pause", "Reference answer", "A is better", "Cannot say"))


def test_the_page_says_saved_when_it_is_and_not_before(browser: sync_api.Browser, server: Server) -> None:
    seat = Seat(browser, server)
    seat.begin("Dee", pairs=True)
    held: list[sync_api.Route] = []
    seat.page.route("**/judgements", lambda route: held.append(route))
    seat.press(1)
    seat.status("saving")
    assert not any(row["reviewer"] == "Dee" for row in server.stored())
    held[0].continue_()
    seat.status("saved")
    assert sum(row["reviewer"] == "Dee" for row in server.stored()) == 1


def test_two_reviewers_judge_apart_and_see_how_far_they_agree(browser: sync_api.Browser, server: Server) -> None:
    seats = {name: Seat(browser, server) for name in ("Bo", "Cy")}
    for name, seat in seats.items():
        seat.begin(name)
        assert "0 judged" in seat.page.locator("#who").inner_text()
    seats["Bo"].press(1, 2, 1, 2, 1)
    seats["Cy"].press(1, 2, 1, 2, 2)
    for seat in seats.values():
        seat.status("saved")
    page = seats["Cy"].page
    page.locator("#leave").click()
    page.locator("#so-far td", has_text="Bo").wait_for()
    # By hand: 10 ratings, 5 of each kind; one answer of five disagreed on.
    alpha = 1 - (2 / 10) / (2 * 5 * 5 / (10 * 9))
    assert f"Agreement on 5 single answers that two or more judged: Krippendorff's alpha {alpha:.2f}." in (
        page.locator("#so-far").inner_text()
    )
    first = {row["reviewer"]: row["sample_id"] for row in reversed(server.stored()) if row["task"] == "label"}
    assert first["Bo"] == first["Cy"]


def test_the_reviewer_is_not_told_the_model(browser: sync_api.Browser, server: Server) -> None:
    seat = Seat(browser, server)
    for pairs in (False, True):
        seat.begin(f"Blind{pairs}", pairs=pairs)
        seat.press(1, "r", "z", "z", 2, 1)
        seat.status("saved")
        seat.page.locator("#leave").click()
    told = " ".join([*seat.told, *seat.asked_for, seat.page.content()])
    assert len(told) > 20_000 and '"items"' in told
    stored = json.loads((server.study / "compare.json").read_text(encoding="utf-8"))
    names = {arm["model"] for arm in stored["arms"]} - {"base"}
    assert names and not any(re.search(rf"\b{re.escape(name)}\b", told) for name in (*names, "a16", "sft"))
    assert not re.search(r"\bbase\b(?!-uri)", told)
    pictures = {path.stem for path in (server.study / "data" / "pictures").iterdir()}
    assert not any(name in told for name in (*pictures, "phantom.test", "phantom-3"))
    assert all(url.startswith(server.address) or url.startswith("data:") for url in seat.asked_for)
    assert seat.complaints == []


def test_hostile_text_is_shown_and_does_nothing(browser: sync_api.Browser, hostile_server: Server) -> None:
    seat = Seat(browser, hostile_server)
    page = seat.page
    seen = ""
    for pairs in (False, True):
        seat.begin("<b>Eve</b> =cmd", pairs=pairs)
        for number in range(14):
            seen += page.locator("#judge").inner_text()
            seat.press("r" if number == 0 else 1)
        seat.status("saved")
        page.locator("#leave").click()
    page.locator("#so-far td").first.wait_for()
    assert "<b>Eve</b> =cmd" in page.locator("#so-far").inner_text()
    for shown in ("<script>window.reached = 1</script>", "=HYPERLINK", "␛[31m", "⟨U+202E⟩", "{{ 7 * 7 }}"):
        assert shown in seen, shown
    assert page.evaluate("window.reached") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("iframe, object, embed, [onerror], [onload], [onmouseover], b").count() == 0
    assert seat.complaints == []
    assert all(url.startswith(hostile_server.address) or url.startswith("data:") for url in seat.asked_for)


def test_another_page_of_the_same_browser_cannot_write(browser: sync_api.Browser, server: Server) -> None:
    seat = Seat(browser, server)
    seat.begin("Fay")
    item = seat_queue(seat)[0]["item"]
    body = json.dumps({"id": "judgement-evil", "reviewer": "Eve", "item": item, "verdict": "correct"})
    foreign = seat.context.new_page()
    foreign.goto("data:text/html,<p>elsewhere</p>")
    for kind in ("text/plain", "application/json"):
        foreign.evaluate(
            """([address, body, kind]) => fetch(address, {method: 'POST', mode: 'no-cors', body,
               headers: {'Content-Type': kind}}).then(reply => reply.status, error => String(error))""",
            [server.address + "judgements", body, kind],
        )
    assert not any(row["reviewer"] == "Eve" for row in server.stored())


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_runs_out_of_the_side(browser: sync_api.Browser, hostile_server: Server, width: int) -> None:
    seat = Seat(browser, hostile_server, width=width)
    assert runs_out(seat.page, width) == []
    for pairs in (False, True):
        seat.begin(f"W{width}", pairs=pairs)
        for _ in range(4):
            seat.press("r", "ArrowRight")
            assert runs_out(seat.page, width) == []
        # The keys to judge with are in view, however long the answers.
        buttons = seat.page.locator("#verdicts button").all()
        assert all((box := button.bounding_box()) and box["y"] + box["height"] <= 900 for button in buttons)
        seat.page.locator("#leave").click()


READ = ["#place", "#who", "#status", "#leave", ".question", ".answer h3", ".answer p", "#reveal", "#reference"]
READ += ["#verdicts button", "#verdicts [aria-pressed=true]", "#verdicts kbd", ".keys"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: sync_api.Browser, server: Server, scheme: str) -> None:
    seat = Seat(browser, server, scheme=scheme)
    start = ["h1", ".lede", "#enter label", ".note", "button.primary", "button.primary kbd", "#so-far td"]
    seat.page.locator("#so-far td").first.wait_for()
    measured = seat.page.evaluate(CONTRAST, start)
    seat.begin(scheme)
    seat.press("r", 1)
    seat.status("saved")
    seat.press("ArrowLeft")
    measured += seat.page.evaluate(CONTRAST, READ)
    assert {selector for selector, _ in measured} == {*start, *READ}
    assert [pair for pair in measured if pair[1] < 4.5] == []

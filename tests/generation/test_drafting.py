"""Drafts by a server that also breaks: nothing is lost, nothing is asked twice, nothing is taken unread."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.drafts import count_drafts
from sightline.data.formats import load_source
from sightline.errors import DataError, MissingDataError, StudyError
from sightline.generation.drafting import draft_folder, parse_draft, request_text
from sightline.generation.drafting_server import ServerEngine, connect
from sightline.records import Picture

GOOD = {"question": "What colour is it?", "answer": "Red.", "domain": "colours", "ambiguity": 0.1}
GOOD |= {"prompt_type": "question"}


@dataclass
class Server:
    """An OpenAI-compatible server whose replies are given; a number is an HTTP status."""

    replies: list[str | int]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(*replies: str | int) -> Server:
        state = Server(replies=list(replies))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                state.requests.append({"path": self.path, **json.loads(body)})
                state.keys.append(self.headers["Authorization"])
                reply = state.replies.pop(0) if state.replies else json.dumps(GOOD)
                message = {"role": "assistant", "content": reply}
                answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"}
                answer |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
                if isinstance(reply, int):
                    answer = {"error": {"message": f"refused for {self.headers['Authorization']}"}}
                content = json.dumps(answer).encode()
                self.send_response(reply if isinstance(reply, int) else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        return state

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "inner/c.png"]):
        Image.new("RGB", (6, 4), (200, number, 0)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def engine_of(server: Server, **options: Any) -> ServerEngine:
    return connect(server.url, "tiny", send_images=True, max_retries=0, **options)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@dataclass
class Scripted:
    """An engine without a server; a reply that is an exception is raised."""

    replies: list[str | Exception] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, pictures: Sequence[Picture], prompt: str) -> str:
        """Answer the next of the replies."""
        self.asked.append((pictures[0].name, prompt))
        reply = self.replies.pop(0) if self.replies else json.dumps({**GOOD, "question": f"{len(self.asked)}?"})
        if isinstance(reply, Exception):
            raise reply
        return reply


def test_from_a_folder_to_accepted_rows(photos: Path, tmp_path: Path, serve: Callable[..., Server]):
    whole = json.dumps(GOOD)
    server = serve(f"Here it is:\n```json\n{whole}\n```", whole[:40], json.dumps({**GOOD, "answer": 3}))
    drafts = tmp_path / "drafts.jsonl"
    made = draft_folder(photos, drafts, engine_of(server))
    assert (made.num_there, made.num_made, made.num_failed, made.unreadable) == (0, 2, 1, ())
    rows = rows_of(drafts)
    assert [row["image"] for row in rows] == ["a.png", "b.jpg", "inner/c.png"]
    assert rows[0] == {"id": "a.png:1", "image": "a.png", "number": 1, **GOOD, "accepted": None}
    assert rows[1]["reply"] == whole[:40] and "broken or cut JSON" in rows[1]["fault"]
    assert rows[2]["answer"] == "3"

    with pytest.raises(DataError, match="2 wait for a person, and 1 replies were no draft"):
        load_source("drafts.jsonl", root=tmp_path, images="photos")
    rows[2]["accepted"] = True
    drafts.write_text("\n".join(map(json.dumps, rows)))  # as an editor may leave it, without a last line break

    again = draft_folder(photos, drafts, engine_of(server))
    assert (again.num_there, again.num_made, again.num_failed) == (2, 1, 0), "only what had failed is asked again"
    assert len(server.requests) == 4
    assert rows_of(drafts)[:3] == rows, "what a person wrote stays"
    assert draft_folder(photos, drafts, engine_of(server)).num_made == 0 and len(server.requests) == 4
    assert [s.id for s in load_source("drafts.jsonl", root=tmp_path, images="photos")["all"].samples] == [
        "inner/c.png:1"
    ]


def test_what_is_sent(photos: Path, tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DRAFT_KEY", "sentinel-key")
    server = serve()
    draft_folder(photos, tmp_path / "drafts.jsonl", engine_of(server, key_env="DRAFT_KEY", max_new_tokens=77))
    first = server.requests[0]
    assert (first["path"], first["model"], first["max_completion_tokens"]) == ("/v1/chat/completions", "tiny", 77)
    picture, text = first["messages"][0]["content"]
    encoded = picture["image_url"]["url"].removeprefix("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert np.array_equal(np.asarray(sent), np.asarray(Image.open(photos / "a.png"))) and sent.info == {}
    assert text["text"] == request_text(("question", "description", "reasoning", "instruction"), [])
    assert set(server.keys) == {"Bearer sentinel-key"}
    assert "sentinel" not in (tmp_path / "drafts.jsonl").read_text()


def test_nothing_is_sent_without_leave_or_key(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch):
    server = serve()
    with pytest.raises(StudyError, match=r"drafting would send pictures there; allow it with `send_images: true`"):
        connect(server.url, "tiny", send_images=False)
    monkeypatch.delenv("DRAFT_KEY", raising=False)
    with pytest.raises(StudyError, match="the environment variable DRAFT_KEY holds no key"):
        connect(server.url, "tiny", send_images=True, key_env="DRAFT_KEY")
    assert server.requests == []


def test_a_server_that_gives_up_loses_nothing_and_tells_no_key(
    photos: Path, tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DRAFT_KEY", "sentinel-key")
    server = serve(json.dumps(GOOD), 500)
    engine = engine_of(server, key_env="DRAFT_KEY")
    with pytest.raises(DataError, match=r"no answer from tiny .*drafts made so far are kept") as error:
        draft_folder(photos, tmp_path / "drafts.jsonl", engine)
    assert "sentinel" not in str(error.value) and "sentinel" not in repr(engine)
    assert len(rows_of(tmp_path / "drafts.jsonl")) == 1
    assert draft_folder(photos, tmp_path / "drafts.jsonl", engine).num_there == 1


def test_several_drafts_of_a_picture_ask_for_something_else(photos: Path, tmp_path: Path):
    engine = Scripted()
    draft_folder(photos, tmp_path / "drafts.jsonl", engine, num_per_picture=2, prompt_types=("question", "riddle"))
    assert [name for name, _ in engine.asked] == ["a.png", "a.png", "b.jpg", "b.jpg", "inner/c.png", "inner/c.png"]
    assert "riddle" in engine.asked[0][1] and "something else" not in engine.asked[0][1]
    assert engine.asked[1][1].endswith('something else than: ["1?"]')
    more = Scripted()
    draft_folder(photos, tmp_path / "drafts.jsonl", more, num_per_picture=3, prompt_types=("question",))
    assert [name for name, _ in more.asked] == ["a.png", "b.jpg", "inner/c.png"]
    assert more.asked[0][1].endswith('something else than: ["1?", "2?"]')


@pytest.mark.parametrize("length", [1, 30, -2])
def test_a_line_cut_by_a_crash_is_put_aside_and_drafted_again(photos: Path, tmp_path: Path, length: int):
    drafts = tmp_path / "drafts.jsonl"
    draft_folder(photos, drafts, Scripted())
    content = drafts.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    drafts.write_bytes(content[: -len(last)] + last[:length])
    made = draft_folder(photos, drafts, Scripted())
    assert (made.num_there, made.num_made) == (2, 1)
    assert len(rows_of(drafts)) == 3
    assert drafts.with_name("drafts.jsonl.cut").read_bytes() == last[:length] + b"\n"


def test_a_run_that_dies_at_any_draft_goes_on(photos: Path, tmp_path: Path):
    drafts = tmp_path / "drafts.jsonl"
    num_asked = 0
    for _ in range(2):
        engine = Scripted(replies=[json.dumps(GOOD), KeyError("dead")])
        with pytest.raises(KeyError, match="dead"):
            draft_folder(photos, drafts, engine)
        num_asked += len(engine.asked)
    engine = Scripted()
    draft_folder(photos, drafts, engine)
    assert [row["image"] for row in rows_of(drafts)] == ["a.png", "b.jpg", "inner/c.png"]
    assert num_asked + len(engine.asked) == 5, "two of them died"


def test_a_failed_reply_that_a_person_mended_is_not_asked_for_again(photos: Path, tmp_path: Path):
    drafts = tmp_path / "drafts.jsonl"
    draft_folder(photos, drafts, Scripted(replies=["no draft", "none either"]))
    rows = rows_of(drafts)
    rows[0] |= {**GOOD, "accepted": True}
    drafts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = Scripted()
    draft_folder(photos, drafts, engine)
    assert [name for name, _ in engine.asked] == ["b.jpg"]


def test_a_line_that_a_person_broke_is_named(photos: Path, tmp_path: Path):
    drafts = tmp_path / "drafts.jsonl"
    draft_folder(photos, drafts, Scripted())
    lines = drafts.read_text().splitlines()
    drafts.write_text("\n".join([lines[0], lines[1].replace("null", "treu"), lines[2]]) + "\n")
    with pytest.raises(DataError, match=r"drafts\.jsonl:2: not JSON .*; correct the line, or delete it"):
        draft_folder(photos, drafts, Scripted())


def test_pictures_that_cannot_be_opened_are_named_and_not_sent(photos: Path, tmp_path: Path):
    (photos / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (photos / "out.png").symlink_to("/etc/hostname")
    engine = Scripted()
    made = draft_folder(photos, tmp_path / "drafts.jsonl", engine)
    assert [name for name, _ in engine.asked] == ["a.png", "inner/c.png"]
    assert [line.partition(":")[0] for line in made.unreadable] == ["b.jpg", "out.png"]
    assert "leads out of the images folder" in made.unreadable[1]


def test_folders_without_pictures_are_refused(tmp_path: Path):
    with pytest.raises(MissingDataError, match="no such folder"):
        draft_folder(tmp_path / "none", tmp_path / "drafts.jsonl", Scripted())
    with pytest.raises(MissingDataError, match="no picture there"):
        draft_folder(tmp_path, tmp_path / "drafts.jsonl", Scripted())
    assert not (tmp_path / "drafts.jsonl").exists()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "no JSON object in the reply ''"),
        ("I cannot help with that.", "no JSON object"),
        (json.dumps(GOOD)[:-1], "broken or cut JSON"),
        ('{"question": "a" "answer": "b"}', "broken or cut JSON"),
        ("{" * 100_000, "broken or cut JSON"),
        (json.dumps({**GOOD, "question": " "}), "'question' is ' ', not a text"),
        (json.dumps({**GOOD, "answer": None}), "'answer' is None"),
        (json.dumps({**GOOD, "answer": True}), "'answer' is True"),
        (json.dumps({**GOOD, "domain": ["a"]}), "'domain' is"),
        (json.dumps({**GOOD, "ambiguity": 7}), "'ambiguity' is 7, not a number from 0 to 1"),
        (json.dumps({**GOOD, "ambiguity": "low"}), "'ambiguity' is 'low'"),
        (json.dumps({**GOOD, "ambiguity": float("nan")}), "'ambiguity' is nan"),
        (json.dumps({**GOOD, "prompt_type": "poem"}), "'prompt_type' is 'poem', not one of question"),
    ],
)
def test_replies_that_are_no_draft_are_kept_with_what_is_wrong(photos: Path, tmp_path: Path, reply: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_draft(reply)
    for name in ("b.jpg", "inner/c.png"):
        (photos / name).unlink()
    made = draft_folder(photos, tmp_path / "drafts.jsonl", Scripted(replies=[reply]))
    [row] = rows_of(tmp_path / "drafts.jsonl")
    assert (made.num_failed, row["reply"]) == (1, reply) and message in row["fault"]
    assert count_drafts(tmp_path / "drafts.jsonl").num_failed == 1

"""The review page's server: who may ask, who may write, and that no reply tells which model answered."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from report.fake_study import write_study
from sightline.data.phantom import phantom_samples
from sightline.errors import MissingDataError, StudyError
from sightline.serving.judgements import read_reviews
from sightline.serving.review import LARGEST_BODY, Review, open_server
from tiny_studies import sightline_command

MODELS = {"base": 0.42, "sft.a16": 0.78, "sft.a8": 0.66}


class Client:
    """Asks a server that runs in this process."""

    def __init__(self, review: Review, port: int) -> None:
        self.review, self.port = review, port
        self.host = f"127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, *, secret: str | None = None, **headers: str | None) -> Any:
        """Ask; returns status, headers and content. A header of None is left out."""
        given = {"Host": self.host, "Content-Type": "application/json", "Origin": f"http://{self.host}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.putrequest(method, f"/{self.review.secret if secret is None else secret}/{path}", skip_host=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            if content is not None and "Content_Length" not in headers:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()

    def queue(self, reviewer: str = "Ada", task: str = "label") -> list[dict[str, Any]]:
        """What a reviewer is asked."""
        return json.loads(self.ask("GET", f"queue?task={task}&reviewer={reviewer}")[2])["items"]

    def judge(self, item: str, verdict: Any = "correct", number: int = 0, **changed: Any) -> tuple[int, dict[str, Any]]:
        """Send a judgement; returns status and reply."""
        body = {"id": f"judgement-{number}", "reviewer": "Ada", "item": item, "verdict": verdict, "seconds": 2.25}
        status, _, content = self.ask("POST", "judgements", {**body, **changed})
        return status, json.loads(content)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), samples=phantom_samples(8, seed=3), models=MODELS)


@contextlib.contextmanager
def serving(study: Path) -> Iterator[Client]:
    """A running server."""
    with contextlib.closing(Review(study)) as review, open_server(review, None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Client(review, server.server_port)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def client(study: Path) -> Iterator[Client]:
    with serving(study) as client:
        yield client
    for path in (study / "reviews").glob("*.jsonl"):
        path.unlink()


def test_a_judgement_is_kept_with_what_was_judged_and_no_model(client: Client, study: Path) -> None:
    items = client.queue()
    assert client.judge(items[3]["item"], "incorrect", saw_reference=True) == (200, {"saved": True})
    assert client.judge(items[3]["item"], "incorrect", saw_reference=True) == (200, {"saved": True})  # sent again
    (row,) = read_reviews(study / "reviews")
    assert (row["reviewer"], row["verdict"], row["saw_reference"], row["seconds"]) == ("Ada", "incorrect", True, 2.2)
    told = client.review.labels[3]
    assert [row["data"], row["template"], row["sample_id"]] == list(told.question)
    assert row["answers"] == list(told.answers) and row["random"] is True and row["task"] == "label"
    assert not any(model in json.dumps(row) for model in MODELS)
    assert [item["verdict"] for item in client.queue("ADA")[:5]] == [None, None, None, "incorrect", None]
    assert {item["verdict"] for item in client.queue("Bo")} == {None}


def test_a_server_started_again_knows_what_was_judged_and_what_a_page_left_open_sends(study: Path) -> None:
    with serving(study) as client:
        item, later = (one["item"] for one in client.queue(task="preference")[:2])
        client.judge(item, "left")
        port, secret = client.port, client.review.secret
    with serving(study) as client:
        assert (client.port, client.review.secret) == (port, secret)
        assert client.judge(later, "right", number=1)[0] == 200  # before the page has asked for anything
        assert [one["verdict"] for one in client.queue(task="preference")[:3]] == ["left", "right", None]


def test_no_reply_tells_a_model_s_name_or_a_picture_s(client: Client, study: Path) -> None:
    replies = [client.ask("GET", path) for path in ("", "agreement")]
    replies += [client.ask("GET", f"queue?task={task}&reviewer=Ada") for task in ("label", "preference")]
    item = client.queue()[0]
    picture = client.ask("GET", f"pictures/{item['pictures'][0]}")
    text = " ".join(f"{dict(headers)} {content.decode()}" for _, headers, content in replies) + str(dict(picture[1]))
    for name in ("sft", "a16", "a8"):
        assert not re.search(rf"\b{name}\b", text)
    assert not re.search(r"\bbase\b(?!-uri|64)", text)
    names = [picture.name for sample in phantom_samples(8, seed=3) for picture in sample.pictures]
    hashes = [picture.sha256 for sample in phantom_samples(8, seed=3) for picture in sample.pictures]
    assert not any(told in text for told in (*names, *hashes, *(row.question[2] for row in client.review.labels)))
    assert picture[0] == 200 and Image.open(io.BytesIO(picture[2])).info == {}


def test_only_this_machine_by_its_own_name_and_with_the_secret(client: Client) -> None:
    assert client.ask("GET", "")[0] == 200
    for host in (f"evil.example:{client.port}", "evil.example", "127.0.0.1.evil.example:80", "", None):
        assert client.ask("GET", "", Host=host)[0] == 421, host
    for host in (f"localhost:{client.port}", "127.0.0.1", f"[::1]:{client.port}"):
        assert client.ask("GET", "", Host=host)[0] == 200, host
    for secret in (
        "",
        "wrong",
        client.review.secret[:-1],
        client.review.secret + "x",
        "%00",
    ):
        for path in ("", "queue?task=label&reviewer=Ada", "agreement"):
            assert client.ask("GET", path, secret=secret)[0] == 404
    status, _, content = client.ask("POST", "judgements", {}, secret="wrong")
    assert status == 404 and b"open the address" in content
    assert client.review.secret not in content.decode()


def test_no_other_page_can_write(client: Client, study: Path) -> None:
    item = client.queue()[0]["item"]
    body = {"id": "judgement-0", "reviewer": "Ada", "item": item, "verdict": "correct"}
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{client.port + 1}",
        f"https://{client.host}",
        None,
    ):
        assert client.ask("POST", "judgements", body, Origin=origin)[0] == 403, origin
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        assert client.ask("POST", "judgements", body, Content_Type=kind)[0] == 404, kind
    assert client.ask("PUT", "judgements", body)[0] == 501
    assert read_reviews(study / "reviews") == []
    _, headers, page = client.ask("GET", "")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'" and headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert b"default-src 'none'; img-src 'self' data:; connect-src 'self'" in page


BAD: list[tuple[Any, int]] = [
    (b"{", 400),
    (b"[]", 400),
    (b'"x"', 400),
    (b"\xff", 400),
    (b"[" * 60_000, 400),
    ({}, 400),
    ({"reviewer": "Ada"}, 400),
    ({"reviewer": "Ada", "id": "short"}, 400),
    ({"reviewer": "", "id": "judgement-0"}, 400),
    ({"reviewer": "Ada", "id": "judgement-0", "item": "0" * 24, "verdict": "correct"}, 409),
    ({"reviewer": "Ada", "id": "judgement-0", "item": [1], "verdict": {}}, 409),
]


@pytest.mark.parametrize(("body", "status"), BAD)
def test_what_is_no_judgement_is_refused_with_words(client: Client, study: Path, body: Any, status: int) -> None:
    found, _, content = client.ask("POST", "judgements", body)
    assert found == status and len(json.loads(content)["error"]) > 10
    assert read_reviews(study / "reviews") == []


def test_a_verdict_of_the_other_task_and_odd_numbers_are_no_judgement(client: Client, study: Path) -> None:
    item = client.queue()[0]["item"]
    for verdict in ("left", "", None, [1], {"a": 1}):
        status, reply = client.judge(item, verdict)
        assert status == 400 and "is no verdict of a label" in reply["error"]
    assert client.ask("POST", "judgements", b'{"a": 1}', Content_Length=str(LARGEST_BODY + 1))[0] == 413
    assert client.ask("POST", "judgements", None, Content_Length=None)[0] == 413
    for number, seconds in enumerate(("x", None, -1, float("nan"), 1e300)):
        assert client.judge(item, number=number, seconds=seconds)[0] == 200
    assert {row["seconds"] for row in read_reviews(study / "reviews")} == {None}


def test_a_disk_that_is_full_is_said_and_nothing_counts_as_saved(
    client: Client, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = client.queue()[0]["item"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sightline.serving.judgements.os.fsync", full)
    assert client.judge(item) == (507, {"error": "could not be written: No space left on device"})
    monkeypatch.undo()
    assert read_reviews(study / "reviews") == []
    assert client.judge(item)[0] == 200 and len(read_reviews(study / "reviews")) == 1


def test_agreement_is_shown(client: Client) -> None:
    items = client.queue()
    for number, item in enumerate(items[:6]):
        client.judge(item["item"], "correct" if number % 2 else "incorrect", number=number)
        client.judge(item["item"], "correct" if number else "cannot_say", number=100 + number, reviewer="Bo")
    found = json.loads(client.ask("GET", "agreement")[2])
    assert found["reviewers"] == [
        {"name": "Ada", "labels": 6, "preferences": 0},
        {"name": "Bo", "labels": 6, "preferences": 0},
    ]
    # By hand: 5 answers judged by both, 10 ratings, 2 wrong and 8 right; two answers disagreed on.
    observed, expected = 2 * 2 / 10, 2 * 2 * 8 / (10 * 9)
    assert found["labels"]["alpha"] == pytest.approx(1 - observed / expected)
    assert found["labels"]["num_shared"] == 5


def test_a_picture_outside_the_study_or_changed_is_not_shown(client: Client, study: Path, tmp_path: Path) -> None:
    item = client.queue()[0]
    (key,) = item["pictures"]
    assert client.ask("GET", f"pictures/{key}")[0] == 200
    picture = client.review._pictures[key]
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png")
    (study / "data" / "other.png").write_bytes((tmp_path / "elsewhere.png").read_bytes())
    for path in ("data/other.png", "data/gone.png", "../" * 20 + str(tmp_path / "elsewhere.png")):
        client.review._pictures[key] = replace(picture, path=path)
        assert client.ask("GET", f"pictures/{key}")[0] == 404, path
    client.review._pictures[key] = picture
    for path in ("pictures/", "pictures/../compare.json", f"pictures/{picture.name}"):
        assert client.ask("GET", path)[0] == 404


def test_the_secret_is_for_its_owner_alone(study: Path, client: Client) -> None:
    key = study / "reviews" / ".key"
    assert key.stat().st_mode & 0o077 == 0 and len(client.review.secret) >= 32


def test_what_cannot_be_reviewed_is_said(study: Path, tmp_path: Path, client: Client) -> None:
    with pytest.raises(MissingDataError, match=r"no compare\.json; run"):
        Review(tmp_path)
    assert not (tmp_path / "reviews").exists()
    ended = sightline_command("review", tmp_path, "--no-open")
    assert ended.code == 2 and "no compare.json" in ended.err
    ended = sightline_command("review", study, "--no-open")
    assert ended.code == 3 and "in use by another `sightline review`" in ended.err
    with pytest.raises(StudyError, match=f"port {client.port} cannot be opened"):
        open_server(client.review, client.port)

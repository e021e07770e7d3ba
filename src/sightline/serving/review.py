"""The review page's server: this machine alone, no framework, nothing that tells which model answered.

The page's address holds a secret, so that other users of the machine find nothing; the host and origin of each request
are checked, so that no other page of the same browser can read or write.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import hmac
import io
import json
import secrets
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

from sightline.data.pictures import open_picture
from sightline.errors import DataError, MissingDataError, SightlineError, StudyError
from sightline.records import Picture, Sample
from sightline.report.page import render_page
from sightline.report.pictures import readable_path
from sightline.report.reading import read_study
from sightline.report.wording import clean, shortened
from sightline.serving.judgements import FOLDER, VERDICTS, Judgements, Task, reviewer_name, what_reviewers_say
from sightline.serving.queue import Answers, Item, label_queue, preference_queue
from sightline.storage import sha256_of
from sightline.verdict.reviewers import agreement_on_labels, agreement_on_preferences

HOST = "127.0.0.1"
OWN_NAMES = {"127.0.0.1", "localhost", "[::1]"}
"""What a browser may call this machine; anything else is a foreign page whose name points here."""

LARGEST_BODY = 64 * 1024
PATIENCE_SECONDS = 30
LONGEST_ANSWER = 20_000
KEY_FILE = ".key"

POLICY = "frame-ancestors 'none'"
"""What only a header can say; the rest of the policy stands in the page's head."""


class Unknown(DataError):
    """A judgement of something that is not asked, or not any more."""


class Review:
    """What reviewers are asked and what they said, for one study.

    Args:
        directory: the study's.

    Raises:
        MissingDataError: the study has no compare.json, or no answers.
        RefusedError: another process reviews it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = read_study(directory)
        self.answers = Answers(self.files)
        self.labels = label_queue(self.files, self.answers)
        if not self.labels:
            raise MissingDataError(f"{directory}: no answers of models that are compared; finish the study first")
        self.store = Judgements(directory / FOLDER)
        self.secret = _secret(directory / FOLDER / KEY_FILE)
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._pictures: dict[str, Picture] = {}

    def page(self) -> str:
        """Write the page; what is judged comes later, to the reviewer it is for."""
        return render_page(
            "review.html.j2",
            title="Review answers",
            styles=("review.css",),
            script="review.js",
            study=str(self.files.compare.get("study", self.directory.name)),
            storage=sha256_of(self.secret)[:12],
            num_answers=len(self.labels),
            num_random=sum(item.is_random for item in self.labels),
            num_pairs=sum(not item.is_repeat for item in preference_queue(self.files, self.answers, "")),
        )

    def queue(self, reviewer: str, task: Task) -> list[dict[str, Any]]:
        """List what a reviewer is asked, with what they said so far."""
        name = reviewer_name(reviewer)
        items = self.labels if task == "label" else preference_queue(self.files, self.answers, name)
        with self._lock:
            said = {
                (row["task"], row["data"], row["template"], row["sample_id"], *row["answers"], row["repeat"]): row
                for row in self.store.rows
                if row["reviewer"].casefold() == name.casefold()
            }
        listed = []
        for item in items:
            row = said.get((item.task, *item.question, *item.answers, item.is_repeat))
            # What was picked once and has been drawn by now is asked again: a random part has no answers left out.
            counts = row is not None and row["random"] >= item.is_random
            listed.append(self._show(item) | {"verdict": row["verdict"] if row and counts else None})
        return listed

    def _show(self, item: Item) -> dict[str, Any]:
        data, _, sample_id = item.question
        sample: Sample = self.files.samples[data][sample_id]
        key = self._hide(f"{item.task} {item.question} {item.answers} {item.is_repeat}")
        pictures = {self._hide(f"picture {picture.sha256}"): picture for picture in sample.pictures}
        self._items[key] = item
        self._pictures |= pictures
        return {
            "item": key,
            "pictures": list(pictures),
            "before": [
                {"who": "model" if turn.role == "assistant" else "person", "text": _shown(turn.text)}
                for turn in sample.messages[:-1]
                if turn.role != "system"
            ],
            "question": _shown(sample.question),
            "reference": _shown(sample.answer),
            "answers": [_shown(self.answers.texts[text]) for text in item.answers],
        }

    def save(self, body: Mapping[str, Any]) -> None:
        """Keep a judgement.

        Args:
            body: as the page sends it: `id`, `reviewer`, `item`, `verdict`, `seconds`, `saw_reference`.

        Raises:
            DataError: it is no judgement.
            Unknown: of nothing that is asked.
            OSError: it could not be written.
        """
        name = reviewer_name(str(body.get("reviewer", "")))
        known_as, key, verdict = (str(body.get(field, "")) for field in ("id", "item", "verdict"))
        if not 8 <= len(known_as) <= 64 or not known_as.isascii():
            raise DataError(f"{shortened(known_as, 80)!r} is no id of a judgement")
        for task in get_args(Task):  # the page may have been loaded before this server was started
            if key not in self._items:
                self.queue(name, task)
        item = self._items.get(key)
        if item is None:
            raise Unknown("this answer is not asked about any more: the study has changed since the page was loaded")
        if verdict not in VERDICTS[item.task]:
            raise DataError(f"{shortened(verdict, 80)!r} is no verdict of a {item.task}")
        seconds = body.get("seconds")
        data, template, sample_id = item.question
        row = {
            "id": known_as,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "reviewer": name,
            "task": item.task,
            "data": data,
            "template": template,
            "sample_id": sample_id,
            "answers": list(item.answers),
            "verdict": verdict,
            "random": item.is_random,
            "repeat": item.is_repeat,
            "saw_reference": body.get("saw_reference") is True,
            "seconds": round(float(seconds), 1) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else None,
        }
        with self._lock:
            self.store.save(row)

    def agreement(self) -> dict[str, Any]:
        """How far reviewers agree so far, and how much each has done."""
        with self._lock:
            rows = list(self.store.rows)
        labels, preferences = what_reviewers_say(rows)
        names = {row["reviewer"].casefold(): row["reviewer"] for row in rows}
        counts = {name: {"labels": 0, "preferences": 0} for name in names}
        for one in labels:
            counts[one.reviewer]["labels"] += 1
        for one in preferences:
            counts[one.reviewer]["preferences"] += not one.is_repeat
        return {
            "reviewers": [{"name": clean(name), **counts[key]} for key, name in sorted(names.items())],
            "labels": agreement_on_labels(labels),
            "preferences": agreement_on_preferences(preferences),
        }

    def picture(self, key: str) -> bytes | None:
        """Give a picture's pixels as PNG, without its name or tags; None where it is gone or has changed."""
        picture = self._pictures.get(key)
        if picture is None:
            return None
        if picture.path is not None:
            path = readable_path(picture, self.directory)
            if path is None:
                return None
            picture = replace(picture, path=str(path))
        try:
            image = open_picture(picture)
        except DataError:
            return None
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()

    def _hide(self, text: str) -> str:
        """Name something so that the name tells nothing of it, the same each time the server is started."""
        return hmac.new(self.secret.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:24]

    def close(self) -> None:
        """Let another process review."""
        self.store.close()


def open_server(review: Review, port: int | None) -> ThreadingHTTPServer:
    """Start listening, to this machine alone.

    Args:
        review: the study.
        port: where; by default one that is the study's own, so that a page left open finds the server again.

    Raises:
        StudyError: the port is taken.
    """
    if port is None:
        port = 20_000 + int(sha256_of(str(review.directory.resolve()))[:8], 16) % 10_000
    try:
        return ThreadingHTTPServer((HOST, port), functools.partial(_Handler, review))
    except OSError as error:
        raise StudyError(f"port {port} cannot be opened ({error.strerror}); choose another with --port") from error


def serve_review(directory: Path, *, port: int | None, open_page: bool, say: Callable[[str], None]) -> None:
    """Serve a study's review page until interrupted.

    Args:
        directory: the study's.
        port: see `open_server`.
        open_page: whether a browser is opened.
        say: told what people should know: lines that a crash cut short, then the address, by itself.

    Raises:
        SightlineError: the study cannot be reviewed, or the port is taken.
    """
    with contextlib.closing(Review(directory)) as review, open_server(review, port) as server:
        for repair in review.store.repairs:
            say(repair)
        address = f"http://{HOST}:{server.server_port}/{review.secret}/"
        say(address)
        if open_page:
            webbrowser.open(address)
        server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    """One request: who asks is checked before anything is looked at."""

    timeout = PATIENCE_SECONDS
    server_version, sys_version = "sightline", ""

    def __init__(self, review: Review, *connection: Any) -> None:
        self.review = review
        super().__init__(*connection)  # answers the request

    def do_GET(self) -> None:
        if (route := self._route()) is None:
            return
        path, query = route
        try:
            if path == "":
                self._send(HTTPStatus.OK, self.review.page().encode("utf-8"), "text/html; charset=utf-8")
            elif path == "agreement":
                self._send_json(HTTPStatus.OK, self.review.agreement())
            elif path == "queue" and query.get("task", [""])[0] in VERDICTS:
                items = self.review.queue(query.get("reviewer", [""])[0], query["task"][0])  # type: ignore[arg-type]
                self._send_json(HTTPStatus.OK, {"items": items})
            elif path.startswith("pictures/") and (png := self.review.picture(path.removeprefix("pictures/"))):
                self._send(HTTPStatus.OK, png, "image/png")
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "nothing is here")
        except SightlineError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))

    def do_POST(self) -> None:
        if (route := self._route()) is None:
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a judgement has at most {LARGEST_BODY} bytes")
        if self.headers.get("Origin") != f"http://{self.headers.get('Host')}":
            return self._refuse(HTTPStatus.FORBIDDEN, "only the review page itself may write")
        if self.headers.get_content_type() != "application/json" or route[0] != "judgements":
            return self._refuse(HTTPStatus.NOT_FOUND, "judgements are taken as JSON at judgements")
        try:
            body = json.loads(self.rfile.read(int(length)))
            if not isinstance(body, dict):
                raise DataError(f"found {type(body).__name__}, expected an object")
            self.review.save(body)
        except Unknown as error:
            return self._refuse(HTTPStatus.CONFLICT, str(error))
        except (ValueError, RecursionError) as error:  # DataError is one
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            return self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"could not be written: {error.strerror or error}")
        self._send_json(HTTPStatus.OK, {"saved": True})

    def _route(self) -> tuple[str, Mapping[str, Sequence[str]]] | None:
        """The path behind the secret and its query; None where the request was refused."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in OWN_NAMES and host not in OWN_NAMES:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this is a page of the machine it runs on, by its own name")
            return None
        address = urlsplit(self.path)
        given, _, path = address.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self.review.secret.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "open the address that sightline review printed")
            return None
        return path, parse_qs(address.query)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._send_json(status, {"error": clean(why)})

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, json.dumps(value).encode("ascii"), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: addresses hold the secret."""


def _shown(text: str) -> str:
    return clean(shortened(text, LONGEST_ANSWER))


def _secret(path: Path) -> str:
    """Read the secret of the page's address, or make it; it stays, so that a page left open finds the server again."""
    with contextlib.suppress(FileNotFoundError):
        if len(secret := path.read_text(encoding="ascii").strip()) >= 32:
            return secret
    secret = secrets.token_urlsafe(24)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secret, encoding="ascii")
    return secret

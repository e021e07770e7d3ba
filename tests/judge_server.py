"""A judge of our own: an OpenAI-compatible server on this machine that breaks as asked, and counts what it was sent.

What is wrong with a try depends on the prompt and on how often it has come, never on the order in which threads run.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429",
    "500",
    "timeout",
    "reset",
    "broken JSON",
    "cut JSON",
    "empty",
    "refusal",
    "wrong schema",
    "cut content",
    "wrong content",
)
"""What can be wrong: with the connection, with the body, and (the last four) with what the model says."""

Judge = Callable[[dict[str, Any]], str]
"""A request's body to the reply."""


@dataclass
class JudgeServer:
    """What the server does, and what was done to it.

    Args:
        judge: what it replies.
        share: of tries that are faulty.
        faults: which faults, in turn by chance.
        statuses: statuses that every try gets, one after the other, before any judging; the last one stays.
        retry_after: the header's value after 429, or a function of now to it; None for none.
        wait_seconds: that the value means.
        hang_seconds: how long a try hangs that times out.
        delay_seconds: before each reply.
        refuses: arguments that it refuses by name.
        models: that it lists.
        early: tries of a prompt that came before the server wanted it again.
        tries: prompts with how often each came.
        made: prompts with how often each got a whole reply.
        bodies: of every request.
        keys: of every request.
        times: of every request, on the monotonic clock.
    """

    judge: Judge
    share: float = 0.0
    faults: Sequence[str] = FAULTS
    statuses: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    retry_after: str | Callable[[], str] | None = None
    wait_seconds: float = 0.0
    hang_seconds: float = 30.0
    delay_seconds: float = 0.0
    refuses: tuple[str, ...] = ()
    models: tuple[str, ...] = ("judge",)
    early: int = 0
    tries: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    address: str = ""
    not_before: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def fault_of(self, prompt: str, number: int) -> str | None:
        """Choose what goes wrong with a prompt's try, by chance that is the same every time."""
        digest = hashlib.sha256(f"{number} {prompt}".encode()).digest()
        if int.from_bytes(digest[:4], "big") / 2**32 >= self.share:
            return None
        return self.faults[digest[4] % len(self.faults)]


@contextmanager
def serve_judge(server: JudgeServer) -> Iterator[JudgeServer]:
    """Serve at an address of this machine."""

    class Http(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of clients that were killed."""

    http = Http(("127.0.0.1", 0), _handler(server))
    server.address = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """What an OpenAI-compatible server replies."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    about = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-2026-11"}
    return {**about, "choices": [choice], "usage": usage}


def prompt_of(body: dict[str, Any]) -> str:
    """The text of a request's last turn."""
    return body["messages"][-1]["content"][-1]["text"]


def _handler(server: JudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in server.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.prompt, now = prompt_of(body), time.monotonic()
            prompt = self.prompt
            with server.lock:
                number = server.tries[prompt]
                server.tries[prompt] += 1
                server.bodies.append(body)
                server.keys.append(self.headers["Authorization"])
                server.times.append(now)
                server.early += now < server.not_before.get(prompt, 0.0)
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
                status = (
                    (server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0])
                    if (server.statuses)
                    else (200, {})
                )
            try:
                self._answer(body, prompt, number, status)
            finally:
                with server.lock:
                    server.in_flight -= 1

        def _answer(self, body: dict[str, Any], prompt: str, number: int, status: tuple[int, dict[str, Any]]) -> None:
            if server.delay_seconds:
                time.sleep(server.delay_seconds)
            refused = [name for name in server.refuses if name in body]
            fault = server.fault_of(prompt, number)
            if status[0] != 200:
                self._send(status[0], {"error": status[1]}, limited=status[0] == 429)
            elif refused:
                self._send(400, {"error": {"message": f"{refused[0]} is not supported", "param": refused[0]}})
            elif fault is None:
                with server.lock:
                    server.made[prompt] += 1
                self._send(200, completion(server.judge(body)))
            else:
                self._break(fault, server.judge(body))

        def _break(self, fault: str, text: str) -> None:
            whole = json.dumps(completion(text)).encode()
            if fault == "429":
                self._send(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, limited=True)
            elif fault == "500":
                self._send(500, {"error": {"message": "it broke"}})
            elif fault == "timeout":
                server.closing.wait(server.hang_seconds)
                self.close_connection = True
            elif fault == "reset":
                # A linger of 0 makes closing send RST instead of FIN.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif fault == "broken JSON":
                self._write(200, whole.replace(b":", b";", 3), len(whole))
            elif fault == "cut JSON":
                self._write(200, whole[: len(whole) // 2], len(whole) // 2)
            elif fault == "empty":
                self._send(200, completion(""))
            elif fault == "refusal":
                self._send(200, completion(None, refusal="I cannot help with that."))
            elif fault == "wrong schema":
                self._send(200, {"answer": text})
            elif fault == "cut content":
                self._send(200, completion(text[: len(text) // 3], finish_reason="length"))
            else:
                self._send(200, completion('{"verdict": "fine"}'))

        def _send(self, status: int, answer: dict[str, Any], *, limited: bool = False) -> None:
            content = json.dumps(answer).encode()
            headers = {"Location": answer["error"]["message"]} if 300 <= status < 400 else {}
            if limited and server.retry_after is not None:
                with server.lock:
                    value = server.retry_after if isinstance(server.retry_after, str) else server.retry_after()
                    server.not_before[self.prompt] = time.monotonic() + server.wait_seconds
                headers["Retry-After"] = value
            self._write(status, content, len(content), headers)

        def _write(self, status: int, content: bytes, length: int, headers: dict[str, str] | None = None) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

    return Handler


def http_date(seconds: float) -> str:
    """A moment from now, as a header writes it; headers know whole seconds only."""
    return formatdate(time.time() + seconds, usegmt=True)

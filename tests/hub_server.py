"""A hub of our own: the part of the Hugging Face hub's HTTP interface that fetching a dataset uses, on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

Commits = Mapping[str, Mapping[str, bytes]]


@dataclass
class Hub:
    """What a hub holds, and what was asked of it.

    Args:
        datasets: owner/name to commit to file name to content; the last commit is "main".
        breaks: file name to the byte at which the line always goes dead.
        requests: "METHOD path" of each request, and its range where it named one.
    """

    datasets: dict[str, dict[str, dict[str, bytes]]]
    breaks: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    address: str = ""
    later: dict[str, bytes] = field(default_factory=dict)

    def fetched(self) -> list[str]:
        """Name the files whose content was asked for, in order."""
        found = [re.fullmatch(r"GET /datasets/[^/]+/[^/]+/resolve/[^/]+/([^ ]+).*", one) for one in self.requests]
        return [one[1] for one in found if one]


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub at an address of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            wanted = self.headers.get("Range", "")
            hub.requests.append(f"{self.command} {path}{' ' + wanted if wanted else ''}")
            if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
                commit, files = self._commit(match[1], match[3])
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
                    for name, content in files.items()
                ]
                about = {"id": match[1], "sha": commit, "siblings": [], "private": False, "tags": []}
                body = json.dumps(entries if match[2] == "tree" else about).encode() if commit else b"{}"
                self._send(200 if commit else 404, body, {"Content-Type": "application/json"}, with_body)
            elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                commit, files = self._commit(match[1], match[2])
                content = files.get(match[3])
                if content is None:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
                    return
                headers = {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
                start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted.startswith("bytes=") else 0  # type: ignore[index]
                if start:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                is_broken = with_body and match[3] in hub.breaks
                cut = max(0, hub.breaks[match[3]] - start) if is_broken else None
                self._send(206 if start else 200, content[start:], headers, with_body, cut=cut)
            else:
                self._send(404, b"", {}, with_body)

        def _commit(self, name: str, revision: str) -> tuple[str, Mapping[str, bytes]]:
            commits = hub.datasets.get(name, {})
            commit = list(commits)[-1] if revision == "main" and commits else revision
            return (commit, commits[commit]) if commit in commits else ("", {})

        def _send(
            self, status: int, body: bytes, headers: Mapping[str, str], with_body: bool, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.close_connection = True

    return Handler


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()

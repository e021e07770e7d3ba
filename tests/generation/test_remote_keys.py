"""A key is shown to its server and to nobody else: no file, message, log or traceback holds it, in any writing."""

from __future__ import annotations

import base64
import io
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from judge_server import JudgeServer, serve_judge
from sightline.generation import retries
from sightline.generation.calls import Call, ReplyDecoding
from sightline.generation.keys import Key
from sightline.generation.ledger import Ledger
from sightline.generation.remote import connect
from sightline.generation.retries import ServerDownError

SENTINEL = "sk-sentinel/9f8e7d6c+5b4a=="
FORMS = {
    "as it is": SENTINEL,
    "percent-encoded": quote(SENTINEL, safe=""),
    "base64": base64.b64encode(SENTINEL.encode()).decode().rstrip("="),
    "base64 for addresses": base64.urlsafe_b64encode(SENTINEL.encode()).decode().rstrip("="),
    "repr": repr(SENTINEL)[1:-1],
    "first eight letters": SENTINEL[:8],
}


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that any library logs."""
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def found_in(text: str) -> list[str]:
    return [name for name, form in FORMS.items() if form in text]


def everything(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in folder.rglob("*") if file.is_file())


def leak(form: str) -> str:
    return f"Incorrect API key provided: {form}. Authorization was 'Bearer {form}'."


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_server_that_repeats_the_key_does_not_get_it_into_anything(
    form: str, tmp_path: Path, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUDGE_KEY", SENTINEL)
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    shown = ""
    with serve_judge(JudgeServer(judge=lambda body: leak(form))) as server:
        for status in (200, 400, 500, 401):
            server.statuses = [(status, {"message": leak(form), "code": form})] if status != 200 else []
            ledger = Ledger(tmp_path / "calls.jsonl")
            engine = connect(server.address, "judge", key_env="JUDGE_KEY", ledger=ledger, num_tries=2)
            calls = [Call(name="row", text=f"{status} {place}") for place in range(3)]
            try:
                shown += repr(engine.ask(calls, ReplyDecoding()))
            except ServerDownError as error:
                told = traceback.TracebackException.from_exception(error, capture_locals=True)
                # This test's own frame spells the key out.
                told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename != __file__])
                assert len(told.stack) > 3
                shown += "".join(told.format())
            shown += f"{engine!r} {engine.key!r} {engine.key}"
            ledger.close()
        assert set(server.keys) == {f"Bearer {SENTINEL}"}
    for place, text in {"files": everything(tmp_path), "messages": shown, "logs": logged.getvalue()}.items():
        assert text and not found_in(text), place
    assert "(the key)" in everything(tmp_path)


def test_the_search_finds_a_leak(tmp_path: Path):
    for name, form in FORMS.items():
        (tmp_path / "leak").write_text(leak(form))
        assert name in found_in(everything(tmp_path))


def test_a_password_of_few_letters_is_left_in_texts():
    assert Key("1").hide_in("1. correct") == "1. correct"
    assert Key(None).hide_in("none") == "none"

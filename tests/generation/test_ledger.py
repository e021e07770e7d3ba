"""The ledger: nothing stored is asked again, nothing damaged is believed, and what decides a reply decides its key."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from judge_server import JudgeServer, prompt_of, serve_judge
from sightline.data.pictures import read_picture
from sightline.errors import RefusedError
from sightline.generation import retries
from sightline.generation.calls import Call, ReplyDecoding, call_key
from sightline.generation.ledger import Ledger
from sightline.generation.remote import RemoteEngine, connect
from sightline.records import Picture

GREEDY = ReplyDecoding(max_new_tokens=50)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge(JudgeServer(judge=prompt_of)) as server:
        yield server


def engine_of(server: JudgeServer, **options: Any) -> RemoteEngine:
    return connect(server.address, **{"model": "judge", "timeout_seconds": 5.0, **options})


def calls(number: int) -> list[Call]:
    return [Call(name=f"row {place}", text=f"question {place}") for place in range(number)]


def picture(colour: tuple[int, int, int] = (200, 10, 0)) -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, format="PNG")
    return read_picture(buffer.getvalue(), name="scan.png")[0]


def test_what_is_stored_is_never_asked_for_again(server: JudgeServer, tmp_path: Path):
    path = tmp_path / "judge" / "calls.jsonl"
    ledger = Ledger(path)
    first = engine_of(server, ledger=ledger).ask(calls(10), GREEDY)
    with pytest.raises(RefusedError, match="in use by another process"):
        Ledger(path)
    ledger.close()
    ledger = Ledger(path)
    told: list[object] = []
    assert engine_of(server, ledger=ledger).ask(calls(10), GREEDY, on_reply=told.append) == first
    assert len(server.bodies) == 10 and told == []
    spent = ledger.spent(input_price=2.0, output_price=10.0)
    assert (spent.num_answered, spent.num_tries, spent.num_possibly_billed_twice) == (10, 10, 0)
    assert spent.cost == pytest.approx((10 * 100 * 2.0 + 10 * 10 * 10.0) / 1e6)
    assert ledger.spent(input_price=2.0).cost is None
    ledger.close()


def test_failed_calls_are_asked_again_in_another_run(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    server.statuses = [(500, {}), (500, {}), (200, {})]
    ledger = Ledger(tmp_path / "calls.jsonl")
    engine = engine_of(server, ledger=ledger, num_tries=2, concurrency=1)
    assert [reply.outcome for reply in engine.ask(calls(2), GREEDY)] == ["failed", "answered"]
    assert [reply.outcome for reply in engine.ask(calls(2), GREEDY)] == ["answered", "answered"]
    assert server.tries == {"question 0": 3, "question 1": 1}
    ledger.close()


CALL = Call(name="a", text="Why?", pictures=(picture(),), schema={"type": "object"})
IDENTITY = {"server": "http://localhost/v1", "model": "judge"}


@pytest.mark.parametrize(
    ("identity", "call", "decoding"),
    [
        ({**IDENTITY, "server": "http://localhost:1/v1"}, CALL, GREEDY),
        ({**IDENTITY, "model": "judge-2"}, CALL, GREEDY),
        ({**IDENTITY, "adapter_model.safetensors": "00"}, CALL, GREEDY),
        (IDENTITY, replace(CALL, text="Why? "), GREEDY),
        (IDENTITY, replace(CALL, pictures=(picture((200, 10, 1)),)), GREEDY),
        (IDENTITY, replace(CALL, pictures=()), GREEDY),
        (IDENTITY, replace(CALL, schema=None), GREEDY),
        (IDENTITY, replace(CALL, number=1), GREEDY),
        (IDENTITY, CALL, replace(GREEDY, max_new_tokens=51)),
        (IDENTITY, CALL, replace(GREEDY, temperature=0.1)),
        (IDENTITY, CALL, replace(GREEDY, top_p=0.5)),
        (IDENTITY, CALL, replace(GREEDY, stop=("#",))),
        (IDENTITY, CALL, replace(GREEDY, seed=1)),
    ],
)
def test_whatever_decides_a_reply_is_part_of_its_key(identity: dict[str, str], call: Call, decoding: ReplyDecoding):
    assert call_key(identity, call, decoding) != call_key(IDENTITY, CALL, GREEDY)
    assert call_key(IDENTITY, replace(CALL, name="b"), GREEDY) == call_key(IDENTITY, CALL, GREEDY)


@pytest.mark.parametrize("damage", ["flipped", "cut", "not JSON", "no sum"])
def test_a_damaged_line_is_asked_for_again_and_counted(server: JudgeServer, tmp_path: Path, damage: str):
    path = tmp_path / "calls.jsonl"
    ledger = Ledger(path)
    first = engine_of(server, ledger=ledger, concurrency=1).ask(calls(3), GREEDY)
    ledger.close()
    lines = path.read_bytes().splitlines(keepends=True)
    last = {
        "flipped": lines[-1].replace(b"question 2", b"question 9"),
        "cut": lines[-1][:40],
        "not JSON": b"\xff\x00\n",
        "no sum": json.dumps({"reply": {}}).encode() + b"\n",
    }[damage]
    path.write_bytes(b"".join(lines[:-1]) + last)
    for _ in range(2):  # and what comes after a cut line is whole
        ledger = Ledger(path)
        assert engine_of(server, ledger=ledger).ask(calls(3), GREEDY) == first
        assert ledger.spent().num_unreadable_lines == 1
        ledger.close()
    assert server.tries == {"question 0": 1, "question 1": 1, "question 2": 2}


def test_halves_of_characters_do_not_break_the_ledger(server: JudgeServer, tmp_path: Path):
    server.judge = lambda body: "cut \ud83d, whole \U0001f600, line \u2028 end"
    ledger = Ledger(tmp_path / "calls.jsonl")
    [reply] = engine_of(server, ledger=ledger).ask(calls(1), GREEDY)
    ledger.close()
    assert reply.text == "cut �, whole \U0001f600, line \u2028 end"
    assert list(Ledger(tmp_path / "calls.jsonl").answered.values()) == [reply]

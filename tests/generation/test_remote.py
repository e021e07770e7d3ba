"""The remote engine against a real server: what is sent, what is tried again, what ends a run, what is kept."""

from __future__ import annotations

import asyncio
import base64
import io
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from judge_server import JudgeServer, http_date, prompt_of, serve_judge
from sightline.data.pictures import read_picture
from sightline.errors import StudyError
from sightline.generation import retries
from sightline.generation.calls import Call, ReplyDecoding, without_thoughts
from sightline.generation.ledger import Ledger
from sightline.generation.pace import Pace
from sightline.generation.remote import RemoteEngine, connect, run_to_the_end
from sightline.generation.retries import ServerDownError, asked_wait
from sightline.records import Picture

GREEDY = ReplyDecoding(max_new_tokens=50)
Serve = Callable[..., JudgeServer]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serve_judge(JudgeServer(**{"judge": prompt_of, **options})))


def engine_of(server: JudgeServer, **options: Any) -> RemoteEngine:
    return connect(server.address, **{"model": "judge", "timeout_seconds": 5.0, **options})


def calls(number: int, **fields: Any) -> list[Call]:
    return [Call(name=f"row {place}", text=f"question {place}", **fields) for place in range(number)]


def picture(colour: tuple[int, int, int] = (200, 10, 0)) -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, format="PNG")
    return read_picture(buffer.getvalue(), name="scan.png")[0]


def test_replies_come_in_the_order_of_the_calls_and_equal_calls_are_sent_once(serve: Serve):
    server = serve(delay_seconds=0.002)
    asked = [*calls(20), *calls(3)]
    told: list[str] = []
    replies = engine_of(server, concurrency=7).ask(asked, GREEDY, on_reply=lambda reply: told.append(reply.text))
    assert [reply.text for reply in replies] == [call.text for call in asked]
    assert sorted(told) == sorted(server.tries) and set(server.tries.values()) == {1}
    assert 1 < server.most_in_flight <= 7
    assert (replies[0].model, replies[0].num_prompt_tokens, replies[0].num_tries) == ("judge-2026-11", 100, 1)


def test_what_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", "sentinel-key")
    monkeypatch.setenv("OPENAI_ORG_ID", "somebody-else")
    server, shown = serve(), picture()
    schema = {"type": "object"}
    decoding = ReplyDecoding(max_new_tokens=7, temperature=0.2, top_p=0.9, stop=("###",), seed=5)
    engine = engine_of(server, key_env="JUDGE_KEY", send_images=True)
    engine.ask([Call(name="a", text="Why?", pictures=(shown,), schema=schema, number=2)], decoding)
    [body] = server.bodies
    image, text = body.pop("messages")[0]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))))
    assert (
        np.array_equal(np.asarray(sent), np.asarray(Image.open(io.BytesIO(shown.content or b"")))) and sent.info == {}
    )
    assert text == {"type": "text", "text": "Why?"}
    held = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    assert body == {
        "model": "judge",
        "max_completion_tokens": 7,
        "temperature": 0.2,
        "top_p": 0.9,
        "stop": ["###"],
        "seed": 7,
        "response_format": held,
    }
    assert server.keys == ["Bearer sentinel-key"]


def test_nothing_is_sent_without_leave_or_key(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = serve()
    with pytest.raises(StudyError, match=r"row 1: asking would send picture scan\.png to .*`send_images: true`"):
        engine_of(server).ask([*calls(1), Call(name="row 1", text="b", pictures=(picture(),))], GREEDY)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(StudyError, match="the environment variable JUDGE_KEY holds no key"):
        engine_of(server, key_env="JUDGE_KEY")
    for address in ("http://me:secret@localhost/v1", "http://localhost/v1?api_key=secret"):
        with pytest.raises(StudyError, match="key_env") as error:
            connect(address)
        assert "secret" not in str(error.value)
    with pytest.raises(StudyError, match="not an address"):
        connect("localhost:8000")
    assert server.bodies == []


def test_the_server_s_only_model_is_taken_and_several_are_refused(serve: Serve):
    engine = connect(serve(models=("the-one",)).address)
    engine.ask(calls(1), GREEDY)
    assert engine.model == "the-one"
    with pytest.raises(StudyError, match=r"has 2 models \(a, b\); name one as model"):
        connect(serve(models=("a", "b")).address).ask(calls(1), GREEDY)
    with pytest.raises(ServerDownError, match="its models cannot be listed"):
        connect("http://127.0.0.1:9/v1").ask(calls(1), GREEDY)


@pytest.mark.parametrize(
    ("status", "error", "num_tries", "reason"),
    [
        (500, {"message": "it broke"}, 3, "server error: 500"),
        (503, {"message": "busy"}, 3, "server error: 503"),
        (429, {"message": "slow down"}, 3, "rate limit: 429"),
        (408, {"message": "too slow"}, 3, "timeout: 408"),
        (400, {"message": "too long"}, 1, "refused: 400"),
        (403, {"message": "not this"}, 1, "refused: 403"),
        (413, {"message": "too large"}, 1, "refused: 413"),
        (422, {"message": "no"}, 1, "refused: 422"),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_else(serve: Serve, status: int, error: dict, num_tries: int, reason):
    server = serve(statuses=[(status, error)])
    [reply] = engine_of(server, num_tries=3).ask(calls(1), GREEDY)
    assert (reply.outcome, reply.text, reply.num_tries) == ("failed", "", num_tries)
    assert reply.reason.startswith(reason) and len(server.bodies) == num_tries
    healed = serve(statuses=[(status, error), (200, {})])
    [reply] = engine_of(healed, num_tries=3).ask(calls(1), GREEDY)
    assert (reply.outcome, reply.num_tries) == (("answered", 2) if num_tries > 1 else ("failed", 1))


@pytest.mark.parametrize(
    ("fault", "reason", "is_lost"),
    [
        ("500", "server error: 500", 1),
        ("timeout", "timeout: no reply in time", 1),
        ("reset", "connection: ", 1),
        ("broken JSON", "broken reply: no chat completion (JSONDecodeError", 1),
        ("cut JSON", "broken reply: no chat completion (JSONDecodeError", 1),
        ("wrong schema", "broken reply: no chat completion (KeyError", 1),
        ("empty", "broken reply: the reply is empty", 1),
    ],
)
def test_replies_that_do_not_come_whole_are_tried_again(
    serve: Serve, fault: str, reason: str, is_lost: int, tmp_path: Path
):
    server, ledger = serve(share=1.0, faults=[fault]), Ledger(tmp_path / "calls.jsonl")
    engine = engine_of(server, num_tries=2, timeout_seconds=0.2, ledger=ledger)
    [reply] = engine.ask(calls(1), GREEDY)
    ledger.close()
    assert reply.outcome == "failed" and reply.reason.startswith(reason) and reply.reason.endswith("(tries: 2)")
    assert reply.num_lost == 2 * is_lost and server.tries.total() == 2


@pytest.mark.parametrize(("fault", "finish_reason"), [("refusal", "refusal"), ("cut content", "length")])
def test_what_the_model_says_is_no_fault_of_the_line(serve: Serve, fault: str, finish_reason: str):
    [reply] = engine_of(serve(share=1.0, faults=[fault])).ask(calls(1), GREEDY)
    assert (reply.outcome, reply.finish_reason, reply.num_tries) == ("answered", finish_reason, 1)


@pytest.mark.parametrize(
    ("header", "seconds"), [("0.3", 0.3), ("1", 1.0), (lambda: http_date(2), 1.0)], ids=["part", "seconds", "date"]
)
def test_retry_after_is_honoured_in_both_forms(serve: Serve, header: Any, seconds: float):
    server = serve(statuses=[(429, {"message": "wait"}), (200, {})], retry_after=header, wait_seconds=seconds)
    [reply] = engine_of(server).ask(calls(1), GREEDY)
    assert (reply.num_tries, server.early) == (2, 0)
    assert server.times[1] - server.times[0] < seconds + 1.5


def test_when_a_server_asks_for_rest_every_worker_rests(serve: Serve):
    server = serve(statuses=[(429, {}), (200, {})], retry_after="0.4", wait_seconds=0.4, delay_seconds=0.02)
    engine_of(server, concurrency=4).ask(calls(30), GREEDY)
    began = server.times[0] + 0.15  # by then the workers know
    assert not [at for at in server.times if began < at < server.times[0] + 0.4]
    assert server.early == 0


def test_a_date_is_measured_by_the_server_s_own_clock():
    headers = {"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "Sat, 21 Nov 2026 12:00:00 GMT"}
    assert asked_wait(headers) == 30
    assert asked_wait({**headers, "date": "Sat, 21 Nov 2026 12:01:00 GMT"}) == 0
    assert asked_wait({"retry-after": "90"}) == 90 and asked_wait({"retry-after-ms": "1500"}) == 1.5
    assert [asked_wait({"retry-after": text}) for text in ("soon", "-1", "inf", "nan")] == [None] * 4


def test_exhausted_quota_is_never_tried_again(serve: Serve):
    server = serve(statuses=[(429, {"message": "pay", "code": "insufficient_quota"})])
    with pytest.raises(ServerDownError, match="stopped at once, the last with quota: 429 pay"):
        engine_of(server, concurrency=1).ask(calls(50), GREEDY)
    assert len(server.bodies) == 1


def test_a_long_rest_is_left_to_another_run(serve: Serve):
    server = serve(statuses=[(429, {})], retry_after="3600")
    with pytest.raises(ServerDownError, match="asks to be left alone for 3600 s"):
        engine_of(server, concurrency=1).ask(calls(5), GREEDY)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_dead_server_stops_the_run_early_and_keeps_what_it_said(serve: Serve, tmp_path: Path, status: int):
    server = serve()
    ledger = Ledger(tmp_path / "calls.jsonl")
    engine_of(server, ledger=ledger).ask(calls(5), GREEDY)
    server.statuses = [(status, {"message": "no"})]
    began = time.monotonic()
    with pytest.raises(ServerDownError, match="replies so far are kept, run again to go on") as error:
        engine_of(server, ledger=ledger, concurrency=8).ask(calls(2000), GREEDY)
    assert error.value.exit_code == 3
    assert len(server.bodies) - 5 <= retries.MAX_IN_A_ROW and time.monotonic() - began < 30
    ledger.close()
    assert len(Ledger(tmp_path / "calls.jsonl").answered) == 5


def test_a_server_that_dies_on_the_way_is_given_up_after_half_a_minute(serve: Serve):
    clock = [0.0]
    health = retries.Health(server="s", has_answered=True, clock=lambda: clock[0])
    fault = retries.Fault(kind="server error", said="500")
    for _ in range(5):
        health.answered()
        for _ in range(30):  # faults that only come often are borne
            clock[0] += 0.5
            health.try_failed(fault)
    clock[0] += 31
    with pytest.raises(ServerDownError, match="tries failed in a row"):
        health.try_failed(fault)
    silent = retries.Health(server="s", clock=lambda: clock[0])
    for _ in range(2):
        silent.try_failed(retries.Fault(kind="timeout", said="no reply in time"))
        clock[0] += 60
    with pytest.raises(ServerDownError, match="3 tries failed in a row"):
        silent.try_failed(fault)
    health.answered()
    for _ in range(9):
        health.call_failed(fault)
    with pytest.raises(ServerDownError, match="10 calls failed in a row"):
        health.call_failed(fault)


def test_a_server_that_is_gone_is_down_however_few_calls_it_is_asked(tmp_path: Path):
    ledger = Ledger(tmp_path / "calls.jsonl")
    with serve_judge(JudgeServer(judge=prompt_of)) as server:
        engine = engine_of(server, num_tries=2, ledger=ledger)
        engine.ask(calls(2), GREEDY)
    with pytest.raises(ServerDownError, match="not be reached by any of 3 calls, the last with connection: Connect"):
        engine.ask(calls(5), GREEDY)
    spent = ledger.spent()
    ledger.close()
    assert (spent.num_answered, spent.num_failed, spent.num_tries) == (2, 3, 8)
    assert spent.num_possibly_billed_twice == 0, "nobody bills a request that was never sent"


def test_a_server_that_a_call_reaches_is_not_down():
    refused = retries.Fault(kind="connection", said="ConnectError", was_sent=False)
    for other in (None, retries.Fault(kind="timeout", said="no reply in time")):
        health = retries.Health(server="s", has_answered=True)
        health.call_failed(refused)
        if other is not None:
            health.call_failed(other)
        with nullcontext() if other else pytest.raises(ServerDownError):
            health.round_ended()
    health = retries.Health(server="s")
    health.call_failed(refused)
    health.answered()
    health.round_ended()


def test_arguments_that_a_server_does_not_know_are_left_out_and_reported(serve: Serve):
    server = serve(refuses=("response_format", "max_completion_tokens"))
    engine = engine_of(server, concurrency=8)
    replies = engine.ask(calls(20, schema={"type": "object"}), GREEDY)
    assert {(reply.outcome, reply.structured) for reply in replies} == {("answered", False)}
    assert set(engine.refused) == {"response_format", "max_completion_tokens"}
    assert server.bodies[-1]["max_tokens"] == 50 and "response_format" not in server.bodies[-1]
    assert engine_of(serve()).ask(calls(1, schema={"type": "object"}), GREEDY)[0].structured


def test_no_redirect_is_followed(serve: Serve):
    elsewhere = serve()
    address = f"{elsewhere.address}/chat/completions"
    server = serve(statuses=[(307, {"message": address})])
    [reply] = engine_of(server).ask(calls(1), GREEDY)
    assert reply.outcome == "failed" and elsewhere.bodies == []
    assert f"307 sends us to {address}; write that address if it is right" in reply.reason


@pytest.mark.parametrize(("limit", "most"), [({"requests_per_minute": 5}, 5), ({"tokens_per_minute": 330}, 3)])
def test_no_window_holds_more_than_the_limit(limit: dict[str, int], most: int):
    pace = Pace(window_seconds=0.2, **limit)
    times: list[float] = []

    async def send() -> None:
        entry = await pace.wait(110)
        times.append(entry[0])
        await asyncio.sleep(0.01)
        pace.correct(entry, 100)

    async def send_all() -> None:
        await asyncio.gather(*(send() for _ in range(16)))

    run_to_the_end(send_all())
    assert all(sum(at <= other < at + 0.2 for other in times) <= most for at in times)
    assert times[-1] - times[0] < 0.2 * 16 / most + 0.3


def test_limits_hold_for_a_whole_run(serve: Serve):
    server = serve()
    engine = engine_of(server, concurrency=8, requests_per_minute=4)
    engine.pace.window_seconds = 0.4
    engine.ask(calls(9), GREEDY)
    assert server.times[-1] - server.times[0] > 0.7


def test_it_runs_where_a_loop_runs_already(serve: Serve):
    async def in_a_notebook() -> str:
        return engine_of(serve()).ask(calls(1), GREEDY)[0].text

    assert run_to_the_end(in_a_notebook()) == "question 0"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>It says 3.</think>\n85", "85"),
        ("so it is\n</think>85", "85"),
        ("85", "85"),
        ("<think>cut", ""),
        ("<think>a</think>85<think>b</think>", "85"),
    ],
)
def test_thoughts_are_removed(text: str, left: str):
    assert without_thoughts(text) == left


def test_asking_needs_no_torch(python_without: Callable[..., subprocess.CompletedProcess[str]], serve: Serve):
    code = (
        "import sys\nfrom sightline.generation.remote import connect\n"
        "from sightline.generation.calls import Call, ReplyDecoding\n"
        "print(connect(sys.argv[1]).ask([Call(name='a', text='hello')], ReplyDecoding())[0].text)"
    )
    done = python_without(["torch", "transformers"], code, serve().address)
    assert done.stdout.strip() == "hello", done.stderr

"""A judge that breaks in every way: each judgement ends in a final state, no failure is a score, no reply is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import judged_rows
from judge_server import FAULTS, JudgeServer, serve_judge
from sightline.generation import retries
from sightline.generation.ledger import Ledger
from sightline.generation.remote import connect
from sightline.generation.retries import ServerDownError
from sightline.scoring.judge import Judgement, judge_answers, score_of
from sightline.scoring.medical import medical_kind

ROOT = Path(__file__).parents[2]
WORKERS = 32


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.02)


def without_faults(num_rows: int) -> list[Judgement]:
    with serve_judge(JudgeServer(judge=judged_rows.opinion)) as server:
        return judged_rows.judge(connect(server.address, "judge", concurrency=WORKERS), num_rows)


def judge_with_faults(
    num_rows: int, share: float, path: Path, timeout_seconds: float
) -> tuple[JudgeServer, list[Judgement], Ledger]:
    options = {"retry_after": "0.2", "wait_seconds": 0.2, "hang_seconds": 5.0}
    ledger = Ledger(path)
    with serve_judge(JudgeServer(judge=judged_rows.opinion, share=share, **options)) as server:
        engine = connect(server.address, "judge", concurrency=WORKERS, timeout_seconds=timeout_seconds, ledger=ledger)
        judged = judged_rows.judge(engine, num_rows)
    return server, judged, ledger


def check_faulty_run(num_rows: int, share: float, folder: Path, *, timeout_seconds: float) -> str:
    """Check a run with faults against one without; returns its figures."""
    began = time.monotonic()
    server, judged, ledger = judge_with_faults(num_rows, share, folder / "calls.jsonl", timeout_seconds)
    seconds = time.monotonic() - began
    expected = without_faults(num_rows)
    outcomes = Counter(judgement.outcome for judgement in judged)
    assert len(judged) == num_rows and outcomes["judged"] > 0.9 * num_rows
    for judgement, true in zip(judged, expected, strict=True):
        score = score_of(judgement, "medical")
        if judgement.outcome == "judged":
            assert (judgement.sample_id, judgement.opinion) == (true.sample_id, true.opinion)
        else:
            assert (score.outcome, score.value, dict(score.parts)) == ("failed", None, {})
            assert judgement.reason and score.reason.startswith(judgement.outcome)
    assert server.early == 0, "Retry-After is honoured"
    answered = [reply for reply in ledger.rows if reply.outcome == "answered"]
    assert len({reply.key for reply in answered}) == len(answered), "nothing is in the ledger twice"
    assert len(ledger.rows) == sum(judgement.num_asked for judgement in judged)
    unseen = sum(reply.num_tries for reply in ledger.rows) - server.tries.total()
    assert 0 <= unseen <= ledger.num_lost, "a busy machine may not read a call before it has timed out"
    assert server.most_in_flight <= WORKERS + ledger.num_lost, "those that had timed out still hang there"
    # Every kind of fault has happened.
    met = {fault for prompt, n in server.tries.items() for k in range(n) if (fault := server.fault_of(prompt, k))}
    assert met == set(FAULTS)
    spent = ledger.spent()
    ledger.close()
    return (
        f"{share:.0%} faults, {num_rows} judgements, {WORKERS} workers: {dict(outcomes)}, "
        f"{server.tries.total()} tries, {server.early} early, "
        f"{spent.num_possibly_billed_twice} possibly billed twice, {seconds:.0f} s"
    )


def test_faults_of_every_kind_cost_no_judgement_and_make_no_score(tmp_path: Path):
    check_faulty_run(200, 0.5, tmp_path, timeout_seconds=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_two_thousand_judgements_with_faults(share: float, tmp_path: Path):
    print(check_faulty_run(2000, share, tmp_path, timeout_seconds=3.0))


@pytest.mark.parametrize(("status", "error"), [(401, "no such key"), (500, "it broke")])
def test_a_dead_judge_stops_early_and_gives_no_number(status: int, error: str, tmp_path: Path):
    began = time.monotonic()
    ledger = Ledger(tmp_path / "calls.jsonl")
    with serve_judge(JudgeServer(judge=judged_rows.opinion, statuses=[(status, {"message": error})])) as server:
        engine = connect(server.address, "judge", concurrency=WORKERS, ledger=ledger)
        with pytest.raises(ServerDownError, match=error):
            judged_rows.judge(engine, 2000)
        assert server.tries.total() <= retries.MAX_IN_A_ROW
        assert time.monotonic() - began < 30
        server.statuses = []
        judged = judged_rows.judge(engine, 20)
        assert [judgement.outcome for judgement in judged] == ["judged"] * 20
    ledger.close()


def kill_and_go_on(num_rows: int, num_kills: int, path: Path, *, seed: int) -> str:
    """Kill a client at random moments, then let it finish; returns the figures."""
    expected = without_faults(num_rows)
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(1, num_rows), num_kills))
    workers = 8
    with serve_judge(JudgeServer(judge=judged_rows.opinion, delay_seconds=0.02)) as server:
        command = [sys.executable, judged_rows.__file__, server.address, str(path), str(num_rows), str(workers)]
        for moment in moments:
            client = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
            deadline = time.monotonic() + 60
            while server.made.total() < moment and client.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            client.kill()
            client.wait()
        time.sleep(0.2)  # what was in flight ends at the server
        num_before = server.made.total()
        ledger = Ledger(path)
        num_stored = len(ledger.answered)
        judged = judge_answers(
            medical_kind(),
            connect(server.address, "judge", concurrency=workers, ledger=ledger),
            judged_rows.rows(num_rows),
        )
    repeats = server.made.total() - num_rows
    billed = ledger.spent().num_possibly_billed_twice
    ledger.close()
    assert [j.opinion for j in judged] == [j.opinion for j in expected], "as if nothing had happened"
    assert server.made.total() - num_before == num_rows - num_stored, "what was stored is not asked for again"
    assert num_before - num_stored <= num_kills * workers
    assert repeats <= billed <= num_kills * workers, "no more than were in flight, and all of them are counted"
    return (
        f"{num_kills} kills over {num_rows} judgements: {repeats} repeated, {billed} counted as possibly billed twice"
    )


def test_a_killed_client_loses_nothing(tmp_path: Path):
    kill_and_go_on(150, 2, tmp_path / "calls.jsonl", seed=1)


@pytest.mark.slow
def test_a_client_killed_ten_times_loses_nothing(tmp_path: Path):
    print(kill_and_go_on(1000, 10, tmp_path / "calls.jsonl", seed=2))

"""A study with judges, in one run: what is asked, kept, counted and printed; and what happens when a judge breaks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer, prompt_of, serve_judge
from judged_rows import opinion
from sightline.generation import retries
from sightline.generation.ledger import Ledger
from sightline.storage import read_jsonl
from tiny_studies import Ended, sightline_command

ROOT = Path(__file__).parents[2]
KEY = "sk-sentinel-key"
CRITERIA = {"correctness": "Is it right?", "restraint": "Does it name nothing that is not there?"}
STUDY = """
name: judged
base: builtin:tiny
data:
  questions: {source: builtin:phantom, images: 12, seed: 0, split: {train: 0.5, test: 0.5, by: image}}
  probes: {source: builtin:phantom, subset: probes-popular, images: 4, seed: 1, split: {test: 1.0}}
  descriptions: {source: builtin:phantom, subset: description, images: 6, seed: 2, split: {test: 1.0}}
steps: {sft: {on: questions.train, max_steps: 2, batch_size: 8, learning_rate: 1e-3}}
evaluate:
  on: [questions.test, descriptions.test]
  untouched: probes.test
  metrics: [exact_match, pope_accuracy, phantom_shr, answer_length, small, marks, checked, wins]
judges:
  small: {kind: shr, base: builtin:tiny, max_new_tokens: 8, reasks: 0, audit_rows: 1}
  marks: {kind: rubric, rubric: rubric.yaml, server: ADDRESS, model: judge, key_env: JUDGE_KEY, audit_rows: 3, tries: 1}
  checked: {kind: medical, server: ADDRESS, model: judge, audit_rows: 0, input_price: 1, output_price: 2}
  wins: {kind: pairwise, server: ADDRESS, model: judge, send_images: true, audit_rows: 2}
compare:
  - {model: sft, by: phantom_shr}
  - {model: sft, by: marks}
"""


def reply(body: dict[str, Any]) -> str:
    """Marks, or a medical opinion, that depend on the prompt alone; of two answers, always the first."""
    prompt = prompt_of(body)
    if prompt.startswith("You check answers"):
        return opinion(body)
    if not prompt.startswith("You mark an answer"):
        return "The first response is better."
    digest = hashlib.sha256(prompt.encode()).digest()
    marks = {name: 1 + digest[place] % 5 for place, name in enumerate(CRITERIA)}
    return f"<think>Let me see.</think>{json.dumps({'reason': 'so', **marks})}"


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serve_judge(JudgeServer(judge=reply)) as server:
        yield server


@pytest.fixture(autouse=True)
def healthy(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.share, server.delay_seconds, server.statuses = 0.0, 0.0, []


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, server: JudgeServer) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    criteria = "".join(f"  {name}: {json.dumps(asks)}\n" for name, asks in CRITERIA.items())
    (folder / "rubric.yaml").write_text(f"criteria:\n{criteria}", encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY.replace("ADDRESS", server.address), encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def finished(study_file: Path, server: JudgeServer) -> Path:
    """The directory of the whole study, run once; to be copied before it is changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUDGE_KEY", KEY)
        ended = run(study_file, study_file.parent / "run")
    assert ended.code == 0, ended.err
    return study_file.parent / "run"


def run(study_file: Path, out: Path) -> Ended:
    return sightline_command("run", study_file, "--out", out)


def unjudged(finished: Path, out: Path, *judges: str) -> Path:
    """Copy a finished study as it was before these judges were asked, and before anything was compared."""
    shutil.copytree(finished, out)
    for judge in judges:
        shutil.rmtree(out / "judges" / judge)
        for file in (out / "scores").glob(f"*/{judge}.*"):
            file.unlink()
    for name in ("compare.json", "report.html", "report.md"):
        (out / name).unlink()
    return out


def scores(out: Path, judge: str) -> list[dict[str, Any]]:
    return [row for model in ("base", "sft") for row in read_jsonl(out / "scores" / model / f"{judge}.jsonl")]


def num_unanswered(out: Path, judge: str) -> int:
    ledger = Ledger(out / "judges" / judge / "calls.jsonl")
    ledger.close()
    return len({reply.key for reply in ledger.rows} - ledger.answered.keys())


def every_file(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_one_run_asks_everything_and_its_report_has_every_number(finished: Path) -> None:
    compare = json.loads((finished / "compare.json").read_text(encoding="utf-8"))
    report = (finished / "report.md").read_text(encoding="utf-8")
    page = (finished / "report.html").read_text(encoding="utf-8")
    for arm in compare["arms"]:
        rows = {row["sample_id"]: row for row in read_jsonl(finished / "judges/marks" / f"{arm['model']}.jsonl")}
        given = [rows[row["id"]] for row in read_jsonl(finished / "data" / f"{arm['data']}.jsonl")]
        marks = [json.loads(row["replies"][0].partition("</think>")[2]) for row in given]
        by_hand = sum((mark[name] - 1) / 4 for mark in marks for name in CRITERIA) / len(CRITERIA) / len(marks)
        measured = arm["metrics"]["marks"]
        assert measured["value"] == pytest.approx(by_hand)
        assert measured["title"] == "Judge marks: score (judge score, unvalidated)"
        for value in (found["value"] for found in arm["metrics"].values() if found["value"] is not None):
            shown = f"{100 * value:.1f}"
            assert shown in page or f"{value:.3f}" in page, (arm["model"], arm["data"], value)
    wins = [arm["metrics"]["wins"]["value"] for arm in compare["arms"]]
    assert wins == [0.5] * 6, "base against itself; and a judge that goes by the order has seen ties alone"
    described = {arm["model"]: arm for arm in compare["arms"] if arm["data"] == "descriptions.test"}
    assert described["base"]["metrics"]["phantom_shr"]["num_scored"] == 6
    assert described["base"]["metrics"]["small"]["num_failed"] == 6, "what a tiny judge babbles is no score"
    assert {entry["metric"] for entry in compare["described"]} == {"phantom_shr"}
    stated = {(entry["metric"], entry["data"]) for entry in compare["stated"]}
    assert ("phantom_shr", "descriptions.test") in stated and ("phantom_shr", "probes.test") not in stated
    together = [row for row in compare["judges"] if row["data"] == "questions.test"]
    assert together[0]["verdicts"].keys() == {"marks", "checked", "wins"} and together[0]["num_answers"] > 0
    lost = {(row["metric"], row["data"]): row for row in compare["forgotten"]}
    assert lost.keys() == {("exact_match", "probes.test"), ("marks", "probes.test")}
    assert lost["exact_match", "probes.test"]["elsewhere"].keys() <= {"questions.test", "descriptions.test"}
    limits = {row["data"]: row["models"]["base"] for row in compare["cut"]}
    said = read_jsonl(finished / "answers" / "base.jsonl")
    assert limits["descriptions.test"]["num_cut"] == sum(
        row["data"] == "descriptions.test" and row["num_tokens"] == 64 and row["finish_reason"] == "length"
        for row in said
    )
    for row in [*compare["judges"], *compare["described"], *compare["cut"], *compare["forgotten"]]:
        assert re.sub(r"[*_|\\]", "", row["sentence"]) in re.sub(r"[*_|\\]", "", report)
    records = {name: json.loads((finished / "judges" / name / "record.json").read_text()) for name in ("marks", "wins")}
    for name, record in records.items():
        assert record["prompt_sha256"] in report and record["prompt_sha256"] in page, name
    findings = records["marks"]["audit"]["findings"]
    tests = {finding["test"] for finding in findings}
    assert {"repeatability", "length bias", "control: empty", "injection"} <= tests
    swapped = {finding["test"]: finding for finding in records["wins"]["audit"]["findings"]}
    assert swapped["order swap"]["is_worry"] and swapped["self-comparison"]["is_worry"]
    assert all(finding["says"].partition("(")[0] in page for finding in [*findings, *swapped.values()])
    assert "judge score, unvalidated" in report and "## Answers cut at max_new_tokens" in report
    assert KEY not in "".join(content.decode("utf-8", "replace") for content in every_file(finished).values())
    judgement = json.loads((finished / "judges/small/ha_dpo/base/descriptions.test.plain/judgement.json").read_text())
    assert judgement == {"run1": {}}


def test_a_finished_study_asks_nothing_anew_not_even_for_the_key(
    study_file: Path, finished: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    before, asked = every_file(finished), len(server.bodies)
    ended = run(study_file, finished)
    assert ended.code == 0, ended.err
    assert len(server.bodies) == asked
    assert every_file(finished) == before


@pytest.mark.slow
def test_a_study_killed_while_it_is_judged_goes_on(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unjudged(finished, tmp_path / "run", "marks", "checked")
    asked, server.delay_seconds = len(server.bodies), 0.1
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(study_file), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while len(server.bodies) < asked + 40 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_at, server.delay_seconds = len(server.bodies) - asked, 0.0
    assert killed_at >= 40 and not (out / "compare.json").exists()
    ended = run(study_file, out)
    assert ended.code == 0, ended.err
    for judge in ("marks", "checked"):
        assert scores(out, judge) == scores(finished, judge)
    num_calls = sum(
        json.loads((finished / "judges" / name / "record.json").read_text())["spent"]["num_answered"]
        for name in ("marks", "checked")
    )
    assert num_calls <= len(server.bodies) - asked <= num_calls + 16, "at most the calls in flight are made twice"


def test_failed_calls_are_counted_score_nothing_and_are_asked_again_alone(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unjudged(finished, tmp_path / "run", "marks")
    server.share, server.faults = 0.3, ("500", "reset", "broken JSON")
    ended = run(study_file, out)
    assert ended.code == 0, ended.err
    rows = scores(out, "marks")
    failed = [row for row in rows if row["outcome"] == "failed"]
    assert len(rows) / 10 < len(failed) < len(rows) / 2
    assert {row["value"] for row in failed} == {
        None
    } and f"warning: marks: {len(failed)} answers have no score" in ended.err
    assert [row for row in rows if row["outcome"] == "scored"] == [
        row for row, kept in zip(scores(finished, "marks"), rows, strict=True) if kept["outcome"] == "scored"
    ]
    compare = json.loads((out / "compare.json").read_text())
    said = [entry for entry in compare["stated"] if entry["metric"] == "marks"]
    assert {entry["verdict"] for entry in said} == {"cannot decide"} and "judge marks did not" in said[0]["sentence"]
    assert not list((out / "scores").glob("*/marks.manifest.json"))
    num_open = num_unanswered(out, "marks")
    server.share, asked = 0.0, len(server.bodies)
    assert run(study_file, out).code == 0
    assert scores(out, "marks") == scores(finished, "marks")
    assert len(server.bodies) - asked == num_open > 0, "each once; equal answers share a call"


def test_a_dead_judge_stops_the_study_prints_no_number_and_goes_on_when_it_is_back(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unjudged(finished, tmp_path / "run", "marks")
    server.statuses = [*[(200, {})] * 30, (401, {"message": "who are you?"})]
    asked = len(server.bodies)
    ended = run(study_file, out)
    assert (ended.code, ended.out) == (3, "")
    assert server.address in ended.err and "unauthorised: 401 who are you?" in ended.err
    assert not [*out.glob("scores/*/marks.*")] and not [*out.glob("compare.json"), *out.glob("report.*")]
    num_made, server.statuses = len(server.bodies) - asked, []
    assert 30 < num_made <= 30 + 16, "those in flight"
    assert run(study_file, out).code == 0
    assert scores(out, "marks") == scores(finished, "marks")
    num_calls = json.loads((finished / "judges/marks/record.json").read_text())["spent"]["num_answered"]
    assert num_calls <= len(server.bodies) - asked <= num_calls + 16


def test_what_another_judge_said_does_not_stand_in_for_one_that_is_dead(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    server.statuses = [(401, {"message": "who are you?"})]
    ended = sightline_command("run", study_file, "--out", out, "--set", "judges.marks.temperature=0.5")
    assert ended.code == 3, ended.err
    assert not list(out.glob("scores/*/marks.jsonl")) and len(list(out.glob("scores/*/checked.jsonl"))) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("judges.small={kind: pairwise, base: builtin:tiny, against: sfd}", "judges.small.against: sfd is not among"),
        ("evaluate.on=probes.test", "judges.small: kind shr has nothing to judge in evaluate.on; every row is no desc"),
        ("judges.marks.key_env=NO_SUCH_KEY", "NO_SUCH_KEY holds no key"),
        ("judges.marks.rubric=none.yaml", "rubric: there is no file"),
    ],
)
def test_a_judge_that_could_not_judge_is_refused_before_anything_is_made(
    study_file: Path, tmp_path: Path, override: str, message: str
) -> None:
    ended = sightline_command("run", study_file, "--out", tmp_path / "run", "--set", override, "--set", "compare=[]")
    assert ended.code == 2 and message in ended.err
    assert not (tmp_path / "run" / "models").exists()

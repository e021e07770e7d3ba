"""A study that asks a model on a server beside its own: from the study file to the report, and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import os
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
from sightline.errors import StudyError
from sightline.generation import retries
from sightline.generation.ledger import Ledger
from sightline.records import NO_ANSWER
from sightline.runner import run_study
from sightline.runner.display import Display
from sightline.runner.estimate import destinations
from sightline.runner.served import notes_of_served_models
from sightline.runner.verify import verify_report
from sightline.storage import json_line, read_jsonl, write_file
from sightline.study import load_study, plan_study
from tiny_studies import Ended, contents, sightline_command

ROOT = Path(__file__).parents[2]
SETS = ("scans.test", "elsewhere.test")
KEY = "sk-sentinel-key"
STUDY = """
name: served
base: builtin:tiny
data:
  scans: {source: builtin:phantom, images: 6, seed: 0, split: {test: 1.0}}
  elsewhere: {source: builtin:phantom, subset: probes-popular, images: 1, seed: 1, split: {test: 1.0}}
steps: {}
models: {gpt: {server: ADDRESS, model: some, key_env: MODEL_KEY, send_images: true, tries: 1, input_price: 1,
               output_price: 2}}
evaluate:
  on: scans.test
  untouched: elsewhere.test
  rows: 14
  metrics: [closed_accuracy, nll, rubric]
  prompts: {plain: "{question}", short: "{question} Yes or no?"}
  max_new_tokens: 4
  decoding: {elsewhere.test: {max_new_tokens: 6}}
  pictures_matter: true
judges: {rubric: {kind: rubric, server: ADDRESS, model: judge, audit_rows: 0}}
compare: [{model: gpt, by: closed_accuracy}]
"""
MARKS = dict.fromkeys(("correctness", "steerability", "helpfulness", "hallucination_avoidance", "safety"), 4)


def reply(body: dict[str, Any]) -> str:
    """Marks; or yes, no or not a word, and which depends on the prompt alone."""
    prompt = prompt_of(body)
    if body["model"] == "judge":
        return json.dumps({"reason": "so", **MARKS})
    number = hashlib.sha256(prompt.encode()).digest()[0]
    return "" if number % 8 == 0 else "Yes." if number % 2 else "No."


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serve_judge(JudgeServer(judge=reply)) as server:
        yield server


@pytest.fixture(autouse=True)
def healthy(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("MODEL_KEY", KEY)
    server.share, server.delay_seconds, server.statuses = 0.0, 0.0, []


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, server: JudgeServer) -> Path:
    file = tmp_path_factory.mktemp("served") / "study.yaml"
    file.write_text(STUDY.replace("ADDRESS", server.address), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(study_file: Path) -> Path:
    """The directory of the whole study, run once; to be copied before it is changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_KEY", KEY)
        return carry_out(study_file, study_file.parent / "run")


def carry_out(study_file: Path, out: Path, *overrides: str) -> Path:
    """Run the study, without drawing its figures."""
    run_study(load_study(study_file, overrides=overrides), out, with_figures=False, display=Display(quiet=True))
    return out


def refused(study_file: Path, *overrides: str, command: str = "check") -> Ended:
    ended = sightline_command(command, study_file, *(word for text in overrides for word in ("--set", text)))
    assert ended.code == 2, ended.err
    return ended


def unanswered(finished: Path, out: Path) -> Path:
    """Copy a finished study as it was before its model on a server was asked."""
    shutil.copytree(finished, out)
    for folder in ("served", "scores/gpt", "pictures_matter/gpt"):
        shutil.rmtree(out / folder)
    for file in (*out.glob("answers/gpt.*"), *out.glob("judges/*/gpt.jsonl"), out / "compare.json", out / "report.md"):
        file.unlink()
    return out


def answers(out: Path, model: str = "gpt") -> list[dict[str, Any]]:
    return read_jsonl(out / "answers" / f"{model}.jsonl")


def asked_of(server: JudgeServer, model: str) -> list[str]:
    return [prompt_of(body) for body in server.bodies if body["model"] == model]


def test_it_is_asked_what_the_base_is_asked_and_its_answers_are_scored_as_any(finished: Path) -> None:
    theirs, ours = answers(finished), answers(finished, "base")
    places = ("sample_id", "data", "template", "k")
    assert [[row[key] for key in places] for row in theirs] == [[row[key] for key in places] for row in ours]
    assert theirs[0].keys() == ours[0].keys() and {row["model"] for row in theirs} == {"gpt"}
    assert {(row["finish_reason"], row["num_tokens"]) for row in theirs} == {("stop", 10)}
    compare = json.loads((finished / "compare.json").read_text(encoding="utf-8"))
    arms = {(arm["model"], arm["data"], arm["template"]): arm["metrics"] for arm in compare["arms"]}
    samples = {row["id"]: row for row in read_jsonl(finished / "data/scans.test.jsonl")}
    closed = [
        row["text"].lower() == f"{samples[row['sample_id']]['answer']}."
        for row in theirs
        if (row["data"], row["template"]) == ("scans.test", "short")
        and samples[row["sample_id"]]["answer"] in ("yes", "no")
    ]
    assert len(closed) > 5
    assert arms["gpt", "scans.test", "short"]["closed_accuracy"]["value"] == pytest.approx(sum(closed) / len(closed))
    assert arms["gpt", "elsewhere.test", "plain"]["rubric"]["value"] == pytest.approx(0.75)
    assert {entry["data"] for entry in compare["stated"]} == {"scans.test", "elsewhere.test"}
    assert not compare["forgotten"], "it was not made from base"


def test_an_empty_answer_is_an_answer_scored_as_any_and_counted_in_a_note(finished: Path) -> None:
    empty = {(row["data"], row["sample_id"], row["template"]) for row in answers(finished) if not row["text"]}
    assert len(empty) > 2 and {row["finish_reason"] for row in answers(finished)} == {"stop"}
    rows = {
        (row["data"], row["sample_id"], row["template"]): row
        for row in read_jsonl(finished / "scores/gpt/closed_accuracy.jsonl")
    }
    asked = [rows[place] for place in empty if rows[place]["outcome"] != "not_applicable"]
    assert asked and {(row["outcome"], row["value"]) for row in asked} == {("unparsed", None)}
    note = f"gpt: {len(empty)} of {len(answers(finished))} answers are empty. They are scored as any model's"
    assert any(said.startswith(note) for said in json.loads((finished / "compare.json").read_text())["notes"])


def test_the_note_tells_what_was_cut_or_withheld_from_what_had_nothing_to_say(study_file: Path, tmp_path: Path) -> None:
    study, ends = load_study(study_file), ("stop", "length", "content_filter", "length", NO_ANSWER)
    rows = [{"text": "", "finish_reason": end, "reason": "timeout"} for end in ends]
    write_file(tmp_path / "answers/gpt.jsonl", "".join(map(json_line, rows)))
    notes = notes_of_served_models(study, plan_study(study), tmp_path)
    why = "1 withheld by the server's filter, 2 cut before the first word"
    assert f"gpt: 4 of 5 answers are empty ({why}). They are scored as any model's empty answers are." in notes


def test_what_needs_likelihoods_is_absent_and_the_report_says_why(finished: Path) -> None:
    compare = json.loads((finished / "compare.json").read_text(encoding="utf-8"))
    for arm in compare["arms"]:
        assert (arm["metrics"]["nll"]["value"] is None) == (arm["model"] == "gpt")
    assert not [entry for entry in compare["exploratory"] if entry["metric"] == "nll"]
    report = (finished / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "gpt has no nll: a server gives no likelihoods." in report
    assert "it calls itself judge-2026-11" in report and "gpt some on http://127.0.0.1" in report
    num_calls = json.loads((finished / "served/gpt/record.json").read_text(encoding="utf-8"))["spent"]["num_answered"]
    assert f"{num_calls:,} replies, {100 * num_calls:,} tokens of prompts, {10 * num_calls:,} of replies" in report
    assert f"cost {num_calls * 120 / 1e6:.4g}" in report, "100 tokens at 1 and 10 at 2 the million"


def test_each_set_is_answered_at_its_own_length(finished: Path, server: JudgeServer) -> None:
    lengths = {body["max_completion_tokens"] for body in server.bodies if body["model"] == "some"}
    assert lengths == {4, 6}
    longest = {name: max(r["num_tokens"] for r in answers(finished, "base") if r["data"] == name) for name in SETS}
    assert longest == {"scans.test": 4, "elsewhere.test": 6}
    cut = json.loads((finished / "compare.json").read_text(encoding="utf-8"))["cut"]
    assert {row["data"]: row["limit"] for row in cut} == longest


def test_it_looks_at_the_picture_or_does_not(finished: Path) -> None:
    entries = json.loads((finished / "pictures_matter.json").read_text(encoding="utf-8"))["models"]
    (entry,) = [entry for entry in entries if (entry["model"], entry["data"]) == ("gpt", "scans.test")]
    assert entry["metrics"].keys() == {"closed_accuracy"}, "the base's entry has its loss besides"
    values = entry["metrics"]["closed_accuracy"]["values"]
    assert values["own"] == values["blank"] == values["other"], "our server goes by the words alone"


def test_nothing_is_asked_twice_and_the_key_stands_nowhere(
    finished: Path, study_file: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, num_asked = contents(finished, ("*", "*/*", "*/*/*")), len(server.bodies)
    monkeypatch.delenv("MODEL_KEY")
    carry_out(study_file, finished)
    assert len(server.bodies) == num_asked and contents(finished, ("*", "*/*", "*/*/*")) == before
    assert KEY not in "".join(content.decode("utf-8", "replace") for content in before.values())
    assert {key for body, key in zip(server.bodies, server.keys, strict=True) if body["model"] == "some"} == {
        f"Bearer {KEY}"
    }


def test_a_failed_call_is_no_answer_counted_and_asked_again_alone(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unanswered(finished, tmp_path / "run")
    server.share, server.faults = 0.3, ("500", "reset", "broken JSON")
    carry_out(study_file, out)
    missing = [row for row in answers(out) if row["finish_reason"] == NO_ANSWER]
    assert 2 < len(missing) < len(answers(out)) / 2
    assert {(row["text"], row["num_tokens"]) for row in missing} == {("", None)} and all(
        row["reason"] for row in missing
    )
    names = {(row["sample_id"], row["template"]) for row in missing}
    for metric in ("closed_accuracy", "rubric"):
        rows = read_jsonl(out / "scores/gpt" / f"{metric}.jsonl")
        failed = {(row["sample_id"], row["template"]) for row in rows if row["outcome"] == "failed"}
        asked = {(row["sample_id"], row["template"]) for row in rows if row["outcome"] != "not_applicable"}
        assert failed == names & asked and {row["value"] for row in rows if row["outcome"] == "failed"} == {None}
    compare = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert any(f"gpt has no answer to {len(missing)} of {len(answers(out))}" in note for note in compare["notes"])
    assert {entry["verdict"] for entry in compare["stated"]} == {"cannot decide"}
    assert {entry["detail"].split(": ")[1].rpartition(" ")[0] for entry in compare["stated"]} == {"no answer came on"}
    assert verify_report(out).found == []
    assert not list(out.glob("answers/gpt.manifest.json"))
    ledger = Ledger(out / "served/gpt/calls.jsonl")
    ledger.close()
    num_open = len({reply.key for reply in ledger.rows} - ledger.answered.keys())
    server.share, num_asked = 0.0, len(asked_of(server, "some"))
    carry_out(study_file, out)
    assert len(asked_of(server, "some")) - num_asked == num_open >= len(missing)
    for file in ("answers/gpt.jsonl", "scores/gpt/closed_accuracy.jsonl", "scores/gpt/rubric.jsonl"):
        assert (out / file).read_bytes() == (finished / file).read_bytes()


def test_a_dead_server_stops_the_study_and_what_was_answered_is_kept(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unanswered(finished, tmp_path / "run")
    server.statuses = [*[(200, {})] * 12, (401, {"message": "who are you?"})]
    num_asked = len(asked_of(server, "some"))
    ended = sightline_command("run", study_file, "--out", out, "--set", "models.gpt.concurrency=1")
    assert (ended.code, ended.out) == (3, "")
    assert server.address in ended.err and "unauthorised: 401 who are you?" in ended.err
    assert not [*out.glob("answers/gpt.*"), *out.glob("scores/gpt/*"), *out.glob("compare.json")]
    assert answers(out, "base") == answers(finished, "base")
    ledger = Ledger(out / "served/gpt/calls.jsonl")
    ledger.close()
    assert len(ledger.answered) == 12 and len(asked_of(server, "some")) - num_asked == 13


@pytest.mark.slow
def test_a_killed_study_repeats_at_most_the_calls_in_flight(
    study_file: Path, finished: Path, server: JudgeServer, tmp_path: Path
) -> None:
    out = unanswered(finished, tmp_path / "run")
    num_asked, server.delay_seconds = len(asked_of(server, "some")), 0.3
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(study_file), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while len(asked_of(server, "some")) < num_asked + 8 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.delay_seconds = 0.0
    assert len(asked_of(server, "some")) >= num_asked + 8 and not list(out.glob("answers/gpt.*"))
    carry_out(study_file, out)
    assert answers(out) == answers(finished)
    num_calls = json.loads((finished / "served/gpt/record.json").read_text(encoding="utf-8"))["spent"]["num_answered"]
    assert num_calls <= len(asked_of(server, "some")) - num_asked <= num_calls + 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.gpt.send_images=false", "models.gpt: its questions show pictures"),
        (
            "compare=[{model: gpt, by: nll}]",
            "models.gpt: a server gives no likelihoods, so it cannot be compared by nll",
        ),
        (
            "steps={more: {from: gpt, on: scans.test}}",
            "steps.more.from: gpt is on a server, which answers and gives no",
        ),
        ("evaluate.num_beams=5", "evaluate.num_beams: 5 on scans.test, and gpt is on a server, which knows no beams"),
        ("evaluate.decoding={scans.tst: {num_beams: 2}}", "scans.tst: no set that is asked is called so; did you mean"),
        ("models.gpt.base=builtin:tiny", "models.gpt: base is of a model here, and server of one elsewhere"),
        ("models.gpt.server=https://me:pass@example.org/v1", "models.gpt: server: the address holds a user name"),
    ],
)
def test_what_could_not_be_asked_is_refused_by_check(study_file: Path, override: str, message: str) -> None:
    assert message in refused(study_file, override).err


def test_a_missing_key_stops_the_run_before_anything_is_made(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_KEY")
    with pytest.raises(StudyError, match="the environment variable MODEL_KEY holds no key"):
        carry_out(study_file, tmp_path / "run")
    assert not (tmp_path / "run" / "answers").exists()


def test_the_server_is_named_as_a_destination_with_what_goes_there(study_file: Path) -> None:
    study = load_study(study_file, overrides=["models.gpt.server=https://api.example.org/v1"])
    (place,) = destinations(study, plan_study(study))
    assert place == "questions and pictures to api.example.org (model gpt)"
    blind = load_study(study_file, overrides=["models.gpt={server: 'https://api.example.org/v1'}"])
    assert destinations(blind, plan_study(blind)) == ["questions, no pictures to api.example.org (model gpt)"]
    unasked = load_study(study_file, overrides=["evaluate.models=base", "compare=[]"])
    assert destinations(unasked, plan_study(unasked)) == []


def test_a_smoke_test_asks_no_server(study_file: Path) -> None:
    small = load_study(study_file, smoke=True)
    assert small.models["gpt"].server is None and small.models["gpt"].base == "builtin:tiny"
    assert any("in place of http://127.0.0.1" in note and "(gpt)" in note for note in small.notes)

"""Steps that make data: pairs a judge prefers, the best of several answers, and what happens when judging is chance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer, prompt_of, serve_judge
from killed_studies import assert_same_but_for_costs, finish_despite_kills
from sightline.runner.made_data import notes_of_made_data
from sightline.storage import read_jsonl, recorded_origin, write_manifest
from sightline.study import load_study
from tiny_studies import FINISHED, sightline_command

STUDY = """
name: made
base: builtin:tiny
data:
  phantom: {source: builtin:phantom, images: 20, seed: 3, split: {train: 0.7, test: 0.3, by: image}}
steps:
  sft: {method: sft, from: base, on: phantom.train, max_steps: 2, batch_size: 8}
  pairs:
    {method: critique, from: sft, on: phantom.train, rows: 24, samples: 3, temperature: 3.0, max_new_tokens: 6,
     judge: JUDGE}
  best: {method: best_of, from: sft, on: phantom.train, by: token_f1, rows: 12, samples: 3, max_new_tokens: 6}
  again: {method: best_of, from: sft, on: best, by: token_f1, samples: 2, max_new_tokens: 6}
  dpo: {method: dpo, from: sft, on: pairs, max_steps: 2, batch_size: 3}
  more: {method: sft, from: sft, on: best, max_steps: 2, batch_size: 3}
judges:
  checked: {kind: pairwise, server: ADDRESS, model: judge, send_images: true, audit_rows: 0}
evaluate: {on: phantom.test, metrics: [exact_match, nll], rows: 8, max_new_tokens: 4}
compare: [{model: dpo, against: sft}, {model: more, against: sft}]
"""


def longest_is_best(body: dict[str, Any]) -> str:
    """Calls the longer of two responses the better one; equal lengths are a tie."""
    prompt = prompt_of(body)
    first, second = (prompt.split(f"The {place} response: [")[1].split("]\n")[0] for place in ("first", "second"))
    if len(first) == len(second):
        return "Both responses are equally good."
    return f"The {'first' if len(first) > len(second) else 'second'} response is better."


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serve_judge(JudgeServer(judge=longest_is_best)) as server:
        yield server


def write(folder: Path, *, judge: str, server: JudgeServer, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(STUDY.replace("JUDGE", judge).replace("ADDRESS", server.address) + more, encoding="utf-8")
    return path


def finished(out: Path) -> dict[str, bytes]:
    patterns = (*FINISHED, "drawn/*")
    return {str(f.relative_to(out)): f.read_bytes() for p in patterns for f in out.glob(p) if f.is_file()}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, server: JudgeServer) -> tuple[Path, Path]:
    study = write(tmp_path_factory.mktemp("made"), judge="checked", server=server)
    ended = sightline_command("run", study, "--out", study.parent / "out")
    assert ended.code == 0, ended.err
    return study, study.parent / "out"


def test_pairs_are_those_that_both_orders_prefer(judged: tuple[Path, Path]) -> None:
    _, out = judged
    duels = read_jsonl(out / "drawn" / "pairs.duels.jsonl")
    answers = {(row["sample_id"], row["k"]): row["text"] for row in read_jsonl(out / "drawn" / "pairs.jsonl")}
    assert len(answers) == 3 * 24
    pairs = read_jsonl(out / "data" / "pairs.jsonl")
    assert len(pairs) > 3
    for pair in pairs:
        texts = [answers[pair["id"], int(pair["tags"][f"{side}_k"])] for side in ("chosen", "rejected")]
        assert texts == [pair["answer"], pair["rejected"]]
        assert len(texts[0]) > len(texts[1])
    for duel in duels:
        longer = len(duel["texts"][0]) - len(duel["texts"][1])
        expected = "win" if longer > 0 else "loss" if longer < 0 else "tie"
        assert (duel["when_first"], duel["when_second"]) == (expected, expected)
    record = json.loads((out / "data" / "pairs.record.json").read_text())
    assert record["num_pairs"] == len(pairs) and record["agreement"]["value"] == 1 and not record["stopped"]
    assert (record["judge"], record["num_questions"], record["num_unreadable"]) == ("checked", 24, 0)
    assert record["num_near"] == sum(duel["nearly_the_same"] for duel in duels)


def test_every_made_row_says_where_it_comes_from(judged: tuple[Path, Path]) -> None:
    _, out = judged
    drawn = {"made_by": "pairs", "answered_by": "sft", "seed": "0", "temperature": "3.0", "max_new_tokens": "6"}
    [prompt] = {json.loads(file.read_text())["prompt_sha256"] for file in out.glob("data/pairs.record.json")}
    told = drawn | {"judged_by": "checked", "prompt_sha256": prompt, "when_first": "win", "when_second": "win"}
    for pair in read_jsonl(out / "data" / "pairs.jsonl"):
        assert told.items() <= pair["tags"].items()
        assert {pair["tags"]["chosen_k"], pair["tags"]["rejected_k"]} < {"0", "1", "2"}
    for row in read_jsonl(out / "data" / "again.jsonl"):  # of rows that were made themselves, the last making counts
        assert (row["tags"]["made_by"], row["tags"]["judged_by"]) == ("again", "token_f1")


def test_questions_are_drawn_and_not_the_first(judged: tuple[Path, Path]) -> None:
    _, out = judged
    all_ids = [row["id"] for row in read_jsonl(out / "data" / "phantom.train.jsonl")]
    asked = list(dict.fromkeys(row["sample_id"] for row in read_jsonl(out / "drawn" / "pairs.jsonl")))
    assert len(asked) == 24 and asked != all_ids[:24]
    assert asked == [name for name in all_ids if name in set(asked)]


def test_made_rows_are_looked_at_when_they_are_made(judged: tuple[Path, Path]) -> None:
    _, out = judged
    before = json.loads((out / "checks.json").read_text())
    assert [found["message"] for found in before if found["message"].startswith("pairs:")] == [
        "pairs: made by the study itself, from 24 questions of phantom.train; its rows are checked when they are made"
    ]
    record = json.loads((out / "data" / "pairs.record.json").read_text())
    told = {found["name"]: found["message"] for found in record["findings"]}
    assert told["data-size"].startswith(f"pairs: {record['num_pairs']} rows")
    assert told["trained-tokens"].startswith("pairs, rejected: tokens trained: image 0 of")


def test_the_best_of_several_is_learnt(judged: tuple[Path, Path]) -> None:
    _, out = judged
    record = json.loads((out / "data" / "best.record.json").read_text())
    rows = read_jsonl(out / "data" / "best.jsonl")
    assert 0 < len(rows) == record["num_rows"] <= 12
    assert record["best"] >= record["mean"]
    answers = {(row["sample_id"], row["k"]): row["text"] for row in read_jsonl(out / "drawn" / "best.jsonl")}
    for row in rows:
        assert row["answer"] == answers[row["id"], int(row["tags"]["chosen_k"])]
        assert float(row["tags"]["score"]) > 0


def test_made_rows_can_be_asked_about_again(judged: tuple[Path, Path]) -> None:
    _, out = judged
    asked = {row["id"]: row["answer"] for row in read_jsonl(out / "data" / "best.jsonl")}
    assert {row["sample_id"] for row in read_jsonl(out / "drawn" / "again.jsonl")} == asked.keys()
    assert 0 < len(read_jsonl(out / "data" / "again.jsonl")) <= len(asked) < 12


def test_how_it_went_is_in_the_comparison(judged: tuple[Path, Path]) -> None:
    _, out = judged
    told = (out / "report.md").read_text(encoding="utf-8")
    assert "pairs from 24 questions, 3 answers each" in told and "Both orders agree on 100%" in told
    assert "Token F1 of a drawn answer" in told


def test_rows_made_by_an_older_version_are_said_not_to_have_been_looked_at(
    judged: tuple[Path, Path], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(judged[1], tmp_path / "out"))
    file, manifest = out / "data" / "pairs.record.json", out / "data" / "pairs.manifest.json"
    record = json.loads(file.read_text())
    del record["findings"]
    file.write_text(json.dumps(record))
    files = [manifest.parent / name for name in json.loads(manifest.read_text())["files"]]
    write_manifest(manifest, files, made_from=recorded_origin(manifest) or {})
    notes = notes_of_made_data(load_study(out), out)
    assert notes[:2] == [
        f"pairs: {record['sentence']}",
        "pairs: made by an older version of sightline, which did not look at the rows it made.",
    ]
    assert not any("older" in note for note in notes[2:])


def test_a_second_run_changes_no_byte_and_asks_nobody(judged: tuple[Path, Path], server: JudgeServer) -> None:
    study, out = judged
    before, asked = finished(out), len(server.bodies)
    assert sightline_command("run", study, "--out", out).code == 0
    assert finished(out) == before
    assert len(server.bodies) == asked


def test_other_settings_are_refused_in_the_same_directory(judged: tuple[Path, Path]) -> None:
    study, out = judged
    ended = sightline_command("run", study, "--out", out, "--set", "steps.pairs.temperature=2")
    assert ended.code == 2
    assert "temperature 3.0 then, 2.0 now" in ended.err


def test_a_model_at_chance_stops_what_waits_for_it_and_nothing_else(tmp_path: Path, server: JudgeServer) -> None:
    study = write(tmp_path, judge="self", server=server)
    ended = sightline_command("run", study, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "is not made; judge by another model" in ended.out + ended.err
    out = tmp_path / "out"
    compared = (out / "compare.json").read_text(encoding="utf-8")
    assert "The question dpo against sft, stated before the run, could not be answered." in compared
    assert not (out / "models" / "dpo").exists() and (out / "models" / "more").exists()
    told = (out / "report.md").read_text(encoding="utf-8")
    assert "chance" in told and "Not made: dpo." in told
    compared = json.loads((out / "compare.json").read_text())
    assert [entry["model"] for entry in compared["stated"]] == ["more"]
    before = finished(out)
    assert sightline_command("run", study, "--out", out).code == 0
    assert finished(out) == before


def test_accepting_chance_makes_the_set_again_of_the_same_answers(
    judged: tuple[Path, Path], server: JudgeServer, tmp_path: Path
) -> None:
    study, _ = judged
    out = tmp_path / "out"
    few = ("--out", out, "--set", "steps.pairs.rows=6", "--until", "pairs")
    assert sightline_command("run", study, *few).code == 0
    record = json.loads((out / "data" / "pairs.record.json").read_text())
    drawn, asked = (out / "drawn" / "pairs.jsonl").read_bytes(), len(server.bodies)
    assert record["num_pairs"] > 0 and record["at_chance"] and record["stopped"]
    assert not (out / "data" / "pairs.jsonl").read_bytes()
    ended = sightline_command("run", study, *few, "--set", "accept.critique-at-chance=a test of the machinery")
    assert ended.code == 0, ended.err
    record = json.loads((out / "data" / "pairs.record.json").read_text())
    assert (
        not record["stopped"] and "Learnt from all the same (accepted: a test of the machinery)" in record["sentence"]
    )
    assert len(read_jsonl(out / "data" / "pairs.jsonl")) == record["num_pairs"]
    assert (out / "drawn" / "pairs.jsonl").read_bytes() == drawn
    assert len(server.bodies) == asked


def test_until_ends_where_its_step_was_lost(tmp_path: Path, server: JudgeServer) -> None:
    study = write(tmp_path, judge="self", server=server)
    ended = sightline_command("run", study, "--out", tmp_path / "out", "--until", "dpo")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "out" / "answers").exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_byte_for_byte_the_same(judged: tuple[Path, Path], tmp_path: Path) -> None:
    study, whole = judged
    finish_despite_kills(study, tmp_path / "killed", "--no-figures", whole=whole, seed=0)
    assert_same_but_for_costs(tmp_path / "killed", whole)

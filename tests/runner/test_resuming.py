"""What stands in the way of a study's end: a second process, signals, files that were torn."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_studies import SMALL, contents, run_study_file, sightline_command, write_small_study

ROOT = Path(__file__).parents[2]
NUM_STEPS = 30
MADE = ("models/*/adapter*", "answers/*.jsonl", "scores/*/*.jsonl", "compare.json")


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_study(tmp_path_factory.mktemp("resuming"), SMALL)


@pytest.fixture(scope="module")
def finished(study_file: Path) -> Path:
    """The directory of a finished study; to be copied before it is changed."""
    return run_study_file(study_file, "--out", study_file.parent / "study")


def start(study_file: Path, out: Path) -> subprocess.Popen[str]:
    """Start a study of many steps in a process of its own, and wait until it has something to lose."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(study_file), "--out", str(out), *long_study()],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = out / "models" / ".sft.work" / "step-00000005" / "manifest.json"
    deadline = time.monotonic() + 120
    while not saved.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=10)
        time.sleep(0.02)
    return process


def long_study() -> tuple[str, ...]:
    return ("--set", f"steps.sft.max_steps={NUM_STEPS}", "--set", "steps.sft.save_every=5")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_study_and_the_same_command_finishes_it(
    study_file: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "study"
    process = start(study_file, out)
    try:
        second = sightline_command("run", study_file, "--out", out, *long_study())
        assert second.code == 2
        assert f"{out}: process {process.pid} is at work there; wait for it, or give another --out" in second.err
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, printed) == (code, "")
    assert "Traceback" not in said and said.endswith("interrupted; the same command goes on from here\n")

    ended = sightline_command("run", study_file, "--out", out, *long_study())
    assert (ended.code, ended.out) == (0, f"{out / 'report.html'}\n"), ended.err
    assert "from an earlier run" in ended.err
    lines = (out / "models/sft/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, NUM_STEPS + 1))
    assert not [*(out / "models").glob(".*")]


@pytest.mark.parametrize(
    "name", ["models/sft/adapter_model.safetensors", "answers/base.jsonl", "scores/base/nll.jsonl"]
)
def test_a_torn_file_is_made_again(study_file: Path, finished: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    ended = sightline_command("run", study_file, "--out", copy)
    assert ended.code == 0 and contents(copy, MADE) == contents(finished, MADE), ended.err
    again = {"answers/base.jsonl": "base: asked again", "scores/base/nll.jsonl": "base: scored again"}.get(name)
    assert again is None or f"{again}: {copy / name} does not match its hash" in ended.err


@pytest.mark.parametrize("name", ["models/sft", "answers/base.jsonl", "scores/sft", "scores/base/nll.jsonl"])
def test_what_is_missing_is_made_again(study_file: Path, finished: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    place = copy / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    run_study_file(study_file, "--out", copy)
    assert contents(copy, MADE) == contents(finished, MADE)


def test_other_questions_are_asked_anew_of_the_same_models(study_file: Path, finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    ended = sightline_command("run", study_file, "--out", copy, "--set", "evaluate.rows=20")
    assert ended.code == 0 and "sft: finished earlier" in ended.err and "sft: answers: 20 answers" in ended.err
    assert "sft: asked again: rows None then, 20 now" in ended.err
    assert contents(copy, ["models/*/*"]) == contents(finished, ["models/*/*"])
    assert all(len(text.splitlines()) == 20 for text in contents(copy, ["answers/*.jsonl"]).values())


BOTH_SETS = (
    *("--set", "evaluate.on=[data.test, data.train]"),
    *("--set", "accept.same-row-in-train-and-test=a test of what is left behind"),
)


def test_a_set_that_is_no_longer_asked_leaves_nothing_behind(study_file: Path, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    both = sightline_command("run", study_file, "--out", copy, *BOTH_SETS)
    assert both.code == 0 and contents(copy, ["compare.json"]) != contents(finished, ["compare.json"]), both.err
    run_study_file(study_file, "--out", copy)
    assert contents(copy, MADE) == contents(finished, MADE)

"""Studies in processes of their own, killed at random moments, and what must be the same once they are finished."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.report.build import build_report

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 1200
COSTS = ("run.json", "spent.json", "models/*/metrics.jsonl")
"""Files that say how many seconds and how much memory everything took."""

TOLD = ("report.*", "figures/*", "tables/*")
"""Files in which the report tells of the costs; all that stands in them is in other files."""


def start(study: Path, out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a study in its own process group, one thread, so that the same bits come whatever else runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(study), "--out", str(out), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(study: Path, out: Path, *arguments: str) -> float:
    """Let a study finish; returns the seconds that took."""
    began = time.perf_counter()
    assert start(study, out, *arguments).wait(timeout=LIMIT_SECONDS) == 0
    return time.perf_counter() - began


def finish_despite_kills(study: Path, out: Path, *arguments: str, whole: Path, seed: int, num_kills: int = 5) -> None:
    """Kill a study at random moments, one in each part of its way, then let it finish.

    How far it has come is counted in files, so that the moments are the same on a busy machine; each is followed by
    a random while, so that they do not all lie where a file has just been written.

    Args:
        study: its file.
        out: its directory.
        arguments: of the command line.
        whole: the directory in which it was never disturbed.
        seed: of the moments.
        num_kills: how often.
    """
    faulthandler.cancel_dump_traceback_later()  # pytest would end a test that takes so long
    moments, num_files = random.Random(seed), _num_files(whole)
    for part in range(num_kills):
        goal = (part + moments.random()) / num_kills * num_files
        goal = min(max(goal, _num_files(out) + 1), num_files - 1)  # it comes further than the time before
        process, deadline = start(study, out, *arguments), time.monotonic() + LIMIT_SECONDS
        try:
            while process.poll() is None and _num_files(out) < goal and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(moments.uniform(0, 0.5))
            assert process.poll() is None, f"it ended by itself with {process.returncode}, before its file {goal:.0f}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print(f"seed {seed}: killed after {_num_files(out)} of {num_files} files, the last {_newest(out)}")
    finish(study, out, *arguments)


def _num_files(out: Path) -> int:
    return sum(len(files) for *_, files in os.walk(out))  # which passes over folders that vanish meanwhile


def _newest(out: Path) -> str:
    times = {name: (out / name).stat().st_mtime_ns for name in _names(out, "**/*") if name != ".lock"}
    return max(times, key=times.__getitem__, default="none")


def assert_same_but_for_costs(killed: Path, whole: Path) -> None:
    """Compare every byte of two directories of a study; the costs of the first are overwritten with the second's.

    A report tells of costs in many places, so it is built anew from the same costs before it is compared.
    """
    found, expected = _contents(killed), _contents(whole)
    assert found.keys() == expected.keys()
    told = {file for pattern in TOLD for file in _names(whole, pattern)}
    differ = [name for name in expected if name not in told and found[name] != expected[name]]
    assert differ == [], differ  # this module's assertions are not rewritten, and would not say what they found
    for name in (name for pattern in COSTS for name in _names(whole, pattern)):
        shutil.copy(whole / name, killed / name)
    build_report(killed, with_figures=(whole / "figures").exists())
    assert len(told) > 2
    assert [name for name in told if (killed / name).read_bytes() != (whole / name).read_bytes()] == []


def _names(out: Path, pattern: str) -> list[str]:
    return [file.relative_to(out).as_posix() for file in sorted(out.glob(pattern)) if file.is_file()]


def _contents(out: Path) -> dict[str, Any]:
    """Read every file of a study by its path, the costs left out; hidden ones too, but for the lock."""
    return {name: _without_costs(out, name) for name in _names(out, "**/*") if name != ".lock"}


def _without_costs(out: Path, name: str) -> Any:
    content = (out / name).read_bytes()
    if name in ("run.json", "spent.json"):
        return json.loads(content, parse_float=lambda _: 0.0)
    if Path(name).match("models/*/metrics.jsonl"):
        return [_without(row, "seconds") for row in map(json.loads, content.splitlines())]
    if Path(name).match("models/*/manifest.json"):
        made = json.loads(content)
        return made | {"files": _without(made["files"], "metrics.jsonl")}
    if Path(name).match("judges/*/calls.jsonl"):  # in whatever order replies came, and whichever a kill made ask again
        replies = [row["reply"] for row in map(json.loads, content.splitlines()) if "reply" in row]
        return {reply["key"]: _without(reply, "num_lost") for reply in replies}
    return content


def _without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}

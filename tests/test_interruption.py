"""A study killed at random moments and started again ends byte for byte as one that was never interrupted."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IDENTICAL = (
    "models/*/adapter_model.safetensors",
    "models/*/adapter_config.json",
    "answers/*.jsonl",
    "scores/*/*.jsonl",
)


def start(out: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """Start the demo in its own process group, one thread, so that the same bits come whatever else runs."""
    sets = [part for override in overrides for part in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, "-m", "sightline", "run", str(ROOT / "recipes" / "demo.yaml"), "--out", str(out), *sets],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def digests(out: Path) -> dict[str, str]:
    return {
        file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for pattern in IDENTICAL
        for file in sorted(out.glob(pattern))
    }


def finish_despite_kills(out: Path, seconds: float, num_kills: int, seed: int, *overrides: str) -> list[str]:
    """Kill the study at random moments of its whole length, then let it finish; say what it was doing each time."""
    moments = random.Random(seed)
    seen = []
    for _ in range(num_kills):
        process = start(out, *overrides)
        time.sleep(moments.uniform(0.25, 0.95) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        models = sorted(place.name for place in (out / "models").glob("*")) if (out / "models").exists() else []
        seen.append(f"{len(models)} folders in models/, {len(list(out.glob('answers/*')))} files in answers/")
    process = start(out, *overrides)
    assert process.wait(timeout=1800) == 0
    return seen


def compare_with_uninterrupted(tmp_path: Path, seed: int, *overrides: str) -> None:
    began = time.perf_counter()
    assert start(tmp_path / "whole", *overrides).wait(timeout=1800) == 0
    seconds = time.perf_counter() - began
    seen = finish_despite_kills(tmp_path / "killed", seconds / 2, 5, seed, *overrides)
    reference, killed = digests(tmp_path / "whole"), digests(tmp_path / "killed")
    print(f"{len(reference)} files; killed at: {'; '.join(seen)}")
    assert len(reference) > 10 and reference == killed
    leftovers = [*(tmp_path / "killed").rglob("*.part"), *(tmp_path / "killed").rglob(".*.work")]
    assert not leftovers


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    compare_with_uninterrupted(tmp_path, 0)


@pytest.mark.slow
def test_a_small_study_with_frequent_checkpoints(tmp_path: Path) -> None:
    compare_with_uninterrupted(tmp_path, 1, "data.phantom.images=60", "steps.lora.save_every=3")

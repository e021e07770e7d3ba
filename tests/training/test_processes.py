"""Two processes train to the same loss trace and adapter as one, float64 to 1e-9."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent


def run(out: Path, num_processes: int) -> dict:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={num_processes}", f"--master-port={port}"]
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, *(launcher if num_processes > 1 else []), str(HERE / "train_in_processes.py"), str(out)],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    return json.loads(out.with_suffix(".json").read_text())


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one.safetensors", 1), run(tmp_path / "two.safetensors", 2)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["trace"]) == len(two["trace"]) > 5
    for alone, together in zip(one["trace"], two["trace"], strict=True):
        assert together == pytest.approx(alone, abs=1e-9)
    ours, theirs = load_file(tmp_path / "two.safetensors"), load_file(tmp_path / "one.safetensors")
    assert ours.keys() == theirs.keys() and next(iter(ours.values())).dtype == torch.float64
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-9)

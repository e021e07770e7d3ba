"""Two processes train to the same records and adapter as one, on answers and on pairs of them: float64 to 1e-9."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.train_in_processes import METHODS, join_and_train, train_by

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def join_as(rank: int, port: int, out: Path) -> None:
    """Be one of two processes, as `torchrun` would have made it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier test may have been one process alone
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    join_and_train(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    for method in METHODS:
        train_by(method, out)
    return out


def assert_same(together: Path, alone: Path, method: str) -> None:
    two, one = (json.loads((out / f"{method}.json").read_text()) for out in (together, alone))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["rows"]) == len(two["rows"]) > 5
    for here, there in zip(two["rows"], one["rows"], strict=True):
        assert here.pop("metrics") == pytest.approx(there.pop("metrics"), abs=1e-9)
        assert here == pytest.approx(there, abs=1e-9)
    ours, theirs = (load_file(out / f"{method}.safetensors") for out in (together, alone))
    assert ours.keys() == theirs.keys() and next(iter(ours.values())).dtype == torch.float64
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a process cannot be forked once CUDA's threads have begun")
def test_two_forked_processes_train_as_one(alone: Path, tmp_path: Path) -> None:
    port, context = free_port(), multiprocessing.get_context("fork")
    processes = [context.Process(target=join_as, args=(rank, port, tmp_path)) for rank in (0, 1)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
    finally:
        for process in processes:
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    for method in METHODS:
        assert_same(tmp_path, alone, method)


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one(alone: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    subprocess.run(
        [sys.executable, *launcher, str(HERE / "train_in_processes.py"), str(tmp_path)],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    for method in METHODS:
        assert_same(tmp_path, alone, method)

"""What every test stands on: no network, no accelerator unless asked for, and the folders beside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HERE = {"", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}
network_allowed = False

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    names = frozenset({names!r})

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.names else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return iter(()) if context.name in cls.names else super().find_distributions(context)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


class NetworkError(RuntimeError):
    """A test without the `network` marker tried to reach another machine."""


def refuse_other_machines(event: str, arguments: tuple) -> None:
    """Audit hook: raise when Python is about to resolve or reach another machine from a test that may not."""
    if network_allowed or event not in {"socket.connect", "socket.getaddrinfo"}:
        return
    address = arguments[1] if event == "socket.connect" else arguments[0]
    host = address[0] if isinstance(address, tuple) else address if event == "socket.getaddrinfo" else ""
    if isinstance(host, bytes):
        host = host.decode()
    if host is not None and str(host) not in HERE:
        raise NetworkError(f"a test tried to reach {host}: mark it `network`, or give it what it wanted to fetch")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the hub's own code offline, pin the thread count, keep off the user's cache, and watch the sockets."""
    if not hasattr(config, "workerinput"):  # workers share their parent's: a picture is looked at once
        cache = tempfile.TemporaryDirectory(prefix="sightline-tests-")
        config.add_cleanup(cache.cleanup)
        os.environ["SIGHTLINE_CACHE"] = cache.name
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.addaudithook(refuse_other_machines)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, saying why."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Open the network to tests marked `network`, and to no others."""
    global network_allowed
    network_allowed = request.node.get_closest_marker("network") is not None
    yield
    network_allowed = False


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real reference data beside the repository; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def python_without() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs Python code in a fresh interpreter in which some packages do not exist.

    `python_without(["torch"], "import sightline.verdict")` returns the finished process with its output as text.
    """

    def run(names: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT.format(names=sorted(names)) + code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )

    return run

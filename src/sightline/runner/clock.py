"""What each piece of a study's work took: seconds and most memory, over all the times the study was started."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sightline.storage import write_file

COMPUTED = ("train ", "evaluate ", "judge ")
"""How the names of what a budget pays for begin."""

GIB = 2**30

KEPT_EVERY_SECONDS = 15.0
"""How much of the work under way is forgotten at most where the process is killed, and nothing can be written."""


class Work:
    """Whether a piece had anything left to do."""

    done: bool | None = None


class Clock:
    """Seconds and peak memory by piece of work.

    A piece that says it did work adds up; one that does not know is counted the first time only. So a study that is
    finished stays byte for byte as it is, however often it is started. While a piece computes, the seconds so far are
    kept on disk, so that even a study that is killed again and again comes to the end of its budget.

    Args:
        path: where both are kept between starts; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.began: float | None = None
        self.seconds: dict[str, float] = {}
        self.peak_memory_gib: dict[str, float] = {}
        if path is not None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                kept = json.loads(path.read_text(encoding="utf-8"))
                self.seconds, self.peak_memory_gib = kept["seconds"], kept["peak_memory_gib"]

    def used(self) -> float:
        """Seconds of training, answering and judging so far, the piece under way included."""
        now = 0.0 if self.began is None else time.perf_counter() - self.began
        return now + sum(value for name, value in self.seconds.items() if name.startswith(COMPUTED))

    @contextlib.contextmanager
    def measure(self, name: str, *, is_here: bool = True) -> Iterator[Work]:
        """Measure what happens inside as one piece; memory only of what computes, and on this machine."""
        computes = name.startswith(COMPUTED)
        knows_peak = computes and is_here and forget_peak()
        self.began = time.perf_counter()
        work = Work()
        try:
            with self._kept_meanwhile(name) if computes and self.path else contextlib.nullcontext():
                yield work
        except BaseException:
            work.done = computes
            raise
        finally:
            seconds = time.perf_counter() - self.began
            self.began = None
            if work.done or (work.done is None and name not in self.seconds):
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
                if knows_peak:
                    self.peak_memory_gib[name] = max(self.peak_memory_gib.get(name, 0.0), peak_gib())
                self._keep(self.seconds)
            elif seconds >= KEPT_EVERY_SECONDS and computes:
                self._keep(self.seconds)  # nothing was done: what was kept meanwhile is taken back

    @contextlib.contextmanager
    def _kept_meanwhile(self, name: str) -> Iterator[None]:
        """Keep the seconds of a piece while it is under way, every now and then."""
        began, before, over = time.perf_counter(), self.seconds.get(name, 0.0), threading.Event()

        def keep() -> None:
            while not over.wait(KEPT_EVERY_SECONDS):
                self._keep(self.seconds | {name: before + time.perf_counter() - began})

        watch = threading.Thread(target=keep, name=f"seconds of {name}", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _keep(self, seconds: Mapping[str, float]) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                write_file(self.path, json.dumps({"seconds": seconds, "peak_memory_gib": self.peak_memory_gib}))


def forget_peak() -> bool:
    """Begin to look for the most memory anew: the accelerator's if there is one, else this process's.

    Returns:
        whether that is possible; without an accelerator, on Linux alone.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM, the peak resident size
        return True
    return False


def peak_gib() -> float:
    """Say how much memory was in use at most since `forget_peak`, in GiB."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    status = Path("/proc/self/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) * 1024 / GIB

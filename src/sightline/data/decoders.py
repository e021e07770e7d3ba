"""Processes that decode pictures while rows are read, each with one picture at a time.

They are plain interpreters spoken to through pipes: nothing of the caller's is imported or copied into them, and when a
decoder brings one down, the picture it had is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from sightline.data.picture_facts import PictureFacts, facts_from_json, facts_to_json, find_facts
from sightline.data.pictures import PictureError
from sightline.errors import DataError

WORTH_IT = 128
"""Pictures from which on processes are started, which takes about a second."""

MAX_PROCESSES = 16
"""More find nothing to do, as rows are read by one; and a container may count cores that it cannot use."""

CRASHES: Mapping[int, str] = {signal.SIGSEGV: "segmentation fault", signal.SIGABRT: "abort", signal.SIGBUS: "bus error"}
"""Signals by which a decoder ends on a picture that it cannot bear."""

Source = Path | bytes


class Decoders:
    """Finds out about pictures: those asked for ahead in other processes, if they are many, others when wanted.

    Args:
        num_processes: at most; 0 decodes everything here. By default one for each core that this process may use.
    """

    def __init__(self, num_processes: int | None = None) -> None:
        self.num_processes = _num_free_cores() if num_processes is None else num_processes
        self._asked: dict[Source, Future[PictureFacts] | None] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._started: list[_Process] = []

    def __contains__(self, source: Source) -> bool:
        """Whether a picture was asked for and not yet taken."""
        return source in self._asked

    @property
    def num_waiting(self) -> int:
        """Pictures asked for and not yet taken."""
        return len(self._asked)

    def ask(self, source: Source) -> None:
        """Say that a picture will be wanted."""
        if self.num_processes == 0 or source in self._asked:
            return
        self._asked[source] = None
        if self._threads is None and len(self._asked) >= WORTH_IT:
            self._threads = ThreadPoolExecutor(self.num_processes)
            for waiting in self._asked:
                self._asked[waiting] = self._threads.submit(self._in_process, waiting)
        elif self._threads is not None:
            self._asked[source] = self._threads.submit(self._in_process, source)

    def facts(self, source: Source) -> PictureFacts:
        """Give what is found out about a picture.

        Raises:
            PictureError: as `find_facts` raises it; also if decoding it brings a process down.
            DataError: a process was ended from outside.
        """
        asked = self._asked.pop(source, None)
        return find_facts(source) if asked is None else asked.result()

    def close(self) -> None:
        """End the processes; what was asked for and not taken is dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for process in self._started:
                process.kill()  # in the middle of a picture if need be
            self._threads.shutdown()
            for process in self._started:
                process.close()
        self._threads = None
        self._asked.clear()
        self._started.clear()

    def _in_process(self, source: Source) -> PictureFacts:
        """Let a process decode a picture; runs in a thread, of which there are as many as processes."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = _Process()
            self._started.append(process)
        try:
            return process.find_facts(source)
        finally:
            if process.is_alive:
                self._idle.put(process)


class _Process:
    """One interpreter that decodes pictures."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P: no module is taken from the folder the user happens to be in.
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # Ctrl-C is the caller's alone
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can take another picture."""
        return self._process.poll() is None

    def find_facts(self, source: Source) -> PictureFacts:
        """Send a picture and wait for what is found; errors as those of `Decoders.facts`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = b""
        with contextlib.suppress(OSError):  # a pipe that broke: the exit status says why
            _send(self._process.stdin, source)
            line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._why_ended(source)
        found = json.loads(line)
        if "kind" in found:
            raise PictureError(**found)
        return facts_from_json(found)

    def kill(self) -> None:
        """End it; whoever waits for its answer learns that."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes to it, once nobody waits any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what could not be sent is not wanted any more
                    pipe.close()

    def _why_ended(self, source: Source) -> Exception:
        status = self._process.wait()
        name = f"a picture of {len(source):,} bytes" if isinstance(source, bytes) else str(source)
        if -status in CRASHES:
            return PictureError("truncated-image", f"a picture that crashes its decoder ({CRASHES[-status]})")
        if status < 0:
            told = (
                "killed, most likely for want of memory" if -status == signal.SIGKILL else f"ended by signal {-status}"
            )
            return DataError(f"{name}: the process that decoded it was {told}; the same command goes on from here")
        return RuntimeError(f"{name}: the process that decoded it ended with status {status}; what it said is above")


def _send(pipe: IO[bytes], source: Source) -> None:
    is_bytes = isinstance(source, bytes)
    pipe.write(json.dumps({"num_bytes": len(source)} if is_bytes else {"path": str(source)}).encode() + b"\n")
    if is_bytes:
        pipe.write(source)
    pipe.flush()


def serve() -> None:
    """Decode what comes in, one picture after the other, until the caller is gone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a decoder prints is no answer
    asked = sys.stdin.buffer
    while line := asked.readline():
        request = json.loads(line)
        source = Path(request["path"]) if "path" in request else asked.read(request["num_bytes"])
        try:
            found = facts_to_json(find_facts(source))
        except PictureError as error:
            found = {"kind": error.kind, "found": error.found}
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


def _num_free_cores() -> int:
    """Count the cores that may decode; 0 where there is but one, or no interpreter to start."""
    share = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # under torchrun, every process reads the data
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_cores = min(usable // share, MAX_PROCESSES)
    return num_cores if num_cores > 1 and sys.executable else 0

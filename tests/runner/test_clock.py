"""What a piece of work took is measured by itself, adds up over starts, and stays as it is once all is done."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sightline.runner import clock as clock_module
from sightline.runner.clock import Clock

MIB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's peak is measured on Linux alone")
def test_each_piece_has_its_own_peak() -> None:
    clock = Clock(None)
    with clock.measure("train a"):
        held = bytearray(b"1" * (256 * MIB))
        del held
    with clock.measure("evaluate a"):
        pass
    with clock.measure("evaluate served", is_here=False):
        pass
    with clock.measure("data"):
        pass
    assert clock.peak_memory_gib.keys() == {"train a", "evaluate a"}  # what computes, alone
    assert clock.peak_memory_gib["train a"] - clock.peak_memory_gib["evaluate a"] > 0.2


def test_starts_add_up_and_a_finished_study_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"
    with pytest.raises(KeyboardInterrupt), Clock(path).measure("train a"):
        raise KeyboardInterrupt
    interrupted = Clock(path).seconds["train a"]
    with Clock(path).measure("train a") as work:
        work.done = True
    kept = path.read_bytes()
    again = Clock(path)
    assert again.seconds["train a"] > interrupted
    with again.measure("train a") as work:
        work.done = False
    assert path.read_bytes() == kept
    assert 0 < again.seconds["train a"] <= again.used()


def test_what_a_killed_process_spent_is_known_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "KEPT_EVERY_SECONDS", 0.02)
    path, last, began = tmp_path / "spent.json", 0.0, time.perf_counter()
    for _ in range(3):
        with Clock(path).measure("judge a", is_here=False) as work:
            while Clock(path).used() <= last:
                time.sleep(0.01)
            left_by_a_kill = path.read_bytes()  # nothing after this is written where a process is killed
            work.done = True
        path.write_bytes(left_by_a_kill)
        last = Clock(path).used()
    assert 0.06 <= last <= time.perf_counter() - began
    began = time.perf_counter()
    with Clock(path).measure("judge a", is_here=False) as work:
        while Clock(path).used() < last + 0.2:
            time.sleep(0.01)
        work.done = True
    assert last + 0.2 <= Clock(path).used() <= last + time.perf_counter() - began  # once, whatever was kept meanwhile


def test_a_look_that_finds_nothing_to_do_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "KEPT_EVERY_SECONDS", 0.02)
    path = tmp_path / "spent.json"
    with Clock(path).measure("evaluate a", is_here=False) as work:
        work.done = True
    kept = path.read_bytes()
    with Clock(path).measure("evaluate a", is_here=False) as work:
        while path.read_bytes() == kept:
            time.sleep(0.01)
        work.done = False
    assert path.read_bytes() == kept
    with Clock(path).measure("compare"):
        first = path.read_bytes()
        time.sleep(0.06)
        assert path.read_bytes() == first  # a budget pays for what computes

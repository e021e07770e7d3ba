"""What a piece of work took is measured by itself, adds up over starts, and stays as it is once all is done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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

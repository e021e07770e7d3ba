"""The scripts in examples/ run as they stand in the repository."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_preferences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("minimal_dpo.py", capsys, monkeypatch)
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", told)]
    assert losses[0] == 0.693 and losses[-1] < 0.69
    assert told.splitlines()[-1].endswith("right 100%")


@pytest.mark.slow
def test_answers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("minimal_sft.py", capsys, monkeypatch)
    assert (tmp_path / "minimal_adapter" / "adapter_model.safetensors").is_file()
    assert told.count(" -> ") == 6

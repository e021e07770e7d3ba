"""Commands that run a model, where the extra `train` is not installed: they name it instead of showing a traceback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from house_rules import HEAVY

PythonWithout = Callable[..., subprocess.CompletedProcess[str]]

EACH_COMMAND = """
import json
from sightline.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["sightline", *arguments]
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code, file=sys.stderr)
"""


@pytest.mark.parametrize("missing", [["torch"], [*HEAVY]], ids=["torch", "all of it"])
def test_the_extra_is_named(
    python_without: PythonWithout, small_folder: Path, tmp_path: Path, missing: list[str]
) -> None:
    study, picture = str(small_folder / "small.yaml"), str(small_folder / "images" / "scan_000.png")
    commands = [
        ["check", study],
        ["show", study],
        ["run", study, "--out", str(tmp_path / "out")],
        ["ask", "builtin:tiny", "Why?", "--image", picture],
    ]
    ended = python_without(missing, EACH_COMMAND, json.dumps(commands))
    assert "Traceback" not in ended.stderr
    named = [line for line in ended.stderr.splitlines() if line.startswith("sightline: this needs ")]
    assert len(named) == len(commands) == ended.stderr.count("ended with 2"), ended.stderr
    assert all("pip install '.[train]' in sightline's own folder" in line for line in named)


def test_what_needs_no_torch_still_runs(python_without: PythonWithout, small_folder: Path) -> None:
    study = str(small_folder / "small.yaml")
    commands = [["run", study, "--dry-run"], ["run", study, "--dry-run", "--json"]]
    ended = python_without([*HEAVY], EACH_COMMAND, json.dumps(commands))
    assert ended.stderr.count("ended with 0") == 2 and "runs: sft" in ended.stdout, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["runs"] == ["sft"]


def test_other_missing_modules_are_not_taken_for_the_extra(python_without: PythonWithout, small_folder: Path) -> None:
    ended = python_without(["scipy"], EACH_COMMAND, json.dumps([["compare", str(small_folder)]]))
    assert "ModuleNotFoundError: No module named 'scipy'" in ended.stderr

"""What is installed is what is meant: the wheel's content, its requirements, the tested versions, the set-up."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sightline.study import load_study, refuse_unbuilt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
attempts = runpy.run_path(str(ROOT / "scripts" / "install_torch.py"))["attempts"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that no build folder is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", ".", "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def metadata(wheel: zipfile.ZipFile, name: str) -> bytes:
    return wheel.read(next(path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")))


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile):
    ignored = {"__pycache__", ".DS_Store"}
    files = [path for path in (ROOT / "src" / "sightline").rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in files if not ignored & set(path.parts)}
    missing = wanted - set(wheel.namelist())
    assert not missing, f"name these in pyproject.toml's package-data: {sorted(missing)}"


def test_the_wheel_stays_small(wheel: zipfile.ZipFile):
    assert sum(entry.compress_size for entry in wheel.infolist()) < 12e6


def test_the_wheel_brings_command_and_licence(wheel: zipfile.ZipFile):
    assert b"sightline = sightline.cli:main" in metadata(wheel, "entry_points.txt")
    assert message_from_bytes(metadata(wheel, "METADATA"))["License-Expression"] == "Apache-2.0"
    assert b"Apache License" in metadata(wheel, "licenses/LICENSE")


def test_torch_comes_with_the_extra_only(wheel: zipfile.ZipFile):
    required = message_from_bytes(metadata(wheel, "METADATA")).get_all("Requires-Dist") or []
    lines = [line for line in required if re.match(r"(torch|transformers|peft|accelerate|datasets)\b", line)]
    assert lines and all('extra == "train"' in line for line in lines)


def test_tested_versions_are_allowed_versions():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    tested = {name.replace("_", "-"): version for name, version in tested.items()}
    for line in [*PROJECT["dependencies"], *EXTRAS["train"], *EXTRAS["dev"]]:
        requirement = Requirement(line)
        if requirement.name in {"torch", "setuptools"}:
            continue
        assert requirement.name in tested, f"{requirement.name} is missing in constraints.txt"
        assert requirement.specifier.contains(tested[requirement.name]), f"{line}: tested with another version"


def test_without_a_gpu_no_cuda_build_can_be_chosen():
    for index in ("", "https://example.org/cpu"):
        plans = attempts("linux", False, "", index)
        assert [plan[0].endswith("+cpu") for plan in plans] == [True, True]
        assert len(plans[0]) == 1, "pip's own sources come first"
        assert plans[1][1:] == ["--extra-index-url", index or "https://download.pytorch.org/whl/cpu"]


def test_with_a_gpu_or_on_a_mac_the_plain_build_is_asked_for():
    assert attempts("linux", True, "", "") == attempts("darwin", False, "", "")
    assert attempts("linux", True, "", "")[0][0] + "+cpu" == attempts("linux", False, "", "")[0][0]


def test_what_the_user_asks_for_is_taken_as_it_stands():
    assert attempts("linux", False, "torch==2.12.1", "") == [["torch==2.12.1"]]
    assert attempts("linux", True, "a.whl", "https://b") == [["a.whl", "--extra-index-url", "https://b"]]


def test_the_readme_names_commands_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", readme, re.MULTILINE))
    assert {"setup", "test"} <= named <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readme_study_is_accepted(tmp_path: Path):
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example
    (tmp_path / "study.yaml").write_text(example[1], encoding="utf-8")
    refuse_unbuilt(load_study(tmp_path / "study.yaml"))

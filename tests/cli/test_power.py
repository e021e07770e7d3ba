"""`sightline power`: what a test set can detect, before anything is run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tiny_studies import sightline_command


def test_for_people() -> None:
    ended = sightline_command("power", "--questions", 451, "--images", 203, "--accuracy", 0.5)
    assert (ended.code, ended.err) == (0, "")
    first, *_, last = ended.out.splitlines()
    assert first == "451 questions on 203 images can detect a difference of 7.0 points or more (80% power)."
    assert last.startswith("Taken: the models differ on 25.0% of the questions")


def test_for_machines() -> None:
    ended = sightline_command("power", "--questions", 451, "--images", 203, "--difference", 0.04, "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    plan = json.loads(ended.out)
    assert plan["needed"]["independent"] < plan["needed"]["expected"] < plan["needed"]["alike"]
    assert plan["detectable"]["expected"] > 0.04 and plan["needed"]["expected"] > 451


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give --questions"),
        (("--questions", 100, "--accuracy", 70), 2, "for 70% write 0.7"),
        (("--questions", "many"), 2, "valid integer"),
        (("--questions", 100, "--images", 4), 3, "fewer than 5 there is no verdict"),
    ],
)
def test_what_cannot_be_planned(arguments: tuple[object, ...], code: int, message: str) -> None:
    ended = sightline_command("power", *arguments)
    assert (ended.code, ended.out) == (code, "") and message in ended.err


def test_without_torch(python_without: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = "from sightline.cli import main; sys.argv = ['sightline', 'power', '--questions', '200']; main()"
    ended = python_without(["torch", "transformers"], code)
    assert ended.returncode == 0 and "200 questions on 200 images" in ended.stdout, ended.stderr

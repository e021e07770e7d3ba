"""The house keeps its rules, and every rule is seen to fail on a planted example before it is believed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from house_rules import (
    FOR_TESTS,
    FOR_THE_HOUSE,
    HEAVY,
    OWN_TORCH,
    PACKAGE,
    ROOMS,
    ROOT,
    TORCH_MODULES,
    Rule,
    Source,
    does_nothing_at_import,
    fits_on_some_screens,
    has_telling_names,
    imports_torch_only_where_due,
    knows_only_earlier_rooms,
    patches_nobody,
    read,
    runs_no_foreign_code,
    says_what_it_does,
    takes_values_not_the_study,
)

SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def faults(rule: Rule, paths: list[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in rule(read(path))]


@pytest.mark.parametrize("rule", FOR_THE_HOUSE, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule):
    assert not (found := faults(rule, SOURCES)), "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", FOR_TESTS, ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule: Rule):
    assert not (found := faults(rule, TESTS)), "\n" + "\n".join(found)


PLANTED = [
    (knows_only_earlier_rooms, "trees.row", "from sightline.models import loading", "may not know `models`"),
    (knows_only_earlier_rooms, "data.mixing", "def f():\n    import sightline.cli", "may not know `cli`"),
    (knows_only_earlier_rooms, "verdict.power", "from sightline import report", "may not know `report`"),
    (knows_only_earlier_rooms, "models.chat", "from sightline import runner_steps", "may not know `runner`"),
    (knows_only_earlier_rooms, "models.chat", "from . import loading", "relative import"),
    (knows_only_earlier_rooms, "models.chat", "import sightline", "whole package"),
    (knows_only_earlier_rooms, "attic", "", "no known room"),
    (takes_values_not_the_study, "training.loop", "from sightline.study import Study", "whole study"),
    (imports_torch_only_where_due, "verdict.power", "def f():\n    import torch.nn", "may not import `torch`"),
    (imports_torch_only_where_due, "trees.row", "import scipy", "numpy alone"),
    (fits_on_some_screens, "data.a", "x = 1\n" * 400, "400 lines"),
    (has_telling_names, "data.utils", "", "named after"),
    (has_telling_names, "data.a", "class RowManager: ...", "RowManager"),
    (runs_no_foreign_code, "data.a", "import pickle", "imports `pickle`"),
    (runs_no_foreign_code, "data.a", "eval('1')", "eval()"),
    (runs_no_foreign_code, "data.a", "yaml.load(text, Loader=yaml.UnsafeLoader)", "SafeLoader"),
    (runs_no_foreign_code, "models.a", "torch.load(path)", "weights_only"),
    (runs_no_foreign_code, "models.a", "torch.load(path, weights_only=False)", "weights_only"),
    (runs_no_foreign_code, "data.a", "np.load(path, allow_pickle=True)", "allow_pickle"),
    (runs_no_foreign_code, "data.a", "subprocess.run(line, shell=True)", "shell"),
    (runs_no_foreign_code, "models.a", "AutoModel.f(name, trust_remote_code=True)", "from the hub"),
    (does_nothing_at_import, "data.a", "import logging\nlogging.basicConfig()", "basicConfig()"),
    (does_nothing_at_import, "data.a", "TEXT = Path('a').read_text()", "calls read_text()"),
    (does_nothing_at_import, "data.a", "HOME = os.environ['HOME']", "os.environ"),
    (does_nothing_at_import, "data.a", "os.environ['A'] = 'b'", "assigns into something else"),
    (does_nothing_at_import, "data.a", "with x:\n    y = 1", "a with runs"),
    (does_nothing_at_import, "data.a", "for x in y:\n    torch.set_flag(x)", "torch.set_flag()"),
    (patches_nobody, "models.a", "from m import Layer\nLayer.forward = f", "changes `Layer.forward`"),
    (patches_nobody, "models.a", "import torch as t\ndef f():\n    t.nn.Linear.bias = 0", "t.nn.Linear.bias"),
    (patches_nobody, "models.a", "from m import Layer\nsetattr(Layer, 'forward', f)", "changes `Layer`"),
    (says_what_it_does, "data.a", "x = 1", "module has no docstring"),
    (says_what_it_does, "data.a", "'''A.'''\ndef f(): ...", "f is public"),
    (says_what_it_does, "data.a", "'''A.'''\nclass A:\n    '''B.'''\n    def f(self): ...", "A.f is public"),
]


@pytest.mark.parametrize(("rule", "module", "text", "fault"), PLANTED)
def test_a_planted_fault_is_found(rule: Rule, module: str, text: str, fault: str):
    assert fault in "\n".join(rule(Source(f"sightline.{module}", text)))


GOOD = """'''What is fine.'''
from __future__ import annotations
import os
from typing import TYPE_CHECKING
import torch
from sightline import __version__
from sightline.records import Sample
if TYPE_CHECKING:
    from sightline.data import pictures
NAMES = ("a", "b")
app = typer.Typer()
app.add_typer(NAMES)
for name in NAMES:
    app.add_command(name)
READ = {"text": lambda path: path.read_text()}
def home() -> str:
    '''Name the folder.'''
    torch.backends.cudnn.benchmark = False
    model.eval()
    torch.load(home, weights_only=True)
    return os.environ["HOME"]
class Tower(torch.nn.Module):
    '''A tower.'''
    def forward(self, x):
        self.x = x
def _private(): ...
if __name__ == "__main__":
    home()
"""


@pytest.mark.parametrize("rule", FOR_THE_HOUSE, ids=lambda rule: rule.__name__)
def test_what_is_fine_is_left_alone(rule: Rule):
    assert not list(rule(Source("sightline.training.good", GOOD)))


PythonWithout = Callable[..., subprocess.CompletedProcess[str]]


def modules_of(room: str) -> list[str]:
    modules = [source.module for source in map(read, SOURCES) if source.room == room]
    return [module for module in modules if module not in TORCH_MODULES]


IMPORT_EACH_ROOM = """
import importlib, json, traceback
for room, modules in json.loads(sys.argv[1]).items():
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        print(f"importing `{room}` needs what it should not:\\n{traceback.format_exc()}")
"""


def test_rooms_can_be_imported_without_torch(python_without: PythonWithout):
    # One interpreter for all, in the rooms' order: a room may need those before it, and none of them knows torch.
    rooms = {room: modules_of(room) for room in ROOMS if room not in OWN_TORCH}
    assert all(rooms.values())
    finished = python_without(list(HEAVY), IMPORT_EACH_ROOM, json.dumps(rooms))
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stdout + finished.stderr


def test_help_needs_no_torch(python_without: PythonWithout):
    if not modules_of("cli"):
        pytest.skip("the command line is not built yet")
    code = "from sightline.cli import main\nsys.argv = ['sightline', '--help']\nmain()"
    finished = python_without(list(HEAVY), code)
    assert finished.returncode == 0, finished.stderr
    assert "compare" in finished.stdout

"""The rules of the house, as far as a parser can see them: CONTRIBUTING.md says them in words.

A rule is a function from a `Source` to sentences, one per fault.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sightline"

ROOMS = (
    "errors",
    "records",
    "storage",
    "study",
    "data",
    "trees",
    "models",
    "checking",
    "training",
    "generation",
    "scoring",
    "verdict",
    "report",
    "serving",
    "runner",
    "cli",
)
"""A room knows the rooms before it and never the ones after. `study_training.py` belongs to the room `study`."""

OWN_TORCH = {"models", "training", "generation", "serving"}
"""The rooms that may import torch when they are imported; every other room can be imported without it."""

TORCH_MODULES = {
    f"sightline.runner.{name}"
    for name in (
        "adapters",
        "ask",
        "averages",
        "choices",
        "evaluate",
        "make",
        "parity",
        "preferences",
        "self_critique",
        "show",
        "train",
    )
}
"""The modules of other rooms that run a model, and are imported only by commands that do."""

NEVER_TORCH = {"errors", "records", "storage", "study", "trees", "verdict", "report"}
"""The rooms that may not import torch even inside a function."""

HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "safetensors")
MAX_LINES = 400


@dataclass(frozen=True)
class Source:
    """A Python file: its dotted module name, e.g. "sightline.trees.row", and its text."""

    module: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The room of the module: "" for the package itself and for whatever is not of the package."""
        return room_of(self.module)


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "sightline" or len(parts) == 1:
        return ""
    return parts[1] if parts[1] in ROOMS else parts[1].partition("_")[0]


@functools.cache
def read(path: Path) -> Source:
    parts = path.relative_to(PACKAGE.parent if path.is_relative_to(PACKAGE) else ROOT).with_suffix("").parts
    return Source(".".join(parts).removesuffix(".__init__"), path.read_text(encoding="utf-8"))


def dotted(node: ast.expr) -> str:
    """The name an expression spells, e.g. "torch.load"; "" where it is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every module the file imports, anywhere in it, as (line, absolute name)."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "relative"
        elif isinstance(node, ast.ImportFrom) and node.module == "sightline":
            # `from sightline import verdict` names a room; `from sightline import __version__` names none.
            yield from ((node.lineno, f"sightline.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def knows_only_earlier_rooms(source: Source) -> Iterator[str]:
    if source.room and source.room not in ROOMS:
        yield f"{source.module} is in no known room; give it its place in ROOMS"
    for line, name in imports(source):
        if name == "relative":
            yield f"line {line}: relative import; write the full name, from `sightline` on"
        elif source.room in ROOMS and (room := room_of(name)) in ROOMS and ROOMS.index(room) > ROOMS.index(source.room):
            yield f"line {line}: `{source.room}` may not know `{room}`, which comes after it; let the caller pass it in"
        elif source.room and name == "sightline":
            yield f"line {line}: imports the whole package; import the room that defines what is needed"


def takes_values_not_the_study(source: Source) -> Iterator[str]:
    if source.room in {"", "study", "runner", "cli"}:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ImportFrom) or room_of(node.module or "") != "study":
            continue
        if any(alias.name == "Study" for alias in node.names):
            yield f"line {node.lineno}: takes the whole study; take the values that are needed"


def imports_torch_only_where_due(source: Source) -> Iterator[str]:
    for line, name in imports(source):
        package = name.partition(".")[0]
        if source.room in NEVER_TORCH and package in HEAVY:
            yield f"line {line}: `{source.room}` works without torch, so it may not import `{package}`"
        known = package in sys.stdlib_module_names or package in {"sightline", "numpy"}
        if source.room == "trees" and not known:
            yield f"line {line}: `trees` stands on numpy alone, so it may not import `{package}`"


def fits_on_some_screens(source: Source) -> Iterator[str]:
    if (length := len(source.text.splitlines())) >= MAX_LINES:
        yield f"{length} lines; a file stays under {MAX_LINES}: split it by what it is about"


def has_telling_names(source: Source) -> Iterator[str]:
    if source.module.rpartition(".")[2] in {"utils", "util", "helpers", "common", "misc"}:
        yield "a file is named after what it is about"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Factory", "Base")):
            yield f"line {node.lineno}: class {node.name}: name what it is; a function may be all that is needed"


def runs_no_foreign_code(source: Source) -> Iterator[str]:
    for line, name in imports(source):
        if name.partition(".")[0] in {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}:
            yield f"line {line}: imports `{name}`: reading such a file runs whatever it holds; use JSON or safetensors"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {word.arg: word.value for word in node.keywords}
        if name in {"eval", "exec", "compile", "os.system", "os.popen", "yaml.unsafe_load"}:
            yield f"line {node.lineno}: {name}() runs text as code"
        if name == "yaml.load" and dotted([*node.args, *given.values()][-1]).endswith((".Loader", "UnsafeLoader")):
            yield f"line {node.lineno}: yaml.load() runs what the tags say; give it a loader made from SafeLoader"
        if name == "torch.load" and not is_constant(given.get("weights_only"), True):
            yield f"line {node.lineno}: torch.load() without weights_only=True runs whatever the file holds"
        if name.endswith(".load") and is_constant(given.get("allow_pickle"), True):
            yield f"line {node.lineno}: {name}(allow_pickle=True) runs whatever the file holds"
        if is_constant(given.get("shell"), True):
            yield f"line {node.lineno}: {name}(shell=True) hands text to a shell; pass a list"
        if is_constant(given.get("trust_remote_code"), True):
            yield f"line {node.lineno}: {name}(trust_remote_code=True) runs code from the hub"


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
REACHING = {"open", "print", "input", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "getenv"}
REACHING |= {"seed", "manual_seed", "default_rng", "now", "time", "run", "Popen", "is_available", "from_pretrained"}


def does_nothing_at_import(source: Source) -> Iterator[str]:
    yield from happens_in(source.tree.body, own=set())


def happens_in(body: list[ast.stmt], own: set[str]) -> Iterator[str]:
    """Faults of statements that run at import; `own` collects the names that the module itself has made."""
    for node in body:
        line = f"line {node.lineno}"
        if isinstance(node, DEFINITIONS):
            own |= {node.name} if isinstance(node, ast.ClassDef) else set()
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {target.id for target in targets if isinstance(target, ast.Name)}
            if not all(isinstance(target, ast.Name | ast.Tuple) for target in targets):
                yield f"{line}: assigns into something else at import; do it in the function that needs it"
            yield from (f"{line}: {what} at import; do it in the function that needs it" for what in reaches_out(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            # Building up the module's own value, e.g. `app.add_typer(...)`, is a definition in two steps.
            if dotted(node.value.func).partition(".")[0] not in own:
                yield f"{line}: calls {dotted(node.value.func)}() at import; do it in the function that needs it"
        elif isinstance(node, ast.For):
            yield from happens_in(node.body, own)
        elif not is_idle(node):
            yield f"{line}: a {type(node).__name__.lower()} runs at import; put it in a function"


def reaches_out(statement: ast.stmt) -> Iterator[str]:
    inside = {id(inner) for node in ast.walk(statement) if isinstance(node, ast.Lambda) for inner in ast.walk(node)}
    for node in ast.walk(statement):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
            if called in REACHING:
                yield f"calls {called}()"
        elif isinstance(node, ast.Attribute) and dotted(node) == "os.environ":
            yield "reads os.environ"


def is_idle(node: ast.stmt) -> bool:
    """A docstring, `if TYPE_CHECKING:` or `if __name__ == "__main__":`."""
    if isinstance(node, ast.If):
        test = node.test.left if isinstance(node.test, ast.Compare) else node.test
        return dotted(test) in {"TYPE_CHECKING", "__name__"}
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def patches_nobody(source: Source) -> Iterator[str]:
    foreign: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            foreign |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            foreign |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign | ast.Delete):
            changed = [target for target in node.targets if isinstance(target, ast.Attribute)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            changed = [node.target]
        elif isinstance(node, ast.Call) and dotted(node.func) in {"setattr", "delattr"}:
            changed = node.args[:1]
        else:
            continue
        for name in map(dotted, changed):
            # torch.backends holds PyTorch's documented switches, not code.
            if name.partition(".")[0] in foreign and not name.startswith("torch.backends."):
                yield f"line {node.lineno}: changes `{name}` for the whole process; change one instance or pass a value"


def says_what_it_does(source: Source) -> Iterator[str]:
    if source.text.strip() and not ast.get_docstring(source.tree):
        yield "line 1: the module has no docstring; one sentence says what it is about"
    yield from undocumented(source.tree, "")


def undocumented(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in scope.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and "overload" not in {dotted(mark) for mark in node.decorator_list}:
            yield f"line {node.lineno}: {prefix}{node.name} is public and has no docstring"
        # What implements a foreign class's method, such as `nn.Module.forward`, inherits its docstring.
        if isinstance(node, ast.ClassDef) and all(dotted(base).endswith("Protocol") for base in node.bases):
            yield from undocumented(node, f"{node.name}.")


Rule = Callable[[Source], Iterator[str]]

FOR_THE_HOUSE: tuple[Rule, ...] = (
    knows_only_earlier_rooms,
    takes_values_not_the_study,
    imports_torch_only_where_due,
    fits_on_some_screens,
    has_telling_names,
    runs_no_foreign_code,
    does_nothing_at_import,
    patches_nobody,
    says_what_it_does,
)
FOR_TESTS: tuple[Rule, ...] = (fits_on_some_screens, has_telling_names, runs_no_foreign_code)

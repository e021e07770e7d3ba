"""A study file's text: YAML in, overrides on top, and errors that say where, what was found and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sightline.errors import StudyError
from sightline.study.keys import nearest

ParsedT = TypeVar("ParsedT", bound=BaseModel)

# Blocks whose keys are names that the user chose: a new name below them is a typing error far more often than a wish.
NAMED_BLOCKS = ("data", "steps", "models", "judges", "members")


class StudyLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, and no key twice.

    YAML 1.1 reads the key `on` as true, the answer `no` as false and `2e-4` as text; a study needs all three.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a key that is there already."""
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value in lines:
                problem = f"key {key_node.value!r} is already on line {lines[key_node.value]}; remove one of them"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key_node, yaml.ScalarNode):
                lines[key_node.value] = line
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    StudyLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML text, naming file and line of what cannot be read.

    Args:
        text: the YAML.
        name: where it comes from, for messages.

    Raises:
        StudyError: not YAML, a tag other than plain data, or a key twice.
    """
    try:
        return yaml.load(text, StudyLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{name}{line}: {_in_plain_words(error)}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{name}: {error}") from None


def _in_plain_words(error: yaml.MarkedYAMLError) -> str:
    """Say what PyYAML found, without the grammar's own words; its own sentence where there is no plainer one."""
    problem, mark, began = error.problem or str(error), error.problem_mark, error.context_mark
    line = mark.line + 1 if mark else 0
    start = began.line + 1 if began else line
    if problem.startswith("expected <block end>") and re.search("'[]}]'", problem):
        return f"line {line} closes a bracket that none before it opens; remove it, or open it"
    if problem.startswith("expected <block end>"):
        lines = f"line {line} does not line up with the lines above it"
        return f"{lines}: look at its spaces, or at a missing closing bracket before it"
    if problem.startswith("expected ',' or"):
        closing = problem.split()[3].rstrip(",")
        return f"the bracket that opens on line {start} is not closed: put {closing} at its end, ',' between its parts"
    if problem.startswith("expected the node content") and "<stream end>" in problem:
        return "the text ends within a bracket that is not closed; close it"
    if problem == "found unexpected end of stream":
        return f"the quote that opens on line {start} is not closed"
    if problem == "mapping values are not allowed here":
        return (
            f"line {line} has a ':' where none can be: look at its spaces and those of the line above; a text that "
            "holds ': ' stands in quotes"
        )
    if problem == "could not find expected ':'":
        return f"line {start} has no ':' after its key; write KEY: VALUE"
    if found := re.match(r"found character '(.*)' that cannot start any token", problem):
        is_tab = found[1] == "\\t"
        return (
            f"line {line} is indented by a tab; use spaces"
            if is_tab
            else f"a text with {found[1]} in front needs quotes"
        )
    return problem


def flatten(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Go through a block's values with their dotted keys; `{lora: {alpha: 16}}` and `{lora.alpha: 16}` are one."""
    for name, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def assign(block: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one value of a block, replacing the blocks below it by changed copies.

    Setting epochs clears max_steps, and the other way round.

    Raises:
        StudyError: the key runs through a value that is no block, or to a name that does not exist.
    """
    parts = dotted.split(".")
    for depth, part in enumerate(parts[:-1]):
        rest = ".".join(parts[depth:])
        if rest in block:  # a member's own dotted key
            block[rest] = value
            return
        if part not in block and depth and parts[depth - 1] in NAMED_BLOCKS:
            path = ".".join(parts[: depth + 1])
            raise StudyError(f"{path} does not exist; {nearest(part, block)}")
        if block.get(part) is None:
            block[part] = {}
        if not isinstance(block[part], dict):
            raise StudyError(f"{dotted}: {'.'.join(parts[: depth + 1])} is {block[part]!r}, which has no keys")
        block[part] = dict(block[part])  # a YAML anchor may have put the same block elsewhere too
        block = block[part]
    block[parts[-1]] = value
    other = {"epochs": "max_steps", "max_steps": "epochs"}.get(parts[-1])
    if other and value is not None:
        block[other] = None


def parse_override(text: str) -> tuple[str, Any]:
    """Split `a.b=c` into its dotted key and its value, read as YAML.

    Raises:
        StudyError: there is no `=`, or the value is not YAML.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        raise StudyError(f"--set {text}: write a key, '=' and a value, such as steps.sft.epochs=1")
    return dotted.strip(), parse_yaml(value, f"--set {text}")


def from_current_folder(dotted: str, value: Any) -> Any:
    """Make a path that was typed at the command line absolute; anything else is returned as it is.

    A hub name such as `owner/name` looks like a path; it is taken for one where such a file exists.
    """
    if isinstance(value, list):
        return [from_current_folder(dotted, item) for item in value]
    if not isinstance(value, str):
        return value
    last = dotted.rsplit(".", 1)[-1]
    if last == "metrics" and ".py:" in value:
        file, _, function = value.rpartition(":")
        return f"{Path(file).expanduser().resolve()}:{function}"
    if last == "data_root" or (last in {"data", "source", "base", "adapter", "template"} and looks_like_path(value)):
        return str(Path(value).expanduser().resolve())
    return value


def looks_like_path(value: str, folder: Path = Path(".")) -> bool:
    """Whether a source or model means a file here, and not a hub name or something builtin."""
    if value == "own" or value.startswith("builtin:"):
        return False
    path = Path(value).expanduser()
    return (
        path.is_absolute()
        or value.startswith(("./", "../"))
        or value in {".", ".."}
        or path.suffix.lower() in {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".jinja", ".zip"}
        or (folder / path).exists()
    )


def validated(model: type[ParsedT], raw: Any, prefix: str = "") -> ParsedT:
    """Build a block of the study from plain values.

    Args:
        model: the block's type.
        raw: plain values, as YAML gives them.
        prefix: the block's own path, for messages, ending in a dot unless empty.

    Raises:
        StudyError: one line per fault, with its path, what was found and what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise StudyError("\n".join(_explain(error, raw, prefix))) from None


def _explain(error: ValidationError, raw: Any, prefix: str) -> list[str]:
    by_path: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path(detail["loc"], raw, missing=detail["type"] == "missing"), []).append(detail)
    lines = []
    for path, details in by_path.items():
        where = f"{prefix}{path}".rstrip(".")
        own = [detail for detail in details if detail["type"] in {"unknown_key", "value_error", "missing"}]
        lines.append(_sentence(where, (own or details)[0]) if own else _allowed(where, details))
    return lines


def _path(location: Sequence[str | int], raw: Any, *, missing: bool) -> str:
    """Write a location as the user would, without the names pydantic puts in for the arms of a union."""
    path = ""
    for index, part in enumerate(location):
        if isinstance(raw, Mapping) and part in raw:
            path, raw = f"{path}.{part}", raw[part]
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            path, raw = f"{path}[{part}]", raw[part]
        elif missing and index == len(location) - 1:
            path = f"{path}.{part}"
    return path.lstrip(".")


def _sentence(where: str, detail: Any) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "unknown_key":
        return f"{where + '.' if where else ''}{context['key']} is not a key; {context['hint']}"
    if detail["type"] == "missing":
        return f"{where} is missing; it has no default"
    return f"{where}: {context['error']}" if where else str(context["error"])


def _allowed(where: str, details: Sequence[Any]) -> str:
    found = details[0]["input"]
    if details[0]["type"] == "union_tag_invalid":
        methods = details[0]["ctx"]["expected_tags"].replace("'", "")
        hint = nearest(found["method"], methods.split(", "))
        return f"{where}.method = {found['method']!r}: must be one of {methods}; {hint}"
    if details[0]["type"] == "string_pattern_mismatch":
        if details[0]["ctx"]["pattern"] == r"\S":
            return f"{where} is empty: give the reason in words"
        return f"{where}: {found!r} cannot be a name; use letters, digits, '-' and '_', a letter or digit first"
    allowed = [re.sub(r"^(?:Input|Value|String|Dictionary|Tuple|List) should ", "", item["msg"]) for item in details]
    allowed = [re.sub(r"a valid dictionary( or instance of \w+)?", "a block of keys", text) for text in allowed]
    return f"{where} = {found!r}: should {' or '.join(dict.fromkeys(allowed))}"

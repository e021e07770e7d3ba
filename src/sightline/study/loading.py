"""A study file, read: defaults filled in, overrides and the smoke test's substitutes applied, everything validated."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from sightline.errors import MissingDataError, StudyError, install_advice
from sightline.study.continued import as_stated, faults_of_shapes, knows_shape, with_shapes_taken_over
from sightline.study.names import MAKES_DATA
from sightline.study.plan import plan_study
from sightline.study.schema import Data, Study, with_names, with_source
from sightline.study.smoke import EXTRAS, smoke_values
from sightline.study.steps import Dpo, Sft, with_method
from sightline.study.text import (
    assign,
    flatten,
    from_current_folder,
    looks_like_path,
    parse_override,
    parse_yaml,
    validated,
)

UNBUILT_VALUES = {"offload": ("optimizer", "parameters")}


def load_study(path: Path, *, overrides: Sequence[str] = (), smoke: bool = False) -> Study:
    """Read a study file.

    Args:
        path: the YAML file.
        overrides: `a.b=c` texts, applied in order over the file; their paths start from the current folder.
        smoke: put the builtin model and data in place of the study's own and shrink the rest.

    Returns:
        The study with every default filled in. That its steps fit together has been verified.

    Raises:
        StudyError: what the file asks for does not exist or does not fit together; one line per fault.
        MissingDataError: there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "study.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such study file; `sightline init` writes one") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: holds {type(raw).__name__}, not keys; write at least `base:` and `data:`")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_") or "study"
    raw = {"folder": str(path.parent.resolve()), "name": name, **raw}
    try:
        for override in overrides:
            dotted, value = parse_override(override)
            _override(raw, dotted, from_current_folder(dotted, value))
        study = validated(Study, _with_defaults(raw))
        if smoke:
            values = smoke_values(study)
            for dotted, value in flatten(study.smoke):
                assign(values, dotted, value)
            study = validated(Study, values)
        study = with_shapes_taken_over(study)
        plan_study(study)
    except StudyError as error:
        raise StudyError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return study


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults that follow from other keys; a key that is there is left alone.

    Values of the wrong kind pass through untouched: validation names them better.
    """
    filled = dict(raw)
    data = with_names(raw.get("data"))
    if "data" in raw:
        filled["data"] = data
    only = next(iter(data)) if isinstance(data, dict) and len(data) == 1 else None
    if only and "steps" not in filled:
        filled["steps"] = {"sft": {}}
    if isinstance(steps := filled.get("steps"), dict):
        filled["steps"] = {name: _step_with_defaults(step, only) for name, step in steps.items()}
    evaluate = filled.get("evaluate", {})
    if only and isinstance(evaluate, dict):
        filled["evaluate"] = {"on": f"{only}.test", **evaluate}
    if "compare" not in filled and isinstance(filled.get("steps"), dict):
        filled["compare"] = [{"model": name} for name in _made_models(filled)]
    return filled


def _step_with_defaults(step: Any, only: str | None) -> Any:
    if step is None:
        step = {}
    if not isinstance(step, dict):
        return step
    step = with_method(step)
    return {"on": f"{only}.train", **step} if only and step["method"] in {"sft", "dpo"} else step


def _made_models(filled: dict[str, Any]) -> list[str]:
    names = [
        name
        for name, step in filled["steps"].items()
        if isinstance(step, dict) and step.get("method") not in MAKES_DATA
    ]
    evaluate = filled.get("evaluate")
    asked = evaluate.get("models") if isinstance(evaluate, dict) else None
    if asked is None:
        return names
    asked = [asked] if isinstance(asked, str) else asked
    return [name for name in names if name in asked]


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Apply one override, in place, to what the file holds or to a step that only a default brings in."""
    block, _, below = dotted.partition(".")
    key = below.partition(".")[0]
    if block == "data" and key and "data" in raw:
        data = with_source(raw["data"])
        alone = isinstance(data, dict) and isinstance(data.get("source"), str) and key in Data.model_fields
        raw["data"] = data if alone else with_names(data)
    if block == "steps" and key and "steps" not in raw:
        raw["steps"] = _with_defaults(raw).get("steps", {})
    assign(raw, dotted, value)


def resolved_yaml(study: Study) -> str:
    """Write a study out in full, every default included; loading the text gives an equal study.

    No default is written of the shape of an adapter that is known from its files alone: there it would be a demand.
    """
    values = study.model_dump(mode="json")
    for name, step in study.steps.items():
        if isinstance(step, Sft | Dpo) and not knows_shape(study, step.from_):
            as_stated(values["steps"][name], step)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def study_sha256(study: Study) -> str:
    """Hash what a study asks for; where its files lie on this machine does not count."""
    values = study.model_dump(mode="json", exclude={"folder", "data_root"})
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, by which editors complete it (draft 2020-12)."""
    schema = Study.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def source_location(study: Study, data: Data) -> str:
    """Where a data set's source lies: an absolute path, or a hub or builtin name as written."""
    return _location(data.source or "", study.folder / study.data_root)


def model_location(study: Study, name: str) -> str:
    """Where a model, adapter or template lies that the study names: an absolute path, or the name as written."""
    return _location(name, study.folder)


def _location(name: str, folder: Path) -> str:
    return str((folder / Path(name).expanduser()).resolve()) if looks_like_path(name, folder) else name


def refuse_unbuilt(study: Study) -> None:
    """Refuse what the schema knows and cannot be done here, all of it by name.

    Raises:
        StudyError: the keys concerned, one per line.
    """
    faults = [f"{fault} is not built yet; remove it from the study" for fault in _unbuilt(study)]
    if faults := [*faults, *_impossible(study)]:
        raise StudyError("\n".join(faults))


def _impossible(study: Study) -> Iterable[str]:
    """Say what no version could do: use a package that is not there, go on with an adapter of another shape."""
    plan = plan_study(study)
    for run in plan.runs:
        if run.training is None:
            continue
        for name, values, package in EXTRAS:
            value = getattr(run.training, name)
            if value in values and name not in UNBUILT_VALUES and importlib.util.find_spec(package) is None:
                yield f"{run.name}: {name} = {value} needs {package}; {install_advice('quantize')}"
    yield from dict.fromkeys(faults_of_shapes(study, plan))


def _unbuilt(study: Study) -> Iterable[str]:
    for run in plan_study(study).runs:
        for name, values in UNBUILT_VALUES.items() if run.training else ():
            if (value := getattr(run.training, name)) in values:
                yield f"{run.name}: {name} = {value!r}"

"""What a study directory holds for its report; every file but compare.json may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import CorruptError, MissingDataError
from sightline.records import NO_ANSWER, Sample, sample_from_json
from sightline.storage import MANIFEST, recorded_origin
from sightline.study.text import parse_yaml

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFiles:
    """The content of a study directory, as far as its report needs it.

    Args:
        directory: where the study lies.
        compare: the verdicts, as written in compare.json.
        study_text: study.yaml as it stands, or None.
        study: study.yaml parsed, or an empty mapping.
        run: run.json, or None.
        samples: evaluation set name to its samples by id.
        answers: model name to its answer rows, in the models' order of appearance in `compare`.
        scores: model name to its score rows.
        origins: model name to what its answers were made from, where a manifest says so.
        curves: model name to the rows of its metrics.jsonl.
        checks: checks.json, or None where no check was recorded.
        problems: data/problems.json, or None where no reading was recorded.
        pictures_matter: pictures_matter.json, or None where the study did not ask.
        seen: data/seen.json: data set to the rows that training has seen, and how; empty where it was not recorded.
        adapter_bytes: model name to the size of its adapter's file.
        changed: files that are not what the run wrote, where somebody has looked.
    """

    directory: Path
    compare: Row
    study_text: str | None
    study: Row
    run: Row | None
    samples: Mapping[str, Mapping[str, Sample]]
    answers: Mapping[str, tuple[Row, ...]]
    scores: Mapping[str, tuple[Row, ...]]
    origins: Mapping[str, Mapping[str, str]]
    curves: Mapping[str, tuple[Row, ...]]
    checks: Any
    problems: Any
    pictures_matter: Row | None
    seen: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    adapter_bytes: Mapping[str, int] = field(default_factory=dict)
    changed: tuple[str, ...] = ()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptError(f"{path}: not JSON ({error}); make it again with `sightline run`") from error


def _read_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorruptError(f"{path}:{number}: not JSON ({error}); run `sightline run` again") from error
            if not isinstance(row, dict):
                raise CorruptError(f"{path}:{number}: found {type(row).__name__}, expected an object")
            yield row


def _read_samples(path: Path) -> dict[str, Sample]:
    samples: dict[str, Sample] = {}
    for number, row in enumerate(_read_rows(path), start=1):
        try:
            sample = sample_from_json(row)
        except (KeyError, TypeError) as error:
            raise CorruptError(f"{path}: row {number} is no sample ({error!r}); run `sightline run` again") from error
        samples[sample.id] = sample
    return samples


def _in_order(names: set[str], first: list[str]) -> list[str]:
    """Sort names as the comparison has them, then the others by name."""
    return [name for name in first if name in names] + sorted(names.difference(first))


def read_study(directory: Path) -> StudyFiles:
    """Read what a report needs from a study directory.

    Args:
        directory: a study directory with at least compare.json.

    Returns:
        Its content; absent files give None or empty mappings.

    Raises:
        MissingDataError: the directory holds no compare.json.
        CorruptError: a file is not what the study wrote.
        StudyError: study.yaml is not YAML.
    """
    compare = _read_json(directory / "compare.json")
    if compare is None:
        raise MissingDataError(f"{directory}: no compare.json; run `sightline compare {directory}` first")
    if not isinstance(compare, dict):
        raise CorruptError(f"{directory / 'compare.json'}: expected an object; run `sightline compare` again")
    arms = compare.get("arms") or []
    models = list(dict.fromkeys(arm["model"] for arm in arms))

    study_file = directory / "study.yaml"
    study_text = study_file.read_text(encoding="utf-8") if study_file.is_file() else None
    study = parse_yaml(study_text, str(study_file)) if study_text else {}

    answers = {path.stem: path for path in (directory / "answers").glob("*.jsonl")}
    scores = {path.name: path for path in (directory / "scores").glob("*") if path.is_dir()}
    curves = {path.parent.name: path for path in (directory / "models").glob("*/metrics.jsonl")}
    data_files = {name: directory / "data" / f"{name}.jsonl" for name in sorted({arm["data"] for arm in arms})}
    return StudyFiles(
        directory=directory,
        compare=compare,
        study_text=study_text,
        study=study if isinstance(study, dict) else {},
        run=_read_json(directory / "run.json"),
        samples={name: _read_samples(path) for name, path in data_files.items() if path.is_file()},
        answers={
            name: tuple(row for row in _read_rows(answers[name]) if row.get("finish_reason") != NO_ANSWER)
            for name in _in_order(set(answers), models)
        },
        scores={
            name: tuple(row for path in sorted(scores[name].glob("*.jsonl")) for row in _read_rows(path))
            for name in _in_order(set(scores), models)
        },
        origins={
            name: origin
            for name in _in_order(set(answers), models)
            if (origin := recorded_origin(answers[name].with_name(f"{name}.{MANIFEST}")))
        },
        curves={name: tuple(_read_rows(curves[name])) for name in _in_order(set(curves), models)},
        checks=_read_json(directory / "checks.json"),
        problems=_read_json(directory / "data" / "problems.json"),
        pictures_matter=_read_json(directory / "pictures_matter.json"),
        seen=_read_json(directory / "data" / "seen.json") or {},
        adapter_bytes={
            path.parent.name: path.stat().st_size
            for path in sorted((directory / "models").glob("*/adapter_model.safetensors"))
        },
    )

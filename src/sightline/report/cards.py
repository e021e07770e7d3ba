"""Model cards: for every model that the study made, the README.md that a model hub expects, filled from the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sightline.report.content import Content
from sightline.report.findings import doubt
from sightline.report.metric_facts import metric_facts
from sightline.report.origins import model_origins
from sightline.report.reading import Row, StudyFiles
from sightline.report.results import answers_behind
from sightline.report.study_tables import compare_entries
from sightline.report.verdicts import interval_text, rest_of_sentence
from sightline.report.wording import clean, level, markdown_text, shortened, unit_name

RESEARCH_USE = "For research; not for clinical decisions."

HUB_LICENCES = (
    "apache-2.0 mit openrail bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 "
    "cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 cc-by-3.0 cc-by-sa-3.0 llama2 llama3 llama3.1 llama3.2 llama3.3 gemma gpl-3.0 "
    "lgpl-3.0 mpl-2.0 odc-by odbl unlicense other"
)
"""Licence names that the hub knows; every other is "other" with a name. Source: Hugging Face hub documentation."""

_FREE = ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = (
    *("method", "from", "on", "epochs", "max_steps", "batch_size", "learning_rate", "schedule", "warmup", "quantize"),
    *("lora", "beta", "loss", "optimizer", "precision", "train", "stages", "weights", "seeds"),
)


def model_cards(content: Content) -> Mapping[str, str]:
    """Write a card for each model that a step of the study made.

    Args:
        content: of the study.

    Returns:
        File name to text.
    """
    steps = content.files.study.get("steps")
    made = set(steps) if isinstance(steps, Mapping) else set()
    models = dict.fromkeys(arm["model"] for arm in content.files.compare.get("arms") or ())
    return {
        f"{re.sub(r'[^A-Za-z0-9._@-]', '-', model)}.md": _card(content, model)
        for model in models
        if _step(model) in made
    }


def _step(model: str) -> str:
    return model.split("@")[0].split(".")[0]


def _card(content: Content, model: str) -> str:
    from yaml import safe_dump

    files = content.files
    head = safe_dump(_metadata(files, model), sort_keys=False, allow_unicode=True, width=10_000)
    lines = ["---", head.rstrip("\n"), "---", "", f"# {markdown_text(model)}", ""]
    study = markdown_text(files.compare.get("study") or files.directory.name)
    lines += [f"Made by the step {markdown_text(_step(model))} of the study {study} with sightline. {RESEARCH_USE}", ""]
    lines += ["## What is known of it", "", *_verdicts(files, model), ""]
    lines += ["## Results", "", *_results(files, model), ""]
    lines += ["## How it was made", "", *_settings(files, model), ""]
    lines += ["## Licences", "", *_licences(files), ""]
    lines += ["## What is not known", "", *_limits(files), ""]
    return "\n".join(lines)


def _metadata(files: StudyFiles, model: str) -> dict[str, Any]:
    """Fill the hub's metadata: what is unknown is left out, never guessed."""
    base = str(files.study.get("base") or "")
    licence = _inherited(_known_licences(files))
    found: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "image-text-to-text"}
    if _HUB_NAME.fullmatch(base):
        found |= {"base_model": base, "base_model_relation": "adapter"}
    if licence:
        known = licence.lower() in HUB_LICENCES.split()
        found |= {"license": licence.lower()} if known else {"license": "other", "license_name": _slug(licence)}
    data = files.study.get("data")
    sources = (
        [block.get("source") for block in data.values() if isinstance(block, Mapping)]
        if isinstance(data, Mapping)
        else []
    )
    if hub := [source for source in sources if isinstance(source, str) and _HUB_NAME.fullmatch(source)]:
        found["datasets"] = hub
    found["tags"] = ["sightline", "vision-language", "research-only"]
    if results := list(_model_index(files, model)):
        found["model-index"] = [{"name": clean(model), "results": results}]
    return found


def _model_index(files: StudyFiles, model: str) -> Iterator[dict[str, Any]]:
    for arm in files.compare.get("arms") or ():
        measured = [(name, value) for name, value in arm["metrics"].items() if value.get("value") is not None]
        if arm["model"] != model or not measured:
            continue
        template = arm.get("template") or "plain"
        wording = "" if template == "plain" else f", {template} wording"
        yield {
            "task": {"type": "image-text-to-text", "name": "Questions about pictures"},
            "dataset": {"name": clean(arm["data"] + wording), "type": clean(arm["data"].partition(".")[0])},
            "metrics": [
                {
                    "type": name,
                    "value": value["value"],
                    "name": clean(f"{value.get('title') or name}, 95% interval {_interval(value)}"),
                }
                for name, value in measured
            ],
        }


def _interval(value: Row) -> str:
    unit = value.get("unit") or "rate"
    if not value.get("interval"):
        return f"none ({value['no_interval']})" if value.get("no_interval") else "none"
    ends = interval_text(value["interval"], unit, of_change=False)
    return f"{ends} {unit_name(unit, of_change=False)}".strip()


def _verdicts(files: StudyFiles, model: str) -> Iterator[str]:
    stated = len(files.compare.get("stated") or ())
    told = False
    for place, entry in enumerate(compare_entries(files.compare)):
        if entry["model"].split("@")[0] != model.split("@")[0] or (place >= stated and told):
            continue
        told = told or place < stated
        title = metric_facts(files.compare, entry["metric"]).title
        asked = f"{markdown_text(title)} on {markdown_text(entry['data'])}, against {markdown_text(entry['against'])}"
        rest = rest_of_sentence(entry["verdict"], str(entry.get("sentence") or ""))
        exploratory = " (exploratory: not stated before the run)" if place >= stated else ""
        yield f"- {asked}{exploratory}: **{markdown_text(entry['verdict'])}**: {markdown_text(rest)}"
    beside = (*filter(None, [doubt(files)]), *(files.compare.get("notes") or ()))
    yield from (f"- {markdown_text(note)}" for note in beside)


def _results(files: StudyFiles, model: str) -> Iterator[str]:
    yield "| data | wording | metric | value | 95% interval | questions | not read |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for arm in files.compare.get("arms") or ():
        for name, value in arm["metrics"].items() if arm["model"] == model else ():
            unit = value.get("unit") or "rate"
            shown = f"{level(value.get('value'), unit)} {unit_name(unit, of_change=False)}"
            cells = (arm["data"], arm.get("template") or "plain", value.get("title") or name, shown, _interval(value))
            counts = (answers_behind(value), value.get("num_unparsed") or 0)
            yield "| " + " | ".join(markdown_text(cell) for cell in (*cells, *counts)) + " |"


def _settings(files: StudyFiles, model: str) -> Iterator[str]:
    steps = files.study.get("steps")
    step = steps.get(_step(model)) if isinstance(steps, Mapping) else None
    yield f"- base: {markdown_text(files.study.get('base') or 'not recorded')}"
    if isinstance(step, Mapping):
        for key in _SETTINGS:
            if step.get(key) not in (None, [], {}, ()):
                yield f"- {key}: {markdown_text(_plain(step[key]))}"
        members = step.get("members")
        name = model.split("@")[0].partition(".")[2]
        if isinstance(members, Mapping) and name in members:
            yield f"- changed in this member: {markdown_text(_plain(members[name]))}"
        elif step.get("grid"):
            yield f"- grid: {markdown_text(_plain(step['grid']))}"
    rows = [row for row in files.curves.get(model, ()) if "loss" in row]
    if rows:
        samples = sum(int(row.get("samples") or 0) for row in rows)
        yield f"- {len(rows):,} optimizer steps, {samples:,} samples, last loss {level(rows[-1]['loss'], '')}"
    for name, origin in model_origins(files):
        if name == model:
            yield f"- {markdown_text(origin)}"
    for name, sha256 in ((files.run or {}).get("data_sha256") or {}).items():
        yield f"- data {markdown_text(name)}: SHA-256 {markdown_text(sha256)}"
    versions = ", ".join(f"{name} {version}" for name, version in ((files.run or {}).get("versions") or {}).items())
    if versions:
        yield f"- versions: {markdown_text(versions)}"


def _plain(value: Any) -> str:
    """Write a setting as a person would: what is not set is left out."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(held)}" for key, held in value.items() if held is not None)
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _known_licences(files: StudyFiles) -> Mapping[str, str | None]:
    """Find what `sightline check` recorded of the licences of base and data."""
    for finding in files.checks if isinstance(files.checks, list) else ():
        if isinstance(finding, Mapping) and finding.get("name") == "licences":
            evidence = finding.get("evidence")
            return evidence if isinstance(evidence, Mapping) else {}
    return {}


def _inherited(licences: Mapping[str, str | None]) -> str:
    """Give the one licence that all parts come under; "" where one is unknown; "other" where they differ."""
    names = {str(licence).split(" (")[0] for licence in licences.values()}
    if not licences or None in licences.values():
        return ""
    demanding = {name for name in names if name.lower() not in _FREE} or names
    return demanding.pop() if len(demanding) == 1 else "several, see below"


def _licences(files: StudyFiles) -> Iterator[str]:
    licences = _known_licences(files)
    yield "A model made from base and data inherits what both forbid."
    yield ""
    yield from (
        f"- {markdown_text(name)}: {markdown_text(licence or 'not known; look it up before publishing anything')}"
        for name, licence in licences.items()
    )
    if not licences:
        yield "- Not recorded: look the licences of base and data up before publishing anything."
    yield f"- {RESEARCH_USE}"


def _limits(files: StudyFiles) -> Iterator[str]:
    yield "- Results are about the questions named above and nothing else; the verdicts say what they could not show."
    yield "- See the study's report.html for its mistakes, unread answers and what training has seen of the questions."
    if accepted := files.study.get("accept"):
        for fault, reason in accepted.items() if isinstance(accepted, Mapping) else ():
            yield f"- Accepted fault {markdown_text(fault)}: {markdown_text(reason)}"


def _slug(licence: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", shortened(licence, 80).lower()).strip("-")

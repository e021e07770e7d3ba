"""The report as one HTML page: everything inline, nothing fetched, every text from the data escaped."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.findings import MOST_FINDINGS, accepted_faults, columns, findings, notes
from sightline.report.origins import model_origins
from sightline.report.page import render_page
from sightline.report.pictures import Thumbnail, thumbnail
from sightline.report.pictures_matter import picture_sets
from sightline.report.reading import StudyFiles
from sightline.report.results import result_tables
from sightline.report.sides import MOST_PICTURES_A_ROW, SideBySide, SideRow, side_by_side
from sightline.report.verdicts import has_several, verdict_groups
from sightline.report.wording import count, duration, rounded, shortened
from sightline.verdict.sentences import beside

MOST_FILTERS = 4
MOST_TAG_VALUES = 30
LONGEST_STUDY = 20_000
_FIRST_TAGS = ("kind", "answer_type", "organ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveView:
    """A model's training: its curve, and what it says in numbers.

    Args:
        model: its name.
        drawing: the content of its SVG.
        height: of that SVG, in its own units.
        summary: one line of numbers.
    """

    model: str
    drawing: Markup
    height: int
    summary: str


def _step_name(model: str) -> str:
    return model.split("@")[0].split(".")[0]


def curve_views(files: StudyFiles) -> tuple[CurveView, ...]:
    """Draw each model's training; members and seeds of one step share their scales."""
    curves = {model: drawing.curve_of(rows) for model, rows in files.curves.items()}
    curves = {model: curve for model, curve in curves.items() if curve.num_steps}
    views = []
    for model, curve in curves.items():
        peers = [other for name, other in curves.items() if _step_name(name) == _step_name(model)]
        content = drawing.training_curve(
            curve, losses=drawing.loss_scale(peers), num_steps=max(peer.num_steps for peer in peers)
        )
        summary = f"{count(curve.num_steps)} steps"
        if curve.validation:
            step, best = min(curve.validation, key=lambda point: point[1])
            summary += f", validation loss lowest at step {count(step)}: {rounded(best, 3)}"
        views.append(CurveView(model=model, drawing=content, height=drawing.CURVE_HEIGHT, summary=summary))
    return tuple(views)


def _tag_values(rows: Iterable[SideRow]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.sample.tags.items():
            values.setdefault(key, set()).add(str(value))
    return values


def tag_filters(rows: Iterable[SideRow]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The tags worth filtering by: those with several values but not one per row, the usual ones first."""
    values = _tag_values(rows)
    useful = [key for key, seen in values.items() if 2 <= len(seen) <= MOST_TAG_VALUES]
    ordered = [key for key in _FIRST_TAGS if key in useful] + sorted(set(useful).difference(_FIRST_TAGS))
    return tuple((key, tuple(sorted(values[key]))) for key in ordered[:MOST_FILTERS])


def numbering_tags(rows: Iterable[SideRow]) -> frozenset[str]:
    """The tags that number rows rather than describe them; a reader is spared them."""
    return frozenset(key for key, seen in _tag_values(rows).items() if len(seen) > MOST_TAG_VALUES)


def thumbnails(files: StudyFiles, rows: Iterable[SideRow]) -> dict[str, Thumbnail]:
    """Small copies of the pictures the rows show, each once, by the picture's hash."""
    copies: dict[str, Thumbnail | None] = {}
    for row in rows:
        for picture in row.sample.pictures[:MOST_PICTURES_A_ROW]:
            if picture.sha256 not in copies:
                copies[picture.sha256] = thumbnail(picture, files.directory, key=f"picture-{len(copies)}")
    return {name: copy for name, copy in copies.items() if copy is not None}


def _row_facts(row: SideRow) -> str:
    """What the page's script filters by, as JSON for one attribute."""
    tags = {str(key): str(value) for key, value in row.sample.tags.items()}
    flips = {str(index): status for index, status in row.flips.items()}
    return json.dumps({"tags": tags, "flips": flips, "right": row.num_right}, ensure_ascii=True, sort_keys=True)


def moved_by(row: SideRow, side: SideBySide) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """Which models fixed or broke a row, and against which one; by the stated comparisons, or by all if none was."""
    limit = side.num_stated or len(side.comparisons)
    moved: dict[tuple[str, str], list[str]] = {}
    for index, status in sorted(row.flips.items()):
        if index < limit:
            comparison = side.comparisons[index]
            moved.setdefault((status, comparison["against"]), []).append(comparison["model"])
    return tuple((status, tuple(dict.fromkeys(models)), against) for (status, against), models in moved.items())


def training_facts(files: StudyFiles) -> tuple[tuple[str, str, str, str, str], ...]:
    """Per model: steps, samples, tokens, and the median seconds of one optimizer step."""
    facts = []
    for model, rows in files.curves.items():
        steps = [row for row in rows if "loss" in row]
        seconds = [float(row["seconds"]) for row in steps if isinstance(row.get("seconds"), int | float)]
        totals = [sum(int(row.get(key) or 0) for row in steps) for key in ("samples", "tokens")]
        median = f"{rounded(statistics.median(seconds), 3)} s" if seconds else "–"
        facts.append((model, count(len(steps)), count(totals[0]), count(totals[1]), median))
    return tuple(facts)


def seeds(files: StudyFiles) -> str:
    """The seeds the study names, step by step."""
    steps = files.study.get("steps")
    named = []
    for name, step in steps.items() if isinstance(steps, Mapping) else ():
        if isinstance(step, Mapping) and (step.get("seeds") is not None or step.get("seed") is not None):
            value = step.get("seeds") if step.get("seeds") is not None else [step["seed"]]
            listed = value if isinstance(value, list) else [value]
            named.append(f"{name}: {', '.join(map(str, listed))}")
    if "seed" in files.study:
        named.insert(0, str(files.study["seed"]))
    return "; ".join(named)


def _in_words(key: str) -> str:
    return key.replace("_gib", " (GiB)").replace("_", " ")


def run_tables(files: StudyFiles) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Models, hardware, times, versions and data hashes of a run, each as a table of names and values."""
    run = files.run or {}

    def pairs(key: str, show: Any = str) -> tuple[tuple[str, str], ...]:
        entries = run.get(key)
        if not isinstance(entries, Mapping):
            return ()
        return tuple((str(name), show(value)) for name, value in entries.items())

    return (
        ("Models, with the SHA-256 of their adapters", model_origins(files)),
        ("Hardware", tuple((_in_words(name), value) for name, value in pairs("hardware"))),
        ("Time, step by step", pairs("seconds", lambda value: duration(float(value)))),
        ("Versions", pairs("versions")),
        ("Data, SHA-256 of the rows", pairs("data_sha256")),
    )


def page(files: StudyFiles, *, with_images: bool) -> str:
    """Write the report's page.

    Args:
        files: the study's content.
        with_images: whether small copies of the pictures are embedded.

    Returns:
        One HTML document that needs no other file.
    """
    compare, run = files.compare, files.run or {}
    side = side_by_side(files)
    problems, checks = findings(files.problems), findings(files.checks)
    return render_page(
        "template.html.j2",
        title=str(compare.get("study") or files.directory.name),
        script="report.js",
        functions={"row_facts": _row_facts},
        compare=compare,
        num_models=len({arm["model"] for arm in compare.get("arms") or ()}),
        several_data=has_several(compare, "data"),
        stated=verdict_groups(compare, compare.get("stated") or (), y=30),
        exploratory=verdict_groups(compare, compare.get("exploratory") or (), y=15, by_metric=True),
        beside=list(beside(compare)),
        picture_sets=picture_sets(files.pictures_matter),
        notes=notes(files),
        accepted=accepted_faults(files),
        tables=result_tables(compare),
        curves=curve_views(files),
        side=side,
        moved_by=moved_by,
        columns=columns,
        filters=tag_filters(side.rows),
        numbering=numbering_tags(side.rows),
        several_wordings=has_several(compare, "template"),
        thumbnails=thumbnails(files, side.rows) if with_images else {},
        with_images=with_images,
        most_pictures=MOST_PICTURES_A_ROW,
        problems=problems[:MOST_FINDINGS],
        num_problems=len(problems),
        problems_known=files.problems is not None,
        checks=checks[:MOST_FINDINGS],
        num_checks=len(checks),
        checks_known=files.checks is not None,
        run=run,
        run_tables=run_tables(files),
        training_facts=training_facts(files),
        seeds=seeds(files),
        study_text=shortened(files.study_text or "", LONGEST_STUDY),
    )

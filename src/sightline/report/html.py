"""The report as one HTML page: everything inline, nothing fetched, every text from the data escaped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.calibration import Calibration
from sightline.report.charts import CHART_HEIGHT, calibration_chart, trade_chart
from sightline.report.content import Content, numbering_tags
from sightline.report.costs import hours_of_work, in_words
from sightline.report.findings import MOST_FINDINGS, accepted_faults, columns, doubt, findings, notes
from sightline.report.judges import judges_part
from sightline.report.mistakes import KINDS
from sightline.report.origins import model_origins
from sightline.report.page import render_page
from sightline.report.pictures import thumbnails
from sightline.report.pictures_matter import picture_sets
from sightline.report.reading import Row, StudyFiles
from sightline.report.sides import MOST_PICTURES_A_ROW, SideBySide, SideRow
from sightline.report.study_tables import elsewhere_entries, of_wordings
from sightline.report.tables import slim
from sightline.report.verdicts import VerdictGroup, beside_of, has_several, together, undecided, verdict_groups
from sightline.report.wording import clean, duration, rounded, shortened
from sightline.verdict.sentences import BESIDE

FIRST_ROWS = 100
"""Rows in view before the reader asks for more, and without a script all there are."""

MOST_FILTERS = 3
"""Tags whose filters are in view at once."""

LONGEST_STUDY = 20_000
_LISTED = 15

_ELSEWHERE = ("wordings", "sensitivity", "forgotten", "cut")
"""Parts of compare.json whose sentences stand in a section with their drawings and tables."""

_ANSWERS = (("r", "right"), ("w", "wrong"), ("p", "by degrees"), ("u", "not read"), ("f", "scoring failed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing with its caption.

    Args:
        title: the name in front of the caption.
        caption: the rest of it.
        drawing: the content of its SVG.
        height: of that SVG, in its own units.
        words: the same for those who cannot see it.
    """

    title: str
    caption: str
    drawing: Markup
    height: int
    words: str


def page(content: Content, *, with_images: bool) -> str:
    """Write the report's page.

    Args:
        content: of the study.
        with_images: whether small copies of the pictures are embedded, and the pictures linked.

    Returns:
        One HTML document that needs no other file.
    """
    files, side, compare = content.files, content.side, content.files.compare
    run = files.run or {}
    problems, checks = findings(files.problems), findings(files.checks)
    numbering = numbering_tags(side.rows)
    shown = [picture for row in side.shown for picture in row.sample.pictures[:MOST_PICTURES_A_ROW]]
    return render_page(
        "template.html.j2",
        title=str(compare.get("study") or files.directory.name),
        script="report.js",
        functions={"as_show": _as_show, "together": together, "undecided": undecided},
        compare=compare,
        num_models=len({arm["model"] for arm in compare.get("arms") or ()}),
        several_data=has_several(compare, "data"),
        several_wordings=has_several(compare, "template"),
        stated=verdict_groups(compare, compare.get("stated") or (), y=30),
        exploratory=_listed(compare, compare.get("exploratory") or ()),
        elsewhere=_listed(compare, elsewhere_entries(files)),
        wordings=[(entry, _listed(compare, of_wordings(compare, entry))) for entry in compare.get("wordings") or ()],
        beside=[each for each in beside_of(compare) if each[0] not in {BESIDE[key] for key in _ELSEWHERE}],
        with_people=any(panel.any_people for table in content.results for panel in table.panels),
        said={key: _said(compare.get(key) or ()) for key in _ELSEWHERE},
        judges=judges_part(files),
        picture_sets=picture_sets(files.pictures_matter),
        doubt=doubt(files),
        notes=notes(files),
        accepted=accepted_faults(files),
        content=content,
        slim=slim,
        place_of=place_of,
        curves=_curves(content),
        trades=[
            Picture(title="", caption=f"{one.y_title} against {one.x_title}", words=in_words(one),
                    drawing=trade_chart(one), height=CHART_HEIGHT)
            for one in content.trades
        ],
        calibrations=[_calibration(one) for one in content.calibrations],
        side=side,
        moved_by=moved_by,
        facts=Markup(_facts(side, content)),
        first_rows=FIRST_ROWS,
        kinds=[(KINDS.index(kind), kind) for kind in KINDS if any(kind in row.kinds.values() for row in side.rows)],
        answers=[(letter, name) for letter, name in _ANSWERS if _has_letter(side, letter)],
        columns=columns,
        filters=content.filters,
        most_filters=MOST_FILTERS,
        numbering=numbering,
        thumbnails=thumbnails(shown, files.directory) if with_images else {},
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
        seeds=seeds(files),
        study_text=shortened(files.study_text or "", LONGEST_STUDY),
    )  # fmt: skip


def _said(entries: Iterable[Row]) -> list[str]:
    return [f"{entry['title']}: {entry['sentence']}" for entry in entries]


def _listed(compare: Row, entries: Iterable[Row]) -> tuple[VerdictGroup, ...]:
    return verdict_groups(compare, entries, y=_LISTED, by_metric=True)


def _curves(content: Content) -> list[Picture]:
    return [
        Picture(
            title=one.model,
            caption=one.summary,
            drawing=drawing.training_curves(one),
            height=drawing.training_height(one),
            words=f"Training of {one.model}: {one.summary}",
        )
        for one in content.training
    ]


def _calibration(one: Calibration) -> Picture:
    caption = f"{one.metric}, {one.data}: calibration error {rounded(one.error, 1, shift=2)}%"
    words = "; ".join(
        f"{rounded(b.right, 0, shift=2)}% right at {rounded(b.confidence, 0, shift=2)}%" for b in one.bins
    )
    chart = calibration_chart(one)
    return Picture(title=one.model, caption=caption, drawing=chart, height=CHART_HEIGHT, words=words)


def place_of(model: str, metric: str, data: str, template: str, answer: str = "") -> dict[str, str]:
    """Name the answers behind a model's value, as the page's filters do."""
    place = {"model": model, "metric": metric, "data": data, "template": template}
    return place | ({"answer": answer} if answer else {})


def _as_show(show: Mapping[str, str]) -> str:
    """Write down which answers are meant, in the words of the page's filters."""
    return json.dumps({clean(key): clean(value) for key, value in show.items()}, ensure_ascii=True, sort_keys=True)


def _has_letter(side: SideBySide, letter: str) -> bool:
    return any(letter in marks for row in side.rows for marks in row.marks.values())


def _facts(side: SideBySide, content: Content) -> str:
    """What the page's script filters by, as JSON that is no markup whatever it holds."""
    keys = [key for key, _ in content.filters]
    rows = [
        {
            "tags": {clean(key): clean(str(row.sample.tags[key])) for key in keys if key in row.sample.tags},
            "flips": {str(index): status for index, status in row.flips.items()},
            "right": row.num_right,
            "data": clean(row.data),
            "template": clean(row.template),
            "marks": [row.marks[name] for name in side.metrics],
            "kinds": "".join(
                f"{KINDS.index(row.kinds[model]):x}" if model in row.kinds else "-" for model in side.models
            ),
        }
        for row in side.shown
    ]
    facts = {
        "stated": side.num_stated or len(side.comparisons),
        "models": list(map(clean, side.models)),
        "metrics": list(map(clean, side.metrics)),
        "rows": rows,
    }
    text = json.dumps(facts, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def moved_by(row: SideRow, side: SideBySide) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """Which models fixed or broke a row, and against which one; by the stated comparisons, or by all if none was."""
    limit = side.num_stated or len(side.comparisons)
    moved: dict[tuple[str, str], list[str]] = {}
    for index, status in sorted(row.flips.items()):
        if index < limit:
            comparison = side.comparisons[index]
            moved.setdefault((status, comparison["against"]), []).append(comparison["model"])
    return tuple((status, tuple(dict.fromkeys(models)), against) for (status, against), models in moved.items())


def seeds(files: StudyFiles) -> str:
    """The seeds the study names, step by step."""
    steps = files.study.get("steps")
    named = []
    for name, step in steps.items() if isinstance(steps, Mapping) else ():
        if not isinstance(step, Mapping):
            continue
        value = step.get("seed") if step.get("seeds") in (None, []) else step["seeds"]
        listed = value if isinstance(value, list) else [value]
        if value is not None:
            named.append(f"{name}: {', '.join(map(str, listed))}")
    if "seed" in files.study:
        named.insert(0, str(files.study["seed"]))
    return "; ".join(named)


def _in_words(key: str) -> str:
    return key.replace("_gib", " (GiB)").replace("_", " ")


def _hours(files: StudyFiles) -> tuple[tuple[str, str], ...]:
    hours = hours_of_work(files)
    return ((hours[0], rounded(hours[1], 3)),) if hours else ()


def run_tables(files: StudyFiles) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Models, hardware, times, versions and data hashes of a run, each as a table of names and values."""
    run = files.run or {}

    def pairs(key: str, show: Callable[[Any], str] = str) -> tuple[tuple[str, str], ...]:
        entries = run.get(key)
        if not isinstance(entries, Mapping):
            return ()
        return tuple((str(name), show(value)) for name, value in entries.items())

    return (
        ("Models, with the SHA-256 of their adapters", model_origins(files)),
        ("Hardware", tuple((_in_words(name), value) for name, value in pairs("hardware"))),
        ("Hours of training, answering and judging", _hours(files)),
        ("Time, step by step", pairs("seconds", lambda value: duration(float(value)))),
        ("Versions", pairs("versions")),
        ("Data, SHA-256 of the rows", pairs("data_sha256")),
    )

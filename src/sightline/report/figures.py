"""The report's drawings as SVG files of their own, in the same hand as on the page."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup

from sightline.report.drawing import label_text
from sightline.report.html import curve_views
from sightline.report.page import package_text
from sightline.report.reading import StudyFiles
from sightline.report.results import STRIP_MIDDLE, ResultTable, result_tables
from sightline.report.verdicts import VerdictGroup, verdict_groups
from sightline.report.wording import clean, shortened

_WIDTH = 840
_LABELS = 360
_ROW = 44
_LINE = 26
_MARGIN = 20
_LONGEST_LABEL = 60


def _document(content: Markup, *, title: str, width: int, height: int) -> str:
    style = Markup(package_text("figures.css"))
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
            "<title>{title}</title><style>{style}</style>"
            '<rect class="paper" width="100%" height="100%"/>{content}</svg>\n'
        ).format(w=width, h=height, title=clean(title), style=style, content=content)
    )


def _box(content: Markup, *, x: int, y: int, width: int, height: int) -> Markup:
    return Markup('<svg x="{}" y="{}" width="{}" height="{}">{}</svg>').format(x, y, width, height, content)


def _verdicts_figure(groups: tuple[VerdictGroup, ...]) -> str:
    parts, y = [], _MARGIN
    strip_width = _WIDTH - _LABELS - _MARGIN
    for group in groups:
        direction = "higher is better" if group.higher_is_better else "lower is better"
        parts.append(label_text(_LABELS + strip_width, y + 4, f"difference in {group.unit}; {direction}", anchor="end"))
        y += 14
        for view in group.views:
            parts.append(label_text(_MARGIN, y + 18, shortened(view.model, _LONGEST_LABEL), kind="name"))
            said = f"against {view.against}, {view.metric}: {view.verdict}"
            parts.append(label_text(_MARGIN, y + 34, shortened(said, _LONGEST_LABEL)))
            parts.append(_box(view.strip or group.grid, x=_LABELS, y=y, width=strip_width, height=_ROW))
            y += _ROW
        parts.append(_box(group.axis, x=_LABELS, y=y, width=strip_width, height=18))
        y += 18 + _MARGIN
    return _document(Markup("").join(parts), title="The stated questions", width=_WIDTH, height=y)


def _results_figure(table: ResultTable, index: int) -> str:
    panel = table.panels[index]
    strip_width = _WIDTH - _LABELS - _MARGIN
    direction = "higher is better" if panel.higher_is_better else "lower is better"
    title = f"{panel.title} ({panel.unit}), {direction}"
    parts, y = [label_text(_MARGIN, _MARGIN + 4, title)], _MARGIN + 14
    rows = [(row.model, row.value, row.strip) for row in panel.rows]
    if panel.baseline is not None:
        rows.append(("most frequent answer", panel.baseline[0], panel.baseline_strip))
    for model, value, strip in rows:
        parts.append(label_text(_MARGIN, y + STRIP_MIDDLE + 4, model, kind="name"))
        parts.append(label_text(_LABELS - 14, y + STRIP_MIDDLE + 4, value, kind="number", anchor="end"))
        parts.append(_box(strip, x=_LABELS, y=y, width=strip_width, height=_LINE))
        y += _LINE
    parts.append(_box(panel.axis, x=_LABELS, y=y, width=strip_width, height=18))
    return _document(Markup("").join(parts), title=title, width=_WIDTH, height=y + 18 + _MARGIN)


def _file_name(*parts: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9._@]+", "-", part).strip("-.") for part in parts)[:150] + ".svg"


def figure_files(files: StudyFiles) -> Mapping[str, str]:
    """Draw a study's figures.

    Args:
        files: the study's content.

    Returns:
        File name to SVG text: the stated questions, each metric, each model's training.
    """
    figures: dict[str, str] = {}
    if files.compare.get("stated"):
        figures["stated.svg"] = _verdicts_figure(verdict_groups(files.compare, files.compare["stated"], y=22))
    for table in result_tables(files.compare):
        for index, panel in enumerate(table.panels):
            figures[_file_name("metric", panel.metric, table.data, table.template)] = _results_figure(table, index)
    for view in curve_views(files):
        figures[_file_name("training", view.model)] = _document(
            view.drawing, title=f"Training of {view.model}: {view.summary}", width=420, height=view.height
        )
    return figures

"""The report as Markdown: the same content without side-by-sides, for a pull request, a terminal or a diff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sightline.report.content import Content
from sightline.report.findings import MOST_FINDINGS, accepted_faults, columns, doubt, findings, notes
from sightline.report.html import run_tables, seeds
from sightline.report.judges import judges_markdown
from sightline.report.pictures_matter import picture_sets
from sightline.report.reading import StudyFiles
from sightline.report.tables import Table, caption, markdown_lines, slim
from sightline.report.verdicts import VerdictView, beside_of, together, undecided, verdict_groups
from sightline.report.wording import clean, count, shortened
from sightline.report.wording import markdown_text as text


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(text(cell) for cell in row) + " |"
    yield ""


def _views(files: StudyFiles, key: str) -> list[VerdictView]:
    groups = verdict_groups(files.compare, files.compare.get(key) or (), y=0)
    return [view for group in groups for view in group.views]


def _stated(files: StudyFiles, figures: Sequence[str]) -> Iterator[str]:
    yield "## The stated questions"
    yield ""
    views = _views(files, "stated")
    if not views:
        yield "No question was stated before the run; every comparison below is exploratory."
        yield ""
    for view in views:
        where = f"{view.data}, {view.template} wording" if view.template else view.data
        yield f"### {text(view.model)} against {text(view.against)}: {text(view.metric)}, {text(where)}"
        yield ""
        yield f"**{text(view.verdict)}**: {text(view.sentence)}"
        yield ""
        if view.facts:
            yield from ("; ".join(f"{text(label)} {text(value)}" for label, value in view.facts) + ".", "")
        if view.people:
            yield from (f"With people's labels: {text(view.people)}", "")
        for alike in together(view.checkpoints):
            asked = "; ".join(f"{run.model} against {run.against}" for run in alike)
            people = f" With people's labels: {text(alike[0].people)}" if alike[0].people else ""
            yield f"- {text(asked)}: **{text(alike[0].verdict)}**: {text(alike[0].sentence)}{people}"
        yield ""
    if "stated.svg" in figures:
        yield "![The stated questions: differences with intervals](figures/stated.svg)"
        yield ""
    for fault, reason in accepted_faults(files):
        yield f"- Accepted fault {text(fault)}: {text(reason)}"
    for note in notes(files):
        yield f"- {text(note)}"
    yield ""


def _results(content: Content) -> Iterator[str]:
    yield "## All models, all metrics"
    yield ""
    for table in content.results:
        yield f"{text(table.data)}, {text(table.template)} wording: {table.asked}."
        yield ""
        for panel in table.panels:
            why = f"; no interval where there is a dash: {text(panel.no_interval)}" if panel.no_interval else ""
            yield f"**{text(panel.title)}** ({text(panel.unit)}, {panel.direction}{why})"
            yield ""
            rows: list[tuple[str, ...]] = [
                (
                    *(row.model, row.value, row.interval, row.people, row.people_interval, row.clean),
                    *(row.num_counted, row.num_unparsed, row.num_failed),
                )
                for row in panel.rows
            ]
            if panel.baseline is not None:
                value, answer = panel.baseline
                rows.append((f"always {answer!r}", value, *[""] * 7))
            titles = ("model", "value", "interval", "corrected by people", "its interval", "on clean items")
            titles += ("answers", "of them unparsed", "failed")
            left_out = {*([] if panel.any_people else [3, 4]), *([] if panel.any_clean else [5])}
            kept = [place for place in range(len(titles)) if place not in left_out]
            yield from _table([titles[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _pictures(files: StudyFiles) -> Iterator[str]:
    sets = picture_sets(files.pictures_matter)
    if sets:
        yield "## Does the picture matter?"
        yield ""
    for each in sets:
        yield text(each.sentence)
        yield ""
        yield from (
            f"- {text(view.model)}: **{text(view.verdict)}**: {text(view.sentence)} {text(view.beside)}"
            for view in each.views
        )
        yield ""


def _beside(files: StudyFiles) -> Iterator[str]:
    for heading, sentences in beside_of(files.compare):
        yield f"## {heading}"
        yield ""
        yield from (f"- {text(sentence)}" for sentence in sentences)
        yield ""


def _sections(content: Content) -> Iterator[str]:
    """Give the page's middle sections: their tables, one after the other."""
    for heading, tables in (
        ("Answers that could not be read", content.some("unread", "unread-rules")),
        ("What training has seen", content.some("seen", "clean")),
        ("How the question is put", content.some("wordings")),
        ("What was lost elsewhere", content.some("elsewhere")),
        ("Where the mistakes are", (*content.some("mistakes"), *content.by_tag)),
        ("How sure, and how often right", content.some("calibration")),
        ("Quality against cost", content.some("costs")),
    ):
        if tables:
            yield from (f"## {heading}", "")
            yield from (line for table in tables for line in _captioned(table))


def _captioned(table: Table) -> Iterator[str]:
    table = slim(table)
    yield from (caption(table), "", *markdown_lines(table), "")
    if table.note:
        yield from (text(table.note), "")


def _exploratory(files: StudyFiles) -> Iterator[str]:
    groups = verdict_groups(files.compare, files.compare.get("exploratory") or (), y=0)
    if not groups:
        return
    yield "## Exploratory comparisons"
    yield ""
    yield "Not stated before the run: ideas for the next study, not findings of this one."
    yield ""
    known = [view for group in groups for view in group.views if view.strip]
    if known:
        # One table holds all of them: a loss gets better or worse, and no question is fixed or broken by it.
        moved = ("fixed", "broke") if all(group.won for group in groups) else ("better on", "worse on")
        yield from _table(
            ("model", "against", "metric", "verdict", "difference", "interval", "p", "adjusted p", *moved),
            (
                (
                    *(view.model, view.against, view.metric, f"{view.verdict}: {view.why}".removesuffix(": ")),
                    f"{view.difference} {view.unit}",
                    *(view.interval, view.p, view.p_adjusted, view.fixed, view.broke),
                )
                for view in known
            ),
        )
    yield from (
        f"- **{text(verdict)}**: {text(sentence)} So for {text(asked)}."
        for verdict, sentence, asked in undecided(groups)
    )
    yield ""


def _found(title: str, recorded: object, *, none: str) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    found = findings(recorded)
    if not found:
        yield none if recorded is not None else "Not recorded."
        yield ""
        return
    shown = columns(found)
    rows = [[getattr(one, name) for _, name in shown] for one in found[:MOST_FINDINGS]]
    yield from _table([title.lower() for title, _ in shown], rows)
    if len(found) > MOST_FINDINGS:
        yield f"{count(len(found) - MOST_FINDINGS)} more are not shown."
        yield ""


def _made(content: Content) -> Iterator[str]:
    files = content.files
    yield "## How this was made"
    yield ""
    for title, pairs in run_tables(files):
        if pairs:
            yield f"**{title}**: " + "; ".join(f"{text(key)} {text(value)}" for key, value in pairs) + "."
            yield ""
    if seeds(files):
        yield f"**Seeds**: {text(seeds(files))}."
        yield ""
    for table in content.some("training"):
        yield from (*markdown_lines(table), "")
    if files.study_text:
        yield "The study as resolved:"
        yield ""
        yield from (f"    {line}" for line in clean(shortened(files.study_text, 20_000)).splitlines())
        yield ""


def markdown(content: Content, *, figures: Sequence[str]) -> str:
    """Write the report as Markdown.

    Args:
        content: of the study.
        figures: names of the files in figures/ to refer to.

    Returns:
        The document; no text from the data can become markup, a link or a picture in it.
    """
    files = content.files
    lines = [f"# {text(files.compare.get('study') or files.directory.name)}", ""]
    lines += ["What tuning changed, and what this test set can tell. For research; not for clinical decisions.", ""]
    lines += [f"**{text(doubt(files))}**", ""] if files.changed else []
    lines += _stated(files, figures)
    lines += _results(content)
    lines += _beside(files)
    lines += judges_markdown(files)
    lines += _pictures(files)
    lines += _sections(content)
    lines += _exploratory(files)
    training = [name for name in figures if name.startswith("training-") and name.endswith(".svg")]
    if training:
        lines += ["## Training", ""]
        lines += [f"![{text(name.removesuffix('.svg'))}](figures/{name})" for name in training] + [""]
    lines += _found("Rows left out or repaired", files.problems, none="No row was left out or repaired.")
    lines += _found("Checks", files.checks, none="Every check passed.")
    lines += _made(content)
    lines += ["Rounded half-even: points and percent to one decimal, p to three. All digits are in compare.json.", ""]
    return "\n".join(lines)

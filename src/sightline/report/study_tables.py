"""A study's tables: what was asked and found, every number in full, taken from compare.json as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sightline.report.metric_facts import metric_facts
from sightline.report.reading import Row, StudyFiles
from sightline.report.sides import SideBySide
from sightline.report.tables import (
    Cell,
    Table,
    amount,
    columns,
    difference,
    interval,
    number,
    probability,
    words,
)
from sightline.report.verdicts import by_people
from sightline.report.wording import level, unit_name
from sightline.verdict.sentences import model_in_words

_ASKED = ("Model", "Against", "Metric", "Data", "Wording")
_CHANGED = ("#Difference", "~Interval", "Unit", "#p", "#Adjusted p")


def comparison_tables(compare: Row) -> Iterator[Table]:
    """Give the stated questions and the exploratory ones."""
    for key, title in (("stated", "The stated questions"), ("exploratory", "Exploratory comparisons")):
        if entries := compare.get(key):
            yield Table(
                name=key,
                title=title,
                columns=columns(
                    *_ASKED, "Verdict", *_CHANGED, "#Check p", "#Detectable", "#Fixed or better", "#Broke or worse",
                    "#Questions", "#Images", "#Independent groups",
                ),
                rows=tuple(_comparison(compare, entry, index) for index, entry in _placed(compare, entries)),
            )  # fmt: skip


def _placed(compare: Row, entries: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """Number comparisons as the page's filter does: the stated ones, then the others."""
    start = 0 if entries is compare.get("stated") else len(compare.get("stated") or ())
    return ((start + index, entry) for index, entry in enumerate(entries))


def _asked(entry: Row) -> tuple[Cell, ...]:
    names = (model_in_words(entry["model"]), model_in_words(entry["against"]))
    return (*map(words, names), words(entry["metric"]), words(entry["data"]), words(entry.get("template") or "plain"))


def _changed(entry: Row, unit: str) -> tuple[Cell, ...]:
    return (
        difference(entry.get("difference"), unit),
        interval(entry.get("interval"), unit, of_change=True),
        Cell(shown=unit_name(unit, of_change=True), value=unit),
        probability(entry.get("p")),
        probability(entry.get("p_adjusted")),
    )


def _comparison(compare: Row, entry: Row, index: int) -> tuple[Cell, ...]:
    unit = entry.get("unit") or metric_facts(compare, entry["metric"]).unit
    moved = {"comparison": str(index)} if entry.get("binary", True) else {}
    return (
        *_asked(entry),
        words(entry["verdict"]),
        *_changed(entry, unit),
        probability(entry.get("p_check")),
        amount(entry.get("detectable"), unit),
        number(entry.get("fixed"), **moved, **({"moved": "fixed"} if moved else {})),
        number(entry.get("broke"), **moved, **({"moved": "broke"} if moved else {})),
        number(entry.get("num_questions")),
        number(entry.get("num_images")),
        number(entry.get("num_groups")),
    )


def results_table(compare: Row) -> Table | None:
    """Give every model by every metric, on all rows and, where training has seen some, on the clean ones."""
    rows = []
    people = by_people(compare, "model")
    with_clean = any(value.get("clean") for _, _, value in _measured(compare))
    for arm, name, value in _measured(compare):
        unit, place = value.get("unit") or "rate", _place(arm, name)
        row = [
            *(words(arm[key]) for key in ("model", "data")),
            words(arm.get("template") or "plain"),
            words(name),
            amount(value.get("value"), unit, **place),
            interval(value.get("interval"), unit, of_change=False),
            Cell(shown=unit_name(unit, of_change=False), value=unit),
            number(value.get("num_counted")),
            *(
                number(value.get(f"num_{outcome}"), **place, answer=letter)
                for outcome, letter in (("scored", ""), ("unparsed", "u"), ("failed", "f"))
            ),
        ]
        if with_clean:
            clean = value.get("clean") or value
            row += [amount(clean.get("value"), unit), interval(clean.get("interval"), unit, of_change=False)]
            row += [number((clean.get("num_scored") or 0) + (clean.get("num_unparsed") or 0))]
        if people:
            found = people.get((arm["model"], arm["data"], arm.get("template") or "plain", name), {})
            row += [amount(found.get("value"), unit), interval(found.get("interval"), unit, of_change=False)]
            row += [number(found.get("num_labels"))]
        rows.append(tuple(row))
    titles = ["Model", "Data", "Wording", "Metric", "#Value", "~Interval", "Unit"]
    titles += ["#Answers behind it", "#Scored", "#Unparsed", "#Failed"]
    titles += ["#Value on clean items", "~Interval on clean items", "#Clean items"] if with_clean else []
    titles += ["#Value corrected by people", "~Corrected interval", "#Labels"] if people else []
    return (
        Table(name="results", title="All models, all metrics", columns=columns(*titles), rows=tuple(rows))
        if rows
        else None
    )


def _measured(compare: Row) -> Iterator[tuple[Row, str, Row]]:
    for arm in compare.get("arms") or ():
        for name, value in arm["metrics"].items():
            yield arm, name, value


def _place(arm: Row, metric: str) -> dict[str, str]:
    return {"model": arm["model"], "metric": metric, "data": arm["data"], "template": arm.get("template") or "plain"}


def unread_table(compare: Row, side: SideBySide) -> Table | None:
    """Count the answers that are no good answer whatever they mean: unread, cut or empty; None where there are none."""
    cut: Counter[tuple[str, str, str]] = Counter()
    empty: Counter[tuple[str, str, str]] = Counter()
    for row in side.rows:
        for one in row.said:
            for model in one.models:
                cut[model, row.data, row.template] += one.cut
                empty[model, row.data, row.template] += not one.text.strip()
    rows = []
    for arm in compare.get("arms") or ():
        key = (arm["model"], arm["data"], arm.get("template") or "plain")
        found = {
            outcome: max((value.get(f"num_{outcome}") or 0 for value in arm["metrics"].values()), default=0)
            for outcome in ("unparsed", "failed")
        }
        asked = arm.get("num_questions") or 0
        share = found["unparsed"] / asked if asked else None
        rows.append(
            (
                *map(words, key),
                number(asked, model=key[0], data=key[1], template=key[2]),
                number(found["unparsed"], model=key[0], data=key[1], template=key[2], answer="u"),
                Cell(shown=level(share, "rate"), value=share),
                number(cut[key]),
                number(empty[key]),
                number(found["failed"], model=key[0], data=key[1], template=key[2], answer="f"),
            )
        )
    if not any(cell.value for row in rows for cell in row[4:]):
        return None
    return Table(
        name="unread",
        title="Answers that could not be read",
        columns=columns(
            *("Model", "Data", "Wording", "#Questions", "#Not read", "#Not read (%)"),
            *("#Cut at the length limit", "#Empty", "#Scoring failed"),
        ),
        rows=tuple(rows),
        note="Not read: most by any one metric; counted as wrong. Failed scorings are left out of every number.",
    )


def rules_table(compare: Row) -> Table | None:
    """Give what the stated questions' differences are under every counting of answers that could not be read."""
    rows = []
    for entry in compare.get("stated") or ():
        if rules := entry.get("by_rule"):
            unit = entry.get("unit") or "rate"
            left = rules.get("left_out") or {}
            rows.append(
                (
                    *_asked(entry),
                    difference(entry.get("difference"), unit),
                    difference(left.get("difference"), unit),
                    interval(left.get("interval"), unit, of_change=True),
                    interval(rules.get("bounds"), unit, of_change=True),
                    Cell(shown=unit_name(unit, of_change=True), value=unit),
                )
            )
    titles = (*_ASKED, "#Counted wrong", "#Left out", "~Interval", "~Whatever they had been", "Unit")
    return _table("unread-rules", "The stated questions under every way of counting them", titles, rows)


def seen_tables(files: StudyFiles) -> Iterator[Table]:
    """Give which rows training has seen, and what is left of every comparison without them."""
    rows = []
    for name, samples in files.samples.items():
        found = Counter(files.seen.get(name, {}).get(sample_id) for sample_id in samples)
        for how in sorted(how for how in found if how is not None):
            share = found[how] / len(samples)
            rows.append((words(name), words(how), number(found[how]), Cell(shown=level(share, "rate"), value=share)))
    if table := _table("seen", "Rows that training has seen", ("Data", "How", "#Rows", "#Share (%)"), rows):
        yield table
    rows = []
    for entry in (*(compare_entries(files.compare)),):
        if seen := entry.get("seen"):
            unit, clean = entry.get("unit") or "rate", seen.get("clean") or {}
            rows.append(
                (
                    *_asked(entry),
                    number(sum(seen["num_seen"].values())),
                    difference(entry.get("difference"), unit),
                    interval(entry.get("interval"), unit, of_change=True),
                    difference(clean.get("difference"), unit),
                    interval(clean.get("interval"), unit, of_change=True),
                    probability(clean.get("p_adjusted")),
                    Cell(shown=unit_name(unit, of_change=True), value=unit),
                )
            )
    titles = (*_ASKED, "#Seen", "#On all", "~Interval on all", "#On clean items", "~Interval on clean items")
    titles = (*titles, "#Adjusted p on clean items", "Unit")
    if table := _table("clean", "Every comparison without the rows that training has seen", titles, rows):
        yield table


def compare_entries(compare: Row) -> tuple[Row, ...]:
    """Give every comparison, the stated ones first."""
    return (*(compare.get("stated") or ()), *(compare.get("exploratory") or ()))


def wordings_table(compare: Row) -> Table | None:
    """Give every difference that was measured in several wordings, wording by wording."""
    rows = [
        (*_asked(entry), words(entry["verdict"]), *_changed(entry, entry.get("unit") or "rate"))
        for together in compare.get("wordings") or ()
        for entry in of_wordings(compare, together)
    ]
    return _table("wordings", "The same questions in several wordings", (*_ASKED, "Verdict", *_CHANGED), rows)


def of_wordings(compare: Row, together: Row) -> list[Row]:
    """Find the comparisons behind an entry of `wordings`."""
    same = ("model", "against", "metric", "data")
    return [entry for entry in compare_entries(compare) if all(entry[key] == together[key] for key in same)]


def elsewhere_entries(files: StudyFiles) -> tuple[Row, ...]:
    """Find the comparisons on the set that shows what was forgotten; none where the study names no such set."""
    evaluate = files.study.get("evaluate")
    name = evaluate.get("untouched") if isinstance(evaluate, Mapping) else None
    entries = compare_entries(files.compare) if name else ()
    return tuple(entry for entry in entries if name in (entry["data"], entry["data"].partition(".")[0]))


def elsewhere_table(files: StudyFiles) -> Table | None:
    """Give what changed on questions that the training was not about."""
    rows = [
        (*_asked(entry), words(entry["verdict"]), *_changed(entry, entry.get("unit") or "rate"))
        for entry in elsewhere_entries(files)
    ]
    return _table("elsewhere", "What was lost elsewhere", (*_ASKED, "Verdict", *_CHANGED), rows)


def apart_tables(compare: Row) -> Iterator[Table]:
    """Give the parts of yes/no questions, the effects of settings and what choosing the best amounts to."""
    rows = [
        (*_asked(entry), words(entry["verdict"]), *_changed(entry, entry.get("unit") or "rate"))
        for apart in compare.get("yes_no") or ()
        for entry in apart["components"]
    ]
    if table := _table("yes-no", "Yes/no questions taken apart", (*_ASKED, "Verdict", *_CHANGED), rows):
        yield table
    rows = [
        (words(entry["title"]), words(entry["verdict"]), *_changed(entry, entry.get("unit") or "rate"))
        for entry in compare.get("effects") or ()
    ]
    if table := _table("effects", "What each setting does", ("Effect", "Verdict", *_CHANGED), rows):
        yield table
    rows = [
        (
            words(entry["title"]),
            words(entry["best"]),
            amount(entry["gain"], entry["unit"]),
            amount(entry["expected"], entry["unit"]),
            probability(entry["p"]),
            Cell(shown=unit_name(entry["unit"], of_change=True), value=entry["unit"]),
        )
        for entry in compare.get("selection") or ()
    ]
    titles = ("Choice", "Best", "#Gain", "#Expected with no effect", "#p", "Unit")
    if table := _table("selection", "The best of several", titles, rows):
        yield table


def _table(name: str, title: str, titles: Iterable[str], rows: Sequence[tuple[Cell, ...]]) -> Table | None:
    return Table(name=name, title=title, columns=columns(*titles), rows=tuple(rows)) if rows else None

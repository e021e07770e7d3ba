"""Where the mistakes are: how many of each kind, and for which questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sightline.report.mistakes import FAILED, IN_PART, KINDS, RIGHT, UNSCORED
from sightline.report.sides import SideBySide, SideRow
from sightline.report.tables import Cell, Table, columns, number, words
from sightline.report.wording import count, level


def mistakes_table(side: SideBySide) -> Table | None:
    """Count the kinds of mistakes, model by model; None where no answer was marked."""
    found: dict[str, Counter[str]] = {model: Counter() for model in side.models}
    for row in side.rows:
        for model, kind in row.kinds.items():
            found[model][kind] += 1
    present = [kind for kind in KINDS if any(counts[kind] for counts in found.values())]
    if not set(present) - {UNSCORED}:
        return None
    rows = tuple(
        (
            words(model),
            number(sum(counts.values()), model=model),
            *(number(counts[kind], model=model, kind=str(KINDS.index(kind))) for kind in present),
        )
        for model, counts in found.items()
        if counts
    )
    return Table(
        name="mistakes",
        title="Kinds of mistakes",
        columns=columns("Model", "#Answers", *(f"#{kind.capitalize()}" for kind in present)),
        rows=rows,
        note="By the first metric that applies to a question. Counts alone: no test stands behind a difference here.",
    )


def tag_tables(side: SideBySide, filters: Iterable[tuple[str, Sequence[str]]]) -> tuple[Table, ...]:
    """Give every model's share of right answers by each tag's values."""
    return tuple(table for key, values in filters if (table := _tag_table(side, key, values)) is not None)


def _tag_table(side: SideBySide, key: str, values: Sequence[str]) -> Table | None:
    rows = []
    for value in values:
        tagged = [row for row in side.rows if str(row.sample.tags.get(key)) == value]
        cells = [_share(tagged, model, {"model": model, f"tag:{key}": value}) for model in side.models]
        if any(cell.value is not None for cell in cells):
            rows.append((words(value), number(len(tagged), **{f"tag:{key}": value}), *cells))
    title = key.replace("_", " ").capitalize()
    return (
        Table(
            name=f"right-by-{key}",
            title=f"Right answers (%) by {title.lower()}",
            columns=columns(title, "#Questions", *(f"#{model}" for model in side.models)),
            rows=tuple(rows),
        )
        if rows
        else None
    )


def _share(rows: Sequence[SideRow], model: str, show: Mapping[str, str]) -> Cell:
    kinds = [row.kinds[model] for row in rows if model in row.kinds]
    marked = [kind for kind in kinds if kind not in (UNSCORED, FAILED, IN_PART)]
    if not marked:
        return Cell(shown="–", value=None)
    share = sum(kind == RIGHT for kind in marked) / len(marked)
    shown = level(share, "rate")
    return Cell(shown=shown if len(marked) == len(rows) else f"{shown} of {count(len(marked))}", value=share, show=show)

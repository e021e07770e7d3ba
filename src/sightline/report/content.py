"""Everything a report shows, worked out once for the page, the Markdown, the tables and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sightline.report.calibration import Calibration, calibration_table, calibrations
from sightline.report.costs import Trade, costs_table, trades, training_table
from sightline.report.curves import Training, trainings
from sightline.report.mistake_tables import mistakes_table, tag_tables
from sightline.report.reading import StudyFiles
from sightline.report.results import ResultTable, result_tables
from sightline.report.sides import SideBySide, SideRow, side_by_side
from sightline.report.study_tables import (
    apart_tables,
    comparison_tables,
    elsewhere_table,
    results_table,
    rules_table,
    seen_tables,
    unread_table,
    wordings_table,
)
from sightline.report.tables import Table

MOST_TAG_VALUES = 30
_FIRST_TAGS = ("kind", "answer_type", "organ")
_MOST_TAG_TABLES = 8

Filters = tuple[tuple[str, tuple[str, ...]], ...]
"""Tags with their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a report shows of a study.

    Args:
        files: the study's directory.
        side: every question with what each model said.
        filters: the tags by which questions can be filtered.
        results: every model by every metric, drawn.
        training: what each training's curves show.
        trades: quality against what it takes.
        calibrations: of models with confidences.
        tables: by name, in the order of the page; those that would be empty are not in it.
    """

    files: StudyFiles
    side: SideBySide
    filters: Filters
    results: tuple[ResultTable, ...]
    training: tuple[Training, ...]
    trades: tuple[Trade, ...]
    calibrations: tuple[Calibration, ...]
    tables: Mapping[str, Table]

    def some(self, *names: str) -> tuple[Table, ...]:
        """Give those of the named tables that exist."""
        return tuple(self.tables[name] for name in names if name in self.tables)

    @property
    def by_tag(self) -> tuple[Table, ...]:
        """The tables of right answers by tag."""
        return tuple(table for name, table in self.tables.items() if name.startswith("right-by-"))


def gather(files: StudyFiles) -> Content:
    """Work out what a report shows."""
    side = side_by_side(files)
    filters, found = tag_filters(side.rows), calibrations(files)
    return Content(
        files=files,
        side=side,
        filters=filters,
        results=result_tables(files.compare),
        training=trainings(files.curves),
        trades=trades(files),
        calibrations=found,
        tables={table.name: table for table in _tables(files, side, filters, found)},
    )


def _tables(files: StudyFiles, side: SideBySide, filters: Filters, found: tuple[Calibration, ...]) -> Iterator[Table]:
    compare = files.compare
    yield from comparison_tables(compare)
    yield from _present(results_table(compare), unread_table(compare, side), rules_table(compare))
    yield from seen_tables(files)
    yield from _present(wordings_table(compare), elsewhere_table(files))
    yield from apart_tables(compare)
    yield from _present(mistakes_table(side))
    yield from tag_tables(side, filters[:_MOST_TAG_TABLES])
    yield from _present(calibration_table(found), costs_table(files), training_table(files))


def _present(*tables: Table | None) -> Iterator[Table]:
    return (table for table in tables if table is not None)


def _tag_values(rows: Iterable[SideRow]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.sample.tags.items():
            values.setdefault(key, set()).add(str(value))
    return values


def tag_filters(rows: Iterable[SideRow]) -> Filters:
    """The tags worth filtering by: those with several values but not one per row, the usual ones first."""
    values = _tag_values(rows)
    useful = [key for key, seen in values.items() if 2 <= len(seen) <= MOST_TAG_VALUES]
    ordered = [key for key in _FIRST_TAGS if key in useful] + sorted(set(useful).difference(_FIRST_TAGS))
    return tuple((key, tuple(sorted(values[key]))) for key in ordered)


def numbering_tags(rows: Iterable[SideRow]) -> frozenset[str]:
    """The tags that number rows rather than describe them; a reader is spared them."""
    return frozenset(key for key, seen in _tag_values(rows).items() if len(seen) > MOST_TAG_VALUES)

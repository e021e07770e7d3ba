"""The report's tables: the numbers of compare.json, in full; texts that no spreadsheet, renderer or compiler obeys."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from report.fake_study import write_study
from report.hostile_study import ATTACKS
from sightline.report.content import Content, gather
from sightline.report.reading import read_study
from sightline.report.tables import (
    SAFE_PREFIX,
    Table,
    amount,
    columns,
    csv_text,
    interval,
    latex_table,
    markdown_table,
    number,
    slim,
    words,
)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    directory = write_study(tmp_path_factory.mktemp("study"))
    compare = json.loads((directory / "compare.json").read_text(encoding="utf-8"))
    compare["stated"][0]["num_groups"] = 7  # so that no two counts of an entry are the same
    (directory / "compare.json").write_text(json.dumps(compare), encoding="utf-8")
    return gather(read_study(directory))


@pytest.fixture(scope="module")
def compare(content: Content) -> dict[str, Any]:
    return json.loads((content.files.directory / "compare.json").read_text(encoding="utf-8"))


def _rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table))))


def _number(text: str) -> float | None:
    return float(text) if text else None


def test_every_value_of_compare_json_is_in_the_results(content: Content, compare: dict[str, Any]):
    rows = {(row["Model"], row["Data"], row["Metric"]): row for row in _rows(content.tables["results"])}
    measured = {(arm["model"], arm["data"], name): m for arm in compare["arms"] for name, m in arm["metrics"].items()}
    assert rows.keys() == measured.keys() and len(rows) == 15
    for key, metric in measured.items():
        row = rows[key]
        assert _number(row["Value"]) == metric["value"]
        assert [_number(row["Interval low"]), _number(row["Interval high"])] == (metric["interval"] or [None, None])
        for outcome in ("scored", "unparsed", "failed"):
            assert int(row[outcome.capitalize()]) == metric[f"num_{outcome}"]


@pytest.mark.parametrize("family", ["stated", "exploratory"])
def test_every_comparison_of_compare_json_is_in_its_table(content: Content, compare: dict[str, Any], family: str):
    rows = _rows(content.tables[family])
    assert len(rows) == len(compare[family]) > 0
    titles = {"Difference": "difference", "p": "p", "Adjusted p": "p_adjusted", "Check p": "p_check"}
    titles |= {"Detectable": "detectable", "Questions": "num_questions", "Images": "num_images"}
    titles |= {"Fixed or better": "fixed", "Broke or worse": "broke", "Independent groups": "num_groups"}
    for row, entry in zip(rows, compare[family], strict=True):
        assert (row["Model"], row["Metric"], row["Verdict"]) == (entry["model"], entry["metric"], entry["verdict"])
        assert {title: _number(row[title]) for title in titles} == {t: entry[key] for t, key in titles.items()}
        assert [float(row["Interval low"]), float(row["Interval high"])] == entry["interval"]


def test_clean_values_stand_beside_all_where_training_has_seen_some(tmp_path: Path):
    write_study(tmp_path)
    path = tmp_path / "compare.json"
    compare = json.loads(path.read_text(encoding="utf-8"))
    metric = compare["arms"][0]["metrics"]["exact_match"]
    metric["clean"] = {"value": 0.125, "interval": [0.1, 0.2], "num_scored": 7, "num_unparsed": 1}
    seen = {"num_seen": {"same image": 3}, "clean": {"difference": 0.5, "interval": [0.25, 0.75], "p_adjusted": 0.01}}
    compare["stated"][0]["seen"] = seen
    path.write_text(json.dumps(compare), encoding="utf-8")
    tables = gather(read_study(tmp_path)).tables
    row = next(row for row in _rows(tables["results"]) if (row["Model"], row["Metric"]) == ("base", "exact_match"))
    assert (row["Value on clean items"], row["Clean items"]) == ("0.125", "8")
    (row,) = _rows(tables["clean"])
    assert (row["Seen"], row["On clean items"], row["Interval on clean items high"]) == ("3", "0.5", "0.75")


def test_shares_by_tag_are_counted_from_the_scores(content: Content):
    files = content.files
    rows = {row["Answer type"]: row for row in _rows(content.tables["right-by-answer_type"])}
    kinds = {sample.id: sample.tags["answer_type"] for sample in files.samples["phantom.test"].values()}
    for kind, row in rows.items():
        for model in files.scores:
            values = [
                score["value"] or 0.0
                for score in files.scores[model]
                if score["metric"] == "exact_match" and kinds[score["sample_id"]] == kind
            ]
            assert float(row[model]) == pytest.approx(sum(values) / len(values), abs=1e-12)
            assert int(row["Questions"]) == len(values)


def test_kinds_of_mistakes_add_up_to_all_answers(content: Content):
    for row in _rows(content.tables["mistakes"]):
        counts = [int(value) for title, value in row.items() if title not in ("Model", "Answers")]
        assert sum(counts) == int(row["Answers"]) == len(content.files.answers[row["Model"]])


def _table(*texts: str) -> Table:
    return Table(
        name="t", title="T", columns=columns("Text", "#Number"), rows=tuple((words(t), number(-1)) for t in texts)
    )


FORMULAS = ("=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted", "=1\n=2")


def test_no_text_of_a_csv_is_a_formula_and_every_text_comes_back():
    rows = list(csv.reader(io.StringIO(csv_text(_table(*FORMULAS, *ATTACKS)))))[1:]
    for (text, value), given in zip(rows, (*FORMULAS, *ATTACKS), strict=True):
        assert value == "-1", "a number stays one"
        assert not re.match(r"[=+\-@\t\r\n]", text)
        assert text.removeprefix(SAFE_PREFIX) == str(words(given).value)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e]", csv_text(_table(*ATTACKS)))


def test_latex_and_markdown_escape_what_they_would_obey():
    text = latex_table(_table(r"\input{/etc/passwd} 50% a_b #1 {x} $y$ ~ ^ & <b>"))
    (line,) = [line for line in text.splitlines() if "passwd" in line]
    assert line.startswith(r"\textbackslash{}input\{/etc/passwd\} 50\% a\_b \#1 \{x\} \$y\$")
    assert re.sub(r"\\.", "", line).count("&") == 1
    acting = re.sub(r"\\.", "", markdown_table(_table(*ATTACKS)))
    assert "<" not in acting and not re.search(r"!?\[[^\]]*\]\(", acting)


def test_people_read_percent_and_points_machines_read_rates():
    table = Table(
        name="t",
        title="T",
        columns=columns("Model", "#Value", "~Interval"),
        rows=((words("m"), amount(0.12345, "rate"), interval([0.1, 0.2], "rate", of_change=False)),),
    )
    assert csv_text(table) == "Model,Value,Interval low,Interval high\nm,0.12345,0.1,0.2\n"
    assert "| m | 12.3 | 10.0 to 20.0 |" in markdown_table(table)
    assert r"m & 12.3 & 10.0 to 20.0 \\" in latex_table(table)


def test_what_says_the_same_in_every_row_goes_into_the_title(content: Content):
    table = content.tables["stated"]
    slimmed = slim(table)
    assert slimmed.about.startswith("against base; metric exact_match; data phantom.test; wording plain")
    assert [column.title for column in slimmed.columns][:3] == ["Model", "Verdict", "Difference"]
    assert len(slimmed.rows) == len(table.rows)

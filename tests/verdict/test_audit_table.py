"""Tables as people and spreadsheets write them, and as nobody should: every fault names its cell and its remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import DataError, MissingDataError, StudyError
from sightline.verdict.audit_figures import Number, read_number
from sightline.verdict.audit_recover import total_of
from sightline.verdict.audit_table import PrintedTable, read_printed_table

Read = Callable[[str | bytes], PrintedTable]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that reads a table from its text."""

    def written(content: str | bytes) -> PrintedTable:
        path = tmp_path / "t.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_printed_table(path)

    return written


def figures(table: PrintedTable, column: str) -> list[tuple[int, int, float]]:
    cells = [row.cells[column] for row in table.rows if column in row.cells]
    return [(cell.digits, cell.decimals, cell.value) for cell in cells]


@pytest.mark.parametrize(
    "content",
    [
        "model,n,accuracy\nbase,1297,71.60\ntuned,1297,78.10\n",
        "\ufeffmodel,n,accuracy\r\nbase,1297,71.60\r\ntuned,1297,78.10\r\n",
        "Model;N;Accuracy\nbase;1.297,00;71,60\ntuned;1297;78,10\n",
        'model,n,accuracy\nbase,"1,297",71.60%\n\ntuned,1297,78.10 %\n',
        "model\tnum_questions\taccuracy (%)\nbase\t1297\t71.60\ntuned\t1297\t78.10\n",
        'model,n,accuracy [percent]\nbase,1297,"71,60"\n tuned ,1297.0,78.10\n',
        "model,n,accuracy\nbase,1\u202f297,71.60\u00a0%\ntuned,1297,78.10%\n",
    ],
    ids=["plain", "bom and crlf", "german", "english", "tabs", "quoted", "narrow spaces"],
)
def test_one_table_in_many_hands(content: str, read: Read) -> None:
    table = read(content)
    assert [(row.model, row.n) for row in table.rows] == [("base", 1297), ("tuned", 1297)]
    assert figures(table, table.columns[0].name) == [(7160, 2, 0.716), (7810, 2, 0.781)]


def test_a_markdown_table_is_read_as_it_was_pasted(read: Read) -> None:
    table = read(
        "| Method | **Closed** | n |\n|:---|---:|---|\n| base | 71.60 | 1,297 |\n| **a\\|b** | **78.10** | 1297 |\n"
    )
    assert [(row.line, row.model, row.n) for row in table.rows] == [(3, "base", 1297), (4, "a|b", 1297)]
    assert figures(table, "Closed") == [(7160, 2, 0.716), (7810, 2, 0.781)]
    assert (table.columns[0].metric, table.columns[0].part) == ("accuracy", "closed")


def test_parts_have_sizes_of_their_own_and_averages_are_no_shares(read: Read) -> None:
    table = read("System,n,n_closed,closed,open [mean],acc,em\na,451,250,75.6,40.1,61.2 ± 0.4,$50.1 \\pm 0.20$\n")
    assert {column.name: column.kind for column in table.columns} == {
        "closed": "rate",
        "open": "mean",
        "acc": "mean",
        "em": "mean",
    }
    (row,) = table.rows
    assert (row.size_of("closed"), row.size_of("open"), row.size_of("")) == (250, 451, 451)
    assert [row.cells[name].digits for name in ("acc", "em")] == [612, 501]
    assert total_of(row, row.cells["closed"]) == 250
    (one_run,) = read("model,acc [percent]\na,61.2 ± 0.4\n").columns
    assert one_run.kind == "rate"


def test_a_row_with_a_spread_takes_nothing_from_the_others(read: Read) -> None:
    table = read("model,n,accuracy\na,500,75.2\nb,500,79.4\nc,500,75.6 ± 0.4\n")
    assert (table.columns[0].kind, table.columns[0].has_spread) == ("rate", False)
    assert figures(table, "accuracy") == [(752, 1, 0.752), (794, 1, 0.794), (756, 1, 75.6)]
    assert [total_of(row, row.cells["accuracy"]) for row in table.rows] == [500, 500, None]


def test_whole_numbers_of_right_answers_are_counts(read: Read) -> None:
    assert read("model,n,correct\na,200,157\nb,200,164\n").columns[0].kind == "count"
    assert read("model,n,correct\na,200,57\nb,200,64\n").columns[0].kind == "mean"  # may be percent
    assert read("model,n,correct\na,100,157\nb,100,164\n").columns[0].kind == "mean"  # more than there are
    assert read("model,correct\na,157\nb,164\n").columns[0].kind == "mean"


def test_units_are_told_apart(read: Read) -> None:
    table = read(
        "model,n,tp,num_right,em,correct rate,hits [count],confidence,f1 [mean],valid,ok_rate [of valid]\n"
        "a,30,3,12,40.0,0.40,12,4.89,0.5,20,0.60\n"
    )
    assert {column.name: (column.kind, column.scale, column.of) for column in table.columns} == {
        "tp": ("count", 1, None), "num_right": ("count", 1, None), "em": ("rate", 100, None),
        "correct rate": ("rate", 1, None), "hits": ("count", 1, None), "confidence": ("mean", 1, None),
        "f1": ("mean", 1, None), "valid": ("count", 1, None), "ok_rate": ("rate", 1, "valid"),
    }  # fmt: skip


def test_parts_of_a_yes_no_set(read: Read) -> None:
    table = read("model,closed_f1_score,Closed ended Recall,acc\na,64.89,58.02,71.63\n")
    assert [(column.metric, column.part) for column in table.columns] == [
        ("f1", "closed"), ("recall", "closed_ended"), ("accuracy", "")
    ]  # fmt: skip


def test_empty_cells_are_absent_and_not_0(read: Read) -> None:
    table = read("model,set,n,accuracy,f1\na,x,,0.00%,-\nb,x,10,,n/a\nc,x,10,—,50.0%\n")
    assert figures(table, "accuracy") == [(0, 2, 0.0)]
    assert figures(table, "f1") == [(500, 1, 0.5)]
    assert table.rows[0].n is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv: the file is empty"),
        ("model,n,accuracy\n", "t.csv: 0 rows; an audit takes 1 to 200"),
        ("name,n,accuracy\na,10,50.0\n", "t.csv:1: no column `model`"),
        ("metric,base,tuned\naccuracy,50.0,60.0\n", "a table with models side by side is to be turned"),
        ("model,n\na,10\n", "t.csv:1: no column of a metric"),
        ("model,n,acc,acc\na,10,1.0,2.0\n", "t.csv:1: the header names 'acc' twice; give each its own name"),
        ("model,n,acc [percent],acc [rate]\na,10,1.0,0.2\n", "t.csv:1: two columns are named 'acc'"),
        ("model,n,num_questions,acc\na,10,10,50.0\n", "t.csv:1: two columns give n; keep one"),
        ("model,acc [percnt]\na,1.0\n", "t.csv:1, column 'acc [percnt]': [percnt] says nothing known; write"),
        ("model,acc [of total]\na,50.0\n", "t.csv:1: [of total] names no column"),
        ("model,\na,1\n", "t.csv:1: a column is named ''"),
        ("model,a\x1b[31m\nx,1.0\n", "t.csv:1: a column is named 'a\\x1b[31m'"),
        ("model,accuracy\na,=1+1\n", "t.csv:2, column accuracy: '=1+1': write the printed number alone"),
        ("model,accuracy\na,=cmd|'/c calc'!A1\n", "t.csv:2, column accuracy: \"=cmd|'/c calc'!A1\": write"),
        ("model,accuracy\na,**50.0**\n", "'**50.0**': write the printed number alone, such as 89.60"),
        ("model,accuracy\na,50.0 (0.3)\n", "column accuracy: '50.0 (0.3)': write"),
        ("model,open\na,50.0\n", "open questions are scored in two ways; write open_accuracy for the share"),
        ("name,open\na,50.0\n", "a column `model` (or method) is needed; `set`, `n`, `positives` and `images` may be"),
        ("model,accuracy\na,nan\n", "column accuracy: 'nan': write"),
        ("model,accuracy\na,1e3\n", "column accuracy: '1e3': write"),
        ("model,accuracy\na,\uff15\uff10\n", "write the printed number alone"),
        ("model,accuracy\na," + "9" * 40 + "\n", "write the printed number alone"),
        ("model,accuracy\na,\x1b[2J50.0\n", "column accuracy: '\\x1b[2J50.0': write"),
        ('model,accuracy\na,"1,297"\n', "a comma before three digits may part thousands or decimals; write"),
        ("model,accuracy\na,50,3\n", "t.csv:2: 3 fields where the header has 2; quote the field"),
        ("model,accuracy\na,50\nb,60\n", "t.csv:1, column accuracy: whole numbers may be percent or counts; write 67%"),
        ("model,accuracy\na,0.47\nb,51.0\n", "0.47 and 51 may be rates or percent; write [percent] or [rate]"),
        ("model,accuracy\na,47%\nb,51\n", "some figures have % and some have not"),
        ("model,n,accuracy\na,0,50.0\n", "t.csv:2, column n: '0'; write a whole number of 1 to 1,000,000"),
        ("model,n,accuracy\na,10.5,50.0\n", "t.csv:2, column n: '10.5'; write a whole number"),
        ("model,n,accuracy\na,99999999999,50.0\n", "write a whole number of 1 to 1,000,000"),
        ("model,n,accuracy\na,50%,50.0\n", "a size is a whole number; write it without %"),
        ("model,n,positives,accuracy\na,10,11,50.0\n", "t.csv:2: 11 positives of 10 questions; correct one of them"),
        ("model,accuracy\na,50.0\na,60.0\n", "t.csv:3: 'a' has a row already (line 2); give each its own"),
        ("model,set,accuracy\na,x,50.0\na,x,60.0\n", "t.csv:3: 'a' has a row already (line 2)"),
        ("model,accuracy\n,50.0\n", "t.csv:2, column model: '' is empty; every row needs the name of its model"),
        ("model,accuracy\na\u202eb,50.0\n", "column model: 'a\\u202eb' holds characters that cannot be seen"),
        ("model,accuracy\n" + "a" * 300 + ",50.0\n", "is longer than 200 characters; shorten it"),
        (b"model,accuracy\na\xff,50.0\n", "t.csv:2: bytes that are not UTF-8; save the file as UTF-8"),
        ("model,accuracy\n".encode("utf-16"), "t.csv: the file is UTF-16; save it as UTF-8"),
        ('model,accuracy\n"a,50.0\n', "t.csv:2: not CSV"),
        ("model,accuracy\n" + "".join(f"m{i},5{i % 10}.0\n" for i in range(201)), "201 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(content: str | bytes, message: str, read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(content)
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_every_fault_is_named_at_once(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read("model,n,accuracy\na,ten,50.0\nb,10,fifty\n")
    assert "t.csv:2, column n: 'ten'" in str(caught.value) and "t.csv:3, column accuracy: 'fifty'" in str(caught.value)


def test_names_that_look_like_formulas_are_names(read: Read) -> None:
    rows = read("model,accuracy\n+ DPO,50.0%\n=SUM(A1),60.0%\n<script>,61.0%\n").rows
    assert [row.model for row in rows] == ["+ DPO", "=SUM(A1)", "<script>"]


def test_the_baseline_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model,set,accuracy\na,x,50.0\nb,x,60.0\na,y,51.0\nb,y,61.0\n", encoding="utf-8")
    assert [(row.model, row.set) for row in read_printed_table(path, first="b").rows] == [
        ("b", "x"), ("b", "y"), ("a", "x"), ("a", "y")
    ]  # fmt: skip
    with pytest.raises(StudyError, match="has no row of 'c'; there are a, b"):
        read_printed_table(path, first="c")
    with pytest.raises(MissingDataError, match="no such file"):
        read_printed_table(tmp_path / "absent.csv")


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_a_number_or_a_fault(text: str, is_size: bool) -> None:
    found = read_number(text, is_size=is_size)
    assert isinstance(found, Number | str)


@given(st.integers(0, 10**9), st.integers(0, 5))
def test_a_number_is_kept_to_its_last_digit(digits: int, decimals: int) -> None:
    whole, fraction = divmod(digits, 10**decimals)
    text = f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)
    found = read_number(text, is_size=False)
    assert isinstance(found, Number) and (found.digits, found.decimals) == (digits, decimals)

"""JSON files are read a stretch at a time, and give the rows that the whole file gives."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.data import rows as reading
from sightline.data.rows import BadLine, Row, read_table
from sightline.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def read(path: Path) -> list[Row | BadLine]:
    return list(read_table(path, file=path.name).rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=6),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
    st.booleans(),
)
def test_a_list_read_in_stretches_is_the_list(
    tmp_path: Path, values: list[dict], indent: int | None, at_once: int, ascii: bool
) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json.dumps(values, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READ_AT_ONCE", at_once)
        found = read(path)
    expected = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    assert [row.values for row in found if isinstance(row, Row)] == expected
    assert [row.number for row in found] == list(range(len(values)))


BROKEN = {
    "cut": '[{"id": 1}, {"id": 2}, {"id": ',
    "a comma too many": '[{"id": 1}, {"id": 2},]',
    "no comma": '[{"id": 1} {"id": 2}, {"id": 3}]',
    "no end": '[{"id": 1}, {"id": 2}',
    "something after it": '[{"id": 1}, {"id": 2}] and more',
    "a broken row": '[{"id": 1}, {"id": 2, "q": "x}, {"id": 3}, {"id": 4}]',
    "half a number": '[{"id": 1}, 12',
}


@pytest.mark.parametrize("at_once", [1, 7, 2**20])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_list_costs_no_other_row(tmp_path: Path, fault: str, at_once: int, monkeypatch) -> None:
    path = tmp_path / "rows.json"
    path.write_text(BROKEN[fault])
    monkeypatch.setattr(reading, "READ_AT_ONCE", at_once)
    by_hand = {
        "cut": [1, 2, None],
        "a comma too many": [1, 2],
        "no comma": [1, 2, 3],
        "no end": [1, 2],
        "something after it": [1, 2, None],
        "a broken row": [1, None, 3, 4],
        "half a number": [1, None],
    }
    found = read(path)
    assert [row.values["id"] if isinstance(row, Row) else None for row in found] == by_hand[fault]
    assert [row.number for row in found] == list(range(len(found)))


def test_what_is_no_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for text, said in (("[]", "holds no rows"), (" [ ] \n", "holds no rows")):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read(path)
    path.write_text('{"rows": []}')
    with pytest.raises(DataError, match="one dict"):
        read_table(path, file="rows.json", syntax="json")
    path.write_text("{nothing of the kind")
    with pytest.raises(DataError, match="not JSON"):
        read_table(path, file="rows.json", syntax="json")
    path.write_text("[3, 45]")
    assert [type(row) for row in read(path)] == [BadLine, BadLine]


@pytest.mark.parametrize("syntax", ["json", "jsonl"])
def test_rows_can_be_gone_through_again(tmp_path: Path, syntax: str) -> None:
    values = [{"id": number, "text": "ä"} for number in range(3)]
    path = tmp_path / f"rows.{syntax}"
    text = json.dumps(values) if syntax == "json" else "".join(json.dumps(value) + "\r\n" for value in values)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = read_table(path, file=path.name)
    first = int(syntax == "jsonl")
    for _ in range(2):
        assert list(table.rows) == [Row(number=n + first, values=value) for n, value in enumerate(values)]
    assert table.columns == ("id", "text")


@pytest.mark.parametrize("syntax", ["json", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_AT_ONCE", 2**16)
    path = tmp_path / f"rows.{syntax}"
    lines = [json.dumps({"id": number, "question": "what is it? " * 80}) for number in range(8_000)]
    path.write_text("[" + ",\n".join(lines) + "]" if syntax == "json" else "\n".join(lines))
    del lines
    tracemalloc.start()
    assert sum(1 for _ in read_table(path, file=path.name).rows) == 8_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 7e6 and peak < 1.5e6

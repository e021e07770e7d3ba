"""Preference pairs from anyone's file: two different answers to one prompt, or a named row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.preferences import load_pairs
from sightline.errors import DataError

ROW = {"id": "a", "image": "a.png", "prompt": "<image>\nWhat is it?", "chosen": "A lung.", "rejected": "A heart."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    return tmp_path


def write(folder: Path, *rows: dict[str, object]) -> None:
    (folder / "pairs.jsonl").write_text(
        "\n".join(json.dumps({**ROW, "id": str(n), **row}) for n, row in enumerate(rows))
    )


def test_json_lines_and_csv_give_the_same_pairs(folder: Path):
    write(folder, {}, {"prompt": "Where?", "chosen": "left"})
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows([{**ROW, "id": "0"}, {**ROW, "id": "1", "prompt": "Where?", "chosen": "left"}])
    lines = load_pairs("pairs.jsonl", root=folder)["all"]
    assert lines.problems == () and lines.num_rows == 2
    first, second = lines.pairs
    assert (first.id, first.chosen, first.rejected, first.tags) == ("0", "A lung.", "A heart.", {})
    assert first.messages[0].content == (0, "What is it?") == (0, first.messages[0].text)
    assert (second.messages[0].text, second.chosen, second.image_id) == ("Where?", "left", first.image_id)
    table = load_pairs("pairs.csv", root=folder)["all"].pairs
    assert [(p.id, p.messages, p.chosen, p.rejected) for p in table] == [
        (p.id, p.messages, p.chosen, p.rejected) for p in lines.pairs
    ]


def test_parquet_as_hubs_have_it(folder: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `train` brings")
    from pyarrow import parquet

    image = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    rows = [{"ds_name": "x", "image": image, "question": "What?", "chosen": "This.", "rejected": "That.", "idx": 3}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    [pair] = load_pairs("train-00000-of-00001.parquet", root=folder, columns={"tags": ["ds_name"]})["train"].pairs
    assert (pair.chosen, pair.rejected, pair.tags) == ("This.", "That.", {"ds_name": "x"})


def test_columns_map_our_names_to_theirs(folder: Path):
    row = {"bild": "a.png", "frage": "Was?", "gut": "Lunge", "schlecht": "Herz", "quelle": "x"}
    (folder / "pairs.jsonl").write_text(json.dumps(row))
    columns = {"image": "bild", "prompt": "frage", "chosen": "gut", "rejected": "schlecht", "tags": "quelle"}
    [pair] = load_pairs("pairs.jsonl", root=folder, columns=columns)["all"].pairs
    assert (pair.messages[0].text, pair.chosen, pair.rejected, pair.tags) == ("Was?", "Lunge", "Herz", {"quelle": "x"})
    for wrong, message in [
        ({"chosen": "gute"}, "no column 'gute'.*did you mean 'gut'"),
        ({"rejected": "schlechte"}, "no column 'schlechte'.*did you mean 'schlecht'"),
        ({"rejected": None}, "not the name of a column"),
    ]:
        with pytest.raises(DataError, match=message):
            load_pairs("pairs.jsonl", root=folder, columns={**columns, **wrong})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rejected": " A  lung.\n"}, "chosen equals rejected; drop the row or set allow_ties: true"),
        ({"rejected": None}, "no 'rejected', the column of the rejected answer"),
        ({"rejected": ""}, "'rejected' is empty"),
        ({"rejected": ["a", "b"]}, "no 'rejected', the column of the rejected answer"),
        ({"rejected": "<image> A heart."}, "`<image>` in 'rejected'"),
        ({"rejected": "A\0heart."}, "NUL character"),
        ({"chosen": ""}, "'chosen' is empty"),
        ({"chosen": None}, "'chosen' is None, not a text"),
        ({"prompt": " "}, "'prompt' is empty"),
        ({"image": "../a.png"}, "leads out of the images folder"),
    ],
)
def test_a_bad_pair_is_named_and_costs_no_other(folder: Path, row: dict[str, object], message: str):
    write(folder, {}, row, {})
    loaded = load_pairs("pairs.jsonl", root=folder)["all"]
    assert [pair.id for pair in loaded.pairs] == ["0", "2"]
    [problem] = loaded.problems
    assert str(problem).startswith("pairs.jsonl:2 (id 1") and message in str(problem)
    assert loaded.num_rows == 3


def test_ties_are_kept_where_they_are_allowed(folder: Path):
    write(folder, {"rejected": "A lung."})
    assert load_pairs("pairs.jsonl", root=folder, allow_ties=True)["all"].pairs[0].rejected == "A lung."


def test_take_and_where(folder: Path):
    write(folder, {"kind": "x"}, {"kind": "y"}, {"kind": "x"})
    assert [p.id for p in load_pairs("pairs.jsonl", root=folder, where={"kind": "x"})["all"].pairs] == ["0", "2"]
    assert [p.id for p in load_pairs("pairs.jsonl", root=folder, take=1)["all"].pairs] == ["0"]

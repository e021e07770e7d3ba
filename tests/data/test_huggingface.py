"""Parquet, saved datasets and names on the hub, with the columns of VQA-RAD's and PathVQA's copies."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.pictures import open_picture
from sightline.errors import DataError, MissingDataError

datasets = pytest.importorskip("datasets", reason="needs sightline[train]")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (colour, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def rows(start: int, num: int) -> dict[str, list[object]]:
    """Two questions about each picture, stored twice, as the hub has them."""
    return {
        "image": [{"bytes": png((start + index) // 2), "path": None} for index in range(num)],
        "question": [f"is there a number {start + index}?" for index in range(num)],
        "answer": [("yes", "no")[index % 2] for index in range(num)],
    }


FEATURES = {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}


def dataset(start: int, num: int):
    return datasets.Dataset.from_dict(rows(start, num), features=datasets.Features(FEATURES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The layout of the hub: data/SPLIT-SHARD.parquet, train in two shards."""
    data = tmp_path / "flaviagiammarino" / "vqa-rad" / "data"
    data.mkdir(parents=True)
    dataset(0, 100).to_parquet(data / "train-00000-of-00002-0123456789abcdef.parquet")
    dataset(100, 70).to_parquet(data / "train-00001-of-00002-fedcba9876543210.parquet")
    dataset(400, 6).to_parquet(data / "test-00000-of-00001.parquet")
    return tmp_path


def check(loaded: dict) -> None:
    assert {split: (part.num_rows, len(part.samples)) for split, part in loaded.items()} == {
        "train": (170, 170),
        "test": (6, 6),
    }
    train = loaded["train"].samples
    assert [s.id for s in train] == [str(index) for index in range(170)]
    assert [s.question for s in train] == [f"is there a number {index}?" for index in range(170)]
    assert len({s.image_id for s in train}) == 85
    assert train[0].pictures[0].content is train[1].pictures[0].content
    assert open_picture(train[8].pictures[0]).getpixel((0, 0)) == (4, 0, 0)
    assert train[3].origin.endswith(":train:3")


def test_a_folder_named_as_on_the_hub_needs_no_network(folder: Path):
    check(load_source("flaviagiammarino/vqa-rad", root=folder))


def test_a_single_file(folder: Path):
    path = "flaviagiammarino/vqa-rad/data/test-00000-of-00001.parquet"
    loaded = load_source(path, root=folder, take=4)
    assert {split: part.num_rows for split, part in loaded.items()} == {"test": 4}


def test_a_saved_dataset(tmp_path: Path):
    datasets.DatasetDict(train=dataset(0, 170), test=dataset(400, 6)).save_to_disk(tmp_path / "saved")
    check(load_source("saved", root=tmp_path))


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load_dataset(name: str, subset: str | None):
        asked.append((name, subset))
        return datasets.DatasetDict(train=dataset(0, 170), test=dataset(400, 6))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    check(load_source("flaviagiammarino/vqa-rad", root=tmp_path, subset="small"))
    assert asked == [("flaviagiammarino/vqa-rad", "small")]


def test_without_network_it_says_what_to_fetch_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load_dataset(name: str, subset: str | None):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(MissingDataError) as missing:
        load_source("flaviagiammarino/path-vqa", root=tmp_path)
    message = str(missing.value)
    assert "https://huggingface.co/datasets/flaviagiammarino/path-vqa" in message
    assert str(tmp_path / "flaviagiammarino/path-vqa") in message and "no route" in message


def test_conversations_in_parquet(tmp_path: Path):
    """LRV-Chart's columns: an image struct and turns."""
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A chart."}]
    features = {
        "id": datasets.Value("string"),
        "image": datasets.Image(),
        "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
    }
    row = {"id": ["c1"], "image": [{"bytes": png(1), "path": "c.png"}], "conversations": [turns]}
    made = datasets.Dataset.from_dict(row, features=datasets.Features(features))
    (tmp_path / "charts" / "lrv_chart").mkdir(parents=True)
    made.to_parquet(tmp_path / "charts" / "lrv_chart" / "train-00000-of-00001.parquet")
    for format in (None, "llava", "huggingface"):
        loaded = load_source("charts", root=tmp_path, format=format, subset="lrv_chart")["train"]
        assert (loaded.samples[0].id, loaded.samples[0].messages[0].content) == ("c1", (0, "What?"))
        assert loaded.samples[0].pictures[0].name == "c.png"
    with pytest.raises(DataError, match="choose a `subset`; there are lrv_chart"):
        load_source("charts", root=tmp_path)


def test_a_bad_picture_in_a_table_is_a_bad_row(tmp_path: Path):
    table = rows(0, 4)
    table["image"][1] = {"bytes": png(9)[:40], "path": None}
    table["image"][2] = {"bytes": None, "path": "../../secret.png"}
    parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    loaded = load_source("rows.parquet", root=tmp_path)["all"]
    assert [(p.row, p.kind) for p in loaded.problems] == [(1, "truncated-image"), (2, "path-escape")]
    assert [s.id for s in loaded.samples] == ["0", "3"]


def test_a_damaged_file_is_said(tmp_path: Path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="no parquet file"):
        load_source("rows.parquet", root=tmp_path)

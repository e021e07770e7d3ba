"""Parquet, saved datasets and names on the hub, with the columns of VQA-RAD's and PathVQA's copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.pictures import open_picture
from sightline.errors import DataError
from tiny_pictures import png

datasets = pytest.importorskip("datasets", reason="needs sightline[train]")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


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


def test_the_copy_of_vqa_rad_says_which_row_of_the_original_is_which(folder: Path):
    loaded = load_source("flaviagiammarino/vqa-rad", root=folder)
    assert [s.tags for s in loaded["test"].samples] == [{"hf_index": str(index)} for index in range(6)]
    assert {tuple(s.tags) for s in loaded["train"].samples} == {()}  # of train the copy left rows out
    (folder / "flaviagiammarino").rename(folder / "mine")
    assert load_source("mine/vqa-rad", root=folder)["test"].samples[5].tags == {}
    meant = load_source("mine/vqa-rad", root=folder, format="vqa_rad")
    assert [meant[split].num_rows for split in ("train", "test")] == [170, 6]
    assert meant["test"].samples[5].tags == {"hf_index": "5"}


def test_path_vqa_has_three_splits(tmp_path: Path):
    data = tmp_path / "flaviagiammarino" / "path-vqa" / "data"
    data.mkdir(parents=True)
    for split, num in (("train", 4), ("validation", 2), ("test", 3)):
        dataset(0, num).to_parquet(data / f"{split}-00000-of-00001-0123456789abcdef.parquet")
    for source, format in (("flaviagiammarino/path-vqa", None), ("./flaviagiammarino/path-vqa", "path_vqa")):
        loaded = load_source(source, root=tmp_path, format=format)
        assert {split: len(part.samples) for split, part in loaded.items()} == {"train": 4, "validation": 2, "test": 3}


def test_other_columns_are_mapped_in_the_study_file(tmp_path: Path):
    """Sets without a format of their own: pictures, questions and answers under whatever names."""
    data = tmp_path / "medical-imaging-combined" / "data"
    data.mkdir(parents=True)
    table = rows(0, 4)
    features = {"scan": datasets.Image(), "query": datasets.Value("string"), "finding": datasets.Value("string")}
    renamed = dict(zip(features, table.values(), strict=True))
    for split in ("train", "validation"):
        made = datasets.Dataset.from_dict(renamed, features=datasets.Features(features))
        made.to_parquet(data / f"{split}-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"which column holds the image\? It has scan, query, finding"):
        load_source("medical-imaging-combined", root=tmp_path)
    columns = {"image": "scan", "question": "query", "answer": "finding"}
    loaded = load_source("medical-imaging-combined", root=tmp_path, columns=columns)
    assert {split: len(part.samples) for split, part in loaded.items()} == {"train": 4, "validation": 4}
    assert loaded["train"].samples[1].answer == "no"


def test_a_single_file(folder: Path):
    path = "flaviagiammarino/vqa-rad/data/test-00000-of-00001.parquet"
    loaded = load_source(path, root=folder, take=4)
    assert {split: part.num_rows for split, part in loaded.items()} == {"test": 4}


def test_a_saved_dataset(tmp_path: Path):
    datasets.DatasetDict(train=dataset(0, 170), test=dataset(400, 6)).save_to_disk(tmp_path / "saved")
    check(load_source("saved", root=tmp_path))


def test_a_card_says_which_files_are_which_split(tmp_path: Path):
    (tmp_path / "set").mkdir()
    card = "---\nconfigs:\n- config_name: small\n  data_files:\n  - {split: train, path: parts/a-*}\n"
    card += "  - {split: dev, path: [parts/b.parquet]}\n- config_name: large\n  data_files: elsewhere/*\n---\n"
    (tmp_path / "set" / "README.md").write_text(card)
    (tmp_path / "set" / "parts").mkdir()
    for name in ("a-1", "a-2", "b", "unlisted"):
        dataset(0, 2).to_parquet(tmp_path / "set" / "parts" / f"{name}.parquet")
    loaded = load_source("set", root=tmp_path, subset="small")
    assert {split: part.num_rows for split, part in loaded.items()} == {"train": 4, "dev": 2}
    with pytest.raises(DataError, match="choose a `subset`; there are small, large"):
        load_source("set", root=tmp_path)


def test_a_folder_that_only_datasets_can_read(tmp_path: Path):
    """An imagefolder: pictures, and a table of what belongs to each."""
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "train" / "a.png").write_bytes(png(3))
    (tmp_path / "set" / "train" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "question": "Is it?", "answer": "yes"}\n'
    )
    loaded = load_source("set", root=tmp_path, format="huggingface")["train"]
    assert [(s.question, open_picture(s.pictures[0]).getpixel((0, 0))) for s in loaded.samples] == [
        ("Is it?", (3, 0, 0))
    ]
    with pytest.raises(DataError, match="neither parquet nor anything else"):
        (tmp_path / "none").mkdir()
        load_source("none", root=tmp_path, format="huggingface")


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

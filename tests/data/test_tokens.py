"""Tokenised rows: read as they are, padding dropped, and whatever is wrong with one named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.problems import Loaded
from sightline.records import Sample, sample_from_json, to_json

ROW = {"image": "a.png", "input_ids": [1, 3, 20, 21, 2], "labels": [-100, -100, -100, 21, 2]}


def load(folder: Path, *rows: dict[str, Any], **given: Any) -> Loaded:
    Image.new("RGB", (8, 8), "grey").save(folder / "a.png")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_source("rows.jsonl", root=folder, **given)["all"]


def only(loaded: Loaded) -> Sample:
    [sample] = loaded.samples
    return sample


@pytest.mark.parametrize("format", [None, "tokens"])
def test_ids_and_labels_are_kept_as_they_are(tmp_path: Path, format: str | None) -> None:
    sample = only(load(tmp_path, ROW, format=format))
    assert sample.tokens is not None and sample.tokens.misplaced == []
    assert (list(sample.tokens.input_ids), list(sample.tokens.labels)) == (ROW["input_ids"], ROW["labels"])
    assert [picture.name for picture in sample.pictures] == ["a.png"]
    assert (sample.answer, sample.origin) == ("", "rows.jsonl:1")


def test_a_row_survives_a_study_s_record(tmp_path: Path) -> None:
    sample = only(load(tmp_path, ROW))
    assert sample_from_json(json.loads(json.dumps(to_json(sample)))) == sample


def test_rows_that_differ_in_a_label_alone_are_told_apart_by_their_message(tmp_path: Path) -> None:
    other = {**ROW, "labels": [-100, -100, -100, -100, 2]}
    first, second = load(tmp_path, ROW, other).samples
    assert first.question != second.question


def test_parquet_holds_such_rows_too(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    Image.new("RGB", (8, 8), "grey").save(tmp_path / "a.png")
    parquet.write_table(pyarrow.Table.from_pylist([ROW]), tmp_path / "rows.parquet")
    [sample] = load_source("rows.parquet", root=tmp_path, format="tokens")["all"].samples
    assert sample.tokens is not None and list(sample.tokens.labels) == ROW["labels"]


def test_padding_is_dropped_unless_a_label_calls_it_a_target(tmp_path: Path) -> None:
    padded = {"input_ids": [*ROW["input_ids"], 0, 0], "labels": [*ROW["labels"], -100, 7]}
    sample = only(load(tmp_path, {**ROW, **padded, "attention_mask": [1, 1, 1, 1, 1, 0, 0]}))
    assert sample.tokens is not None and sample.tokens.misplaced == [5]
    assert list(sample.tokens.input_ids) == [1, 3, 20, 21, 2, 0]


@pytest.mark.parametrize(
    ("changed", "kind", "found"),
    [
        ({"labels": [-100, 2]}, "wrong-type", "5 ids, 2 labels"),
        ({"labels": [-100] * 5}, "empty-answer", "no label"),
        ({"labels": [-100, -100, -100, -1, 2]}, "wrong-type", "-1"),
        ({"input_ids": [1, 3, -100, 21, 2]}, "wrong-type", "-100"),
        ({"input_ids": [1, 3, 2**31, 21, 2]}, "wrong-type", str(2**31)),
        ({"input_ids": [1, 3, 1.5, 21, 2]}, "wrong-type", "whole numbers"),
        ({"input_ids": [1, 3, True, 21, 2]}, "wrong-type", "whole numbers"),
        ({"input_ids": "1 3"}, "wrong-type", "whole numbers"),
        ({"input_ids": []}, "missing-key", "input_ids"),
        ({"labels": None}, "missing-key", "labels"),
        ({"image": "b.png"}, "missing-image", "b.png"),
        ({"attention_mask": [1]}, "wrong-type", "mask of 1"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(tmp_path: Path, changed: dict[str, Any], kind: str, found: str) -> None:
    loaded = load(tmp_path, {**ROW, **changed})
    assert loaded.samples == () and kind in {problem.kind for problem in loaded.problems}
    assert any(found in problem.found and problem.row == 1 for problem in loaded.problems)

"""LLaVA-OneVision's subsets, such as lrv_chart, on their own schema: `format: llava` reads them as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.problems import Loaded


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(texts)]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Rows of id, image (bytes and a path that is null), conversations and data_source, in a shard of its subset."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `train` brings")
    from pyarrow import parquet

    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "blue").save(buffer, format="PNG")
    image = {"bytes": buffer.getvalue(), "path": None}
    rows = [
        {"id": "chart_0", "image": image, "conversations": turns("<image>\nWhat rises?", "Sales.", "Until?", "2019.")},
        {"id": "chart_1", "image": image, "conversations": turns("Describe it.\n<image>", "A bar chart.")},
        {"id": "chart_2", "image": None, "conversations": turns("Without a picture?", "Yes.")},
    ]
    folder = tmp_path / "LLaVA-OneVision-Data" / "lrv_chart"
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist([{**row, "data_source": "lrv_chart"} for row in rows])
    parquet.write_table(table, folder / "train-00000-of-00001.parquet")
    return load_source("LLaVA-OneVision-Data", root=tmp_path, format="llava", subset="lrv_chart")["train"]


def test_every_answer_of_a_conversation_is_a_sample(loaded: Loaded):
    assert loaded.problems == () and loaded.num_rows == 3
    assert [(s.id, s.question, s.answer, len(s.pictures)) for s in loaded.samples] == [
        ("chart_0#1", "What rises?", "Sales.", 1),
        ("chart_0#2", "Until?", "2019.", 1),
        ("chart_1", "Describe it.", "A bar chart.", 1),
        ("chart_2", "Without a picture?", "Yes.", 0),
    ]
    assert loaded.samples[1].messages[0].content == (0, "What rises?")
    assert loaded.samples[2].messages[0].content == ("Describe it.", 0)


def test_rows_about_one_picture_are_one_group_although_each_brings_its_bytes(loaded: Loaded):
    assert len({s.image_id for s in loaded.samples if s.pictures}) == 1

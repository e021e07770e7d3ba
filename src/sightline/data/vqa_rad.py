"""VQA-RAD: 2,248 questions about 315 radiological pictures; the original release (osf.io/89kps) and the hub's copy.

Source: Lau et al. 2018, "A dataset of clinically generated visual questions and answers about radiology images".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from sightline.data import huggingface
from sightline.data.archives import folders_of
from sightline.data.conversations import read_plain
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import BadLine, Row, Table

FILE_NAMES = ("VQA_RAD_Dataset_Public.json", "VQA_RAD Dataset Public.json")
IMAGE_FOLDERS = ("images", "VQA_RAD Image Folder", "VQA_RAD Image Folder.zip")

RELEASE = Release(
    title="VQA-RAD",
    format="vqa_rad",
    address="https://osf.io/89kps",
    files="'VQA_RAD Dataset Public.json' and 'VQA_RAD Image Folder'",
    layout=(
        f"{FILE_NAMES[1]}    (or {FILE_NAMES[0]})",
        f"{IMAGE_FOLDERS[1]}/synpic100132.jpg ...    (or {IMAGE_FOLDERS[0]}/..., or the folder's zip)",
    ),
    num_bytes=18_000_000,
    licence="CC0-1.0",
)

HUB_COPY = Release(
    title="VQA-RAD as the hub has it",
    format="vqa_rad",
    address="https://huggingface.co/datasets/flaviagiammarino/vqa-rad",
    files="the parquet files",
    layout=(
        "data/train-00000-of-00001-....parquet    (image, question, answer; 1,793 rows)",
        "data/test-00000-of-00001-....parquet    (451 rows)",
    ),
    num_bytes=34_496_718,
    licence="CC0-1.0",
    hub="flaviagiammarino/vqa-rad",
    revision="bcf91e7654fb9d51c8ab6a5b82cacf3fafd2fae9",
    wanted=("data/*.parquet",),
)

TAGS = ("qid", "organ", "answer_type", "question_type", "phrase_type", "hf_index")

MARKS = frozenset({"qid", "phrase_type", "image_name", "question", "answer"})
"""Columns by which the release is recognised."""

_TEST_PHRASES = ("test_freeform", "test_para")


def open_release(asked: Asked) -> Opened | None:
    """Open VQA-RAD in either of its releases.

    The hub's copy has neither answer types nor names of pictures; its test rows carry tag `hf_index`, by which they
    are joined to the original's.

    Args:
        asked: a folder with the original file or the copy's parquet files; or one such file.

    Returns:
        Its splits train and test; None when this is not VQA-RAD.

    Raises:
        MissingDataError: the pictures are missing.
    """
    if huggingface.is_hub_copy(asked, HUB_COPY):
        tables = huggingface.read_tables(asked)
        tables = {split: _indexed(table) if split == "test" else table for split, table in tables.items()}
        return Opened(tables=tables, read_row=read_plain, images=asked.images or (asked.path,), tags=TAGS)
    is_file = asked.path.suffix in (".json", ".jsonl") and asked.path.is_file()
    file = asked.path if is_file else find_release(asked.path)
    if file is None or not set(asked.table(file).columns) >= MARKS:
        return None
    images = asked.images or (find_images(file) if asked.with_pictures else (file.parent,))
    return Opened(tables=split_release(asked.table(file)), read_row=read_plain, images=images, tags=TAGS)


def _indexed(table: Table) -> Table:
    def rows() -> Iterator[Row | BadLine]:
        for row in table.rows:
            is_row = isinstance(row, Row)
            yield dataclasses.replace(row, values={**row.values, "hf_index": str(row.number)}) if is_row else row

    return Table(file=table.file, columns=(*table.columns, "hf_index"), rows=rows())


def hugging_face_order(num_rows: int) -> list[int]:
    """Tell in which order the Hugging Face copy (flaviagiammarino/vqa-rad) lists rows of the release.

    The copy was sorted by file name, so row 10 comes before row 2. It holds all 451 test rows; of train it
    dropped four repeated rows, so there the order alone does not join the two.

    Args:
        num_rows: rows of the split.

    Returns:
        For each row of the copy, the row's place in the release's split.
    """
    return sorted(range(num_rows), key=str)


def split_release(table: Table) -> dict[str, Table]:
    """Sort the release into its train and test rows, in plain columns.

    qid is a number in most rows and a text in one; five answers are numbers; two answer types end in a blank, which
    every tag loses on reading; six questions hold tabs, which become blanks. Test rows carry their place in the
    Hugging Face copy as tag `hf_index`.

    Args:
        table: the release's rows.

    Returns:
        "train" (freeform and para) and "test" (test_freeform and test_para), with columns id, image, question,
        answer and `TAGS`.
    """
    train: list[Row | BadLine] = []
    test: list[Row] = []
    for row in table.rows:
        if isinstance(row, Row) and row.values.get("phrase_type") in _TEST_PHRASES:
            test.append(row)
        else:
            train.append(row)
    hf_index = {place: index for index, place in enumerate(hugging_face_order(len(test)))}
    columns = ("id", "image", "question", "answer", *TAGS)
    return {
        "train": Table(
            file=table.file,
            columns=columns,
            rows=[_plain(row, {}) if isinstance(row, Row) else row for row in train],
        ),
        "test": Table(
            file=table.file,
            columns=columns,
            rows=[_plain(row, {"hf_index": str(hf_index[place])}) for place, row in enumerate(test)],
        ),
    }


def _plain(row: Row, more: Mapping[str, object]) -> Row:
    values = row.values
    plain = {
        "id": values.get("qid"),
        "qid": values.get("qid"),
        "image": values.get("image_name"),
        "organ": values.get("image_organ"),
        **{name: values.get(name) for name in ("answer_type", "question_type", "phrase_type")},
        **more,
    }
    for name in ("question", "answer"):
        if name in values:
            value = values[name]
            plain[name] = " ".join(value.split()) if isinstance(value, str) else value
    return Row(number=row.number, values=plain)


def find_release(folder: Path) -> Path | None:
    """Find the release's file in a folder, under either of its names."""
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def find_images(file: Path) -> tuple[Path, ...]:
    """Find the folder or archive of pictures beside the release's file.

    Args:
        file: the release's file.

    Returns:
        The folders that paths start from.

    Raises:
        MissingDataError: it is not there.
    """
    for name in IMAGE_FOLDERS:
        if (file.parent / name).exists():
            return folders_of(file.parent / name)
    raise RELEASE.missing(file.parent, f"no folder {IMAGE_FOLDERS[0]!r} with its 315 pictures")

"""The original VQA-RAD release (osf.io/89kps): 2,248 questions about 315 radiological pictures.

Source: Lau et al. 2018, "A dataset of clinically generated visual questions and answers about radiology images".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sightline.data.rows import BadLine, Row, Table
from sightline.errors import MissingDataError

FILE_NAMES = ("VQA_RAD_Dataset_Public.json", "VQA_RAD Dataset Public.json")
IMAGE_FOLDERS = ("images", "VQA_RAD Image Folder")
TAGS = ("qid", "organ", "answer_type", "question_type", "phrase_type", "hf_index")

MARKS = frozenset({"qid", "phrase_type", "image_name", "question", "answer"})
"""Columns by which the release is recognised."""

_TEST_PHRASES = ("test_freeform", "test_para")


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


def find_images(file: Path) -> Path:
    """Find the folder of pictures beside the release's file.

    Args:
        file: the release's file.

    Returns:
        The folder.

    Raises:
        MissingDataError: it is not there.
    """
    for name in IMAGE_FOLDERS:
        if (file.parent / name).is_dir():
            return file.parent / name
    raise MissingDataError(
        f"{file.parent}: no folder {IMAGE_FOLDERS[0]!r} with VQA-RAD's 315 pictures; "
        "fetch 'VQA_RAD Image Folder' from https://osf.io/89kps (CC0) and put it there"
    )

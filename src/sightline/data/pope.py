"""POPE's label files: is there such an object in the picture? Source: Li et al. 2023, arXiv 2305.10355."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sightline.data.rows import BadLine, Row, Table
from sightline.errors import MissingDataError

CATEGORIES = ("random", "popular", "adversarial")
TAGS = ("category", "question_id")

MARKS = frozenset({"question_id", "image", "text", "label"})
"""Columns by which a label file is recognised."""

COCO_ADDRESS = "http://images.cocodataset.org/zips/val2014.zip"


def category_of(path: Path) -> str:
    """Tell which of POPE's three ways of asking a label file holds: by its name, else the name itself."""
    return next((category for category in CATEGORIES if category in path.stem), path.stem)


def label_rows(table: Table, *, category: str) -> Table:
    """Turn a label file's rows into plain columns.

    The numbers of the questions restart in each file, so the id holds the category as well.

    Args:
        table: the rows of a label file.
        category: the file's category; a row that names its own (LLaVA's variant) is believed.

    Returns:
        Rows with columns id, image, question, answer ("yes" or "no"), category and question_id.
    """
    columns = ("id", "image", "question", "answer", *TAGS)
    return Table(file=table.file, columns=columns, rows=_plain_rows(table.rows, category))


def _plain_rows(rows: Iterable[Row | BadLine], category: str) -> Iterator[Row | BadLine]:
    names = {"image": "image", "text": "question", "label": "answer", "question_id": "question_id"}
    for row in rows:
        if isinstance(row, BadLine):
            yield row
            continue
        values = {plain: row.values[name] for name, plain in names.items() if name in row.values}
        values["category"] = row.values.get("category", category)
        if "question_id" in values:
            values["id"] = f"{values['category']}-{values['question_id']}"
        yield Row(number=row.number, values=values)


def find_label_files(folder: Path) -> dict[str, Path]:
    """Find the label files in a folder, by category."""
    files = {category: sorted(folder.glob(f"coco_pope_{category}.json")) for category in CATEGORIES}
    return {category: found[0] for category, found in files.items() if found}


def find_images(folder: Path) -> Path:
    """Find COCO's val2014 pictures beside the label files.

    Args:
        folder: where the label files are.

    Returns:
        The folder of pictures.

    Raises:
        MissingDataError: it is not there.
    """
    images = folder / "val2014"
    if images.is_dir():
        return images
    raise MissingDataError(
        f"{images}: POPE asks about pictures of COCO val2014, which its label files do not bring; fetch "
        f"{COCO_ADDRESS} (6 GB, terms of Flickr) and unpack it there, or set `images` to where it lies; "
        "scoring answers needs the labels alone"
    )

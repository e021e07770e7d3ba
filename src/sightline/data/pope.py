"""POPE's label files: is there such an object in the picture? Source: Li et al. 2023, arXiv 2305.10355."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sightline.data.conversations import read_plain
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import TEXT_SUFFIXES, BadLine, Row, Table

CATEGORIES = ("random", "popular", "adversarial")
TAGS = ("category", "question_id")

MARKS = frozenset({"question_id", "image", "text", "label"})
"""Columns by which a label file is recognised."""

RELEASE = Release(
    title="POPE",
    format="pope",
    address="https://github.com/RUCAIBox/POPE",
    files=(
        "coco_pope_random.json, _popular.json and _adversarial.json of output/coco, and the pictures of COCO val2014 "
        "(http://images.cocodataset.org/zips/val2014.zip; 500 of them are asked about)"
    ),
    layout=(
        "coco_pope_random.json ...    (here, or in output/coco)",
        "val2014/COCO_val2014_000000000042.jpg ...    (here, in coco2014 beside or above, or where `images` says)",
    ),
    num_bytes=6_600_000_000,
    licence="labels MIT, pictures under Flickr's terms",
)

_LABELS_IN = (".", "coco", "output/coco")
_NUM_LEVELS_UP = 3
_PICTURES_IN = ("val2014", ".", "images", "images/val2014", "coco/val2014", "coco2014/val2014")


def open_release(asked: Asked) -> Opened | None:
    """Open POPE's label files.

    Args:
        asked: their folder, or one of them.

    Returns:
        One split for each way of asking, "all" of a file; None when these are no such files.

    Raises:
        MissingDataError: none of the pictures is there.
    """
    if asked.path.is_file():
        is_table = asked.path.suffix in TEXT_SUFFIXES
        is_ours = asked.format == RELEASE.format or (is_table and set(asked.table(asked.path).columns) >= MARKS)
        files = {"all": asked.path} if is_ours else {}
    else:
        files = find_label_files(asked.path)
    if not files:
        if asked.format == RELEASE.format:
            raise RELEASE.missing(asked.path, "no coco_pope_random.json")
        return None
    here = next(iter(files.values())).parent
    images = asked.images or (here,)
    tables = {}
    names: dict[str, None] = {}
    for split, file in files.items():
        table = asked.table(file)
        rows = list(table.rows)
        names |= {str(row.values.get("image")): None for row in rows if isinstance(row, Row)}
        tables[split] = label_rows(replace(table, rows=rows), category=category_of(file))
    if asked.with_pictures:
        images = (_find_pictures(asked, here, list(names)),)
    return Opened(tables=tables, read_row=read_plain, images=images, tags=TAGS)


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
    """Find the label files in a folder, or where the authors' repository has them, by category."""
    for inner in _LABELS_IN:
        files = {category: folder / inner / f"coco_pope_{category}.json" for category in CATEGORIES}
        if found := {category: file for category, file in files.items() if file.is_file()}:
            return found
    return {}


def _find_pictures(asked: Asked, here: Path, names: Sequence[str]) -> Path:
    """Find the folder that holds any of the pictures: under the study's `images`, else near the labels."""
    around = asked.images or (here, *list(here.resolve().parents)[:_NUM_LEVELS_UP])
    for folder in around:
        for inner in _PICTURES_IN:
            if any((folder / inner / name).is_file() for name in names):
                return folder / inner
    where = " or ".join(map(str, asked.images)) if asked.images else f"{here} or in the folders above"
    found = f"none of the pictures that POPE asks about is in {where}; scoring answers needs the labels alone"
    raise RELEASE.missing(asked.path, found)

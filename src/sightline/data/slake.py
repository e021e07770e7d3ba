"""SLAKE: 14,028 questions about 642 radiological pictures, in English and Chinese.

Source: Liu et al. 2021, "SLAKE: a semantically-labeled knowledge-enhanced dataset for medical visual question
answering", arXiv 2102.09542.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sightline.data.archives import folders_of
from sightline.data.conversations import read_plain
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import BadLine, Row, Table

RELEASE = Release(
    title="SLAKE",
    format="slake",
    address="https://huggingface.co/datasets/BoKelvin/SLAKE",
    files="train.json, validation.json, test.json and imgs.zip",
    layout=(
        "train.json",
        "validation.json    (validate.json in the authors' own archive)",
        "test.json",
        "imgs/xmlab0/source.jpg ...    (or imgs.zip, as it is)",
    ),
    num_bytes=216_000_000,
    licence="CC-BY-4.0",
    hub="BoKelvin/SLAKE",
    revision="a9083ce6c34ac3ffb17671a605962924d8a8f9e9",
    wanted=("train.json", "valid*.json", "test.json", "imgs.zip"),
)

FILES = {"train": ("train.json",), "validation": ("validation.json", "validate.json"), "test": ("test.json",)}
"""Split to the names its file has had."""

MARKS = frozenset({"img_name", "question", "answer", "q_lang", "answer_type", "qid"})
"""Columns by which the release is recognised."""

TAGS = ("q_lang", "answer_type", "content_type", "modality", "location", "base_type")

_COLUMNS = ("id", "image", "question", "answer", *TAGS)


def open_release(asked: Asked) -> Opened | None:
    """Open SLAKE; tag `q_lang` ("en", "zh") tells its two languages apart.

    Args:
        asked: its folder, or one of its files.

    Returns:
        Its splits; None when this is not SLAKE.

    Raises:
        MissingDataError: a split or the pictures are missing.
    """
    if asked.path.is_file():
        if asked.path.suffix != ".json" or not set(asked.table(asked.path).columns) >= MARKS:
            return None
        files = {"all": asked.path}
    else:
        files = _find_files(asked.path)
        if "train" not in files or not set(asked.table(files["train"]).columns) >= MARKS:
            return None
        if missing := FILES.keys() - files.keys():
            raise RELEASE.missing(asked.path, f"no {' and no '.join(FILES[split][0] for split in sorted(missing))}")
    folder = next(iter(files.values())).parent
    return Opened(
        tables={split: _plain(asked.table(file)) for split, file in files.items()},
        read_row=read_plain,
        images=asked.images or (_find_images(folder) if asked.with_pictures else (folder,)),
        tags=TAGS,
    )


def _find_files(folder: Path) -> dict[str, Path]:
    found = {split: [folder / name for name in names if (folder / name).is_file()] for split, names in FILES.items()}
    return {split: files[0] for split, files in found.items() if files}


def _find_images(folder: Path) -> tuple[Path, ...]:
    for name in ("imgs", "imgs.zip"):
        if (folder / name).exists():
            return folders_of(folder / name)
    raise RELEASE.missing(folder, "no imgs and no imgs.zip")


def _plain(table: Table) -> Table:
    def rows() -> Iterator[Row | BadLine]:
        for row in table.rows:
            if isinstance(row, Row):
                plain = {"id": row.values.get("qid"), "image": row.values.get("img_name")}
                same = {name: row.values[name] for name in _COLUMNS if name in row.values}
                yield Row(number=row.number, values={**same, **plain})
            else:
                yield row

    return Table(file=table.file, columns=_COLUMNS, rows=rows())

"""PathVQA: 32,632 questions about 4,289 pathological pictures.

Source: He et al. 2020, "PathVQA: 30000+ questions for medical visual question answering", arXiv 2003.10286.
"""

from __future__ import annotations

from pathlib import Path

from sightline.data import huggingface
from sightline.data.conversations import read_plain
from sightline.data.release import Asked, Opened, Release
from sightline.errors import DataError

RELEASE = Release(
    title="PathVQA",
    format="path_vqa",
    address="https://huggingface.co/datasets/flaviagiammarino/path-vqa",
    files="the parquet files",
    layout=(
        "data/train-00000-of-00007-....parquet ...    (image, question, answer)",
        "data/validation-00000-of-00003-....parquet ...",
        "data/test-00000-of-00003-....parquet ...",
    ),
    num_bytes=785_422_885,
    licence="MIT",
    hub="flaviagiammarino/path-vqa",
    wanted=("data/*.parquet",),
)


def open_release(asked: Asked) -> Opened | None:
    """Open PathVQA as parquet; the authors' own release is told apart and refused.

    Its questions are pickles (`qas/train/train_qa.pkl`), and reading a pickle runs whatever its writer wanted.

    Args:
        asked: a folder of parquet files named as PathVQA's on the hub, or the authors' release.

    Returns:
        Its splits train, validation and test; None when this is not PathVQA.

    Raises:
        DataError: the folder holds the pickled release.
    """
    if asked.path.is_dir() and (pickle := _find_pickle(asked.path)):
        raise DataError(
            f"{pickle}: PathVQA's own release keeps its questions in pickles, which can run code when they are read "
            f"and are never opened here; the same questions, as parquet: {RELEASE.to_fetch()}"
        )
    if not huggingface.is_hub_copy(asked, RELEASE):
        return None
    return Opened(
        tables=huggingface.read_tables(asked),
        read_row=read_plain,
        images=asked.images or (asked.path,),
    )


def _find_pickle(folder: Path) -> Path | None:
    places = (folder, folder / "pvqa")
    return next((file for place in places for file in sorted((place / "qas").rglob("*.pkl"))), None)

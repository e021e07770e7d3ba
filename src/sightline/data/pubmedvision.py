"""PubMedVision: 1.3 million questions about figures of medical articles, often several figures to a question.

Source: Chen et al. 2024, "HuatuoGPT-Vision, towards injecting medical visual knowledge into multimodal LLMs at
scale", arXiv 2406.19280.
"""

from __future__ import annotations

from pathlib import Path

from sightline.data.archives import unpack
from sightline.data.conversations import read_text_first
from sightline.data.release import Asked, Opened, Release
from sightline.errors import DataError

SUBSETS = ("PubMedVision_Alignment_VQA", "PubMedVision_InstructionTuning_VQA")

RELEASE = Release(
    title="PubMedVision",
    format="pubmedvision",
    address="https://huggingface.co/datasets/FreedomIntelligence/PubMedVision",
    files=f"{SUBSETS[0]}.json or {SUBSETS[1]}.json, and images_0.zip to images_19.zip",
    layout=(
        f"{SUBSETS[0]}.json    (and/or {SUBSETS[1]}.json)",
        "images/pmc_1_0.jpg ...    (unzip -j images_N.zip -d images; or the archives, as they are)",
    ),
    num_bytes=58_000_000_000,
    licence="Apache-2.0",
    hub="FreedomIntelligence/PubMedVision",
    wanted=("{subset}.json", "images_*.zip"),
    subsets=SUBSETS,
)

MARKS = frozenset({"image", "conversations", "modality", "body_part"})
"""Columns by which the release is recognised."""

TAGS = ("modality", "body_part")

_IMAGES = "images"


def open_release(asked: Asked) -> Opened | None:
    """Open PubMedVision; its rows do not mark where their pictures stand, and they are put after the question.

    Args:
        asked: its folder, with one of `SUBSETS` as subset where both are there; or one of its files.

    Returns:
        One split, "train"; None when this is not PubMedVision.

    Raises:
        MissingDataError: the questions asked for or the pictures are missing.
        DataError: both sets of questions are there and none is chosen.
    """
    file = _find_file(asked)
    if file is None or not set(asked.table(file).columns) >= MARKS:
        return None
    return Opened(
        tables={"train": asked.table(file)},
        read_row=read_text_first,
        images=asked.images or (_find_images(file.parent) if asked.with_pictures else (file.parent,)),
        tags=TAGS,
    )


def _find_file(asked: Asked) -> Path | None:
    if asked.path.is_file():
        return asked.path if asked.path.suffix == ".json" else None
    files = {subset: asked.path / f"{subset}.json" for subset in SUBSETS}
    there = [subset for subset, file in files.items() if file.is_file()]
    if not there:
        return None
    if asked.subset is None and len(there) > 1:
        raise DataError(f"{asked.path}: choose a `subset`; there are {', '.join(there)}")
    subset = asked.subset or there[0]
    if subset not in there:
        raise RELEASE.missing(asked.path, f"no {subset}.json")
    return files[subset]


def _find_images(folder: Path) -> tuple[Path, ...]:
    if (folder / _IMAGES).is_dir():
        return (folder,)
    archives = sorted(folder.glob(f"{_IMAGES}_*.zip"))
    if not archives:
        raise RELEASE.missing(folder, f"no {_IMAGES} and no {_IMAGES}_0.zip")
    return tuple(unpack(archive, flat=_IMAGES) for archive in archives)

"""Which rows tell of one another: those that share a picture, directly or through others."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.records import PreferencePair, Sample

GROUPED_BY = "grouped_by"
"""The tag that names another one, such as the patient, by which a split kept rows together."""


def picture_groups(samples: Sequence[Sample | PreferencePair], tag: str | None = None) -> list[str]:
    """Name each sample's group; splits keep groups whole, and statistics take them for the independent units.

    A row about pictures 1 and 2 and one about 2 and 3 are in one group, and so is a row about 3 alone. Rows without a
    picture are grouped by where they came from: the turns of a conversation belong together.

    Args:
        samples: in any order; the names do not depend on it.
        tag: one whose value connects samples as a picture does, such as the patient; by default the one by which a
            split kept a sample together (`GROUPED_BY`), if it was split so.

    Returns:
        the smallest picture hash, or tag value, that a sample is connected with, or its row.
    """
    leader: dict[str, str] = {}

    def find(picture: str) -> str:
        while leader.setdefault(picture, picture) != picture:
            leader[picture] = leader[leader[picture]]
            picture = leader[picture]
        return picture

    bonds = [[picture.sha256 for picture in sample.pictures] for sample in samples]
    for names, sample in zip(bonds, samples, strict=True):
        if own := tag or sample.tags.get(GROUPED_BY):
            names.append(f"{own}:{sample.tags[own]}")
    for names in bonds:
        for name in names:
            first, second = sorted((find(names[0]), find(name)))
            leader[second] = first
    return [find(names[0]) if names else row_group(sample) for names, sample in zip(bonds, samples, strict=True)]


def row_group(sample: Sample | PreferencePair) -> str:
    """Name the row that a sample came from; the turns of a conversation have one."""
    return f"row:{sample.origin or sample.id}"


def count_images(samples: Sequence[Sample | PreferencePair]) -> tuple[int, int]:
    """Count distinct pictures, and the groups of rows that share none."""
    pictures = {picture.sha256 for sample in samples for picture in sample.pictures}
    return len(pictures), len(set(picture_groups(samples)))


def about_images(num_images: int, num_groups: int) -> str:
    """Write how many images questions are about; and how many groups they form, where questions share images in part.

    Args:
        num_images: distinct pictures.
        num_groups: groups of questions that share no picture (nor patient, where a split went by that), which
            statistics take for independent.
    """
    images = f"{num_images:,} image{'s'[: num_images != 1]}"
    groups = f"{num_groups:,} independent group{'s'[: num_groups != 1]}"
    return images if num_groups == num_images else f"{images} ({groups})"

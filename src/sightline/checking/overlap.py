"""Checks on the split: what of a test set training has seen, row by row and picture by picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.checking.findings import NUM_EXAMPLES, Finding
from sightline.checking.rows import Key, row_key
from sightline.records import Sample

How = Literal["row", "image", "near-duplicate"]

FEW_CLEAN = 30
"""Fewer clean questions than this tell models apart only if these differ in half of their answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training and validation have seen.

    Args:
        rows: each question about a picture to where it stands.
        pictures: hashes of their pictures.
        sizes: rows of each set, by its name.
    """

    rows: Mapping[Key, str]
    pictures: frozenset[str]
    sizes: Mapping[str, int]


def trained_on(train: Mapping[str, Sequence[Sample]]) -> Trained:
    """Gather what the sets that models are trained or chosen on show and ask."""
    return Trained(
        rows={row_key(sample): sample.origin for samples in train.values() for sample in samples},
        pictures=frozenset(p.sha256 for samples in train.values() for sample in samples for p in sample.pictures),
        sizes={name: len(samples) for name, samples in train.items()},
    )


def seen_items(trained: Trained, samples: Sequence[Sample], near: Mapping[str, str]) -> dict[str, How]:
    """Say of each test row that is not clean how training has seen it: the row itself, its picture, or one like it.

    Args:
        trained: what training has seen.
        samples: the test set.
        near: hashes of pictures that look like a trained one; see `checking.pictures.near_duplicates`.
    """
    seen: dict[str, How] = {}
    for sample in samples:
        if row_key(sample) in trained.rows:
            seen[sample.id] = "row"
        elif any(picture.sha256 in trained.pictures for picture in sample.pictures):
            seen[sample.id] = "image"
        elif any(picture.sha256 in near for picture in sample.pictures):
            seen[sample.id] = "near-duplicate"
    return seen


def check_whole(
    name: str, num_rows: int, *, is_whole: bool, released: Mapping[str, int], num_trained: int
) -> Iterator[Finding]:
    """Find a test set that holds every row of its source, of which some were made or are used for training.

    Args:
        name: the test set.
        num_rows: its rows.
        is_whole: whether these are all rows of its source.
        released: the source's own splits with their rows.
        num_trained: rows of it that training or validation has asked.
    """
    parts = {split: count for split, count in released.items() if "test" not in split}
    if not is_whole or not (num_trained or (len(released) > 1 and parts)):
        return
    data = name.rpartition(".")[0]
    if len(released) > 1 and "test" in released:
        made = ", ".join(f"{split} {count:,}" for split, count in released.items())
        why = f"the source's own splits ({made}) are asked together"
        write = f"data.{data}.split: {{train: {next(iter(parts))}, test: test}}"
    else:
        why = f"training or validation has asked {num_trained:,} of them"
        write = f"data.{data}.split: {{train: 0.8, validation: 0.1, test: 0.1, by: image}}"
    yield Finding(
        name="test-is-whole-dataset",
        severity="fault",
        message=f"{name}: all {num_rows:,} rows of the source are test questions: {why}. "
        "Such a score shows what was learnt by heart, and compares with no published figure of the test split",
        remedy=f"hold rows back, for example {write}",
        evidence={"num_rows": num_rows, "num_trained": num_trained, "released": dict(released)},
    )


def check_overlap(name: str, samples: Sequence[Sample], trained: Trained, near: Mapping[str, str]) -> Iterator[Finding]:
    """Find test rows whose picture and question, whose picture, or whose picture's double training has seen.

    Args:
        name: the test set.
        samples: its rows.
        trained: what training has seen.
        near: hashes of pictures that look like a trained one, each with that one's name.
    """
    same_rows = [sample for sample in samples if row_key(sample) in trained.rows]
    if same_rows:
        yield Finding(
            name="same-row-in-train-and-test",
            severity="fault",
            message=f"{name}: {len(same_rows)} of {len(samples)} test questions are asked of the same picture "
            f"in training or validation, for example {same_rows[0].question!r} ({same_rows[0].origin})",
            remedy="drop them from one side, or split by image",
            evidence={
                "rows": [[row.origin, trained.rows[row_key(row)]] for row in same_rows[:NUM_EXAMPLES]],
                "num_questions": len(same_rows),
            },
        )
    pictures = {picture.sha256: picture.name for sample in samples for picture in sample.pictures}
    seen = {sha256: picture for sha256, picture in pictures.items() if sha256 in trained.pictures}
    if seen:
        about = sum(any(picture.sha256 in seen for picture in sample.pictures) for sample in samples)
        yield Finding(
            name="same-image-in-train-and-test",
            severity="warning",
            message=f"{name}: {len(seen)} of {len(pictures)} test pictures are seen in training or "
            f"validation; {about} of {len(samples)} test questions are about them; {_what_is_left(samples, seen)}",
            remedy=f"split by image: {disjoint_split(name, len(samples), trained.sizes)}",
            evidence={"num_pictures": len(seen), "num_questions": about, "num_clean": len(samples) - about},
        )
    alike = {sha256: near[sha256] for sha256 in pictures if sha256 in near and sha256 not in seen}
    if alike:
        about = sum(any(picture.sha256 in alike for picture in sample.pictures) for sample in samples)
        first = next(iter(alike))
        yield Finding(
            name="near-duplicate-in-train-and-test",
            severity="warning",
            message=f"{name}: {len(alike)} of {len(pictures)} test pictures look like one of training or validation "
            f"without being the same file (resized, saved anew, or drawn alike), for example {pictures[first]} like "
            f"{alike[first]}; {about} of {len(samples)} test questions are about them",
            remedy="look at the pairs; give copies of one picture to one side",
            evidence={
                "num_pictures": len(alike),
                "num_questions": about,
                "pairs": [[pictures[sha256], other] for sha256, other in list(alike.items())[:NUM_EXAMPLES]],
            },
        )


def _what_is_left(samples: Sequence[Sample], seen: Mapping[str, str]) -> str:
    """Say in words what follows for the numbers."""
    clean = [sample for sample in samples if not any(picture.sha256 in seen for picture in sample.pictures)]
    memorised = "a model may answer from memory of the picture, so scores say little about new pictures"
    if not clean:
        return f"{memorised}, and no question is left to measure that with"
    num_pictures = len({picture.sha256 for sample in clean for picture in sample.pictures})
    left = f"{memorised}; the other {len(clean)} questions (pictures: {num_pictures}) are clean"
    return f"{left}, too few to compare models on" if len(clean) < FEW_CLEAN else left


def disjoint_split(name: str, num_rows: int, trained: Mapping[str, int]) -> str:
    """Write the line of a study file that gives parts of these sizes without a picture in two of them.

    Args:
        name: the test set, as `set.split`.
        num_rows: its rows.
        trained: the sets of training and validation with their rows.
    """
    data = name.rpartition(".")[0]
    parts = {key.rpartition(".")[2]: count for key, count in trained.items() if key.rpartition(".")[0] == data}
    if len(parts) < len(trained) or name in trained:
        return "give both sides to one data set with by: image, or drop the shared pictures from training"
    total = num_rows + sum(parts.values())
    shares = {split: max(1, round(100 * count / total)) for split, count in parts.items()}
    shares[name.rpartition(".")[2]] = 100 - sum(shares.values())
    written = ", ".join(f"{split}: {share / 100:g}" for split, share in shares.items())
    return f"data.{data}.split: {{{written}, by: image}}"

"""Data sets as a study names them: a source read, its bad rows dealt with, its rows divided into splits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.data.formats import load_source
from sightline.data.phantom import phantom_pairs, phantom_samples
from sightline.data.pictures import save_picture
from sightline.data.preferences import load_pairs
from sightline.data.problems import Loaded
from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.records import Sample, to_json
from sightline.storage import json_line, sha256_of, write_file

PHANTOM_IMAGES = 400
"""Pictures `builtin:phantom` draws unless the study says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a data set's rows come from; the study file's keys of the same names.

    Args:
        location: a path, a hub name or "builtin:phantom".
        root: folder that relative paths start from.
        format: see `data.formats.load_source`; so are `subset`, `columns`, `take` and `where`.
        images: folder of the pictures, or the number of pictures to draw.
        seed: of drawn pictures.
        allow_ties: see `data.preferences.load_pairs`.
    """

    location: str
    root: Path
    format: str | None = None
    subset: str | None = None
    columns: Mapping[str, object] = dataclasses.field(default_factory=dict)
    images: str | int | None = None
    take: int | None = None
    where: Mapping[str, object] = dataclasses.field(default_factory=dict)
    seed: int = 0
    allow_ties: bool = False


def read_source(source: Source, *, as_pairs: bool = False) -> dict[str, Loaded]:
    """Read a source's own splits ("all" when it has none), bad rows reported and not yet dealt with.

    Args:
        source: what to read.
        as_pairs: whether its rows are preference pairs.
    """
    if source.location == "builtin:phantom":
        number = source.images if isinstance(source.images, int) else PHANTOM_IMAGES
        if as_pairs:
            pairs = phantom_pairs(number, seed=source.seed, subset=source.subset or "single")
            samples = tuple(pair.as_sample() for pair in pairs)
        else:
            samples = phantom_samples(number, seed=source.seed, subset=source.subset or "all")
        wanted = tuple(sample for sample in samples if has_tags(sample, source.where))[: source.take]
        return {"all": Loaded(samples=wanted, problems=(), num_rows=len(wanted))}
    images = source.images if isinstance(source.images, str) else None
    asked = {"root": source.root, "format": source.format, "subset": source.subset, "columns": source.columns}
    asked |= {"images": images, "take": source.take, "where": source.where}
    if not as_pairs:
        return load_source(source.location, **asked)
    return {
        split: Loaded(
            samples=tuple(pair.as_sample() for pair in held.pairs), problems=held.problems, num_rows=held.num_rows
        )
        for split, held in load_pairs(source.location, **asked, allow_ties=source.allow_ties).items()
    }


def has_tags(sample: Sample, where: Mapping[str, object]) -> bool:
    """Say whether a sample carries the wanted tags; a list of values allows each of them."""
    return all(
        sample.tags.get(name) in [str(v) for v in (value if isinstance(value, list | tuple) else [value])]
        for name, value in where.items()
    )


def divide(
    name: str,
    loaded: Mapping[str, Loaded],
    *,
    shares: Mapping[str, float],
    released: Mapping[str, str],
    cuts: Mapping[str, tuple[str, float]],
    by: str,
    seed: int,
    stratify: str | None = None,
) -> dict[str, tuple[Sample, ...]]:
    """Divide the usable rows of a source into the study's splits.

    Args:
        name: of the data set, for messages.
        loaded: the source's own splits.
        shares: split to its share of all rows; the source's own splits are put together first.
        released: split to the source's own split that it is.
        cuts: split to (source's split, share of its groups that is cut out for it).
        by: what stays together; see `data.splits.split_samples`.
        seed: of the shuffling.
        stratify: the tag whose values every part gets its share of.

    Raises:
        DataError: if the source has no such split, or too few rows for one.
    """
    if shares:
        together = (sample for part in loaded.values() for sample in part.samples)
        return split_samples(together, shares, by=by, seed=seed, stratify=stratify)
    parts: dict[str, tuple[Sample, ...]] = {}
    for split, theirs in released.items():
        if theirs not in loaded:
            raise DataError(f"data.{name}.split: the source has no split {theirs!r}; it has {', '.join(loaded)}")
        samples = loaded[theirs].samples
        shared = {cut: share for cut, (origin, share) in cuts.items() if origin == theirs}
        if shared:
            divided = split_samples(
                samples, {split: 1 - sum(shared.values()), **shared}, by=by, seed=seed, stratify=stratify
            )
            parts.update(divided)
        else:
            parts[split] = samples
    return parts


def samples_sha256(samples: tuple[Sample, ...]) -> str:
    """Hash what samples show, ask and answer; where their files lie does not count."""
    lines = [
        json.dumps(
            [
                sample.id,
                [picture.sha256 for picture in sample.pictures],
                [(message.role, message.content) for message in sample.messages],
                sample.answer,
                *([] if sample.rejected is None else [sample.rejected]),
            ],
            ensure_ascii=False,
        )
        for sample in samples
    ]
    return sha256_of("\n".join(lines))


def write_samples(path: Path, samples: tuple[Sample, ...]) -> None:
    """Write samples as JSONL; pictures that exist only in memory are stored in `pictures/` beside the file."""
    stored: dict[str, dict[str, object]] = {}
    lines = []
    for sample in samples:
        row = to_json(sample)
        for place, picture in enumerate(sample.pictures):
            if picture.path is None:
                if picture.sha256 not in stored:
                    kept = save_picture(picture, path.parent / "pictures")
                    relative = Path(str(kept.path)).relative_to(path.parent.parent).as_posix()
                    stored[picture.sha256] = {**to_json(kept), "path": relative}
                row["pictures"][place] = {**stored[picture.sha256], "name": picture.name}
        lines.append(json_line(row))
    write_file(path, "".join(lines))

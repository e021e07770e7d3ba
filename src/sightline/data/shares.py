"""The shares of a first split: enough pictures to test on, counted in the parts that the rows really give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sightline.data.groups import picture_groups
from sightline.data.guess import Guess
from sightline.data.sets import Source, read_source
from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.records import Sample

SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""How a set is divided that has pictures enough."""

TEST_SHARES = (0.15, 0.2, 0.25, 0.3, 0.4)
"""What is tried where that leaves too few pictures to test on, before validation is given up."""

LAST_SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
"""What is tried then: a picture with most of the rows leaves none for a third part."""


def usable_rows(guess: Guess) -> tuple[Sample, ...]:
    """Read the rows of guessed data as its first study will; those that cannot be used are left to the check."""
    source = Source(
        location=str(guess.file.resolve()),
        root=Path(),
        format=guess.format,
        columns=guess.columns,
        images=str(guess.images.resolve()),
    )
    loaded = read_source(source, as_pairs=guess.is_preferences)
    return tuple(sample for part in loaded.values() for sample in part.samples)


def choose_shares(samples: Sequence[Sample], least: int, *, by: str = "image") -> tuple[Mapping[str, float], str]:
    """Divide a set so that its test part is enough for a verdict, as far as there are shares that make it so.

    A split goes by rows and keeps a picture's rows together, so where one picture has hundreds and others have one,
    a tenth of the rows can be one picture, or none. Each choice is therefore tried on the rows themselves.

    Args:
        samples: every row.
        least: the fewest groups of rows (pictures, patients) that a verdict is possible on.
        by: what stays together; see `data.splits.split_samples`.

    Returns:
        shares by split, and what must be said about them; "" where nothing must.
    """
    if not samples:
        return SHARES, "no row can be used as it is; sightline check names what is wrong with each"
    chosen, parts = None, {}
    fit = 0, False
    for shares in _candidates():
        try:
            divided = split_samples(samples, shares, by=by)
        except DataError:  # a part stays empty
            continue
        learns = 2 * len(divided["train"]) >= shares["train"] * len(samples)
        found = min(len(set(picture_groups(divided["test"]))), least), learns
        if found > fit:
            chosen, parts, fit = shares, divided, found
        if fit == (least, True):
            break
    if chosen == SHARES and fit == (least, True):
        return SHARES, ""
    per_group = Counter(picture_groups(samples, None if by == "image" else by))
    return chosen or {"train": 0.5, "test": 0.5}, _remark(per_group, chosen, parts, least, by)


def _candidates() -> Iterator[Mapping[str, float]]:
    yield SHARES
    for test in TEST_SHARES:
        yield {"train": round(1 - SHARES["validation"] - test, 2), "validation": SHARES["validation"], "test": test}
    for test in LAST_SHARES:
        yield {"train": round(1 - test, 2), "test": test}


def _remark(
    per_group: Mapping[str, int],
    shares: Mapping[str, float] | None,
    parts: Mapping[str, Sequence[Sample]],
    least: int,
    by: str,
) -> str:
    what = "pictures" if by == "image" else f"values of {by}"
    num_rows, largest = sum(per_group.values()), max(per_group.values())
    told = f"{len(per_group):,} {what} are few"
    if len(per_group) * SHARES["test"] >= least:
        told = f"{num_rows:,} rows are spread unevenly over {len(per_group):,} {what}, up to {largest:,} on one"
    told += f". With fewer than {least} to test on, no difference can be called real"
    if shares is None:
        return f"{told}, and these rows cannot be divided at all; add {what}"
    num_test = len(set(picture_groups(parts["test"])))
    told += ", so" if num_test >= least else ", and no shares of these rows give so many:"
    told += f" test has a share of {shares['test']:.0%} of the rows here, which gives {num_test:,}"
    if "validation" not in shares:
        told += ", without a validation split"
    if 2 * len(parts["train"]) < shares["train"] * num_rows:
        told += f"; that leaves {len(parts['train']):,} of {num_rows:,} rows to learn from"
    return f"{told}; add {what}"

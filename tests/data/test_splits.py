"""Splits keep pictures on one side, lose nothing, and depend on content and seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.records import Message, Picture, Sample

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def sample(id: int, pictures: tuple[int, ...]) -> Sample:
    return Sample(
        id=str(id),
        pictures=tuple(Picture(name=f"{p}.png", sha256=f"{p:064x}", width=2, height=2) for p in pictures),
        messages=(Message(role="user", content=("Is it?",)),),
        answer="yes",
        origin=f"rows.jsonl:{id}",
    )


rows = st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=1, max_size=80).map(
    lambda groups: [sample(id, tuple(group)) for id, group in enumerate(groups)]
)


def largest_group(samples: list[Sample]) -> int:
    """Rows of the largest group, found the slow way: merge sets of pictures until nothing changes."""
    groups = [({p.sha256 for p in s.pictures} or {f"row {s.id}"}, 1) for s in samples]
    merged = True
    while merged:
        merged = False
        for first in range(len(groups)):
            for second in range(first + 1, len(groups)):
                if groups[first][0] & groups[second][0]:
                    groups[first] = (groups[first][0] | groups[second][0], groups[first][1] + groups[second][1])
                    del groups[second]
                    merged = True
                    break
            if merged:
                break
    return max(num for _, num in groups)


@given(rows, st.integers(0, 3))
def test_no_picture_is_in_two_parts_and_no_row_is_lost(samples: list[Sample], seed: int):
    try:
        parts = split_samples(samples, SHARES, seed=seed)
    except DataError as error:
        assert "too few" in str(error)
        return
    assert Counter(s.id for part in parts.values() for s in part) == Counter(s.id for s in samples)
    seen: dict[str, str] = {}
    for name, part in parts.items():
        assert [s.id for s in part] == [s.id for s in samples if s in part]
        for picture in (p for s in part for p in s.pictures):
            assert seen.setdefault(picture.sha256, name) == name


@given(rows, st.randoms(use_true_random=False))
def test_parts_are_about_as_large_as_asked_and_order_does_not_matter(samples: list[Sample], random):
    try:
        parts = split_samples(samples, SHARES)
    except DataError:
        return
    largest = largest_group(samples)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - share * len(samples)) < len(SHARES) * largest
    shuffled = random.sample(samples, len(samples))
    assert {name: {s.id for s in part} for name, part in split_samples(shuffled, SHARES).items()} == {
        name: {s.id for s in part} for name, part in parts.items()
    }


def test_pictures_joined_through_others_stay_together():
    chain = [sample(id, (id, id + 1)) for id in range(30)]
    with pytest.raises(DataError, match="1 pictures are too few to fill validation, test"):
        split_samples(chain, SHARES)
    alone = [sample(100 + id, (100 + id,)) for id in range(40)]
    parts = split_samples([*chain, *alone], SHARES)
    assert len({name for name, part in parts.items() for s in part if int(s.id) < 30}) == 1


def test_seeds_differ_and_repeat():
    samples = [sample(id, (id // 4,)) for id in range(400)]
    first, second = (split_samples(samples, SHARES, seed=seed) for seed in (0, 1))
    assert first == split_samples(samples, SHARES, seed=0)
    assert first["test"] != second["test"]
    assert {name: len(part) for name, part in first.items()} == {"train": 240, "validation": 80, "test": 80}


def test_by_row_keeps_the_turns_of_a_conversation_together():
    samples = [
        Sample(
            id=f"{id}#{turn}",
            pictures=sample(id, (0,)).pictures,
            messages=sample(id, ()).messages,
            answer="yes",
            origin=f"chats.json:{id}",
        )
        for id in range(50)
        for turn in (1, 2)
    ]
    parts = split_samples(samples, {"train": 0.5, "test": 0.5}, by="row")
    rows = {name: {s.origin for s in part} for name, part in parts.items()}
    assert not rows["train"] & rows["test"] and len(parts["train"]) == 50


@pytest.mark.parametrize("shares", [{}, {"train": 1.2, "test": -0.2}, {"train": 0.5, "test": 0.4}])
def test_shares_must_be_shares(shares: dict[str, float]):
    with pytest.raises(DataError, match="sum to 1"):
        split_samples([sample(0, (0,))], shares)

"""Splits keep pictures on one side, lose nothing, and depend on content and seed alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.records import Message, Picture, Sample

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def sample(id: int, pictures: tuple[int, ...], **tags: str) -> Sample:
    return Sample(
        id=str(id),
        pictures=tuple(Picture(name=f"{p}.png", sha256=f"{p:064x}", width=2, height=2) for p in pictures),
        messages=(Message(role="user", content=("Is it?",)),),
        answer="yes",
        tags=tags,
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
    with pytest.raises(DataError, match="1 groups of rows that share pictures are too few to fill validation, test"):
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


def test_a_split_stays_what_it_was() -> None:
    """These parts were made by the first release; the splits of finished studies must not change under them."""
    alone = [sample(id, (id // 3,)) for id in range(30)]
    joined = [sample(id, (id, id + 1)) for id in range(40, 44)]
    samples = [*alone, *joined, *(sample(id, ()) for id in range(50, 56))]
    parts = split_samples(samples, SHARES, seed=7)
    assert [s.id for s in parts["validation"]] == ["3", "4", "5", "15", "16", "17", "54"]
    assert [s.id for s in parts["test"]] == ["6", "7", "8", "24", "25", "26", "52"]
    by_row = split_samples(samples, SHARES, seed=7, by="row")
    assert [s.id for s in by_row["validation"]] == ["11", "13", "15", "16", "23", "28", "29", "52"]
    assert [s.id for s in by_row["test"]] == ["0", "1", "3", "12", "22", "27", "42", "51"]


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 25)), min_size=8, max_size=60), st.integers(0, 3))
def test_rows_and_pictures_of_a_patient_are_in_one_part(drawn: list[tuple[int, int]], seed: int) -> None:
    # A picture may be of two patients, who then stay together.
    samples = [sample(id, (picture,), patient=f"p{patient}") for id, (patient, picture) in enumerate(drawn)]
    samples.append(sample(len(samples), (), patient="p0"))  # a row without a picture has a patient as well
    try:
        parts = split_samples(samples, SHARES, by="patient", seed=seed)
    except DataError as error:
        assert "groups by patient are too few" in str(error)
        return
    place: dict[str, str] = {}
    for name, part in parts.items():
        for one in part:
            for known in (one.tags["patient"], *(picture.sha256 for picture in one.pictures)):
                assert place.setdefault(known, name) == name
    assert sum(map(len, parts.values())) == len(samples)


def test_a_patient_s_pictures_are_apart_only_by_image() -> None:
    samples = [sample(id, (id,), patient=str(id // 8)) for id in range(80)]

    def patients(by: str) -> list[set[str]]:
        return [{s.tags["patient"] for s in part} for part in split_samples(samples, SHARES, by=by).values()]

    train, validation, test = patients("patient")
    assert not train & validation and not (train | validation) & test
    train, validation, test = patients("image")
    assert train & validation & test


@pytest.mark.parametrize("named", [{"by": "patient"}, {"stratify": "patient"}])
def test_a_row_without_the_tag_is_named_with_the_advice(named: dict[str, Any]) -> None:
    samples = [sample(0, (0,), patient="a", organ="lung"), sample(1, (1,), organ="lung"), sample(2, (2,))]
    with pytest.raises(DataError) as caught:
        split_samples(samples, {"train": 0.5, "test": 0.5}, **named)
    assert str(caught.value) == (
        "split: 2 of 3 rows have no tag 'patient', for example rows.jsonl:1; tags there are: organ, patient. "
        "A column becomes a tag by columns: {tags: [patient]}"
    )


typed = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("aaaabbc")), min_size=30, max_size=120)


@given(typed, st.integers(0, 3))
def test_every_part_gets_its_share_of_every_value(drawn: list[tuple[int, str]], seed: int) -> None:
    samples = [sample(id, (picture,), kind=kind) for id, (picture, kind) in enumerate(drawn)]
    try:
        parts = split_samples(samples, SHARES, seed=seed, stratify="kind")
    except DataError as error:
        assert "too few" in str(error)
        return
    largest = max(Counter(picture for picture, _ in drawn).values())
    whole = Counter(kind for _, kind in drawn)
    assert Counter(s.id for part in parts.values() for s in part) == Counter(s.id for s in samples)
    for name, share in SHARES.items():
        held = Counter(s.tags["kind"] for s in parts[name])
        for kind, number in whole.items():
            assert abs(held[kind] - share * number) <= largest, (name, kind)


def test_rows_of_their_own_are_split_exactly_and_a_rare_value_reaches_every_part() -> None:
    """By hand: of 80 rows of one kind and 10 of another, 60% are 48 and 6, and 20% are 16 and 2."""
    samples = [sample(id, (id,), kind="rare" if id % 9 == 4 else "common") for id in range(90)]
    for seed in range(5):
        parts = split_samples(samples, SHARES, seed=seed, stratify="kind")
        held = [Counter(s.tags["kind"] for s in part) for part in parts.values()]
        assert held == [Counter(common=48, rare=6), Counter(common=16, rare=2), Counter(common=16, rare=2)]
    unlike = [Counter(s.tags["kind"] for s in part) for part in split_samples(samples, SHARES).values()]
    assert unlike != held  # chance alone does not


def test_stratified_by_patient_keeps_patients_whole() -> None:
    samples = [sample(id, (id,), patient=str(id // 3), kind="ab"[id // 3 % 2]) for id in range(180)]
    parts = split_samples(samples, SHARES, by="patient", stratify="kind")
    patients = [{s.tags["patient"] for s in part} for part in parts.values()]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 60
    assert [Counter(s.tags["kind"] for s in part) for part in parts.values()] == [
        Counter(a=54, b=54),
        Counter(a=18, b=18),
        Counter(a=18, b=18),
    ]


@pytest.mark.parametrize("shares", [{}, {"train": 1.2, "test": -0.2}, {"train": 0.5, "test": 0.4}])
def test_shares_must_be_shares(shares: dict[str, float]):
    with pytest.raises(DataError, match="sum to 1"):
        split_samples([sample(0, (0,))], shares)

"""The real POPE label files: 500 pictures, six questions each, three ways of asking what is not there."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.pictures import open_picture
from sightline.data.problems import Loaded
from sightline.errors import DataError, MissingDataError


@pytest.fixture(scope="module")
def labels(shared: Path) -> dict[str, Loaded]:
    return load_source("pope", root=shared / "data", with_pictures=False)


def test_each_file_asks_six_questions_about_500_pictures(labels: dict[str, Loaded]):
    assert labels.keys() == {"random", "popular", "adversarial"}
    for category, part in labels.items():
        assert (part.num_rows, len(part.samples), part.problems) == (3_000, 3_000, ())
        assert Counter(s.answer for s in part.samples) == {"yes": 1_500, "no": 1_500}
        assert set(Counter(s.image_id for s in part.samples).values()) == {6}
        assert {s.tags["category"] for s in part.samples} == {category}
        for _, of_image in groupby(part.samples, key=lambda s: s.image_id):
            assert [s.answer for s in of_image] == ["yes", "no"] * 3


def test_the_files_share_their_pictures_and_their_yes_questions(labels: dict[str, Loaded]):
    pictures = {tuple(dict.fromkeys(s.pictures[0].name for s in part.samples)) for part in labels.values()}
    assert len(pictures) == 1 and len(next(iter(pictures))) == 500
    positive = {
        frozenset((s.image_id, s.question) for s in part.samples if s.answer == "yes") for part in labels.values()
    }
    assert len(positive) == 1 and len(next(iter(positive))) == 1_500


def test_ids_stay_apart_although_the_files_number_their_questions_alike(labels: dict[str, Loaded]):
    ids = [s.id for part in labels.values() for s in part.samples]
    assert len(set(ids)) == 9_000
    numbers = {frozenset(s.tags["question_id"] for s in part.samples) for part in labels.values()}
    assert numbers == {frozenset(str(number) for number in range(1, 3_001))}


def test_one_file_alone_knows_its_category(shared: Path):
    loaded = load_source("pope/coco_pope_popular.json", root=shared / "data", with_pictures=False, take=6)
    assert {s.tags["category"] for s in loaded["all"].samples} == {"popular"}


def test_without_pictures_it_names_coco_and_nothing_can_be_opened(shared: Path, labels: dict[str, Loaded]):
    with pytest.raises(MissingDataError, match=r"COCO val2014.*http.*val2014\.zip"):
        load_source("pope", root=shared / "data")
    with pytest.raises(DataError, match="only its name is known"):
        open_picture(labels["random"].samples[0].pictures[0])

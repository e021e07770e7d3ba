"""The real POPE label files: 500 pictures, six questions each, three ways of asking what is not there."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

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


def write_labels(folder: Path, num_pictures: int = 3) -> list[str]:
    """Label files of a few pictures, as the authors' repository has them; returns the pictures' names."""
    folder.mkdir(parents=True)
    names = [f"COCO_val2014_{number:012d}.jpg" for number in range(num_pictures)]
    for category in ("random", "popular", "adversarial"):
        rows = []
        for name in names:
            for thing, label in (("dog", "yes"), ("cow", "no")):
                text = f"Is there a {thing} in the image?"
                rows.append({"question_id": len(rows) + 1, "image": name, "text": text, "label": label})
        (folder / f"coco_pope_{category}.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return names


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", (8, 6), (place, 0, 0)).save(folder / name)


@pytest.mark.parametrize(
    ("labels", "pictures", "source", "images"),
    [
        ("pope", "pope/val2014", "pope", None),
        ("pope", "pope", "pope", None),
        ("pope", "pope/images/val2014", "pope", None),
        ("POPE/output/coco", "coco2014/val2014", "POPE", None),  # as HA-DPO's instructions have it
        ("POPE/output/coco", "POPE/val2014", "POPE", None),
        ("pope", "mirror/coco/val2014", "pope", "mirror"),
        ("pope", "mirror/val2014", "pope", "mirror"),
        ("pope", "mirror", "pope", "mirror"),
    ],
)
def test_pictures_are_found_where_people_keep_them(
    tmp_path: Path, labels: str, pictures: str, source: str, images: str | None
):
    names = write_labels(tmp_path / labels)
    write_pictures(tmp_path / pictures, names)
    loaded = load_source(source, root=tmp_path, images=images)
    assert {split: (part.num_rows, len(part.samples), part.problems) for split, part in loaded.items()} == {
        category: (6, 6, ()) for category in ("random", "popular", "adversarial")
    }
    assert [s.pictures[0].name for s in loaded["random"].samples[::2]] == names
    by_file = load_source(f"{labels}/coco_pope_popular.json", root=tmp_path, images=images)["all"]
    assert by_file.samples == loaded["popular"].samples


def test_a_picture_that_is_missing_is_named_and_costs_its_own_questions(tmp_path: Path):
    names = write_labels(tmp_path / "pope")
    write_pictures(tmp_path / "pope" / "val2014", names[1:])  # the first is missing
    loaded = load_source("pope", root=tmp_path)["random"]
    assert len(loaded.samples) == 4
    assert [(p.row, p.id, p.kind, p.image) for p in loaded.problems] == [
        (1, "random-1", "missing-image", names[0]),
        (2, "random-2", "missing-image", names[0]),
    ]


def test_a_folder_without_any_of_the_pictures_is_refused_at_once(tmp_path: Path):
    write_labels(tmp_path / "pope")
    write_pictures(tmp_path / "mirror", ["COCO_train2014_000000000001.jpg"])
    with pytest.raises(
        MissingDataError, match=r"none of the pictures .* is in .*mirror; scoring .*POPE: fetch .*6\.6 GB"
    ):
        load_source("pope", root=tmp_path, images="mirror")
    with pytest.raises(MissingDataError, match=r"no coco_pope_random\.json; this should be POPE"):
        load_source("mirror", root=tmp_path, format="pope")

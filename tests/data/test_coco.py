"""Questions from boxes and masks: true, balanced, the same every time, and none about what cannot be known."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.problems import Loaded
from sightline.errors import DataError, MissingDataError

CATEGORIES = [{"id": 1, "name": "nodule"}, {"id": 2, "name": "Effusion"}, {"id": 5, "name": "chest_tube"}]


def box(image: int, category: int, x: int = 10, y: int = 10, **more: object) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, y, 10, 10], "iscrowd": 0, **more}


def write(
    path: Path, num_pictures: int, marks: list[dict], categories: list[dict] = CATEGORIES, **more: object
) -> None:
    """Pictures of 90 x 60 pixels, and what is marked in them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": f"{n}.png", "width": 90, "height": 60} for n in range(num_pictures)]
    for image in images:
        Image.new("RGB", (90, 60), (image["id"], 0, 0)).save(path.parent / image["file_name"])
    marks = [{"id": number, **mark} for number, mark in enumerate(marks)]
    path.write_text(json.dumps({"images": images, "annotations": marks, "categories": categories, **more}))


def load(folder: Path, source: str = "labels.json", **options: Any) -> Loaded:
    return load_source(source, root=folder, **options)["all"]


def asked(loaded: Loaded, kind: str) -> list[tuple[str, str, str]]:
    return [(s.pictures[0].name, s.tags["category"], s.answer) for s in loaded.samples if s.tags["kind"] == kind]


def test_every_question_of_a_picture(tmp_path: Path):
    write(tmp_path / "labels.json", 2, [box(0, 1, 0, 0), box(0, 5, 35, 25), box(0, 5, 70, 40)])
    loaded = load(tmp_path)
    assert loaded.problems == ()
    *of_first, of_empty = [(s.id, s.question, s.answer, s.tags) for s in loaded.samples]
    assert of_empty[0].startswith("1-") and of_empty[2] == "no"
    assert of_first == [
        (id, question, answer, {"category": category, "kind": kind, "answer_type": type})
        for id, question, answer, category, kind, type in [
            ("0-1-present", "Is there a nodule in the image?", "yes", "nodule", "present", "CLOSED"),
            ("0-1-where", "In which part of the image is the nodule?", "upper left", "nodule", "where", "OPEN"),
            ("0-1-count", "How many instances of nodule are in the image?", "1", "nodule", "count", "OPEN"),
            ("0-5-present", "Is there a chest tube in the image?", "yes", "chest tube", "present", "CLOSED"),
            ("0-5-count", "How many instances of chest tube are in the image?", "2", "chest tube", "count", "OPEN"),
            ("0-2-present", "Is there an Effusion in the image?", "no", "Effusion", "present", "CLOSED"),
        ]
    ]
    assert [s.origin for s in loaded.samples] == ["labels.json:0"] * 6 + ["labels.json:1"]


def test_the_mask_decides_where_and_the_box_only_without_one(tmp_path: Path):
    low_right = [[80, 50, 90, 50, 90, 60, 80, 60]]
    write(tmp_path / "labels.json", 2, [box(0, 1, 0, 0, segmentation=low_right), box(1, 1, 0, 0, segmentation=[])])
    assert asked(load(tmp_path), "where") == [("0.png", "nodule", "lower right"), ("1.png", "nodule", "upper left")]


def test_a_crowd_is_there_but_neither_counted_nor_placed(tmp_path: Path):
    runs = {"size": [60, 90], "counts": [0, 5400]}
    write(tmp_path / "labels.json", 2, [box(0, 1), box(0, 1, iscrowd=1, segmentation=runs), box(0, 2)])
    loaded = load(tmp_path)
    assert ("0.png", "nodule", "yes") in asked(loaded, "present")
    assert {category for _, category, _ in asked(loaded, "where") + asked(loaded, "count")} == {"Effusion"}


@pytest.mark.parametrize("subset", [None, "random", "popular"])
def test_answers_are_true_and_balanced(tmp_path: Path, subset: str | None):
    rng = np.random.default_rng(1)
    categories = [{"id": n, "name": f"thing {n} x"} for n in range(8)]
    truth: dict[int, Counter[int]] = {n: Counter(rng.integers(0, 8, rng.integers(0, 7)).tolist()) for n in range(40)}
    marks = [box(n, category) for n, things in truth.items() for category in things.elements()]
    write(tmp_path / "labels.json", 40, marks, categories)
    loaded = load(tmp_path, subset=subset)
    present = asked(loaded, "present")
    for name, category, answer in present:
        assert (answer == "yes") == (int(category.split()[1]) in truth[int(name.removesuffix(".png"))])
    answers = Counter(answer for _, _, answer in present)
    assert answers["yes"] == answers["no"] == sum(map(len, truth.values()))
    for name, category, answer in asked(loaded, "count"):
        assert int(answer) == truth[int(name.removesuffix(".png"))][int(category.split()[1])]
    assert {(n, c) for n, c, _ in asked(loaded, "where")} == {
        (f"{n}.png", f"thing {c} x") for n, things in truth.items() for c, num in things.items() if num == 1
    }
    assert load(tmp_path, subset=subset) == loaded


def test_popular_asks_for_what_is_in_most_pictures(tmp_path: Path):
    """Category 2 is in three pictures, 1 in two, 5 in one: who lacks 2 is asked for it first, then for 1."""
    write(tmp_path / "labels.json", 4, [box(0, 2), box(1, 2), box(2, 2), box(2, 1), box(3, 1), box(3, 5)])
    first = {}
    for name, category, answer in asked(load(tmp_path, subset="popular"), "present"):
        if answer == "no":
            first.setdefault(name, category)
    assert first == {"0.png": "nodule", "1.png": "nodule", "2.png": "chest tube", "3.png": "Effusion"}
    with pytest.raises(DataError, match="no subset 'rare'; absent categories are drawn random or popular"):
        load(tmp_path, subset="rare")


def test_random_negatives_differ_among_pictures(tmp_path: Path):
    categories = [{"id": n, "name": f"thing {chr(97 + n)}"} for n in range(20)]
    write(tmp_path / "labels.json", 30, [box(n, 0) for n in range(30)], categories)
    lacking = [category for _, category, answer in asked(load(tmp_path), "present") if answer == "no"]
    assert len(lacking) == 30 and len(set(lacking)) > 8


def test_healthy_pictures_make_up_for_those_that_show_everything(tmp_path: Path):
    """One category: only pictures without it can be answered no, and so many yes are kept."""
    tumour = [{"id": 1, "name": "tumour"}]
    write(tmp_path / "labels.json", 5, [box(0, 1), box(1, 1), box(2, 1)], tumour)
    present = asked(load(tmp_path), "present")
    assert Counter(answer for _, _, answer in present) == {"yes": 2, "no": 2}
    assert {name for name, _, answer in present if answer == "no"} == {"3.png", "4.png"}
    # Without one healthy picture the answer would always be yes: it is not asked; where and how many are.
    write(tmp_path / "all" / "labels.json", 2, [box(0, 1), box(1, 1)], tumour)
    every = load(tmp_path, "all/labels.json")
    assert asked(every, "present") == [] and len(asked(every, "where")) == len(asked(every, "count")) == 2


def test_roboflow_exports_as_they_are(tmp_path: Path):
    """Splits in folders of their own; the group that opens the list is not asked for; bare numbers get its name."""
    categories = [
        {"id": 0, "name": "Tumor", "supercategory": "none"},
        {"id": 1, "name": "0", "supercategory": "Tumor"},
        {"id": 2, "name": "1", "supercategory": "Tumor"},
    ]
    for split in ("train", "valid", "test"):
        write(tmp_path / "brain" / split / "_annotations.coco.json", 2, [box(0, 1), box(1, 2)], categories)
    loaded = load_source("brain", root=tmp_path)
    assert list(loaded) == ["train", "valid", "test"]
    assert {s.tags["category"] for part in loaded.values() for s in part.samples} == {"Tumor 0", "Tumor 1"}
    ids = [s.id for part in loaded.values() for s in part.samples]
    assert len(set(ids)) == len(ids) and ids[0] == "train-0-1-present"
    assert loaded["test"].samples[0].pictures[0].name == "test/0.png"
    assert loaded["test"].samples[0].origin == "brain/test/_annotations.coco.json:0"


def test_cocos_own_layout_and_pictures_elsewhere(tmp_path: Path):
    write(tmp_path / "val2017" / "labels.json", 2, [box(0, 1)])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017" / "labels.json").rename(tmp_path / "annotations" / "instances_val2017.json")
    by_folder = load_source(".", root=tmp_path)
    assert list(by_folder) == ["val2017"]
    assert by_folder["val2017"].samples[0].pictures[0].name == "val2017/0.png"
    by_file = load_source("annotations/instances_val2017.json", root=tmp_path)["all"]
    assert by_file.samples == by_folder["val2017"].samples

    (tmp_path / "val2017").rename(tmp_path / "photos")
    with pytest.raises(MissingDataError, match=r"none of its 2 pictures, such as '0.png', .*set `images`") as error:
        load_source(".", root=tmp_path)
    assert "cocodataset.org" in str(error.value) and "20 GB" in str(error.value)
    elsewhere = load_source(".", root=tmp_path, images="photos")["val2017"]
    assert elsewhere.samples[0].pictures[0].name == "0.png" and elsewhere.problems == ()
    by_name = load_source(".", root=tmp_path, with_pictures=False)["val2017"]
    assert by_name.samples[0].question == elsewhere.samples[0].question


@pytest.mark.parametrize(
    ("mark", "found"),
    [
        (box(1, 9), "annotation 1 cannot be used: its category 9 is not in `categories`"),
        (box(1, 1, bbox=[1, 2]), r"annotation 1 cannot be used: its bbox is \[1, 2\]"),
        (box(1, 1, bbox=[200, 0, 1, 1]), "is outside of 90 x 60 pixels"),
        (box(1, [1]), "its category"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_annotation_costs_its_picture_and_no_other(tmp_path: Path, mark: dict, found: str):
    write(tmp_path / "labels.json", 3, [box(0, 1), mark, box(2, 2), box(1, 1)])
    loaded = load(tmp_path)
    assert {s.pictures[0].name for s in loaded.samples} == {"0.png", "2.png"}
    [problem] = loaded.problems
    assert (problem.row, problem.id, problem.kind) == (1, "1.png", "wrong-type")
    assert re.search(found, str(problem))


def test_marks_of_nothing_and_pictures_without_size_are_named(tmp_path: Path):
    write(tmp_path / "labels.json", 2, [box(0, 1), box(7, 1)])
    content = json.loads((tmp_path / "labels.json").read_text())
    content["images"].append({"id": 1, "file_name": "again.png", "width": 1, "height": 1})
    del content["images"][1]["width"]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    loaded = load(tmp_path)
    assert {s.pictures[0].name for s in loaded.samples} == {"0.png"}
    found = " ".join(problem.found for problem in loaded.problems)
    assert "annotation 1 is about image 7, which is not in `images`" in found and "'file_name': '1.png'" in found


def test_a_picture_of_another_size_has_its_things_elsewhere(tmp_path: Path):
    write(tmp_path / "labels.json", 2, [box(0, 1), box(1, 1)])
    Image.new("RGB", (60, 90)).save(tmp_path / "1.png")  # turned since it was annotated
    loaded = load(tmp_path)
    [problem] = loaded.problems
    assert "60 x 90 pixels whose annotations are for (90, 60)" in problem.found and problem.id == "1-1-where"
    assert [name for name, _, _ in asked(loaded, "where")] == ["0.png"]
    assert {name for name, _, _ in asked(loaded, "count")} == {"0.png", "1.png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "categories": []}, "no list 'annotations'"),
        ({"images": [], "annotations": {}, "categories": []}, "no list 'annotations'"),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "each needs an id of its own and a name"),
        ({"images": [], "annotations": [], "categories": CATEGORIES * 2}, "each needs an id of its own and a name"),
        (
            {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a b"}, {"id": 2, "name": "a_b"}]},
            "two categories are called 'a b'",
        ),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path: Path, content: dict, message: str):
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(tmp_path, format="coco")


def test_a_large_file_is_known_by_its_ends(tmp_path: Path):
    write(tmp_path / "labels.json", 1, [box(0, 1)], info={"description": "x" * 200_000})
    assert load(tmp_path).num_rows == 4
    rows = [{"image": "0.png", "question": 'what are "categories" and "images"?', "answer": "words"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    assert load(tmp_path, "rows.jsonl").samples[0].answer == "words"

"""The real VQA-RAD release: every count that its users quote, and its leakage."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.problems import Loaded, require_clean
from sightline.data.vqa_rad import hugging_face_order
from sightline.errors import MissingDataError


@pytest.fixture(scope="module")
def release(shared: Path) -> dict[str, Loaded]:
    return load_source("vqa_rad", root=shared / "data")


@pytest.fixture(scope="module")
def labels(shared: Path) -> dict[str, Loaded]:
    return load_source("vqa_rad/VQA_RAD_Dataset_Public.json", root=shared / "data", with_pictures=False)


def test_every_row_is_read_without_a_problem(release: dict[str, Loaded]):
    assert {split: (part.num_rows, len(part.samples)) for split, part in release.items()} == {
        "train": (1_797, 1_797),
        "test": (451, 451),
    }
    assert all(part.problems == () for part in release.values())
    assert len(require_clean(release["train"], on_bad_row="stop")) == 1_797


def test_phrases_say_which_split(release: dict[str, Loaded]):
    phrases = {split: Counter(s.tags["phrase_type"] for s in part.samples) for split, part in release.items()}
    assert phrases == {"train": {"freeform": 1_206, "para": 591}, "test": {"test_freeform": 308, "test_para": 143}}


def test_202_of_203_test_pictures_are_in_train(release: dict[str, Loaded]):
    pictures = {split: {s.pictures[0].name for s in part.samples} for split, part in release.items()}
    assert (len(pictures["train"]), len(pictures["test"])) == (313, 203)
    assert len(pictures["train"] & pictures["test"]) == 202
    # Nor are any two files the same picture: the hashes count as the names do.
    hashes = {split: {s.image_id for s in part.samples} for split, part in release.items()}
    assert (len(hashes["train"]), len(hashes["test"]), len(hashes["train"] & hashes["test"])) == (313, 203, 202)
    assert sum(s.image_id in hashes["train"] for s in release["test"].samples) == 446
    per_image = Counter(s.image_id for s in release["train"].samples)
    assert (min(per_image.values()), max(per_image.values())) == (1, 12)


def test_closed_is_272_by_type_and_251_by_answer(labels: dict[str, Loaded]):
    test = labels["test"].samples
    assert Counter(s.tags["answer_type"] for s in test) == {"CLOSED": 272, "OPEN": 179}
    assert Counter(s.answer.lower() for s in test if s.answer.lower() in ("yes", "no")) == {"yes": 118, "no": 133}
    closed = [s for s in test if s.tags["answer_type"] == "CLOSED"]
    assert sum(s.answer.lower() not in ("yes", "no") for s in closed) == 21
    every = [*labels["train"].samples, *test]
    assert Counter(s.tags["answer_type"] for s in every) == {"CLOSED": 1_299, "OPEN": 949}


def test_the_quirks_of_the_file_are_evened_out(shared: Path, labels: dict[str, Loaded]):
    raw = json.loads((shared / "data/vqa_rad/VQA_RAD_Dataset_Public.json").read_text(encoding="utf-8"))
    samples = {s.id: s for part in labels.values() for s in part.samples}
    assert samples.keys() == {str(row["qid"]) for row in raw} and len(samples) == 2_248
    assert {type(row["qid"]) for row in raw} == {int, str}
    numbers = {str(row["qid"]): str(row["answer"]) for row in raw if not isinstance(row["answer"], str)}
    assert len(numbers) == 5 and all(samples[qid].answer == answer for qid, answer in numbers.items())
    tabs = [str(row["qid"]) for row in raw if "\t" in row["question"]]
    assert len(tabs) == 6 and not any("\t" in samples[qid].question for qid in tabs)
    blanks = [row for row in raw if row["answer_type"] == "CLOSED "]
    assert [(str(row["qid"]), samples[str(row["qid"])].tags["answer_type"]) for row in blanks] == [
        ("2156", "CLOSED"),
        ("2157", "CLOSED"),
    ]


def test_the_order_of_the_hugging_face_copy(shared: Path, labels: dict[str, Loaded]):
    with (shared / "data/vqa_rad/hf_order_test.csv").open(encoding="utf-8", newline="") as file:
        copy = list(csv.DictReader(file))
    test = labels["test"].samples
    ordered = [test[place] for place in hugging_face_order(len(test))]
    assert [s.id for s in ordered] == [row["qid"] for row in copy]
    assert [s.pictures[0].name for s in ordered] == [row["image_name"] for row in copy]
    assert [s.tags["hf_index"] for s in ordered] == [row["hf_index"] for row in copy]
    # The copy also set blanks before question marks right.
    assert ["".join(s.question.lower().split()) for s in ordered] == ["".join(row["question"].split()) for row in copy]


def test_where_filters_by_tag(shared: Path):
    heads = load_source("vqa_rad", root=shared / "data", where={"organ": ["HEAD"]}, with_pictures=False)
    assert sum(part.num_rows for part in heads.values()) == 715


def test_without_its_pictures_it_says_where_they_are(shared: Path, tmp_path: Path):
    name = "VQA_RAD_Dataset_Public.json"
    shutil.copy(shared / "data/vqa_rad" / name, tmp_path / "VQA_RAD Dataset Public.json")
    with pytest.raises(MissingDataError, match=r"osf\.io/89kps"):
        load_source(".", root=tmp_path)

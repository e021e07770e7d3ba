"""The checks on the split find what training has seen of a test set, and say what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from lettered_rows import CLEAN, only, sample
from sightline.checking.findings import Finding
from sightline.checking.overlap import check_overlap, check_whole, disjoint_split, seen_items, trained_on
from sightline.records import Sample

NO_NEAR: Mapping[str, str] = {}


def overlap(
    train: Mapping[str, Sequence[Sample]], test: Sequence[Sample], near: Mapping[str, str] = NO_NEAR
) -> list[Finding]:
    return list(check_overlap("d.test", test, trained_on(train), near))


def test_sets_that_share_no_picture_do_not_overlap() -> None:
    assert overlap({"d.train": CLEAN}, [sample(1, "C", "left?", "yes", file="t.csv")]) == []


def test_a_test_question_seen_in_training_is_a_fault() -> None:
    test = [
        sample(1, "A", "LEFT? ", "no", file="t.csv"),
        sample(2, "C", "left?", "no", file="t.csv"),
        sample(3, "B", "left?", "no", file="t.csv"),
    ]
    findings = {f.name: f for f in overlap({"d.x": CLEAN[:2], "d.validation": CLEAN[2:]}, test)}
    fault = findings["same-row-in-train-and-test"]
    assert fault.severity == "fault" and "test: 2 of 3 test questions" in fault.message and "t.csv:1" in fault.message
    assert fault.evidence == {"rows": [["t.csv:1", "a.csv:1"], ["t.csv:3", "a.csv:3"]], "num_questions": 2}
    seen = findings["same-image-in-train-and-test"].evidence
    assert seen == {"num_pictures": 2, "num_questions": 2, "num_clean": 1}


def test_a_test_picture_seen_in_training_is_a_warning_even_within_a_set_of_pictures() -> None:
    test = [
        sample(1, "CB", "how many?", "2", file="t.csv"),
        sample(2, "B", "where?", "left", file="t.csv"),
        sample(3, "D", "left?", "yes", file="t.csv"),
    ]
    finding = only(iter(overlap({"d.train": CLEAN}, test)))
    assert (finding.name, finding.severity) == ("same-image-in-train-and-test", "warning")
    assert "test: 1 of 3 test pictures" in finding.message and "2 of 3 test questions" in finding.message
    assert "the other 1 questions (pictures: 1) are clean, too few" in finding.message


def test_the_split_that_would_be_clean_is_written_out() -> None:
    test = [sample(n, "A", f"{n}?", "no", file="t.csv") for n in range(20, 22)]
    finding = only(iter(overlap({"d.train": CLEAN * 3, "d.validation": CLEAN[:2]}, test)))
    assert finding.remedy == "split by image: data.d.split: {train: 0.75, validation: 0.12, test: 0.13, by: image}"
    assert "no question is left" in finding.message


@pytest.mark.parametrize("trained", [{"other.train": 10}, {"d.train": 10, "other.train": 10}, {"d.test": 10}])
def test_no_split_is_offered_that_one_data_set_cannot_give(trained: dict[str, int]) -> None:
    assert disjoint_split("d.test", 10, trained).startswith("give both sides to one data set")


def test_a_copy_of_a_trained_picture_is_a_warning_of_its_own() -> None:
    test = [sample(1, "C", "left?", "yes", file="t.csv"), sample(2, "A", "why?", "so", file="t.csv")]
    found = {finding.name: finding for finding in overlap({"d.train": CLEAN}, test, {"C" * 64: "B", "A" * 64: "B"})}
    near = found["near-duplicate-in-train-and-test"]
    assert near.severity == "warning" and near.evidence["pairs"] == [["C", "B"]] and near.evidence["num_questions"] == 1


def test_the_rows_that_are_not_clean_are_listed_with_how_they_were_seen() -> None:
    test = [sample(n, letter, "left?", "no", file="t.csv") for n, letter in enumerate("ACD")]
    test.append(sample(4, "A", "why?", "so", file="t.csv"))
    seen = seen_items(trained_on({"d.train": CLEAN}), test, {"C" * 64: "B"})
    assert seen == {"t.csv:0": "row", "t.csv:1": "near-duplicate", "t.csv:4": "image"}


def test_the_same_question_without_a_picture_overlaps() -> None:
    train, test = [sample(1, "", "what is air?", "gas")], [sample(2, "", "What is  air?", "gas", file="t.csv")]
    assert [finding.name for finding in overlap({"d.train": train}, test)] == ["same-row-in-train-and-test"]


def whole(**given) -> list[Finding]:
    plain = {"is_whole": True, "released": {"all": 9}, "num_trained": 0}
    return list(check_whole("d.test", 9, **(plain | given)))


def test_a_test_set_of_its_own_is_no_fault() -> None:
    assert whole() == []
    assert whole(is_whole=False, num_trained=9, released={"train": 5, "test": 9}) == []


def test_all_released_splits_asked_together_are_the_whole_data_set() -> None:
    [finding] = whole(released={"train": 7, "test": 2})
    assert (finding.name, finding.severity) == ("test-is-whole-dataset", "fault")
    assert "all 9 rows" in finding.message and "train 7, test 2" in finding.message
    assert finding.remedy.endswith("data.d.split: {train: train, test: test}")


def test_a_test_set_that_is_trained_on_whole_is_found() -> None:
    [finding] = whole(num_trained=9)
    assert "training or validation has asked 9 of them" in finding.message and "by: image" in finding.remedy

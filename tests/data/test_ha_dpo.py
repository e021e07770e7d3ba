"""HA-DPO's pairs: the same texts meet as in its own training, in the same number and order."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.ha_dpo import REQUESTS
from sightline.data.preferences import LoadedPairs, load_pairs
from sightline.errors import DataError, MissingDataError
from tiny_genome import write_genome

IDS = [2405722, 61, 107899, 498335, 7, 1592]

DESCRIPTIONS = {
    str(id): {
        "chosen": [f"True of {id}, version {n}." for n in range(1 + id % 3)],
        "rejected": [f"False of {id}, version {n}." for n in range(1 + id % 4)],
    }
    for id in IDS
}

PROBES: list[Mapping[str, object]] = [
    {"image_id": 61, "question": "Is there a dog?", "answer": "no", "chosen": "No.", "reject": "Yes.", "correct": 0},
    {"image_id": 61, "question": "Is there a cat?", "answer": "no", "chosen": "No.", "reject": "No!", "correct": True},
    {
        "image_id": "7",
        "question": "Is there a car?",
        "answer": "?",
        "chosen": "Yes.",
        "reject": "No.",
        "correct": False,
    },
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folders as HA-DPO's own instructions lay them out."""
    write_genome(tmp_path / "data" / "VG", IDS)
    release = tmp_path / "data" / "hadpo" / "llava-v1.5"
    release.mkdir(parents=True)
    (release / "desc_data.json").write_text(json.dumps(DESCRIPTIONS))
    (release / "pope_data.json").write_text(json.dumps(PROBES))
    return tmp_path


def load(root: Path, **options: object) -> dict[str, LoadedPairs]:
    return load_pairs("data/hadpo/llava-v1.5", root=root, **options)  # type: ignore[arg-type]


def test_descriptions_are_drawn_as_ha_dpo_draws_them(root: Path):
    """One generator seeded with 42: chosen, rejected, request, picture after picture in the order of the file."""
    random.seed(42)
    expected = []
    for id, sides in DESCRIPTIONS.items():
        chosen, rejected = random.choice(sides["chosen"]), random.choice(sides["rejected"])
        expected.append((id, chosen, rejected, REQUESTS[random.choice([0, 1, 2, 3])]))
    pairs = load(root)["description"].pairs
    found = [(p.tags["vg_image_id"], p.chosen, p.rejected, p.messages[0].text) for p in pairs]
    assert found == expected * 2, "each description pair is trained on twice, the whole list after itself"
    assert len({pair.id for pair in pairs}) == 2 * len(IDS)
    once = load(root, subset="once")["description"].pairs
    assert once == pairs[: len(IDS)]


def test_answers_that_were_right_are_left_out_and_reject_is_rejected(root: Path):
    loaded = load(root)
    assert list(loaded) == ["pope", "description"]
    assert [(p.id, p.messages[0].text, p.chosen, p.rejected) for p in loaded["pope"].pairs] == [
        ("pope-0", "Is there a dog?", "No.", "Yes."),
        ("pope-2", "Is there a car?", "Yes.", "No."),
    ]
    assert [p.tags for p in loaded["pope"].pairs] == [
        {"kind": "pope", "vg_image_id": "61"},
        {"kind": "pope", "vg_image_id": "7"},
    ]
    assert all(part.problems == () for part in loaded.values())
    assert loaded["pope"].pairs[0].origin == "data/hadpo/llava-v1.5/pope_data.json:0"


def test_pictures_come_from_both_folders_and_stand_before_the_question(root: Path):
    pairs = load(root)["description"].pairs
    assert [p.pictures[0].name for p in pairs[:2]] == ["VG_100K/2405722.jpg", "VG_100K_2/61.jpg"]
    assert {(p.pictures[0].width, p.pictures[0].height) for p in pairs} == {(40, 20)}
    assert all(p.messages[0].content[0] == 0 for p in pairs)


def test_genome_can_lie_elsewhere(root: Path):
    (root / "data" / "VG").rename(root / "genome")
    assert len(load(root, images="genome")["pope"].pairs) == 2
    with pytest.raises(MissingDataError, match=r"no image_data.json in .*Visual Genome: fetch images .*15.4 GB; CC-BY"):
        load(root)


def test_a_missing_file_says_what_to_fetch(root: Path):
    (root / "data/hadpo/llava-v1.5/pope_data.json").unlink()
    with pytest.raises(MissingDataError, match=r"no pope_data.json.*juliozhao/hadpo-data .*Apache-2.0"):
        load(root)


def test_faults_are_named_and_cost_no_other_row(root: Path):
    descriptions: dict[str, object] = {**DESCRIPTIONS, "99": {"chosen": ["a"], "rejected": ["b"]}, "61": {"chosen": []}}
    probes: list[Mapping[str, object]] = [
        {"image_id": 7, "question": "Is it?", "chosen": "No.", "reject": " No. ", "correct": False},
        {"image_id": 7, "question": "Is it?", "chosen": "No.", "correct": False},
        {"image_id": 7, "question": "Is it?", "reject": "No.", "correct": False},
        {"image_id": None, "question": "Is it?", "chosen": "Yes.", "reject": "No.", "correct": False},
        *PROBES,
    ]
    release = root / "data/hadpo/llava-v1.5"
    (release / "desc_data.json").write_text(json.dumps(descriptions))
    (release / "pope_data.json").write_text(json.dumps(probes))
    (root / "data/VG/VG_100K/7.jpg").unlink()
    loaded = load(root, subset="once")
    lines = [str(problem) for part in loaded.values() for problem in part.problems]
    for expected in (
        "pope_data.json:3 (id pope-3): image None is not in image_data.json",
        "desc_data.json:6 (id description-99): image '99' is not in image_data.json",
        "desc_data.json:1: image 61 has {'chosen': []}, not a list of chosen and one of rejected texts",
        "pope_data.json:2 (id pope-2): no 'chosen'",
        "no file 'VG_100K/7.jpg'",
    ):
        assert any(expected in line for line in lines), (expected, lines)
    assert [p.id for p in loaded["pope"].pairs] == ["pope-4"]
    assert {p.tags["vg_image_id"] for p in loaded["description"].pairs} == {str(id) for id in IDS} - {"61", "7"}


def test_it_is_no_data_for_answers_unless_the_study_says_which(root: Path):
    with pytest.raises(DataError, match=r"which column holds the answer\? It has .*chosen.*name it under `columns"):
        load_source("data/hadpo/llava-v1.5", root=root)
    chosen = load_source("data/hadpo/llava-v1.5", root=root, columns={"answer": "chosen"})["pope"].samples
    assert [s.answer for s in chosen] == ["No.", "Yes."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("desc_data.json", "[]", "a list, not an object of image ids"), ("desc_data.json", "{", "not JSON")],
)
def test_files_of_another_shape_are_refused(root: Path, name: str, content: str, message: str):
    (root / "data/hadpo/llava-v1.5" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load(root)
    with pytest.raises(DataError, match="no subset 'thrice'; there are twice, once"):
        load(root, subset="thrice")

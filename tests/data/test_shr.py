"""SHR's inputs: what is to be described, and what the judge is told is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.shr import known_of, reference_text
from sightline.data.visual_genome import each_entry
from sightline.errors import DataError, MissingDataError
from tiny_genome import write_genome


def region(x: int, y: int, width: int, height: int, phrase: str) -> dict[str, object]:
    return {"x": x, "y": y, "width": width, "height": height, "phrase": phrase}


REGIONS = {
    521: [region(0, 0, 40, 20, "a house"), region(13, 5, 9, 10, " green\ndoor "), region(1, 1, 1, 1, " ")],
    811: [region(10, 10, 30, 5, "boats: many, [docked]")],
    3: [region(0, 0, 1, 1, "never asked for")],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_genome(tmp_path / "VG", [521, 811, 3, 4], REGIONS)
    folder = tmp_path / "shr"
    folder.mkdir()
    (folder / "val_images_final.json").write_text(json.dumps([{"image_id": 811}, {"image_id": 521}]))
    (folder / "shr_factual_part1.jsonl").write_text(json.dumps({"521": ["There is one house.", "Its door is shut."]}))
    (folder / "shr_factual_part2.jsonl").write_text(json.dumps({"5": ["Of a picture not asked for."]}) + "\n")
    return tmp_path


def test_every_picture_is_to_be_described_and_carries_what_is_known(root: Path):
    loaded = load_source("shr", root=root)["all"]
    assert loaded.problems == () and loaded.num_rows == 2
    harbour, house = loaded.samples
    assert (harbour.id, house.id) == ("811", "521")
    assert {s.question for s in loaded.samples} == {"Describe this image in detail."}
    assert harbour.pictures[0].name == "VG_100K_2/811.jpg"
    # Corners over 40 x 20 pixels, two places: 13 / 40 = 0.325, 22 / 40 = 0.55.
    assert known_of(house.answer) == (
        ("[0.0, 0.0, 1.0, 1.0]: a house", "[0.33, 0.25, 0.55, 0.75]: green door"),
        ("There is one house.", "Its door is shut."),
    )
    assert known_of(harbour.answer) == (("[0.25, 0.5, 1.0, 0.75]: boats: many, [docked]",), ())


@pytest.mark.parametrize(
    ("regions", "facts"), [((), ()), (("[0, 0, 1, 1]: a",), ()), ((), ("b",)), (("[0]: a", "[1]: b"), ("c", "d"))]
)
def test_a_reference_is_taken_apart_as_it_was_written(regions: tuple[str, ...], facts: tuple[str, ...]):
    assert known_of(reference_text(regions, facts)) == (regions, facts)
    assert known_of(reference_text(regions, facts).strip()) == (regions, facts)


def test_what_is_missing_is_said(root: Path):
    (root / "shr" / "shr_factual_part2.jsonl").rename(root / "part2")
    with pytest.raises(MissingDataError, match=r"no shr_factual_part2\.jsonl.*juliozhao/SHR"):
        load_source("shr", root=root)
    (root / "part2").rename(root / "shr" / "shr_factual_part2.jsonl")
    (root / "VG" / "region_descriptions.json").unlink()
    with pytest.raises(MissingDataError, match=r"no region_descriptions\.json.*Visual Genome"):
        load_source("shr", root=root)
    with pytest.raises(MissingDataError, match=r"VG: no val_images_final\.json; this should be SHR: fetch val_images"):
        load_source("VG", root=root, format="shr")


def test_faults_are_named_and_cost_no_other_row(root: Path):
    asked = [{"image_id": 521}, {"image_id": 99}, {"picture": 1}, {"image_id": 811}]
    (root / "shr" / "val_images_final.json").write_text(json.dumps(asked))
    (root / "shr" / "shr_factual_part2.jsonl").write_text('{"811": "one text"}\n{broken\n')
    loaded = load_source("shr", root=root)["all"]
    assert [s.id for s in loaded.samples] == ["521", "811"]
    lines = [str(problem) for problem in loaded.problems]
    assert len(lines) == 4
    for expected in (
        "shr_factual_part2.jsonl, line 1: '811' has 'one text', not a list of sentences",
        "shr_factual_part2.jsonl, line 2: not JSON",
        "image 99 is not in image_data.json and not in region_descriptions.json",
        "image None is not in",
    ):
        assert any(expected in line for line in lines), (expected, lines)


def test_long_lists_are_read_entry_by_entry(tmp_path: Path):
    entries = [{"n": n, "text": "ü" * (n * 7919 % 400_000)} for n in range(30)]
    (tmp_path / "list.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
    assert list(each_entry(tmp_path / "list.json")) == entries
    for content, message in [
        ("[]", ""),
        ('[{"a": 1}, {"b": ', "damaged or cut"),
        ('[{"a": 1}', "damaged or cut"),
        ('[{"a": 1}, 2]', "an entry is 2, not an object"),
        ('{"a": 1}', "no JSON list"),
        ("", "no JSON list"),
    ]:
        (tmp_path / "list.json").write_text(content)
        if message:
            with pytest.raises(DataError, match=message):
                list(each_entry(tmp_path / "list.json"))
        else:
            assert list(each_entry(tmp_path / "list.json")) == []

"""Conversations keep who says what and where the pictures stand; each assistant turn is one sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.conversations import split_at_pictures
from sightline.data.formats import load_source
from sightline.data.problems import Loaded
from sightline.records import Message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate("abc"):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def load(folder: Path, *rows: object, **options: object) -> Loaded:
    (folder / "chats.json").write_text(json.dumps(rows))
    return load_source("chats.json", root=folder, **options)["all"]  # type: ignore[arg-type]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


def test_each_assistant_turn_is_a_sample_with_the_history_before_it(folder: Path):
    said = turns("<image>\nWhat is it?", "A chart.", "Of what?", "Rain.", "Where?", "Ulm.")
    loaded = load(folder, {"id": "q", "image": "a.png", "conversations": said})
    assert [sample.id for sample in loaded.samples] == ["q#1", "q#2", "q#3"]
    assert [sample.answer for sample in loaded.samples] == ["A chart.", "Rain.", "Ulm."]
    assert loaded.samples[2].messages == (
        Message(role="user", content=(0, "What is it?")),
        Message(role="assistant", content=("A chart.",)),
        Message(role="user", content=("Of what?",)),
        Message(role="assistant", content=("Rain.",)),
        Message(role="user", content=("Where?",)),
    )
    assert loaded.samples[0].messages == loaded.samples[2].messages[:1]
    assert loaded.samples[1].question == "Of what?"
    assert {sample.origin for sample in loaded.samples} == {"chats.json:0"}
    assert (loaded.num_rows, loaded.num_clean) == (1, 1)


def test_a_single_turn_keeps_the_id_of_its_row(folder: Path):
    loaded = load(folder, {"id": "q", "image": "a.png", "conversations": turns("<image>\nWhat?", "A chart.")})
    assert [sample.id for sample in loaded.samples] == ["q"]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<image>\nWhat?", (0, "What?")),
        ("What?\n<image>", ("What?", 0)),
        ("First <image> then <image>\nwhich?", ("First ", 0, " then ", 1, "which?")),
        ("<image><image>", (0, 1)),
        ("<image>\n<image>\nBoth?", (0, 1, "Both?")),
        ("No mark at all", (0, 1, "No mark at all")),
    ],
)
def test_pictures_stay_where_the_text_has_them(folder: Path, text: str, content: tuple[str | int, ...]):
    num_pictures = sum(isinstance(part, int) for part in content)
    image = ["a.png", "b.png"][:num_pictures]
    loaded = load(folder, {"image": image, "conversations": turns(text, "yes")})
    assert loaded.problems == ()
    assert loaded.samples[0].messages[0].content == content
    assert [picture.name for picture in loaded.samples[0].pictures] == image


def test_pictures_of_later_turns_follow_in_order(folder: Path):
    said = turns("<image>\nWhat?", "A.", "And <image>?", "B.")
    loaded = load(folder, {"image": ["b.png", "a.png"], "conversations": said})
    assert loaded.samples[1].messages[2].content == ("And ", 1, "?")
    assert [picture.name for picture in loaded.samples[1].pictures] == ["b.png", "a.png"]


def test_messages_of_parts_and_a_system_turn(folder: Path):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image"}]},
        {"role": "assistant", "content": "A chart."},
    ]
    loaded = load(folder, {"images": ["c.png"], "messages": messages})
    assert loaded.samples[0].messages == (
        Message(role="system", content=("Be brief.",)),
        Message(role="user", content=("What is this?", 0)),
    )


def test_a_row_without_picture_is_text_alone(folder: Path):
    loaded = load(folder, {"image": "a.png", "conversations": turns("a", "b")}, {"conversations": turns("a", "b")})
    assert [len(sample.pictures) for sample in loaded.samples] == [1, 0]
    assert loaded.samples[0].image_id != loaded.samples[1].image_id


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"image": "a.png", "conversations": turns("<image><image>\nWhat?", "A.")}, "image-count"),
        ({"image": ["a.png", "b.png"], "conversations": turns("<image>\nWhat?", "A.")}, "image-count"),
        ({"conversations": turns("<image>\nWhat?", "A.")}, "image-count"),
        ({"image": "a.png", "conversations": turns("What?", "<image>")}, "image-count"),
        ({"image": "a.png", "conversations": turns("What?")}, "bad-turns"),
        ({"image": "a.png", "conversations": turns("What?", "A.", "And?")}, "bad-turns"),
        ({"image": "a.png", "conversations": turns("What?", "A.")[::-1]}, "bad-turns"),
        ({"image": "a.png", "conversations": []}, "bad-turns"),
        ({"image": "a.png", "conversations": turns("What?", " ")}, "empty-answer"),
        ({"image": "a.png", "conversations": turns("", "A.")}, "empty-question"),
        ({"image": "a.png", "conversations": turns("What?", "A\0")}, "nul-byte"),
        ({"image": "a.png", "conversations": "What?"}, "wrong-type"),
        ({"image": "a.png", "conversations": ["What?", turns("", "A.")[1]]}, "wrong-type"),
        ({"image": "a.png", "conversations": [{"from": "somebody", "value": "What?"}]}, "wrong-type"),
        ({"image": "a.png", "conversations": [{"from": "human", "value": 1}, *turns("What?", "A.")[1:]]}, "wrong-type"),
        ({"image": "a.png"}, "missing-key"),
        ({"image": ["a.png", "none.png"], "conversations": turns("What?", "A.")}, "missing-image"),
    ],
)
def test_bad_rows_are_named_and_cost_no_other(folder: Path, row: dict[str, object], kind: str):
    good = {"id": "good", "image": "a.png", "conversations": turns("What?", "A.", "And?", "B.")}
    loaded = load(folder, {"id": "bad"} | row, good)
    assert [(p.row, p.id, p.kind) for p in loaded.problems] == [(0, "bad", kind)]
    assert [sample.id for sample in loaded.samples] == ["good#1", "good#2"]
    assert (loaded.num_rows, loaded.num_clean, loaded.num_left_out) == (2, 1, 1)


def test_every_picture_at_fault_is_named(folder: Path):
    loaded = load(folder, {"image": ["x.png", "a.png", "y.png"], "conversations": turns("What?", "A.")})
    assert [problem.image for problem in loaded.problems] == ["x.png", "y.png"]
    assert loaded.num_left_out == 1
    assert str(loaded.problems[0]).startswith("chats.json:0 (image x.png): no file 'x.png'")


def test_text_without_placeholder_is_one_part():
    assert split_at_pictures("  a <img> b \n") == ["a <img> b"]

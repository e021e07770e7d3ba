"""`sightline ask`: one model or two, one picture or several, and names that are none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sightline.generation import answering
from sightline.models.loading import base_location
from sightline.records import Message
from sightline.runner import ask
from sightline.study import load_study, resolved_yaml
from tiny_studies import sightline_command

QUESTION = "Is there a bar?"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What is put to a model: the pictures' names and the messages, ask by ask."""
    seen: list[tuple] = []
    stock = answering.render

    def watched(family, messages, pictures, *arguments, **settings):
        seen.append((tuple(picture.name for picture in pictures), messages))
        return stock(family, messages, pictures, *arguments, **settings)

    monkeypatch.setattr(answering, "render", watched)
    return seen


@pytest.fixture
def study(small_folder: Path, small_study: Path, tmp_path: Path) -> Path:
    """A finished study that also knows its own adapter as a published one, and another base."""
    directory = Path(shutil.copytree(small_study, tmp_path / "study"))
    base = shutil.copytree(base_location("builtin:tiny"), tmp_path / "base")
    loaded = load_study(directory / "study.yaml")
    models = {
        "published": {"adapter": str(directory / "models" / "sft")},
        "other": {"base": str(base)},
        "both": {"base": str(base), "adapter": str(directory / "models" / "sft")},
    }
    changed = type(loaded).model_validate(loaded.model_dump(mode="json") | {"models": models})
    (directory / "study.yaml").write_text(resolved_yaml(changed), encoding="utf-8")
    return directory


def answers(*arguments: object) -> dict[str, str]:
    ended = sightline_command("ask", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_pictures_are_seen_in_the_order_given(small_folder: Path, asked: list[tuple]) -> None:
    pictures = [small_folder / "images" / f"scan_{number:03d}.png" for number in (2, 0, 1)]
    given = [part for picture in pictures for part in ("--image", picture)]
    assert len(answers("builtin:tiny", "Which differs?", *given, "--max-new-tokens", 2)) == 1
    ((names, messages),) = asked
    assert names == ("scan_002.png", "scan_000.png", "scan_001.png")
    assert messages == (Message(role="user", content=(0, 1, 2, "Which differs?")),)


def test_published_models_answer_beside_their_base(study: Path, small_folder: Path) -> None:
    picture = ("--image", small_folder / "images" / "scan_000.png")
    tuned = answers(f"{study}:sft", QUESTION, *picture)
    published = answers(f"{study}:published", QUESTION, *picture)
    assert list(published) == ["base", "published"]
    assert published == {"base": tuned["base"], "published": tuned["sft"]}
    other = answers(f"{study}:other", QUESTION, *picture)
    assert other == {"other": tuned["base"]}
    base = str(study.parent / "base")
    assert answers(f"{study}:both", QUESTION, *picture) == {base: tuned["base"], "both": tuned["sft"]}


def test_a_question_is_put_as_it_was_trained(study: Path, small_folder: Path, asked: list[tuple]) -> None:
    text = (study / "study.yaml").read_text(encoding="utf-8")
    text = text.replace("system: null", "system: Be brief.").replace(
        "question_suffix: ''", "question_suffix: ' Short.'"
    )
    (study / "study.yaml").write_text(text, encoding="utf-8")
    answers(f"{study}:sft", QUESTION, "--image", small_folder / "images" / "scan_000.png")
    assert len(asked) == 2
    for _, messages in asked:
        assert [message.text for message in messages] == ["Be brief.", f"{QUESTION} Short."]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("studies/nope:tuned", "write DIR:MODEL; studies/nope is no study's directory, there is no study.yaml"),
        ("builtin:tinny", "base 'builtin:tinny' is not built in; did you mean builtin:tiny?"),
        ("{study}:dpo", "has no model 'dpo'; it has base, published, other, both, sft"),
        ("{study}", "where MODEL is base, published, other, both, sft"),
    ],
)
def test_names_that_are_none(
    study: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, said: str
) -> None:
    if "tinny" not in model:
        monkeypatch.setattr(ask, "load_model", lambda *_: pytest.fail("took it for a base"))
    picture = small_folder / "images" / "scan_000.png"
    ended = sightline_command("ask", model.replace("{study}", str(study)), QUESTION, "--image", picture)
    assert ended.code == 2 and said in ended.err


def test_every_picture_must_be_there(small_folder: Path) -> None:
    there = small_folder / "images" / "scan_000.png"
    ended = sightline_command("ask", "builtin:tiny", "Why?", "--image", "nowhere.png", "--image", there)
    assert ended.code == 2 and "--image nowhere.png: there is no such file" in ended.err

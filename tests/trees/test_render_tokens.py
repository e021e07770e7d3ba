"""A row tokenised by hand is the row that rendering makes of its texts."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

from sightline.errors import UnsupportedModelError
from sightline.models.family import Family
from sightline.models.loading import load_family
from sightline.records import Message, Picture, Tokens
from sightline.trees.render import image_places, render, render_tokens

QUESTION, ANSWER = "Is there a nodule in the left lung?", "yes"
PICTURES = (
    Picture(name="a", sha256="a" * 64, width=64, height=64),
    Picture(name="b", sha256="b" * 64, width=9, height=9),
)


@pytest.fixture(scope="module")
def family() -> Family:
    return load_family("builtin:tiny")


def by_hand(family: Family, num_pictures: int, features: int) -> Tokens:
    """Tokenise as a training script does, image tokens written out `features` times."""
    images = ("<image>" * features + "\n") * num_pictures
    prompt = family.chat.tokenizer(f"USER: {images}{QUESTION} ASSISTANT:").input_ids
    ids = family.chat.tokenizer(f"USER: {images}{QUESTION} ASSISTANT: {ANSWER}</s>").input_ids
    return Tokens(input_ids=array("i", ids), labels=array("i", [-100] * len(prompt) + ids[len(prompt) :]))


@pytest.mark.parametrize("features", [1, 64])
@pytest.mark.parametrize("num_pictures", [0, 1, 2])
def test_rows_tokenised_by_hand_are_those_rendered(family: Family, num_pictures: int, features: int) -> None:
    pictures = PICTURES[:num_pictures]
    asked = (Message(role="user", content=(*range(num_pictures), QUESTION)),)
    rendered = render(family, asked, pictures, ANSWER)
    given = render_tokens(family, by_hand(family, num_pictures, features), pictures)
    for name in ("token_ids_L", "positions_AL", "picture_L", "offset_L", "weight_L"):
        np.testing.assert_array_equal(getattr(given, name), getattr(rendered, name), err_msg=name)
    assert (given.num_prompt, given.pictures) == (rendered.num_prompt, rendered.pictures)


def test_where_a_label_is_not_the_id_the_id_is_learnt(family: Family) -> None:
    tokens = Tokens(input_ids=array("i", [1, 20, 21, 22]), labels=array("i", [9, -100, 9, 9]))
    given = render_tokens(family, tokens, ())
    assert given.token_ids_L.tolist() == [1, 20, 21, 22]
    assert given.weight_L.tolist() == [0, 0, 1, 1]  # nothing can predict the first token
    assert given.num_prompt == 2 and tokens.misplaced == [0, 2, 3]


def test_a_labelled_image_token_is_learnt_at_every_place(family: Family) -> None:
    tokens = Tokens(input_ids=array("i", [1, 3, 20]), labels=array("i", [-100, 3, 20]))
    assert render_tokens(family, tokens, PICTURES[:1]).weight_L.tolist() == [0] + [1] * 65


@pytest.mark.parametrize(("places", "fits"), [(1, True), (64, True), (63, False), (2, False), (0, False)])
def test_image_tokens_stand_once_for_a_picture_or_for_each_feature(family: Family, places: int, fits: bool) -> None:
    ids = [1, *[3] * places, 20]
    tokens = Tokens(input_ids=array("i", ids), labels=array("i", [-100] * (len(ids) - 1) + [20]))
    found, features = image_places(family, tokens, PICTURES[:1])
    assert (found, features) == (places, 64) and (found in (1, features)) == fits
    if not fits:
        with pytest.raises(UnsupportedModelError):
            render_tokens(family, tokens, PICTURES[:1])

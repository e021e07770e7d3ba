"""Pictures in place of a sample's own: of equal size and one colour, or another image's, and never its own."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data.phantom import phantom_samples
from sightline.data.pictures import open_picture
from sightline.data.stand_ins import with_blank_pictures, with_other_pictures
from sightline.records import Message, Picture, Sample


def sample(name: str, *shown: str) -> Sample:
    pictures = tuple(Picture(name=f"{one}.png", sha256=one, width=4, height=4) for one in shown)
    return Sample(id=name, pictures=pictures, messages=(Message(role="user", content=("Q",)),), answer="yes")


def shown(samples: tuple[Sample, ...]) -> dict[str, str]:
    return {each.id: "".join(picture.sha256 for picture in each.pictures) for each in samples}


def test_a_blank_picture_has_its_size_and_one_colour():
    asked = phantom_samples(2, seed=1)
    blank = with_blank_pictures(asked, (10, 20, 30))
    assert [each.id for each in blank] == [each.id for each in asked]
    for one, other in zip(asked, blank, strict=True):
        assert [(p.width, p.height) for p in one.pictures] == [(p.width, p.height) for p in other.pictures]
        assert (np.asarray(open_picture(other.pictures[0])) == (10, 20, 30)).all()
        assert other.messages == one.messages and other.answer == one.answer


def test_all_rows_of_an_image_get_one_others_and_no_image_its_own():
    asked = phantom_samples(12, seed=1, subset="single")
    given = {}
    for one, other in zip(asked, with_other_pictures(asked), strict=True):
        assert one.id == other.id
        assert given.setdefault(one.image_id, other.image_id) == other.image_id != one.image_id
    assert sorted(given) == sorted(given.values())  # each image is given once


def test_an_image_is_given_the_one_half_round_and_the_same_every_time():
    asked = [sample(str(number), chr(ord("a") + number)) for number in range(6)]
    assert shown(with_other_pictures(asked)) == {"0": "d", "1": "e", "2": "f", "3": "a", "4": "b", "5": "c"}


def test_images_of_equally_many_pictures_change_places():
    asked = [sample("1", "a"), sample("2", "b", "c"), sample("3", "d"), sample("4", "e", "f")]
    assert shown(with_other_pictures(asked)) == {"1": "d", "2": "ef", "3": "a", "4": "bc"}


@pytest.mark.parametrize("alone", [(), ("b", "c")])
def test_a_row_without_another_image_is_left_out(alone: tuple[str, ...]):
    asked = [sample("1", "a"), sample("2", *alone), sample("3", "d")]
    assert shown(with_other_pictures(asked)) == {"1": "d", "3": "a"}
    assert len(with_blank_pictures(asked[1:2], (0, 0, 0)) if not alone else ()) == 0


def test_no_row_is_given_a_picture_of_its_own_in_another_place():
    # Half round, ab would be given ba; one further, all are disjoint.
    asked = [sample("1", "a", "b"), sample("2", "c", "d"), sample("3", "b", "a"), sample("4", "d", "c")]
    assert shown(with_other_pictures(asked)) == {"1": "cd", "2": "ba", "3": "dc", "4": "ab"}


def test_what_meets_its_own_picture_whatever_is_done_is_left_out():
    assert with_other_pictures([sample("1", "a", "b"), sample("2", "a", "c"), sample("3", "a", "d")]) == ()

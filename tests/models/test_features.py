"""Pictures keep their bits whatever is beside them, are prepared ahead in order, and are kept within limits."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest
import torch

from sightline.data.pictures import PictureError, open_picture
from sightline.models import features
from sightline.models.features import PictureFeatures
from sightline.models.loading import LoadedModel
from sightline.records import Picture
from tiny_families import random_model
from tiny_llava import picture, random_llava


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return random_llava(dtype=torch.float32)


def of(model: LoadedModel, pictures: list[Picture], **more: int) -> tuple[PictureFeatures, list[str]]:
    """Features that know some pictures, and the pictures' keys."""
    made = PictureFeatures(model.module, model.family, model.device, **more)
    made.register(pictures)
    return made, [model.family.picture_key(shown) for shown in pictures]


def seen(model: LoadedModel, numbers: list[int], together: int) -> dict[int, torch.Tensor]:
    made, keys = of(model, [picture(number) for number in numbers], together=together)
    views = made.of(keys)
    return {number: views[key].features_ND for number, key in zip(numbers, keys, strict=True)}


def test_a_picture_has_the_same_bits_alone_among_others_and_at_another_place(model: LoadedModel) -> None:
    alone = {number: seen(model, [number], 4)[number] for number in range(6)}
    for numbers in ([0, 1, 2, 3], [3, 2, 1, 0], [5, 4, 0], [2, 0, 1, 5, 3, 4]):
        for number, found in seen(model, numbers, 4).items():
            assert torch.equal(found, alone[number])
    assert not torch.equal(alone[0], alone[1])


def test_together_they_show_what_the_stock_model_sees_of_each(model: LoadedModel) -> None:
    for number, found in seen(model, [0, 1, 2, 3, 4], 3).items():
        pixels = model.family.image_processor(images=[open_picture(picture(number))], return_tensors="pt")
        exact = model.inner.model.get_image_features(**pixels).pooler_output[0]  # pyright: ignore
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


def test_the_tower_always_gets_the_same_number_of_pictures(model: LoadedModel, monkeypatch) -> None:
    given: list[tuple[int, ...]] = []
    views = model.family.picture_views  # pyright: ignore

    def noting(module, inputs):
        given.append(tuple(inputs["pixel_values"].shape))
        return views(module, inputs)

    monkeypatch.setattr(model.family, "picture_views", noting)
    seen(model, list(range(6)), 4)
    seen(model, [0], 4)
    assert given == [(4, 3, 24, 24)] * 3


def test_a_pass_is_filled_up_with_pictures_that_are_prepared_for_later(model: LoadedModel, monkeypatch) -> None:
    made, keys = of(model, [picture(number) for number in range(6)], together=4)
    made.of(keys[:1])  # so that it is known what a picture takes
    passes: list[int] = []
    views = model.family.picture_views  # pyright: ignore
    with made.expecting(keys), monkeypatch.context() as patch:
        for coming in made._ahead.values():
            coming.result()
        patch.setattr(model.family, "picture_views", lambda *given: passes.append(1) or views(*given))
        filled = made.of(keys[1:3])
        later = made.of(keys)
    assert len(passes) == 2 and list(filled) == keys[1:5]
    for key, number in zip(keys, range(6), strict=True):
        assert torch.equal(later[key].features_ND, seen(model, [number], 4)[number])


def test_a_pass_is_filled_up_only_with_what_can_be_kept_and_is_not_yet(model: LoadedModel, opened) -> None:
    made, keys = of(model, [picture(number) for number in range(6)], together=4)
    size = made.of(keys[:1])[keys[0]].nbytes
    made.max_bytes = 4 * size
    with made.expecting(keys):
        for coming in made._ahead.values():
            coming.result()
        assert list(made.of(keys[1:3])) == keys[1:3]
        made.max_bytes = 100 * size
        made.expect([*keys, keys[0]])
        assert not made._coming and made._fillers(keys[3:4]) == keys[4:6]
    assert len(opened) == len(keys)


@pytest.mark.parametrize("together", [1, 2])
def test_what_is_seen_ahead_is_there_when_asked_for_though_nothing_may_be_kept(
    model: LoadedModel, opened, together: int
) -> None:
    made, keys = of(model, [picture(number) for number in range(3)], together=together, max_bytes=0)
    made.see(keys[:2])
    first = made.of(keys[:1])
    assert sorted(name for name, _ in opened) == ["noise-0", "noise-1"][:together]
    assert made.of(keys[:1])[keys[0]] is first[keys[0]]
    made.see(keys[2:])
    assert made.of(keys[:1])[keys[0]] is not first[keys[0]]
    with made.expecting(()):
        made.see(keys[:1])
    assert not made._soon or keys[0] not in made._soon  # nothing of a loop stays when it has ended


def test_what_is_kept_holds_no_other_pictures_memory(model: LoadedModel) -> None:
    for found in seen(model, [0, 1], 4).values():
        assert found.untyped_storage().nbytes() == found.nbytes


def test_pictures_pass_one_by_one_while_the_tower_is_trained_and_where_sizes_differ(model, monkeypatch) -> None:
    made, keys = of(model, [picture(0), picture(1)], together=4)
    monkeypatch.setattr(model.family, "picture_views", None)
    weight = model.inner.model.multi_modal_projector.linear_1.weight
    weight.requires_grad_()
    try:
        views = made.of(keys)
    finally:
        weight.requires_grad_(False)
    assert all(view.features_ND.requires_grad for view in views.values())
    assert torch.equal(views[keys[1]].features_ND, seen(model, [1], 1)[1])
    assert not isinstance(random_model("qwen3_vl").family, features.OneShape)
    assert of(model, [])[0].together == 1  # on the CPU


def test_no_more_is_kept_than_may_be(model: LoadedModel) -> None:
    made, keys = of(model, [picture(0), picture(1), picture(2)])
    size = made.of(keys[:1])[keys[0]].nbytes
    made, keys = of(model, [picture(0), picture(1), picture(2)], max_bytes=2 * size)
    first, second = made.of(keys), made.of(keys)
    assert [first[key] is second[key] for key in keys] == [True, True, False]
    assert all(torch.equal(first[key].features_ND, second[key].features_ND) for key in keys)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The pictures that were opened, and whether another thread did."""
    names: list[tuple[str, bool]] = []

    def noting(shown: Picture):
        names.append((shown.name, threading.current_thread() is not threading.main_thread()))
        return open_picture(shown)

    monkeypatch.setattr(features, "open_picture", noting)
    return names


def wait(until: Callable[[], bool]) -> None:
    """Give other threads time, but not for ever."""
    end = time.monotonic() + 20
    while not until() and time.monotonic() < end:
        time.sleep(0.01)


def test_pictures_are_prepared_ahead_but_not_all_at_once(model: LoadedModel, opened, monkeypatch) -> None:
    monkeypatch.setattr(features, "AHEAD", 3)
    made, keys = of(model, [picture(number) for number in range(8)])
    alone = {key: made.of([key])[key].features_ND for key in keys}
    made.forget()
    opened.clear()
    with made.expecting(keys):
        wait(lambda: len(opened) >= 3)
        time.sleep(0.05)
        assert sorted(opened) == [(f"noise-{number}", True) for number in range(3)]
        for key in keys:
            assert torch.equal(made.of([key])[key].features_ND, alone[key])
    assert sorted(opened) == [(f"noise-{number}", True) for number in range(8)]
    made.forget()
    made.of(keys[:1])  # nothing is expected any more
    assert opened[8:] == [("noise-0", False)]


def test_what_is_asked_in_between_leaves_what_is_expected(model: LoadedModel, opened) -> None:
    """A loop whose body answers questions of its own goes on preparing its pictures ahead."""
    made, keys = of(model, [picture(number) for number in range(4)])
    with made.expecting(keys[:1]):
        made.of(keys[:1])
        with made.expecting(keys[1:2]):
            made.of(keys[1:2])
        made.expect(keys)  # two of them are known by now
        made.of(keys[2:])
    assert sorted(opened) == [(f"noise-{number}", True) for number in range(4)]


def test_what_is_kept_is_not_opened_again_and_what_was_not_expected_is_opened_at_once(model, opened) -> None:
    made, keys = of(model, [picture(number) for number in range(4)])
    made.of(keys[:1])
    with made.expecting([keys[0], keys[2], keys[2]]):
        made.of([keys[3], keys[0], keys[2]])
    assert sorted(opened) == [("noise-0", False), ("noise-2", True), ("noise-3", False)]


def test_a_picture_that_cannot_be_opened_is_named_when_it_is_asked_for(model: LoadedModel) -> None:
    other = dataclasses.replace(picture(1), name="b.png", sha256="0" * 64, content=b"GIF89a")
    broken = dataclasses.replace(picture(2), name="c.png", sha256="1" * 64, content=b"\x89PNG but no more")
    made, keys = of(model, [picture(0), other, broken, picture(3)])
    for expected in (keys, []):
        with made.expecting(expected):
            made.of(keys[:1])
            with pytest.raises(PictureError, match=r"picture b\.png: a damaged GIF"):
                made.of(keys[1:2])
            with pytest.raises(PictureError, match=r"picture c\.png: a damaged PNG"):
                made.of(keys[2:3])
            made.of(keys[3:])


def test_any_other_fault_bears_the_pictures_name_too(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(image):
        raise RuntimeError("no such filter")

    monkeypatch.setattr(model.family, "picture_inputs", failing)
    made, keys = of(model, [picture(0)])
    with pytest.raises(RuntimeError, match="no such filter") as raised, made.expecting(keys):
        made.of(keys)
    assert raised.value.__notes__ == ["picture noise-0"]

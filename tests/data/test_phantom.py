"""Phantom's answers are checked against the pixels: masks are measured again, and facts are never asked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from sightline.data.phantom import (
    SUBSETS,
    load_phantom,
    phantom_descriptions,
    phantom_pairs,
    phantom_probes,
    phantom_samples,
)
from sightline.data.phantom_drawing import (
    BASE,
    COLOURS,
    LEVEL_PIXELS,
    SIZE,
    ChartFacts,
    ChestFacts,
    Facts,
    PhantomImage,
    Scanner,
    draw_facts,
    draw_phantom,
    generator,
)
from sightline.data.phantom_language import ALL_KINDS, ask
from sightline.data.phantom_statements import statements
from sightline.data.pictures import open_picture
from sightline.errors import DataError
from sightline.records import Sample

NUM_IMAGES = 120


@cache
def samples(subset: str) -> tuple[Sample, ...]:
    return phantom_samples(NUM_IMAGES, seed=3, subset=subset)


@cache
def image(index: int, subset: str) -> PhantomImage:
    return draw_phantom(index, seed=3, kind="chest" if subset == "chest" else "chart")


def pixels(drawn: PhantomImage) -> np.ndarray:
    return np.asarray(open_picture(drawn.picture)).astype(int)


# ---------------------------------------------------------------- what the pixels say


def union(drawn: PhantomImage, part: str) -> np.ndarray:
    found = [mask for name, mask in drawn.masks.items() if name.partition(".")[0] == part]
    return np.any([np.zeros((SIZE, SIZE), bool), *found], axis=0)


def side(mask: np.ndarray) -> str:
    return "left" if np.argwhere(mask)[:, 1].mean() < (SIZE - 1) / 2 else "right"


def level(mask: np.ndarray) -> str:
    return "upper" if np.argwhere(mask)[:, 0].mean() < (SIZE - 1) / 2 else "lower"


def nodules(drawn: PhantomImage) -> list[np.ndarray]:
    spots = np.zeros((SIZE, SIZE), int)
    ndimage.label(union(drawn, "nodule"), structure=np.ones((3, 3)), output=spots)
    return [spots == spot for spot in range(1, spots.max() + 1)]


def devices(drawn: PhantomImage) -> list[str]:
    return [name for name in drawn.masks if name in ("tube", "pacemaker", "catheter")]


def heart_size(drawn: PhantomImage) -> str:
    left, _, right, _ = drawn.boxes["heart"]
    return "enlarged" if right - left > 20 else "normal"


def marks(drawn: PhantomImage) -> dict[str, np.ndarray]:
    """Colour to mask of the bars or lines, from left to right, the colour read from the picture."""
    shown = pixels(drawn)
    found = {}
    for name, mask in sorted(drawn.masks.items()):
        if name != "threshold":
            seen = shown[mask].mean(0)
            found[min(COLOURS, key=lambda colour: np.abs(seen - COLOURS[colour]).sum())] = mask
    return found


def height(mask: np.ndarray) -> int:
    return round((BASE - np.argwhere(mask)[:, 0].min()) / LEVEL_PIXELS)


def rises(mask: np.ndarray) -> bool:
    places = np.argwhere(mask)
    middle = np.median(places[:, 1])
    return places[places[:, 1] > middle, 0].mean() < places[places[:, 1] < middle, 0].mean()


def has_bars(drawn: PhantomImage) -> bool:
    return "bar.0" in drawn.masks


def colours_in(question: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", question) if word in COLOURS]


def word_in(question: str, *words: str) -> str:
    return next(word for word in words if word in question.lower().replace("?", "").split())


def yes(truth: object) -> str:
    return "yes" if truth else "no"


def measured_chest(kind: str, question: str, drawn: PhantomImage) -> str:
    spots = nodules(drawn)
    match kind:
        case "nodule_present":
            return yes(spots)
        case "nodule_count":
            return str(len(spots))
        case "nodule_side":
            return yes(word_in(question, "left", "right") in map(side, spots))
        case "nodule_place":
            asked = (word_in(question, "upper", "lower"), word_in(question, "left", "right"))
            return yes(asked in [(level(spot), side(spot)) for spot in spots])
        case "nodule_size":
            large = word_in(question, "small", "large") == "large"
            return yes(any((spot.sum() > 30) == large for spot in spots))
        case "nodule_lung":
            return Counter(map(side, spots)).most_common(1)[0][0]
        case "nodule_where":
            return f"{level(spots[0])} {side(spots[0])} lung"
        case "heart_size":
            return yes(heart_size(drawn) == word_in(question, "normal", "enlarged"))
        case "heart_side":
            return yes(side(drawn.masks["heart"]) == word_in(question, "left", "right"))
        case "heart_where":
            return side(drawn.masks["heart"])
        case "device_present":
            return yes(word_in(question, "tube", "pacemaker", "catheter") in drawn.masks)
        case "device_side":
            device = word_in(question, "pacemaker", "catheter")
            return yes(side(drawn.masks[device]) == word_in(question, "left", "right"))
        case "device_name":
            return devices(drawn)[0]
        case "device_count":
            return str(len(devices(drawn)))
        case "effusion_present":
            return yes("effusion" in drawn.masks)
        case "effusion_side":
            mask = drawn.masks.get("effusion")
            return yes(mask is not None and side(mask) == word_in(question, "left", "right"))
        case "effusion_where":
            return f"{side(drawn.masks['effusion'])} lung"
    raise AssertionError(f"no measurement for {kind}")


def measured_chart(kind: str, question: str, drawn: PhantomImage) -> str:
    found, asked = marks(drawn), colours_in(question)
    heights = {colour: height(mask) for colour, mask in found.items()}
    match kind:
        case "chart_type":
            return yes(has_bars(drawn) == (word_in(question, "bar", "line") == "bar"))
        case "mark_present":
            return yes(asked[0] in found and has_bars(drawn) == ("bar" in question))
        case "mark_count":
            return str(len(found))
        case "bar_taller":
            one, other = (heights[colour] for colour in asked)
            return yes(one > other if "taller" in question else one < other)
        case "bar_order":
            one, other = (np.argwhere(found[colour])[:, 1].mean() for colour in asked)
            return yes(one < other)
        case "bar_threshold":
            return yes(found[asked[0]].any(1).argmax() < drawn.masks["threshold"].any(1).argmax())
        case "threshold_present":
            return yes("threshold" in drawn.masks)
        case "bar_extreme":
            return (max if "tallest" in question else min)(heights, key=lambda colour: heights[colour])
        case "line_trend":
            return yes(rises(found[asked[0]]) == ("rise" in question))
        case "line_direction":
            return "up" if rises(found[asked[0]]) else "down"
    raise AssertionError(f"no measurement for {kind}")


@pytest.mark.parametrize(("subset", "measured"), [("chest", measured_chest), ("chart", measured_chart)])
def test_every_answer_agrees_with_the_pixels(subset, measured):
    met = set()
    for sample in samples(subset):
        drawn = image(int(sample.origin.rpartition(":")[2]), subset)
        assert drawn.picture.sha256 == sample.pictures[0].sha256
        kind = sample.tags["kind"]
        met.add(kind)
        assert sample.answer == measured(kind, sample.question, drawn), f"{sample.id}: {sample.question}"
    assert len(met) == {"chest": 17, "chart": 10}[subset]


def size(facts: Facts) -> int:
    return len(facts.nodules) if isinstance(facts, ChestFacts) else len(facts.bars) + len(facts.lines)


def of_both(kind: str, question: str, first: Facts, second: Facts) -> str:
    # A question names the picture it asks about first; "both" and "the two" name neither.
    one, other = (second, first) if re.search("second.*(first|than|other)", question) else (first, second)
    if kind in ("multi_sum", "multi_which", "multi_more"):
        richer = "first" if size(first) > size(second) else "second"
        together = str(size(first) + size(second))
        return {"multi_sum": together, "multi_which": richer}.get(kind, yes(size(one) > size(other)))
    if isinstance(one, ChartFacts) or isinstance(other, ChartFacts):
        assert kind == "multi_type" and isinstance(one, ChartFacts) and isinstance(other, ChartFacts)
        return yes(bool(one.bars) == bool(other.bars))
    if kind == "multi_heart":
        return yes((one.heart_size, other.heart_size) == ("enlarged", "normal"))
    if kind == "multi_same_side":
        return yes(one.heart_side == other.heart_side)
    device = word_in(question, "tube", "pacemaker", "catheter")
    return yes(device in one.devices and device in other.devices)


def test_every_answer_about_two_pictures_agrees_with_the_facts_of_both():
    met = set()
    for index in range(NUM_IMAGES):
        rng = generator(5, "test", index)
        first = draw_facts(rng)
        second = draw_facts(rng, kind="chest" if isinstance(first, ChestFacts) else "chart")
        for kind, question, answer in ask((first, second), 12, rng):
            met.add(kind.name)
            assert answer == of_both(kind.name, question, first, second), question
    assert len(met) == 7


# ---------------------------------------------------------------- pictures


def test_a_picture_depends_on_its_seed_and_number_alone():
    many = {sample.id: sample for sample in phantom_samples(6, seed=1)}
    few = phantom_samples(2, seed=1, first_index=3)
    assert few and all(many[sample.id] == sample for sample in few)
    assert draw_phantom(4, seed=1).picture.sha256 != draw_phantom(4, seed=2).picture.sha256
    assert draw_phantom(4, seed=1).picture.sha256 != draw_phantom(5, seed=1).picture.sha256


def test_the_pixels_are_the_same_everywhere():
    """If this fails after an update of numpy, every study on phantom data has changed with it: say so in its notes."""
    assert [draw_phantom(0, seed=0, kind=kind).picture.sha256[:12] for kind in ("chest", "chart")] == [
        "9d36e38db525",
        "16c15e5f4ada",
    ]


@pytest.mark.parametrize("kind", ["chest", "chart"])
def test_masks_do_not_overlap_and_boxes_fit_them(kind):
    for index in range(60):
        drawn = draw_phantom(index, seed=2, kind=kind)
        solid = {name: mask for name, mask in drawn.masks.items() if not name.startswith("lung")}
        assert np.sum(list(solid.values()), axis=0).max() == 1
        for name, mask in drawn.masks.items():
            left, top, right, bottom = drawn.boxes[name]
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert all(edge.any() for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]))


def test_a_nodule_can_be_seen_in_the_pixels_of_either_scanner():
    scanners: dict[Scanner, int] = {"A": 1, "B": -1}
    for scanner, sign in scanners.items():
        for index in range(40):
            drawn = draw_phantom(index, seed=4, kind="chest", scanner=scanner)
            shown = pixels(drawn).mean(-1)
            for spot in nodules(drawn):
                rim = ndimage.binary_dilation(spot, iterations=2) & ~spot
                assert sign * (shown[spot].mean() - shown[rim].mean()) > 60


# ---------------------------------------------------------------- questions


def test_no_question_is_asked_twice_of_a_picture_and_no_id_comes_twice():
    rows = samples("all")
    assert len({(row.image_id, row.question) for row in rows}) == len(rows)
    assert len({row.id for row in rows}) == len(rows)


def test_yes_and_no_are_even_in_every_kind():
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for index in range(1200):
        rng = generator(11, "test", index)
        first = draw_facts(rng)
        pair = (first, draw_facts(rng, kind="chest" if isinstance(first, ChestFacts) else "chart"))
        for kind, _, answer in ask((first,), 6, rng) + ask(pair, 6, rng):
            answers[kind.name][answer] += 1
    closed = {name: count for name, count in answers.items() if set(count) == {"yes", "no"}}
    assert set(closed) == {k.name for k in ALL_KINDS.values() if k.closed} - {"nodule_lung", "multi_which"}
    uneven = {name: dict(count) for name, count in closed.items() if not 0.4 <= count["yes"] / count.total() <= 0.6}
    assert not uneven


def test_an_image_has_six_questions_on_average_and_one_to_twelve():
    counts = Counter(sample.image_id for sample in phantom_samples(300, seed=8))
    assert len(counts) == 300
    assert (min(counts.values()), max(counts.values())) == (1, 12)
    assert 5.5 < np.mean(list(counts.values())) < 6.5
    assert {len(group) for group in split_by_image(phantom_samples(9, questions_per_image=4)).values()} == {4}


def split_by_image(rows: tuple[Sample, ...]) -> dict[str, list[Sample]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row.image_id].append(row)
    return grouped


def test_two_pictures_stand_in_a_prompt_in_order():
    for sample in samples("multi"):
        assert len({picture.sha256 for picture in sample.pictures}) == 2
        assert sample.messages[0].content[:2] == (0, 1)
        assert sample.messages[0].content[2] == sample.question


def test_splits_share_no_picture():
    splits = load_phantom(subset=None, num_images=60, seed=5)
    pictures = {name: {p.sha256 for row in rows for p in row.pictures} for name, rows in splits.items()}
    assert list(splits) == ["train", "validation", "test"]
    assert [len({row.image_id for row in rows}) for rows in splits.values()] == [42, 6, 12]
    assert not pictures["train"] & pictures["test"]
    assert not pictures["train"] & pictures["validation"]
    assert not pictures["validation"] & pictures["test"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: phantom_samples(1, subset="ches"),
        lambda: phantom_pairs(1, subset="multi"),
        lambda: phantom_descriptions(1, subset="all"),
        lambda: phantom_probes(1, category="rare"),  # pyright: ignore[reportArgumentType]
        lambda: load_phantom(num_images=2),
    ],
)
def test_what_does_not_exist_is_refused(call):
    with pytest.raises(DataError, match="builtin:phantom"):
        call()


def test_an_unknown_subset_is_told_those_that_there_are_and_the_docs_list_them():
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    with pytest.raises(DataError, match=f"there are {', '.join(SUBSETS)} ") as of_questions:
        phantom_samples(3, subset="preferences")
    assert "pairs are drawn" in str(of_questions.value)
    assert [subset for subset in SUBSETS if f"`{subset}`" not in page or not phantom_samples(1, subset=subset)] == []
    with pytest.raises(DataError, match=r"there are single, chest, chart \(for pairs"):
        phantom_pairs(3, subset="multi")


def test_sentences_agree_with_the_pixels():
    for index in range(40):
        drawn = draw_phantom(index, kind="chest")
        spots = nodules(drawn)
        truths = {statement.text: statement.true for statement in statements(drawn.facts)}
        assert truths["The heart is enlarged."] == (heart_size(drawn) == "enlarged")
        assert truths["The heart lies on the left."] == (side(drawn.masks["heart"]) == "left")
        assert truths["There is one nodule in the lungs."] == (len(spots) == 1)
        assert truths["A large nodule lies in the upper left lung."] == any(
            (level(spot), side(spot)) == ("upper", "left") and spot.sum() > 30 for spot in spots
        )
        assert truths["There is no tube."] == ("tube" not in drawn.masks)

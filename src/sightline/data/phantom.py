"""`builtin:phantom`: pictures drawn by code, with questions, descriptions, preferences and probes about them.

A demonstration and a test bed: every fact is known, nothing is downloaded, and no figure from it says anything about
real pictures. What there is to see is in `phantom_drawing`, what can be asked in `phantom_language`, what can be said
in `phantom_statements`; here they become records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sightline.data.phantom_drawing import (
    ChestFacts,
    PhantomImage,
    draw_image,
    draw_phantom,
    generator,
    pick,
    shuffled,
)
from sightline.data.phantom_language import View, ask
from sightline.data.phantom_statements import Statement, absent_things, describe, things_in, with_article
from sightline.errors import DataError
from sightline.records import Message, PreferencePair, Sample

__all__ = [
    "Description",
    "PhantomImage",
    "draw_phantom",
    "load_phantom",
    "phantom_descriptions",
    "phantom_pairs",
    "phantom_probes",
    "phantom_samples",
]

Category = Literal["random", "popular", "adversarial"]

PROBES: Mapping[str, Category] = {
    "probes-random": "random",
    "probes-popular": "popular",
    "probes-adversarial": "adversarial",
}
SUBSETS = ("all", "chest", "chart", "multi", "single", "description", "loose-description", *PROBES)
ONE_PICTURE = ("single", "chest", "chart")
"""Of which there are preference pairs, descriptions and probes."""
LOOSE = 3
"""Most false sentences of a loose description."""
QUESTIONS_PER_IMAGE = (1, 3, 5, 6, 6, 7, 7, 8, 10, 12)
"""How many are wanted; few pictures offer twelve, so there are six on average, 1 to 12, as in VQA-RAD."""
MULTI_SHARE = (False,) * 6 + (True,)
"""One prompt of seven shows two pictures."""
SPLIT = {"train": 0.7, "validation": 0.1, "test": 0.2}
DESCRIPTION_REQUESTS = ("Describe the picture.", "What does the picture show?", "Describe this image in detail.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A description of a picture, sentence by sentence.

    Args:
        id: unique in its data set.
        image: the picture and what it shows.
        statements: the sentences, each with its truth.
    """

    id: str
    image: PhantomImage
    statements: tuple[Statement, ...]

    @property
    def text(self) -> str:
        """The sentences, joined."""
        return " ".join(statement.text for statement in self.statements)

    @property
    def hallucination_ratio(self) -> float:
        """Share of false sentences, in [0, 1]."""
        return sum(not statement.true for statement in self.statements) / len(self.statements)


def _check(subset: str, allowed: tuple[str, ...] = SUBSETS) -> None:
    if subset not in allowed:
        pairs = "questions; where `dpo` learns from it, pairs are drawn"
        what = "pairs, descriptions and probes" if allowed == ONE_PICTURE else pairs
        raise DataError(f"builtin:phantom: no subset {subset!r}; there are {', '.join(allowed)} (for {what})")


def _images(index: int, seed: int, subset: str) -> tuple[PhantomImage, ...]:
    """The picture of a prompt, or the two of it; pictures of pairs are drawn from streams of their own."""
    paired = pick(generator(seed, "paired", index), MULTI_SHARE)
    if subset == "multi" or (subset == "all" and paired):
        first = draw_image(seed, "first", index)
        kind = "chest" if isinstance(first.facts, ChestFacts) else "chart"
        return first, draw_image(seed, "second", index, kind=kind, scanner=first.facts.scanner)
    return (draw_phantom(index, seed=seed, kind=subset if subset in ("chest", "chart") else None),)


def picture_type(view: View) -> str:
    """Name what a prompt shows: "chest film", "bar chart", "line chart", or two of a kind."""
    facts = view[0]
    name = "chest film" if isinstance(facts, ChestFacts) else "bar chart" if facts.bars else "line chart"
    return name if len(view) == 1 else f"two {name.split()[-1]}s" if name.endswith("chart") else "two chest films"


def _prompt(images: tuple[PhantomImage, ...], question: str) -> tuple[Message, ...]:
    return (Message(role="user", content=(*range(len(images)), question)),)


def phantom_samples(
    num_images: int,
    *,
    seed: int = 0,
    first_index: int = 0,
    subset: str = "all",
    questions_per_image: int | None = None,
) -> tuple[Sample, ...]:
    """Ask questions about drawn pictures.

    Args:
        num_images: how many pictures, or pairs of pictures in one prompt.
        seed: of pictures and questions.
        first_index: number of the first picture; picture i is the same however many are drawn.
        subset: "all"; "chest", "chart" or "single" (one picture to a prompt); "multi" (two);
            "description" (one request for a description to each picture); "loose-description" (the same, and 1 to 3 of
            a description's sentences are false, as in captions that nobody checked); "probes-random", "probes-popular",
            "probes-adversarial" (see `phantom_probes`).
        questions_per_image: how many at most; by default 1 to 12, six on average.

    Returns:
        Samples, those of one picture together. Tags: answer_type, kind, organ, picture_type, scanner.

    Raises:
        DataError: for an unknown subset.
    """
    _check(subset)
    if subset in PROBES:
        return phantom_probes(num_images, category=PROBES[subset], seed=seed, first_index=first_index)
    if subset in ("description", "loose-description"):
        max_false = 0 if subset == "description" else LOOSE
        descriptions = phantom_descriptions(num_images, seed=seed, first_index=first_index, max_false=max_false)
        return tuple(_description_sample(description, seed) for description in descriptions)
    samples: list[Sample] = []
    for index in range(first_index, first_index + num_images):
        images = _images(index, seed, subset)
        view = tuple(image.facts for image in images)
        rng = generator(seed, "questions", index)
        drawn = pick(rng, QUESTIONS_PER_IMAGE)
        for number, (kind, question, answer) in enumerate(ask(view, questions_per_image or drawn, rng)):
            samples.append(
                Sample(
                    id=f"phantom-{seed}-{subset}-{index:06d}-{number:02d}",
                    pictures=tuple(image.picture for image in images),
                    messages=_prompt(images, question),
                    answer=answer,
                    tags={
                        "answer_type": "CLOSED" if kind.closed else "OPEN",
                        "kind": kind.name,
                        "organ": kind.organ,
                        "picture_type": picture_type(view),
                        "scanner": view[0].scanner,
                    },
                    origin=f"builtin:phantom:{index}",
                )
            )
    return tuple(samples)


def phantom_descriptions(
    num_images: int, *, seed: int = 0, first_index: int = 0, subset: str = "single", max_false: int = 0
) -> tuple[Description, ...]:
    """Describe drawn pictures, one description each.

    Args:
        num_images: how many pictures.
        seed: of pictures and sentences.
        first_index: number of the first picture.
        subset: "single", "chest" or "chart".
        max_false: plant 1 to this many false sentences in each; 0 plants none.

    Returns:
        Descriptions with the truth of every sentence.

    Raises:
        DataError: for an unknown subset.
    """
    _check(subset, ONE_PICTURE)
    rows = []
    for index in range(first_index, first_index + num_images):
        (image,) = _images(index, seed, subset)
        rng = generator(seed, "description", index)
        num_false = int(rng.integers(1, max_false + 1)) if max_false else 0
        said = describe(image.facts, num_false, rng)
        rows.append(Description(id=f"phantom-{seed}-description-{index:06d}", image=image, statements=said))
    return tuple(rows)


def _description_sample(description: Description, seed: int) -> Sample:
    image = description.image
    return Sample(
        id=description.id,
        pictures=(image.picture,),
        messages=_prompt((image,), pick(generator(seed, "request", image.index), DESCRIPTION_REQUESTS)),
        answer=description.text,
        tags={
            "answer_type": "OPEN",
            "kind": "description",
            "picture_type": picture_type((image.facts,)),
            "scanner": image.facts.scanner,
        },
        origin=f"builtin:phantom:{image.index}",
    )


def phantom_pairs(
    num_images: int,
    *,
    seed: int = 0,
    first_index: int = 0,
    subset: str = "single",
    pairs_per_image: int = 2,
    max_false: int = 3,
) -> tuple[PreferencePair, ...]:
    """Set true descriptions against descriptions with planted false sentences.

    Args:
        num_images: how many pictures.
        seed: of pictures and sentences.
        first_index: number of the first picture.
        subset: "single", "chest" or "chart".
        pairs_per_image: pairs of one picture; their rejected sides differ in what is false.
        max_false: 1 to this many false sentences are planted in each rejected side.

    Returns:
        Pairs, those of one picture together; the tag "num_false" counts the planted sentences.

    Raises:
        DataError: for an unknown subset.
    """
    _check(subset, ONE_PICTURE)
    pairs: list[PreferencePair] = []
    for index in range(first_index, first_index + num_images):
        (image,) = _images(index, seed, subset)
        rng = generator(seed, "pairs", index)
        chosen = describe(image.facts, 0, rng)
        seen: set[str] = set()
        for number in range(pairs_per_image):
            rejected = describe(image.facts, int(rng.integers(1, max_false + 1)), rng)
            text = " ".join(statement.text for statement in rejected)
            if text in seen:
                continue
            seen.add(text)
            pairs.append(
                PreferencePair(
                    id=f"phantom-{seed}-pair-{index:06d}-{number:02d}",
                    pictures=(image.picture,),
                    messages=_prompt((image,), DESCRIPTION_REQUESTS[0]),
                    chosen=" ".join(statement.text for statement in chosen),
                    rejected=text,
                    tags={
                        "kind": "description",
                        "num_false": str(sum(not statement.true for statement in rejected)),
                        "picture_type": picture_type((image.facts,)),
                        "scanner": image.facts.scanner,
                    },
                    origin=f"builtin:phantom:{index}",
                )
            )
    return tuple(pairs)


def phantom_probes(
    num_images: int,
    *,
    category: Category = "random",
    seed: int = 0,
    first_index: int = 0,
    subset: str = "single",
    probes_per_image: int = 6,
) -> tuple[Sample, ...]:
    """Ask for things that are there and things that are not, by turns, as POPE does.

    Args:
        num_images: how many pictures.
        category: which absent things are asked for; the present ones are the same in every category.
        seed: of pictures and probes.
        first_index: number of the first picture.
        subset: "single", "chest" or "chart".
        probes_per_image: half of them answered "yes"; fewer, still half, where a picture shows too little.

    Returns:
        Samples with the tags category and thing.

    Raises:
        DataError: for an unknown subset or category.

    Source: Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models".
    """
    _check(subset, ONE_PICTURE)
    if category not in ("random", "popular", "adversarial"):
        raise DataError(f"builtin:phantom: no probe category {category!r}; there are random, popular, adversarial")
    probes: list[Sample] = []
    for index in range(first_index, first_index + num_images):
        (image,) = _images(index, seed, subset)
        present = shuffled(generator(seed, "present", index), sorted(things_in(image.facts)))[: probes_per_image // 2]
        absent = absent_things(image.facts, category, seed=seed, rng=generator(seed, category, index))
        asked = [row for yes, no in zip(present, absent, strict=False) for row in ((yes, "yes"), (no, "no"))]
        for number, (thing, answer) in enumerate(asked):
            probes.append(
                Sample(
                    id=f"phantom-{seed}-{category}-{index:06d}-{number:02d}",
                    pictures=(image.picture,),
                    messages=_prompt((image,), f"Is there {with_article(thing)} in the image?"),
                    answer=answer,
                    tags={
                        "answer_type": "CLOSED",
                        "kind": "probe",
                        "category": category,
                        "thing": thing,
                        "picture_type": picture_type((image.facts,)),
                        "scanner": image.facts.scanner,
                    },
                    origin=f"builtin:phantom:{index}",
                )
            )
    return tuple(probes)


def load_phantom(*, subset: str | None = None, num_images: int = 400, seed: int = 0) -> dict[str, tuple[Sample, ...]]:
    """Draw a data set, split by picture into train (70%), validation (10%) and test (the rest).

    Args:
        subset: as in `phantom_samples`; "all" by default.
        num_images: pictures, or pairs of pictures, over the three splits together; at least 3.
        seed: of pictures and questions.

    Returns:
        Split name to samples.

    Raises:
        DataError: for an unknown subset or fewer than 3 pictures.
    """
    if num_images < 3:
        raise DataError(f"builtin:phantom: {num_images} pictures cannot be split in three; ask for 3 or more")
    num_validation = max(1, round(num_images * SPLIT["validation"]))
    num_test = max(1, round(num_images * SPLIT["test"]))
    sizes = {"train": num_images - num_validation - num_test, "validation": num_validation, "test": num_test}
    splits: dict[str, tuple[Sample, ...]] = {}
    first = 0
    for name, size in sizes.items():
        splits[name] = phantom_samples(size, seed=seed, first_index=first, subset=subset or "all")
        first += size
    return splits

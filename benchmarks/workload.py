"""What every arm trains on: VQA-RAD's questions, in the same order, with the token ids and labels all must agree on.

The file a workload is kept in holds plain values, so a peer's process reads it without importing sightline.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.records import Picture, Sample

RECIPE = Path(__file__).parent.parent / "recipes" / "vqa_rad.yaml"
NOT_LEARNT = -100


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one picture.

    Args:
        picture: the file.
        question: its text.
        answer: what is learnt.
    """

    picture: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Optimizer steps of questions.

    Args:
        name: for the table.
        questions: all there are.
        steps: the questions of each optimizer step, by number; an image's questions stand together.
        branch_cap: most questions of one image that stay together; None for as many as fit a step.
        token_ids: of every question that comes in a step, template and image tokens included; empty where sightline
            does not know the model's family, so that there is nothing to compare with.
        labels: the same length; `NOT_LEARNT` where the loss does not look.
    """

    name: str
    questions: tuple[Question, ...]
    steps: tuple[tuple[int, ...], ...]
    branch_cap: int | None
    token_ids: dict[int, list[int]]
    labels: dict[int, list[int]]

    @property
    def order(self) -> list[int]:
        """The questions of all steps, one after the other."""
        return [number for step in self.steps for number in step]

    @property
    def conversations(self) -> list[tuple[int, ...]]:
        """The same questions as conversations: an image's questions of one step become its turns."""
        found: list[list[int]] = []
        for step in self.steps:
            last = ""
            for number in step:
                if self.questions[number].picture != last:
                    found.append([])
                last = self.questions[number].picture
                found[-1].append(number)
        return [tuple(turns) for turns in found]

    def learnt(self, numbers: Sequence[int]) -> list[int]:
        """The token ids that are learnt of some questions, one after the other."""
        return [label for number in numbers for label in self.labels[number] if label != NOT_LEARNT]

    def write(self, file: Path) -> None:
        """Keep the workload in a file."""
        file.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @staticmethod
    def read(file: Path) -> Workload:
        """Read what `write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        return Workload(
            name=values["name"],
            questions=tuple(Question(**question) for question in values["questions"]),
            steps=tuple(map(tuple, values["steps"])),
            branch_cap=values["branch_cap"],
            token_ids={int(number): ids for number, ids in values["token_ids"].items()},
            labels={int(number): labels for number, labels in values["labels"].items()},
        )


def vqa_rad_questions(folder: Path) -> list[Question]:
    """Read the training questions as the recipe divides the release: validation pictures are left out."""
    from sightline import load_study
    from sightline.runner.reading import read_data

    samples = read_data(load_study(RECIPE, overrides=[f"data_root={folder.resolve()}"])).sets["rad.train"]
    return [Question(picture=str(s.pictures[0].path), question=s.question, answer=s.answer) for s in samples]


def with_exactly(questions: Sequence[Question], per_image: int) -> list[Question]:
    """Give every picture exactly so many questions; one that has fewer borrows those of the pictures after it."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.picture, []).append(question)
    pictures = list(groups)
    chosen: list[Question] = []
    for place, picture in enumerate(pictures):
        texts: dict[str, Question] = {}
        for offset in range(len(pictures)):
            if len(texts) >= per_image:
                break
            for lent in groups[pictures[(place + offset) % len(pictures)]]:
                texts.setdefault(lent.question, dataclasses.replace(lent, picture=picture))
        chosen += list(texts.values())[:per_image]
    return chosen


def plan(
    name: str,
    questions: Sequence[Question],
    *,
    batch_size: int,
    num_steps: int,
    branch_cap: int | None,
    folder: Path,
    together: int = 1,
) -> Workload:
    """Plan the first steps of an epoch with sightline's own sampler, and render their questions.

    Args:
        name: for the table.
        questions: all there are.
        batch_size: samples per optimizer step.
        num_steps: optimizer steps; within one epoch, so that no picture is met twice.
        branch_cap: see `Workload`.
        folder: the model's, with template and tokenizer.
        together: questions that make one sample: 2 for pairs of answers.

    Raises:
        ValueError: the questions do not fill so many steps.
    """
    from sightline.trees.sampler import plan_epoch

    samples = [as_sample(number, question) for number, question in enumerate(questions)]
    epoch = plan_epoch(
        [sample.image_id for sample in samples[::together]],
        batch_size=batch_size,
        branch_cap=branch_cap,
        seed=0,
        epoch=0,
    )
    if len(epoch) < num_steps or len(epoch[num_steps - 1]) < batch_size:
        num_samples = len(questions) // together
        raise ValueError(f"{name}: {num_samples} samples fill {num_samples // batch_size} steps of {batch_size}")
    steps = tuple(
        tuple(number * together + part for number in step for part in range(together)) for step in epoch[:num_steps]
    )
    token_ids, labels = _render({number: samples[number] for step in steps for number in step}, folder)
    return Workload(
        name=name,
        questions=tuple(questions),
        steps=steps,
        branch_cap=branch_cap,
        token_ids=token_ids,
        labels=labels,
    )


def _render(samples: Mapping[int, Sample], folder: Path) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    from sightline.errors import UnsupportedModelError
    from sightline.models.loading import load_family
    from sightline.trees.render import render

    try:
        family = load_family(str(folder))
    except UnsupportedModelError:
        return {}, {}
    token_ids: dict[int, list[int]] = {}
    labels: dict[int, list[int]] = {}
    for number, sample in samples.items():
        rendered = render(family, sample.messages, sample.pictures, sample.answer, name=sample.id)
        token_ids[number] = rendered.token_ids_L.tolist()
        learnt = zip(token_ids[number], rendered.weight_L, strict=True)
        labels[number] = [token if weight > 0 else NOT_LEARNT for token, weight in learnt]
    return token_ids, labels


def as_sample(number: int, question: Question) -> Sample:
    """Turn a question into sightline's own record."""
    from sightline.records import Message, Sample

    messages = (Message(role="user", content=(0, question.question)),)
    return Sample(id=str(number), pictures=(_picture(question.picture),), messages=messages, answer=question.answer)


@functools.cache
def _picture(file: str) -> Picture:
    from sightline.data.pictures import read_picture

    return read_picture(Path(file), name=Path(file).name)[0]

"""The nouns of the house: what a stage hands to the next. Frozen values, no torch, no file access."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture: where it lies and what it shows. Opened lazily by `data.pictures.open_picture`.

    Args:
        name: as the data wrote it; for messages and for joining with other tools' files.
        sha256: hash of size and pixels after EXIF rotation, as RGB: the identity of the picture.
        width: pixels, after EXIF rotation.
        height: pixels, after EXIF rotation.
        path: file it is read from, or None when `content` holds it.
        content: encoded bytes (PNG, JPEG), or None when `path` names them.
    """

    name: str
    sha256: str
    width: int
    height: int
    path: str | None = None
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Args:
        role: who speaks.
        content: texts, and pictures as indices into the sample's `pictures`, in the order given.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | int, ...]

    @property
    def text(self) -> str:
        """The texts of the turn, joined."""
        return "".join(part for part in self.content if isinstance(part, str))


NOT_A_TARGET = -100
"""The label of a token that is not learnt, as Hugging Face has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A row that came tokenised, as its maker wrote it.

    Args:
        input_ids: int32[L], the whole sequence; an image token once for each picture, or for each of its features.
        labels: int32[L], the id where it is a target and `NOT_A_TARGET` where not, in its own place (not shifted).
    """

    input_ids: array[int]
    labels: array[int]

    @property
    def misplaced(self) -> list[int]:
        """Places whose label is not the id that stands there."""
        places = enumerate(zip(self.input_ids, self.labels, strict=True))
        return [place for place, (token, label) in places if label not in (NOT_A_TARGET, token)]


def image_id_of(row_id: str, pictures: tuple[Picture, ...]) -> str:
    """Name what groups a row with others in sampling: its picture or set of pictures.

    Rows without a picture are a group of their own each. What is independent of what: see `data.groups`.
    """
    if not pictures:
        return f"no-image:{row_id}"
    if len(pictures) == 1:
        return pictures[0].sha256
    return hashlib.sha256("+".join(picture.sha256 for picture in pictures).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt and the answer to learn or to be compared with.

    Args:
        id: unique in its data set.
        pictures: in the order the messages use them; empty for text alone.
        messages: the prompt; the last one is the user's. Earlier assistant turns are history, not targets.
        answer: the reference answer.
        tags: facts of the row by which results can be filtered ("organ", "answer_type", ...).
        origin: where the row came from, as "file:row".
        tokens: the row as ids and labels, where it came tokenised. Such a row is learnt and never asked: no template
            touches it, its one message tells it apart from others, and its answer is empty.
        rejected: the other answer, where the row is a pair of which `answer` was chosen.
    """

    id: str
    pictures: tuple[Picture, ...]
    messages: tuple[Message, ...]
    answer: str
    tags: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    tokens: Tokens | None = None
    rejected: str | None = None

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1].text.strip()

    @property
    def image_id(self) -> str:
        """The row's group: `image_id_of`."""
        return image_id_of(self.id, self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A prompt and two answers, the first preferred. Fields as in `Sample`."""

    id: str
    pictures: tuple[Picture, ...]
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    tags: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    @property
    def image_id(self) -> str:
        """The row's group: `image_id_of`."""
        return image_id_of(self.id, self.pictures)

    def as_sample(self) -> Sample:
        """The pair as a row of a data set, which divides and checks it by its prompt and chosen answer."""
        return Sample(
            id=self.id,
            pictures=self.pictures,
            messages=self.messages,
            answer=self.chosen,
            rejected=self.rejected,
            tags=self.tags,
            origin=self.origin,
        )


NO_ANSWER = "failed"
"""The finish reason where a server was asked and all tries failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to one prompt.

    Args:
        sample_id: the row it answers.
        model: the model's name in the study, e.g. "sft.a16@0".
        data: the evaluation set's name, e.g. "phantom.test".
        template: the name of the question's wording ("plain" unless the study names several).
        k: which of several samples of the same prompt.
        text: the answer, special tokens removed, stripped.
        finish_reason: "stop" (the model ended), "length" (cut at max_new_tokens), or a server's own word; `NO_ANSWER`
            where a server gave none, so that the text is empty and scores nothing.
        num_tokens: generated tokens, the end token included; None where a server did not count them.
        reason: why there is no answer; None where there is one.
    """

    sample_id: str
    model: str
    data: str
    template: str = "plain"
    k: int = 0
    text: str
    finish_reason: str
    num_tokens: int | None
    reason: str | None = None


Outcome = Literal["scored", "unparsed", "failed", "not_applicable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one answer is worth by one metric.

    Args:
        sample_id: the row.
        metric: the metric's name, e.g. "closed_accuracy".
        outcome: "scored"; "unparsed" (no answer could be read from the text: counted wrong in the
            primary rule, and counted apart); "failed" (the judge or scorer broke: never a score);
            "not_applicable" (an open question under a closed metric: leaves the denominator).
        value: the score, rates in [0, 1]; None unless scored.
        parts: sufficient statistics of ratio metrics, e.g. {"tp": 1} or {"nll": 3.2, "tokens": 4}.
        parsed: what was read from the answer, for the reader.
        reason: why an answer was not scored.
    """

    sample_id: str
    metric: str
    outcome: Outcome
    value: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    parsed: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What made a study's numbers: versions, hardware, seeds, hashes and times.

    Args:
        study: the study's name.
        study_sha256: hash of the resolved study.
        versions: package name to version, python and sightline included.
        hardware: accelerator or processor, cores, threads, precision, and whose memory `peak_memory_gib` is:
            `peak_memory_kind`, the accelerator's or this process's.
        seconds: what was done to wall-clock seconds: `train MODEL`, `evaluate MODEL`, `judge JUDGE`, ...
        data_sha256: data set name to the hash of its rows.
        notes: what the reader should know, such as faults the study accepted and why.
        peak_memory_gib: what was trained, answered and judged, named as in `seconds`, to the most memory meanwhile.
    """

    study: str
    study_sha256: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    seconds: Mapping[str, float]
    data_sha256: Mapping[str, str]
    notes: tuple[str, ...] = ()
    peak_memory_gib: Mapping[str, float] = field(default_factory=dict)


def to_json(record: Any) -> dict[str, Any]:
    """Turn a record into plain JSON values; a picture's bytes are left out, and what only some records have."""
    plain = dataclasses.asdict(record)
    for name in ("tokens", "rejected", "reason"):
        if plain.get(name, ...) is None:
            del plain[name]

    def without_bytes(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_bytes(item) for key, item in value.items() if not isinstance(item, bytes)}
        if isinstance(value, list | tuple):
            return [without_bytes(item) for item in value]
        return value.tolist() if isinstance(value, array) else value

    return without_bytes(plain)


def sample_from_json(row: Mapping[str, Any]) -> Sample:
    """Rebuild a sample from `to_json`'s row."""
    tokens = row.get("tokens")
    return Sample(
        id=row["id"],
        pictures=tuple(Picture(**picture) for picture in row["pictures"]),
        messages=tuple(Message(role=m["role"], content=tuple(m["content"])) for m in row["messages"]),
        tags=dict(row["tags"]),
        origin=row["origin"],
        answer=row["answer"],
        rejected=row.get("rejected"),
        tokens=tokens and Tokens(**{name: array("i", ids) for name, ids in tokens.items()}),
    )

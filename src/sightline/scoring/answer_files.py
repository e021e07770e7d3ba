"""Matches anyone's answers with the rows they were given to: by id, else by picture and question, never by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import DataError
from sightline.records import Answer, Sample
from sightline.scoring.answer_rows import ID_KEYS, AnswerRow, read_answer_rows
from sightline.scoring.normalise import normalise

Key = tuple[str, ...]

INSTRUCTIONS = ("Answer the question using a single word or phrase.", "Please answer yes or no.")
"""What LLaVA, lmms-eval and VLMEvalKit add to a question of POPE: part of the prompt, not of the question."""

OLD_RANDOM = 2_910
"""Lines of POPE's random subset before it was filled up to 3,000; LLaVA's answers are to the older one."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Answers, each with its row.

    Args:
        answers: one to each sample, in the order of the samples.
        by: what answers and rows were matched by, in words.
    """

    answers: list[Answer]
    by: str


def read_answers(answers_path: Path, samples: Sequence[Sample], questions: Path | None = None) -> Matched:
    """Read answers and match each with its sample.

    Ways to match are tried in order, and the first that fits every row is taken: the data's own ids; the question
    numbers of the release the data came from; picture as written and question. A row that holds a question or a
    reference beside the id must agree with the data in it.

    Args:
        answers_path: see `read_answer_rows`.
        samples: the rows that were asked.
        questions: see `read_answer_rows`.

    Raises:
        MissingDataError: there is no such file.
        DataError: a row that cannot be read, or answers and samples that do not match one to one.
    """
    rows = read_answer_rows(answers_path, questions)
    if len(rows) != len(samples):
        raise DataError(f"{answers_path}: {_count_difference(rows, samples)}")
    faults: list[tuple[bool, str]] = []
    for way in _WAYS:
        keyed = [(way.of_row(row), row) for row in rows]
        wanted = [(way.of_sample(sample), sample) for sample in samples]
        if any(key is None for key, _ in (*keyed, *wanted)):
            continue
        found = _match([(key or (), row) for key, row in keyed], [(key or (), sample) for key, sample in wanted])
        if not isinstance(found, str):
            return Matched([_answer(sample, found[sample.id], answers_path) for sample in samples], way.name)
        known = {key for key, _ in wanted}
        faults.append((any(key in known for key, _ in keyed), found))
    if not faults:
        lacking = next((row for row in rows if row.id is None and not (row.image and row.question)), rows[0])
        raise DataError(f"{lacking.where}: neither an id ({', '.join(ID_KEYS)}) nor image and question; add one")
    raise DataError(next((fault for is_near, fault in faults if is_near), faults[-1][1]))


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to match: what a row and a sample must have in common; None where one lacks it."""

    name: str
    of_row: Callable[[AnswerRow], Key | None]
    of_sample: Callable[[Sample], Key | None]


def _complete(*parts: str | None) -> Key | None:
    return None if None in parts else tuple(part for part in parts if part is not None)


def _bare(question: str | None) -> str | None:
    """Take from a prompt what a harness added to its question."""
    if question is None:
        return None
    bare = question.replace("<image>", "").strip()
    for instruction in INSTRUCTIONS:
        bare = bare.removesuffix(instruction).strip()
    return bare


def _picture(sample: Sample) -> str:
    return sample.pictures[0].name if sample.pictures else ""


_WAYS = (
    _Way("id", lambda row: _complete(row.id), lambda sample: (sample.id,)),
    _Way(
        "question number and subset",
        lambda row: _complete(row.id, row.category),
        lambda sample: _complete(sample.tags.get("question_id"), sample.tags.get("category")),
    ),
    _Way(
        "question number and question",
        lambda row: _complete(row.id, _bare(row.question)),
        lambda sample: _complete(sample.tags.get("question_id"), _bare(sample.question)),
    ),
    _Way("question number", lambda row: _complete(row.id), lambda sample: _complete(sample.tags.get("question_id"))),
    _Way(
        "image, question and subset",
        lambda row: _complete(row.image, _bare(row.question), row.category),
        lambda sample: _complete(_picture(sample), _bare(sample.question), sample.tags.get("category")),
    ),
    _Way(
        "image and question",
        lambda row: _complete(row.image, _bare(row.question)),
        lambda sample: _complete(_picture(sample), _bare(sample.question)),
    ),
)


def _match(rows: Sequence[tuple[Key, AnswerRow]], samples: Sequence[tuple[Key, Sample]]) -> dict[str, str] | str:
    """Match rows and samples of equal keys; data that repeat a key need as many answers to it, all equal.

    Returns:
        the answer to each sample, or the first reason why these keys do not fit.
    """
    asked: dict[Key, list[Sample]] = {}
    for key, sample in samples:
        asked.setdefault(key, []).append(sample)
    for key, repeated in asked.items():
        if len({normalise(sample.answer) for sample in repeated}) > 1:
            places = " and ".join(f"{sample.answer!r} ({sample.origin or sample.id})" for sample in repeated[:2])
            return f"the data give {_named(key)} two answers, {places}; give the rows ids"
    given: dict[Key, list[AnswerRow]] = {}
    for key, row in rows:
        if key not in asked:
            return f"{row.where}: {_named(key)} is not in the data"
        earlier = given.setdefault(key, [])
        if len(earlier) == len(asked[key]):
            return f"{row.where}: a second answer for {_named(key)}; keep one"
        if earlier and earlier[0].text != row.text:
            return f"{row.where}: {_named(key)} was answered differently before ({earlier[0].where}); use ids"
        earlier.append(row)
        if fault := _disagreement(row, asked[key][0]):
            return f"{row.where}: {fault}"
    return {sample.id: given[key][0].text for key, sample in samples}


def _named(key: Key) -> str:
    return " with ".join(f"{part!r:.80}" for part in key)


def _disagreement(row: AnswerRow, sample: Sample) -> str:
    """Say in what a row contradicts the sample that it was matched with; "" if in nothing."""
    question = _bare(row.question)
    asked = _bare(sample.question)
    if question is not None and asked is not None and asked not in question and question not in asked:
        return f"asks {question!r:.80} where the data ask {asked!r:.80}; the ids are not the data's"
    if row.image is not None and sample.pictures and Path(row.image).stem != Path(_picture(sample)).stem:
        return f"is about {row.image!r:.80} where the data have {_picture(sample)!r:.80}; the ids are not the data's"
    if row.reference is not None and normalise(row.reference) != normalise(sample.answer):
        return f"gives the reference {row.reference!r:.60} where the data have {sample.answer!r:.60}"
    return ""


def _count_difference(rows: Sequence[AnswerRow], samples: Sequence[Sample]) -> str:
    found = f"{len(rows):,} answers for {len(samples):,} rows of data; they must be the same questions"
    given, asked = Counter(row.category for row in rows), Counter(sample.tags.get("category") for sample in samples)
    if len(asked) > 1:
        found += f" (answered: {_listed(given)}; asked: {_listed(asked)})"
    if given.get("random", len(rows)) == OLD_RANDOM:
        found += f"; POPE's random subset once had {OLD_RANDOM:,} lines: score such answers against that release"
    return found


def _listed(counts: Mapping[str | None, int]) -> str:
    return ", ".join(f"{number:,} {category or 'of no subset'}" for category, number in sorted(counts.items(), key=str))


def _answer(sample: Sample, text: str, path: Path) -> Answer:
    return Answer(sample_id=sample.id, model=path.stem, data="", text=text, finish_reason="stop", num_tokens=0)

"""Rows of answers as anyone's tool wrote them: its own names of columns go in, one kind of row comes out.

Read are our own files, LLaVA's and HA-DPO's answer files, lmms-eval's sample logs, VLMEvalKit's tables, and lists of
captions by picture. Formats: docs/metrics.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline.data.problems import REMEDIES
from sightline.data.rows import BadLine, read_table, syntax_of
from sightline.errors import DataError, MissingDataError

ID_KEYS = ("sample_id", "question_id", "id")
IMAGE_KEYS = ("image", "image_name", "img_name", "image_path")
QUESTION_KEYS = ("question", "prompt")
TEXT_KEYS = ("prediction", "output", "text", "answer")

SPREADSHEETS = (".xlsx", ".xls")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One answer of a file.

    Args:
        where: it stands, as "file:line".
        text: the answer, to the last blank: some rules read them.
        id: of the question, as the file has it.
        image: its name as the file has it.
        question: the question, or a prompt that begins with it.
        category: the subset it belongs to.
        reference: what the file says is right, where it is known to hold that.
    """

    where: str
    text: str
    id: str | None = None
    image: str | None = None
    question: str | None = None
    category: str | None = None
    reference: str | None = None


def read_answer_rows(path: Path, questions: Path | None = None) -> list[AnswerRow]:
    """Read a file of answers.

    Args:
        path: JSON lines, a JSON list, an object of captions by id, CSV or TSV.
        questions: the file that the answers' ids point into, which knows picture, question and category of each;
            LLaVA's answers have ids alone.

    Raises:
        MissingDataError: there is no such file.
        DataError: the file, or a row of it, cannot be read.
    """
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist; --answers names a file of answers")
    if path.suffix.lower() in SPREADSHEETS:
        raise DataError(f"{path}: a spreadsheet; save it as .tsv or .csv, which VLMEvalKit can write itself")
    rows = [row for where, values in _read_values(path) for row in _answer_rows(where, values)]
    return rows if questions is None else _with_questions(rows, questions)


def _read_values(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give every row with its place; the first that is none is an error."""
    if (captions := _captions(path)) is not None:
        yield from ((f"{path}, {name!r}", {"id": name, "text": text}) for name, text in captions.items())
        return
    place = "{}, row {}" if path.suffix.lower() == ".json" and syntax_of(path) == "json" else "{}:{}"
    for row in read_table(path, file=str(path)).rows:
        where = place.format(path, row.number)
        if isinstance(row, BadLine):
            raise DataError(f"{where}: {row.found}; {REMEDIES[row.kind]}")
        yield where, row.values


def _captions(path: Path) -> Mapping[str, str] | None:
    """Read an object of texts by id, as HA-DPO takes other models' captions; None if the file is something else."""
    if path.suffix.lower() != ".json" or syntax_of(path) != "jsonl":
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    is_rows = not content or not set(content).isdisjoint(TEXT_KEYS)
    return None if is_rows or not all(isinstance(text, str) for text in content.values()) else content


def _answer_rows(where: str, values: Mapping[str, Any]) -> Iterator[AnswerRow]:
    if "filtered_resps" in values or "resps" in values:
        yield _of_lmms_eval(where, values)
    elif "index" in values and "prediction" in values:
        yield from _of_vlmevalkit(where, values)
    else:
        yield AnswerRow(
            where=where,
            text=_text(where, values),
            id=_known(values, ID_KEYS),
            image=_known(values, IMAGE_KEYS),
            question=_known(values, QUESTION_KEYS),
            category=_known(values, ("category",)),
        )


def _of_lmms_eval(where: str, values: Mapping[str, Any]) -> AnswerRow:
    """Read a row of a sample log: the document's own id stands inside the metrics, `doc_id` is a mere position."""
    said = values.get("filtered_resps", values.get("resps"))
    while isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, str):
        raise DataError(f"{where}: filtered_resps is {said!r:.60}; lmms-eval writes a list with one answer")
    details = [value for value in values.values() if isinstance(value, Mapping)]
    ids = [name for detail in details if (name := _known(detail, ("question_id", "id"))) is not None]
    prompt = values.get("input")
    return AnswerRow(
        where=where,
        text=said,
        id=ids[0] if ids else None,
        question=prompt if isinstance(prompt, str) else None,
        reference=_known(values, ("target",)),
    )


def _of_vlmevalkit(where: str, values: Mapping[str, Any]) -> Iterator[AnswerRow]:
    """Read a row of a prediction table; one that stands for several subsets, joined by commas, is one row for each.

    `index` is VLMEvalKit's own numbering. `image_source` is POPE's picture as the hub's copy names it, without suffix.
    """
    image = _known(values, IMAGE_KEYS)
    if image is None and (source := _known(values, ("image_source",))) is not None:
        image = source if Path(source).suffix else f"{source}.jpg"
    row = AnswerRow(
        where=where,
        text="" if values["prediction"] is None else str(values["prediction"]),
        id=_known(values, ID_KEYS),
        image=image,
        question=_known(values, QUESTION_KEYS),
        reference=_known(values, ("answer",)),
    )
    category = _known(values, ("category",))
    if category is None:
        yield row
    else:
        yield from (replace(row, category=part.strip()) for part in category.split(","))


def _with_questions(rows: list[AnswerRow], path: Path) -> list[AnswerRow]:
    """Give each row picture, question and category of its id in a file of questions; the ids have done their work."""
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist; --questions names the file that the answers' ids point into")
    known: dict[str, Mapping[str, Any]] = {}
    for where, values in _read_values(path):
        name = _known(values, ID_KEYS)
        if name is None or name in known:
            raise DataError(
                f"{where}: {'no id' if name is None else f'a second question {name!r}'}; each needs its own"
            )
        known[name] = values
    found = []
    for row in rows:
        if row.id is None or row.id not in known:
            found = "no id" if row.id is None else f"id {row.id!r} is not among those of {path}"
            raise DataError(f"{row.where}: {found}; give the questions that were asked")
        values = known[row.id]
        question = _known(values, ("text", "question"))
        found.append(
            replace(
                row,
                id=None,
                image=_known(values, IMAGE_KEYS),
                question=question,
                category=_known(values, ("category",)) or row.category,
            )
        )
    return found


def _text(where: str, values: Mapping[str, Any]) -> str:
    keys = [key for key in TEXT_KEYS if key in values]
    if not keys:
        raise DataError(f"{where}: no answer; expected one of {', '.join(TEXT_KEYS)}, found {', '.join(values)}")
    if len(keys) > 1 and (keys[0] == "text" or keys[:2] == ["prediction", "output"]):
        raise DataError(f"{where}: {' and '.join(keys)} could each be the answer; keep one, or call it prediction")
    value = values[keys[0]]
    if not isinstance(value, str):
        raise DataError(f'{where}: {keys[0]} is {value!r:.60}; an answer is text, "" where the model said nothing')
    return value


def _known(values: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Give the first of these that a row has as text; a number becomes one, and whatever else is there is not it."""
    for key in keys:
        value = values.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None

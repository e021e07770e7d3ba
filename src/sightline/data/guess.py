"""Guessing what the columns of an unknown file mean, by what is in them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.album import find_inside
from sightline.data.pictures import SUFFIXES, PictureError
from sightline.data.problems import shown
from sightline.data.rows import Row, Table, read_table, syntax_of
from sightline.errors import DataError, MissingDataError

NUM_ROWS_LOOKED_AT = 500
"""A guess looks at the first rows only; reading checks every one."""

LEAST_FOUND = 0.5
"""The least share of a column's values that must name files for it to be the image column."""

NAME_HINTS: Mapping[str, re.Pattern[str]] = {
    "image": re.compile(r"im(age|g)|bild|file|datei|foto|photo|pic|path|aufnahme|scan", re.IGNORECASE),
    "question": re.compile(r"quest|frage|pregunta|domanda|vraag|prompt|instruct|query|^q$", re.IGNORECASE),
    "answer": re.compile(r"answ|antwort|respuesta|r[ée]ponse|risposta|label|target|output|^a$|^gt$", re.IGNORECASE),
    "id": re.compile(r"(^|_|\b)(id|nr|no|key|uid|index|nummer)($|_|\b)|id$", re.IGNORECASE),
}
"""What columns are often called; decides only between columns whose content fits about equally."""

CHOSEN_HINT = re.compile(r"^chosen|^prefer", re.IGNORECASE)
REJECTED_HINT = re.compile(r"^reject|^disprefer", re.IGNORECASE)
"""What the two answers of a preference table are called; content cannot tell which of them is the better one."""

PATIENT_HINT = re.compile(r"patient|pa[cz]iente|subject|proband", re.IGNORECASE)
"""What a column is called that says whose picture it is."""

_NAME_WEIGHT = 0.3
_LEAST_FIT = 0.25
"""Of a column that can be a question: two or three words, or a name that says so."""
_YES_NO = frozenset(["yes", "no", "ja", "nein", "oui", "non", "sí", "si", "sim", "não", "y", "n", "true", "false"])
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What the columns of a file seem to mean.

    Args:
        file: the file.
        images: the folder its pictures are in.
        format: a key of `formats.FORMATS`.
        columns: our name of a field to the file's column; "tags" to a list of columns.
        reasons: our name of a field to why that column was taken.
        preview: the first three rows: image, question and answer as they will be read.
        num_rows: rows in the file.
        num_pictures: different names of pictures in the file.
        has_yes_no: whether some answers are yes or no.
        patient: the column that says whose picture it is, in every row; None where there is none.
    """

    file: Path
    images: Path
    format: str
    columns: Mapping[str, str | list[str]]
    reasons: Mapping[str, str]
    preview: tuple[Mapping[str, str], ...]
    num_rows: int
    num_pictures: int
    has_yes_no: bool
    patient: str | None = None

    @property
    def is_preferences(self) -> bool:
        """Whether rows hold two answers, one preferred to the other."""
        return "rejected" in self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column's content, rates in [0, 1] over its non-empty values."""

    name: str
    texts: tuple[str, ...]
    share_filled: float
    share_questions: float
    share_yes_no: float
    share_odd: float
    num_distinct: int
    mean_words: float
    varies_within_image: float


def guess_columns(file: Path, images: Path) -> Guess:
    """Guess which columns of a file are image, question, answer, id and tags.

    The image column is the one whose values name files in the folder, with or without suffix. Questions end in
    question marks or are the longer texts; answers vary among the questions of one picture, which facts about the
    picture do not. Names of columns decide only between equals.

    Args:
        file: CSV, JSON lines, or a JSON list.
        images: the folder of pictures.

    Returns:
        The guess, with its reasons.

    Raises:
        MissingDataError: the file or the folder is not there.
        DataError: a column that is needed cannot be found; says which, and what the columns hold.
    """
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file; correct `--data`")
    if not images.is_dir():
        raise MissingDataError(f"{images}: no such folder; correct `--images`")
    table = read_table(file, file=file.name)
    every_row = [row for row in table.rows if isinstance(row, Row)]
    rows = every_row[:NUM_ROWS_LOOKED_AT]
    if not rows:
        raise DataError(f"{file.name}: no row can be read; `sightline check` names what is wrong with each line")

    image, image_reason, found = _guess_image(rows, table, images)
    turns = next((name for name in table.columns if _holds_turns(rows, name)), None)
    if turns is not None:
        columns: dict[str, str | list[str]] = {"image": image, "conversations": turns}
        reasons = {"image": image_reason, "conversations": "its values are lists of turns"}
        preview = tuple({"image": _text(row, image), "conversations": _text(row, turns)} for row in rows[:3])
        has_yes_no = False
    else:
        described = [_describe(rows, name, found) for name in table.columns if name != image]
        columns, reasons = _guess_pairs(described, table) or _guess_texts(described, table)
        columns = {"image": image, **columns}
        reasons = {"image": image_reason, **reasons}
        shown_fields = [name for name in columns if name not in ("id", "tags")]
        preview = tuple({name: _text(row, str(columns[name])) for name in shown_fields} for row in rows[:3])
        answer = str(columns.get("answer", ""))
        has_yes_no = any(_text(row, answer).strip(" .").casefold() in ("yes", "no") for row in rows)
    patient = None if turns is not None else _guess_patient(every_row, table, taken=columns.values())
    if patient is not None:
        columns["tags"] = list(dict.fromkeys([*columns.get("tags", ()), patient]))
        reasons.setdefault("tags", "a patient's pictures stay on one side of the split")
    return Guess(
        file=file,
        images=images,
        format="llava" if turns is not None else syntax_of(file),
        columns=columns,
        reasons=reasons,
        preview=preview,
        num_rows=len(every_row),
        num_pictures=len({_text(row, image) for row in every_row} - {""}),
        has_yes_no=has_yes_no,
        patient=patient,
    )


def _guess_patient(rows: Sequence[Row], table: Table, *, taken: Collection[object]) -> str | None:
    """Choose the column that says whose picture a row is about: by its name, and filled in every row."""
    names = (name for name in table.columns if PATIENT_HINT.search(name) and name not in taken)
    return next((name for name in names if all(_text(row, name) for row in rows)), None)


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    return "" if value is None else str(value).strip()


def _guess_image(rows: Sequence[Row], table: Table, images: Path) -> tuple[str, str, list[str]]:
    """Find the image column; returns its name, the reason, and each row's file ("" where there is none)."""
    files: dict[str, str] = {}

    def file_of(value: object) -> str:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, bool) or not isinstance(first, str | int) or not str(first).strip():
            return ""
        written = str(first)
        if written not in files:
            try:
                files[written] = str(find_inside(images, written))
            except PictureError:
                files[written] = ""
        return files[written]

    found = {name: [file_of(row.values.get(name)) for row in rows] for name in table.columns}

    def fit(name: str) -> tuple[float, bool, int, bool]:
        share = sum(map(bool, found[name])) / len(rows)
        has_suffix = any(_text(row, name).lower().endswith(SUFFIXES) for row in rows)
        # A count that happens to be the stem of a file names few of them; the real column names many.
        return round(share, 1), has_suffix, len(set(found[name])), bool(NAME_HINTS["image"].search(name))

    best = max(table.columns, key=fit)
    share = sum(map(bool, found[best])) / len(rows)
    if share < LEAST_FOUND:
        example = next((entry.name for entry in sorted(images.iterdir()) if entry.is_file()), None)
        holds = f"it holds files such as {shown(example)}" if example else "it holds no files"
        raise DataError(
            f"{table.file}: no column names pictures in {images} ({holds}). {_summary(rows, table.columns)} "
            "Name the folder that the paths start from with `--images`"
        )
    reason = f"{share:.0%} of its values name files in {images.name}"
    return best, reason, found[best]


def _summary(rows: Sequence[Row], columns: Sequence[str]) -> str:
    parts = [f"{name} (such as {shown(_text(rows[0], name), 40)})" for name in columns]
    return f"The columns are {', '.join(parts)}."


def _holds_turns(rows: Sequence[Row], name: str) -> bool:
    value = next((row.values[name] for row in rows if row.values.get(name)), None)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) and {"from", "role"} & turn.keys() for turn in value)
    )


def _describe(rows: Sequence[Row], name: str, found: Sequence[str]) -> _Column:
    texts = tuple(_text(row, name) for row in rows)
    filled = [text for text in texts if text]
    num = max(len(filled), 1)
    of_image: dict[str, list[str]] = {}
    for text, file in zip(texts, found, strict=True):
        if file:
            of_image.setdefault(file, []).append(text)
    several = [group for group in of_image.values() if len(group) > 1]
    odd = sum(bool(_DATE.fullmatch(text)) or text.lower().endswith(SUFFIXES) or "://" in text for text in filled)
    return _Column(
        name=name,
        texts=texts,
        share_filled=len(filled) / len(rows),
        share_questions=sum(text.endswith(("?", "?", "؟")) for text in filled) / num,
        share_yes_no=sum(text.strip(" .!").casefold() in _YES_NO for text in filled) / num,
        share_odd=odd / num,
        num_distinct=len(set(filled)),
        mean_words=sum(len(text.split()) for text in filled) / num,
        varies_within_image=sum(len(set(group)) > 1 for group in several) / len(several) if several else 0.0,
    )


def _is_key(column: _Column) -> bool:
    """Whether the values can be ids: all there, all different, without blanks."""
    return (
        column.num_distinct == len(column.texts) > 2
        and not any(" " in text for text in column.texts)
        and not any(_DATE.fullmatch(text) for text in column.texts)
    )


def _hint(kind: str, column: _Column) -> float:
    return _NAME_WEIGHT * bool(NAME_HINTS[kind].search(column.name))


def _question_fit(column: _Column) -> float:
    return 2 * column.share_questions + min(column.mean_words, 10) / 10 + _hint("question", column)


def _answer_fit(column: _Column) -> float:
    variety = min(1.0, math.log2(max(column.num_distinct, 1)) / 5)
    return (
        column.varies_within_image
        + variety
        + column.share_yes_no
        - column.share_questions
        - min(column.mean_words, 20) / 40
        - 2 * (column.num_distinct < 2)
        - 2 * (_is_key(column) and not column.share_yes_no)
        - 2 * column.share_odd
        + _hint("answer", column)
    )


def _guess_texts(columns: Sequence[_Column], table: Table) -> tuple[dict[str, str | list[str]], dict[str, str]]:
    """Choose question, answer, id and tags among the columns that are not the image."""
    filled = [column for column in columns if column.share_filled >= LEAST_FOUND]
    listed = ", ".join(f"{column.name} ({column.num_distinct} different values)" for column in columns) or "none"
    questions = [column for column in filled if column.share_questions >= 0.2 or column.mean_words >= 2.5]
    if not questions:
        raise DataError(f"{table.file}: no column reads like questions; apart from the image there are: {listed}")
    pairs = [
        (question, answer)
        for question in questions
        for answer in filled
        if answer is not question and _answer_fit(answer) > 0
    ]
    if not pairs:
        raise DataError(f"{table.file}: no column reads like answers; apart from the image there are: {listed}")
    question, answer = max(pairs, key=lambda pair: _question_fit(pair[0]) + _answer_fit(pair[1]))

    chosen: dict[str, str | list[str]] = {"question": question.name, "answer": answer.name}
    marks = f"{question.share_questions:.0%} end in a question mark" if question.share_questions >= 0.2 else "no marks"
    reasons = {
        "question": f"{marks}, {question.mean_words:.0f} words on average",
        "answer": f"{answer.num_distinct} different values"
        + (f", {answer.share_yes_no:.0%} yes or no" if answer.share_yes_no else "")
        + (", differing among one picture's questions" if answer.varies_within_image else ""),
    }
    _guess_rest([column for column in columns if column not in (question, answer)], chosen, reasons)
    return chosen, reasons


def _guess_pairs(columns: Sequence[_Column], table: Table) -> tuple[dict[str, str | list[str]], dict[str, str]] | None:
    """Choose prompt, chosen and rejected answer, id and tags; None where the table holds no preferences."""
    worse = next((column for column in columns if REJECTED_HINT.search(column.name)), None)
    better = next((column for column in columns if CHOSEN_HINT.search(column.name)), None)
    if worse is None or better is None:
        return None
    others = [column for column in columns if column not in (worse, better)]
    prompts = [
        column for column in others if column.share_filled >= LEAST_FOUND and _question_fit(column) >= _LEAST_FIT
    ]
    if not prompts:
        raise DataError(
            f"{table.file}: {better.name} and {worse.name} are answers, and no other column reads like questions: "
            f"{', '.join(column.name for column in others) or 'there is none'}"
        )
    prompt = max(prompts, key=_question_fit)
    chosen: dict[str, str | list[str]] = {"prompt": prompt.name, "chosen": better.name, "rejected": worse.name}
    reasons = {"prompt": f"{prompt.mean_words:.0f} words on average", "chosen": "its name", "rejected": "its name"}
    _guess_rest([column for column in others if column is not prompt], chosen, reasons)
    return chosen, reasons


def _guess_rest(others: Sequence[_Column], chosen: dict[str, str | list[str]], reasons: dict[str, str]) -> None:
    """Add id and tags to what was chosen, with their reasons."""
    keys = [column for column in others if _is_key(column)]
    if keys:
        key = max(keys, key=lambda column: _hint("id", column))
        chosen["id"] = key.name
        reasons["id"] = "every value differs"
    tags = [column.name for column in others if column.name != chosen.get("id") and _is_tag(column)]
    if tags:
        chosen["tags"] = tags
        reasons["tags"] = "few, short values"


def _is_tag(column: _Column) -> bool:
    few = 2 <= column.num_distinct <= min(30, len(column.texts) / 2)
    return few and column.mean_words <= 3 and not column.share_odd and column.share_filled >= LEAST_FOUND

"""What was wrong with a row, in words a person can act on, and what that means for the data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sightline.errors import DataError
from sightline.records import Sample

REMEDIES: Mapping[str, str] = {
    "bad-json": "correct the line, or delete it",
    "bad-csv": "quote the field that holds a separator, a quote or a line break",
    "bad-encoding": "save the file as UTF-8",
    "nul-byte": "remove the NUL character",
    "lone-surrogate": "write the whole character, or remove its half",
    "missing-key": "fill in the column, or name the right one under `columns`",
    "wrong-type": "write it as the documented type",
    "empty-question": "fill in the question, or drop the row",
    "empty-answer": "fill in the answer, or drop the row",
    "bad-turns": "let user and assistant alternate, the user first and the assistant last",
    "image-count": "write `<image>` in the prompt once for each picture, or nowhere, and never in an answer",
    "duplicate-id": "give each row its own id, or set `columns: {id: null}` to number the rows",
    "too-long": "shorten the row",
    "changed": "put the picture back as it was, or start anew with another --out",
    "path-escape": "put the picture inside the images folder and write its path from there",
    "remote-image": "download the picture; sightline never fetches an address found in data",
    "missing-image": "add the file, correct its name, or set `images` to the folder that holds it",
    "ambiguous-image": "write the file's name with its suffix",
    "zero-bytes": "copy the file again",
    "truncated-image": "copy the file again; its end is missing or damaged",
    "not-an-image": "convert it to PNG or JPEG",
    "too-small": "replace the picture; no side may be shorter than 2 pixels",
    "too-many-pixels": "make the picture smaller",
    "cmyk": "converted to RGB; nothing to do",
    "16-bit": "scaled from its own darkest and brightest value to 8 bits; nothing to do",
    "exif-rotated": "turned upright; nothing to do",
    "animated-first-frame": "the first frame was taken; nothing to do",
}
"""What to do about each kind of problem; the last four are repaired on reading and the row is kept."""

Bound = Literal["row_tokens", "context", "answer"]
"""What a row is too long for: the step's rows, the model, or the model with room for an answer."""

_BOUNDS: Mapping[Bound, tuple[str, str]] = {
    "row_tokens": ("`row_tokens`", "raise `row_tokens`"),
    "context": ("the model's context, which no key of the study makes longer", ""),
    "answer": ("the model's context with room for `evaluate.max_new_tokens`", "lower `evaluate.max_new_tokens`"),
}
"""Each bound in words, and the key that moves it."""

NUM_PRINTED = 20
"""How many lines of problems an error message shows before it says how many more problems there are."""

NUM_ALIKE = 3
"""How many problems of one file with one remedy get lines of their own; of more, as many are given as examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of one row.

    Args:
        file: the file the row is in.
        row: the line in a file of lines (from 1); the index in a JSON list or a table (from 0, as `datasets`
            counts); None when the whole file is meant.
        id: the row's id, or its number when it has none.
        kind: a key of `REMEDIES`.
        found: what is there instead of what should be.
        remedy: what to do about it.
        repaired: the row was repaired on reading and is kept.
        image: the picture's name as the data wrote it, when a picture is at fault.
    """

    file: str
    row: int | None
    id: str
    kind: str
    found: str
    remedy: str
    repaired: bool = False
    image: str = ""

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}:{self.row}"
        who = [f"id {self.id}"] if self.id and self.id != str(self.row) else []
        if self.image:
            who.append(f"image {self.image}")
        return f"{where}{' (' + ', '.join(who) + ')' if who else ''}: {self.found}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a source held: the rows that can be used, and what was wrong with the others.

    `num_clean + num_repaired + num_left_out == num_rows`. A conversation of several assistant turns is one row
    and several samples.

    Args:
        samples: in the order of the source.
        problems: in the order of the source, repaired ones included.
        num_rows: rows read; rows outside `where` or after `take` are not counted.
        fields: our name of a field to the column it was read from; a release's own names are made plain first.
    """

    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    num_rows: int
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_left_out(self) -> int:
        """Rows that cannot be used."""
        return len(_rows_at_fault(self.problems))

    @property
    def num_repaired(self) -> int:
        """Rows kept after a repair."""
        repaired = {(problem.file, problem.row) for problem in self.problems if problem.repaired}
        return len(repaired - _rows_at_fault(self.problems))

    @property
    def num_clean(self) -> int:
        """Rows taken as they are."""
        return self.num_rows - self.num_left_out - self.num_repaired


class BadRowsError(DataError):
    """Rows that cannot be used; `problems` holds every one, the message the first few."""

    def __init__(self, problems: tuple[Problem, ...], *, num_rows: int):
        self.problems = problems
        super().__init__(
            f"{len(_rows_at_fault(problems))} of {num_rows} rows cannot be used:\n  "
            + "\n  ".join(problem_lines(problems))
            + "\ncorrect them, or set `on_bad_row: skip` in every step that trains, to go on without them"
        )


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Write problems for a message, one a line; many of one file that have one remedy share a line."""
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.file, problem.remedy), []).append(problem)
    lines = []
    num_told = 0
    for group in alike.values():
        told = [(len(group), _in_one_line(group))] if len(group) > NUM_ALIKE else [(1, str(one)) for one in group]
        for number, line in told[: NUM_PRINTED - len(lines)]:
            num_told += number
            lines.append(line)
    return [*lines, f"... and {len(problems) - num_told} more"] if num_told < len(problems) else lines


def _in_one_line(problems: Sequence[Problem]) -> str:
    """Tell of problems of one file with one remedy: how many, the first few that differ, what to do."""
    examples: dict[str, Problem] = {}
    for problem in problems:
        examples.setdefault(problem.image or f"{problem.found} {problem.row}", problem)
    shown_ones = list(examples.values())[:NUM_ALIKE]
    rows = len({problem.row for problem in problems})
    pictures = len({problem.image for problem in problems} - {""})
    counted = f"{rows:,} rows" + (f", {pictures:,} pictures" if pictures else "")
    told = "; ".join(f"{problem.found} (row {problem.row})" for problem in shown_ones)
    return f"{problems[0].file}: {counted}, for example {told}; {problems[0].remedy}"


def _rows_at_fault(problems: tuple[Problem, ...]) -> set[tuple[str, int | None]]:
    return {(problem.file, problem.row) for problem in problems if not problem.repaired}


def require_clean(loaded: Loaded, *, on_bad_row: Literal["stop", "skip"]) -> tuple[Sample, ...]:
    """Return the usable samples, or stop when there are others. Repaired rows never stop.

    Args:
        loaded: what a source held.
        on_bad_row: "stop" raises when any row cannot be used; "skip" goes on without it.

    Returns:
        The usable samples, in the order of the source.

    Raises:
        BadRowsError: naming every row that cannot be used, its id, the fault and the remedy.
    """
    faults = tuple(problem for problem in loaded.problems if not problem.repaired)
    if faults and on_bad_row == "stop":
        raise BadRowsError(faults, num_rows=loaded.num_rows)
    return loaded.samples


def problem_of(sample: Sample, kind: str, found: str) -> Problem:
    """Describe what is wrong with a sample that was read without fault.

    Args:
        sample: the sample.
        kind: a key of `REMEDIES`.
        found: what is there instead of what should be.

    Returns:
        The problem, at the row the sample came from.
    """
    file, _, row = sample.origin.rpartition(":")
    return Problem(
        file=file or sample.origin,
        row=int(row) if file and row.isdecimal() else None,
        id=sample.id,
        kind=kind,
        found=found,
        remedy=REMEDIES[kind],
    )


def too_long(sample: Sample, *, num_tokens: int, limit: int, bound: Bound, has_pixels: bool = False) -> Problem:
    """Describe a sample that is longer than something allows.

    Args:
        sample: the sample at fault.
        num_tokens: its length in tokens, image tokens included, and the answer where it is to be learned.
        limit: the longest length that fits, in tokens.
        bound: what sets the limit.
        has_pixels: whether the model's pictures can be made smaller by `max_pixels`.

    Returns:
        The problem, at the row the sample came from.
    """
    what, lever = _BOUNDS[bound]
    levers = [REMEDIES["too-long"], *([lever] if lever else []), *(["lower `max_pixels`"] if has_pixels else [])]
    problem = problem_of(sample, "too-long", f"{num_tokens:,} tokens where {limit:,} fit ({what})")
    return dataclasses.replace(problem, remedy=", or ".join(levers))


def shown(value: object, limit: int = 60) -> str:
    """Show a value of the data in a message: escaped, and cut when it is long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

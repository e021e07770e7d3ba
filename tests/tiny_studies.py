"""Studies that take seconds: pictures and rows on disk, and the command line called inside the test's own process."""

from __future__ import annotations

import contextlib
import csv
import io
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import sightline.cli
from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture

NAMES = ("image", "question", "answer")

SMALL = """
name: small
base: builtin:tiny
data: {source: rows.csv, split: {train: 0.5, test: 0.5, by: image}}
steps: {sft: {max_steps: 2}}
evaluate: {metrics: [exact_match, closed_accuracy, nll]}
"""

FINISHED = ("models/*/*", "answers/*", "scores/*/*", "data/*", "compare.json", "study.yaml", "checks.json")
"""What a second run must leave as it is; the report and `run.json` say how long everything took so far."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def sightline_command(*arguments: object) -> Ended:
    """Call the command line as a shell would, without paying for another interpreter.

    Figures take longest of all that a small study does, and few tests look at them: those say --figures.
    """
    if arguments[0] == "run" and "--figures" not in arguments:
        arguments = (*arguments, "--no-figures")
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code: object = 0
    try:
        with (
            patch.object(sys, "argv", ["sightline", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            sightline.cli.main()
    except SystemExit as ended:
        code = ended.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Ended(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def run_study_file(study: Path, *arguments: object) -> Path:
    """Run a study that must succeed; returns its directory, as the last line printed names it."""
    ended = sightline_command("run", study, *arguments)
    assert ended.code == 0, ended.err
    return Path(ended.out.splitlines()[-1]).parent


def picture_rows(folder: Path, *, num_images: int = 12, prefix: str = "images/", suffix: str = ".png") -> list[list]:
    """Save drawn pictures to `folder` and return rows of (picture as written in a table, question, answer)."""
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    rows = []
    for sample in phantom_samples(num_images, seed=3):
        (picture,) = sample.pictures[:1]
        if picture.sha256 not in names:
            names[picture.sha256] = f"scan_{len(names):03d}"
            kept = save_picture(picture, folder)
            Path(str(kept.path)).rename(folder / f"{names[picture.sha256]}.png")
        rows.append([f"{prefix}{names[picture.sha256]}{suffix}", sample.question, sample.answer])
    return rows


def write_csv(path: Path, rows: Iterable[Sequence], *, names: Sequence[str] = NAMES, delimiter: str = ",") -> None:
    """Write a table with its header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(names)
        writer.writerows(rows)


def write_small_study(folder: Path, text: str = SMALL, **changed_rows: list) -> Path:
    """Write `small.yaml` with its rows and pictures; `row5=[...]` puts other values into the table's line 5.

    Lines count as a text editor counts them: the header is line 1.
    """
    rows = picture_rows(folder / "images")
    for key, values in changed_rows.items():
        rows[int(key.removeprefix("row")) - 2] = values
    write_csv(folder / "rows.csv", rows)
    study = folder / "small.yaml"
    study.write_text(text, encoding="utf-8")
    return study


def contents(directory: Path, patterns: Sequence[str] = FINISHED) -> dict[str, bytes]:
    """Read the files of a study's directory that match, by their path in it."""
    files = {file for pattern in patterns for file in directory.glob(pattern) if file.is_file()}
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in sorted(files)}

"""VQA-Med 2019 (ImageCLEF): 15,292 questions about 4,200 radiological pictures, in four categories.

Source: Ben Abacha et al. 2019, "VQA-Med: overview of the medical visual question answering task at ImageCLEF 2019".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.data.archives import folders_of
from sightline.data.conversations import read_plain
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import BadLine, Row, Table

RELEASE = Release(
    title="VQA-Med 2019",
    format="vqa_med",
    address="https://zenodo.org/records/10499039",
    files="ImageClef-2019-VQA-Med-Training.zip, ImageClef-2019-VQA-Med-Validation.zip and VQAMed2019Test.zip",
    layout=(
        "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt, QAPairsByCategory/..., Train_images/...",
        "ImageClef-2019-VQA-Med-Validation/All_QA_Pairs_val.txt, QAPairsByCategory/..., Val_images/...",
        "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt, VQAMed2019_Test_Images/...    (or .zip)",
    ),
    num_bytes=186_000_000,
    licence=None,
)

CATEGORIES = ("modality", "plane", "organ", "abnormality")
TAGS = ("category", "other_answers")

_COLUMNS = ("image", "question", "answer", *TAGS)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where one split is: its folder, its file of questions, its pictures, and the end of its categories' files."""

    folder: str
    questions: str
    images: str
    ending: str


PARTS: Mapping[str, _Part] = {
    "train": _Part("ImageClef-2019-VQA-Med-Training", "All_QA_Pairs_train.txt", "Train_images", "_train.txt"),
    "validation": _Part("ImageClef-2019-VQA-Med-Validation", "All_QA_Pairs_val.txt", "Val_images", "_val.txt"),
    "test": _Part("VQAMed2019Test", "VQAMed2019_Test_Questions_w_Ref_Answers.txt", "VQAMed2019_Test_Images", ""),
}
"""Each split's place in the release."""


def open_release(asked: Asked) -> Opened | None:
    """Open VQA-Med 2019; rows have no ids of their own and are numbered by line.

    A test question may have several right answers, separated by "#": the first is the answer, the others are tag
    `other_answers`. A part in parentheses may be left out of an answer; it is kept as it stands.

    Args:
        asked: the folder that holds the three parts (those that are there are taken), one part's folder, or its file.

    Returns:
        Its splits; None when this is not VQA-Med 2019.

    Raises:
        MissingDataError: the pictures are missing.
    """
    files = _find_files(asked.path)
    if not files:
        return None
    images = list(asked.images)
    if not asked.images:
        for split, file in files.items():
            images += _find_images(file.parent, PARTS[split]) if asked.with_pictures else [file.parent]
    tables = {split: _read_pairs(file, PARTS[split], name=asked.named(file)) for split, file in files.items()}
    return Opened(tables=tables, read_row=read_plain, images=tuple(images), tags=TAGS)


def _find_files(path: Path) -> dict[str, Path]:
    found = {}
    for split, part in PARTS.items():
        if path.is_file():
            places = [path] if path.name == part.questions else []
        else:
            places = [path / part.folder / part.questions, path / part.folder / part.folder / part.questions]
            places.append(path / part.questions)
        if file := next((place for place in places if place.is_file()), None):
            found[split] = file
    return found


def _find_images(folder: Path, part: _Part) -> tuple[Path, ...]:
    for name in (part.images, f"{part.images}.zip"):
        if (folder / name).exists():
            return folders_of(folder / name)
    raise RELEASE.missing(folder, f"no {part.images}")


def _read_pairs(file: Path, part: _Part, *, name: str) -> Table:
    """Read lines of `image|question|answer`, or of the test set's `image|category|question|answer`."""
    categories = _read_categories(file.parent / "QAPairsByCategory", part)

    def rows() -> Iterator[Row | BadLine]:
        for line in _lines(file):
            if isinstance(line, BadLine):
                yield line
                continue
            number, text, fields = line
            if len(fields) == 3:
                image, question, answer = fields
                category = categories.get((image, question), "")
            elif len(fields) == 4:
                image, category, question, answer = fields
            else:
                found = f"{len(fields)} fields between `|` where 3 are needed (or 4, with the category)"
                yield BadLine(number=number, kind="bad-csv", found=found, text=text)
                continue
            answer, *others = [one.strip() for one in answer.split("#")]
            values = {"image": image, "question": question, "answer": answer}
            tags = {"category": category, "other_answers": "#".join(others)}
            yield Row(number=number, values={**values, **{tag: value for tag, value in tags.items() if value}})

    return Table(file=name, columns=_COLUMNS, rows=rows())


def _lines(file: Path) -> Iterator[tuple[int, str, list[str]] | BadLine]:
    """Go through the lines that are not empty: number from 1, text, and fields."""
    for number, line in enumerate(file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        text = line.decode("utf-8", errors="replace").strip()
        if "\ufffd" in text:
            yield BadLine(number=number, kind="bad-encoding", found="bytes that are not UTF-8", text=text)
        else:
            yield number, text, [field.strip() for field in text.split("|")]


def _read_categories(folder: Path, part: _Part) -> dict[tuple[str, str], str]:
    """Read which category a question of a picture belongs to; the release has one file for each category."""
    categories = {}
    for place, category in enumerate(CATEGORIES, start=1):
        for file in folder.glob(f"C{place}_*{part.ending}") if part.ending else ():
            for line in _lines(file):
                if not isinstance(line, BadLine) and len(line[2]) == 3:
                    categories[line[2][0], line[2][1]] = category
    return categories

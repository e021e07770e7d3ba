"""One row's fields, checked: whatever is wrong is gathered, so that one fault never hides another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sightline.data.album import Album
from sightline.data.pictures import PictureError
from sightline.data.problems import REMEDIES, Problem, shown
from sightline.data.rows import BadLine, Row
from sightline.records import Picture

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class RowReader:
    """Reads the fields of one row and gathers everything that is wrong with it.

    Args:
        file: the row's file, for messages.
        row: the row.
        id: the row's id.
        needs_picture: a row whose picture is left out is at fault; False takes it as text alone.
    """

    file: str
    row: Row
    id: str
    needs_picture: bool = True
    problems: list[Problem] = field(default_factory=list)

    def report(self, kind: str, found: str, *, image: str = "", repaired: bool = False) -> None:
        """Note a problem of the row."""
        problem = Problem(
            file=self.file, row=self.row.number, id=self.id, kind=kind, found=found, remedy=REMEDIES[kind],
            repaired=repaired, image=image,
        )  # fmt: skip
        self.problems.append(problem)

    @property
    def at_fault(self) -> bool:
        """Whether anything was noted that is no mere repair."""
        return not all(problem.repaired for problem in self.problems)

    def checked(self, text: str, what: str) -> str:
        """Report characters of a text that no tokenizer or file can keep; return the text, stripped."""
        if "\0" in text:
            self.report("nul-byte", f"the {what} holds a NUL character")
        if not text.isascii() and _SURROGATE.search(text):
            self.report("lone-surrogate", f"the {what} holds half of a surrogate pair")
        return text.strip()

    def text(self, column: str, what: str) -> str:
        """Read a text that must be there; numbers are taken as answers only."""
        if column not in self.row.values:
            self.report("missing-key", f"no {shown(column)}, the column of the {what}")
            return ""
        value = self.row.values[column]
        if what == "answer" and isinstance(value, int | float) and not isinstance(value, bool) and value == value:
            value = str(value)
        if not isinstance(value, str):
            self.report("wrong-type", f"{shown(column)} is {shown(value)}, not a text")
            return ""
        text = self.checked(value, what)
        if not text:
            self.report(f"empty-{what}", f"{shown(column)} is empty")
        return text

    def tags(self, columns: Iterable[str]) -> dict[str, str]:
        """Read the facts of the row by which results can be filtered; absent ones are left out."""
        found = {column: self.row.values.get(column) for column in columns}
        return {
            column: self.checked(str(value), f"tag {shown(column)}")
            for column, value in found.items()
            if value is not None and isinstance(value, str | int | float)
        }

    def has_picture(self, column: str | None) -> bool:
        """Say whether the row names a picture; reports one that is left out where it must not be."""
        if column is None:
            return False
        value = self.row.values.get(column)
        is_blank = isinstance(value, str) and not value.strip()
        if value not in (None, [], {"bytes": None, "path": None}) and not is_blank:
            return True
        if self.needs_picture:
            self.report(
                "missing-key",
                f"{shown(column)}, the column of the image, is empty (where rows of text alone are meant, say so: "
                f"`columns: {{image: [{column}, null]}}`)",
            )
        return False

    def pictures(self, value: object, album: Album) -> tuple[Picture, ...]:
        """Read the row's picture or list of pictures; reports every one that cannot be used, and every repair."""
        values = list(value) if isinstance(value, list | tuple) else [value]
        pictures = []
        for index, one in enumerate(values):
            name = f"{self.id}.{index}" if len(values) > 1 else self.id
            written = one if isinstance(one, str | int) else (one.get("path") if isinstance(one, Mapping) else None)
            image = str(written or "")
            try:
                picture, repairs = album.picture(one, name=name)
            except PictureError as error:
                self.report(error.kind, error.found, image=image)
                continue
            for repair in repairs:
                self.report(repair, f"a picture that is {_REPAIRED[repair]}", image=image, repaired=True)
            pictures.append(picture)
        return tuple(pictures)


_REPAIRED = {
    "cmyk": "CMYK",
    "16-bit": "wider than 8 bits",
    "exif-rotated": "stored rotated or mirrored",
    "animated-first-frame": "animated or of several pages",
}


def salvage_id(line: BadLine, column: str | None) -> str:
    """Find the id in a line that cannot be parsed, so that its message can name it."""
    if column and (match := re.search(re.escape(f'"{column}"') + r'\s*:\s*"?([^",}\s]+)', line.text)):
        return match[1]
    return str(line.number)

"""What the model will see, as one HTML page: rows token by token, and the tree of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sightline.report.page import render_page
from sightline.report.pictures import Thumbnail, thumbnail
from sightline.report.tokens import Piece, ShownRow, ShownTree
from sightline.report.wording import count, rounded

MOST_PIECES = 3_000
"""Tokens of one stretch that a page shows; more would make it slow to open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What `sightline show` shows.

    Args:
        title: the study's name.
        data: the sets, as `set.split`.
        step: the run that learns from them; None where they are only asked about.
        num_rows: all rows of the sets.
        facts: name and value of what decides how a row becomes tokens.
        rows: the rows that are shown.
        tree: of the first row's image.
    """

    title: str
    data: str
    step: str | None
    num_rows: int
    facts: tuple[tuple[str, str], ...]
    rows: tuple[ShownRow, ...]
    tree: ShownTree


def show_page(shown: Shown, folder: Path) -> str:
    """Write the page.

    Args:
        shown: what is on it.
        folder: where relative paths of pictures start.

    Returns:
        One HTML document that needs no other file.
    """
    return render_page(
        "show.html.j2",
        title=shown.title,
        styles=("show.css",),
        script="show.js",
        functions={"count": count, "tone": _tone, "cut": _cut},
        shown=shown,
        saved=_saved(shown.tree),
        thumbnails=_thumbnails(shown, folder),
        fewer=rounded(shown.tree.num_logical / shown.tree.num_executed, 1),
    )


def _tone(piece: Piece) -> str:
    """The classes by which the style sheet knows a token."""
    classes = [piece.kind]
    classes += ["special"] if piece.special and piece.picture is None else []
    classes += ["wrong"] if piece.picture is not None and piece.num_trained else []
    return " ".join(classes)


def _cut(pieces: tuple[Piece, ...]) -> tuple[tuple[Piece, ...], int, tuple[Piece, ...]]:
    """Leave the middle of a long stretch out: its beginning, how many are left out, its end."""
    if len(pieces) <= MOST_PIECES:
        return pieces, 0, ()
    half = MOST_PIECES // 2
    return pieces[:half], len(pieces) - 2 * half, pieces[-half:]


def _saved(tree: ShownTree) -> float:
    """Width of the tree beside the rows laid out one by one, in percent."""
    return round(100 * tree.num_executed / tree.num_logical, 2)


def _thumbnails(shown: Shown, folder: Path) -> dict[str, Thumbnail]:
    """Small copies of all pictures on the page, each once, by the picture's hash."""
    copies: dict[str, Thumbnail | None] = {}
    for picture in [picture for row in shown.rows for picture, _ in row.pictures] + list(shown.tree.pictures):
        if picture.sha256 not in copies:
            copies[picture.sha256] = thumbnail(picture, folder, key=f"picture-{len(copies)}")
    return {name: copy for name, copy in copies.items() if copy is not None}

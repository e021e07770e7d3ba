"""Sequences and trees as a person reads them: every token with its text, what is done with it, and who shares it.

Shapes: T row tokens, A position axes, L tokens of one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.records import Picture
from sightline.report.wording import clean
from sightline.trees.render import Rendered
from sightline.trees.row import build_tree

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens included."""

PART = "◌"
"""Stands for a token that holds only a part of a character; the character stands at the token that completes it."""

_CONTEXT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a tokenizer says of its ids.

    Args:
        decode: ids to text.
        special: ids that are no text of their own, such as the end token.
        ends: ids that end an answer.
    """

    decode: Decode
    special: frozenset[int]
    ends: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token of text, or all tokens of a picture.

    Args:
        text: what it adds to the sequence's text; "" where it holds a part of a character.
        kind: "trained" where its log-probability counts, "picture", or "read" for what is only read.
        place: of its first token in its sequence, from 0.
        count: its tokens; 1 for text.
        token_id: in the vocabulary.
        position: what the model is told of its place: a number, or a range for each axis.
        num_trained: how many of its tokens are targets; for a picture, none should be.
        special: whether it is a special token.
        picture: which of the sample's pictures it shows, from 0; None for text.
    """

    text: str
    kind: Literal["trained", "picture", "read"]
    place: int
    count: int
    token_id: int
    position: str
    num_trained: int
    special: bool
    picture: int | None

    @property
    def shown(self) -> str:
        """Its text with blanks, line ends and whatever a screen would obey made visible."""
        if self.picture is not None:
            return f"[image {self.picture + 1}: {self.count} tokens]"
        text = self.text.replace(" ", "␣") if self.text and not self.text.strip(" ") else self.text
        return clean(text.replace("\r", "␍").replace("\n", "⏎\n").replace("\t", "⇥")) or PART

    @property
    def facts(self) -> str:
        """Token number, id, position and what is done with it, for a reader who asks."""
        if self.picture is not None:
            done = f"{self.num_trained} of them trained" if self.num_trained else "not trained"
            last = self.place + self.count - 1
            return f"tokens {self.place}–{last}, id {self.token_id}, position {self.position}, {done}"
        done = "trained" if self.num_trained else "not trained"
        part = ", part of the next character" if not self.text else ", special" if self.special else ""
        return f"token {self.place}, id {self.token_id}, position {self.position}, {done}{part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """One sample as the model sees it.

    Args:
        name: where it came from, as file:row.
        note: what else to know of it, such as its wording.
        pictures: with the number of tokens of each.
        pieces: first to last.
        num_tokens: of the sequence.
        num_trained: tokens that are targets.
        end: what becomes of the answer's end token; "" for a prompt without an answer.
    """

    name: str
    note: str
    pictures: tuple[tuple[Picture, int], ...]
    pieces: tuple[Piece, ...]
    num_tokens: int
    num_trained: int
    end: Literal["trained", "not trained", "missing", ""]

    @property
    def text(self) -> str:
        """The rendered conversation; a picture is one image token, as the template writes it."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Tokens that the same rows share.

    Args:
        pieces: the tokens.
        num_tokens: in them.
        num_rows: how many rows share them.
        ends: names of the rows that end here.
        below: what follows, where the rows part.
    """

    pieces: tuple[Piece, ...]
    num_tokens: int
    num_rows: int
    ends: tuple[str, ...]
    below: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTree:
    """The tree of one image.

    Args:
        pictures: what the rows are about.
        num_rows: all rows about it.
        num_logical: their tokens, counted as if nothing were shared.
        num_executed: tokens of the tree.
        roots: the first `num_drawn` rows' tokens.
        num_drawn: rows that `roots` holds.
    """

    pictures: tuple[Picture, ...]
    num_rows: int
    num_logical: int
    num_executed: int
    roots: tuple[Stretch, ...]
    num_drawn: int


def show_row(
    sequence: Rendered, vocabulary: Vocabulary, *, name: str, pictures: Sequence[Picture], asked: bool, note: str = ""
) -> ShownRow:
    """Make a sequence readable.

    Args:
        sequence: the tokens.
        vocabulary: the tokenizer's.
        name: where the sample came from.
        pictures: the sample's, in the order the sequence counts them.
        asked: whether it is a prompt to be answered, so that there is no answer yet.
        note: what else to know of the row.
    """
    counts = np.bincount(sequence.picture_L[sequence.picture_L >= 0], minlength=len(pictures))
    end: Literal["trained", "not trained", "missing", ""] = ""
    if not asked:
        is_end = int(sequence.token_ids_L[-1]) in vocabulary.ends and len(sequence) > sequence.num_prompt
        end = "missing" if not is_end else "trained" if sequence.weight_L[-1] else "not trained"
    return ShownRow(
        name=name,
        note=note,
        pictures=tuple(zip(pictures, counts.tolist(), strict=True)),
        pieces=_pieces(sequence, _texts(sequence, vocabulary), sequence.weight_L != 0, vocabulary, 0, len(sequence)),
        num_tokens=len(sequence),
        num_trained=int(np.count_nonzero(sequence.weight_L)),
        end=end,
    )


def show_tree(
    sequences: Sequence[Rendered],
    vocabulary: Vocabulary,
    *,
    names: Sequence[str],
    pictures: Sequence[Picture],
    most_rows: int,
) -> ShownTree:
    """Make the tree of an image readable.

    Args:
        sequences: the image's rows, at least one.
        vocabulary: the tokenizer's.
        names: where each row came from.
        pictures: what they are about.
        most_rows: how many of them are drawn; all are counted.
    """
    whole = build_tree(sequences, range(len(sequences)))
    drawn = build_tree(sequences[:most_rows], range(len(sequences[:most_rows])))
    texts = [_texts(sequence, vocabulary) for sequence in sequences[:most_rows]]
    # A shared token is trained if any of its rows trains it.
    trained_T = np.zeros(len(drawn), dtype=bool)
    for sequence, path in zip(sequences, drawn.paths, strict=False):
        trained_T[path] |= sequence.weight_L != 0

    def grown(members: Iterable[int], start: int) -> tuple[Stretch, ...]:
        groups: dict[int, list[int]] = {}
        for member in members:
            if len(drawn.paths[member]) > start:
                groups.setdefault(int(drawn.paths[member][start]), []).append(member)
        made = []
        for group in groups.values():
            paths = [drawn.paths[member] for member in group]
            shortest = min(map(len, paths))
            same = (np.stack([path[start:shortest] for path in paths]) == paths[0][start:shortest]).all(axis=0)
            stop = start + (int(np.argmin(same)) if not same.all() else shortest - start)
            first = group[0]
            made.append(
                Stretch(
                    pieces=_pieces(sequences[first], texts[first], trained_T[paths[0]], vocabulary, start, stop),
                    num_tokens=stop - start,
                    num_rows=len(group),
                    ends=tuple(names[member] for member in group if len(drawn.paths[member]) == stop),
                    below=grown(group, stop),
                )
            )
        return tuple(made)

    return ShownTree(
        pictures=tuple(pictures),
        num_rows=len(sequences),
        num_logical=whole.num_logical_tokens,
        num_executed=len(whole),
        roots=grown(range(len(drawn.paths)), 0),
        num_drawn=len(drawn.paths),
    )


def token_texts(token_ids: Sequence[int], apart: Sequence[bool], decode: Decode) -> list[str]:
    """Say what each token adds to the text.

    Tokenizers drop a blank at the start and need all bytes of a character at once, so each token is decoded with
    some before it; one that leaves a character open has the text "", and the character stands at its last token.

    Args:
        token_ids: of one sequence.
        apart: which tokens are no text, such as special and image tokens; they are written as they are called.
        decode: the tokenizer's.
    """
    ids = list(token_ids)
    texts = [""] * len(ids)
    begin = done = 0
    before = ""
    for place, token_id in enumerate(ids):
        if apart[place]:
            if done < place:
                texts[place - 1] = decode(ids[done:place])
            texts[place] = before = decode([token_id])
            begin, done = place, place + 1
            continue
        text = decode(ids[begin : place + 1])
        if text.endswith("\ufffd") and place + 1 < len(ids):
            continue
        texts[place] = text[len(before) :] if text.startswith(before) else decode(ids[done : place + 1])
        done = place + 1
        if done - begin > 2 * _CONTEXT:
            begin = done - _CONTEXT
        before = decode(ids[begin:done])
    return texts


def _texts(sequence: Rendered, vocabulary: Vocabulary) -> list[str]:
    apart = (sequence.picture_L >= 0) | np.isin(sequence.token_ids_L, list(vocabulary.special))
    return token_texts(sequence.token_ids_L.tolist(), apart.tolist(), vocabulary.decode)


def _pieces(
    sequence: Rendered,
    texts: Sequence[str],
    trained_L: NDArray[np.bool_],
    vocabulary: Vocabulary,
    start: int,
    stop: int,
) -> tuple[Piece, ...]:
    """Give the tokens from `start` to `stop`, a picture's run as one piece."""
    picture_L = sequence.picture_L
    pieces = []
    place = start
    while place < stop:
        end = place + 1
        picture = int(picture_L[place])
        # A picture begins where its offsets do: the same one may stand twice in a row.
        while picture >= 0 and end < stop and picture_L[end] == picture and sequence.offset_L[end] > 0:
            end += 1
        num_trained = int(trained_L[place:end].sum())
        pieces.append(
            Piece(
                text=texts[place],
                kind="picture" if picture >= 0 else "trained" if num_trained else "read",
                place=place,
                count=end - place,
                token_id=int(sequence.token_ids_L[place]),
                position=_position(sequence.positions_AL[:, place:end]),
                num_trained=num_trained,
                special=int(sequence.token_ids_L[place]) in vocabulary.special,
                picture=picture if picture >= 0 else None,
            )
        )
        place = end
    return tuple(pieces)


def _position(positions_AN: NDArray[np.int64]) -> str:
    """Write positions as one number or range, or as one for each axis where they differ."""
    axes = []
    for low, high in zip(positions_AN.min(axis=1).tolist(), positions_AN.max(axis=1).tolist(), strict=True):
        axes.append(f"{low}" if low == high else f"{low}–{high}")
    return axes[0] if len(set(axes)) == 1 else f"({', '.join(axes)})"

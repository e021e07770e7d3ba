"""Tokens as a person reads them: whole characters, pictures as one piece, and what the rows of an image share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from sightline.records import Picture
from sightline.report.tokens import Stretch, Vocabulary, show_row, show_tree, token_texts
from sightline.trees.render import Rendered

BEGIN, END, IMAGE = 300, 301, 302
SPECIAL = {BEGIN: "<s>", END: "</s>", IMAGE: "<image>"}
PICTURE = Picture(name="a.png", sha256="a", width=8, height=6)


def decode(ids: Sequence[int]) -> str:
    """A tokenizer of bytes that, like SentencePiece, drops a blank at the start of what it is given."""
    parts: list[bytes] = [SPECIAL[i].encode() if i in SPECIAL else bytes([i]) for i in ids]
    return b"".join(parts).decode("utf-8", errors="replace").removeprefix(" ")


VOCABULARY = Vocabulary(decode=decode, special=frozenset({BEGIN, END}), ends=frozenset({END}))


def sequence(prompt: str, answer: str, *, end: bool = True, train_all: bool = False, images: int = 3) -> Rendered:
    text = list(prompt.encode())
    ids = np.array([BEGIN, *[IMAGE] * images, *text, *answer.encode(), *[END] * end])
    num_prompt = 1 + images + len(text)
    is_image = ids == IMAGE
    learnt = ~is_image if train_all else np.arange(len(ids)) >= num_prompt
    return Rendered(
        token_ids_L=ids,
        positions_AL=np.arange(len(ids))[None],
        picture_L=np.where(is_image, 0, -1),
        offset_L=np.where(is_image, np.arange(len(ids)) - 1, 0),
        weight_L=learnt.astype(np.float64),
        num_prompt=num_prompt,
        pictures=("a",),
    )


@pytest.mark.parametrize("text", ["Is it?", " two  blanks", "naïve", "日本", "a\n\tb", "x" * 40 + "é", "é"])
def test_the_texts_of_tokens_make_up_the_text(text: str):
    ids = [BEGIN, *text.encode(), END]
    texts = token_texts(ids, [i in SPECIAL for i in ids], decode)
    assert "".join(texts) == f"<s>{text}</s>"


def test_a_character_of_several_tokens_stands_at_its_last():
    assert token_texts(list("né!".encode()), [False] * 4, decode) == ["n", "", "é", "!"]


def test_a_character_that_never_ends_is_not_lost():
    assert token_texts([0xC3, END], [False, True], decode) == ["\ufffd", "</s>"]


def test_the_texts_of_the_builtin_tokenizer_make_up_what_it_decodes():
    family = pytest.importorskip("sightline.models.loading").load_family("builtin:tiny")
    tokenizer = family.chat.tokenizer
    ids = tokenizer("USER: Où est le nœud? 肺 \u202e \U0001fac1 ASSISTANT: là</s>").input_ids

    def whole(some: Sequence[int]) -> str:
        return tokenizer.decode(list(some), skip_special_tokens=False)

    special = set(tokenizer.all_special_ids)
    assert "".join(token_texts(ids, [i in special for i in ids], whole)) == whole(ids)


def test_a_row_says_what_is_trained_and_what_its_pictures_take():
    row = show_row(sequence("Hi ", "no"), VOCABULARY, name="d.csv:2", pictures=[PICTURE], asked=False)
    assert [piece.shown for piece in row.pieces] == ["<s>", "[image 1: 3 tokens]", "H", "i", "␣", "n", "o", "</s>"]
    assert [piece.kind for piece in row.pieces] == ["read", "picture", *["read"] * 3, *["trained"] * 3]
    assert (row.num_tokens, row.num_trained, row.end) == (10, 3, "trained")
    assert row.pictures == ((PICTURE, 3),)
    assert row.text == "<s><image>Hi no</s>"
    assert row.pieces[1].facts == "tokens 1–3, id 302, position 1–3, not trained"
    assert row.pieces[-1].facts == "token 9, id 301, position 9, trained, special"


@pytest.mark.parametrize(
    ("rendered", "asked", "end"),
    [
        (sequence("Q", "a", end=False), False, "missing"),
        (sequence("Q", "a"), True, ""),
        (sequence("Q", "a"), False, "trained"),
    ],
)
def test_what_becomes_of_the_end_token_is_said(rendered: Rendered, asked: bool, end: str):
    assert show_row(rendered, VOCABULARY, name="", pictures=[PICTURE], asked=asked).end == end


def test_an_end_token_that_is_there_but_not_trained_is_told_from_a_trained_one():
    rendered = sequence("Q", "a")
    rendered.weight_L[-1] = 0
    assert show_row(rendered, VOCABULARY, name="", pictures=[PICTURE], asked=False).end == "not trained"


def test_trained_image_tokens_are_counted():
    rendered = sequence("Q", "a")
    rendered.weight_L[1:3] = 1
    piece = show_row(rendered, VOCABULARY, name="", pictures=[PICTURE], asked=False).pieces[1]
    assert (piece.kind, piece.num_trained) == ("picture", 2) and piece.facts.endswith("2 of them trained")


def test_the_same_picture_twice_in_a_row_is_two_pieces():
    rendered = sequence("", "a", images=4)
    rendered.offset_L[1:5] = [0, 1, 0, 1]
    pieces = show_row(rendered, VOCABULARY, name="", pictures=[PICTURE], asked=False).pieces
    assert [piece.shown for piece in pieces[1:3]] == ["[image 1: 2 tokens]"] * 2


def test_positions_of_several_axes_are_each_given():
    rendered = sequence("Q", "a")
    positions = np.stack([np.where(np.arange(7) < 4, 1, np.arange(7)), np.arange(7), np.arange(7)])
    three = dataclasses.replace(rendered, positions_AL=positions)
    pieces = show_row(three, VOCABULARY, name="", pictures=[PICTURE], asked=False).pieces
    assert [piece.position for piece in pieces[1:3]] == ["(1, 1–3, 1–3)", "4"]


@pytest.mark.parametrize(
    ("text", "shown"), [("\n", "⏎\n"), (" ", "␣"), ("\t", "⇥"), ("\x1b", "␛"), ("\u202e", "⟨U+202E⟩"), ("", "◌")]
)
def test_nothing_is_invisible_or_obeyed(text: str, shown: str):
    (piece, *_) = show_row(sequence("Q", "a"), VOCABULARY, name="", pictures=[PICTURE], asked=True).pieces[2:]
    assert dataclasses.replace(piece, text=text).shown == shown


def drawn(stretches: Sequence[Stretch]) -> list[object]:
    return [
        ("".join(piece.text for piece in each.pieces), each.num_rows, list(each.ends), drawn(each.below))
        for each in stretches
    ]


def test_the_tree_shows_what_is_shared_and_where_rows_part():
    rows = [sequence("ab", "x"), sequence("ab", "y"), sequence("c", "x"), sequence("ab", "x")]
    tree = show_tree(rows, VOCABULARY, names=["1", "2", "3", "4"], pictures=[PICTURE], most_rows=4)
    shared = ("ab", 3, [], [("x</s>", 2, ["1", "4"], []), ("y</s>", 1, ["2"], [])])
    assert drawn(tree.roots) == [("<s><image>", 4, [], [shared, ("cx</s>", 1, ["3"], [])])]
    assert (tree.num_rows, tree.num_drawn, tree.num_logical) == (4, 4, 4 * 4 + 3 * 4 + 3)
    assert tree.num_executed == 4 + 2 + 2 + 2 + 3


def test_a_row_that_ends_where_others_go_on_ends_there():
    rows = [sequence("ab", "", end=False), sequence("ab", "x", end=False)]
    tree = show_tree(rows, VOCABULARY, names=["1", "2"], pictures=[PICTURE], most_rows=2)
    assert drawn(tree.roots) == [("<s><image>ab", 2, ["1"], [("x", 1, ["2"], [])])]


def test_of_many_rows_the_first_are_drawn_and_all_are_counted():
    rows = [sequence("a", chr(ord("a") + number)) for number in range(20)]
    tree = show_tree(rows, VOCABULARY, names=list(map(str, range(20))), pictures=[PICTURE], most_rows=3)
    assert (tree.num_rows, tree.num_drawn, tree.num_executed) == (20, 3, 5 + 40)
    assert len(tree.roots[0].below) == 3


def test_a_shared_token_is_trained_if_any_row_trains_it():
    rows = [sequence("a", "x", train_all=True), sequence("a", "y")]
    (root,) = show_tree(rows, VOCABULARY, names=["1", "2"], pictures=[PICTURE], most_rows=2).roots
    assert [piece.kind for piece in root.pieces] == ["trained", "picture", "trained"]

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.scoring.normalise import llava_med_words, normalise, parse_yes_no

YES_NO_TABLE = {
    "yes": "yes",
    "Yes.": "yes",
    "YES!": "yes",
    "yes, there is": "yes",
    "Yes, it is normal": "yes",
    "The answer is: yes": "yes",
    "yes\nyes": "yes",
    "“Yes”": "yes",
    "**Yes**": "yes",
    "no": "no",
    "NO\n": "no",
    "no;": "no",
    "No acute cardiopulmonary process": "no",
    "No, there is no effusion": "no",
    "There is no nodule.": "no",
    "non-contrast: no": "no",
    "": None,
    "normal": None,
    "nodule": None,
    "not": None,
    "It is not enlarged": None,
    "I do not know": None,
    "none": None,
    "cannot say": None,
    "abnormal": None,
    "yesterday": None,
    "eyes": None,
    "yes and no": None,
    "No. Yes, on the left": None,
    "yes/no": None,
    "ye s": None,
    "n.o.": None,
    "Nein": None,
}


@pytest.mark.parametrize(("text", "said"), YES_NO_TABLE.items())
def test_yes_and_no_are_read_by_word(text: str, said: str | None) -> None:
    assert parse_yes_no(text) == said


WORDS_WITHOUT_YES_OR_NO = st.text(alphabet=string.ascii_letters + string.digits, min_size=1).filter(
    lambda word: word.lower() not in {"yes", "no"}
)
PUNCTUATION = st.text(alphabet=" \t\n" + string.punctuation, min_size=1)


@given(
    st.lists(st.tuples(WORDS_WITHOUT_YES_OR_NO, PUNCTUATION)), st.sampled_from(["yes", "no", "Yes", "NO"]), st.data()
)
def test_one_word_decides_whatever_stands_around_it(
    around: list[tuple[str, str]], word: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(around)))
    pieces = [piece + gap for piece, gap in around]
    assert parse_yes_no("".join(pieces)) is None
    pieces.insert(place, data.draw(PUNCTUATION) + word + data.draw(PUNCTUATION))
    assert parse_yes_no("".join(pieces)) == word.lower()
    other = "no" if word.lower() == "yes" else "yes"
    assert parse_yes_no("".join(pieces) + f" {other}") is None


@given(st.text())
def test_any_text_is_read_without_error_and_normalised_once_for_all(text: str) -> None:
    assert parse_yes_no(text) in {"yes", "no", None}
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The left lung.", "left lung"),
        ("  X-ray,\tof the chest ", "x ray of chest"),
        ("An ABSCESS in a lobe", "abscess in lobe"),
        ("“T2-weighted”", "t2 weighted"),
        ("anatomy", "anatomy"),
        ("A", "a"),
        ("the", "the"),
        ("?", ""),
    ],
)
def test_normalise(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The right-sided lesion.", ["right", "sided", "lesion"]),
        ("x-ray -like", ["xray", "like"]),
        ("1,200 mg/ml", ["1200", "mgml"]),
        ("3.5 cm.", ["3.5", "cm"]),
        ("none", ["0"]),
        ("Two nodules", ["2", "nodules"]),
        ("it isnt a mass", ["it", "isn't", "mass"]),
        ("CT (axial)", ["ct", "axial"]),
    ],
)
def test_llava_med_words(text: str, words: list[str]) -> None:
    assert llava_med_words(text) == words

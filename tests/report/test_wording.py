"""What people see of texts and numbers."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.report.wording import (
    MISSING,
    change,
    clean,
    duration,
    level,
    markdown_text,
    p_value,
    rounded,
    shortened,
)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.25, 1, "0.2"),
        (0.35, 1, "0.4"),
        (2.5, 0, "2"),
        (3.5, 0, "4"),
        (-0.04, 1, "0.0"),
        (-12.25, 1, "−12.2"),
        (12345.678, 1, "12,345.7"),
    ],
)
def test_numbers_are_rounded_half_even(value: float, digits: int, text: str):
    assert rounded(value, digits) == text


def test_rates_become_percent_without_binary_dust():
    # 0.1235 * 100 is 12.350000000000001 in binary, which would round up.
    assert level(0.1225, "rate") == "12.2"
    assert level(0.1235, "rate") == "12.4"
    assert change(0.0665, "rate") == "+6.6"


def test_changes_carry_their_sign_and_zero_carries_none():
    assert change(0.067, "rate") == "+6.7"
    assert change(-0.04, "rate") == "−4.0"
    assert change(0.0004, "rate") == "0.0"
    assert change(-1.23456, "nats") == "−1.235"


def test_p_values_have_three_decimals():
    assert p_value(0.0004) == "< .001"
    assert p_value(0.0415) == "= .042"
    assert p_value(0.0425) == "= .042"
    assert p_value(1.0) == "= 1.000"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_shown_as_one(value: float | None):
    assert level(value, "rate") == change(value, "nats") == p_value(value) == MISSING


def test_times_are_in_the_unit_a_person_would_use():
    assert [duration(x) for x in (0.0123, 3.25, 61, 7322)] == ["0.012 s", "3.2 s", "1 min 01 s", "2 h 02 min"]


def test_control_and_direction_characters_are_spelt_out():
    assert clean("a\x1b[31mb") == "a␛[31mb"
    assert clean("x\u202egnp.exe") == "x⟨U+202E⟩gnp.exe"
    assert clean("nul\0, bell\x07, delete\x7f") == "nul␀, bell␇, delete␡"
    assert clean("half \ud800 pair") == "half \ufffd pair"
    assert clean("line\r\nnext\ttab") == "line\nnext\ttab"


def test_scripts_that_need_joiners_keep_them():
    assert clean("می\u200cخواهم") == "می\u200cخواهم"
    assert clean("naïve, 肺炎, µm") == "naïve, 肺炎, µm"


@given(st.text(alphabet=st.characters(), max_size=60))
def test_cleaned_text_can_be_written_and_hides_nothing(text: str):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    categories = {unicodedata.category(c) for c in cleaned if c not in "\n\t\u00ad\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert clean(cleaned) == cleaned


def test_long_texts_say_how_much_is_missing():
    assert shortened("x" * 2_000) == "x" * 2_000
    assert shortened("x" * 1_000_000) == "x" * 2_000 + " … (998,000 more characters left out)"


@pytest.mark.parametrize(
    "text",
    [
        "![beacon](https://x.test/a.png)",
        "[link](https://x.test)",
        "https://x.test",
        "www.x.test",
        "<img src=x>",
        "a | b",
    ],
)
def test_nothing_in_markdown_acts(text: str):
    unescaped = re.sub(r"\\.", "", markdown_text(text))
    assert not re.search(r"[\[\]<>|*_`]|://|www\.", unescaped)


def test_markdown_keeps_one_line_and_plain_words():
    assert markdown_text("improved: +6.7 points\n(95% CI)") == "improved: +6.7 points (95% CI)"
    assert markdown_text("# not a heading") == "\\# not a heading"
    assert markdown_text("1. no list") == "1\\. no list"

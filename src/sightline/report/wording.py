"""How text and numbers are shown to people: cleaned, cut, rounded. Nothing here is computed with again.

Rounding is half-even throughout; the report's footer says so.
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import ROUND_HALF_EVEN, Decimal

LONGEST_TEXT = 2_000
MISSING = "–"
MINUS = "\u2212"

# Joiners that many scripts need; every other invisible format character could reorder or hide text.
_HARMLESS_FORMAT_CHARACTERS = {"\u00ad", "\u200c", "\u200d"}
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$]|:(?=//)|^[#+=-]|(?<=^\d)[.)])")
_AUTOLINK = re.compile(r"www\.", re.IGNORECASE)


def _visible(character: str) -> str:
    code = ord(character)
    category = unicodedata.category(character)
    if character in "\n\t":
        return character
    if category in ("Zl", "Zp"):
        return "\n"
    if category == "Cs":
        return "\ufffd"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if category == "Cc" or (category == "Cf" and character not in _HARMLESS_FORMAT_CHARACTERS):
        return f"⟨U+{code:04X}⟩"
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return f"⟨U+{code:04X}⟩"
    return character


def clean(text: str) -> str:
    """Make control, bidirectional and broken characters visible, so that text cannot pose as something else.

    Args:
        text: anything a model or a file produced, of any length.

    Returns:
        The same text, with newlines and tabs kept and every other control or format character spelt out.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text.replace("\r\n", "\n")))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Cut a text for display and say how much is missing.

    Args:
        text: anything, of any length.
        longest: characters to keep.

    Returns:
        The text itself, or its beginning followed by the number of characters left out.
    """
    if len(text) <= longest:
        return text
    return f"{text[:longest]} … ({len(text) - longest:,} more characters left out)"


def rounded(value: float, digits: int, *, shift: int = 0) -> str:
    """Round half-even to a fixed number of decimals, with thousands separators and a true minus sign.

    Args:
        value: any finite number.
        digits: decimals to show.
        shift: powers of ten to multiply by first, exactly (2 turns a rate into percent).

    Returns:
        The number as text; zero never carries a sign.
    """
    quantum = Decimal(1).scaleb(-digits)
    number = Decimal(repr(float(value))).scaleb(shift).quantize(quantum, rounding=ROUND_HALF_EVEN)
    text = f"{abs(number):,}"
    return f"{MINUS}{text}" if number < 0 else text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def level(value: float | None, unit: str) -> str:
    """Show a metric's value: percent with one decimal for rates, three decimals otherwise."""
    if value is None or not _is_number(value):
        return MISSING
    return rounded(value, 1, shift=2) if unit == "rate" else rounded(value, 3)


def change(value: float | None, unit: str) -> str:
    """Show a difference with its sign: points with one decimal for rates, three decimals otherwise."""
    text = level(value, unit)
    if text == MISSING or text.startswith(MINUS) or not text.strip("0.,"):
        return text
    return f"+{text}"


def unit_name(unit: str, *, of_change: bool) -> str:
    """Name the unit of a value (percent) or of a change (points)."""
    if unit == "rate":
        return "points" if of_change else "%"
    return unit


def p_value(p: float | None) -> str:
    """Show a p value with three decimals, "< .001" below that."""
    if p is None or not _is_number(p):
        return MISSING
    if p < 0.001:
        return "< .001"
    text = rounded(p, 3)
    return f"= {text[1:] if text.startswith('0') else text}"


def count(number: float | None) -> str:
    """Show a count with thousands separators."""
    return MISSING if number is None or not _is_number(number) else f"{int(number):,}"


def duration(seconds: float) -> str:
    """Show a time in the unit a person would use."""
    if seconds < 60:
        return f"{rounded(seconds, 1 if seconds >= 0.1 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def markdown_text(text: object) -> str:
    """Escape a text for one line or table cell of Markdown: no markup, no link, no picture, no HTML survives."""
    line = " ".join(clean(shortened(str(text))).split())
    # Renderers turn bare www. addresses into links even where every bracket is escaped.
    return _AUTOLINK.sub(r"www\\.", _MARKDOWN_SPECIAL.sub(r"\\\1", line))

"""The figures and headers of a published table, as people write them: percent signs, decimal commas, marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sightline.data.problems import shown
from sightline.errors import DataError

CONFUSION_NAMES: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("accuracy", "acc"),
    "precision": ("precision", "prec", "ppv"),
    "recall": ("recall", "sensitivity", "tpr"),
    "specificity": ("specificity", "tnr"),
    "f1": ("f1", "f1_score"),
    "yes_ratio": ("yes_ratio", "yes_rate"),
    "tp": ("tp", "num_tp"),
    "fp": ("fp", "num_fp"),
    "fn": ("fn", "num_fn"),
    "tn": ("tn", "num_tn"),
}
"""Metrics of a yes/no set to the names that columns have; what stands before such a name says which part is meant."""

COUNT_METRICS = ("tp", "fp", "fn", "tn")
MODEL_NAMES = ("model", "method", "system", "approach")
"""How the column is called that says whose row it is."""

PARTS_ALONE: Mapping[str, tuple[str, ...]] = {"closed": ("closed", "closed_ended"), "open": ("open", "open_ended")}
"""Parts of the questions that tables use as the name of a column, meaning what is right of them."""

SIZE_OF_PART = "n_"
"""How the name of a column begins that says how many questions a part has."""

RATE_ENDINGS = ("rate", "ratio", "share", "em", "exact_match", "accuracy", "acc")
"""How the name of a column ends that holds a share of the questions."""

AREA_ENDINGS = ("auc", "auroc", "auc_roc", "aucroc")
"""How the name of a column ends that holds areas under the ROC curve."""

NAMES_OF_RIGHT = ("correct", "right", "hits")
"""How a column may be called that holds the number of right answers."""

MISSING = {"", "-", "–", "—", "n/a", "na"}
"""What stands in a cell without a figure."""

_SPREAD = re.compile(r"\s*(?:±|\+/-|\+-|\\pm)\s*[\d.,]+\s*%?$")
_END = r"([-\u2212]?\d+(?:[.,]\d+)?)\s*%?"
_INTERVAL = re.compile(
    rf"\s*[(\[]\s*(?:(\d\d(?:\.\d)?)\s*%\s*C\.?I\.?\s*[:,;=]?\s*)?{_END}\s*(?:[-\u2012-\u2014]|to|[,;])\s*{_END}\s*[)\]]"
    r"(?=\s*%?$)",
    re.ASCII | re.IGNORECASE,
)
_LEVEL = re.compile(r"[\s,;]*[(\[]?\s*(\d\d(?:\.\d)?)\s*%\s*C\.?I\.?\s*[)\]]?", re.ASCII | re.IGNORECASE)
"""Of a header such as "Accuracy (95% CI)": the level of the intervals beside its figures."""

_NUMBER = re.compile(r"([-\u2212]?)(\d{1,12})(?:\.(\d{1,6}))?", re.ASCII)
_MARKS = re.compile(r"\s*\[([^\]]*)\]\s*$")
_UNITS = ("percent", "rate", "count", "mean")


class Interval(NamedTuple):
    """The interval beside a figure: each end as digits and decimals, in the figure's unit, and its level if printed."""

    low: tuple[int, int]
    high: tuple[int, int]
    level: float | None


class Number(NamedTuple):
    """A figure: `digits` / 10^`decimals`, whether a percent sign or a ± follows it, its text, and its interval."""

    digits: int
    decimals: int
    is_percent: bool
    text: str
    has_spread: bool = False
    interval: Interval | None = None


class Header(NamedTuple):
    """A header taken apart: its name, what its marks say, how it is called in plain words, its intervals' level."""

    name: str
    unit: str
    of: str | None
    plain: str
    level: float | None = None

    @property
    def is_area(self) -> bool:
        """Whether its figures are areas under the ROC curve, which are no shares of the questions."""
        return self.plain.endswith(AREA_ENDINGS)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower().replace("%", " ").replace("#", " num ")).strip("_")


def read_header(header: str, *, file: str) -> Header:
    """Take a header apart: "correct rate (%) [of valid]" is in percent, and of the column `valid`.

    Raises:
        DataError: a header that cannot be read, or a mark that says nothing.
    """
    if not header or not header.isprintable() or len(header) > 100:
        raise DataError(f"{file}:1: a column is named {shown(header)}; give it a short name of printable characters")
    level = _LEVEL.search(header)
    header = _LEVEL.sub("", header) or header
    unit, of, name = "percent" if "%" in header else "", None, header
    if marked := _MARKS.search(header):
        name = header[: marked.start()].strip()
        for mark in (mark.strip() for mark in marked[1].split(",")):
            if mark.startswith("of "):
                of = mark.removeprefix("of ").strip()
            elif mark in _UNITS:
                unit = mark
            else:
                raise DataError(
                    f"{file}:1, column {shown(header)}: [{mark}] says nothing known; write [of COLUMN], or one of "
                    f"{', '.join(f'[{known}]' for known in _UNITS)}"
                )
    plain, name = _plain(name), name.removesuffix("(%)").strip()
    unit = unit or ("count" if plain.startswith("num_") else "")
    return Header(name, unit, of, plain, float(level[1]) / 100 if level else None)


def read_number(text: str, *, is_size: bool) -> Number | str:
    """Read a figure; returns what is wrong with it where it is none."""
    bare = text.strip().replace("\u00a0", "").replace("\u202f", "").replace("$", "")
    has_spread = bool(_SPREAD.search(bare)) and not is_size
    bare = _SPREAD.sub("", bare) if has_spread else bare
    interval = None if has_spread or is_size else _INTERVAL.search(bare)
    bare = _INTERVAL.sub("", bare) if interval else bare
    is_percent = bare.endswith("%")
    bare = bare.removesuffix("%").strip()
    if is_percent and is_size:
        return "a size is a whole number; write it without %"
    if "," in bare and "." in bare:
        thousands = "," if bare.index(",") < bare.index(".") else "."
        bare = bare.replace(thousands, "").replace(",", ".")
    elif "," in bare:
        groups = re.fullmatch(r"-?\d{1,3}(,\d{3})+", bare, re.ASCII)
        if groups and not is_size:
            return "a comma before three digits may part thousands or decimals; write a decimal point, or no comma"
        bare = bare.replace(",", "" if groups else ".")
    matched = _NUMBER.fullmatch(bare)
    if not matched:
        return "write the printed number alone, such as 89.60 or 89.60%; 89.60 ± 0.4 and 89.60 (88.1-90.9) may stay"
    sign, whole, fraction = matched[1], matched[2], matched[3] or ""
    digits = int(whole + fraction) * (-1 if sign else 1)
    return Number(digits, len(fraction), is_percent, text.strip(), has_spread, _interval(interval))


def _interval(found: re.Match[str] | None) -> Interval | None:
    if found is None:
        return None

    def end(text: str) -> tuple[int, int]:
        whole, _, fraction = text.replace("\u2212", "-").replace(",", ".").partition(".")
        return int(whole + fraction), len(fraction)

    return Interval(end(found[2]), end(found[3]), float(found[1]) / 100 if found[1] else None)


def confusion_metric(plain: str) -> tuple[str, str]:
    """Split "closed_f1_score" into metric and part; a part alone stands for what is right of it."""
    for part, names in PARTS_ALONE.items():
        if plain in names:
            return "accuracy", part
    for metric, names in CONFUSION_NAMES.items():
        for name in names:
            if plain == name:
                return metric, ""
            if plain.endswith(f"_{name}"):
                return metric, plain.removesuffix(f"_{name}")
    return "", ""


def unit_of(figures: Sequence[Number], where: str, faults: list[str]) -> str:
    """Tell percent, rates and counts apart by how they are written; what could be two of them is a fault."""
    values = [abs(figure.digits) / 10**figure.decimals for figure in figures]
    if any(figure.is_percent for figure in figures):
        if not all(figure.is_percent for figure in figures):
            faults.append(f"{where}: some figures have % and some have not; write all in the same way")
        return "percent"
    if not values or (max(values) <= 1 and any(figure.decimals for figure in figures)):
        return "rate"
    if not any(figure.decimals for figure in figures):
        if max(values) > 100:
            return "count"
        faults.append(
            f"{where}: whole numbers may be percent or counts; write 67%, or [count] behind the column's name"
        )
    elif any(0 < value < 1 for value in values):
        low, high = min(value for value in values if value > 0), max(values)
        faults.append(
            f"{where}: {low:g} and {high:g} may be rates or percent; write [percent] or [rate] behind the column's name"
        )
    return "percent"

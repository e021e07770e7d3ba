"""Counts from figures: against every table of counts, and against the roundings of Python's decimal module."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.verdict.audit import audit_table
from sightline.verdict.audit_counts import confusion_tables, fits, rate_counts, rules_that_fit
from sightline.verdict.audit_table import Cell, Column

ROUNDINGS = {"half up": ROUND_HALF_UP, "half even": ROUND_HALF_EVEN, "truncated": ROUND_DOWN}

Counts = tuple[int, int, int, int]


def as_printed(share: Fraction, decimals: int, rule: str, *, scale: int = 100) -> str:
    with localcontext() as context:
        context.prec = 60
        value = Decimal(scale * share.numerator) / Decimal(share.denominator)
        return str(value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUNDINGS[rule]))


def cell(text: str, metric: str = "accuracy", *, scale: int = 100) -> Cell:
    whole, _, fraction = text.partition(".")
    column = Column(name=metric, kind="rate", metric=metric, part="", of=None, scale=scale)
    return Cell(line=2, column=column, text=text, digits=int(whole + fraction), decimals=len(fraction))


def metrics_of(counts: Counts) -> dict[str, Fraction]:
    """The metrics of a table of counts, by their definitions; 0 where nothing is divided."""
    tp, fp, fn, tn = counts

    def share(part: int, whole: int) -> Fraction:
        return Fraction(part, whole) if whole else Fraction(0)

    return {
        "accuracy": share(tp + tn, tp + fp + fn + tn),
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "specificity": share(tn, tn + fp),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "yes_ratio": share(tp + fp, tp + fp + fn + tn),
    }


def every_table(num_questions: int, positives: int | None) -> list[Counts]:
    found = []
    for number in range(num_questions + 1) if positives is None else [positives]:
        for tp, fp in itertools.product(range(number + 1), range(num_questions - number + 1)):
            found.append((tp, fp, number - tp, num_questions - number - fp))
    return found


@given(st.data(), st.sampled_from(list(ROUNDINGS)), st.integers(1, 4_000), st.integers(0, 3), st.sampled_from([1, 100]))
def test_a_count_is_found_again_and_nothing_else(
    data: st.DataObject, rule: Any, total: int, decimals: int, scale: int
) -> None:
    count = data.draw(st.integers(0, total))
    printed = as_printed(Fraction(count, total), decimals, rule, scale=scale)
    found = rate_counts(cell(printed, scale=scale), total, rule)
    near = range(max(0, count - 60), min(total, count + 60) + 1)
    assert [other for other in near if other in found] == [
        other for other in near if as_printed(Fraction(other, total), decimals, rule, scale=scale) == printed
    ]
    assert set(found) <= set(rate_counts(cell(printed, scale=scale), total, "mixed"))


def test_bankers_rounding_is_told_from_the_usual_one() -> None:
    # 1 / 8 is 12.5%: 12 to even, 13 halves up; cut off it is 12.
    eighth = {rule: list(rate_counts(cell("12"), 8, rule)) for rule in ("half up", "half even", "truncated")}
    assert eighth == {"half up": [], "half even": [1], "truncated": [1]}
    assert list(rate_counts(cell("13"), 8, "half up")) == [1] and not rate_counts(cell("13"), 8, "half even")


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(list(ROUNDINGS)), st.integers(2, 24), st.booleans(), st.integers(0, 2))
def test_tables_of_counts_are_those_of_a_full_search(
    data: st.DataObject, rule: Any, num_questions: int, knows_positives: bool, decimals: int
) -> None:
    truth = data.draw(st.sampled_from(every_table(num_questions, None)))
    names = data.draw(st.sets(st.sampled_from(list(metrics_of(truth))), min_size=2))
    printed = {name: as_printed(metrics_of(truth)[name], decimals, rule) for name in sorted(names)}
    cells = {name: cell(text, name) for name, text in printed.items()}
    positives = truth[0] + truth[2] if knows_positives else None
    tables = confusion_tables(cells, num_questions, positives)
    assert tables is not None
    found = rules_that_fit(cells, tables).get(rule, np.empty((0, 4)))
    expected = [
        counts
        for counts in every_table(num_questions, positives)
        if all(as_printed(metrics_of(counts)[name], decimals, rule) == text for name, text in printed.items())
    ]
    assert sorted(map(tuple, found.tolist())) == sorted(expected) and truth in expected


def test_too_many_to_look_at_is_said() -> None:
    cells = {"precision": cell("50", "precision"), "f1": cell("50", "f1")}
    assert confusion_tables(cells, 100_000, None) is None
    assert confusion_tables({"accuracy": cell("50")}, 1_000_000, None) is None


def test_a_quotient_over_nothing_is_printed_as_0() -> None:
    zero, half = cell("0.00", "precision"), cell("50.00", "precision")
    assert fits("half up", zero, 0, 0) and not fits("half up", half, 0, 0)


def written(rows: Sequence[tuple[Counts, Mapping[str, str]]], *, with_positives: bool) -> str:
    names = list(rows[0][1])
    lines = ["model,n," + ("positives," if with_positives else "") + ",".join(names)]
    for index, (counts, printed) in enumerate(rows):
        sizes = [str(sum(counts))] + ([str(counts[0] + counts[2])] if with_positives else [])
        lines.append(",".join([f"m{index}", *sizes, *(f"{printed[name]}%" for name in names)]))
    return "\n".join(lines) + "\n"


def audited(text: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(text, encoding="utf-8")
        return audit_table(path)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(list(ROUNDINGS)), st.booleans())
def test_an_honest_table_is_never_called_contradictory(data: st.DataObject, rule: str, with_positives: bool) -> None:
    num_questions = data.draw(st.integers(20, 900))
    positives = data.draw(st.integers(1, num_questions - 1))
    names = data.draw(st.sets(st.sampled_from(["accuracy", "precision", "f1", "yes_ratio"]), min_size=1)) | {"recall"}
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        tp, fp = data.draw(st.integers(0, positives)), data.draw(st.integers(0, num_questions - positives))
        counts = (tp, fp, positives - tp, num_questions - positives - fp)
        metrics = metrics_of(counts)
        rows.append((counts, {name: as_printed(metrics[name], 2, rule) for name in sorted(names)}))
    found = audited(written(rows, with_positives=with_positives))
    assert found["contradictions"] == []
    assert not found["rounding"] or rule in found["rounding"][0]["rules"]
    # Where cut off and to nearest both fit every figure, to nearest is taken.
    taken = found["rounding"][0]["taken"] if found["rounding"] else [rule]
    for part, (counts, _) in zip(found["parts"], rows, strict=True) if rule in taken else ():
        for name, count in zip(("tp", "fp", "fn", "tn"), counts, strict=True):
            low, high = part[name] if isinstance(part[name], list) else (part[name], part[name])
            assert part["note"] or low <= count <= high


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "yes_ratio"])
def test_one_wrong_figure_is_found_and_put_right(metric: str) -> None:
    counts = (1315, 178, 185, 1322)
    right = {
        name: as_printed(share, 2, "half up") for name, share in metrics_of(counts).items() if name != "specificity"
    }
    wrong = right | {metric: str(Decimal(right[metric]) + Decimal("0.30"))}
    (finding,) = audited(written([(counts, wrong)], with_positives=True))["contradictions"]
    assert finding["suspects"][metric]["would_be"] == right[metric] and finding["where"]["column"] == metric


def test_a_size_that_no_row_prints(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "set,model,n,exact_match,accuracy,precision,recall,f1\n"
        "all,large,2248,50.35,,,,\nall,small,2248,43.64,,,,\n"
        "closed,large,,,78.10,78.93,70.31,74.37\nclosed,small,,,71.63,73.59,58.02,64.89\n",
        encoding="utf-8",
    )
    found = audit_table(table)
    (size,) = [note for note in found["notes"] if note["kind"] == "recovered-size"]
    assert "1,297 questions with 586 positives" in size["sentence"]
    assert [part["num_questions"] for part in found["parts"]] == [1297, 1297]


def test_figures_too_coarse_to_give_a_size_say_so(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("model,accuracy,precision,recall,f1\na,78%,79%,70%,74%\nb,72%,74%,58%,65%\n", encoding="utf-8")
    found = audit_table(table)
    assert found["contradictions"] == [] and found["comparisons"] == []
    assert all("the number of questions is not printed" in part["note"] for part in found["parts"])


def test_f1_outside_precision_and_recall_needs_no_size(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("model,precision,recall,f1\na,88.07,87.66,87.81\nb,88.07,87.66,87.87\n", encoding="utf-8")
    (finding,) = audit_table(table)["contradictions"]
    assert finding["where"]["line"] == 2 and "f1 87.81 cannot follow" in finding["sentence"]


@pytest.mark.parametrize(
    ("row", "kind", "told"),
    [
        ("a,200,33.30,104.2%", "impossible-value", "accuracy 104.2% is impossible; it must be 0 to 100"),
        ("a,200,33.30,-1.0%", "impossible-value", "accuracy -1.0% is impossible"),
        ("a,200,33.30,50.3%", "fits-no-count", "no count of 200 gives it (100 is 50.0, 101 is 50.5)"),
    ],
)
def test_what_no_count_gives(row: str, kind: str, told: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"model,n,loss,accuracy\n{row}\nb,200,33.30,50.0%\n", encoding="utf-8")
    (finding,) = audit_table(table)["contradictions"]
    assert finding["kind"] == kind and told in finding["sentence"]


def test_a_count_above_the_number_of_questions(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("model,n,num_correct\na,200,201\nb,200,150\n", encoding="utf-8")
    (finding,) = audit_table(table)["contradictions"]
    assert finding["kind"] == "fits-no-count" and "num_correct 201" in finding["sentence"]

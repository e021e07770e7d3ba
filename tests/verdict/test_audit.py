"""Published tables, from their printed figures alone.

The expected numbers were worked out apart from this code: counts by a search over every table of counts, p values by
scipy's normal and binomial distributions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sightline.verdict.audit import audit_table
from sightline.verdict.audit_sentences import render_audit

TABLES = Path(__file__).parent / "tables"

Audit = dict[str, Any]

BANNED = ("significant", "outperform", "prove", "overfitting", "because", "improved", "degrad")


@functools.lru_cache
def audit(name: str, **options: Any) -> Audit:
    """The audit of a table, made once; not to be changed."""
    return audit_table(TABLES / f"{name}.csv", **options)


def compared(found: Audit, measure: str, *, model: str = "", of: str = "") -> dict[str, Any]:
    """The one comparison of a measure, a model and a set."""
    entries = [
        entry
        for entry in [*found["comparisons"], *found["means"]]
        if entry["measure"] == measure and model in ("", entry["model"]) and of in ("", entry["set"])
    ]
    assert len(entries) == 1, [entry["measure"] for entry in found["comparisons"]]
    return entries[0]


def kinds(findings: Iterable[dict[str, Any]]) -> list[str]:
    return [finding["kind"] for finding in findings]


class TestPope:
    """Three sets of 3,000 questions; the metrics of one row do not fit together."""

    def test_every_row_has_one_table_of_counts_and_is_cut_off(self) -> None:
        found = audit("pope")
        counts = [(part["tp"], part["fp"], part["fn"], part["tn"]) for part in found["parts"]]
        assert counts == [
            (1360, 172, 140, 1328), (1315, 99, 185, 1401),
            (1360, 274, 140, 1226), (1315, 178, 185, 1322),
            (1360, 467, 140, 1033), (1315, 371, 185, 1129),
        ]  # fmt: skip
        assert all(part["num_tables"] == 1 for part in found["parts"])
        assert found["rounding"][0]["rules"] == ["truncated"]

    def test_the_f1_that_cannot_be(self) -> None:
        (finding,) = audit("pope")["contradictions"]
        assert finding["where"] == {
            "file": "pope.csv", "line": 5, "model": "HA-DPO", "set": "popular", "column": "F1 Score"
        }  # fmt: skip
        assert finding["suspects"].keys() == {"f1"}
        assert (finding["suspects"]["f1"]["printed"], finding["suspects"]["f1"]["would_be"]) == ("87.81", "87.87")
        assert "F1 Score 87.81 cannot follow from Precision 88.07 and Recall 87.66: 87.87" in finding["sentence"]

    @pytest.mark.parametrize(
        ("of", "gain", "p", "least", "most", "fewest", "greatest", "below"),
        [
            ("random", 28 / 3000, 0.226848, 0.012603, 0.268728, 118, 596, 190),
            ("popular", 51 / 3000, 0.049880, 2.095948e-5, 0.072787, 141, 777, 651),
            ("adversarial", 51 / 3000, 0.095795, 2.095948e-5, 0.142573, 141, 1163, 651),
        ],
    )
    def test_accuracy_cannot_be_decided(
        self, of: str, gain: float, p: float, least: float, most: float, fewest: int, greatest: int, below: int
    ) -> None:
        entry = compared(audit("pope"), "Accuracy", of=of)
        assert entry["verdict"] == "cannot decide"
        assert entry["difference"] == pytest.approx([gain, gain])
        assert entry["p_unpaired"] == pytest.approx([p, p], abs=1e-6)
        assert entry["paired"]["p"] == pytest.approx([least, most], rel=1e-4)
        assert (entry["paired"]["fewest_changed"], entry["paired"]["most_changed"]) == (fewest, greatest)
        assert entry["paired"]["most_changed_below_alpha"] == [below, below]
        assert entry["sentence"].startswith("cannot decide: Accuracy +")
        assert "answers per question would decide" in entry["sentence"]

    def test_holm_over_the_three_sets(self) -> None:
        entries = [entry for entry in audit("pope")["comparisons"] if entry["measure"] == "Accuracy"]
        # By hand: at best 3 x 2.1e-5 twice, then .0126; at worst 3 x .0728, 2 x .1426, and .2687 raised to that.
        best, worst = ([entry["p_adjusted"][end] for entry in entries] for end in (0, 1))
        assert best == pytest.approx([0.012603, 6.287844e-5, 6.287844e-5], rel=1e-4)
        assert worst == pytest.approx([0.285146, 0.218359, 0.285146], rel=1e-4)

    def test_what_holds_in_the_worst_pairing(self) -> None:
        found = audit("pope")
        recall = compared(found, "Recall", of="random")
        assert recall["verdict"] == "a difference" and recall["difference"] == pytest.approx([-0.03, -0.03])
        assert recall["p_unpaired"][0] == pytest.approx(0.008, abs=5e-4)
        assert recall["paired"]["p"][1] == pytest.approx(0.0145334, rel=1e-4)
        assert recall["interval"] == pytest.approx([-0.0523, -0.0078], abs=1e-4)
        for of, p in (("random", 0.002), ("popular", 0.0003), ("adversarial", 0.0002)):
            ratio = compared(found, "Yes Ratio", of=of)
            assert ratio["verdict"] == "a difference" and ratio["p_unpaired"][0] == pytest.approx(p, rel=0.35)
            assert compared(found, "specificity", of=of)["verdict"] == "a difference"

    def test_mostly_a_shift_to_answering_no(self) -> None:
        found = audit("pope")
        sensitivity = [(s["sensitivity"]["difference"], *s["sensitivity"]["interval"]) for s in found["signals"]]
        assert sensitivity == [
            pytest.approx(expected, abs=1e-3)
            for expected in ((0.142, -0.034, 0.318), (0.114, -0.049, 0.278), (0.029, -0.125, 0.182))
        ]
        criterion = [(s["criterion"]["against"], s["criterion"]["model"]) for s in found["signals"]]
        assert criterion == [
            pytest.approx(expected, abs=5e-3) for expected in ((-0.06, 0.17), (-0.21, 0.01), (-0.41, -0.24))
        ]
        assert all("how readily no is said" in signal["sentence"] for signal in found["signals"])
        assert found["trade_offs"][0]["sentence"].partition(";")[0] == (
            "trade-off: fewer false yes (specificity +4.9 points), more missed (recall -3.0 points)"
        )

    def test_the_sets_share_their_positives(self) -> None:
        (note,) = audit("pope")["notes"]
        assert note["kind"] == "shared-positives" and "not independent" in note["sentence"]


class TestClosedQuestions:
    """2,248 questions are stated; two models' figures about the closed ones give their number away."""

    def test_the_size_that_was_not_printed(self) -> None:
        found = audit("closed_questions")
        assert [(p["num_questions"], p["searched"], p["num_tables"]) for p in found["parts"]] == [(1297, True, 1)] * 2
        counts = [(part["tp"], part["fp"], part["fn"], part["tn"]) for part in found["parts"]]
        assert counts == [(412, 110, 174, 601), (340, 122, 246, 589)]
        wrong = next(finding for finding in found["contradictions"] if finding["kind"] == "wrong-size")
        assert "1,297 questions with 586 positives do, and no other size up to 2,248" in wrong["sentence"]

    def test_no_single_rule_gives_both_rates(self) -> None:
        found = audit("closed_questions")
        rule = next(finding for finding in found["contradictions"] if finding["kind"] == "no-single-rule")
        for told in (
            "50.35%: no count of 2,248 gives it (1,131 is 50.31, 1,132 is 50.36), rounded to nearest",
            "cut off after the last decimal, 1,132 (50.3559) does",
            "43.64% (line 3) is 981 (43.6388) and would then be 43.63",
            "1,297, gives all of overall_exact_match (653, 566)",
        ):
            assert told in rule["sentence"]

    def test_a_difference_in_every_pairing(self) -> None:
        found = audit("closed_questions", against="Qwen3-VL-2B-Instruct")
        overall = compared(found, "overall_exact_match")
        assert overall["verdict"] == "a difference"
        assert overall["p_unpaired"] == pytest.approx([6.419013e-6] * 2, rel=1e-4)
        assert overall["interval"] == pytest.approx([0.0380, 0.0962], abs=1e-4)
        assert overall["paired"]["p"][1] == pytest.approx(0.0010969, rel=1e-4)
        assert overall["design_effect"]["to_hide_unpaired"] == pytest.approx(5.3, abs=0.05)
        closed = compared(found, "closed_accuracy")
        assert closed["p_unpaired"][0] == pytest.approx(1.435137e-4, rel=1e-4)
        assert closed["interval"] == pytest.approx([0.0314, 0.0980], abs=1e-4)
        assert closed["paired"]["p"][1] == pytest.approx(0.0011, abs=1e-4)

    def test_the_images_say_how_alike_their_questions_would_have_to_be(self, tmp_path: Path) -> None:
        table = tmp_path / "with_images.csv"
        table.write_text("model,n,images,exact_match\nlarge,2248,315,50.35%\nsmall,2248,315,43.64%\n", encoding="utf-8")
        sentence = audit_table(table)["comparisons"][0]["sentence"]
        assert "a correlation of 0.70 within images, at 7.1 questions an image" in sentence

    def test_the_public_set_is_recognised(self) -> None:
        (note,) = audit("closed_questions")["notes"]
        assert note["kind"] == "known-size" and "meant for training included" in note["sentence"]


class TestJudged:
    """Rates to two decimals, of 426 and 407 answers that could be read."""

    def test_a_range_of_p_and_never_one_value(self) -> None:
        found = audit("judged")
        correct = compared(found, "correct_rate of valid_responses")
        assert correct["counts"] == {"model": [190, 193], "against": [216, 219]}
        assert correct["p_unpaired"] == pytest.approx([0.172662, 0.343257], abs=1e-6)
        assert correct["verdict"] == "no difference can be shown" and "between .173 and .343" in correct["sentence"]
        incorrect = compared(found, "incorrect_rate of valid_responses")
        assert incorrect["p_unpaired"] == pytest.approx([0.046818, 0.133246], abs=1e-6)
        assert incorrect["verdict"] == "cannot decide"
        assert compared(found, "neutral_rate of valid_responses")["verdict"] == "no difference can be shown"

    def test_what_could_not_be_read_is_the_one_change(self) -> None:
        found = audit("judged")
        out = compared(found, "left out of valid_responses")
        assert out["counts"] == {"model": [44, 44], "against": [25, 25]}
        assert out["p_unpaired"][0] == pytest.approx(0.017304, abs=1e-6)
        assert out["interval"] == pytest.approx([0.0073, 0.0777], abs=1e-4)
        assert [entry["measure"] for entry in found["comparisons"] if entry["verdict"] == "a difference"] == [
            "left out of valid_responses"
        ]
        assert "0 do whichever questions changed" in found["conclusions"][0]

    def test_exact_counts_give_exact_values(self, tmp_path: Path) -> None:
        table = tmp_path / "counts.csv"
        table.write_text(
            "model,n,valid,num_correct [of valid]\nbase,451,426,217\ntuned,451,407,191\n", encoding="utf-8"
        )
        found = audit_table(table)
        of_valid = compared(found, "num_correct of valid")
        assert of_valid["p_unpaired"] == pytest.approx([0.247126] * 2, abs=1e-6)
        assert of_valid["interval"] == pytest.approx([-0.1074, 0.0277], abs=1e-4)
        of_all = compared(found, "num_correct of all 451, what was left out counted as not")
        assert of_all["p_unpaired"] == pytest.approx([0.081976] * 2, abs=1e-6)
        assert of_all["interval"] == pytest.approx([-0.1219, 0.0073], abs=1e-4)
        assert of_all["bounds"] == pytest.approx([-0.1131, 0.0399], abs=1e-4)
        # McNemar's exact p is .0409 at 150 changed answers and .0621 at 180.
        assert 150 <= of_all["paired"]["most_changed_below_alpha"][0] < 180


class TestCritic:
    """Means of seven rows, no spread, the test set's size from the text beside the table."""

    def test_how_small_the_spread_would_have_to_be(self) -> None:
        best = compared(audit("critic"), "Critic score", model="SFTe")
        assert best["difference"] == pytest.approx(2.28) and best["is_best"]
        assert best["largest_sd"] == pytest.approx(16.35, abs=0.005)
        assert best["largest_sd_corrected"] == pytest.approx(12.1, abs=0.01)
        assert best["verdict"] == "cannot decide" and best["assumed"] is None

    @pytest.mark.parametrize(
        ("sd", "model", "p", "adjusted", "detectable"),
        [
            (15, "SFTe", 0.033, 0.131, 2.97), (20, "SFTe", 0.109, 0.434, 3.96), (20, "SFT4", 0.002, 0.012, 3.96),
            (25, "SFTe", 0.199, 0.795, 4.95), (25, "SFT4", 0.013, 0.078, 4.95), (30, "SFT4", 0.038, 0.228, 5.94),
        ],
    )  # fmt: skip
    def test_with_an_assumed_spread(self, sd: float, model: str, p: float, adjusted: float, detectable: float) -> None:
        assumed = compared(audit("critic", sd=sd), "Critic score", model=model)["assumed"]
        assert (assumed["p"], assumed["p_adjusted"]) == pytest.approx((p, adjusted), abs=1.5e-3)
        assert assumed["detectable"] == pytest.approx(detectable, rel=0.01)  # by normal quantiles

    def test_the_best_of_six_is_ahead_by_luck(self) -> None:
        assumed = compared(audit("critic", sd=20), "Critic score", model="SFTe")["assumed"]
        assert assumed["gain_of_best_by_luck"] == pytest.approx(1.26, abs=0.01)
        assert assumed["chance_of_best_by_luck"] == pytest.approx(0.20, abs=0.01)
        wide = compared(audit("critic", sd=25 * 1.4**0.5), "Critic score", model="SFTe")["assumed"]
        assert wide["gain_of_best_by_luck"] == pytest.approx(1.87, abs=0.01)
        assert wide["chance_of_best_by_luck"] == pytest.approx(0.41, abs=0.01)

    def test_the_columns_disagree(self) -> None:
        (note,) = audit("critic")["notes"]
        assert note["kind"] == "metrics-disagree"
        assert (
            "Loss: SFT1; BLEU, ROUGE-L: Base mod; Critic score: SFTe (lower taken as better: Loss)" in note["sentence"]
        )

    def test_a_hundredth_of_a_point_is_nothing(self) -> None:
        entry = compared(audit("critic"), "Critic score", model="SFTe_DPO")
        assert entry["difference"] == 0.01 and entry["largest_sd"] < 0.08


@pytest.mark.parametrize("name", ["pope", "closed_questions", "judged", "critic"])
def test_the_words(name: str) -> None:
    found = audit(name, sd=20.0)
    text = render_audit(found)
    assert not [word for word in BANNED if word in text.lower()]
    assert "Contradictions: " in text and "What it can and cannot show" in text and text.isascii() is False
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert audit_table(TABLES / f"{name}.csv", sd=20.0) == found


def test_one_row_with_a_spread_leaves_the_others_their_p(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("model,n,accuracy\na,500,75.2\nb,500,79.4\nc,500,75.6 ± 0.4\n", encoding="utf-8")
    found = audit_table(table)
    assert [entry["model"] for entry in found["comparisons"]] == ["b"]
    assert found["comparisons"][0]["counts"] == {"model": [397, 397], "against": [376, 376]}
    assert found["reading"][0] == "accuracy: a share of the questions, in percent"
    assert "c (line 4), accuracy 75.6 ± 0.4: an average printed with ±" in found["reading"][1]

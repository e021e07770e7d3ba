"""A published table of judged answers follows from its counts: LLaVA-1.5 on VQA-RAD, before and after tuning."""

from __future__ import annotations

import pytest

from sightline.scoring.medical import Category, Checked, medical_table

# Correct, incorrect, neutral, contradiction, and replies that could not be read, of 451; and what was printed of them.
TALLIES = {
    "pretrained": ((217, 179, 30, 0, 25), (0.51, 0.42, 0.07, 0.00, 0.06)),
    "fine-tuned": ((192, 194, 19, 2, 44), (0.47, 0.48, 0.05, 0.00, 0.10)),
}
CATEGORIES: tuple[Category, ...] = ("correct", "incorrect", "neutral", "contradiction")


@pytest.mark.parametrize("model", TALLIES)
def test_rates_of_valid_replies_and_of_all_of_them(model: str) -> None:
    (*counts, invalid), printed = TALLIES[model]
    judged: list[Checked | None] = [None] * invalid
    for category, count in zip(CATEGORIES, counts, strict=True):
        judged += [Checked(category, 5)] * count
    table = medical_table(judged)
    assert (table.total_responses, table.valid_responses) == (451, 451 - invalid)
    rounded = table.rounded()
    assert [rounded[f"{category}_rate"] for category in (*CATEGORIES, "invalid_format")] == list(printed)
    assert rounded["confidence_completeness"] == 1.0
    assert table.correct_rate == counts[0] / sum(counts) and table.contradiction_rate == counts[3] / 451

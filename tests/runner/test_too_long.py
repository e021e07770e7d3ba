"""A row that is too long says what it is too long for, and only what would help."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.problems import Bound, too_long
from sightline.models.llava import Llava
from sightline.records import Message, Sample
from sightline.runner.prepare import prepare
from sightline.study import load_study

SAMPLE = Sample(id="a", pictures=(), messages=(Message(role="user", content=("Why?",)),), answer="", origin="r.csv:7")


@pytest.mark.parametrize(
    ("bound", "has_pixels", "said"),
    [
        ("row_tokens", False, "(`row_tokens`); shorten the row, or raise `row_tokens`"),
        ("row_tokens", True, "(`row_tokens`); shorten the row, or raise `row_tokens`, or lower `max_pixels`"),
        ("context", False, "(the model's context, which no key of the study makes longer); shorten the row"),
        (
            "answer",
            False,
            "(the model's context with room for `evaluate.max_new_tokens`); "
            "shorten the row, or lower `evaluate.max_new_tokens`",
        ),
    ],
)
def test_the_limit_that_binds_is_named(bound: Bound, has_pixels: bool, said: str) -> None:
    problem = too_long(SAMPLE, num_tokens=1200, limit=1024, bound=bound, has_pixels=has_pixels)
    assert str(problem) == f"r.csv:7 (id a): 1,200 tokens where 1,024 fit {said}"


STUDY = """
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 12, split: {train: 0.5, test: 0.5, by: image}}}
steps: {sft: {on: p.train, max_steps: 1, on_bad_row: skip}}
evaluate: {on: p.test, max_new_tokens: 1}
"""


@pytest.mark.parametrize(
    ("context", "change", "said"),
    [
        (1024, "steps.sft.row_tokens=80", "tokens where 80 fit (`row_tokens`)"),
        (84, "steps.sft.row_tokens=9000", "tokens where 84 fit (the model's context, which"),
        (84, "steps.sft.row_tokens=auto", "tokens where 84 fit (the model's context, which"),
        (1024, "evaluate.max_new_tokens=944", "tokens where 80 fit (the model's context with room for"),
    ],
)
def test_a_study_whose_rows_are_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: int, change: str, said: str
) -> None:
    stock = Llava.__init__

    def with_context(self, *arguments, **settings) -> None:
        stock(self, *arguments, **settings)
        self.context_length = context

    monkeypatch.setattr(Llava, "__init__", with_context)
    (tmp_path / "s.yaml").write_text(STUDY, encoding="utf-8")
    prepared, _ = prepare(load_study(tmp_path / "s.yaml", overrides=[change]))
    assert any(said in problem.found for problem in prepared.problems)
    assert not any("max_pixels" in problem.remedy for problem in prepared.problems)  # LLaVA has no such setting

"""What no sentence may say: causes, victories, and significance without an interval."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline.verdict
from sightline.records import Message, Picture, Sample, Score
from sightline.scoring.metrics import METRICS
from sightline.verdict.compare import Comparison, compare_models
from sightline.verdict.effects import Factorial
from sightline.verdict.sentences import SMALLER, render_terminal

BANNED = re.compile(
    r"outperform|\bprov(e|es|en|ed)\b|overfit|because|due to|\bcaus|degrad|superior|winner|\bwins?\b|\bbeats?\b|"
    r"state.of.the.art|thanks to|leads? to|\bimprovement",
    re.IGNORECASE,
)
SIGNIFICANT = re.compile(r"significan", re.IGNORECASE)


def sentences_in(value: Any) -> Iterator[str]:
    """Every text for people in a compare.json, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("sentence", "detail", "reason", "note", "trade_off", "title") and inner:
                yield inner
            yield from sentences_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from sentences_in(inner)


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    """A study in which every kind of sentence occurs."""
    generator = np.random.default_rng(0)
    references = ["yes" if n % 2 else "no" for n in range(120)]
    samples = {
        f"q{n}": Sample(
            id=f"q{n}",
            pictures=(Picture(name="", sha256=f"{n // 2:064d}", width=8, height=8),),
            messages=(Message(role="user", content=(0, "Is it?")),),
            answer=reference,
        )
        for n, reference in enumerate(references)
    }
    base = generator.integers(0, 2, 120)
    says_no = np.array([reference == "no" for reference in references])
    rows: dict[str, Any] = {
        "base": base,
        "good": np.where(generator.random(120) < 0.5, 1, base),
        "bad": np.where(generator.random(120) < 0.5, 0, base),
        "same": base,
        "noise": np.where(generator.random(120) < 0.1, generator.integers(0, 2, 120), base),
        "no-sayer": np.where(generator.random(120) < 0.6, says_no, base),
        "few": np.where(generator.random(120) < 0.03, 1, base),
        "mute": ["unparsed" if n % 3 == 0 else right for n, right in enumerate(base)],
        "half": base[:50],
        "broken": ["failed" if n % 9 == 0 else right for n, right in enumerate(base)],
        "sft.a": np.where(generator.random(120) < 0.3, 1, base),
        "sft.b": np.where(generator.random(120) < 0.2, 1, base),
    }
    models = {name: row for name, row in rows.items() if not name.startswith("sft")}
    models |= {
        f"{name}@{seed}": generator.permutation(row)
        for name in ("sft.a", "sft.b")
        for seed in (0, 1)
        for row in (rows[name],)
    }
    accuracy, yes, loss = METRICS["closed_accuracy"], METRICS["yes_ratio"], METRICS["nll"]
    scores = {}
    for name, row in models.items():
        by_metric: dict[str, list[Score]] = {accuracy.name: [], yes.name: [], loss.name: []}
        for place, value in enumerate(np.asarray(row).tolist()):
            known = value not in ("unparsed", "failed")
            outcome = "scored" if known else value
            number = float(value) if known else None
            by_metric[accuracy.name].append(
                Score(sample_id=f"q{place}", metric=accuracy.name, outcome=outcome, value=number)
            )
            by_metric[yes.name].append(
                Score(sample_id=f"q{place}", metric=yes.name, outcome="scored", value=float(known and float(value)))
            )
            tokens = 3.0 if name == "bad" else 2.0
            parts = {"nll": 1.0 + float(known and float(value)) + 0.001 * place, "tokens": tokens}
            by_metric[loss.name].append(Score(sample_id=f"q{place}", metric=loss.name, outcome="scored", parts=parts))
        for wording in ("plain", "short") if name in ("base", "good") else ("plain",):
            scores[name, "d", wording] = by_metric
    margins = [Comparison(model=name, against="base", margin=0.15) for name in ("noise", "few", "good")]
    return compare_models(
        study="words",
        samples={"d": samples},
        scores=scores,
        metrics=[accuracy, yes, loss],
        stated=[*margins, Comparison(model="no-sayer", against="base"), Comparison(model="good", against="bad")],
        seen={"d": {f"q{n}": "image" for n in range(16)}},
        factorials=[
            Factorial(step="sft", factors={"lora.alpha": ("8", "16")}, models={("8",): "sft.a", ("16",): "sft.b"})
        ],
    )


def test_every_kind_of_verdict_was_said(compared: dict[str, Any]) -> None:
    entries = [*compared["stated"], *compared["exploratory"], *compared["effects"]]
    entries += [component for apart in compared["yes_no"] for component in apart["components"]]
    verdicts = {entry["verdict"] for entry in entries}
    assert verdicts >= {
        "improved",
        "regressed",
        "changed",
        "no detectable difference",
        "borderline",
        "cannot decide",
        "trade-off",
    }
    assert verdicts & {"equivalent", "not worse", SMALLER}
    reasons = {entry["reason"] for entry in entries}
    assert reasons >= {
        "unmatched samples",
        "more than 1% of questions have no score",
        "no variation",
        "different tokenizers",
    }
    assert all(compared[part] for part in ("selection", "wordings", "effects", "yes_no"))


def test_no_sentence_claims_a_cause_or_a_victory(compared: dict[str, Any]) -> None:
    texts = [*sentences_in(compared), *compared["notes"], render_terminal(compared)]
    assert len(texts) > 300
    assert [found.group() for text in texts if (found := BANNED.search(text))] == []
    for text in sentences_in(compared):
        if SIGNIFICANT.search(text):
            assert "% CI " in text and SMALLER in text


def test_no_sentence_in_the_code_does_either() -> None:
    """Wording that no study here happened to reach."""
    found = []
    for file in Path(sightline.verdict.__path__[0]).glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if id(node) not in documentation | loose and BANNED.search(node.value):
                found.append((file.name, node.value))
    assert found == []


def test_losses_of_different_tokenizers_stand_unranked(compared: dict[str, Any]) -> None:
    entries = [e for e in compared["exploratory"] if e["metric"] == "nll" and e["model"] == "bad"]
    assert {entry["verdict"] for entry in entries} == {"cannot decide"}
    assert any(note.startswith("nll of bad, base is per token, and their tokens differ") for note in compared["notes"])

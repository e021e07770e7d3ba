"""What the members of a grid have in common is made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.models.features import PictureFeatures
from sightline.runner import make, run_study
from sightline.runner.reading import read_data
from sightline.study import load_study
from sightline.trees import render

STUDY = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 16, split: {train: 0.5, validation: 0.25, test: 0.25, by: image}}}
steps: {sft: {on: p.train, epochs: 1, lora: {rank: 2}, grid: {lora.alpha: [4, 2], lora.dropout: [0.0, 0.05]}}}
evaluate: {on: p.test, metrics: [exact_match]}
"""


def counting(counter: Counter, function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    """Count a function's calls by what they are about."""

    def counted(*arguments: Any, **named: Any) -> Any:
        counter[key(*arguments, **named)] += 1
        return function(*arguments, **named)

    return counted


def test_four_members_share_base_rendered_rows_and_picture_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases, rendered, features = Counter(), Counter(), Counter()

    def row(_template: object, messages: Any, _pictures: object, answer: str | None, **named: Any) -> tuple:
        return named["name"], messages[-1].text, answer

    def picture(_self: object, key: str) -> str:
        return key

    monkeypatch.setattr(make, "load_model", counting(bases, make.load_model, lambda base, *_, **__: base))
    monkeypatch.setattr(render, "render", counting(rendered, render.render, row))
    monkeypatch.setattr(PictureFeatures, "_compute", counting(features, PictureFeatures._compute, picture))
    (tmp_path / "study.yaml").write_text(STUDY)
    study = load_study(tmp_path / "study.yaml")
    run_study(study, tmp_path / "out", with_figures=False)

    assert len(list((tmp_path / "out" / "models").glob("sft.*/adapter_model.safetensors"))) == 4
    assert bases == {"builtin:tiny": 1}
    sets = read_data(study).sets
    learnt = [(s.origin, s.question, s.answer) for name in ("p.train", "p.validation") for s in sets[name]]
    assert len(learnt) > 20 and {row: rendered[row] for row in learnt} == Counter(learnt)
    shown = {p.sha256 for samples in sets.values() for s in samples for p in s.pictures}
    assert {key.partition(":")[0]: count for key, count in features.items()} == dict.fromkeys(shown, 1)

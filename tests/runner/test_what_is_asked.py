"""What a study asks, and what its scores depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.errors import StudyError
from sightline.runner import run_study
from sightline.runner.prepare import prepare
from sightline.study import load_study, refuse_unbuilt

STUDY = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 24, split: {train: 0.5, validation: 0.2, test: 0.3, by: image}}}
steps: {sft: {on: p.train, max_steps: 2, lora: {rank: 2}}}
evaluate: {on: [p.test, p.validation], rows: 3, metrics: [closed_accuracy, nll]}
"""


def study_of(folder: Path, text: str = STUDY):
    file = folder / "s.yaml"
    file.write_text(text)
    return load_study(file)


def test_fewer_rows_asked_are_not_fewer_rows_to_validate_on(tmp_path: Path) -> None:
    prepared, _ = prepare(study_of(tmp_path))
    assert len(prepared.sets["p.validation"]) > 3
    assert len(prepared.asked("p.validation")) == len(prepared.asked("p.test")) == 3


def test_scores_are_made_anew_when_tags_change(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (16, 16), (number * 20, 0, 90)).save(tmp_path / f"{number}.png")

    def closed_scored(answer_type: str) -> int:
        rows = [{"image": f"{n}.png", "question": "Is it?", "answer": "yes"} for n in range(12)]
        lines = [json.dumps({**row, "answer_type": answer_type}) for row in rows]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
        study = study_of(
            tmp_path,
            "base: builtin:tiny\ndata: {d: {source: rows.jsonl, columns: {tags: [answer_type]}}}\n"
            + "steps: {sft: {on: d.train, max_steps: 1, lora: {rank: 2}}}\n"
            + "evaluate: {on: d.test, metrics: [closed_accuracy]}\n",
        )
        run_study(study, tmp_path / "out")
        lines = (tmp_path / "out" / "scores" / "base" / "closed_accuracy.jsonl").read_text().splitlines()
        return sum(json.loads(line)["outcome"] != "not_applicable" for line in lines)

    assert closed_scored("CLOSED") > 0
    assert closed_scored("OPEN") == 0


def test_what_is_not_built_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="sft: offload = 'optimizer' is not built yet"):
        refuse_unbuilt(study_of(tmp_path, STUDY.replace("lora: {rank: 2}", "lora: {rank: 2}, offload: optimizer")))


def test_an_adapter_is_continued_as_it_is_or_not_at_all(tmp_path: Path) -> None:
    more = STUDY.replace("lora: {rank: 2}}}", "lora: {rank: 2}}, more: {from: sft, on: p.train, max_steps: 1LORA}}")
    more = more.replace("[p.test, p.validation]", "p.test")
    with pytest.raises(
        StudyError, match=r"adapter of sft, so both must have one shape: lora.rank is 16 here and 2 there$"
    ):
        refuse_unbuilt(study_of(tmp_path, more.replace("LORA", "")))
    report = run_study(study_of(tmp_path, more.replace("LORA", ", lora: {rank: 2}")), tmp_path / "out")
    assert report.exists() and (tmp_path / "out" / "models" / "more" / "adapter_model.safetensors").exists()

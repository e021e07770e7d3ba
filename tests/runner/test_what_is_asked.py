"""What a study asks, and what its scores depend on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.errors import StudyError
from sightline.generation.answering import answer_samples
from sightline.runner import evaluate, run_study
from sightline.runner.display import Display
from sightline.runner.make import Shelf
from sightline.runner.prepare import prepare, set_hashes
from sightline.storage import read_jsonl
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


def test_each_set_is_answered_in_its_own_way_and_asked_again_alone_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated: list[tuple[str, int, int]] = []

    def watched(loaded: Any, samples: Any, decoding: Any, **asked: Any) -> Any:
        for row in answer_samples(loaded, samples, decoding, **asked):
            generated.append((asked["data"], decoding.num_beams, decoding.max_new_tokens))
            yield row

    monkeypatch.setattr(evaluate, "answer_samples", watched)

    def ask(decoding: str) -> dict[str, list[dict[str, Any]]]:
        generated.clear()
        study = study_of(tmp_path, STUDY.replace("rows: 3", f"rows: 3, max_new_tokens: 4, decoding: {decoding}"))
        prepared, family = prepare(study)
        shelf = Shelf(prepared, tmp_path / "out", families={"builtin:tiny": family})
        evaluate.evaluate_model("base", shelf, set_hashes(prepared.sets), Display(quiet=True))
        rows = read_jsonl(tmp_path / "out" / "answers" / "base.jsonl")
        return {name: [row for row in rows if row["data"] == name] for name in ("p.test", "p.validation")}

    alike = ask("{}")
    assert {name for name, *_ in generated} == {"p.test", "p.validation"}
    ask("{}")
    assert not generated
    searched = ask("{p.test: {num_beams: 3, max_new_tokens: 2}}")
    assert set(generated) == {("p.test", 3, 2)}
    assert searched["p.validation"] == alike["p.validation"] and len(searched["p.test"]) == 3
    assert {row["num_tokens"] for row in searched["p.test"]} <= {1, 2}
    assert ask("{p.validation: {max_new_tokens: 3}}") != searched
    assert {(name, beams) for name, beams, _ in generated} == {("p.test", 1), ("p.validation", 1)}


def test_decoding_of_a_set_that_is_not_asked_is_refused_and_so_is_a_search_that_draws(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"evaluate.decoding.p.train: no set that is asked is called so; there is p.test"
    ):
        study_of(tmp_path, STUDY.replace("rows: 3", "rows: 3, decoding: {p.train: {num_beams: 2}}"))
    with pytest.raises(StudyError, match=r"decoding.p.test.num_beams: 2 searches, temperature: 0.5 draws; use one"):
        study_of(tmp_path, STUDY.replace("rows: 3", "rows: 3, temperature: 0.5, decoding: {p.test: {num_beams: 2}}"))


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
        run_study(study, tmp_path / "out", with_figures=False)
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
    with pytest.raises(StudyError, match=r"steps.more.lora.rank is 16, but more goes on with the adapter of sft"):
        refuse_unbuilt(study_of(tmp_path, more.replace("LORA", ", lora: {rank: 16}")))
    report = run_study(study_of(tmp_path, more.replace("LORA", "")), tmp_path / "out", with_figures=False)
    assert report.exists() and (tmp_path / "out" / "models" / "more" / "adapter_model.safetensors").exists()

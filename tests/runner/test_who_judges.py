"""Judges that only a step names, and a judge of another family than the study's: looked at first, then carried out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.errors import StudyError
from sightline.runner import run_study
from sightline.runner.display import Display
from sightline.runner.judges import judge_families, refuse_judges
from sightline.runner.reading import read_data
from sightline.storage import read_jsonl
from sightline.study import Study, load_study, plan_study
from tiny_families import random_model

STUDY = """
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 6, split: {train: 0.5, test: 0.5, by: image}}}
steps:
  pairs: {method: critique, from: base, on: p.train, judge: WHO}
  best: {method: best_of, from: base, on: p.train, by: BY}
evaluate: {on: p.test, metrics: [exact_match]}
judges:
  marks: {kind: rubric, server: "http://127.0.0.1:9/v1", model: m, key_env: NO_SUCH_KEY}
  duel: {kind: pairwise, server: "http://127.0.0.1:9/v1", model: m, key_env: NO_SUCH_KEY, send_images: true}
  sentences: {kind: shr, base: builtin:tiny}
  lost: {kind: rubric, base: builtin:tiny, rubric: none.yaml}
compare: []
"""


def study_of(folder: Path, text: str = STUDY, *, who: str = "self", by: str = "token_f1") -> Study:
    (folder / "study.yaml").write_text(text.replace("WHO", who).replace("BY", by), encoding="utf-8")
    return load_study(folder / "study.yaml")


@pytest.mark.parametrize(
    ("who", "by", "message"),
    [
        ("marks", "token_f1", "judges.marks is a rubric judge; a critique needs one of two answers, kind: pairwise"),
        ("duel", "token_f1", "the environment variable NO_SUCH_KEY holds no key"),
        ("self", "duel", "judges.duel: a pairwise judge has no mark for one answer alone"),
        ("self", "sentences", "judges.sentences: a shr judge has no mark for one answer alone"),
        ("self", "marks", "the environment variable NO_SUCH_KEY holds no key"),
        ("self", "lost", "rubric: there is no file"),
        ("self", "nll", "best: by: nll scores no answer that was drawn; choose by another metric"),
        ("tokn_f1", "token_f1", "metric 'tokn_f1' is unknown; did you mean token_f1"),
    ],
)
def test_who_could_not_judge_for_a_step_is_refused_before_anything_is_made(
    tmp_path: Path, who: str, by: str, message: str
) -> None:
    with pytest.raises((StudyError, OSError), match=message):
        refuse_judges(read_data(study_of(tmp_path, who=who, by=by)), tmp_path / "run")
    refuse_judges(read_data(study_of(tmp_path)), tmp_path / "run")


@pytest.mark.slow
def test_a_qwen_judges_a_llava(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    loaded = random_model("qwen2_5_vl")
    loaded.module.float().save_pretrained(folder)  # pyright: ignore
    loaded.family.processor.save_pretrained(folder)  # pyright: ignore
    text = STUDY.replace("WHO", "duel").replace("BY", "marks")
    text = text[: text.index("judges:")] + (
        "judges:\n  marks: {kind: rubric, base: ./judge, max_new_tokens: 3, reasks: 0, audit_rows: 1}\n"
        "  duel: {kind: pairwise, base: ./judge, max_new_tokens: 3, reasks: 0, audit_rows: 0}\n"
    )
    text = text.replace("metrics: [exact_match]", "rows: 3, metrics: [exact_match, marks]").replace(
        "steps:\n", "steps:\n  sft: {on: p.train, max_steps: 1, pad_square: true}\n"
    )
    text = "\n".join(line for line in text.splitlines() if "method:" not in line)
    study = study_of(tmp_path, text)
    assert judge_families(study, plan_study(study)).keys() == {str(folder)}
    out = run_study(study, tmp_path / "run", with_figures=False, display=Display(quiet=True)).parent
    record = json.loads((out / "judges/marks/record.json").read_text(encoding="utf-8"))
    assert record["asked"]["base"].startswith(str(folder)) and record["shows_pictures"]
    for model in ("base", "sft"):
        assert record["models"][model]["num_replies"] == 3, "each answer was put to it, and something was said"
        assert {row["outcome"] for row in read_jsonl(out / "scores" / model / "marks.jsonl")} == {"failed"}
        assert all(row["replies"] for row in read_jsonl(out / "judges/marks" / f"{model}.jsonl"))

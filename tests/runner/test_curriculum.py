"""Curricula in whole studies: every stage's model answers, is scored and named; stages are checked and written down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sightline.data.sets import has_tags
from sightline.errors import DataError
from sightline.records import Sample
from sightline.runner import StudyCheck, carry_out, run_study
from sightline.runner.compare import compare_runs
from sightline.runner.curricula import num_passes, stages_of
from sightline.runner.reading import Prepared, read_data
from sightline.study import load_study
from study_examples import ROOT
from tiny_studies import contents, picture_rows, run_study_file, sightline_command, write_csv

OPEN, CLOSED = "{where: {answer_type: OPEN}, max_steps: 2}", "{where: {answer_type: CLOSED}, max_steps: 3}"
STUDY = f"""
name: orders
base: builtin:tiny
data:
  p:
    source: builtin:phantom
    images: 16
    split: {{train: 0.5, test: 0.5, stratify: answer_type}}
  both: {{mix: {{p.train: 30}}}}
steps:
  arms:
    on: both
    batch_size: 4
    max_steps: 5
    save_every: 1
    schedule: constant
    warmup: 0
    seeds: [0, 1]
    members:
      in_turn: {{stages: [{OPEN}, {CLOSED}]}}
      first: {{stages: [{OPEN}]}}
      mixed: {{}}
evaluate: {{on: p.test, metrics: [exact_match, nll], rows: 6, max_new_tokens: 3}}
compare: [{{model: arms.in_turn, against: arms.mixed}}]
"""
MODELS = ("arms.in_turn~1@0", "arms.in_turn@0", "arms.in_turn~1@1", "arms.in_turn@1")


def write(folder: Path, text: str = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("curriculum"))


@pytest.fixture(scope="module")
def finished(study_file: Path) -> Path:
    """The directory of a finished study; to be copied before it is changed."""
    return run_study_file(study_file, "--out", study_file.parent / "study")


def test_the_model_after_each_stage_answers_and_is_scored(finished: Path) -> None:
    for model in MODELS:
        rows = [json.loads(line) for line in (finished / "answers" / f"{model}.jsonl").read_text().splitlines()]
        assert len(rows) == 6 and {row["model"] for row in rows} == {model}
        assert len((finished / "scores" / model / "nll.jsonl").read_text().splitlines()) == 6
    losses = [(finished / "scores" / model / "nll.jsonl").read_text() for model in MODELS]
    assert len(set(losses)) == 4
    assert not list((finished / "answers").glob("arms.first~*"))  # its one stage is all of it


def test_the_report_names_them_and_states_only_what_was_asked(finished: Path) -> None:
    compared = json.loads((finished / "compare.json").read_text(encoding="utf-8"))
    assert [(one["model"], one["against"]) for one in compared["stated"]] == [("arms.in_turn", "arms.mixed")]
    assert {one["model"] for one in compared["exploratory"]} >= {"arms.in_turn~1"}
    assert {arm["model"] for arm in compared["arms"]} >= set(MODELS)
    report = (finished / "report.md").read_text(encoding="utf-8").replace("\\", "")
    stated, *_ = report.split("## All models")
    assert "arms.in_turn@0 against arms.mixed@0" in stated and "arms.in_turn@1 against arms.mixed@1" in stated
    assert "~" not in stated
    for model in MODELS:
        assert f"| {model} |" in report


def test_the_first_stage_s_model_is_that_of_a_training_of_the_first_stage(finished: Path) -> None:
    for seed in (0, 1):
        alone = (finished / f"models/arms.first@{seed}/adapter_model.safetensors").read_bytes()
        staged = finished / f"models/arms.in_turn@{seed}"
        assert (staged / "stages/1/adapter_model.safetensors").read_bytes() == alone
        assert (staged / "adapter_model.safetensors").read_bytes() != alone
        assert [folder.name for folder in (staged / "stages").iterdir()] == ["1"]


def test_what_was_derived_is_written_down_with_its_rows(finished: Path) -> None:
    mixed = [json.loads(line) for line in (finished / "data/both.jsonl").read_text(encoding="utf-8").splitlines()]
    source = [json.loads(line) for line in (finished / "data/p.train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(mixed) == 30 and {row["id"] for row in mixed} <= {row["id"] for row in source}
    stages = json.loads((finished / "models/arms.in_turn@0/stages.json").read_text(encoding="utf-8"))
    for stage, kind, steps in zip(stages, ("OPEN", "CLOSED"), (2, 3), strict=True):
        assert (stage["on"], stage["where"], stage["num_steps"]) == (["both"], {"answer_type": kind}, steps)
        assert stage["rows"] == [row["id"] for row in mixed if row["tags"]["answer_type"] == kind]
    steps = [json.loads(line) for line in (finished / "models/arms.in_turn@0/metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in steps] == [1, 1, 2, 2, 2]
    assert not (finished / "models/arms.mixed@0/stages.json").exists()


def test_a_stage_s_model_can_be_compared_afterwards(finished: Path) -> None:
    compared = compare_runs([f"{finished}:arms.in_turn~1", f"{finished}:arms.in_turn"])
    [stated] = [one for one in compared["exploratory"] if one["metric"] == "exact_match"]
    assert stated["model"].endswith(":arms.in_turn") and stated["against"].endswith(":arms.in_turn~1")
    assert len(stated["checkpoints"]) == 2


def test_a_finished_curriculum_is_left_as_it_is_and_a_torn_stage_is_made_again(
    study_file: Path, finished: Path, tmp_path: Path
) -> None:
    made = ("models/*/adapter*", "models/*/stages*", "models/*/stages/*/*", "answers/*.jsonl", "scores/*/*.jsonl")
    patterns = (*made, "models/*/m*", "compare.json")
    copy = shutil.copytree(finished, tmp_path / "copy")
    run_study_file(study_file, "--out", copy)
    assert contents(copy, patterns) == contents(finished, patterns)
    torn = copy / "models/arms.in_turn@0/stages/1/adapter_model.safetensors"
    torn.write_bytes(torn.read_bytes()[:99])
    ended = sightline_command("run", study_file, "--out", copy)
    assert ended.code == 0 and "arms.in_turn@0: 5 steps" in ended.err and "arms.in_turn@1: finished" in ended.err
    assert contents(copy, made) == contents(finished, made)


class Stopped(Exception):
    """What a test raises in the middle of a training."""


def test_an_interrupted_study_ends_as_the_uninterrupted_one(
    study_file: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "study", []
    one_seed = load_study(study_file, overrides=["steps.arms.seeds=[0]"])

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 4:  # two steps into the second stage
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(carry_out, "_spend", stop)
        with pytest.raises(Stopped):
            run_study(one_seed, out, with_figures=False)
    work = out / "models/.arms.in_turn@0.work"
    assert (work / "stages/1/adapter_model.safetensors").exists() and not (out / "models/arms.in_turn@0").exists()
    run_study(one_seed, out, until="arms", with_figures=False)
    patterns = [f"models/*@0/{name}" for name in ("adapter*", "stages.json", "stages/*/*")]
    assert contents(out, patterns) == contents(finished, patterns)
    assert not [*(out / "models").glob(".*")]


def prepared(folder: Path, text: str) -> Prepared:
    return read_data(load_study(write(folder, text)))


def staged_rows(looked_at: Prepared, number: int = 0) -> list[list[Sample]]:
    run = looked_at.plan.runs[number]
    samples = looked_at.samples(run.on)
    return [[samples[place] for place in stage.samples] for stage in stages_of(run, looked_at)]


def test_stages_take_the_rows_with_their_tags_from_their_own_sets(tmp_path: Path) -> None:
    text = """
base: builtin:tiny
data:
  a: {source: builtin:phantom, images: 10, subset: chest, split: {train: 0.5, test: 0.5}}
  b: {source: builtin:phantom, images: 10, subset: multi, seed: 1, split: {train: 0.5, test: 0.5}}
steps:
  s:
    on: a.train
    stages:
      - {where: {answer_type: OPEN}, epochs: 1}
      - {on: [b.train, a.train], where: {num_pictures: [2]}, epochs: 1}
      - {on: [b.train, a.train], where: {answer_type: CLOSED, num_pictures: 1}, max_steps: 3}
  plain: {on: b.train, epochs: 2}
evaluate: {on: a.test}
"""
    looked_at = prepared(tmp_path, text)
    a, b = looked_at.sets["a.train"], looked_at.sets["b.train"]
    opened, two, closed = staged_rows(looked_at)
    assert opened == [row for row in a if row.tags["answer_type"] == "OPEN"]
    assert two == list(b) and {len(row.pictures) for row in (*a, *b)} == {1, 2}
    assert closed == [row for row in a if row.tags["answer_type"] == "CLOSED"]
    assert staged_rows(looked_at, 1) == [list(b)]
    run, plain = looked_at.plan.runs
    assert num_passes(plain, looked_at) == 2
    seen = len(opened) + len(two) + 3 * run.settings.batch_size
    assert num_passes(run, looked_at) == pytest.approx(seen / (len(a) + len(b)))


UNTYPED = """
base: builtin:tiny
data: {rows: {source: rows.csv, columns: {tags: [ward]}, split: {train: 0.5, test: 0.5, by: row}}}
steps: {s: {on: rows.train, stages: STAGES}}
evaluate: {on: rows.test}
"""


@pytest.fixture
def untyped(tmp_path: Path) -> Path:
    rows = [[*row, "7" if number % 2 else ""] for number, row in enumerate(picture_rows(tmp_path / "images"))]
    write_csv(tmp_path / "rows.csv", rows, names=("image", "question", "answer", "ward"))
    return tmp_path


def test_rows_without_a_type_are_closed_where_the_answer_is_yes_or_no(untyped: Path) -> None:
    stages = "[{where: {answer_type: CLOSED}, epochs: 1}, {where: {answer_type: OPEN}, epochs: 1}]"
    closed, opened = staged_rows(prepared(untyped, UNTYPED.replace("STAGES", stages)))
    assert {row.answer for row in closed} == {"yes", "no"}
    assert opened and not {"yes", "no"} & {row.answer for row in opened}
    assert all("answer_type" not in row.tags for row in (*closed, *opened))  # the rows stay what they are
    assert not has_tags(closed[0], {"answer_type": "CLOSED"})


NO_ROWS = [
    (
        "{answer_type: OPNE}",
        r"stage 2 has no row: .* {'answer_type': 'OPNE'} of rows\.train, .*CLOSED, OPEN there",
    ),
    ("{ward: 8}", r"stage 2 has no row: it wants {'ward': 8} of rows\.train, and ward is 7 there"),
    ("{num_pictures: 3}", r"stage 2 has no row: .* and num_pictures is 1 there; look at its `on` and `where`"),
    ("{patient: p}", r"stage 2 has no row: .* and no row there has a tag patient"),
]


@pytest.mark.parametrize(("where", "told"), NO_ROWS)
def test_a_stage_without_rows_is_refused_by_name_before_anything_is_trained(
    untyped: Path, where: str, told: str
) -> None:
    text = UNTYPED.replace("STAGES", f"[{{epochs: 1}}, {{where: {where}, epochs: 1}}]")
    study = load_study(write(untyped, text))
    with pytest.raises(DataError, match=f"^s: {told}"):
        list(StudyCheck(study))
    with pytest.raises(DataError, match=f"^s: {told}"):
        run_study(study, untyped / "study")
    assert not (untyped / "study" / "models").exists()


def test_unequal_budgets_are_found_by_the_check_from_the_rows(tmp_path: Path) -> None:
    text = STUDY.replace("max_steps: 2}", "epochs: 1}").replace("max_steps: 3}", "epochs: 1}")
    findings = [one for one in StudyCheck(load_study(write(tmp_path, text))) if one.name == "several-factors-changed"]
    [finding] = findings
    opened, closed = staged_rows(prepared(tmp_path, text))
    steps = -(-len(opened) // 4) + -(-len(closed) // 4)
    assert finding.severity == "fault" and finding.evidence["num_steps"] == [steps, 5]
    equal = text.replace("max_steps: 5", f"max_steps: {steps}")
    assert not [one for one in StudyCheck(load_study(write(tmp_path, equal))) if one.name == finding.name]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["path_vqa", "medical_curriculum", "phantom_curriculum"])
def test_the_recipe_runs_to_its_report_as_a_smoke_test(tmp_path: Path, recipe: str) -> None:
    out = run_study_file(ROOT / "recipes" / f"{recipe}.yaml", "--smoke", "--out", tmp_path / "smoke")
    assert (out / "report.html").exists()

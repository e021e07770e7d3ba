"""What a report counts agrees with what its verdicts say, where answers cannot be read and images are shared."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from report import fake_study
from sightline.data.phantom import phantom_samples
from sightline.records import Answer
from sightline.report.build import build_report
from sightline.report.reading import read_study
from sightline.report.results import result_tables
from sightline.report.study_tables import results_table
from sightline.scoring.metrics import METRICS, score_answers
from sightline.storage import write_manifest
from sightline.verdict.compare import compare_models

YES_NO = [sample for sample in phantom_samples(12, seed=3) if sample.answer in ("yes", "no")]


@pytest.fixture
def nothing_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of yes/no questions in which no model says yes or no."""
    stock = fake_study._answers

    def mumbled(*arguments) -> list[Answer]:
        return [dataclasses.replace(answer, text="I cannot tell") for answer in stock(*arguments)]

    monkeypatch.setattr(fake_study, "_answers", mumbled)
    fake_study.write_study(tmp_path / "study", samples=YES_NO, models={"base": 0.4, "sft": 0.8}, stated=["sft"])
    build_report(tmp_path / "study", with_figures=False)
    return tmp_path / "study"


def test_answers_that_nobody_could_read_are_counted_once(nothing_read: Path) -> None:
    (table,) = result_tables(read_study(nothing_read).compare)
    (panel,) = [panel for panel in table.panels if panel.metric == "closed_accuracy"]
    number = str(len(YES_NO))
    for row in panel.rows:
        # The value is of all of them, counted wrong.
        assert (row.value, row.num_counted, row.num_unparsed) == ("0.0", number, number)
    for name in ("report.md", "report.html"):
        text = (nothing_read / name).read_text(encoding="utf-8")
        assert f"none of the answers to {number} questions could be read, on either side" in text
        assert "questions 0" not in text and "images 0" not in text


def test_images_that_questions_share_in_part_are_named_with_their_groups(tmp_path: Path) -> None:
    singles = phantom_samples(12, seed=3)
    pictures = list({picture.sha256: picture for sample in singles for picture in sample.pictures}.values())
    beside = dict(zip((p.sha256 for p in pictures[::2]), pictures[1::2], strict=False))
    samples = [
        dataclasses.replace(sample, pictures=(*sample.pictures, *filter(None, [beside.get(sample.pictures[0].sha256)])))
        for sample in singles
    ]
    study = fake_study.write_study(tmp_path / "study", samples=samples, models={"base": 0.3, "sft": 0.9})
    build_report(study, with_figures=False)
    num_images, num_groups = len(pictures), len(pictures) - len(beside)
    for name in ("report.md", "report.html"):
        text = (study / name).read_text(encoding="utf-8")
        assert f"questions on {num_images} images ({num_groups} independent groups), at most " in text


def test_the_report_says_what_exactly_answered(tmp_path: Path) -> None:
    study = fake_study.write_study(tmp_path / "study", models={"base": 0.3, "sft": 0.9})
    made_from = {"base": "owner/name@abc", "quantize": "nf4", "adapter_model.safetensors": "5f" * 32}
    for model, more in (("base", {}), ("sft", {"adapter made for": "owner/<b>other</b>"})):
        origin = made_from | more if more else {key: made_from[key] for key in ("base", "quantize")}
        answers = study / "answers" / f"{model}.jsonl"
        write_manifest(answers.with_name(f"{model}.manifest.json"), [answers], made_from=origin)
    build_report(study, with_figures=False)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert (
        f"base owner/name@abc, stored as nf4, adapter {'5f' * 32}, which says it was made for owner/&lt;b&gt;" in page
    )
    assert "5f" * 32 in (study / "report.md").read_text(encoding="utf-8")


def test_a_value_that_is_a_share_of_part_of_the_answers_says_of_how_many() -> None:
    texts = dict(zip((sample.id for sample in YES_NO), itertools.cycle(["No.", "no", "Yes.", "Hm."]), strict=False))
    answers = [
        Answer(sample_id=name, model="base", data="d", text=text, finish_reason="stop", num_tokens=2)
        for name, text in texts.items()
    ]
    metrics = [METRICS[f"pope_{name}"] for name in ("accuracy", "precision", "recall", "f1")]
    samples = {sample.id: sample for sample in YES_NO}
    scores = {metric.name: score_answers(metric, samples, answers) for metric in metrics}
    compare = compare_models(
        study="s", samples={"d": samples}, scores={("base", "d", "plain"): scores}, metrics=metrics, stated=[]
    )
    # By hand: precision is of what was called yes, recall of what is yes, F1 of whatever is or was called yes.
    called = {name for name, text in texts.items() if text == "Yes."}
    present = {sample.id for sample in YES_NO if sample.answer == "yes"}
    expected = [len(texts), len(called), len(present), len(called | present)]
    assert len(set(expected)) == 4
    (table,) = result_tables(compare)
    assert [panel.rows[0].num_counted for panel in table.panels] == [
        str(len(texts)), *(f"{number} of {len(texts)}" for number in expected[1:])
    ]  # fmt: skip
    whole = results_table(compare)
    assert whole is not None
    (place,) = [place for place, column in enumerate(whole.columns) if column.title == "Answers behind it"]
    assert [row[place].value for row in whole.rows] == expected

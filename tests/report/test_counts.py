"""What a report counts agrees with what its verdicts say, where answers cannot be read and images are shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from report import fake_study
from sightline.data.phantom import phantom_samples
from sightline.records import Answer
from sightline.report.build import build_report
from sightline.report.reading import read_study
from sightline.report.results import result_tables
from sightline.storage import write_manifest

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

"""The figures: SVG and PNG of the same values, the same bytes each time, and no text that acts."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from report.fake_study import MODELS, write_study
from sightline.report.content import gather
from sightline.report.figures import figure_files, maker_of
from sightline.report.reading import read_study

TWO = {"base": 0.4, "sft.a16": 0.8}


def _figures(directory: Path) -> Mapping[str, bytes]:
    return figure_files(gather(read_study(directory)))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), models=TWO)


@pytest.fixture(scope="module")
def figures(study: Path) -> Mapping[str, bytes]:
    return _figures(study)


def test_there_is_one_for_the_questions_each_metric_and_each_training(figures: Mapping[str, bytes]):
    stems = {"stated", "training-sft.a16", "quality-against-seconds"}
    stems |= {f"metric-{metric}-phantom.test-plain" for metric in ("exact_match", "closed_accuracy", "nll")}
    assert figures.keys() == {f"{stem}.{kind}" for stem in stems for kind in ("svg", "png")}


def test_the_same_values_give_the_same_bytes(study: Path, figures: Mapping[str, bytes]):
    again = _figures(study)
    assert all(again[name] == content for name, content in figures.items())


def test_they_are_pictures_of_a_size_for_print_and_say_who_drew_them(figures: Mapping[str, bytes]):
    for name, content in figures.items():
        assert maker_of(content).startswith("Matplotlib 3."), name
        if name.endswith(".png"):
            assert Image.open(io.BytesIO(content)).width == 1440
        else:
            names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(content).iter()}
            assert names <= {"svg", "metadata", "RDF", "Work", "type", "title", "date", "format", "creator", "Agent",
                             "defs", "style", "g", "path", "use", "clipPath", "rect"}, name  # fmt: skip


def test_a_changed_value_changes_its_figure(study: Path, figures: Mapping[str, bytes], tmp_path: Path):
    compare = json.loads((study / "compare.json").read_text())
    compare["stated"][0]["difference"] += 0.02
    for name in ("run.json", "study.yaml"):
        (tmp_path / name).write_bytes((study / name).read_bytes())
    (tmp_path / "compare.json").write_text(json.dumps(compare))
    assert _figures(tmp_path)["stated.svg"] != figures["stated.svg"]


def test_names_that_no_letter_stands_for_are_drawn_by_number(tmp_path: Path):
    names = {"base": 0.4, "sft.$\\frac{1}{2}$": 0.8, "sft.肺": 0.6}
    directory = write_study(tmp_path, models=names)
    figures = _figures(directory)  # warnings are errors: a missing letter would be one
    assert len([name for name in figures if name.startswith("training-")]) == 2 * (len(MODELS) - 3)

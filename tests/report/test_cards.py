"""Model cards: metadata that a hub reads, verdicts as they stand, licences inherited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from report.fake_study import MODELS, write_study
from sightline.report.cards import model_cards
from sightline.report.content import gather
from sightline.report.reading import read_study

repocard = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, which the extra `train` brings")


def _cards(directory: Path, *, base: str = "", licences: dict[str, Any] | None = None) -> dict[str, str]:
    write_study(directory)
    if base:
        path = directory / "study.yaml"
        path.write_text(path.read_text().replace("base: builtin:tiny", f"base: {base}"))
    if licences is not None:
        found = [{"name": "licences", "severity": "note", "message": "", "evidence": licences}]
        (directory / "checks.json").write_text(json.dumps(found))
    return dict(model_cards(gather(read_study(directory))))


def _metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_every_model_that_a_step_made_has_a_card_and_base_has_none(tmp_path: Path):
    assert _cards(tmp_path).keys() == {f"{model}.md" for model in MODELS if model != "base"}


def test_the_hub_reads_the_metadata(tmp_path: Path):
    card = _cards(tmp_path, base="llava-hf/llava-1.5-7b-hf", licences={"base x": "llama2", "data y": "CC0-1.0"})
    data = repocard.ModelCard(card["sft.a16.md"], ignore_metadata_errors=False).data
    assert data.base_model == "llava-hf/llava-1.5-7b-hf" and data.base_model_relation == "adapter"
    assert (data.license, data.library_name, data.pipeline_tag) == ("llama2", "peft", "image-text-to-text")
    compare = json.loads((tmp_path / "compare.json").read_text())
    (arm,) = [arm for arm in compare["arms"] if arm["model"] == "sft.a16"]
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results == {name: metric["value"] for name, metric in arm["metrics"].items()}


def test_what_is_not_known_is_not_claimed(tmp_path: Path):
    card = _cards(tmp_path, licences={"base x": None, "data y": "CC0-1.0"})["sft.a16.md"]
    assert not {"license", "base_model", "datasets"} & _metadata(card).keys()
    assert "base x: not known; look it up" in card.replace("\\", "")


@pytest.mark.parametrize(
    ("licences", "name"),
    [
        ({"a": "MIT", "b": "Apache-2.0"}, {"license": "other", "license_name": "several-see-below"}),
        ({"a": "MIT", "b": "cc-by-nc-4.0"}, {"license": "cc-by-nc-4.0"}),
        ({"a": "cc-by-sa-4.0", "b": "cc-by-nc-4.0"}, {"license": "other", "license_name": "several-see-below"}),
        ({"a": "House rules 1.0", "b": "MIT"}, {"license": "other", "license_name": "house-rules-1.0"}),
    ],
)
def test_the_more_demanding_licence_is_inherited(tmp_path: Path, licences: dict[str, str], name: dict[str, str]):
    found = _metadata(_cards(tmp_path, licences=licences)["sft.a16.md"])
    assert {key: found[key] for key in found if key.startswith("license")} == name


def test_the_card_says_what_the_report_says(tmp_path: Path):
    card = _cards(tmp_path)["sft.frozen.md"].replace("\\", "")
    compare = json.loads((tmp_path / "compare.json").read_text())
    (entry,) = [entry for entry in compare["stated"] if entry["model"] == "sft.frozen"]
    assert f"**{entry['verdict']}**" in card
    assert "one training run: the verdict is about this checkpoint" in card
    assert card.count("not for clinical decisions") >= 2
    assert "changed in this member: lora.alpha 1" in card
    assert "Accepted fault test-is-small: a demonstration on drawn pictures" in card

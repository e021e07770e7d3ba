"""From judgements made over HTTP to the block of compare.json, on a study's own directory."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from report.fake_study import DATA, MODELS, write_study
from sightline.records import Sample, sample_from_json
from sightline.runner.results import read_scores
from sightline.scoring.metrics import metric_named
from sightline.serving.judgements import FOLDER
from sightline.serving.people import has_other_reviews, people_say
from sightline.serving.review import Review
from sightline.storage import canonical_json

METRICS = [metric_named(name) for name in ("exact_match", "closed_accuracy", "nll")]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", models={name: MODELS[name] for name in ("base", "sft.a16", "sft.a8")})


def people(study: Path) -> dict[str, list[dict[str, Any]]]:
    """What people say of a study, by kind."""
    compare = json.loads((study / "compare.json").read_text(encoding="utf-8"))
    rows = (study / "data" / f"{DATA}.jsonl").read_text(encoding="utf-8").splitlines()
    samples: dict[str, Sample] = {sample.id: sample for sample in map(sample_from_json, map(json.loads, rows))}
    scores = read_scores(study, ("base", "sft.a16", "sft.a8"), METRICS)
    entries = people_say(study, compare, samples={DATA: samples}, scores=scores, metrics=METRICS)
    assert json.loads(canonical_json(entries)) == entries  # fit for compare.json
    assert all(entry["title"] and entry["sentence"].endswith(".") for entry in entries)
    kinds = dict.fromkeys(entry["kind"] for entry in entries)
    return {kind: [entry for entry in entries if entry["kind"] == kind] for kind in kinds}


def review_all(study: Path, reviewer: str) -> None:
    """Judge everything: an answer is correct where it is the reference; of two, the one that is."""
    with contextlib.closing(Review(study)) as review:
        for task in ("label", "preference"):
            for number, item in enumerate(review.queue(reviewer, task)):
                right = [text == item["reference"] for text in item["answers"]]
                verdict = "correct" if right[0] else "incorrect"
                if task == "preference":
                    verdict = "neither" if right[0] == right[1] else "left" if right[0] else "right"
                given = {"id": f"{task}-{number:05d}-{reviewer}", "reviewer": reviewer, "item": item["item"]}
                review.save({**given, "verdict": verdict, "seconds": 1})


def test_without_reviews_there_is_nothing(study: Path) -> None:
    assert people(study) == {}


def test_people_who_say_what_exact_match_says_agree_with_it(study: Path) -> None:
    review_all(study, "Ada")
    found = people(study)
    assert list(found) == ["reviewers", "metric", "model", "difference", "preference"]
    assert {entry["metric"] for entry in found["metric"]} == {"exact_match", "closed_accuracy"}
    exact = next(entry for entry in found["metric"] if entry["metric"] == "exact_match")
    assert (exact["agreement"], exact["kappa"], exact["sensitivity"], exact["specificity"]) == (1.0, 1.0, 1.0, 1.0)
    compare = json.loads((study / "compare.json").read_text(encoding="utf-8"))
    values = {arm["model"]: arm["metrics"]["exact_match"]["value"] for arm in compare["arms"]}
    for entry in found["model"]:
        if entry["metric"] == "exact_match":
            assert entry["value"] == pytest.approx(values[entry["model"]]) and entry["headline"]
            assert entry["num_labels"] == entry["num_questions"]
    for entry in found["difference"]:
        if entry["metric"] == "exact_match":
            assert entry["value"] == pytest.approx(values[entry["model"]] - values["base"])
    for entry in found["preference"]:
        counted = entry["preferred"] + entry["ties"] + entry["not_preferred"]
        assert entry["win_rate"] > 0.6 and counted == entry["num_questions"] and entry["num_order_decided"] == 0
    (reviewers,) = found["reviewers"]
    assert has_other_reviews(study, compare) and not has_other_reviews(study, compare | {"people": [reviewers]})
    assert not has_other_reviews(study / "data", compare)
    assert "Ada" not in json.dumps(found) and reviewers["num_reviewers"] == 1 and reviewers["num_stale"] == 0


def test_a_torn_line_is_left_out_and_left_alone(study: Path) -> None:
    review_all(study, "Ada")
    (path,) = (study / FOLDER).glob("*.jsonl")
    torn = path.read_bytes()[:-40]
    path.write_bytes(torn)
    found = people(study)
    (reviewers,) = found["reviewers"]
    # Preferences count both showings; the torn one is the last.
    assert reviewers["num_preferences"] + reviewers["num_answers"] == torn.count(b"\n")
    assert path.read_bytes() == torn

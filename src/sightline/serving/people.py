"""What the reviewers of a study say of its metrics and models, read from its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.records import Sample, Score
from sightline.scoring.metric import Metric
from sightline.serving.judgements import FOLDER, read_reviews, what_reviewers_say
from sightline.serving.queue import comparing_judges, pairs_of
from sightline.storage import canonical_json, read_jsonl, sha256_of
from sightline.study.text import parse_yaml
from sightline.verdict.human_labels import Answered, Place, use_labels
from sightline.verdict.reviewers import answer_sha256


def people_say(
    directory: Path,
    compare: Mapping[str, Any],
    *,
    samples: Mapping[str, Mapping[str, Sample]],
    scores: Mapping[Place, Mapping[str, Sequence[Score]]],
    metrics: Sequence[Metric],
) -> list[dict[str, Any]]:
    """Use the judgements in a study's `reviews/`.

    Args:
        directory: the study's.
        compare: the content of compare.json without this.
        samples: data set to sample id to sample.
        scores: as `read_scores` gives them.
        metrics: the study's.

    Returns:
        what `use_labels` finds, for compare.json, its first entry with the hash of the judgements; nothing where nobody
        has reviewed.

    Raises:
        CorruptError: a judgement that cannot be read.
    """
    rows = read_reviews(directory / FOLDER)
    if not rows:
        return []
    used = {"reviews_sha256": reviews_sha256(directory)}
    study_file = directory / "study.yaml"
    study = parse_yaml(study_file.read_text(encoding="utf-8"), str(study_file)) or {}
    texts: dict[Place, dict[str, str]] = {}
    for model in dict.fromkeys(model for model, _, _ in scores):
        for row in read_jsonl(directory / "answers" / f"{model}.jsonl"):
            if not row["k"]:
                texts.setdefault((model, row["data"], row["template"]), {})[row["sample_id"]] = answer_sha256(
                    row["text"]
                )
    comparing = comparing_judges(study)
    answered = Answered(
        texts=texts,
        samples=samples,
        scores=scores,
        metrics=[metric for metric in metrics if metric.name not in comparing],
        pairs=[(pair.model, pair.against, pair.data, pair.template) for pair in pairs_of(compare)],
    )
    reviewers, *entries = use_labels(*what_reviewers_say(rows), answered)
    return [reviewers | used, *entries]


def reviews_sha256(directory: Path) -> str:
    """Hash a study's judgements, whole lines only; "" where there are none.

    Raises:
        CorruptError: a judgement that cannot be read.
    """
    rows = read_reviews(directory / FOLDER)
    return sha256_of(canonical_json(rows)) if rows else ""


def has_other_reviews(directory: Path, compare: Mapping[str, Any]) -> bool:
    """Say whether a study's judgements are others than those that its compare.json was made with."""
    used = next((str(entry.get("reviews_sha256")) for entry in compare.get("people") or ()), "")
    return used != reviews_sha256(directory)

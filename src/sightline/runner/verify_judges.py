"""A judge's scores, read again from the replies that it gave: it is not asked a second time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.generation.calls import without_thoughts
from sightline.records import Sample, to_json
from sightline.runner.judging import REFERENCE, answers_by_place, as_asked, settle_unasked
from sightline.runner.metrics import kind_of
from sightline.scoring.judge import Asked, Judgement, Kind, UnreadableError, score_of
from sightline.storage import read_jsonl
from sightline.study import Study


def judged_again(
    directory: Path, study: Study, name: str, model: str, samples: Mapping[str, Mapping[str, Sample]]
) -> list[dict[str, Any]]:
    """Work out a judge's scores of one model's answers from its stored words.

    Args:
        directory: the study's.
        study: the study.
        name: the judge's.
        model: whose answers were judged.
        samples: data set to its samples.

    Returns:
        Rows as in `scores/MODEL/JUDGE.jsonl`. Words that are not in the judge's ledger give a failed score.
    """
    settings, folder = study.judges[name], directory / "judges" / name
    kind = kind_of(settings, study.folder)
    answers = answers_by_place(directory, model)
    compares = kind.name == "pairwise" and settings.against != REFERENCE
    rivals = answers_by_place(directory, settings.against) if compares else {}
    known, rows = _words_of(folder / "calls.jsonl"), []
    for row in read_jsonl(folder / f"{model}.jsonl"):
        place = (row["data"], row["template"], row["sample_id"], row["k"])
        if place not in answers:
            continue
        asked = as_asked(kind, samples[row["data"]][row["sample_id"]], answers[place], rivals.get(place))
        judgement = _again(kind, asked, row, known)
        rows.append({**to_json(score_of(judgement, name)), "data": row["data"], "template": row["template"]})
    return rows


def _again(kind: Kind, asked: Asked, row: Mapping[str, Any], known: set[str]) -> Judgement:
    if settled := settle_unasked(kind, asked):
        return settled
    name, words = asked.sample.id, tuple(row["replies"])
    if row["outcome"] != "judged":
        return Judgement(sample_id=name, outcome=row["outcome"], reason=row["reason"], replies=words)
    if not known.issuperset(words):
        return Judgement(sample_id=name, outcome="failed", reason="the ledger holds no such reply", replies=words)
    try:
        said = [kind.read(without_thoughts(text), asked) for text in words]
    except UnreadableError as error:
        return Judgement(sample_id=name, outcome="unreadable", reason=str(error), replies=words)
    return Judgement(sample_id=name, outcome="judged", opinion=kind.combine(said, asked), replies=words)


def _words_of(ledger: Path) -> set[str]:
    """Read every reply of a ledger, without taking it: a judge may be at work."""
    words = set()
    if ledger.exists():
        for line in ledger.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                words.add(json.loads(line)["reply"]["text"])
            except (ValueError, KeyError, TypeError):
                continue  # of a call that was sent, or a line that was cut: no reply that could be believed
    return words

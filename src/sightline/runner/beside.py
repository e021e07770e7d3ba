"""What stands in compare.json beside the verdicts: from answers and judges' words, not from scores alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.generation.calls import CUT
from sightline.records import NO_ANSWER, Sample, Score
from sightline.runner.metrics import judges_asked, metric_of, metrics_of
from sightline.scoring import phantom_shr
from sightline.scoring.agreement import compare_judges
from sightline.scoring.shr import Description, Sentence, beside_length
from sightline.serving.people import people_say
from sightline.storage import read_jsonl
from sightline.study import Evaluate, Plan, Study
from sightline.study.names import is_served
from sightline.verdict.compare import BASE
from sightline.verdict.forgotten import what_was_lost
from sightline.verdict.sentences import level, model_in_words, subject

Scores = Mapping[tuple[str, str, str], Mapping[str, Sequence[Score]]]
Described = dict[tuple[str, str, str], dict[str, dict[str, Description]]]
"""(metric, data set, wording) to model to sample id to its judged description."""


def stand_beside(
    out: Path,
    study: Study,
    plan: Plan,
    *,
    compared: Mapping[str, Any],
    samples: Mapping[str, Mapping[str, Sample]],
    scores: Scores,
) -> dict[str, list[dict[str, Any]]]:
    """Gather what a reader must see beside a study's verdicts.

    Args:
        out: the study's directory.
        study: the study.
        plan: what it asks.
        compared: compare.json so far.
        samples: evaluation set to its rows.
        scores: (model, data set, wording) to metric to scores.

    Returns:
        Parts of compare.json; each entry has a title and a sentence.
    """
    answers = {
        model: [row for row in read_jsonl(out / "answers" / f"{model}.jsonl") if row["finish_reason"] != NO_ANSWER]
        for model in plan.models
    }
    entries = [*compared["stated"], *compared["exploratory"]]
    deciding = {study.evaluate.metrics[0], *(comparison.by for comparison in plan.comparisons)}
    return {
        "judges": judges_beside(study, scores, entries),
        "described": list(_described(out, study, answers, samples)),
        "cut": list(_cut(answers, study.evaluate)),
        "people": people_say(out, compared, samples=samples, scores=scores, metrics=metrics_of(study)),
        # What a server answers with was not made from base, so it has forgotten nothing of it.
        "forgotten": what_was_lost(
            [entry for entry in entries if not is_served(study, entry["model"])],
            _untouched(study, plan),
            metrics=deciding,
        ),
    }


def judges_beside(study: Study, scores: Scores, entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Say of every comparison that several judges decided whether they agree; phantom's own facts are one of them."""
    names = dict.fromkeys(judges_asked(study))
    if phantom_shr.NAME in study.evaluate.metrics:
        names[phantom_shr.NAME] = None
    metrics = {name: metric_of(study, name) for name in names}
    return [
        {**row, "title": subject({**row, "metric": "all judges"})} for row in compare_judges(scores, metrics, entries)
    ]


def _untouched(study: Study, plan: Plan) -> str:
    """Name the untouched set as the plan does; "" where there is none."""
    named = study.evaluate.untouched
    return next((part for part in plan.asked if named and part in (named, f"{named}.{part.partition('.')[2]}")), "")


def _cut(answers: Mapping[str, Sequence[Mapping[str, Any]]], evaluate: Evaluate) -> Iterator[dict[str, Any]]:
    """Count, set by set and wording by wording, the answers that reached the longest length."""
    counts: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for model, rows in answers.items():
        for row in rows:
            by_model = counts.setdefault((row["data"], row["template"]), {})
            by_model.setdefault(model, Counter())[row["finish_reason"]] += 1
    for (data, template), by_model in counts.items():
        limit = evaluate.for_set(data).max_new_tokens
        models = {
            model: {"num_cut": found[CUT], "num_answers": found.total(), "rate": found[CUT] / found.total()}
            for model, found in by_model.items()
        }
        said = [
            f"{model_in_words(model)} {found['num_cut']:,} of {found['num_answers']:,} ({level(found['rate'], 'rate')})"
            for model, found in models.items()
            if found["num_cut"]
        ]
        none = (
            f"no answer of {len(models)} models" if not said else f"none of the other {len(models) - len(said)} models"
        )
        told = [*said, *([none] if len(said) < len(models) else [])]
        place = {"data": data, "template": template, "limit": limit, "models": models}
        title = data if template == "plain" else f"{data}, template {template}"
        yield {**place, "title": title, "sentence": f"reached {limit} tokens and ended there: {', '.join(told)}."}


def _described(
    out: Path,
    study: Study,
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    samples: Mapping[str, Mapping[str, Sample]],
) -> Iterator[dict[str, Any]]:
    """Put every hallucination ratio beside the descriptions' length, and beside the ratio at matched length."""
    described: Described = {}
    for name, judge in judges_asked(study).items():
        if judge.kind == "shr":
            for model in answers:
                _add(described, name, model, _judged(out, name, model, answers[model]))
    if phantom_shr.NAME in study.evaluate.metrics:
        for model in answers:
            _add(described, phantom_shr.NAME, model, _looked_up(answers[model], samples))
    for (metric, data, template), models in described.items():
        for row in beside_length(models, BASE):
            place = {"metric": metric, "data": data, "template": template}
            title = f"{model_in_words(row['model'])}, {metric} on {data}"
            title += "" if template == "plain" else f", template {template}"
            yield {**place, **row, "title": title, "sentence": _length_in_words(row)}


def _add(described: Described, metric: str, model: str, found: Iterable[tuple[str, str, str, Description]]) -> None:
    for data, template, sample_id, description in found:
        described.setdefault((metric, data, template), {}).setdefault(model, {})[sample_id] = description


def _looked_up(
    answers: Iterable[Mapping[str, Any]], samples: Mapping[str, Mapping[str, Sample]]
) -> Iterator[tuple[str, str, str, Description]]:
    for row in answers:
        sample = samples[row["data"]][row["sample_id"]]
        if phantom_shr.is_description(sample.answer):
            yield row["data"], row["template"], sample.id, phantom_shr.describe_answer(sample, row["text"])


def _judged(
    out: Path, judge: str, model: str, answers: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[str, str, str, Description]]:
    texts = {(row["data"], row["template"], row["sample_id"], row["k"]): row["text"] for row in answers}
    for row in read_jsonl(out / "judges" / judge / f"{model}.jsonl"):
        if row["outcome"] == "judged":
            sentences = tuple(Sentence(**each) for each in row["opinion"]["details"]["sentences"])
            text = texts[row["data"], row["template"], row["sample_id"], row["k"]]
            description = Description(text=text, raw="\n".join(row["replies"]), sentences=sentences)
            yield row["data"], row["template"], row["sample_id"], description


def _length_in_words(row: Mapping[str, Any]) -> str:
    sentences = row["sentences"]
    num_judged = int(sentences["hallucination"] + sentences["correct"])
    num_unjudged = int(sentences["cannot judge"] + sentences["unjudged"])
    said = (
        f"{level(row['shr'], 'rate')} of {num_judged:,} judged sentences are hallucinations ({num_unjudged:,} more "
        f"could not be judged); {row['sentences_per_description']:.1f} sentences and "
        f"{row['words_per_description']:.1f} words a description"
    )
    if row["at_matched_length"] is None:
        return f"{said}."
    matched = ", ".join(f"{model} {level(value, 'rate')}" for model, value in row["at_matched_length"].items())
    return f"{said}; cut to equally many sentences: {matched}."

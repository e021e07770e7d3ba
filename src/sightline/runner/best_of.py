"""The step `best_of`: rejection sampling, the best of several drawn answers as training data."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.errors import RefusedError, StudyError
from sightline.records import Answer, Sample
from sightline.runner.display import Display
from sightline.runner.judging import open_judge
from sightline.runner.metrics import metric_of
from sightline.scoring.judge import Asked
from sightline.scoring.metric import Metric
from sightline.study import StepRun
from sightline.study.steps import BestOf

if TYPE_CHECKING:
    from sightline.runner.make import Shelf

Values = Mapping[str, Sequence[float | None]]
"""What the answers to each sample are worth, by sample id; None where that cannot be said."""


def pick_best(
    run: StepRun, shelf: Shelf, samples: Sequence[Sample], answers: Mapping[str, Sequence[str]], display: Display
) -> tuple[list[Sample], dict[str, Any]]:
    """Keep the best answer to each question, the first of several that are equally good.

    A question none of whose answers can be scored is left out, and so is one whose best answer is worth nothing at all:
    a rate of 0, or of 1 where lower is better.

    Args:
        run: of a step `best_of`.
        shelf: the models.
        samples: what was asked.
        answers: what was drawn for each.
        display: where progress is shown.

    Returns:
        the rows, and how it went.

    Raises:
        RefusedError: no answer is worth keeping, or a judge did not answer all.
        StudyError: the metric gives no number for a single answer.
    """
    step = shelf.prepared.study.steps[run.step]
    assert isinstance(step, BestOf)
    metric = metric_of(shelf.prepared.study, step.by)
    by_judge = step.by in shelf.prepared.study.judges
    values, how = (
        _judged(step.by, shelf, samples, answers, display)
        if by_judge
        else (score_drawn(run, metric, samples, answers), {})
    )
    sign = 1 if metric.higher_is_better else -1
    worthless = None if metric.unit != "rate" else 0.0 if metric.higher_is_better else 1.0
    made: list[Sample] = []
    best_values, all_values, num_unscored = [], [], 0
    for sample in samples:
        texts = answers[sample.id]  # an empty one cannot be learnt
        known = [(value, k) for k, value in enumerate(values[sample.id]) if value is not None and texts[k].strip()]
        if not known:
            num_unscored += 1
            continue
        value, k = max(known, key=lambda one: (sign * one[0], -one[1]))
        all_values += [one for one, _ in known]
        best_values.append(value)
        if value != worthless:
            tags = {**sample.tags, "chosen_k": str(k), "score": f"{value:.6g}"}
            made.append(dataclasses.replace(sample, answer=answers[sample.id][k], rejected=None, tags=tags))
    if not made:
        raise RefusedError(
            f"{run.name}: of {len(samples):,} questions none has an answer that {step.by} finds any good; "
            "draw more samples, or start from a model that sometimes answers well"
        )
    mean, best = sum(all_values) / len(all_values), sum(best_values) / len(best_values)
    return made, {
        "judge": step.by,
        "num_questions": len(samples),
        "num_drawn": step.samples * len(samples),
        "num_unscored": num_unscored,
        "num_rows": len(made),
        "mean": mean,
        "best": best,
        "sentence": f"{len(made):,} rows from {len(samples):,} questions, {num_unscored:,} of which {step.by} does not "
        f"score; {metric.title} of a drawn answer {mean:.3g} on average, of the best of {step.samples} {best:.3g}.",
        **how,
    }


def score_drawn(
    run: StepRun, metric: Metric, samples: Sequence[Sample], answers: Mapping[str, Sequence[str]]
) -> Values:
    """Score drawn answers by a metric that needs no judge.

    Args:
        run: of the step that drew them.
        metric: of the study.
        samples: what was asked.
        answers: what was drawn for each.

    Returns:
        values by sample id, in the order of the answers.

    Raises:
        StudyError: the metric gives no number for a single answer.
    """
    assert metric.score is not None, "refused before anything was made"
    found: dict[str, list[float | None]] = {}
    for sample in samples:
        scores = [
            metric.score(
                sample,
                Answer(
                    sample_id=sample.id,
                    model=run.parent,
                    data=run.name,
                    template="plain",
                    k=k,
                    text=text,
                    finish_reason="stop",
                    num_tokens=0,
                ),
            )
            for k, text in enumerate(answers[sample.id])
        ]
        found[sample.id] = [score.value for score in scores]
    if all(value is None for values in found.values() for value in values):
        raise StudyError(
            f"{run.name}: by: {metric.name} has no number for a single answer of these rows; choose by another metric"
        )
    return found


def _judged(
    name: str, shelf: Shelf, samples: Sequence[Sample], answers: Mapping[str, Sequence[str]], display: Display
) -> tuple[Values, dict[str, str]]:
    study = shelf.prepared.study
    asked = [Asked(sample=sample, text=text) for sample in samples for text in answers[sample.id]]
    with (
        open_judge(name, study.judges[name], folder=study.folder, out=shelf.out, shelf=shelf) as judge,
        display.bar(f"{name}: answers", len(asked), "replies") as bar,
    ):
        judgements = judge.judge(asked, on_reply=lambda reply: bar.advance())
        how = {"prompt_sha256": judge.kind.prompt_sha256, "decoding": repr(judge.decoding)}
    if failed := sum(found.outcome == "failed" for found in judgements):
        raise RefusedError(
            f"judges.{name}: {failed:,} of {len(judgements):,} answers had no reply; what was replied is kept, and the "
            "same command goes on from here"
        )
    given = (found.opinion.value if found.opinion else None for found in judgements)
    return {sample.id: list(itertools.islice(given, len(answers[sample.id]))) for sample in samples}, how

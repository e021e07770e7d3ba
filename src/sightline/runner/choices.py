"""The step `choose`: the best of several models by validation data, as a model like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import CorruptError, RefusedError
from sightline.generation.answering import Wording, answer_samples, reference_nll
from sightline.generation.sampling import Decoding
from sightline.models.adapter_files import adapter_files
from sightline.records import Score, to_json
from sightline.runner.display import Display
from sightline.runner.metrics import metric_of, metric_origins
from sightline.runner.prepare import wording_of
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import score_answers
from sightline.storage import canonical_json, sha256_of, write_file
from sightline.study import Choose, StepRun
from sightline.verdict.arms import arm_value

if TYPE_CHECKING:
    from sightline.runner.make import Shelf

RECORD = "choice.json"
"""Which model was chosen, with the values of all."""


def choice_settings(shelf: Shelf, step: Choose) -> dict[str, str]:
    """Write down what a choice depends on besides its models and its data."""
    metric = metric_of(shelf.prepared.study, step.by)
    asked = {"settings/by": step.by, "settings/wording": repr(_wording(shelf))}
    if metric.score is not None:
        asked["settings/decoding"] = repr(_decoding(shelf))
    return asked | {f"settings/{key}": value for key, value in _origins(metric, shelf).items()}


def choose_model(
    run: StepRun,
    step: Choose,
    shelf: Shelf,
    hashes: Mapping[str, str],
    display: Display,
    spend: Callable[[], None],
    made: Path,
) -> None:
    """Ask every model about the validation data and take the adapter of the best; of equals, the first.

    Each model's scores are kept in the study's `validation/`, so that an interrupted choice goes on with the next one.

    Args:
        run: the step, for one seed.
        step: its keys.
        shelf: the models.
        hashes: of the data sets.
        display: where progress and result are shown.
        spend: called after every model; raises when the budget is used up.
        made: the folder to fill.

    Raises:
        RefusedError: if the metric has no value for some model.
    """
    metric = metric_of(shelf.prepared.study, step.by)
    values: dict[str, float] = {}
    num_scored: dict[str, int] = {}
    for name in run.parents:
        scores = _scores(name, run, metric, shelf, hashes, display)
        counted = [score for score in scores if score.outcome in ("scored", "unparsed")]
        value = arm_value(metric, counted)
        if value is None:
            raise RefusedError(
                f"{run.name}: {metric.name} has no value for {name} on {', '.join(run.on)}, where {len(counted)} of "
                f"{len(scores)} answers count; choose by another metric"
            )
        values[name], num_scored[name] = value, len(counted)
        spend()
    best = (max if metric.higher_is_better else min)(values, key=values.__getitem__)
    folder = shelf.adapter_folder(best)
    assert folder is not None, "a bare base was to be refused before the study began"
    for file in adapter_files(folder):
        shutil.copyfile(file, made / file.name)
    record = {
        "chosen": best,
        "by": metric.name,
        "higher_is_better": metric.higher_is_better,
        "on": list(run.on),
        "values": values,
        "num_scored": num_scored,
    }
    (made / RECORD).write_text(canonical_json(record), encoding="utf-8")
    told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    display.say(f"{run.name}: {best} chosen by {metric.name} on {', '.join(run.on)}: {told}")


def _scores(
    model: str, run: StepRun, metric: Metric, shelf: Shelf, hashes: Mapping[str, str], display: Display
) -> list[Score]:
    """Score one model on the validation data, or read what an earlier start found."""
    depends = {
        **{f"model/{key}": value for key, value in shelf.identity(model).items()},
        **{f"data/{name}": hashes[name] for name in run.on},
        **_origins(metric, shelf),
        "wording": repr(_wording(shelf)),
        "decoding": repr(_decoding(shelf)) if metric.score else "",
    }
    file = shelf.out / "validation" / f"{sha256_of(canonical_json(depends))[:16]}.json"
    if file.exists():
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            if held["made_from"] != depends:
                raise ValueError("it was made from something else")
            return [Score(**score) for score in held["scores"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{file}: {error}; remove it, and it is made again") from error
    samples = shelf.prepared.samples(run.on)
    loaded = shelf.wear(model)
    display.say(f"{run.name}: {metric.name} of {model} on {len(samples):,} rows of {', '.join(run.on)}")
    if metric.score is None:
        scores = reference_nll(loaded, samples, wording=_wording(shelf))
    else:
        rows = answer_samples(
            loaded, samples, _decoding(shelf), model=model, data=", ".join(run.on), wording=_wording(shelf)
        )
        answers = [answer for row in rows for answer in row]
        scores = score_answers(metric, {sample.id: sample for sample in samples}, answers)
        scores.sort(key=lambda score: score.sample_id)
    write_file(file, canonical_json({"made_from": depends, "scores": [to_json(score) for score in scores]}))
    return scores


def _wording(shelf: Shelf) -> Wording:
    """The study's first way of putting a question."""
    name, text = next(iter(shelf.prepared.study.evaluate.prompts.items()))
    wording, system = wording_of(shelf.prepared.plan, text)
    return Wording(name=name, text=wording, system=system)


def _decoding(shelf: Shelf) -> Decoding:
    evaluate = shelf.prepared.study.evaluate
    return Decoding(
        max_new_tokens=evaluate.max_new_tokens, num_beams=evaluate.num_beams, temperature=evaluate.temperature
    )


def _origins(metric: Metric, shelf: Shelf) -> dict[str, str]:
    return metric_origins([metric], shelf.prepared.study.folder)

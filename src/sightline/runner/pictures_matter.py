"""Does the picture matter? Ask every model again without its pictures, and write down what it lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.stand_ins import with_blank_pictures, with_other_pictures
from sightline.records import Answer, Sample, Score, to_json
from sightline.runner.display import Display
from sightline.runner.made_data import as_carried_out
from sightline.runner.metrics import metric_of, metric_origins, plain_metrics
from sightline.runner.results import read_samples, read_scores
from sightline.runner.served import missing_answers, open_served, reply_decoding
from sightline.scoring.metrics import Metric, score_answers
from sightline.storage import (
    MANIFEST,
    canonical_json,
    is_finished,
    json_line,
    read_jsonl,
    recorded_origin,
    write_file,
    write_manifest,
)
from sightline.study import Study, load_study, model_location, plan_study
from sightline.study.names import is_served
from sightline.verdict.pictures_matter import BLANK, OTHER, OWN, judge_pictures, measure_pictures

if TYPE_CHECKING:
    from sightline.models.family import Family
    from sightline.runner.make import Shelf

FILE = "pictures_matter.json"
FOLDER = "pictures_matter"


def ask_without_pictures(model: str, shelf: Shelf, display: Display) -> bool:
    """Ask a model that has been evaluated each set again, in the study's first wording, unless it is done.

    Its answers and scores with blank pictures and with other samples' lie in `pictures_matter/MODEL/`; those with its
    own pictures are the study's. A model on a server is asked likewise, and has no loss.

    Returns:
        whether anything was done.
    """
    from sightline.runner.evaluate import wordings

    study, plan, out = shelf.prepared.study, shelf.prepared.plan, shelf.out
    metrics = _metrics(study, model)
    measured = {picture: metrics for picture in (BLANK, OTHER)}
    if "nll" not in study.evaluate.metrics:
        measured[OWN] = [metric for metric in metrics if metric.score is None]
    answered = recorded_origin(out / "answers" / f"{model}.{MANIFEST}")
    origin = {
        **(answered or {}),
        **metric_origins(metrics, study.folder),
        "wordings": repr(wordings(shelf)[0]),
    }
    worked = False
    for picture, wanted in measured.items():
        manifest = out / FOLDER / model / f"{picture}.{MANIFEST}"
        if not wanted or is_finished(manifest, made_from=origin):
            continue
        files = [manifest.with_name(f"{picture}.jsonl"), manifest.with_name(f"{picture}.scores.jsonl")]
        answers, scores = [], []
        sets = {name: shelf.prepared.asked(name) for name in plan.asked}
        # What a server's model takes for the mean is not known: it sees the blank pictures that the base sees.
        family = shelf.family(model_location(study, study.base) if is_served(study, model) else shelf.base_of(model))
        given = {name: _stand_in(picture, samples, family) for name, samples in sets.items()}
        with display.bar(f"{model}: {picture} pictures", sum(map(len, sets.values())), "questions") as bar:
            for name, samples in given.items():
                for answer, score in _asked(shelf, model, name, samples, wanted):
                    answers += [answer] if answer else []
                    scores.append({**to_json(score), "data": name})
                bar.advance(len(sets[name]))
        write_file(files[0], "".join(json_line(to_json(answer)) for answer in answers))
        write_file(files[1], "".join(map(json_line, scores)))
        if missing := missing_answers(model, answers):
            display.say(missing)
        if missing or answered is None:  # what a server did not answer is asked again
            manifest.unlink(missing_ok=True)
        else:
            write_manifest(manifest, files, made_from=origin)
        worked = True
    return worked


def write_pictures_matter(out: Path) -> None:
    """Judge what a study's directory holds of this, into `pictures_matter.json`; remove it where nothing is asked."""
    judged = judged_pictures(out)
    if judged is None:
        (out / FILE).unlink(missing_ok=True)
    else:
        write_file(out / FILE, canonical_json(judged))


def judged_pictures(out: Path) -> dict[str, Any] | None:
    """Judge what a study's directory holds of this; None where it does not ask."""
    study = load_study(out / "study.yaml")
    if not study.evaluate.pictures_matter:
        return None
    plan, wording = as_carried_out(study, plan_study(study), out), next(iter(study.evaluate.prompts))
    sets = read_samples(out, plan.asked, study.evaluate.rows)
    entries = []
    for model in plan.models:
        if not (metrics := _metrics(study, model)):
            continue
        own = read_scores(out, (model,), metrics)
        stored = {picture: _read(out, model, picture) for picture in (OWN, BLANK, OTHER)}
        for name in plan.asked:
            scores = {picture: by_set.get(name, {}) for picture, by_set in stored.items()}
            scores[OWN] = {**scores[OWN], **own.get((model, name, wording), {})}
            entries.append(measure_pictures(sets[name], metrics, scores, model=model, data=name, template=wording))
    return judge_pictures(entries)


def _metrics(study: Study, model: str) -> list[Metric]:
    """Give the study's first metric that needs no judge, and the loss; the loss is none of a server's."""
    loss = metric_of(study, "nll")
    first = next(iter(plain_metrics(study)), loss)
    metrics = [loss] if first == loss else [first, loss]
    return [metric for metric in metrics if metric.score is not None or not is_served(study, model)]


def _stand_in(picture: str, samples: Sequence[Sample], family: Family) -> Sequence[Sample]:
    if picture == OWN:
        return samples
    if picture == OTHER:
        return with_other_pictures(samples)
    # What the processor takes for the mean: after it, the model is given zeros.
    red, green, blue = (round(255 * mean) for mean in family.image_processor.image_mean)
    return with_blank_pictures(samples, (red, green, blue))


def _asked(
    shelf: Shelf, model: str, data: str, samples: Sequence[Sample], metrics: Sequence[Metric]
) -> Iterator[tuple[Answer | None, Score]]:
    """Answer and score a set as `evaluate` does; yields each score with its answer, where it has one."""
    from sightline.generation.answering import answer_samples, reference_nll
    from sightline.generation.served import answer_by_calls
    from sightline.runner.evaluate import decoding_of, wordings

    study, wording = shelf.prepared.study, wordings(shelf)[0]
    by_id = {sample.id: sample for sample in samples}
    for metric in metrics:
        if metric.score is None:
            yield from ((None, score) for score in reference_nll(shelf.wear(model), samples, wording=wording))
            continue
        if is_served(study, model):
            decoding = reply_decoding(study.evaluate.for_set(data))
            with open_served(model, study, shelf.out) as engine:
                answers = answer_by_calls(engine, samples, decoding, model=model, data=data, wording=wording)
        else:
            decoding = decoding_of(study.evaluate, data)
            rows = answer_samples(shelf.wear(model), samples, decoding, model=model, data=data, wording=wording)
            given = {answer.sample_id: answer for row in rows for answer in row}
            answers = [given[sample.id] for sample in samples]
        yield from zip(answers, score_answers(metric, by_id, answers), strict=True)


def _read(out: Path, model: str, picture: str) -> dict[str, dict[str, list[Score]]]:
    """Read a model's scores with a stand-in: data set to metric to scores."""
    found: dict[str, dict[str, list[Score]]] = {}
    for row in read_jsonl(out / FOLDER / model / f"{picture}.scores.jsonl"):
        values: dict[str, Any] = {key: value for key, value in row.items() if key != "data"}
        found.setdefault(row["data"], {}).setdefault(row["metric"], []).append(Score(**values))
    return found

"""Ask every model the study's questions and score what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sightline.generation.answering import (
    Wording,
    answer_samples,
    begin_answers,
    read_partial,
    reference_nll,
    write_answers,
)
from sightline.generation.sampling import Decoding
from sightline.records import Answer, Score, to_json
from sightline.runner.display import Display
from sightline.runner.make import Shelf
from sightline.runner.metrics import metric_origins, plain_metrics
from sightline.runner.prepare import wording_of
from sightline.runner.results import file_name
from sightline.scoring.metrics import score_answers
from sightline.storage import (
    MANIFEST,
    is_finished,
    is_intact,
    json_line,
    read_jsonl,
    recorded_origin,
    sha256_of,
    write_file,
    write_manifest,
)


def wordings(shelf: Shelf) -> list[Wording]:
    """List the study's ways of putting a question."""
    made = []
    for name, text in shelf.prepared.study.evaluate.prompts.items():
        wording, system = wording_of(shelf.prepared.plan, text)
        made.append(Wording(name=name, text=wording, system=system))
    return made


def evaluate_model(model: str, shelf: Shelf, hashes: Mapping[str, str], display: Display) -> bool:
    """Answer and score every set for one model, unless it is done; an interrupted run goes on by rows.

    Returns:
        whether anything was done.
    """
    study, plan, out = shelf.prepared.study, shelf.prepared.plan, shelf.out
    decoding = Decoding(
        max_new_tokens=study.evaluate.max_new_tokens,
        num_beams=study.evaluate.num_beams,
        temperature=study.evaluate.temperature,
    )
    asked = {
        **shelf.identity(model),
        **{f"data/{name}": hashes[name] for name in plan.asked},
        "rows": str(study.evaluate.rows),
        "decoding": repr(decoding),
        "wordings": repr(wordings(shelf)),
    }
    path = out / "answers" / f"{model}.jsonl"
    manifest = path.with_name(f"{model}.{MANIFEST}")
    answered = is_finished(manifest, made_from=asked)
    if not answered:
        _answer(model, shelf, decoding, path, display, asked)
        write_manifest(manifest, [path], made_from=asked)
    return _score(model, shelf, path, display, asked) or not answered


def _answer(
    model: str, shelf: Shelf, decoding: Decoding, path: Path, display: Display, asked: Mapping[str, str]
) -> None:
    plan = shelf.prepared.plan
    sets = {name: shelf.prepared.asked(name) for name in plan.asked}
    started = begin_answers(path, asked)
    loaded = shelf.wear(model)
    done: dict[tuple[str, str], dict[tuple[str, int], Answer]] = {}
    for answer in read_partial(path):
        done.setdefault((answer.data, answer.template), {})[(answer.sample_id, answer.k)] = answer
    parts = [(name, wording) for name in plan.asked for wording in wordings(shelf)]
    total = sum(len(sets[name]) for name, _ in parts) * decoding.samples
    earlier = sum(map(len, done.values()))
    with display.bar(f"{model}: answers", total, "answers", done=earlier) as bar:

        def rows():
            for name, wording in parts:
                for row in answer_samples(
                    loaded,
                    sets[name],
                    decoding,
                    model=model,
                    data=name,
                    wording=wording,
                    done=done.get((name, wording.name)),
                ):
                    bar.advance(len(row))
                    yield row

        write_answers(path, rows(), order={(n, s.id): i for n in plan.asked for i, s in enumerate(sets[n])})
    if loaded.unfused:
        display.say(f"{model}: runs by stock modules, more slowly: {loaded.unfused}")
    started.unlink()


def _score(model: str, shelf: Shelf, answers: Path, display: Display, asked: Mapping[str, str]) -> bool:
    """Score a model's answers by every metric that needs no judge; say whether that was still to be done."""
    study = shelf.prepared.study
    sets = {name: shelf.prepared.asked(name) for name in shelf.prepared.plan.asked}
    folder = shelf.out / "scores" / model
    metrics = plain_metrics(study)
    # Metrics look at tags ("answer_type"), which neither training nor answering depends on.
    tags = [[sample.id, sorted(sample.tags.items())] for samples in sets.values() for sample in samples]
    made_from = {
        **asked,
        "answers": sha256_of(answers),
        "tags": sha256_of(json.dumps(tags, ensure_ascii=False)),
        **metric_origins(metrics, study.folder),
    }
    files = {metric.name: folder / f"{file_name(metric.name)}.jsonl" for metric in metrics}
    if is_finished(folder / MANIFEST, made_from=made_from):
        return False
    old = recorded_origin(folder / MANIFEST) or {}
    given: dict[tuple[str, str], list[Answer]] = {}
    for row in read_jsonl(answers):
        given.setdefault((row["data"], row["template"]), []).append(Answer(**row))
    losses: dict[tuple[str, str], list[Score]] = {}  # of `nll` and `perplexity` alike
    for metric in metrics:
        # What needs the model; kept while nothing it depends on has changed.
        unchanged = all(old.get(key) == asked[key] for key in asked)
        if metric.score is None and unchanged and is_intact(folder / MANIFEST, files[metric.name]):
            continue
        lines = []
        for name in shelf.prepared.plan.asked:
            for wording in wordings(shelf):
                samples = {sample.id: sample for sample in sets[name]}
                if metric.score is None:
                    if (name, wording.name) not in losses:
                        display.say(f"{model}: likelihood of the reference answers, {name}, {wording.name}")
                        losses[name, wording.name] = reference_nll(shelf.wear(model), sets[name], wording=wording)
                    scores = losses[name, wording.name]
                else:
                    scores = score_answers(metric, samples, given.get((name, wording.name), []))
                lines += [json_line({**to_json(score), "data": name, "template": wording.name}) for score in scores]
        write_file(files[metric.name], "".join(lines))
    write_manifest(folder / MANIFEST, files.values(), made_from=made_from)
    return True

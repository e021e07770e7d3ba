"""Ask every model the study's questions and score what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.generation.answering import (
    Wording,
    answer_samples,
    begin_answers,
    read_partial,
    reference_nll,
    store_answers,
    write_answers,
)
from sightline.generation.sampling import Decoding
from sightline.records import Answer, Sample, Score, to_json
from sightline.runner.display import Display
from sightline.runner.make import Shelf
from sightline.runner.metrics import metric_origins, plain_metrics
from sightline.runner.prepare import wording_of
from sightline.runner.results import file_name
from sightline.runner.served import NO_LIKELIHOODS, ask_served, missing_answers
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import score_answers
from sightline.storage import (
    MANIFEST,
    is_finished,
    is_intact,
    json_line,
    read_jsonl,
    recorded_origin,
    sha256_of,
    why_unfinished,
    write_file,
    write_manifest,
)
from sightline.study import Evaluate
from sightline.study.names import is_served


def wordings(shelf: Shelf) -> list[Wording]:
    """List the study's ways of putting a question."""
    made = []
    for name, text in shelf.prepared.study.evaluate.prompts.items():
        wording, system = wording_of(shelf.prepared.plan, text)
        made.append(Wording(name=name, text=wording, system=system))
    return made


def decoding_of(evaluate: Evaluate, name: str | None = None) -> Decoding:
    """Say how a test set is answered; without its name, what holds of those that have no keys of their own."""
    own = evaluate.for_set(name)
    return Decoding(max_new_tokens=own.max_new_tokens, num_beams=own.num_beams, temperature=own.temperature)


def evaluate_model(model: str, shelf: Shelf, hashes: Mapping[str, str], display: Display) -> bool:
    """Answer and score every set for one model, unless it is done; an interrupted run goes on by rows.

    Returns:
        whether anything was done.
    """
    study, plan, out = shelf.prepared.study, shelf.prepared.plan, shelf.out
    asked = {
        **shelf.identity(model),
        **{f"data/{name}": hashes[name] for name in plan.asked},
        "rows": str(study.evaluate.rows),
        "decoding": repr(decoding_of(study.evaluate)),
        **{f"decoding/{name}": repr(decoding_of(study.evaluate, name)) for name in study.evaluate.decoding},
        "wordings": repr(wordings(shelf)),
    }
    path = out / "answers" / f"{model}.jsonl"
    manifest = path.with_name(f"{model}.{MANIFEST}")
    answered = is_finished(manifest, made_from=asked)
    if not answered:
        if why := why_unfinished(manifest, made_from=asked):
            display.say(f"{model}: asked again: {why}")
        is_whole = (_ask if is_served(study, model) else _answer)(model, shelf, path, display, asked)
        if is_whole:
            write_manifest(manifest, [path], made_from=asked)
    return _score(model, shelf, path, display, asked) or not answered


def _ask(model: str, shelf: Shelf, path: Path, display: Display, asked: Mapping[str, str]) -> bool:
    """Ask a model on a server; its ledger knows what it has said. Says whether every question has its answer."""
    sets = {name: shelf.prepared.asked(name) for name in shelf.prepared.plan.asked}
    for file in (path.with_name(f"{model}.{MANIFEST}"), path):  # a server that is down leaves no answers of another
        file.unlink(missing_ok=True)
    answers = ask_served(model, shelf.prepared.study, shelf.out, sets, wordings(shelf), display)
    store_answers(path, answers, order=_order(sets))
    if missing := missing_answers(model, answers):
        display.say(missing)
    return not missing


def _answer(model: str, shelf: Shelf, path: Path, display: Display, asked: Mapping[str, str]) -> bool:
    plan = shelf.prepared.plan
    sets = {name: shelf.prepared.asked(name) for name in plan.asked}
    decodings = {name: decoding_of(shelf.prepared.study.evaluate, name) for name in plan.asked}
    started = begin_answers(path, asked)
    _keep_unchanged(model, path, asked, plan.asked)
    loaded = shelf.wear(model)
    done: dict[tuple[str, str], dict[tuple[str, int], Answer]] = {}
    for answer in read_partial(path):
        done.setdefault((answer.data, answer.template), {})[(answer.sample_id, answer.k)] = answer
    parts = [(name, wording) for name in plan.asked for wording in wordings(shelf)]
    total = sum(len(sets[name]) for name, _ in parts)
    earlier = sum(map(len, done.values()))
    with display.bar(f"{model}: answers", total, "answers", done=earlier) as bar:

        def rows():
            for name, wording in parts:
                for row in answer_samples(
                    loaded,
                    sets[name],
                    decodings[name],
                    model=model,
                    data=name,
                    wording=wording,
                    done=done.get((name, wording.name)),
                ):
                    bar.advance(len(row))
                    yield row

        write_answers(path, rows(), order=_order(sets))
    if loaded.unfused:
        display.say(f"{model}: runs by stock modules, more slowly: {loaded.unfused}")
    started.unlink()
    return True


def _order(sets: Mapping[str, Sequence[Sample]]) -> dict[tuple[str, str], int]:
    return {(name, sample.id): place for name, samples in sets.items() for place, sample in enumerate(samples)}


def _keep_unchanged(model: str, path: Path, asked: Mapping[str, str], sets: Sequence[str]) -> None:
    """Begin with the finished answers to sets about which nothing has changed, so that these are not asked again."""
    manifest, part = path.with_name(f"{model}.{MANIFEST}"), path.with_name(f"{path.name}.part")
    old = recorded_origin(manifest)
    if old is None or part.exists() or not is_intact(manifest, path):
        return

    def about(name: str, origin: Mapping[str, str]) -> dict[str, str | None]:
        common = {key: value for key, value in origin.items() if not key.startswith(("data/", "decoding"))}
        decoding = origin.get(f"decoding/{name}", origin.get("decoding"))
        return {**common, "data": origin.get(f"data/{name}"), "decoding": decoding}

    same = [name for name in sets if about(name, old) == about(name, asked)]
    write_file(part, "".join(json_line(row) for row in read_jsonl(path) if row["data"] in same))


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
    if why := why_unfinished(folder / MANIFEST):
        display.say(f"{model}: scored again: {why}")
    old = recorded_origin(folder / MANIFEST) or {}
    given: dict[tuple[str, str], list[Answer]] = {}
    for row in read_jsonl(answers):
        given.setdefault((row["data"], row["template"]), []).append(Answer(**row))
    losses: dict[tuple[str, str], list[Score]] = {}  # of `nll` and `perplexity` alike
    for metric in metrics:
        # What needs the model; kept while nothing it depends on has changed.
        keys = {*asked, *(key for key in old if key.startswith("data/"))}  # a set that is no longer asked is a change
        unchanged = all(old.get(key) == asked.get(key) for key in keys if not key.startswith("decoding"))
        if metric.score is None and unchanged and is_intact(folder / MANIFEST, files[metric.name]):
            continue
        lines = []
        for name in shelf.prepared.plan.asked:
            for wording in wordings(shelf):
                samples = {sample.id: sample for sample in sets[name]}
                if metric.score is None and is_served(study, model):
                    scores = [_without_likelihood(sample, metric) for sample in sets[name]]
                elif metric.score is None:
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


def _without_likelihood(sample: Sample, metric: Metric) -> Score:
    return Score(sample_id=sample.id, metric=metric.name, outcome="not_applicable", reason=NO_LIKELIHOODS)

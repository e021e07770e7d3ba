"""A study's models on servers: refused before anything is made where they could not be asked, asked, and recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import StudyError
from sightline.generation.calls import CUT, ReplyDecoding
from sightline.generation.keys import read_key
from sightline.generation.ledger import Ledger
from sightline.generation.remote import RemoteEngine, connect
from sightline.records import NO_ANSWER, Answer, Sample
from sightline.runner.display import Display
from sightline.runner.reading import Prepared
from sightline.scoring.metrics import METRICS
from sightline.storage import MANIFEST, canonical_json, is_finished, read_jsonl, write_file
from sightline.study import Evaluate, Plan, Study
from sightline.study.names import is_served
from sightline.study.servers import Served

if TYPE_CHECKING:
    from sightline.generation.answering import Wording

FOLDER = "served"
"""In a study's directory: for each model on a server its ledger, and the record of what it took."""

RECORD = "record.json"

SEED = 0

UNSAID: Mapping[str, str] = {CUT: "cut before the first word", "content_filter": "withheld by the server's filter"}
"""Finish reasons of answers that are empty though the model had not ended, in words."""

NO_LIKELIHOODS = "a server gives no likelihoods"


def served_models(study: Study, plan: Plan) -> list[str]:
    """Name the models that are asked and are on servers."""
    return [model for model in plan.models if is_served(study, model)]


def reach(block: Served, ledger: Ledger | None) -> RemoteEngine:
    """Make the engine of a server that a study names; nothing is sent yet.

    Raises:
        StudyError: its key is not in the environment.
    """
    assert block.server is not None, "only what has a server is reached"
    return connect(
        block.server,
        block.model,
        key_env=block.key_env,
        send_images=block.send_images,
        ledger=ledger,
        requests_per_minute=block.requests_per_minute,
        tokens_per_minute=block.tokens_per_minute,
        concurrency=block.concurrency,
        timeout_seconds=block.timeout_seconds,
        num_tries=block.tries,
    )


def refuse_served_models(prepared: Prepared, out: Path | None = None) -> None:
    """Stop before anything is made where a model on a server could not be asked in the end.

    Args:
        prepared: the study and its data.
        out: the study's directory; a model that has answered there needs no key. None: no key is looked for.

    Raises:
        StudyError: pictures would have to leave the machine without leave, there is no key, or a stated question
            needs likelihoods.
    """
    study = prepared.study
    for model in served_models(study, prepared.plan):
        block, where = study.models[model], f"models.{model}"
        for question in study.compare:
            by = question.by or study.evaluate.metrics[0]
            if model in (question.model, question.against) and by in METRICS and METRICS[by].score is None:
                raise StudyError(f"{where}: {NO_LIKELIHOODS}, so it cannot be compared by {by}; compare by another one")
        shown = [sample for part in prepared.plan.asked for sample in prepared.asked(part) if sample.pictures]
        if shown and not block.send_images:
            raise StudyError(
                f"{where}: its questions show pictures (such as {shown[0].origin or shown[0].id}), and none may leave "
                "for its server; allow it with send_images: true, or leave the model out of evaluate.models"
            )
        if out is not None and not is_finished(out / "answers" / f"{model}.{MANIFEST}"):
            read_key(block.key_env, where=str(block.server))


def _who_answered(model: str, record: Mapping[str, Any]) -> str:
    asked, spent = record["asked"], record["spent"]
    called = ", ".join(name for name in record["answered_by"] if name != asked["model"])
    cost = "" if spent["cost"] is None else f", cost {spent['cost']:.4g}"
    return (
        f"{model} is {asked['model']} on {asked['server']}{f' (it calls itself {called})' if called else ''}: "
        f"{spent['num_answered']:,} replies, {spent['num_prompt_tokens']:,} tokens of prompts, "
        f"{spent['num_completion_tokens']:,} of replies{cost}."
    )


@contextmanager
def open_served(model: str, study: Study, out: Path) -> Iterator[RemoteEngine]:
    """Open a model on a server; its replies are kept in the study's directory, and its record is brought up to date.

    Raises:
        StudyError: its key is not in the environment.
        RefusedError: another process asks it for this study.
    """
    folder, block = out / FOLDER / model, study.models[model]
    ledger = Ledger(folder / "calls.jsonl")
    try:
        engine = reach(block, ledger)
        yield engine
        record = {
            "asked": dict(engine.identity),
            "answered_by": sorted({reply.model for reply in ledger.rows if reply.model}),
            "refused_by_server": engine.refused,
            "spent": asdict(ledger.spent(input_price=block.input_price, output_price=block.output_price)),
        }
        write_file(folder / RECORD, canonical_json(record))
    finally:
        ledger.close()


def ask_served(
    model: str,
    study: Study,
    out: Path,
    sets: Mapping[str, Sequence[Sample]],
    wordings: Sequence[Wording],
    display: Display,
) -> list[Answer]:
    """Ask a model on a server every set in every wording; what it has said before is not asked again.

    Args:
        model: its name in the study.
        study: the study.
        out: its directory.
        sets: what is asked, by name.
        wordings: how.
        display: where progress is shown.

    Returns:
        set by set, wording by wording and sample by sample; those of calls that failed for good among them.

    Raises:
        ServerDownError: the server does not answer; what it said so far is kept.
    """
    from sightline.generation.served import answer_by_calls

    answers: list[Answer] = []
    total = sum(map(len, sets.values())) * len(wordings)
    with open_served(model, study, out) as engine, display.bar(f"{model}: answers", total, "replies") as bar:
        for name, samples in sets.items():
            decoding = reply_decoding(study.evaluate.for_set(name))
            for wording in wordings:
                answers += answer_by_calls(
                    engine,
                    samples,
                    decoding,
                    model=model,
                    data=name,
                    wording=wording,
                    on_reply=lambda reply: bar.advance(),
                )
    return answers


def missing_answers(model: str, answers: Sequence[Answer]) -> str:
    """Say how many questions a server did not answer; "" where it answered all."""
    if not (num := sum(answer.finish_reason == NO_ANSWER for answer in answers)):
        return ""
    return (
        f"warning: {model}: {num:,} of {len(answers):,} questions have no answer, because their calls failed for good; "
        "the same command asks for these alone again"
    )


def reply_decoding(evaluate: Evaluate) -> ReplyDecoding:
    """Say how a server is to answer what a study asks."""
    drawn = evaluate.temperature > 0
    return ReplyDecoding(
        max_new_tokens=evaluate.max_new_tokens, temperature=evaluate.temperature, seed=SEED if drawn else None
    )


def _empty_answers(model: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how many answers hold no word, and of how many of them the server says that they are not whole."""
    ends = Counter(row["finish_reason"] for row in rows if not row["text"] and row["finish_reason"] != NO_ANSWER)
    if not ends:
        return ""
    why = ", ".join(f"{num:,} {UNSAID[end]}" for end, num in sorted(ends.items()) if end in UNSAID)
    return (
        f"{model}: {ends.total():,} of {len(rows):,} answers are empty{f' ({why})' * bool(why)}. They are scored as "
        "any model's empty answers are."
    )


def notes_of_served_models(study: Study, plan: Plan, out: Path) -> list[str]:
    """Say of every model on a server who answered, what that took, what it cannot have and what it has not answered."""
    notes = []
    for model in served_models(study, plan):
        record = out / FOLDER / model / RECORD
        if record.exists():
            notes.append(_who_answered(model, json.loads(record.read_text(encoding="utf-8"))))
        without = [name for name in study.evaluate.metrics if name in METRICS and METRICS[name].score is None]
        if without:
            notes.append(f"{model} has no {' and no '.join(without)}: {NO_LIKELIHOODS}.")
        rows: list[dict[str, Any]] = read_jsonl(out / "answers" / f"{model}.jsonl")
        missing = [row for row in rows if row["finish_reason"] == NO_ANSWER]
        notes += filter(None, [_empty_answers(model, rows)])
        if missing:
            notes.append(
                f"{model} has no answer to {len(missing):,} of {len(rows):,} questions, because the calls failed for "
                f"good (the first: {missing[0]['reason']}). They have no score, and the same command asks them again."
            )
    return notes

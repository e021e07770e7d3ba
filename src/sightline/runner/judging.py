"""A study's judges: opened once, asked about every model's answers, audited, and put beside each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import MissingDataError
from sightline.generation.calls import Reply, ReplyDecoding, Responder
from sightline.generation.ledger import Ledger
from sightline.generation.remote import RemoteEngine
from sightline.records import NO_ANSWER, Answer, Sample, to_json
from sightline.runner.display import Display
from sightline.runner.metrics import kind_of
from sightline.runner.results import file_name
from sightline.runner.served import reach
from sightline.scoring.critic import same_answer
from sightline.scoring.judge import (
    Asked,
    Judgement,
    Kind,
    count_outcomes,
    judge_answers,
    judgement_row,
    score_of,
)
from sightline.scoring.judge_audit import audit_judge, audit_record
from sightline.scoring.medical import table_of
from sightline.scoring.shr import judgement_json, metrics_json
from sightline.scoring.shr_judge import description_of
from sightline.storage import canonical_json, json_line, read_jsonl, write_file
from sightline.study import Judge, model_location

if TYPE_CHECKING:
    from sightline.runner.make import Shelf

REFERENCE = "reference"
"""What `against` says where answers are compared with the reference answers."""

SEED = 0

LONGEST_QUOTE = 200
"""Characters of an unreadable reply in the record; the whole of it is with the judge's words."""

RECORD = "record.json"
"""In a judge's folder: everything that belongs to each of its numbers."""


Rivals = Mapping[tuple[str, str, str, int], Answer]
"""What a judge of two answers compares with: data set, wording, sample and k to answer; see `rival_answers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJudge:
    """A judge of a study, ready to be asked; made by `open_judge`.

    Args:
        name: in the study.
        settings: its block of the study.
        kind: what it is asked and how it is understood.
        decoding: how it replies.
        responder: who replies.
        ledger: where its replies are.
        folder: `judges/NAME` in the study's directory.
    """

    name: str
    settings: Judge
    kind: Kind
    decoding: ReplyDecoding
    responder: Responder
    ledger: Ledger
    folder: Path

    def judge(
        self, answers: Sequence[Asked], repeat: int = 0, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Judgement]:
        """Have answers judged; as `judge_answers`."""
        return judge_answers(
            self.kind,
            self.responder,
            answers,
            decoding=self.decoding,
            reasks=self.settings.reasks,
            repeat=repeat,
            on_reply=on_reply,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Answers of one model to one data set in one wording, with what they answer."""

    data: str
    template: str
    samples: Mapping[str, Sample]
    answers: Sequence[Answer]


@contextmanager
def open_judge(
    name: str,
    judge: Judge,
    *,
    folder: Path,
    out: Path,
    shelf: Shelf | None = None,
) -> Iterator[OpenJudge]:
    """Open a judge of a study; its replies are kept in the study's directory, and closed with it.

    Args:
        name: in the study.
        judge: its block.
        folder: the study file's folder.
        out: the study's directory.
        shelf: has the model of a local judge; None where every judge is on a server.

    Raises:
        StudyError: a key is missing from the environment.
        RefusedError: another process uses the judge's ledger.
    """
    kind = kind_of(judge, folder)
    own = out / "judges" / name
    ledger = Ledger(own / "calls.jsonl")
    try:
        decoding = dataclasses.replace(
            kind.decoding,
            max_new_tokens=judge.max_new_tokens or kind.decoding.max_new_tokens,
            temperature=judge.temperature,
            top_p=judge.top_p,
            seed=SEED if judge.temperature > 0 else None,
        )
        yield OpenJudge(
            name=name,
            settings=judge,
            kind=kind,
            decoding=decoding,
            responder=_responder(judge, ledger, shelf),
            ledger=ledger,
            folder=own,
        )
    finally:
        ledger.close()


def _responder(judge: Judge, ledger: Ledger, shelf: Shelf | None) -> Responder:
    if judge.server is not None:
        return reach(judge, ledger)
    assert judge.base is not None and shelf is not None, "a judge without a server has a base, and a shelf for it"
    from sightline.generation.local import knows_pictures, text_engine, vision_engine

    location, identity = model_location(shelf.prepared.study, judge.base), local_identity(judge.base, shelf)
    if not knows_pictures(location):
        return text_engine(location, identity, ledger)
    # The shelf gives it bare each time: between two askings, other models may have been there.
    return vision_engine(lambda: shelf.base(location), identity, ledger)


def local_identity(base: str, shelf: Shelf) -> dict[str, str]:
    """Name exactly what a local judge is: its base as it is stored and run."""
    from sightline.generation.local import knows_pictures, text_identity
    from sightline.models.loading import base_identity
    from sightline.models.quantize import quantization_of

    location = model_location(shelf.prepared.study, base)
    if not knows_pictures(location):
        return {**text_identity(location), "precision": shelf.used_precision}
    return {
        "base": base_identity(location),
        "rendering": shelf.family(location).rendering_sha256,
        "precision": shelf.used_precision,
        "quantize": str(quantization_of(location, shelf.quantize)),
    }


def judge_model(
    model: str,
    judge: OpenJudge,
    parts: Iterable[Part],
    *,
    out: Path,
    display: Display,
    rivals: Rivals | None = None,
) -> int:
    """Have a model's answers judged: `scores/MODEL/JUDGE.jsonl`, and the judge's words in `judges/JUDGE/MODEL.jsonl`.

    Args:
        model: whose answers.
        judge: who judges.
        parts: the answers, set by set and wording by wording.
        out: the study's directory.
        display: where the reader sees it.
        rivals: for a pairwise judge, what it compares with; see `rival_answers`.

    Returns:
        Answers for which no reply came after all tries; judging again asks for these alone.

    Raises:
        ServerDownError: the judge does not answer; no score is written, and what it said is kept.
    """
    lines: list[str] = []
    words: list[str] = []
    every: list[Judgement] = []
    for part in parts:
        judgements = _judge_part(model, judge, part, rivals, display)
        if judge.kind.name == "shr":
            _write_as_ha_dpo(model, judge, part, judgements)
        for answer, judgement in zip(part.answers, judgements, strict=True):
            place = {"data": part.data, "template": part.template}
            score = score_of(judgement, judge.name)
            lines.append(json_line({**to_json(score), **place}))
            words.append(json_line({**judgement_row(judgement), **place, "k": answer.k}))
        every += judgements
    write_file(judge.folder / f"{model}.jsonl", "".join(words))
    write_file(out / "scores" / model / f"{file_name(judge.name)}.jsonl", "".join(lines))
    counts = count_outcomes(every)
    table = {"medical_table": asdict(table_of(every))} if judge.kind.name == "medical" else {}
    _record(judge, {"models": {model: {**counts, **table, **_quote_unreadable(every)}}})
    num_asked = len(every) - counts["num_not_applicable"] - counts["num_unanswered"]
    display.say(
        f"{model}: {judge.name} judged {counts['num_judged']} of {num_asked} answers; "
        f"{counts['num_unreadable']} replies could not be read, {counts['num_failed']} never came"
    )
    return counts["num_failed"]


def _quote_unreadable(judgements: Iterable[Judgement]) -> dict[str, str]:
    """Quote the first reply that could not be read; nothing where all could."""
    unreadable = (j.replies[-1] for j in judgements if j.outcome == "unreadable" and j.replies)
    return next(({"unreadable_reply": text[:LONGEST_QUOTE]} for text in unreadable), {})


def _write_as_ha_dpo(model: str, judge: OpenJudge, part: Part, judgements: Sequence[Judgement]) -> None:
    """Write `judgement.json` and `metrics.json` as HA-DPO's scripts do, for what was judged of one set and wording."""
    unasked = ("not_applicable", "unanswered")
    asked = [(answer, j) for answer, j in zip(part.answers, judgements, strict=True) if j.outcome not in unasked]
    if not asked:
        return
    described = {answer.sample_id: description_of(answer.text, j) for answer, j in asked if j.outcome == "judged"}
    captions = [answer.text for answer, _ in asked]
    folder = judge.folder / "ha_dpo" / model / f"{part.data}.{part.template}"
    metrics = metrics_json(described, captions, model_base=None, model_path=model)
    write_file(folder / "judgement.json", canonical_json(judgement_json(described)))
    write_file(folder / "metrics.json", canonical_json(metrics))


def put_to_judge(model: str, judge: OpenJudge, part: Part, rivals: Rivals | None) -> list[Asked]:
    """Put a model's answers, each with what it is compared with, as a judge is asked about them.

    Raises:
        MissingDataError: the other model was not asked the same.
    """
    every = []
    for answer in part.answers:
        sample = part.samples[answer.sample_id]
        rival = None
        if judge.kind.name == "pairwise" and judge.settings.against != REFERENCE:
            rival = (rivals or {}).get((part.data, part.template, sample.id, answer.k))
            if rival is None:
                raise MissingDataError(
                    f"{judge.name}: {judge.settings.against} has no answer to {sample.origin or sample.id} "
                    f"({part.data}, {part.template}) to compare {model}'s with; ask it the same"
                )
        every.append(as_asked(judge.kind, sample, answer, rival))
    return every


def as_asked(kind: Kind, sample: Sample, answer: Answer, rival: Answer | None) -> Asked:
    """Put one answer to a judge, beside the other model's, or the reference where two are compared and none is given.

    An answer that a server never gave is put as missing, whichever of the two it is.
    """
    other = rival.text if rival else sample.answer if kind.name == "pairwise" else None
    missing = [f"{one.model}: {one.reason}" for one in (answer, rival) if one and one.finish_reason == NO_ANSWER]
    return Asked(sample=sample, text=answer.text, rival=other, missing="; ".join(missing))


def _judge_part(
    model: str,
    judge: OpenJudge,
    part: Part,
    rivals: Rivals | None,
    display: Display,
) -> list[Judgement]:
    every = put_to_judge(model, judge, part, rivals)
    settled = [settle_unasked(judge.kind, one) for one in every]
    asked = [one for one, known in zip(every, settled, strict=True) if known is None]
    if not asked:
        return [known for known in settled if known is not None]
    num_prompts = sum(len(judge.kind.write(one)) for one in asked)
    with display.bar(f"{model}: {judge.name}, {part.data}", num_prompts, "replies") as bar:
        judged = iter(judge.judge(asked, on_reply=lambda reply: bar.advance()))
    return [known or next(judged) for known in settled]


def settle_unasked(kind: Kind, asked: Asked) -> Judgement | None:
    """Give the judgement that needs no asking; None where the judge must be asked."""
    if why := kind.leaves_out(asked.sample):
        return Judgement(sample_id=asked.sample.id, outcome="not_applicable", reason=why)
    if asked.missing:
        return Judgement(sample_id=asked.sample.id, outcome="unanswered", reason=asked.missing)
    # Two equal answers are as good as each other, whatever a judge would say.
    return same_answer(asked) if asked.text == asked.rival else None


def rival_answers(out: Path, model: str) -> Rivals:
    """Read the answers that a pairwise judge compares with.

    Raises:
        MissingDataError: the model has not answered yet.
    """
    rivals = answers_by_place(out, model)
    if not rivals:
        raise MissingDataError(f"{out}: no answers of {model} to compare with; it must be among the models asked")
    return rivals


def answers_by_place(out: Path, model: str) -> Rivals:
    """Read a model's answers by what they answer; none where it has not answered yet."""
    answers = [Answer(**row) for row in read_jsonl(out / "answers" / f"{model}.jsonl")]
    return {(answer.data, answer.template, answer.sample_id, answer.k): answer for answer in answers}


def audit(judge: OpenJudge, samples: Sequence[Sample], answers: Sequence[Asked]) -> dict[str, Any]:
    """Test a judge with its study's own rows and put what was found into its record.

    Args:
        judge: who is tested.
        samples: rows with reference answers; the first `audit_rows` are taken.
        answers: real answers of models; likewise.

    Returns:
        What is in the record under "audit".
    """
    num_rows = judge.settings.audit_rows
    findings = audit_judge(
        judge.judge, list(samples)[:num_rows], list(answers)[:num_rows], is_pairwise=judge.kind.name == "pairwise"
    )
    record = audit_record(findings)
    _record(judge, {"audit": record})
    return record


def _record(judge: OpenJudge, news: Mapping[str, Any]) -> None:
    """Bring `judges/NAME/record.json` up to date: everything that belongs to each of its numbers."""
    path = judge.folder / RECORD
    models = read_record(path).get("models", {}) | news.get("models", {})
    settings, rows = judge.settings, judge.ledger.rows
    refused = judge.responder.refused if isinstance(judge.responder, RemoteEngine) else {}
    record = {
        **read_record(path),
        "judge": judge.name,
        "kind": judge.kind.name,
        "asked": dict(judge.responder.identity),
        "answered_by": sorted({reply.model for reply in rows if reply.model}),
        "prompt_sha256": judge.kind.prompt_sha256,
        "parser": judge.kind.parser,
        "decoding": asdict(judge.decoding),
        "shows_pictures": judge.kind.shows_pictures,
        "reasks": settings.reasks,
        "has_schema": judge.kind.schema is not None,
        "num_held_to_schema": sum(reply.structured for reply in rows),
        "refused_by_server": refused,
        "spent": asdict(judge.ledger.spent(input_price=settings.input_price, output_price=settings.output_price)),
        **news,
        "models": models,
    }
    write_file(path, canonical_json(record))


def forget_others(judge: OpenJudge, models: Iterable[str]) -> None:
    """Take out of a judge's record what an earlier run found of other models, and its audit."""
    path = judge.folder / RECORD
    if record := read_record(path):
        kept = {name: counts for name, counts in record.get("models", {}).items() if name in set(models)}
        record.pop("audit", None)
        write_file(path, canonical_json(record | {"models": kept}))


def read_record(path: Path) -> dict[str, Any]:
    """Read a judge's record; empty where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

"""The study's judges in the report: who judged, by which prompt, what came of it, and what is wrong with the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.errors import CorruptError
from sightline.report.reading import Row, StudyFiles
from sightline.report.wording import count, markdown_text, rounded

UNVALIDATED = (
    "A judge's number is a judge score, unvalidated: without labels by people nobody knows how often it is right."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeView:
    """One judge.

    Args:
        name: in the study.
        kind: what it was asked.
        facts: everything that belongs to its numbers, as labels and values.
        counts: per model: its name, and how many answers were judged, unreadable, failed, and none of its business.
        findings: of the audit: the sentence, and "bad" where it is a worry or "plain".
        audit: one sentence about the audit.
    """

    name: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, str, str, str, str], ...]
    findings: tuple[tuple[str, str], ...]
    audit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesPart:
    """The judges' part of the report.

    Args:
        views: one per judge.
        said: what holds of every judge's number.
        titles: of the columns of `JudgeView.counts`.
    """

    views: tuple[JudgeView, ...]
    said: str
    titles: tuple[str, ...]


COUNTED = ("num_judged", "num_unreadable", "num_failed", "num_not_applicable", "num_unanswered")
COUNT_TITLES = ("model", "judged", "unreadable", "never came", "not asked about")


def judges_part(files: StudyFiles) -> JudgesPart:
    """Read the records of the judges that are among the study's metrics, in their order.

    Raises:
        CorruptError: a record is not what the study wrote.
    """
    evaluate, judges = files.study.get("evaluate"), files.study.get("judges")
    metrics = evaluate.get("metrics") if isinstance(evaluate, Mapping) else None
    views = []
    for name in metrics if isinstance(metrics, list) and isinstance(judges, Mapping) else ():
        path = files.directory / "judges" / str(name) / "record.json"
        if name in judges and path.is_file():
            try:
                views.append(_view(json.loads(path.read_text(encoding="utf-8"))))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorruptError(f"{path}: no judge's record ({error!r}); run `sightline run` again") from error
    return JudgesPart(views=tuple(views), said=UNVALIDATED, titles=COUNT_TITLES)


def judges_markdown(files: StudyFiles) -> Iterator[str]:
    """Write the judges' part of the report as Markdown; nothing where there are none."""
    part = judges_part(files)
    if part.views:
        yield from ("## The judges", "", part.said, "")
    for view in part.views:
        yield from (f"### {markdown_text(view.name)} ({markdown_text(view.kind)})", "")
        yield from (f"- {label}: {markdown_text(value)}" for label, value in view.facts)
        yield from ("", "| " + " | ".join(part.titles) + " |", "|" + "---|" * len(part.titles))
        yield from ("| " + " | ".join(map(markdown_text, row)) + " |" for row in view.counts)
        yield from ("", markdown_text(view.audit), "")
        yield from (f"- {'**worry**: ' if tone == 'bad' else ''}{markdown_text(said)}" for said, tone in view.findings)
        yield ""


def _view(record: Row) -> JudgeView:
    audit = record.get("audit")
    return JudgeView(
        name=str(record["judge"]),
        kind=str(record["kind"]),
        facts=tuple(_facts(record)),
        counts=tuple((str(model), *_counts(found)) for model, found in record["models"].items()),
        findings=tuple(
            (f"{found['test']}: {found['says']}", "bad" if found["is_worry"] else "plain")
            for found in (audit or {}).get("findings", ())
        ),
        audit=_audit(audit),
    )


def _counts(found: Row) -> tuple[str, str, str, str]:
    judged, unreadable, failed, left_out, unanswered = (found.get(name, 0) for name in COUNTED)
    return count(judged), count(unreadable), count(failed), count(left_out + unanswered)


def _audit(audit: Row | None) -> str:
    if audit is None:
        return "The judge itself was not tested (audit_rows: 0)."
    if not audit["findings"]:
        return "The judge itself was tested, and no reply of it could be read, so nothing is known of it."
    worries = audit["num_worries"]
    found = "none of them a worry" if not worries else f"{count(worries)} of them a worry"
    return f"The judge itself was tested: {count(len(audit['findings']))} findings, {found}."


def _facts(record: Row) -> Iterator[tuple[str, str]]:
    asked, decoding, spent = record["asked"], record["decoding"], record["spent"]
    yield "asked", ", ".join(f"{key} {value}" for key, value in asked.items() if key in ("server", "model", "base"))
    if answered := [name for name in record["answered_by"] if name not in asked.values()]:
        yield "answered by", ", ".join(answered)
    yield "prompt", str(record["prompt_sha256"])
    yield "sees pictures", "yes" if record["shows_pictures"] else "no"
    yield "replies read by", f"parser {record['parser']}, asked again up to {count(record['reasks'])} times"
    yield "decoding", _decoding(decoding)
    if record["has_schema"]:
        yield (
            "asked for a JSON schema",
            f"{count(record['num_held_to_schema'])} of {count(spent['num_answered'])} replies",
        )
    for argument, said in record["refused_by_server"].items():
        yield "refused by the server", f"{argument}: {said}"
    if quoted := [found["unreadable_reply"] for found in record["models"].values() if "unreadable_reply" in found]:
        yield "a reply that could not be read", str(quoted[0])
    yield "calls", f"{count(spent['num_answered'])} answered, {count(spent['num_failed'])} failed for good"
    yield "tokens", _tokens(spent)
    if spent["cost"] is not None:
        yield "cost", rounded(spent["cost"], 4)
    if spent["num_possibly_billed_twice"]:
        yield "possibly billed twice", f"{count(spent['num_possibly_billed_twice'])} tries"


def _decoding(decoding: Row) -> str:
    greedy = not decoding["temperature"]
    parts = ["greedy" if greedy else f"temperature {decoding['temperature']:g}, seed {decoding['seed']}"]
    if decoding["top_p"] is not None:
        parts.append(f"top-p {decoding['top_p']:g}")
    return ", ".join([*parts, f"at most {count(decoding['max_new_tokens'])} tokens"])


def _tokens(spent: Mapping[str, Any]) -> str:
    told = f"{count(spent['num_prompt_tokens'])} of prompts, {count(spent['num_completion_tokens'])} of replies"
    uncounted = spent["num_uncounted"]
    return told + (f"; prompts of {count(uncounted)} replies were not counted" if uncounted else "")

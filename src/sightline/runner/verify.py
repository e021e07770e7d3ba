"""`sightline report --verify`: does a study's report still follow from its answers? Nothing is written."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import MissingDataError, SightlineError
from sightline.records import Answer, to_json
from sightline.report.build import report_files
from sightline.report.figures import maker_of
from sightline.runner.carry_out import compare_directory
from sightline.runner.pictures_matter import FILE as PICTURES_FILE
from sightline.runner.pictures_matter import judged_pictures
from sightline.runner.results import file_name, read_samples
from sightline.runner.verify_data import UNRECORDED, changed_files, look_at_files, look_at_rows
from sightline.runner.verify_judges import judged_again
from sightline.scoring.metrics import metric_named, score_answers
from sightline.storage import canonical_json, read_jsonl
from sightline.study import Study, load_study, plan_study

MOST_NAMED = 20
"""Differences of one kind that are named; the others are counted."""

_SHOWN = 80
"""Characters of a value in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """Something that no longer follows.

    Args:
        file: from the study's directory on.
        model: whose number it is; "" where it is no model's.
        metric: by which; "" where none is concerned.
        place: which number.
        stored: what the file says, or what is wrong with it.
        recomputed: what follows from what it was made from; "" where only a record is there to hold it against.
    """

    file: str
    model: str
    metric: str
    place: str
    stored: str
    recomputed: str


@dataclass(slots=True, kw_only=True)
class Verification:
    """What became of looking at every number again.

    Args:
        num_compared: numbers that were worked out again.
        found: what no longer follows, up to `MOST_NAMED` of each file.
        num_found: all of them.
        unchecked: what could not be worked out again, and why.
    """

    num_compared: int = 0
    found: list[Discrepancy] = field(default_factory=list)
    num_found: int = 0
    unchecked: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything that could be worked out again is as it was written."""
        return self.num_found == 0

    def note(self, found: Discrepancy) -> None:
        """Take a discrepancy down."""
        self.num_found += 1
        if sum(one.file == found.file for one in self.found) < MOST_NAMED:
            self.found.append(found)


def verify_report(directory: Path) -> Verification:
    """Work out every number of a study's report again, from its stored answers.

    Files, rows and pictures are held against the hashes recorded of them; scores are worked out again from the answers,
    compare.json from the scores, and the report with its tables, figures and cards from all of these.

    Args:
        directory: a study's directory.

    Raises:
        MissingDataError: it holds no study or no report.
    """
    directory = Path(directory)
    for name in ("study.yaml", "compare.json", "report.html"):
        if not (directory / name).is_file():
            raise MissingDataError(
                f"{directory}: no {name}, so there is no report to verify; `sightline run` makes one"
            )
    study, found = load_study(directory / "study.yaml"), Verification()
    _check_records(directory, found)
    _check_scores(directory, study, found)
    _check_comparison(directory, found)
    _check_pictures(directory, found)
    _check_report(directory, found)
    return found


def render_verification(found: Verification) -> str:
    """Say for people what was found."""
    lines = [
        f"{one.file}: {_whose(one)}"
        + (f"stored {one.stored}, recomputed {one.recomputed}" if one.recomputed else one.stored)
        for one in found.found
    ]
    if found.num_found > len(found.found):
        lines.append(f"and {found.num_found - len(found.found):,} more")
    lines += [f"not worked out again: {reason}" for reason in found.unchecked]
    verdict = "the report holds" if found.holds else f"the report does not hold: {found.num_found:,} discrepancies"
    return "\n".join([*lines, f"{found.num_compared:,} values worked out again: {verdict}"]) + "\n"


def verification_json(found: Verification) -> dict[str, Any]:
    """Give what was found as plain JSON values."""
    return {"holds": found.holds, **asdict(found)}


def _whose(one: Discrepancy) -> str:
    named = ", ".join(filter(None, (one.model, one.metric, one.place)))
    return f"{named}: " if named else ""


def _check_records(directory: Path, found: Verification) -> None:
    """Hold files, rows and pictures against what was recorded of them when they were finished."""
    for looked in (*look_at_files(directory), *look_at_rows(directory)):
        found.num_compared += 1
        if looked.wrong:
            found.note(_difference(looked.file, place=looked.place, stored=looked.wrong))
    if not (directory / "run.json").is_file():
        found.unchecked.append("data/: there is no run.json, which records the hashes of the rows")
    if shown := [name for name in UNRECORDED if (directory / name).is_file()]:
        found.unchecked.append(f"{', '.join(shown)}: shown as they stand; nothing records what they were")


def _check_scores(directory: Path, study: Study, found: Verification) -> None:
    """Score the stored answers again."""
    plan = plan_study(study)
    samples = read_samples(directory, plan.asked, study.evaluate.rows)
    judges = [name for name in study.evaluate.metrics if name in study.judges]
    for name in study.evaluate.metrics:
        if name in judges:
            continue
        metric = metric_named(name, study.folder)
        if metric.score is None:
            found.unchecked.append(f"{name}: it needs the model; its files are held against their hashes")
            continue
        for model in plan.models:
            answers = [Answer(**row) for row in read_jsonl(directory / "answers" / f"{model}.jsonl")]
            again = [
                {**to_json(score), "data": data, "template": template}
                for (data, template), given in _by_place(answers).items()
                if data in samples
                for score in score_answers(metric, samples[data], given)
            ]
            _compare_scores(directory, model, name, again, found)
    for name in judges:
        found.unchecked.append(f"judge {name}: not asked again; its scores are held against the replies it gave")
        for model in plan.models:
            _compare_scores(directory, model, name, judged_again(directory, study, name, model, samples), found)


def _by_place(answers: Sequence[Answer]) -> dict[tuple[str, str], list[Answer]]:
    grouped: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        grouped.setdefault((answer.data, answer.template), []).append(answer)
    return grouped


def _compare_scores(
    directory: Path, model: str, metric: str, again: Sequence[Mapping[str, Any]], found: Verification
) -> None:
    path = directory / "scores" / model / f"{file_name(metric)}.jsonl"
    where = path.relative_to(directory).as_posix()
    stored = _numbered(read_jsonl(path))
    for key, row in _numbered(again).items():
        found.num_compared += 1
        known = stored.pop(key, None)
        if known is None or _worth(known) != _worth(row):
            place = " ".join(map(str, filter(None, key)))
            found.note(_difference(where, model, metric, place, *_what_differs(known, row)))
    for key, row in stored.items() if again else ():
        place = " ".join(map(str, filter(None, key)))
        found.note(_difference(where, model, metric, place, _said(_value(row)), "no such answer"))


def _numbered(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str, int], Mapping[str, Any]]:
    """Key score rows by set, wording and sample; several answers to one question by their order."""
    keyed: dict[tuple[str, str, str, int], Mapping[str, Any]] = {}
    for row in rows:
        place, number = (str(row["data"]), str(row["template"]), str(row["sample_id"])), 0
        while (*place, number) in keyed:
            number += 1
        keyed[*place, number] = row
    return keyed


def _worth(row: Mapping[str, Any]) -> dict[str, Any]:
    # Two wrong answers are worth the same; what was read from them tells them apart.
    return _value(row) | {"parsed": row.get("parsed")}


def _value(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"outcome": row["outcome"], "value": row["value"], "parts": dict(row["parts"])}


def _what_differs(known: Mapping[str, Any] | None, row: Mapping[str, Any]) -> tuple[str, str]:
    """Say what two scores are worth or, where they are worth the same, what was read from the answers."""
    if known is not None and _value(known) == _value(row):
        return _said({"parsed": known.get("parsed")}), _said({"parsed": row.get("parsed")})
    return _said(None if known is None else _value(known)), _said(_value(row))


def _check_comparison(directory: Path, found: Verification) -> None:
    """Compare the models again from the stored scores."""
    stored = json.loads((directory / "compare.json").read_text(encoding="utf-8"))
    try:
        again = json.loads(canonical_json(compare_directory(directory)))
    except SightlineError as error:
        found.note(_difference("compare.json", place="everything", stored="written", recomputed=str(error)))
        return
    _walk("compare.json", stored, again, found)


def _check_pictures(directory: Path, found: Verification) -> None:
    """Judge again what was asked without pictures."""
    if not (directory / PICTURES_FILE).is_file():
        return
    stored = json.loads((directory / PICTURES_FILE).read_text(encoding="utf-8"))
    judged = judged_pictures(directory)
    again = None if judged is None else json.loads(canonical_json(judged))
    _walk(PICTURES_FILE, stored, again, found)


def _walk(
    file: str, stored: Any, again: Any, found: Verification, place: str = "", model: str = "", metric: str = ""
) -> None:
    """Hold two JSON values against each other, down to every number."""
    if isinstance(stored, Mapping) and isinstance(again, Mapping):
        model = str(again.get("model", model)) if isinstance(again.get("model", ""), str) else model
        metric = str(again.get("metric", metric)) if isinstance(again.get("metric", ""), str) else metric
        for key in sorted({*stored, *again}):
            if key not in stored and not place and again[key] in ([], {}, None):
                continue  # an empty part that a sightline of before did not know
            within = key if place.endswith("metrics") else metric
            _walk(file, stored.get(key), again.get(key), found, f"{place}.{key}".lstrip("."), model, within)
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for index, (one, other) in enumerate(zip(stored, again, strict=True)):
            _walk(file, one, other, found, f"{place}[{index}]", model, metric)
    elif isinstance(stored, list) and isinstance(again, list):
        found.num_compared += 1
        found.note(_difference(file, model, metric, place, f"{len(stored):,} entries", f"{len(again):,} entries"))
    else:
        found.num_compared += 1
        if stored != again or isinstance(stored, bool) != isinstance(again, bool):
            found.note(_difference(file, model, metric, place, _said(stored), _said(again)))


def _check_report(directory: Path, found: Verification) -> None:
    """Make the report again and hold it against the one that is there."""
    page = (directory / "report.html").read_bytes()
    has_figures = (directory / "figures").is_dir()
    changed = changed_files(directory) if b'id="doubt"' in page else ()  # said by a report that was written since
    again = report_files(directory, with_images=b"data:image/" in page, with_figures=has_figures, changed=changed)
    for name, content in again.items():
        path = directory / name
        found.num_compared += 1
        if not path.is_file():
            found.note(_difference(name, place="the file", stored="missing", recomputed="there"))
            continue
        stored = path.read_bytes()
        if stored == content:
            continue
        if name.startswith("figures/") and maker_of(stored) != maker_of(content):
            found.unchecked.append(f"{name}: drawn by {maker_of(stored) or 'something else'}, here {maker_of(content)}")
        elif name.endswith(".csv"):
            _compare_tables(name, stored.decode("utf-8", "replace"), content.decode(), found)
        elif name.startswith("figures/"):
            found.note(_difference(name, place="the drawing", stored="another", recomputed="this study's"))
        else:
            _compare_lines(name, stored.decode("utf-8", "replace"), content.decode(), found)


def _compare_tables(file: str, stored: str, again: str, found: Verification) -> None:
    old, new = (list(csv.reader(io.StringIO(text))) for text in (stored, again))
    titles = new[0] if new else []
    if len(old) != len(new) or not old or old[0] != titles:
        found.note(_difference(file, place="rows", stored=f"{len(old):,}", recomputed=f"{len(new):,}"))
        return
    for number, (before, after) in enumerate(zip(old[1:], new[1:], strict=True), start=2):
        row = dict(zip(titles, after, strict=True))
        for title, one, other in zip(titles, before, after, strict=False):
            found.num_compared += 1
            if one != other:
                place = f"row {number}, {title}"
                found.note(
                    _difference(file, row.get("Model", ""), row.get("Metric", ""), place, _said(one), _said(other))
                )


def _compare_lines(file: str, stored: str, again: str, found: Verification) -> None:
    old, new = stored.split("\n"), again.split("\n")
    for number in range(max(len(old), len(new))):
        one = old[number] if number < len(old) else "no line"
        other = new[number] if number < len(new) else "no line"
        if one != other:
            if file.endswith(".html"):
                one, other = _without_markup(one, other)
            same = min(len(one), len(other))  # where one line begins the other
            start = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), same)
            around = slice(max(0, start - _SHOWN // 2), start + _SHOWN // 2)
            found.note(
                _difference(
                    file, place=f"line {number + 1}", stored=_said(one[around]), recomputed=_said(other[around])
                )
            )
            return


def _without_markup(stored: str, again: str) -> tuple[str, str]:
    """Give what two lines of a page show; the lines themselves where they differ in their markup alone."""
    one, other = (html.unescape(re.sub(r"<[^>]*>|^[^<]*>", " ", line)) for line in (stored, again))
    return (stored, again) if one == other else (" ".join(one.split()), " ".join(other.split()))


def _difference(
    file: str, model: str = "", metric: str = "", place: str = "", stored: str = "", recomputed: str = ""
) -> Discrepancy:
    return Discrepancy(file=file, model=model, metric=metric, place=place, stored=stored, recomputed=recomputed)


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN * 2 else f"{text[: _SHOWN * 2]}…"

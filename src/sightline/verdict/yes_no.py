"""Yes/no sets taken apart: does a model see better, or does it only say yes more or less often?

Accuracy and F1 hide which; sensitivity d' and criterion c of signal detection theory tell them apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from sightline.records import Score
from sightline.scoring.metric import Metric, Ratio
from sightline.scoring.normalise import normalise
from sightline.scoring.vqa import YES_NO
from sightline.verdict.findings import ALPHA
from sightline.verdict.pairs import Pairs, Refusal
from sightline.verdict.questions import Arms, Asked, EvaluationSet, Question, examine, find_runs, judge
from sightline.verdict.sentences import TRADE_OFF, model_in_words, short_reason, subject, with_interval

MEASURED_BY: Mapping[str, Sequence[str]] = {
    kind: [f"{kind}_{measure}" for measure in ("accuracy", "f1", "recall", "precision")] for kind in ("closed", "pope")
}
"""Kind of yes/no question to the metrics, any of which says what was answered."""

_CELLS = ("tp", "fp", "fn", "tn")

MAX_UNREAD = 0.05
"""Share of a model's answers that may say neither yes nor no before there is no d' and no criterion."""

_TWO_ANSWERS = ("d_prime", "criterion")
"""Components of signal detection theory, which knows a yes and a no and nothing else."""


def sensitivity(parts: Mapping[str, Any]) -> Any:
    """Compute d' of summed true and false positives and negatives: how far apart yes- and no-questions lie for a model.

    Half an answer is added to each cell, so that it exists where a rate is 0 or 1.

    Args:
        parts: tp, fp, fn and tn; floats, or float64 arrays of one shape. Absent means 0.

    Returns:
        d' in standard deviations; nan where there are no yes- or no no-questions.

    Source: Green and Swets 1966; the half: Hautus 1995.
    """
    hits, false_alarms = _quantiles(parts)
    return hits - false_alarms


def criterion(parts: Mapping[str, Any]) -> Any:
    """Compute the criterion c: how much a model is drawn to no (above 0) or to yes (below 0). As `sensitivity`."""
    hits, false_alarms = _quantiles(parts)
    return -(hits + false_alarms) / 2


def _quantiles(parts: Mapping[str, Any]) -> tuple[Any, Any]:
    tp, fp, fn, tn = (np.asarray(parts.get(cell, 0.0), dtype=np.float64) for cell in _CELLS)
    positives, negatives = tp + fn, fp + tn
    defined = (positives > 0) & (negatives > 0)
    hits, false_alarms = (tp + 0.5) / (positives + 1), (fp + 0.5) / (negatives + 1)
    return tuple(np.where(defined, stats.norm.ppf(rate), np.nan) for rate in (hits, false_alarms))  # type: ignore[return-value]


def _component(name: str, title: str, combine: Any, unit: str = "rate", *, neutral: bool = False) -> Metric:
    return Metric(name=name, title=title, kind="ratio", combine=combine, unit=unit, neutral=neutral)  # type: ignore[arg-type]


COMPONENTS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        _component("recall", "Recall: yes where yes is right", Ratio({"tp": 1}, {"tp": 1, "fn": 1})),
        _component("specificity", "Specificity: no where no is right", Ratio({"tn": 1}, {"tn": 1, "fp": 1})),
        _component(
            "yes_ratio",
            "Share of yes",
            Ratio({"tp": 1, "fp": 1, "unread_no": -1}, dict.fromkeys(_CELLS, 1)),
            neutral=True,
        ),
        _component("d_prime", "Sensitivity d'", sensitivity, "sd"),
        _component("criterion", "Criterion c, above 0 drawn to no", criterion, "sd", neutral=True),
    )
}


def take_apart(
    arms: Arms, sets: Mapping[str, EvaluationSet], family: Sequence[Asked], *, seed: int
) -> list[dict[str, Any]]:
    """Compare the components of every yes/no question of a family, corrected together.

    Args:
        arms: everything measured.
        sets: by name.
        family: questions; each pair of models, set, wording and kind is taken apart once, whatever the metric.
        seed: of everything drawn.

    Returns:
        per pair: model, against, data, template, kind, `components` as entries of compare.json, `trade_off` (what
        moved oppositely, else ""), `title` and `sentence`.
    """
    counted = {kind: _counted(arms, sets, kind) for kind in MEASURED_BY}
    found = []
    for kind in MEASURED_BY:
        places = dict.fromkeys((each.model, each.against, each.data, each.template) for each in family)
        asked = [
            [Asked(model, against, component, data, template) for component in COMPONENTS.values()]
            for model, against, data, template in places
        ]
        asked = [each for each in asked if not isinstance(find_runs(counted[kind], each[0]), Refusal)]
        family_of_kind = [question for each in asked for question in each]
        entries = iter(judge([_examine(counted[kind], sets, each, seed=seed) for each in family_of_kind], seed=seed))
        for model, against, _, data, template, _ in (each[0] for each in asked):
            # Which questions changed stands with accuracy; five times more would only fill the file.
            components = {name: next(entries) | {"fixed_ids": [], "broke_ids": []} for name in COMPONENTS}
            trade_off = _trade_off(components)
            place = {"model": model, "against": against, "data": data, "template": template}
            said = {
                "title": subject({**place, "metric": f"{kind} questions"}),
                "sentence": _say(components, trade_off),
                "trade_off": trade_off,
            }
            found.append({**place, "kind": kind, **said, "components": list(components.values())})
    return found


def _examine(arms: Arms, sets: Mapping[str, EvaluationSet], asked: Asked, *, seed: int) -> Question:
    """Estimate a component's difference, but no d' and no criterion where many answers say neither yes nor no."""
    question = examine(arms, sets[asked.data], asked, find_runs(arms, asked), seed=seed)
    if asked.metric.name not in _TWO_ANSWERS or isinstance(question.pairs, Refusal):
        return question
    unread = _unread(question.pairs, asked)
    if not unread:
        return question
    refusal = Refusal(f"unread answers > {MAX_UNREAD:.0%}", f"{unread} say neither yes nor no")
    return dataclasses.replace(question, differences={"wrong": refusal}, bounds=None, seen={}, clean=None)


def _unread(pairs: Pairs, asked: Asked) -> str:
    """Count the unread answers of both models where one of them has too many; "" where neither has."""
    counts = {
        model_in_words(name): (sum(score.outcome == "unparsed" for row in rows for score in row), sum(map(len, rows)))
        for name, rows in ((asked.model, pairs.model), (asked.against, pairs.against))
    }
    if all(unread <= MAX_UNREAD * asked_of for unread, asked_of in counts.values()):
        return ""
    return " and ".join(f"{unread:,} of {asked_of:,} answers by {name}" for name, (unread, asked_of) in counts.items())


def apply_trade_offs(entries: Sequence[dict[str, Any]], taken_apart: Sequence[Mapping[str, Any]]) -> None:
    """Let a question's verdict say that its parts moved oppositely.

    Where d' changed with the metric or is not known, its own verdict stands, and the parts are named beside it.
    """
    by_place = {
        (each["model"], each["against"], each["data"], each["template"], each["kind"]): each for each in taken_apart
    }
    for entry in entries:
        kind, _, measure = entry["metric"].partition("_")
        place = (entry["model"], entry["against"], entry["data"], entry["template"], kind)
        apart = by_place.get(place)
        if measure not in ("accuracy", "f1") or not apart or not apart["trade_off"]:
            continue
        d_prime = next(each for each in apart["components"] if each["metric"] == "d_prime")
        is_open = entry["verdict"] in ("cannot decide", "borderline") or d_prime["difference"] is None
        if is_open or entry["verdict"] == d_prime["verdict"] != _NOTHING:
            entry["sentence"] += f" Its parts moved oppositely: {apart['trade_off']}."
        else:
            entry["sentence"] = f"{TRADE_OFF}: {apart['trade_off']}. {entry['metric']} by itself: {entry['sentence']}"
            entry["verdict"] = TRADE_OFF


_NOTHING = "no detectable difference"


def _say(components: Mapping[str, Mapping[str, Any]], trade_off: str) -> str:
    reasons = {entry["reason"] + f" ({entry['detail']})" * bool(entry["detail"]) for entry in components.values()}
    if len(reasons) == 1 and all(entry["difference"] is None for entry in components.values()):
        return f"cannot decide: {reasons.pop()}."
    named: dict[str, list[str]] = {}
    for name, entry in components.items():
        why = short_reason(entry, alpha=ALPHA)
        found = f"cannot decide ({why})"
        if entry["difference"] is not None:
            change = with_interval(entry["difference"], entry["interval"], entry["unit"])
            found = f"{change}, {entry['verdict']}" + f" ({why})" * bool(why)
        named.setdefault(found, []).append(_SHORT[name])
    said = "; ".join(f"{' and '.join(names)} {found}" for found, names in named.items())
    return f"{said}." + f" {TRADE_OFF}: {trade_off}." * bool(trade_off)


_SHORT: Mapping[str, str] = {
    "recall": "recall",
    "specificity": "specificity",
    "yes_ratio": "share of yes",
    "d_prime": "sensitivity d'",
    "criterion": "criterion c",
}


def _trade_off(components: Mapping[str, Mapping[str, Any]]) -> str:
    recall, specificity, d_prime = (components[name] for name in ("recall", "specificity", "d_prime"))
    if {recall["verdict"], specificity["verdict"]} != {"improved", "regressed"}:
        return ""
    fewer = specificity["verdict"] == "improved"
    false_yes = with_interval(-specificity["difference"], [-end for end in specificity["interval"][::-1]], "rate")
    said = [f"{'fewer' if fewer else 'more'} false yes: {false_yes}"]
    missed = with_interval(recall["difference"], recall["interval"], "rate")
    said.append(f"{'more' if fewer else 'fewer'} missed yes: recall {missed}")
    if d_prime["difference"] is not None:
        change = with_interval(d_prime["difference"], d_prime["interval"], "sd")
        said.append(f"discrimination d': {d_prime['verdict']}, {change}")
    return "; ".join(said)


def _counted(arms: Arms, sets: Mapping[str, EvaluationSet], kind: str) -> Arms:
    """Bring every arm's yes/no answers into the table of true and false positives."""
    references = {
        data: {name: normalise(sample.answer) for name, sample in each.samples.items()} for data, each in sets.items()
    }
    counted = {}
    for (model, data, template), by_metric in arms.items():
        scores = next((by_metric[name] for name in MEASURED_BY[kind] if by_metric.get(name)), {})
        asked = {
            name: references[data][name]
            for name, score in scores.items()
            if references[data][name] in YES_NO and score.outcome != "not_applicable"
        }
        if set(asked.values()) == YES_NO:
            table = {name: _cell(scores[name], reference) for name, reference in asked.items()}
            counted[model, data, template] = dict.fromkeys(COMPONENTS, table)
    return counted


def _cell(score: Score, reference: str) -> Score:
    """Read what was said from "right or wrong" and the reference; an unparsed answer is wrong, and no yes."""
    parts = score.parts
    if score.outcome == "unparsed":
        parts = {"fn": 1.0} if reference == "yes" else {"fp": 1.0, "unread_no": 1.0}
    elif not parts:
        right = score.value == 1
        parts = {("tp" if right else "fn") if reference == "yes" else ("tn" if right else "fp"): 1.0}
    return Score(sample_id=score.sample_id, metric=score.metric, outcome=score.outcome, parts=parts)

"""Does the picture matter? A model's scores with its own picture, a blank one and another sample's, as a verdict.

Paired, clustered by image and corrected over all models and sets asked, as every verdict is; docs/pictures-matter.md
says what each of these needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.records import Answer, Sample, Score
from sightline.scoring.metrics import Metric
from sightline.scoring.normalise import normalise
from sightline.verdict import statistics
from sightline.verdict.arms import arm_value, scores_by_id
from sightline.verdict.columns import ArmScores
from sightline.verdict.findings import ALPHA, POWER
from sightline.verdict.pairs import NO_INTERVAL, NO_VARIATION, Difference, Refusal, estimate_difference, pair_scores
from sightline.verdict.sentences import amount, level, probability

OWN, BLANK, OTHER = "own", "blank", "other"
STAND_INS: Mapping[str, str] = {BLANK: "a blank one", OTHER: "another sample's"}

LITTLE: Mapping[str, float] = {"rate": 0.05, "nats": 0.05}
"""What a picture brings at most where a model is said to answer without looking: 5 points, or 0.05 nats per token."""

MATTERS, HARDLY, WITHOUT, UNKNOWN = "the picture matters", "hardly matters", "answers without looking", "cannot tell"

Entry = Mapping[str, Any]
"""A part of pictures_matter.json."""

Scores = Mapping[str, Mapping[str, Sequence[Score]]]
"""Picture (own, blank, other) to metric name to one score per question."""


def measure_pictures(
    samples: Mapping[str, Sample],
    metrics: Sequence[Metric],
    scores: Scores,
    *,
    model: str,
    data: str,
    template: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what a model loses without its own pictures; `judge_pictures` says what follows.

    Args:
        samples: the data set, as it is.
        metrics: the first decides.
        scores: of the questions that have a picture and could be given another; others are left out and counted.
        model: its name.
        data: the set's name.
        template: the wording's name.
        seed: of resampling.
    """
    by_id = {
        picture: {
            metric.name: scores_by_id(samples, by_metric.get(metric.name, ()), arm=f"{model} on {data}")
            for metric in metrics
        }
        for picture, by_metric in scores.items()
    }
    asked = sorted(set(by_id[OTHER][metrics[0].name]))
    measured = {}
    for metric in metrics:
        arms = {
            picture: {name: by_metric[metric.name][name] for name in asked if name in by_metric[metric.name]}
            for picture, by_metric in by_id.items()
        }
        counted = [name for name, score in arms[OTHER].items() if score.outcome != "not_applicable"]
        measured[metric.name] = {
            "title": metric.title,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "num_questions": len(counted),
            "num_images": len({picture.sha256 for name in counted for picture in samples[name].pictures}),
            "values": {picture: _value(metric, arm) for picture, arm in arms.items()},
            "gains": {each: _gain(samples, metric, arms[OWN], arms[each], seed) for each in STAND_INS},
            "constant": _constant(samples, metric, arms[BLANK], seed),
        }
    return {
        "model": model,
        "data": data,
        "template": template,
        "metric": metrics[0].name,
        "num_left_out": len(samples) - len(asked),
        "metrics": measured,
    }


def judge_pictures(measured: Sequence[Entry]) -> dict[str, Any]:
    """Say of each model whether it looks, and of each set whether it must be looked at.

    Args:
        measured: by `measure_pictures`, models and sets of one study.

    Returns:
        the content of pictures_matter.json.
    """
    entries = [dict(entry) for entry in measured]
    adjusted = statistics.holm([max(gain["p"] for gain in _decisive(entry)["gains"].values()) for entry in entries])
    for entry, p_adjusted in zip(entries, adjusted, strict=True):
        entry["p_adjusted"] = p_adjusted
        entry["verdict"] = _verdict(_decisive(entry), p_adjusted)
        entry["sentence"], entry["beside"] = _say(entry, len(entries)), _say_beside(entry)
    places = dict.fromkeys((entry["data"], entry["template"]) for entry in entries)
    return {
        "schema": 1,
        "alpha": ALPHA,
        "little": dict(LITTLE),
        "sets": [
            _judge_set([entry for entry in entries if (entry["data"], entry["template"]) == place]) for place in places
        ],
        "models": entries,
    }


def _decisive(entry: Entry) -> Entry:
    return entry["metrics"][entry["metric"]]


def _value(metric: Metric, arm: ArmScores) -> float | None:
    return arm_value(metric, [score for score in arm.values() if score.outcome in ("scored", "unparsed")])


def _gain(samples: Mapping[str, Sample], metric: Metric, arm: ArmScores, against: ArmScores, seed: int) -> Entry:
    """Estimate what one arm has over another; positive is better, whichever way the metric goes."""
    sign = 1 if metric.higher_is_better else -1
    pairs = pair_scores(samples, metric, [arm], [against])
    found = pairs if isinstance(pairs, Refusal) else estimate_difference(metric, pairs, "wrong", seed=seed, alpha=ALPHA)
    if isinstance(found, Difference):
        low, high = sorted(sign * end for end in found.interval)
        least = statistics.detectable_difference(
            found.standard_error, found.degrees_of_freedom, alpha=ALPHA, power=POWER
        )
        p = max(found.p, found.p_check)
        return _described(sign * found.value, (low, high), p, least)
    value, other = _value(metric, arm), _value(metric, against)
    no_spread = found.reason in (NO_VARIATION, NO_INTERVAL)
    if no_spread and not isinstance(pairs, Refusal) and value is not None and other is not None:
        # The same on every image: no interval, but 2 of all 2^G ways to flip signs are as far from 0.
        gain = sign * (value - other)
        same = abs(gain) < 1e-12
        return _described(0.0 if same else gain, None, 1.0 if same else min(1.0, 2.0 ** (1 - pairs.num_groups)), None)
    return {**_described(None, None, 1.0, None), "reason": f"{found.reason}: {found.detail}".removesuffix(": ")}


def _described(gain: float | None, interval: tuple[float, float] | None, p: float, detectable: float | None) -> Entry:
    return {"gain": gain, "interval": interval and list(interval), "p": p, "detectable": detectable, "reason": ""}


def _constant(samples: Mapping[str, Sample], metric: Metric, blank: ArmScores, seed: int) -> Entry | None:
    """Hold the answers to blank pictures against always giving the commonest answer; None where there is no such."""
    asked = {name: score for name, score in blank.items() if score.outcome != "not_applicable"}
    if metric.score is None or metric.kind != "mean" or not asked:
        return None
    counts = Counter(normalise(samples[name].answer) for name in asked)
    text = min(counts, key=lambda answer: (-counts[answer], answer))
    given = {
        name: metric.score(
            samples[name], Answer(sample_id=name, model="", data="", text=text, finish_reason="stop", num_tokens=0)
        )
        for name in asked
    }
    return {"answer": text, "value": _value(metric, given), "blank_over_it": _gain(samples, metric, asked, given, seed)}


def _verdict(metric: Entry, p_adjusted: float) -> str:
    gains = list(metric["gains"].values())
    if any(gain["gain"] is None for gain in gains):
        return UNKNOWN
    does_as_well = any(_highest(gain) < LITTLE.get(metric["unit"], 0.0) for gain in gains)
    if p_adjusted < ALPHA and all(gain["gain"] > 0 for gain in gains):
        return HARDLY if does_as_well else MATTERS
    return WITHOUT if does_as_well else UNKNOWN


def _lowest(gain: Entry) -> float:
    return gain["interval"][0] if gain["interval"] else gain["gain"] or 0.0


def _highest(gain: Entry) -> float:
    return gain["interval"][1] if gain["interval"] else gain["gain"]


def _say(entry: Entry, family_size: int) -> str:
    metric = _decisive(entry)
    unit = metric["unit"]
    costs = [_cost(metric, stand_in, name) for stand_in, name in STAND_INS.items()]
    questions = f"{metric['num_questions']:,} question{'s'[: metric['num_questions'] != 1]}"
    images = f"{metric['num_images']:,} image{'s'[: metric['num_images'] != 1]}"
    said = f"{metric['title']} {level(metric['values'][OWN], unit)} with its own picture; {', '.join(costs)}"
    sentence = f"{entry['verdict']}: {said}; {questions} on {images}."
    reasons = dict.fromkeys(gain["reason"] for gain in metric["gains"].values() if gain["reason"])
    least = [gain["detectable"] for gain in metric["gains"].values() if gain["detectable"] is not None]
    if reasons:
        sentence += f" No interval: {'; '.join(reasons)}."
    elif entry["verdict"] == UNKNOWN and least:
        sentence += (
            f" This set could only have shown a cost of {amount(max(least), unit, signed=False)} or more "
            f"({POWER:.0%} power)."
        )
    p = max(gain["p"] for gain in metric["gains"].values())
    if p >= ALPHA and all(gain["interval"] and gain["interval"][0] > 0 for gain in metric["gains"].values()):
        sentence += f" The intervals exclude 0, but the second test gives p {probability(p)}."
    if p < ALPHA <= entry["p_adjusted"]:
        sentence += f" Corrected for {family_size} such verdicts, p {probability(entry['p_adjusted'])}."
    return sentence


def _cost(metric: Entry, stand_in: str, name: str) -> str:
    gain, unit = metric["gains"][stand_in], metric["unit"]
    value = level(metric["values"][stand_in], unit)
    if gain["gain"] is None:
        return f"{name} {value}"
    if not gain["interval"]:
        change = (
            "no difference on any image"
            if not gain["gain"]
            else f"costs {amount(gain['gain'], unit, signed=False)} throughout"
        )
        return f"{name} {value} ({change})"
    low, high = (amount(end, unit, signed=False).split(" ")[0] for end in gain["interval"])
    return f"{name} {value} (costs {amount(gain['gain'], unit, signed=False)}, 95% CI {low} to {high})"


def _say_beside(entry: Entry) -> str:
    """Say what the other metrics show, which do not decide: a loss may see what no answer that counts does."""
    said = []
    for metric in (metric for name, metric in entry["metrics"].items() if name != entry["metric"]):
        unit, gains = metric["unit"], metric["gains"]
        values = [level(metric["values"][picture], unit) for picture in (OWN, BLANK, OTHER)]
        said.append(f"{metric['title']}: {values[0]}, blank {values[1]}, another's {values[2]}.")
        if entry["verdict"] in (UNKNOWN, WITHOUT) and all(
            g["interval"] and g["interval"][0] > 0 for g in gains.values()
        ):
            low, high = (amount(end, unit, signed=False) for end in gains[OTHER]["interval"])
            few = ", though that changes too few of its answers" if entry["verdict"] == WITHOUT else ""
            said.append(
                f"So it does see something: another's picture costs {low.split(' ')[0]} to {high} (95% CI){few}."
            )
    return " ".join(said)


def _judge_set(entries: Sequence[Entry]) -> dict[str, Any]:
    """Say whether a set must be looked at: from the model that does best on it, or the best that is seen to look."""
    known = [entry for entry in entries if _decisive(entry)["values"][OWN] is not None]
    place = {"data": entries[0]["data"], "template": entries[0]["template"]}
    if not known:
        return {**place, "best": None, "sentence": "Nothing could be scored."}
    sign = 1 if _decisive(known[0])["higher_is_better"] else -1
    ranked = sorted(known, key=lambda entry: -sign * _decisive(entry)["values"][OWN])
    looking = [entry for entry in ranked if entry["verdict"] == MATTERS]
    best = looking[0] if looking and ranked[0]["verdict"] == UNKNOWN else ranked[0]
    metric, data = _decisive(best), best["data"]
    unit, constant = metric["unit"], metric["constant"]
    own, blank = (level(metric["values"][picture], unit) for picture in (OWN, BLANK))
    beats = bool(constant and _lowest(constant["blank_over_it"]) > 0)
    always = f"always “{constant['answer']}” would reach {level(constant['value'], unit)}" if constant else ""
    who = f"{best['model']}, the best here," if len(entries) > 1 and best is ranked[0] else best["model"]
    if best["verdict"] == MATTERS:
        sentence = f"{data} has to be looked at: {who} falls from {own} to {blank} when its pictures are blank."
        if beats and (share := _share_without(metric)) >= 0.5:
            sentence += f" Yet {always}: {share:.0%} of what it gains over that, it gains without looking."
    elif best["verdict"] == UNKNOWN:
        sentence = f"Nothing is known of whether {data} has to be looked at; see what {best['model']} lost."
    elif beats or constant is None:
        sentence = f"{data} can be answered without looking: {who} reaches {own}, and {blank} with blank pictures"
        sentence += f", where {always}. A score on it says little about seeing." if constant else "."
    else:
        sentence = (
            f"No model here is seen to look at the pictures of {data}: {who} reaches {own}, {blank} with blank ones; "
            f"{always}. Whether the questions need them is not known."
        )
    return {**place, "best": best["model"], "sentence": sentence}


def _share_without(metric: Entry) -> float:
    """Share of the gain over the commonest answer that is left with blank pictures."""
    above = metric["values"][OWN] - metric["constant"]["value"]
    return min(1.0, (metric["values"][BLANK] - metric["constant"]["value"]) / above) if above > 0 else 0.0

"""The step `critique`: preference pairs out of a model's own answers, and whether its preferences mean anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.errors import RefusedError
from sightline.generation.critique import (
    PROMPT_SHA256,
    Drawn,
    Duel,
    Outcome,
    Preference,
    ask_which,
    choose_pair,
    duels_of,
)
from sightline.records import Sample
from sightline.runner.best_of import score_drawn
from sightline.runner.display import Display
from sightline.runner.judging import open_judge
from sightline.runner.made_data import AT_CHANCE, judge_model
from sightline.runner.metrics import metric_of
from sightline.runner.prepare import common_setting
from sightline.scoring.judge import Asked
from sightline.scoring.metric import Metric
from sightline.storage import json_line, write_file
from sightline.study import StepRun
from sightline.study.names import is_model
from sightline.study.steps import Critique
from sightline.verdict.self_critique import describe_duels, say_making

if TYPE_CHECKING:
    from sightline.runner.make import Shelf

SIGNS: Mapping[Outcome, int] = {"win": 1, "tie": 0, "loss": -1}
NEARLY_THE_SAME = "nearly_the_same"


def make_pairs(
    run: StepRun, shelf: Shelf, samples: Sequence[Sample], answers: Mapping[str, Sequence[str]], display: Display
) -> tuple[list[Sample], dict[str, Any]]:
    """Compare the answers to each question in both orders, and keep a pair where the orders agree.

    Args:
        run: of a step `critique`.
        shelf: the models.
        samples: what was asked.
        answers: what was drawn for each.
        display: where progress is shown.

    Returns:
        the pairs, none where the judge judges no better than chance and the study does not accept that; and how it
        went, with `stopped` saying whether that is so.

    Raises:
        RefusedError: a judge did not answer all.
    """
    step = shelf.prepared.study.steps[run.step]
    assert isinstance(step, Critique)
    drawn = {sample.id: duels_of(sample, answers[sample.id]) for sample in samples}
    duels = [duel for one in drawn.values() for duel in one.duels]
    if step.judge in shelf.prepared.study.judges:
        preferences, judge = _ask_judge(step.judge, shelf, duels, display)
    elif step.judge != "self" and not is_model(shelf.prepared.study, step.judge):
        preferences, judge = _score(run, metric_of(shelf.prepared.study, step.judge), samples, answers, duels)
    else:
        name = judge_model(shelf.prepared.study, shelf.prepared.plan, run)
        display.say(f"{run.name}: {name} is asked about {len(duels):,} pairs of answers, in both orders")
        system = common_setting(shelf.prepared.plan, "system", None)
        preferences = ask_which(shelf.wear(name), duels, system=None if system is None else str(system))
        judge = {"judge": name, "prompt_sha256": PROMPT_SHA256, "decoding": "the likelier of two letters"}
    told = dict(zip(map(_key, duels), preferences, strict=True))
    in_orders = "prompt_sha256" in judge
    pairs = _pairs(samples, drawn, told, in_orders=in_orders)
    record = _record(step, drawn, told, pairs, in_orders=in_orders) | judge
    accepted = shelf.prepared.study.accept.get(AT_CHANCE, "")
    record["stopped"] = bool(record["at_chance"] and not accepted) or not pairs
    if not pairs:
        record["sentence"] += " What waits for them is not made; judge by another model."
    elif record["stopped"]:
        record["sentence"] += (
            " No pair is learnt, and what waits for them is not made; judge by another model, or accept "
            f"{AT_CHANCE} with your reason."
        )
    elif record["at_chance"]:
        record["sentence"] += f" Learnt from all the same (accepted: {accepted})."
    rows = [_row(run, duel, told[_key(duel)]) for duel in duels]
    write_file(shelf.out / "drawn" / f"{run.name}.duels.jsonl", "".join(map(json_line, rows)))
    return [] if record["stopped"] else pairs, record


def _key(duel: Duel) -> tuple[str, tuple[int, int]]:
    return duel.sample.id, duel.ks


def _pairs(
    samples: Sequence[Sample],
    drawn: Mapping[str, Drawn],
    told: Mapping[tuple[str, tuple[int, int]], Preference],
    *,
    in_orders: bool,
) -> list[Sample]:
    pairs = []
    for sample in samples:
        duels = {duel.ks: duel for duel in drawn[sample.id].duels}
        chosen = choose_pair(list(duels.values()), [told[_key(duel)] for duel in duels.values()])
        if chosen is not None:
            duel = duels[min(chosen), max(chosen)]
            texts = dict(zip(duel.ks, duel.texts, strict=True))
            better, worse = chosen
            tags = {"chosen_k": str(better), "rejected_k": str(worse), NEARLY_THE_SAME: str(duel.is_near).lower()}
            if in_orders:
                tags |= _seen_from_chosen(told[_key(duel)])
            pairs.append(
                dataclasses.replace(sample, answer=texts[better], rejected=texts[worse], tags={**sample.tags, **tags})
            )
    return pairs


def _seen_from_chosen(preference: Preference) -> dict[str, str]:
    """Say what became of a duel on which both orders agree, with the chosen answer shown first and second."""
    tags = {"when_first": "win", "when_second": "win"}
    if preference.margins is not None:
        first, second = preference.margins
        margins = (first, second) if preference.winner == 0 else (-second, -first)
        tags["margins"] = ", ".join(f"{margin:.6g}" for margin in margins)
    return tags


def _record(
    step: Critique,
    drawn: Mapping[str, Drawn],
    told: Mapping[tuple[str, tuple[int, int]], Preference],
    pairs: Sequence[Sample],
    *,
    in_orders: bool,
) -> dict[str, Any]:
    duels = [
        {
            "image_id": duel.sample.image_id,
            "when_first": SIGNS[told[_key(duel)].when_first],
            "when_second": SIGNS[told[_key(duel)].when_second],
            "num_words": [len(text.split()) for text in duel.texts],
        }
        for one in drawn.values()
        for duel in one.duels
    ]
    counts = {
        "num_questions": len(drawn),
        "num_drawn": step.samples * len(drawn),
        "num_empty": sum(one.num_empty for one in drawn.values()),
        "num_equal": sum(one.num_equal for one in drawn.values()),
        "num_near": sum(duel.is_near for one in drawn.values() for duel in one.duels),
        "num_pairs": len(pairs),
        "num_near_pairs": sum(pair.tags[NEARLY_THE_SAME] == "true" for pair in pairs),
    }
    found = describe_duels(duels)
    if not in_orders:  # a metric knows no order, and does not judge by chance
        found = {"num_duels": len(duels), "num_ties": found["num_ties"], "at_chance": False, "sentence": ""}
    return {**found, **counts, "sentence": say_making(counts, found)}


def _row(run: StepRun, duel: Duel, preference: Preference) -> dict[str, Any]:
    return {
        "sample_id": duel.sample.id,
        "image_id": duel.sample.image_id,
        "answered_by": run.parent,
        "ks": list(duel.ks),
        "texts": list(duel.texts),
        NEARLY_THE_SAME: duel.is_near,
        "when_first": preference.when_first,
        "when_second": preference.when_second,
        "margins": preference.margins and list(preference.margins),
    }


def _score(
    run: StepRun,
    metric: Metric,
    samples: Sequence[Sample],
    answers: Mapping[str, Sequence[str]],
    duels: Sequence[Duel],
) -> tuple[list[Preference], dict[str, Any]]:
    values = score_drawn(run, metric, samples, answers)
    sign = 1 if metric.higher_is_better else -1
    preferences = []
    for duel in duels:
        first, second = (values[duel.sample.id][k] for k in duel.ks)
        ahead = 0.0 if first is None or second is None else sign * (first - second)
        outcome: Outcome = "win" if ahead > 0 else "loss" if ahead < 0 else "tie"
        preferences.append(Preference(when_first=outcome, when_second=outcome))
    return preferences, {"judge": metric.name}


def _ask_judge(
    name: str, shelf: Shelf, duels: Sequence[Duel], display: Display
) -> tuple[list[Preference], dict[str, Any]]:
    study = shelf.prepared.study
    with (
        open_judge(name, study.judges[name], folder=study.folder, out=shelf.out, shelf=shelf) as judge,
        display.bar(f"{name}: pairs", 2 * len(duels), "replies") as bar,
    ):
        asked = [Asked(sample=duel.sample, text=duel.texts[0], rival=duel.texts[1]) for duel in duels]
        judgements = judge.judge(asked, on_reply=lambda reply: bar.advance())
        made_by = {
            "judge": name,
            "prompt_sha256": judge.kind.prompt_sha256,
            "decoding": repr(judge.decoding),
            "num_unreadable": sum(found.outcome == "unreadable" for found in judgements),
        }
    if failed := sum(found.outcome == "failed" for found in judgements):
        raise RefusedError(
            f"judges.{name}: {failed:,} of {len(judgements):,} pairs had no reply; what was replied is kept, and the "
            "same command goes on from here"
        )
    preferences = []
    for found in judgements:
        details: Mapping[str, Any] = found.opinion.details if found.opinion else {}
        sides = details.get("when_first", "tie"), details.get("when_second", "tie")  # what is not understood is a tie
        preferences.append(Preference(when_first=sides[0], when_second=sides[1]))
    return preferences, made_by

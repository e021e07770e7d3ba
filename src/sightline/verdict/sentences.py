"""What a comparison says, in words: one sentence per question, built from its entry in compare.json.

The wording is a contract: an interval with every claim, counts with every interval, and no word about causes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.data.groups import about_images
from sightline.study.names import without_stage
from sightline.verdict.statistics import groups_needed

ONE_RUN = "one training run: the verdict is about this checkpoint, not the recipe"
INVALID = "depends on how invalid answers are counted"
DISAGREE = "the two tests disagree"
SEEN = "depends on questions that training has seen"
LEAKAGE = "leakage > 5% and clean subset too small"
SMALLER = "significant but smaller than your margin"
TRADE_OFF = "trade-off"
FOOTER = "Points are hundredths of the rate; printed numbers are rounded half to even; {where} them in full."

Entry = Mapping[str, Any]


def say(entry: Entry, *, family_size: int, alpha: float, power: float) -> str:
    """Say a verdict.

    Args:
        entry: a question of compare.json, everything but its sentence filled in.
        family_size: comparisons in its Holm family.
        alpha: false-alarm rate.
        power: of the detectable difference.
    """
    sentence = _SAY[entry["verdict"]](entry, family_size, alpha, power)
    if entry["verdict"] not in ("cannot decide", "borderline") and entry["seen"]:
        sentence += f" {_clean(entry)}"
    if len(entry["seeds"]) > 1 and entry["difference"] is not None:
        sentence += f" Average over {len(entry['seeds'])} training runs (seeds {', '.join(map(str, entry['seeds']))})."
    return sentence


_UNITS = {"rate": "points", "nats": "nats per token", "words": "words per answer", "sd": "standard deviations"}


def amount(value: float, unit: str, *, signed: bool = True) -> str:
    """Write a difference: rates as points, losses as nats per token."""
    decimals, scale = (1, 100) if unit == "rate" else (3, 1)
    return f"{_rounded(scale * value, decimals, signed)} {_UNITS.get(unit, unit)}"


def with_interval(difference: float, interval: Iterable[float], unit: str, *, lower_is_better: bool = False) -> str:
    """Write a difference with its interval: "+6.7 points (95% CI +3.8 to +9.6)"."""
    direction = "; lower is better" if lower_is_better else ""
    return f"{amount(difference, unit)} (95% CI {_ends(interval, unit, ' to ')}{direction})"


def model_in_words(model: str) -> str:
    """Write a model's name as a reader should see it: what a curriculum made on its way says after which stage."""
    name, stage = without_stage(model)
    return model if stage is None else f"{name} after stage {stage}"


def probability(p: float) -> str:
    """Write a p value with its sign: "= .041", "< .001"."""
    if p < 0.001:
        return "< .001"
    return f"= {p:.3f}".replace("= 0.", "= .")


def level(value: float | None, unit: str) -> str:
    """Write an arm's own value: rates as percentages, losses in nats; a dash where undefined."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if unit == "rate" else f"{value:.3f}"


def render_terminal(compare: Entry) -> str:
    """Write compare.json as plain text: the stated questions first, then the exploratory ones, then every arm."""
    lines = [f"{compare['study']}: comparisons"]
    for heading, entries in _families(compare):
        lines += ["", heading]
        for subjects, sentences in _told(entries):
            lines += [*(f"  {each}" for each in subjects), *(f"    {each}" for each in sentences)]
    for heading, sentences in beside(compare):
        lines += ["", heading, *(f"  {sentence}" for sentence in sentences)]
    rows = list(_arm_rows(compare))
    widths = [max(len(row[column]) for row in [_ARM_HEAD, *rows]) for column in range(len(_ARM_HEAD))]
    lines += ["", "Each model by itself"]
    for row in [_ARM_HEAD, *rows]:
        lines.append(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    lines += [*_without_interval(compare), "", *[f"Note: {note}" for note in compare["notes"]]]
    lines.append(FOOTER.format(where="compare.json holds" if compare.get("is_stored", True) else "--json prints"))
    return _printable("\n".join(lines)) + "\n"


BESIDE = {
    "people": "What people say who were not told which model answered",
    "forgotten": "What was lost on the untouched set",
    "judges": "Several judges of the same answers",
    "described": "Hallucinated sentences beside the length of descriptions",
    "yes_no": "Yes/no questions taken apart",
    "selection": "The best of several",
    "wordings": "Several wordings",
    "sensitivity": "Each model in several wordings",
    "cut": "Answers cut at max_new_tokens",
    "effects": "What each setting does (exploratory)",
}
"""Parts of compare.json that stand beside the verdicts, with their headings; each entry has a title and a sentence."""


def beside(compare: Entry) -> Iterable[tuple[str, list[str]]]:
    """Give what stands beside the verdicts, heading by heading; a compare.json of before has none of it."""
    for key, heading in BESIDE.items():
        if entries := compare.get(key):
            titles: dict[str, list[str]] = {}
            for entry in entries:
                titles.setdefault(entry["sentence"], []).append(entry["title"])
            yield heading, [f"{_joined(alike)}: {sentence}" for sentence, alike in titles.items()]


def _joined(titles: Sequence[str]) -> str:
    """Name several things of which one thing is said, what they end in alike once."""
    heads, tails = zip(*(title.rpartition(", ")[::2] for title in titles), strict=True)
    same = len(set(tails)) == 1 and all(heads)
    return f"{'; '.join(heads)}, {tails[0]}" if same else "; ".join(titles)


def _told(entries: Iterable[Entry]) -> Iterable[tuple[list[str], list[str]]]:
    """Give what is asked, and what is said of it: once where several questions cannot be decided for one reason."""
    together: dict[tuple[str, ...], list[Entry]] = {}
    for place, entry in enumerate(entries):
        said = (entry["sentence"], *_checkpoints(entry))
        together.setdefault(said if entry["difference"] is None else (*said, str(place)), []).append(entry)
    for alike in together.values():
        metrics: dict[tuple[str, ...], list[str]] = {}
        for entry in alike:
            asked = tuple(entry[key] for key in ("model", "against", "data", "template"))
            metrics.setdefault(asked, []).append(entry["metric"])
        named = [
            subject(dict(zip(("model", "against", "data", "template"), asked, strict=True), metric=", ".join(names)))
            for asked, names in metrics.items()
        ]
        yield named, [alike[0]["sentence"], *_checkpoints(alike[0])]


def _checkpoints(entry: Entry) -> list[str]:
    """Say what each training run by itself shows; once where none can be decided, for one reason."""
    said = [each["sentence"] for each in entry["checkpoints"]]
    if said and entry["difference"] is None and set(said) == {entry["sentence"]}:
        return [f"each of its {len(said)} training runs by itself: the same"]
    return [f"{_checkpoint(entry, each)}: {each['sentence']}" for each in entry["checkpoints"]]


def subject(entry: Entry) -> str:
    """Say what a question is about: "sft against base, closed_accuracy on phantom.test"."""
    return f"{model_in_words(entry['model'])} against {model_in_words(entry['against'])}, {measured_by(entry)}"


def _checkpoint(entry: Entry, checkpoint: Entry) -> str:
    against = f" against {checkpoint['against']}" if checkpoint["against"] != entry["against"] else ""
    return model_in_words(checkpoint["model"]) + against


def measured_by(entry: Entry) -> str:
    """Say by which metric on which data, and in which wording unless it is the plain one."""
    template = "" if entry.get("template", "plain") == "plain" else f", template {entry['template']}"
    return f"{entry['metric']} on {entry['data']}{template}"


def _clear(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    neutral = "; neither direction is better" if entry["neutral"] else ""
    return (
        f"{entry['verdict']}: {_difference(entry)}, adjusted p {probability(entry['p_adjusted'])}, "
        f"{_counts(entry)}{neutral}."
    )


def _smaller(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    margin = amount(entry["margin"]["margin"], entry["unit"], signed=False)
    against = model_in_words(entry["against"])
    if entry["margin"]["equivalent"]:
        kept = f"equivalent within ±{margin}"
    elif entry["margin"]["not_worse"]:
        kept = f"not worse than {against} by {margin}"
    else:
        kept = f"whether the difference reaches {margin} is open"
    return (
        f"{SMALLER}: {_difference(entry)}, adjusted p {probability(entry['p_adjusted'])}, margin {margin}: {kept}; "
        f"{_counts(entry)}."
    )


def _equivalent(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    margin, unit = entry["margin"], entry["unit"]
    wide = f"{amount(entry['difference'], unit)} (90% CI {_ends(margin['interval'], unit, ' to ')})"
    return f"equivalent within ±{amount(margin['margin'], unit, signed=False)}: {wide}, {_counts(entry)}."


def _not_worse(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    margin = amount(entry["margin"]["margin"], entry["unit"], signed=False)
    return (
        f"not worse than {model_in_words(entry['against'])} by {margin}: {_difference(entry)}, {_counts(entry)}. "
        f"This is not evidence that it is better."
    )


def _undetected(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    detectable = amount(entry["detectable"], entry["unit"], signed=False)
    corrected = ""
    if entry["p"] < alpha:
        corrected = (
            f" The interval is for this comparison alone; corrected for {family_size} comparisons, "
            f"p {probability(entry['p_adjusted'])}."
        )
    margin = ""
    if entry["margin"] is not None:
        beyond = amount(entry["margin"]["margin"], entry["unit"], signed=False)
        margin = f" Whether it is worse by {beyond} or more is open."
    could = f"This test set could only have detected a change of {detectable} or more ({power:.0%} power)."
    return (
        f"no detectable difference: {_difference(entry)}.{corrected}{margin} {could}{_runs_needed(entry)} "
        "This is not evidence that the models are equal."
    )


def _runs_needed(entry: Entry) -> str:
    """Say that training runs, rather than questions, are what is too few, and how many would do."""
    if not entry["run_share"] or entry["run_share"] < 0.5:
        return ""
    num_runs, share = len(entry["seeds"]), f"{entry['run_share']:.0%} of the uncertainty lies between the training runs"
    if num_runs < 3:
        return f" {share}; two of them tell too little of their spread to say how many would do."
    if entry["num_runs_needed"] is None:
        return f" {share}; more runs alone would not detect a difference of this size."
    return (
        f" {share}; about {entry['num_runs_needed']} runs like these {num_runs} would detect a difference of this "
        "size, and so few tell their spread only roughly."
    )


def _borderline(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    if entry["reason"] == DISAGREE:
        check = f"{_TEST_NAMES[entry['p_check_method']]} (adjusted p {probability(entry['p_check_adjusted'])})"
        main = f"the interval's own test (adjusted p {probability(entry['p_adjusted'])})"
        few = f" {few}" if (few := _too_few_to_check(entry, alpha)) else ""
        return f"borderline: {DISAGREE}: {_difference(entry)}, {main}, {check}{few}; {_counts(entry)}."
    if entry["reason"] == SEEN:
        main = f"{_difference(entry)}, adjusted p {probability(entry['p_adjusted'])}"
        return f"borderline: {SEEN}: {main} on all, {_counts(entry)}. {_clean(entry)}"
    rules, unit = entry["by_rule"], entry["unit"]
    left_out, num_left = rules["left_out"], rules["num_left"]
    if left_out is not None:
        valid_only = f"left out {with_interval(left_out['difference'], left_out['interval'], unit)}"
    elif num_left:
        left = f"{num_left:,} questions are" if num_left != 1 else "one question is"
        valid_only = f"without them {left} left, on which nothing can be said ({rules['left_out_reason']})"
    else:
        valid_only = "no question is left without them"
    bounds = ""
    if rules["bounds"] is not None:
        bounds = f"; between {_ends(rules['bounds'], unit, ' and ')} {_UNITS.get(unit, unit)} whatever they had been"
    return (
        f"borderline: {INVALID}: counted wrong {_difference(entry)}, {valid_only}{bounds}; invalid answers: "
        f"{_invalid(entry)}; {_counts(entry)}."
    )


def short_reason(entry: Entry, *, alpha: float) -> str:
    """Say in few words why a verdict is borderline or could not be given; "" for the others."""
    if entry["verdict"] == "cannot decide":
        return entry["reason"] + f": {entry['detail']}" * bool(entry["detail"])
    if entry["verdict"] != "borderline":
        return ""
    if entry["reason"] == DISAGREE:
        main, check = (probability(entry[name]) for name in ("p_adjusted", "p_check_adjusted"))
        few = _too_few_to_check(entry, alpha)
        return f"{DISAGREE}: adjusted p {main}, by {_TEST_NAMES[entry['p_check_method']]} {check}" + f" {few}" * bool(
            few
        )
    if entry["reason"] == INVALID:
        return f"{INVALID}: {_invalid(entry)}"
    return str(entry["reason"])


def _invalid(entry: Entry) -> str:
    return ", ".join(f"{model_in_words(entry[side])} {entry['unparsed'][side]:,}" for side in ("model", "against"))


def _too_few_to_check(entry: Entry, alpha: float) -> str:
    """Say that no answers on so few images could pass the check, and how many are needed at the least."""
    needed = groups_needed(1, alpha)
    if entry["num_groups"] >= needed:
        return ""
    return f"on {about_images(entry['num_images'], entry['num_groups'])}, and that check needs {needed} at the least"


def _undecided(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    detail = f" ({entry['detail']})" if entry["detail"] else ""
    return f"cannot decide: {entry['reason']}{detail}."


def _clean(entry: Entry) -> str:
    """Say how many questions training has seen, and what is left of the difference without them."""
    num_seen = sum(entry["seen"]["num_seen"].values())
    seen = f"Training has seen {num_seen:,} of the questions or their images"
    clean = entry["seen"]["clean"]
    if clean is None:
        return f"{seen}; of the others alone nothing can be said."
    rest = with_interval(clean["difference"], clean["interval"], entry["unit"])
    return f"{seen}; on the other {clean['num_questions']:,}: {rest}, adjusted p {probability(clean['p_adjusted'])}."


_SAY = {
    "improved": _clear,
    "regressed": _clear,
    "changed": _clear,
    SMALLER: _smaller,
    "equivalent": _equivalent,
    "not worse": _not_worse,
    "no detectable difference": _undetected,
    "borderline": _borderline,
    "cannot decide": _undecided,
}

_TEST_NAMES = {
    "sign-flip": "the sign-flip check",
    "label-swap": "the label-swap check",
    "McNemar": "McNemar's exact test",
}

_ARM_HEAD = ("model", "data", "metric", "value", "95% interval", "scored", "invalid", "failed", "images")


def _difference(entry: Entry) -> str:
    lower_is_better = not entry["higher_is_better"] and not entry["neutral"]
    return with_interval(entry["difference"], entry["interval"], entry["unit"], lower_is_better=lower_is_better)


def _ends(ends: Iterable[float], unit: str, between: str) -> str:
    decimals, scale = (1, 100) if unit == "rate" else (3, 1)
    return between.join(_rounded(scale * end, decimals, True) for end in ends)


def _counts(entry: Entry) -> str:
    questions = f"{entry['num_questions']:,} question{'s'[: entry['num_questions'] != 1]}"
    asked = f"{questions} on {about_images(entry['num_images'], entry['num_groups'])}"
    if entry["neutral"]:
        return asked
    changes = "fixed {:,}, broke {:,}" if entry["binary"] else "better on {:,}, worse on {:,}"
    return f"{asked}; {changes.format(entry['fixed'], entry['broke'])}"


def _rounded(value: float, decimals: int, signed: bool) -> str:
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def _families(compare: Entry) -> Iterable[tuple[str, list[Entry]]]:
    if compare["stated"]:
        yield "Stated before the run", compare["stated"]
    if compare["exploratory"]:
        yield "Exploratory: not stated beforehand", compare["exploratory"]


def _arm_rows(compare: Entry) -> Iterable[tuple[str, ...]]:
    for arm in compare["arms"]:
        data = arm["data"] if arm["template"] == "plain" else f"{arm['data']} ({arm['template']})"
        for name, metric in arm["metrics"].items():
            interval = " to ".join(level(end, metric["unit"]) for end in metric["interval"] or ()) or "-"
            counts = (metric["num_scored"], metric["num_unparsed"], metric["num_failed"], arm["num_images"])
            yield (arm["model"], data, name, level(metric["value"], metric["unit"]), interval, *map(str, counts))
    for baseline in compare["baselines"]:
        always = f'always "{baseline["answer"]}"'
        yield (always, baseline["data"], baseline["metric"], level(baseline["value"], "rate"), "-", "-", "-", "-", "-")


def _without_interval(compare: Entry) -> list[str]:
    measured = [metric for arm in compare["arms"] for metric in arm["metrics"].values()]
    reasons = dict.fromkeys(metric["no_interval"] for metric in measured if metric.get("no_interval"))
    return [f"No interval where there is a dash: {'; '.join(reasons)}."] if reasons else []


def _printable(text: str) -> str:
    """Drop what a terminal would obey: names of models and data sets may come from files of others."""
    return "".join(character for character in text if character == "\n" or character.isprintable())

"""What a comparison says, in words: one sentence per question, built from its entry in compare.json.

The wording is a contract: an interval with every claim, counts with every interval, and no word about causes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ONE_RUN = "one training run: the verdict is about this checkpoint, not the recipe"
INVALID = "depends on how invalid answers are counted"
DISAGREE = "the two tests disagree"
FOOTER = "Points are hundredths of the rate; printed numbers are rounded half to even; compare.json holds them in full."

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
    if len(entry["seeds"]) > 1:
        sentence += f" Average over {len(entry['seeds'])} training runs (seeds {', '.join(map(str, entry['seeds']))})."
    return sentence


def amount(value: float, unit: str, *, signed: bool = True) -> str:
    """Write a difference: rates as points, losses as nats per token."""
    if unit == "rate":
        return f"{_rounded(100 * value, 1, signed)} points"
    return f"{_rounded(value, 3, signed)} nats per token"


def about_images(num_images: int, num_groups: int) -> str:
    """Write how many images questions are about; and how many groups they form, where questions share images in part.

    Args:
        num_images: distinct pictures.
        num_groups: groups of questions that share no picture, which statistics take for independent.
    """
    images = f"{num_images:,} image{'s'[: num_images != 1]}"
    groups = f"{num_groups:,} independent group{'s'[: num_groups != 1]}"
    return images if num_groups == num_images else f"{images} ({groups})"


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
        for entry in entries:
            lines += [f"  {_subject(entry)}", f"    {entry['sentence']}"]
            lines += [f"    {checkpoint['model']}: {checkpoint['sentence']}" for checkpoint in entry["checkpoints"]]
    rows = list(_arm_rows(compare))
    widths = [max(len(row[column]) for row in [_ARM_HEAD, *rows]) for column in range(len(_ARM_HEAD))]
    lines += ["", "Each model by itself"]
    for row in [_ARM_HEAD, *rows]:
        lines.append(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    lines += ["", *[f"Note: {note}" for note in compare["notes"]], FOOTER]
    return _printable("\n".join(lines)) + "\n"


def comparison_markdown(compare: Entry) -> str:
    """Write compare.json as Markdown, in the order of `render_terminal`."""
    lines = [f"# {_cell(compare['study'])}: comparisons"]
    for heading, entries in _families(compare):
        lines += ["", f"## {heading}", ""]
        for entry in entries:
            lines.append(f"- **{_cell(_subject(entry))}**: {_cell(entry['sentence'])}")
            lines += [f"  - {_cell(each['model'])}: {_cell(each['sentence'])}" for each in entry["checkpoints"]]
    lines += ["", "## Each model by itself", "", f"| {' | '.join(_ARM_HEAD)} |", "|" + "---|" * len(_ARM_HEAD)]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in _arm_rows(compare)]
    lines += ["", *[f"> {_cell(note)}\n" for note in compare["notes"]], FOOTER]
    return _printable("\n".join(lines)) + "\n"


def _clear(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    return f"{entry['verdict']}: {_difference(entry)}, adjusted p {probability(entry['p_adjusted'])}, {_counts(entry)}."


def _undetected(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    detectable = amount(entry["detectable"], entry["unit"], signed=False)
    corrected = ""
    if entry["p"] < alpha:
        corrected = (
            f" The interval is for this comparison alone; corrected for {family_size} comparisons, "
            f"p {probability(entry['p_adjusted'])}."
        )
    return (
        f"no detectable difference: {_difference(entry)}.{corrected} This test set could only have detected a change "
        f"of {detectable} or more ({power:.0%} power). This is not evidence that the models are equal."
    )


def _borderline(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    if entry["reason"] != INVALID:
        check = f"{_TEST_NAMES[entry['p_check_method']]} (adjusted p {probability(entry['p_check_adjusted'])})"
        main = f"the interval's own test (adjusted p {probability(entry['p_adjusted'])})"
        return f"borderline: {DISAGREE}: {_difference(entry)}, {main}, {check}; {_counts(entry)}."
    rules, unit, unparsed = entry["by_rule"], entry["unit"], entry["unparsed"]
    left_out = rules["left_out"]
    valid_only = "no question is left without them"
    if left_out is not None:
        valid_only = f"left out {_difference({**left_out, 'unit': unit, 'higher_is_better': True})}"
    bounds = ""
    if rules["bounds"] is not None:
        noun = "points" if unit == "rate" else "nats per token"
        bounds = f"; between {_ends(rules['bounds'], unit, ' and ')} {noun} whatever they had been"
    return (
        f"borderline: {INVALID}: counted wrong {_difference(entry)}, {valid_only}{bounds}; invalid answers: "
        f"{entry['model']} {unparsed['model']:,}, {entry['against']} {unparsed['against']:,}; {_counts(entry)}."
    )


def _undecided(entry: Entry, family_size: int, alpha: float, power: float) -> str:
    detail = f" ({entry['detail']})" if entry["detail"] else ""
    return f"cannot decide: {entry['reason']}{detail}."


_SAY = {
    "improved": _clear,
    "regressed": _clear,
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
    ends = _ends(entry["interval"], entry["unit"], " to ")
    direction = "" if entry["higher_is_better"] else "; lower is better"
    return f"{amount(entry['difference'], entry['unit'])} (95% CI {ends}{direction})"


def _ends(ends: Iterable[float], unit: str, between: str) -> str:
    decimals, scale = (1, 100) if unit == "rate" else (3, 1)
    return between.join(_rounded(scale * end, decimals, True) for end in ends)


def _counts(entry: Entry) -> str:
    questions = f"{entry['num_questions']:,} question{'s'[: entry['num_questions'] != 1]}"
    images = about_images(entry["num_images"], entry["num_groups"])
    changes = "fixed {:,}, broke {:,}" if entry["binary"] else "better on {:,}, worse on {:,}"
    return f"{questions} on {images}; {changes.format(entry['fixed'], entry['broke'])}"


def _rounded(value: float, decimals: int, signed: bool) -> str:
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def _subject(entry: Entry) -> str:
    template = "" if entry["template"] == "plain" else f", template {entry['template']}"
    return f"{entry['model']} against {entry['against']}, {entry['metric']} on {entry['data']}{template}"


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _printable(text: str) -> str:
    """Drop what a terminal would obey: names of models and data sets may come from files of others."""
    return "".join(character for character in text if character == "\n" or character.isprintable())

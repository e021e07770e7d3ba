"""What `score` found, as a person reads it: a table of rules side by side, and which answers make the difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST = 60
"""Characters of a question or an answer that are shown."""

MAX_GROUPS = 8
"""Groups of answers, by how the rules read them, that are shown."""


def render_score(found: Mapping[str, Any]) -> str:
    """Write the result of `score_task` as text."""
    rules = found.get("rules", {found["rule"]: found})
    lines = (
        [] if "num_answers" not in found else [f"{found['num_answers']:,} answers, matched by {found['matched_by']}"]
    )
    lines += {"pope": _pope, "vqa": _metrics, "text": _text, "shr": _shr}[found["task"]](found, rules)
    if found["task"] != "shr":
        measured = [metric for rule in rules.values() for metric in rule["metrics"].values()]
        reasons = dict.fromkeys(metric["no_interval"] for metric in measured if metric["value"] is not None)
        lines += [f"no interval under a value: {reason}" for reason in reasons if reason]
        lines += [f"{name}: {note}" for name, rule in rules.items() for note in rule.get("notes", ())]
    lines += _disagreements(found.get("disagreements", ()))
    return _printable("\n".join(lines)) + "\n"


def _pope(found: Mapping[str, Any], rules: Mapping[str, Any]) -> list[str]:
    blocks = {"": {name: rule["metrics"] for name, rule in rules.items()}}
    for name, rule in rules.items():
        for subset, arm in rule.get("subsets", {}).items():
            blocks.setdefault(subset, {})[name] = arm["metrics"]
    lines = []
    for subset, by_rule in sorted(blocks.items(), key=lambda item: not item[0]):
        names = list(dict.fromkeys(metric for metrics in by_rule.values() for metric in metrics))
        several = len(blocks) > 1
        rows = [[f"{subset or 'overall'}" if several else "rule", *names, "unread"]]
        for rule, metrics in by_rule.items():
            unread = next(iter(metrics.values()))["num_unparsed"]
            rows.append([rule, *(_cell(metrics.get(name)) for name in names), f"{unread:,}"])
            rows += _intervals([metrics.get(name) for name in names], [""])
            rows += _counted_rows([metrics.get(name) for name in names], [""])
        lines += ["", *_aligned(rows)]
    means = {name: rule["mean_of_subsets"]["f1"] for name, rule in rules.items() if "mean_of_subsets" in rule}
    if means:
        lines += [
            "",
            "mean F1 of the subsets: " + ", ".join(f"{name} {_percent(mean)}" for name, mean in means.items()),
        ]
    return [*lines, f"{found['words_per_answer']:.1f} words per answer", ""]


def _metrics(found: Mapping[str, Any], rules: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for rule in rules.values() for name in rule["metrics"]))
    rows = [["", *rules]]
    for name in names:
        rows.append([name, *(_counted(rule["metrics"].get(name)) for rule in rules.values())])
        rows += _intervals([rule["metrics"].get(name) for rule in rules.values()])
        rows += _counted_rows([rule["metrics"].get(name) for rule in rules.values()])
    return ["", *_aligned(rows), ""]


def _text(found: Mapping[str, Any], rules: Mapping[str, Any]) -> list[str]:
    distinct = ", ".join(f"{order}-grams {_percent(share)}" for order, share in found["corpus_distinct"].items())
    return [
        *_metrics(found, rules),
        f"BLEU: {found['bleu_signature']}",
        f"different n-grams over all answers: {distinct}",
    ]


def _shr(found: Mapping[str, Any], rules: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{int(number):,} {name}" for name, number in found["sentences"].items())
    lines = [f"{found['num_images']:,} images described, {len(found['missing_images']):,} missing; sentences: {counts}"]
    lines += ["", *_aligned([["rule", "SHR"], *([name, _percent(value)] for name, value in found["shr"].items())])]
    lines += [f"{_number(found['words_per_answer'])} words per description", ""]
    head = ["first sentences", "images", *found["by_length"]]
    by_length = zip(*found["by_length"].values(), strict=True)
    rows = [
        [str(row[0]["num_sentences"]), f"{row[0]['num_images']:,}", *(_percent(each["shr"]) for each in row)]
        for row in by_length
    ]
    lines += _aligned([head, *rows])
    for name, models in found.get("at_matched_length", {}).items():
        values = ", ".join(f"{model} {_percent(value)}" for model, value in models.items())
        lines.append(f"at matched length ({name}): {values}")
    return [*lines, "", *(f"{name}: {note}" for name, notes in found["notes"].items() for note in notes)]


def _disagreements(found: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[str]:
    by_metric = found if isinstance(found, Mapping) else {"": found}
    lines = []
    for metric, groups in by_metric.items():
        if not groups:
            continue
        total = sum(group["num_answers"] for group in groups)
        lines += ["", f"{f'{metric}: ' if metric else ''}{total:,} answers that the rules read differently"]
        for group in groups[:MAX_GROUPS]:
            readings = ", ".join(f"{rule} {_reading(said)}" for rule, said in group["readings"].items())
            lines.append(f"  {group['num_answers']:,}: {readings}")
            lines += [
                f"    {_short(each['question'])} [{_short(each['reference'])}] -> {_short(each['answer']) or '(empty)'}"
                for each in group["examples"]
            ]
        if len(groups) > MAX_GROUPS:
            lines.append(f"  and {len(groups) - MAX_GROUPS} more ways of differing; --json has them all")
    return lines


def _reading(said: str | float) -> str:
    return said if isinstance(said, str) else f"{said:.3f}"


def _counted(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    unread = f" ({metric['num_unparsed']:,} unread)" if metric["num_unparsed"] else ""
    return _cell(metric) + unread


def _intervals(metrics: Sequence[Mapping[str, Any] | None], behind: Sequence[str] = ()) -> list[list[str]]:
    """Give the line under a line of values: their 95% intervals; none where none of them has one."""
    said = []
    for metric in metrics:
        show = _percent if metric is not None and metric["unit"] == "rate" else _number
        ends = metric["interval"] if metric is not None else None
        said.append("" if ends is None else " to ".join(map(show, ends)))
    return [["  95% interval", *said, *behind]] if any(said) else []


def _counted_rows(metrics: Sequence[Mapping[str, Any] | None], behind: Sequence[str] = ()) -> list[list[str]]:
    """Give the line of how many answers each value rests on, where that is not all of them; none where all are."""
    said = []
    for metric in metrics:
        num_all = metric["num_scored"] + metric["num_unparsed"] if metric is not None else 0
        is_part = metric is not None and metric["value"] is not None and metric["num_counted"] < num_all
        said.append(f"{metric['num_counted']:,} of {num_all:,}" if metric is not None and is_part else "")
    return [["  of the answers", *said, *behind]] if any(said) else []


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    return _percent(metric["value"]) if metric["unit"] == "rate" else _number(metric["value"])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Put rows into columns, the first to the left and numbers to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in table)
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _printable(text: str) -> str:
    """Drop what a terminal would obey: answers are models' and files' of others."""
    return "".join(character for character in text if character == "\n" or character.isprintable())

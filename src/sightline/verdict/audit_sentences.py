"""An audit in words: one sentence per pair of rows and measure, and the whole as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sightline.verdict.audit_compare import DIFFERENT, NOT_SHOWN
from sightline.verdict.findings import ALPHA
from sightline.verdict.sentences import TRADE_OFF, amount, probability

FOOTER = (
    "Questions are taken for independent: a table does not say which share an image, and where they do, every p is "
    "larger. Points are hundredths of a rate; printed numbers are rounded half to even; --json gives them in full."
)

Entry = Mapping[str, Any]


def say_comparison(entry: Entry) -> str:
    """Say what a table allows to be said of one measure of two rows, the verdict first."""
    paired = entry["paired"]
    samples = f"95% CI {' to '.join(map(_points, entry['interval']))}, p {p_range(entry['p_unpaired'])}"
    sentence = f"{entry['verdict']}: {entry['measure']} {_difference(entry)} ({_counts(entry)})."
    if entry["bounds"] is not None:
        low, high = map(_points, entry["bounds"])
        sentence += f" Between {low} and {high} points whatever the answers left out had been."
    if paired is None:
        sentence += (
            f" As independent samples {samples}; they are shares of different questions, so no pairing is known."
        )
    else:
        ends = [probability(p).removeprefix("= ") for p in paired["p"]]
        sentence += (
            f" On the same questions p lies between {ends[0]} ({paired['fewest_changed']:,} answers changed, the "
            f"fewest possible) and {ends[1]} ({paired['most_changed']:,}, the most){_below(entry)}; as independent "
            f"samples {samples}."
        )
    if entry["family_size"] > 1:
        sentence += f" Corrected for {entry['family_size']} comparisons, p {p_range(entry['p_adjusted'])}."
    return f"{sentence} {_because(entry)}"


def p_range(ends: Sequence[float]) -> str:
    """Write a range of p: "= .013", "between .013 and .269", "from < .001 to .073"."""
    low, high = (probability(p).removeprefix("= ") for p in ends)
    if low == high:
        return probability(ends[0])
    return f"from {low} to {high}" if low.startswith("<") else f"between {low} and {high}"


def _points(value: float) -> str:
    return amount(value, "rate").removesuffix(" points")


def _difference(entry: Entry) -> str:
    low, high = entry["difference"]
    if _points(low) == _points(high):
        return amount(low, "rate")
    return f"{_points(low)} to {_points(high)} points, as rounding leaves open"


def _counts(entry: Entry) -> str:
    own, other = entry["num_questions"]
    counts = [
        f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"
        for ends in (entry["counts"]["against"], entry["counts"]["model"])
    ]
    if own == other:
        return f"{counts[0]} → {counts[1]} of {own:,} questions"
    return f"{counts[0]} of {other:,} → {counts[1]} of {own:,} questions"


def _below(entry: Entry) -> str:
    low, high = entry["paired"]["most_changed_below_alpha"]
    if not high or entry["paired"]["p"][1] < ALPHA:
        return ""
    if low != high:
        return f", below .05 up to {low:,} to {high:,}"
    return f", below .05 up to {high:,} ({high / entry['num_questions'][0]:.1%} of the questions)"


def _because(entry: Entry) -> str:
    if entry["verdict"] == NOT_SHOWN:
        return "This is not evidence that the models are equal."
    if entry["verdict"] != DIFFERENT:
        which = "which questions changed" if entry["paired"] else "the counts behind the rounded figures"
        return f"The table does not say {which}; answers per question would decide."
    to_hide, unpaired = entry["design_effect"]["to_hide"], entry["design_effect"]["to_hide_unpaired"]
    if not entry["paired"]:
        return f"It holds for independent samples, up to a design effect of {unpaired:.1f} from clustering."
    sentence = f"It holds whichever questions changed, up to a design effect of {to_hide:.1f} from clustering"
    if unpaired is None:
        return f"{sentence}."
    sentence += f" ({unpaired:.1f} as independent samples"
    n, images = entry["num_questions"][0], entry["num_images"]
    if images and n > images:
        size = n / images
        correlation = (unpaired - 1) / (size - 1)
        told = f"a correlation of {correlation:.2f}" if correlation < 1 else "more than any correlation"
        sentence += f": {told} within images, at {size:.1f} questions an image"
    return f"{sentence})."


def say_signal(entry: Entry) -> str:
    """Say how much of a change is telling yes from no better, and how much is saying yes less or more readily."""
    parts = []
    for name, title in (("sensitivity", "d'"), ("criterion", "criterion")):
        found = entry[name]
        low, high = found["interval"]
        seen = "" if low > 0 or high < 0 else ", no detectable change"
        parts.append(
            f"{title} {found['against']:.2f} → {found['model']:.2f} ({found['difference']:+.3f}, 95% CI {low:+.3f} to "
            f"{high:+.3f}{seen})"
        )
    (d_low, d_high), (c_low, c_high) = entry["sensitivity"]["interval"], entry["criterion"]["interval"]
    reading = ""
    if d_low <= 0 <= d_high and not c_low <= 0 <= c_high:
        answer = "no" if c_low > 0 else "yes"
        reading = f" What clearly changed is how readily {answer} is said, not how well yes and no are told apart."
    part = f"{entry['part']}: " if entry["part"] else ""
    return f"{part}{', '.join(parts)}.{reading}"


def say_trade_off(recall: Entry, specificity: Entry, signal: Entry | None) -> str | None:
    """Say where what is found and what is falsely found move against each other; None where they do not."""
    if DIFFERENT not in (recall["verdict"], specificity["verdict"]):
        return None
    found, right_no = recall["difference"][0], specificity["difference"][0]
    if found * right_no >= 0:
        return None
    missed, false_yes = ("more", "fewer") if found < 0 else ("fewer", "more")
    low, high = (0.0, -1.0) if signal is None else signal["sensitivity"]["interval"]
    apart = "; d' no detectable change" if low <= 0 <= high else ""
    return (
        f"{TRADE_OFF}: {false_yes} false yes (specificity {amount(right_no, 'rate')}), {missed} missed (recall "
        f"{amount(found, 'rate')}){apart}. Accuracy and F1 alone hide this."
    )


def say_mean(entry: Entry) -> str:
    """Say what a mean without its spread allows to be said."""
    d, values, assumed = entry["decimals"], entry["values"], entry["assumed"]
    sentence = (
        f"{entry['verdict']}: {entry['measure']} {entry['difference']:+.{d}f} "
        f"({values['against']:.{d}f} → {values['model']:.{d}f})"
    )
    if entry["difference"] == 0:
        return f"{sentence}."
    if entry["largest_sd"] is None:
        return f"{sentence}: neither a common number of questions nor the spread of the differences is printed."
    sentence += (
        f": on {entry['num_questions']:,} questions p < .05 only if the differences per question have a standard "
        f"deviation up to {_number(entry['largest_sd'])}"
    )
    if entry["num_variants"] > 1:
        sentence += f" ({_number(entry['largest_sd_corrected'])} corrected for {entry['num_variants']} rows)"
    sentence += ", which is not printed."
    if assumed is not None:
        sentence += (
            f" At {_number(assumed['sd'])}: p {probability(assumed['p'])}, corrected "
            f"{probability(assumed['p_adjusted'])}, detectable {_number(assumed['detectable'])}."
        )
    if entry["is_best"] and entry["num_variants"] > 1:
        sentence += (
            f" It is the best of {entry['num_variants']}: with no true difference, the best of so many is ahead by "
            f"{entry['gain_of_best_by_luck']:.2f} standard errors on average"
        )
        if assumed is not None:
            sentence += (
                f" (here {_number(assumed['gain_of_best_by_luck'])}), and by as much as this in "
                f"{assumed['chance_of_best_by_luck']:.0%} of such tables"
            )
        sentence += "."
    return sentence


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def render_audit(audit: Entry) -> str:
    """Write an audit as plain text: how the table was read, what cannot be, what is behind it, what may be said."""
    contradictions = audit["contradictions"]
    lines = [f"{audit['table']}: {audit['num_rows']} rows", *_section("How it was read", audit["reading"])]
    lines += _section(f"Contradictions: {len(contradictions) or 'none found'}", _sentences(contradictions))
    lines += _section("Counts behind the figures", [*_sentences(audit["rounding"]), *audit["recovered"]])
    lines += _section("Also", _sentences(audit["notes"]))
    lines += ["", "What it can and cannot show"]
    for subject, sentences in _by_pair(audit):
        lines += [f"  {subject}", *[f"    - {sentence}" for sentence in sentences]]
    lines += [f"  {sentence}" for sentence in audit["conclusions"]]
    return "\n".join([*lines, "", FOOTER]) + "\n"


def _by_pair(audit: Entry) -> Iterator[tuple[str, list[str]]]:
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for part in ("comparisons", "trade_offs", "signals", "means"):
        for entry in audit[part]:
            pairs.setdefault((entry["set"], entry["model"], entry["against"]), []).append(entry["sentence"])
    for (name, model, against), sentences in pairs.items():
        yield f"{model} against {against}{f', {name}' if name else ''}", sentences


def _sentences(entries: Sequence[Entry]) -> list[str]:
    return [entry["sentence"] for entry in entries]


def _section(title: str, sentences: Sequence[str]) -> list[str]:
    return ["", title, *[f"  - {sentence}" for sentence in sentences]] if sentences or ":" in title else []

"""The tables of `bench_grouping.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sightline.scoring.metrics import METRICS
from sightline.verdict import statistics

SHUFFLED = 1
CAPS = (SHUFFLED, 2, 4, 12, None)
MEASURED = ("exact_match", "nll")
SHARED_TOKENS, BRANCH_TOKENS = 581, 25
"""Of LLaVA-1.5: what all questions about a picture share, and what each of VQA-RAD's adds with its answer."""


def cap_name(cap: int | None) -> str:
    """Name a condition as the tables do."""
    return "off" if cap is None else "1 (shuffled)" if cap == SHUFFLED else str(cap)


def tables(
    of_setting: Mapping[str, Sequence[Mapping[str, Any]]],
    compared: Sequence[Mapping[str, Any]],
    untrained: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Write what each setting showed."""
    for name, rows in of_setting.items():
        entries = [entry for entry in compared if entry["setting"] == name]
        one, base = rows[0], untrained[name]
        asked = "only those answered yes, or only those answered no" if one["one_sided"] else "12 to 22 questions each"
        yield from (
            f"## {name}: {one['num_images']} pictures ({asked}), batch_size {one['batch_size']}, "
            f"learning_rate {one['learning_rate']:g}",
            "",
            f"{one['samples']:,} samples in {one['steps']} steps ({one['epochs']} epochs); {base['questions']:,} test "
            f"questions, of which the untrained model gets {base['exact_match']:.2%} (nll {base['nll']:.4f}). Means "
            "over seeds, ± their standard deviation; tokens and CPU time of training relative to shuffled.",
            "",
            "| branch_cap | seeds | pictures a step | exact match | reference nll | training loss, last fifth "
            "| gradient norm | executed tokens | CPU time |",
            "|---|---|---|---|---|---|---|---|---|",
        )
        of_cap = {cap: [row for row in rows if row["cap"] == cap] for cap in CAPS}
        yield from (_condition(cap, runs, of_cap[SHUFFLED]) for cap, runs in of_cap.items() if runs)
        yield from (
            "",
            "| grouped - shuffled | metric | difference | 95% over seeds | 95% over seeds and pictures | p, Holm "
            "| could have detected: seeds | seeds and pictures |",
            "|---|---|---|---|---|---|---|---|",
        )
        yield from map(_difference, entries)
        yield ""
        yield from (_sentence([entry for entry in entries if entry["metric"] == metric]) for metric in MEASURED)
        yield _losses(of_cap)
        yield ""


def _condition(cap: int | None, runs: Sequence[Mapping[str, Any]], shuffled: Sequence[Mapping[str, Any]]) -> str:
    def mean(key: str, of: Sequence[Mapping[str, Any]] = runs) -> float:
        return float(np.mean([row[key] for row in of]))

    spread = {key: float(np.std([row[key] for row in runs], ddof=min(1, len(runs) - 1))) for key in MEASURED}
    return (
        f"| {cap_name(cap)} | {len(runs)} | {mean('images_per_step'):.1f} "
        f"| {mean('exact_match'):.2%} ± {spread['exact_match']:.2%} | {mean('nll'):.4f} ± {spread['nll']:.4f} "
        f"| {mean('last_losses'):.3f} | {mean('grad_norm'):.2f} "
        f"| {mean('executed_tokens') / mean('executed_tokens', shuffled):.2f} "
        f"| {mean('train_cpu_seconds') / mean('train_cpu_seconds', shuffled):.2f} |"
    )


def mean_of_seeds(differences: Sequence[float]) -> statistics.Estimate:
    """Estimate a mean difference from one difference per seed."""
    number = len(differences)
    return statistics.Estimate(
        float(np.mean(differences)), float(np.std(differences, ddof=1)) / math.sqrt(number), number - 1
    )


def _losses(of_cap: Mapping[int | None, Sequence[Mapping[str, Any]]]) -> str:
    """Say how far the loss in training differs, seed by seed."""
    loss = {cap: {row["seed"]: row["last_losses"] for row in runs} for cap, runs in of_cap.items()}
    said = []
    for cap in CAPS[1:]:
        differences = [loss[cap][seed] - loss[SHUFFLED][seed] for seed in sorted(loss[cap].keys() & loss[SHUFFLED])]
        if len(differences) > 1:
            estimate = mean_of_seeds(differences)
            low, high = statistics.t_interval(estimate)
            said.append(f"{cap_name(cap)} {estimate.value:+.3f} ({low:+.3f} to {high:+.3f})")
    return f"Training loss of the last fifth, minus shuffled, with 95% over seeds: {', '.join(said)}."


def _shown(entry: Mapping[str, Any], value: float) -> str:
    return f"{100 * value:+.2f}" if entry["metric"] == "exact_match" else f"{value:+.4f}"


def _difference(entry: Mapping[str, Any]) -> str:
    seeds, images = (
        " to ".join(_shown(entry, end) for end in entry[key]) for key in ("seed_interval", "image_interval")
    )
    detectable = (_shown(entry, entry[key])[1:] for key in ("seed_detectable", "image_detectable"))
    unit = "exact match, points" if entry["metric"] == "exact_match" else "nll, nats per token"
    return (
        f"| {cap_name(entry['cap'])} | {unit} | {_shown(entry, entry['difference'])} | {seeds} | {images} "
        f"| {entry['image_p_holm']:.3f} | {' | '.join(detectable)} |"
    )


def _sentence(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    title = METRICS[entries[0]["metric"]].title
    found = [entry for entry in entries if entry["image_p_holm"] < 0.05]
    if found:
        listed = ", ".join(f"branch_cap {cap_name(e['cap'])} by {_shown(e, e['difference'])}" for e in found)
        return f"{title}: a difference from shuffled, with {listed}."
    least = _shown(entries[0], max(entry["image_detectable"] for entry in entries))[1:]
    return f"{title}: no difference from shuffled found; one of {least} would have been in 8 of 10 tries, at every cap."


def price_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write what the caps cost in tokens."""
    one = rows[0]
    yield from (
        "## Tokens of an epoch over VQA-RAD at LLaVA-1.5's size",
        "",
        f"{one['samples']:,} training rows, {one['questions_per_image']:.2f} questions a picture; they share "
        f"{SHARED_TOKENS} tokens, each adds {BRANCH_TOKENS} with its answer; counted, not run.",
        "",
        "| batch_size | branch_cap | executed tokens, million | times fewer than flat | relative to off |",
        "|---|---|---|---|---|",
    )
    for row in rows:
        yield (
            f"| {row['batch_size']} | {cap_name(row['cap'])} | {row['executed'] / 1e6:.3f} "
            f"| {row['flat'] / row['executed']:.2f} | {row['executed'] / row['off']:.2f} |"
        )

"""Do the verdict's tests keep their promises? Simulated studies without a difference, and with one.

    python benchmarks/bench_null_simulation.py [--studies 10000] [--markdown FILE]

Two models answer the same questions, several about an image. A question is as hard for both; each model's skill varies
from image to image (`s`, in standard deviations of a question's difficulty) and from answer to answer. The gate is at
451 questions on 203 images (VQA-RAD's test split): without a difference the verdict's own test (cluster t) must find
one in 4.3 to 5.7 of 100 studies, and its 95% interval must hold the truth in 94.3 to 95.7. Beside it stand the tests
that others use.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from sightline.verdict.resampling import image_signs
from sightline.verdict.statistics import cluster_sums, clustered_mean, t_interval, t_p

GATE = (451, 203, 0.5)
REJECTION, COVERAGE = (0.043, 0.057), (0.943, 0.957)

DESIGNS = (
    GATE,
    (2_248, 315, 0.5),
    (2_248, 315, 1.0),
    (3_000, 500, 0.5),
    (3_000, 500, 1.0),
    (120, 20, 0.5),
    (120, 20, 1.0),
)
"""Questions, images, s: VQA-RAD's test split and the whole of it, POPE, and a small set."""

GAINS = (0.04, 0.06, 0.08)
"""True differences for the second table."""

STUDIES_AT_ONCE = 250


class Studies(NamedTuple):
    """Simulated studies.

    Args:
        right: float64[2, R, N], whether each model was right.
        clusters_N: int64[N], image of each question.
        truth: the true mean difference.
    """

    right: np.ndarray
    clusters_N: np.ndarray
    truth: float


def simulate(
    generator: np.random.Generator, *, num_studies: int, clusters_N: np.ndarray, effect: float, s: float
) -> Studies:
    """Simulate studies of one design.

    Args:
        effect: mean advantage of the second model, in standard deviations of a question's difficulty.
        s: standard deviation of each model's skill from image to image, in the same unit.
    """
    num_images, shape = int(clusters_N.max()) + 1, (num_studies, len(clusters_N))
    difficulty = generator.normal(size=shape)
    right = [
        (
            advantage
            + generator.normal(0, s, (num_studies, num_images))[:, clusters_N]
            + difficulty
            + generator.normal(size=shape)
            > 0
        ).astype(np.float64)
        for advantage in (0.0, effect)
    ]
    truth = float(stats.norm.cdf(effect / np.sqrt(2 + s**2)) - 0.5)
    return Studies(np.stack(right), clusters_N, truth)


def unpaired_p(right: np.ndarray) -> np.ndarray:
    """Two-proportion z test, as if the models had answered different questions."""
    number, rates = right.shape[-1], right.mean(axis=-1)
    pooled = rates.mean(axis=0)
    standard_error = np.sqrt(2 * pooled * (1 - pooled) / number)
    return 2 * stats.norm.sf(np.abs(rates[1] - rates[0]) / standard_error)


def mcnemar_mid_p(right: np.ndarray) -> np.ndarray:
    """McNemar's mid-p, as if questions about one image were independent."""
    difference = right[1] - right[0]
    fixed, broke = (difference > 0).sum(axis=-1), (difference < 0).sum(axis=-1)
    fewer, changed = np.minimum(fixed, broke), fixed + broke
    p = 2 * stats.binom.cdf(fewer, changed, 0.5) - stats.binom.pmf(fewer, changed, 0.5)
    return np.where(fixed == broke, 1.0, p)


def sign_flip_ps(difference: np.ndarray, clusters_N: np.ndarray) -> np.ndarray:
    """The verdict's second test, for many studies at once."""
    sums_RG = cluster_sums(difference, clusters_N)
    flipped_BR = np.abs(image_signs(sums_RG.shape[1], 0).astype(np.float64) @ sums_RG.T)
    observed_R = np.abs(sums_RG.sum(axis=1))
    return ((flipped_BR >= observed_R - 1e-9).sum(axis=0) + 1) / (len(flipped_BR) + 1)


def run_design(num_questions: int, num_images: int, s: float, effect: float, num_studies: int) -> dict[str, float]:
    """Simulate a design; returns each test's rejection rate, and the interval's coverage."""
    generator = np.random.default_rng([num_questions, num_images, round(10 * s), round(10 * effect)])
    more = generator.integers(num_images, size=num_questions - num_images)
    clusters_N = np.concatenate([np.arange(num_images), more])
    found: dict[str, list[np.ndarray]] = {}
    for _ in range(-(-num_studies // STUDIES_AT_ONCE)):
        studies = simulate(generator, num_studies=STUDIES_AT_ONCE, clusters_N=clusters_N, effect=effect, s=s)
        difference = studies.right[1] - studies.right[0]
        clustered = clustered_mean(difference, clusters_N)
        low, high = t_interval(clustered)
        results = {
            "unpaired z": unpaired_p(studies.right) < 0.05,
            "paired t": t_p(clustered_mean(difference, np.arange(num_questions))) < 0.05,
            "McNemar mid-p": mcnemar_mid_p(studies.right) < 0.05,
            "cluster t": t_p(clustered) < 0.05,
            "sign-flip": sign_flip_ps(difference, clusters_N) < 0.05,
            "coverage": (low <= studies.truth) & (studies.truth <= high),
        }
        results["both"] = results["cluster t"] & results["sign-flip"]
        for name, values in results.items():
            found.setdefault(name, []).append(values)
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


COLUMNS = ("unpaired z", "paired t", "McNemar mid-p", "cluster t", "sign-flip", "both", "coverage")


def main() -> None:
    """Simulate every design, print the figures, and fail where the gate does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    start, lines = time.perf_counter(), []
    head = f"| design | {' | '.join(COLUMNS)} |"
    rule = "|---" * (len(COLUMNS) + 1) + "|"

    def table(title: str, rows: list[tuple[str, tuple[int, int, float], float]]) -> dict[str, dict[str, float]]:
        lines.extend(["", title, "", head, rule])
        print(title, head, sep="\n", flush=True)
        measured = {}
        for name, design, effect in rows:
            measured[name] = run_design(*design, effect, arguments.studies)
            lines.append(f"| {name} | {' | '.join(f'{measured[name][column]:.4f}' for column in COLUMNS)} |")
            print(lines[-1], flush=True)
        return measured

    nulls = [(f"{n:,} questions, {g} images, s = {s}", (n, g, s), 0.0) for n, g, s in DESIGNS]
    measured = table("Without a difference: share of studies in which the test finds one at 5%", nulls)
    table(
        "451 questions on 203 images, s = 0.5, with a difference: share of studies in which it is found",
        [(f"{100 * gain:.0f} points", GATE, float(1.5 * stats.norm.ppf(0.5 + gain))) for gain in GAINS],
    )
    gate = measured[nulls[0][0]]
    passed = REJECTION[0] < gate["cluster t"] < REJECTION[1] and COVERAGE[0] < gate["coverage"] < COVERAGE[1]
    verdict = (
        f"Gate at {nulls[0][0]}, {arguments.studies:,} studies: rejection {gate['cluster t']:.4f} "
        f"({REJECTION[0]} to {REJECTION[1]}), coverage {gate['coverage']:.4f} ({COVERAGE[0]} to {COVERAGE[1]}): "
        f"{'passed' if passed else 'FAILED'}."
    )
    print(verdict)
    if arguments.markdown:
        arguments.markdown.write_text(
            f"# The verdict's tests on simulated studies, {datetime.date.today()}\n\n"
            f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, numpy {np.__version__}; "
            f"{time.perf_counter() - start:.0f} s.\n\n"
            f"    python benchmarks/bench_null_simulation.py --studies {arguments.studies}\n\n{verdict}\n"
            + "\n".join(lines)
            + "\n\ncluster t: the verdict's interval and first test. sign-flip: its second. both: what a claim needs. "
            "The other three are what is used elsewhere. s: how far a model's skill varies from image to image.\n",
            encoding="utf-8",
        )
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()

"""A judge's scores corrected with people's labels of some of the answers (prediction-powered inference, PPI++).

The judge's mean over everything is moved by what it gets wrong where people have looked too. Uncorrected, a judge that
is right nine times out of ten can be off by more than its own interval says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sightline.verdict.statistics import Estimate, cluster_sums


class Corrected(NamedTuple):
    """A mean of labels, as labels and judge together estimate it.

    Args:
        estimate: value, standard error, degrees of freedom: one less than the images with a label.
        weight: of the judge; 0 where it tells nothing of the labels, and up to 1 where it agrees with them.
        judged: the judge's own mean, uncorrected.
        num_labels: answers that people labelled.
    """

    estimate: Estimate
    weight: float
    judged: float
    num_labels: int


def corrected_mean(labels_N: np.ndarray, judged_N: np.ndarray, clusters_N: np.ndarray) -> Corrected:
    """Estimate the mean that people would give, from a judge's scores of all answers and labels of a random part.

    The difference of two models is corrected alike: labels and scores are then differences, question by question. The
    labelled part must be drawn at random; answers picked because the judge looked wrong bias everything.

    Args:
        labels_N: float64[N], what people said; nan where nobody looked.
        judged_N: float64[N], what the judge said of each.
        clusters_N: int64[N], image of each, numbered from 0 without gaps.

    Returns:
        the estimate, its standard error clustered by image (CR1) over labelled and unlabelled answers together.

    Raises:
        ValueError: fewer than two images with a label.

    Source: Angelopoulos, Duchi and Zrnic 2023 (arXiv 2311.01453), the mean with a tuned weight; here the weight makes
        the clustered variance least, which for single questions is the same.
    """
    labelled_N = ~np.isnan(labels_N)
    num_labels, num_others = int(labelled_N.sum()), int((~labelled_N).sum())
    num_clusters = len(np.unique(clusters_N[labelled_N]))
    if num_clusters < 2:
        raise ValueError(f"labels on {num_clusters} images; at least 2 are needed to estimate a mean")
    labels_n, judged_n = labels_N[labelled_N], judged_N[labelled_N]
    mean, shift = float(labels_n.mean()), 0.0
    own_N, others_N = np.zeros(len(labels_N)), np.zeros(len(labels_N))
    own_N[labelled_N] = (labels_n - mean) / num_labels
    if num_others:
        judged_m = judged_N[~labelled_N]
        shift = float(judged_m.mean() - judged_n.mean())
        others_N[labelled_N] = (judged_n - judged_n.mean()) / num_labels
        others_N[~labelled_N] = -(judged_m - judged_m.mean()) / num_others
    own_G, others_G = cluster_sums(own_N, clusters_N), cluster_sums(others_N, clusters_N)
    spread = float((others_G**2).sum())
    weight = min(1.0, max(0.0, float(own_G @ others_G) / spread)) if spread > 0 else 0.0
    residuals_G = own_G - weight * others_G
    standard_error = math.sqrt(num_clusters / (num_clusters - 1) * float((residuals_G**2).sum()))
    estimate = Estimate(mean + weight * shift, standard_error, num_clusters - 1)
    return Corrected(estimate, weight, float(judged_N.mean()), num_labels)

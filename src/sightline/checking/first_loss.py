"""The loss before the first step: what the base makes of the answers, against a uniform guess."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sightline.checking.findings import Finding, Severity

FIRST_LOSS = "step-0-loss"
"""The finding's name."""

LEARNT = 0.01
"""Nats per target; below, the base knows the answers by heart, or can read them in the prompt."""


def check_first_loss(
    data: str, model: str, loss: float, *, num_rows: int, vocabulary_size: int, is_foreign: bool = False
) -> Iterator[Finding]:
    """Compare the loss before the first step with what a uniform guess over the vocabulary has.

    Args:
        data: the set that is learnt.
        model: the model that training starts from.
        loss: nats per target.
        num_rows: rows it was measured on.
        vocabulary_size: tokens to choose from.
        is_foreign: whether the model is builtin:tiny and the data not what it was made for.
    """
    guess = math.log(vocabulary_size)
    told = (
        f"{data}: before the first step, {model} has a loss of {loss:.2f} nats per target on {num_rows} rows; "
        f"a uniform guess has {guess:.2f}"
    )
    severity: Severity = "note"
    remedy = ""
    if is_foreign and loss >= guess:
        severity = "warning"
        told += (
            ". builtin:tiny knows the words of builtin:phantom alone, so here it shows that the study runs from end to "
            "end, and none of its numbers mean anything"
        )
        remedy = "name a real model as `base` before reading a score"
    elif not loss < guess:  # not a number is no loss either
        severity = "fault"
        told += ", so the model reads something else than it is to answer, or does not know its words"
        remedy = "look at labels, template and pictures: sightline show"
    elif loss < LEARNT:
        severity = "warning"
        told += ", so there is nothing left to learn, or the prompt gives the answer away"
        remedy = "see whether the base was tuned on these rows"
    evidence = {"loss": loss, "uniform": guess, "num_rows": num_rows, "model": model}
    yield Finding(name=FIRST_LOSS, severity=severity, message=told, remedy=remedy, evidence=evidence)

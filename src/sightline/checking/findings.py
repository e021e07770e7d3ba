"""What a check says: a name, how bad it is, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.errors import CheckFault
from sightline.records import Sample

Severity = Literal["fault", "warning", "note"]

ORDER: Mapping[Severity, int] = {"fault": 0, "warning": 1, "note": 2}
"""The gravest first."""

NUM_EXAMPLES = 5
"""How many rows a finding's evidence names."""

FINDINGS: Mapping[str, str] = {
    # the study's plan
    "several-factors-changed": "a stated comparison in which more than one thing differs",
    "identical-members": "models that are trained in exactly the same way",
    "unusual-setting": "a learning rate, rank, alpha, dropout or number of epochs far outside what the field uses",
    "critique-at-chance": "preferences of a model about its own answers that are no better than chance",
    "rows-to-be-made": "a set that a step makes, whose rows are checked when they are made",
    "data-partly-seen": "a step that sees less than half of its rows",
    "destinations": "every place to which data, scores or names would go",
    "licences": "the licences of base and data",
    # rows and splits
    "bad-rows": "rows that cannot be used",
    "placeholder-mismatch": "rows whose image placeholders do not match their pictures",
    "data-size": "rows and pictures of each set, and rows per picture or per group of rows that share pictures",
    "repeated-rows": "rows that repeat another",
    "contradictory-rows": "one question about one picture with several answers",
    "answer-balance": "what always giving the commonest answer reaches",
    "answer-types": "answers at odds with the type the data gives them",
    "test-is-whole-dataset": "a test set that holds every row of its source, those made for training included",
    "same-row-in-train-and-test": "test questions that training or validation has asked",
    "same-image-in-train-and-test": "test pictures that training or validation has shown",
    "near-duplicate-in-train-and-test": "test pictures that look like one that training or validation has shown",
    "identity-tags": "tags in picture files that can name a person or place",
    "burnt-in-text": "pictures whose file says that text is burnt into their pixels",
    # what is trained and asked
    "trained-tokens": "how many image, prompt, answer and end tokens are trained",
    "labels-misaligned": "labels of tokenised rows that are not the ids at their places",
    "image-tokens-trained": "image tokens among the targets",
    "end-not-trained": "answers whose end is not a target",
    "answers-cut": "answers cut by a length limit, in training or in evaluation",
    "token-straddles-answer": "tokens that reach over the border between question and answer",
    "foreign-template": "a chat template other than the one the model was trained with",
    "asked-otherwise-than-trained": "questions put to the model in another form than it was trained on",
    "prefix-sharing": "tokens saved because rows share their pictures, and the speed to expect",
    # what it can show and what it costs
    "few-test-images": "a test set about too few pictures for any verdict",
    "detectable-difference": "the smallest difference that the planned comparisons can detect",
    "cost": "disk, memory, hours and price before the start, with what the estimate assumes",
    "over-budget": "a study that cannot fit its budget on any accelerator",
    # with the models
    "adapter-made-for-another-base": "an adapter whose own file names another base",
    "step-0-loss": "the loss before the first step, against a uniform guess",
}
"""Every name a check gives, with what it is about: what `accept` may name. docs/checks.md explains each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check found.

    Args:
        name: by which a study can accept it.
        severity: a fault stops a run unless accepted; a warning and a note are reported.
        message: what was found, in plain words, with its counts.
        remedy: what to do; empty for a note.
        evidence: rows, counts and an example, as plain JSON values.
        accepted: the study's reason for going past a fault.
    """

    name: str
    severity: Severity
    message: str
    remedy: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    accepted: str | None = None

    @property
    def stops(self) -> bool:
        """Whether a run refuses to start because of it."""
        return self.severity == "fault" and self.accepted is None


def row_name(sample: Sample) -> str:
    """Name a row as a person finds it: its file and line, else its id."""
    return sample.origin or sample.id


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, the gravest first; equals keep their order."""
    return sorted(findings, key=lambda finding: ORDER[finding.severity])


def refuse_faults(findings: Sequence[Finding]) -> None:
    """Stop at faults that the study did not accept.

    Raises:
        CheckFault: naming each of them, what to do, and how to go past it.
    """
    faults = [finding for finding in findings if finding.stops]
    if faults:
        lines = [f"{fault.name}: {fault.message}; {fault.remedy}" for fault in faults]
        raise CheckFault(
            "\n".join(lines) + f"\nTo go past a fault, name it in the study: accept: {{{faults[0].name}: your reason}}"
        )

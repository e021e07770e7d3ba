"""`sightline adapter parity`: one adapter in several forms, asked the same; where they agree, and where they part."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data.sets import Source, read_source
from sightline.errors import MissingDataError
from sightline.generation.answering import Wording, answer_samples, render_asked, row_length
from sightline.generation.sampling import Decoding
from sightline.models.adapters import load_adapter
from sightline.models.forward import row_logprobs
from sightline.models.loading import LoadedModel, load_model, read_config
from sightline.models.merging import merge_adapter
from sightline.models.quantize import stored_quantization
from sightline.models.steady import steady_attention
from sightline.records import Sample
from sightline.runner.adapters import Located, Precision, locate
from sightline.runner.prepare import wording_of
from sightline.runner.results import read_samples
from sightline.trees.sampler import step_rows

NUM_SHOWN = 5
"""Answers that part, told in full."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one form of a model says.

    Args:
        logprobs: for each sample float64[M], of the tokens of its reference answer, in nats.
        tokens: for each sample the texts of these tokens.
        answers: greedy, one per sample.
    """

    logprobs: list[NDArray[np.float64]]
    tokens: list[list[str]]
    answers: list[str]


def compare_forms(
    model: str,
    *,
    merged: Path | None = None,
    data: str | None = None,
    rows: int = 32,
    precision: Precision | None = None,
    max_new_tokens: int = 32,
    base: str | None = None,
) -> dict[str, Any]:
    """Ask base with adapter, the merged model, and base with adapter in the other storage (4 bits, or plain) the same.

    Args:
        model: as `locate` finds it.
        merged: a folder that `sightline adapter merge` wrote; by default the adapter is merged in memory.
        data: what is asked: a file, a folder, a name; the study's own test questions by default, else drawn pictures.
        rows: the first of it.
        precision: in which all of them compute; the study's by default.
        max_new_tokens: longest answer, in tokens.
        base: the base it sits on, where its own configuration is not to be followed.

    Returns:
        "forms": one entry for each form but the first with "differences" in nats, "equal_answers" and where they part;
        "reference": what the first form is; "num_questions", "num_tokens", "notes".

    Raises:
        SightlineError: if there is no such adapter, it does not fit its base, or it changes nothing.
    """
    located = locate(model, base)
    located.read()
    samples, wording = _questions(located, data, rows)
    decoding = Decoding(max_new_tokens=max_new_tokens)
    forms, notes = _forms(located, merged, precision or located.precision)
    said: dict[str, Said] = {}
    for name, load in forms.items():  # one after the other: there may be room for one
        said[name] = _ask(load(), samples, wording, decoding)
    (reference, first), *others = said.items()
    return {
        "reference": reference,
        "num_questions": len(samples),
        "num_tokens": sum(map(len, first.logprobs)),
        "forms": [_compared(name, samples, first, other) for name, other in others],
        "notes": notes,
    }


def _questions(located: Located, data: str | None, rows: int) -> tuple[list[Sample], Wording]:
    shelf = located.shelf
    wording = Wording()
    if shelf is not None:
        text, system = wording_of(shelf.prepared.plan, next(iter(shelf.prepared.study.evaluate.prompts.values())))
        wording = Wording(text=text, system=system)
    if shelf is not None and data is None:
        sets = read_samples(shelf.out, shelf.prepared.plan.asked, None)
        samples = [_placed(sample, shelf.out) for held in sets.values() for sample in held.values()]
        if not samples:
            raise MissingDataError(
                f"{shelf.out}: the study has not stored its test questions yet; run it, or give --data"
            )
    else:
        source = Source(location=data or "builtin:phantom", root=Path.cwd(), images=None if data else rows)
        samples = [sample for held in read_source(source).values() for sample in held.samples]
        if not samples:
            raise MissingDataError(f"--data {data}: no row of it can be asked")
    return samples[:rows], wording


def _placed(sample: Sample, directory: Path) -> Sample:
    """Find the pictures that a study keeps itself, whatever the current folder is."""
    pictures = tuple(replace(p, path=str(directory / p.path)) if p.path else p for p in sample.pictures)
    return replace(sample, pictures=pictures)


def _forms(
    located: Located, merged: Path | None, precision: Precision
) -> tuple[dict[str, Callable[[], LoadedModel]], list[str]]:
    """Say how each form is loaded, by its name; the first is the one that the others are held against."""

    def worn(quantize: Any) -> LoadedModel:
        loaded = load_model(located.base, located.family(located.base), precision=precision, quantize=quantize)
        load_adapter(loaded, located.folder)
        return loaded

    def folded() -> LoadedModel:
        if merged is not None:
            return load_model(str(merged), located.family(str(merged)), precision=precision)
        family = located.family(located.base)
        return merge_adapter(
            located.base, located.folder, family=family, precision=precision, quantize=located.quantize
        ).loaded

    stored = stored_quantization(located.base, read_config(located.base))
    kept = stored or located.quantize
    forms: dict[str, Callable[[], LoadedModel]] = {
        f"base ({kept or 'plain weights'}) + adapter": lambda: worn(located.quantize),
        f"merged ({merged or 'in memory'})": folded,
    }
    notes: list[str] = []
    if stored:
        notes.append(f"the base is stored as {stored}, so there is no other form of it to ask")
    elif kept:
        forms["base (plain weights) + adapter"] = lambda: worn(None)
    elif importlib.util.find_spec("bitsandbytes") is None:
        notes.append("the 4-bit form is left out: bitsandbytes is not installed")
    else:
        forms["base (nf4) + adapter"] = lambda: worn("nf4")
    return forms, notes


def _ask(loaded: LoadedModel, samples: Sequence[Sample], wording: Wording, decoding: Decoding) -> Said:
    texts: dict[str, str] = {}
    for answers in answer_samples(loaded, samples, decoding, model="", data="", wording=wording):
        texts |= {answer.sample_id: answer.text for answer in answers}
    logprobs, tokens = _token_logprobs(loaded, samples, wording)
    return Said(logprobs, tokens, [texts[sample.id] for sample in samples])


@steady_attention()
def _token_logprobs(
    loaded: LoadedModel, samples: Sequence[Sample], wording: Wording
) -> tuple[list[NDArray[np.float64]], list[list[str]]]:
    """Give the log-probability and the text of each token of the reference answers, in order."""
    sequences = render_asked(loaded, samples, wording, with_answers=True)
    rows = step_rows(
        range(len(samples)),
        rendered=sequences.__getitem__,
        image_ids=[sample.image_id for sample in samples],
        row_tokens=max([row_length(loaded), *map(len, sequences)]),
    )
    found: dict[int, tuple[NDArray[np.float64], list[str]]] = {}
    decode = loaded.family.chat.tokenizer.decode
    with torch.no_grad(), loaded.features.expecting(key for row in rows for key in row.pictures):
        for row in rows:
            logprobs_M = row_logprobs(loaded, row).double().cpu().numpy()
            for number, branch in enumerate(row.branches):
                targets = np.flatnonzero(row.branch_M == number)
                targets = targets[np.argsort(row.source_M[targets], kind="stable")]
                texts = [decode([int(token)]) for token in row.target_M[targets]]
                found[branch] = logprobs_M[targets], texts
    return [found[number][0] for number in range(len(samples))], [found[number][1] for number in range(len(samples))]


def _compared(name: str, samples: Sequence[Sample], reference: Said, other: Said) -> dict[str, Any]:
    apart = [np.abs(there - here) for here, there in zip(reference.logprobs, other.logprobs, strict=True)]
    largest = max(range(len(samples)), key=lambda number: apart[number].max(initial=0.0))
    token = int(apart[largest].argmax()) if len(apart[largest]) else 0
    parted = [
        _parting(sample, here, there)
        for sample, here, there in zip(samples, reference.answers, other.answers, strict=True)
        if here != there
    ]
    every = np.concatenate(apart)
    return {
        "form": name,
        "mean_difference": float(every.mean()),
        "largest_difference": float(every.max()),
        "largest_at": {
            "sample": samples[largest].id,
            "token": token,
            "text": reference.tokens[largest][token],
            "here": float(reference.logprobs[largest][token]),
            "there": float(other.logprobs[largest][token]),
        },
        "equal_answers": 1 - len(parted) / len(samples),
        "num_parted": len(parted),
        "parted": parted[:NUM_SHOWN],
    }


def _parting(sample: Sample, here: str, there: str) -> dict[str, Any]:
    """Say where two answers part: what they share, and how each goes on."""
    length = next((n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    return {
        "sample": sample.id,
        "question": sample.question,
        "shared": here[:length],
        "here": here[length:],
        "there": there[length:],
    }


def told_forms(found: Mapping[str, Any]) -> list[str]:
    """Say in lines what `compare_forms` found."""
    lines = [f"{found['num_questions']} questions, {found['num_tokens']} answer tokens; against {found['reference']}:"]
    for form in found["forms"]:
        at = form["largest_at"]
        lines.append(
            f"  {form['form']}: log-probabilities differ by {form['mean_difference']:.2e} nats on average, at most "
            f"{form['largest_difference']:.2e} ({at['sample']}, token {at['token']} {at['text']!r}: {at['here']:.4f} "
            f"and {at['there']:.4f}); {form['equal_answers']:.1%} of the answers are equal"
        )
        for parted in form["parted"]:
            lines.append(
                f"    {parted['sample']} parts after {parted['shared']!r}: {parted['here']!r} and {parted['there']!r}"
            )
        if form["num_parted"] > len(form["parted"]):
            lines.append(f"    and {form['num_parted'] - len(form['parted'])} more")
    return lines + [f"note: {note}" for note in found["notes"]]

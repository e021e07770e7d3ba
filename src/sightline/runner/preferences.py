"""Preference optimisation in a study: its pairs rendered, what the reference thinks of them, what is minimised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.errors import CorruptError
from sightline.generation.answering import row_length
from sightline.models.loading import LoadedModel
from sightline.runner.prepare import render_samples
from sightline.runner.reading import Prepared
from sightline.storage import canonical_json, sha256_of, write_file
from sightline.study import PreferenceTraining, StepRun
from sightline.training.batches import RenderedSet
from sightline.training.objectives import Preference
from sightline.training.reference import answer_logprobs

if TYPE_CHECKING:
    from sightline.runner.make import Shelf


def rendered_pairs(
    prepared: Prepared, loaded: LoadedModel, names: Sequence[str], settings: PreferenceTraining, sha256: str
) -> RenderedSet:
    """Render the pairs of some sets: of each pair its chosen answer, then its rejected one."""
    chosen = render_samples(prepared, loaded.family, names, settings)
    rejected = render_samples(prepared, loaded.family, names, settings, rejected=True)
    samples = prepared.samples(names)
    for sample in samples:
        loaded.features.register(sample.pictures)
    return RenderedSet(
        sequences=[sequence for pair in zip(chosen, rejected, strict=True) for sequence in pair],
        image_ids=[sample.image_id for sample in samples],
        sha256=sha256,
        together=2,
    )


def objective_of(
    run: StepRun,
    shelf: Shelf,
    names: Sequence[str],
    data: RenderedSet,
    made_from: Mapping[str, str],
    *,
    turn: bool = False,
    keep: bool = True,
) -> Preference:
    """Make what a run minimises over some of its pairs, asking the reference about them unless that is done.

    Args:
        run: of method dpo.
        shelf: the models; the run's parent is the reference, and is taken out bare or with its adapter.
        names: of the sets.
        data: their pairs, rendered.
        made_from: what the run is made from.
        turn: reverse the share of the pairs that the study's `flip` says, by seed and id.
        keep: write down what the reference thinks; of several processes only one may.
    """
    settings = run.settings
    assert isinstance(settings, PreferenceTraining)
    depends = {name: value for name, value in made_from.items() if name.startswith("parent/")} | {
        "data": data.sha256,
        "answers": sha256_of(json.dumps([sequence.token_ids_L.tolist() for sequence in data.sequences])),
    }
    file = shelf.out / "reference" / f"{sha256_of(canonical_json(depends))[:16]}.json"
    reference_N = _read(file, depends)
    if reference_N is None:
        loaded = shelf.wear(run.parent)
        reference_N = answer_logprobs(loaded, data, row_tokens=row_length(loaded))
        if keep:
            write_file(file, canonical_json({"made_from": depends, "logprobs": reference_N.tolist()}))
    if turn and settings.flip:
        samples = shelf.prepared.samples(names)
        turned = [_share(run.seed or 0, sample.id) < settings.flip for sample in samples]
        _turn(data, reference_N, turned)
    return Preference(
        reference_N=reference_N,
        beta=settings.beta,
        kind=settings.loss,
        label_smoothing=settings.label_smoothing,
        sft_weight=settings.sft_weight,
    )


def _read(file: Path, depends: Mapping[str, str]) -> NDArray[np.float64] | None:
    if not file.exists():
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["made_from"] != depends:
            raise ValueError("it was made from something else")
        return np.asarray(held["logprobs"], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{file}: {error}; remove it, and it is made again") from error


def _share(seed: int, sample_id: str) -> float:
    """Draw a number in [0, 1) that depends on seed and pair alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()[:8], "big") / 2**64


def _turn(data: RenderedSet, reference_N: NDArray[np.float64], turned: Sequence[bool]) -> None:
    """Exchange the two answers of some pairs, in place."""
    sequences = data.sequences
    assert isinstance(sequences, list)
    for pair, is_turned in enumerate(turned):
        if is_turned:
            first, second = 2 * pair, 2 * pair + 1
            sequences[first], sequences[second] = sequences[second], sequences[first]
            reference_N[[first, second]] = reference_N[[second, first]]

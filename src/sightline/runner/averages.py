"""The step `average`: the mean of several models' weight updates, as a model like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sightline.models.adapter_files import StoredAdapter, read_adapter, refuse_without_effect, write_adapter
from sightline.models.averaging import Averaged, mean_of_updates, shares_of
from sightline.models.family import Family
from sightline.models.loading import outline_model
from sightline.runner.display import Display
from sightline.storage import canonical_json
from sightline.study import Average, StepRun

if TYPE_CHECKING:
    from sightline.runner.make import Shelf

RECORD = "average.json"
"""What was averaged, with which weights, and how far the result is from the exact mean."""


def average_settings(run: StepRun, step: Average) -> dict[str, str]:
    """Write down what an average depends on besides its members: their shares, and the rank."""
    shares = dict(zip(run.parents, shares_of(step.weights, run.parents), strict=True))
    return {"settings/shares": json.dumps(shares, sort_keys=True), "settings/svd_rank": json.dumps(step.svd_rank)}


def average_models(run: StepRun, step: Average, shelf: Shelf, display: Display, made: Path) -> None:
    """Average the members of a step.

    Args:
        run: the step, for one seed.
        step: its keys.
        shelf: the models; all members sit on one base.
        display: where it is said how it went.
        made: the folder to fill.

    Raises:
        DataError: if a member's adapter changes nothing.
        UnsupportedModelError: if the members have no exact mean.
    """
    base = shelf.base_of(run.parents[0])
    folders = {name: shelf.adapter_folder(name) for name in run.parents}
    members = read_members(folders, base, shelf.family(base))
    shares = dict(zip(run.parents, shares_of(step.weights, run.parents), strict=True))
    mean = mean_of_updates(members, list(shares.values()), svd_rank=step.svd_rank)
    write_average(made, mean, shares, base=base)
    display.say(f"{run.name}: {told_average(mean, shares)}")


def read_members(folders: Mapping[str, Path | None], base: str, family: Family) -> dict[str, StoredAdapter | None]:
    """Read adapters to be averaged, in the names that their base has now; no weight of the base is read.

    Args:
        folders: of the adapters, by name; None for the bare base.
        base: on which all of them sit.
        family: of the base.

    Raises:
        DataError: if an adapter changes nothing.
    """
    outline = outline_model(base, family, torch.float32)
    members: dict[str, StoredAdapter | None] = {}
    for name, folder in folders.items():
        members[name] = None
        if folder is not None:
            members[name] = stored = read_adapter(folder, outline, with_values=True)
            refuse_without_effect(folder, stored)
    return members


def write_average(folder: Path, mean: Averaged, shares: Mapping[str, float], *, base: str) -> None:
    """Write an average as an adapter, and beside it what it was made of."""
    write_adapter(folder, mean.adapter.config, mean.adapter.weights, base=base)
    (folder / RECORD).write_text(canonical_json(average_record(mean, shares)), encoding="utf-8")


def average_record(mean: Averaged, shares: Mapping[str, float]) -> dict[str, object]:
    """Say what an average is made of and how far it is from the exact mean, as plain JSON values."""
    models = [{"name": name, "share": share, "scales": list(mean.scales[name])} for name, share in shares.items()]
    return {
        "models": models,
        "kind": mean.kind,
        "rank": mean.adapter.config.r,
        "distance": mean.distance,
        "distances": dict(mean.distances),
    }


def told_average(mean: Averaged, shares: Mapping[str, float]) -> str:
    """Say what an average is made of and how far it is from the exact mean, overall and where it is farthest."""
    parts = " + ".join(f"{share:.3g} x {name}" for name, share in shares.items())
    worst, most = max(mean.distances.items(), key=lambda item: item[1] or 0.0)
    apart = f"{mean.distance:.3%} from the mean of the updates (relative Frobenius norm), {worst} {most or 0:.3%}"
    told = {
        "exact": f"exact; rounding leaves it {mean.distance:.1e} from the mean (relative Frobenius norm)",
        "svd": f"compressed by singular values: {apart}",
        "naive": f"the mean of the factors, which is not the mean: {apart}",
    }
    return f"{parts}; rank {mean.adapter.config.r}, {told[mean.kind]}"

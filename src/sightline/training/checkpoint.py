"""Checkpoints: everything an uninterrupted run would have in memory, in safetensors and JSON, whole or absent."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import StudyError
from sightline.storage import MANIFEST, canonical_json, is_finished, publish_folder, what_differs


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """Where a training stands.

    Args:
        step: optimizer steps done; with data and seed it gives the sampler's position.
        weights: trained tensors by name.
        optimizer: the optimizer's tensors by "name/kind".
        best_weights: the weights of the lowest validation loss so far; empty when none is kept.
        best_loss: that loss, nats per target.
        rows: what `metrics.jsonl` holds so far.
        fingerprint: what the run depends on, by name; a resumed run must agree.
        row_tokens: the longest row, which a resumed run keeps.
        loss_scale: the state of the scale that keeps gradients of half precision from vanishing; empty without.
        random_state: torch's generator, so that a user's own code in the loop draws on unbroken.
    """

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    row_tokens: int = 0
    loss_scale: dict[str, Any] = field(default_factory=dict)
    random_state: Tensor = field(default_factory=torch.get_rng_state)


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int) -> Path:
    """Write a checkpoint and only then delete the oldest ones beyond `keep`."""
    from safetensors.torch import save_file

    final = folder / f"step-{state.step:08d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("weights", "optimizer", "best_weights"):
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in getattr(state, name).items()}
        save_file(tensors, temporary / f"{name}.safetensors")
    plain = {
        "step": state.step,
        "best_loss": state.best_loss,
        "rows": state.rows,
        "fingerprint": dict(state.fingerprint),
        "row_tokens": state.row_tokens,
        "loss_scale": state.loss_scale,
        "random_state": base64.b64encode(state.random_state.numpy().tobytes()).decode(),
    }
    (temporary / "state.json").write_text(canonical_json(plain), encoding="utf-8")
    publish_folder(temporary, final)
    for old in _by_age(folder)[: -max(1, keep)]:
        shutil.rmtree(old)
    return final


def load_checkpoint(folder: Path, *, fingerprint: Mapping[str, str]) -> TrainingState | None:
    """Read the newest checkpoint that is whole; None when there is none.

    Raises:
        StudyError: if it belongs to another data set, base or setting, naming what differs.
    """
    from safetensors.torch import load_file

    for place in reversed(_by_age(folder)):
        if not is_finished(place / MANIFEST):
            continue  # torn by a crash or changed since: the one before it still holds
        plain = json.loads((place / "state.json").read_text(encoding="utf-8"))
        if plain["fingerprint"] != dict(fingerprint):
            raise StudyError(
                f"{place}: the interrupted training was another: {what_differs(plain['fingerprint'], fingerprint)}; "
                "remove the folder to train anew, or give another --out"
            )
        for newer in _by_age(folder):
            if newer.name > place.name:
                shutil.rmtree(newer)  # torn; it must not count among those that are kept
        return TrainingState(
            step=plain["step"],
            weights=load_file(place / "weights.safetensors"),
            optimizer=load_file(place / "optimizer.safetensors"),
            best_weights=load_file(place / "best_weights.safetensors"),
            best_loss=plain["best_loss"],
            rows=plain["rows"],
            fingerprint=plain["fingerprint"],
            row_tokens=plain.get("row_tokens", 0),
            loss_scale=plain.get("loss_scale", {}),
            random_state=torch.frombuffer(bytearray(base64.b64decode(plain["random_state"])), dtype=torch.uint8),
        )
    return None


def newest_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the step records of the newest checkpoint that is whole; none when there is none."""
    for place in reversed(_by_age(folder)):
        if is_finished(place / MANIFEST):
            return json.loads((place / "state.json").read_text(encoding="utf-8"))["rows"]
    return []


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Flatten an optimizer's state into tensors by "name/kind"; whole numbers become int64[].

    Raises:
        TypeError: if it keeps anything else, which a checkpoint would lose.
    """
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for parameter, state in optimizer.state.items():
        for kind, value in state.items():
            if isinstance(value, int):
                value = torch.tensor(value)
            if not isinstance(value, Tensor):
                raise TypeError(f"{type(optimizer).__name__} keeps a {type(value).__name__} as {kind}")
            # Code books are one tensor for all parameters, which a file of tensors cannot express.
            tensors[f"{names[parameter]}/{kind}"] = value.clone() if value.data_ptr() in places else value
            places.add(value.data_ptr())
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Put `optimizer_tensors` back."""
    for key, value in tensors.items():
        name, kind = key.rsplit("/", 1)
        parameter = parameters[name]
        # Step counters stay on the CPU, where PyTorch keeps them as float32[] and bitsandbytes as whole numbers.
        is_count = value.ndim == 0 and value.dtype == torch.int64
        on_host = value.ndim == 0 and not optimizer.defaults.get("fused")
        kept = value if on_host else value.to(parameter.device)
        optimizer.state[parameter][kind] = int(value) if is_count else kept


def _by_age(folder: Path) -> list[Path]:
    return sorted(place for place in folder.glob("step-*") if place.is_dir())

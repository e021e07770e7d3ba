"""The mean of several adapters: of what each adds to the weights, not of its factors.

An adapter adds s B A to the weight of a layer, with a scale s of its own: alpha over rank, or over the root of the rank
with rsLoRA. A weighted mean of such updates is one of their summed rank, exactly, with all factors side by side:

    sum_i w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]

The mean of the factors (of all A, and of all B) is another thing: it multiplies every A with every B.

Shapes: O outputs, D inputs, R rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.errors import StudyError, UnsupportedModelError
from sightline.models.adapter_files import PREFIX, StoredAdapter, module_of

FACTORS = (("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B"))
"""How PEFT names the factors of an update, A first: of a linear or convolutional layer, and of an embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What an adapter adds to the weight of one layer: up_OR @ down_RD, its scale included.

    Args:
        up_OR: float64.
        down_RD: float64.
    """

    up_OR: Tensor
    down_RD: Tensor

    def norm(self) -> float:
        """Give its Frobenius norm, without ever making the O x D matrix."""
        return float(torch.linalg.matrix_norm(_triangle(self.up_OR) @ _triangle(self.down_RD.T).T))


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """A mean of adapters, and how far it is from the exact one.

    Args:
        adapter: with factors of one rank for all layers; zeros fill up where a layer needs less.
        kind: "exact" but for rounding; "svd" where some layer was compressed; "naive" for the mean of the factors.
        distance: from the mean of the full updates, over all layers: Frobenius norm of the difference over that of the
            mean. What rounding leaves for an exact mean.
        distances: the same layer by layer; None where the mean is 0.
        scales: of each adapter, by which its product of factors is multiplied; ascending, several where layers differ.
    """

    adapter: StoredAdapter
    kind: Literal["exact", "svd", "naive"]
    distance: float
    distances: Mapping[str, float | None]
    scales: Mapping[str, tuple[float, ...]]


def shares_of(weights: Sequence[float] | None, names: Sequence[str]) -> list[float]:
    """Turn weights into shares that sum to 1.

    Args:
        weights: one per name; None: equal ones.
        names: of what is averaged.

    Raises:
        StudyError: if there are fewer than two, one comes twice, or the weights are no weights of a mean.
    """
    if len(names) < 2:
        raise StudyError(f"an average needs at least two models and has {', '.join(names) or 'none'}")
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise StudyError(f"{twice[0]} is averaged with itself; name it once, and give it more weight")
    if weights is None:
        return [1 / len(names)] * len(names)
    if len(weights) != len(names):
        raise StudyError(f"{len(weights)} weights for {len(names)} models; give one for each")
    for weight, name in zip(weights, names, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise StudyError(
                f"the weight of {name} is {weight:g}, and those of a mean are positive; leave a model out that is to "
                "have no part. What a negative weight makes is no mean, and nothing says that it is a model of use"
            )
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def mean_of_updates(
    adapters: Mapping[str, StoredAdapter | None], shares: Sequence[float], *, svd_rank: int | None = None
) -> Averaged:
    """Average what adapters add to the weights of one base.

    A layer that only some adapt counts as unchanged in the others. What is trained in full, and biases, are averaged
    as they are, where all adapters have them.

    Args:
        adapters: by name, with values; None for the bare base, whose update is 0.
        shares: as `shares_of` gives them.
        svd_rank: recompress to this rank by the singular values; None keeps the mean exact, of the summed rank.

    Raises:
        UnsupportedModelError: naming what has no exact mean.
    """
    refuse_without_mean({name: stored.config if stored else None for name, stored in adapters.items()})
    layers = {name: updates_of(stored) if stored else {} for name, stored in adapters.items()}
    means: dict[str, Update] = {}
    made: dict[str, Update] = {}
    for layer in sorted({layer for updates in layers.values() for layer in updates}):
        parts = [(w, u[layer]) for w, u in zip(shares, layers.values(), strict=True) if layer in u]
        mean = means[layer] = Update(
            up_OR=torch.cat([share * update.up_OR for share, update in parts], dim=1),
            down_RD=torch.cat([update.down_RD for _, update in parts]),
        )
        made[layer] = mean if svd_rank is None else _compressed(mean, svd_rank)
    present = [stored for stored in adapters.values() if stored]
    rank = max(len(update.down_RD) for update in made.values())
    weights = _written(made, present, rank)
    weights |= _mean_of_the_rest(adapters, shares)
    config = _config_of(present, rank, set(made))
    is_exact = all(made[layer] is means[layer] for layer in means)
    adapter = StoredAdapter(config=config, weights=weights)
    return _with_distances(adapter, "exact" if is_exact else "svd", means, adapters)


def naive_mean(adapters: Mapping[str, StoredAdapter], shares: Sequence[float]) -> Averaged:
    """Average factors instead of updates, under the first adapter's configuration: often done, and not the mean.

    For comparison alone: alphas other than the first's are passed over, and each A is multiplied with every B.

    Args:
        adapters: by name, with values, all of one rank on the same layers.
        shares: as `shares_of` gives them.

    Raises:
        UnsupportedModelError: naming what has no such mean.
    """
    refuse_without_mean({name: stored.config for name, stored in adapters.items()})
    first_name, first = next(iter(adapters.items()))
    shapes = {name: tensor.shape for name, tensor in first.weights.items()}
    for name, stored in adapters.items():
        if {key: tensor.shape for key, tensor in stored.weights.items()} != shapes:
            raise UnsupportedModelError(
                f"{name} has factors of other layers or another rank than {first_name}, so there is no mean of the "
                "factors; the mean of the updates needs neither"
            )
    weights: dict[str, Tensor] = {}
    for key, tensor in first.weights.items():
        parts = [share * s.weights[key].double() for share, s in zip(shares, adapters.values(), strict=True)]
        weights[key] = torch.stack(parts).sum(dim=0).to(tensor.dtype)
    exact = mean_of_updates(adapters, shares)
    naive = StoredAdapter(config=first.config, weights=weights)
    return _with_distances(naive, "naive", updates_of(exact.adapter), adapters)


def updates_of(stored: StoredAdapter) -> dict[str, Update]:
    """Give what an adapter adds to each layer, by the layer's name; kernels of convolutions are flattened."""
    found: dict[str, Update] = {}
    for down_name, up_name in FACTORS:
        for name, down in stored.weights.items():
            if name.endswith(f".{down_name}"):
                layer = module_of(name)
                up = stored.weights[f"{PREFIX}{layer}.{up_name}"]
                scale = scale_of(stored.config, layer)
                found[layer] = Update(up_OR=scale * up.double().flatten(1), down_RD=down.double().flatten(1))
    return found


def scale_of(config: Any, layer: str) -> float:
    """Say by how much an adapter multiplies a layer's product of factors, as PEFT decides it."""
    from peft.utils.other import get_pattern_key

    rank = config.rank_pattern.get(get_pattern_key(list(config.rank_pattern), layer), config.r)
    alpha = config.alpha_pattern.get(get_pattern_key(list(config.alpha_pattern), layer), config.lora_alpha)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def refuse_without_mean(configs: Mapping[str, Any]) -> None:
    """Refuse adapters whose updates have no mean that an adapter could hold.

    Args:
        configs: `peft.LoraConfig` by name; None for the bare base.

    Raises:
        UnsupportedModelError: naming the adapter and what it has.
    """
    if not any(configs.values()):
        raise UnsupportedModelError(f"{', '.join(configs)}: none has an adapter, so there is nothing to average")
    for name, config in configs.items():
        if config is not None and config.use_dora:
            raise UnsupportedModelError(
                f"{name} is a DoRA adapter: its update also scales the base's own weight, so a mean with others is of "
                "full rank and no adapter; train the members without dora"
            )
    _refuse_differing("lora.bias", {name: config.bias if config else "none" for name, config in configs.items()})
    _refuse_differing("lora_bias", {name: config.lora_bias for name, config in configs.items() if config})
    whole = {name: sorted((config and config.modules_to_save) or ()) for name, config in configs.items()}
    _refuse_differing("trained in full", {name: ", ".join(parts) or "nothing" for name, parts in whole.items()})


def _refuse_differing(what: str, values: Mapping[str, object]) -> None:
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise UnsupportedModelError(
                f"{what}: {value} in {first} and {other} in {name}; such weights have a mean only where all have them"
            )


def _triangle(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix, mode="r").R


def _compressed(update: Update, rank: int) -> Update:
    """Keep the greatest singular values: of all updates of that rank, the nearest in Frobenius norm (Eckart-Young)."""
    if len(update.down_RD) <= rank:
        return update
    left, right = torch.linalg.qr(update.up_OR), torch.linalg.qr(update.down_RD.T)
    core = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
    root = core.S[:rank].sqrt()
    return Update(up_OR=left.Q @ core.U[:, :rank] * root, down_RD=(right.Q @ core.Vh[:rank].T * root).T)


def _written(updates: Mapping[str, Update], present: Sequence[StoredAdapter], rank: int) -> dict[str, Tensor]:
    """Name factors as PEFT does, in the shapes of the layers and the adapters' own type, filled up to one rank."""
    weights: dict[str, Tensor] = {}
    for layer, update in updates.items():
        holding = [stored for stored in present if any(module_of(name) == layer for name in stored.weights)]
        like = holding[0].weights
        names = next(n for n in FACTORS if f"{PREFIX}{layer}.{n[0]}" in like)
        for name, values in zip(names, (update.down_RD, update.up_OR.T), strict=True):
            full = f"{PREFIX}{layer}.{name}"
            dtype = torch.float32
            for stored in holding:
                dtype = torch.promote_types(dtype, stored.weights[full].dtype)
            filled = values.new_zeros(rank, values.shape[1])
            filled[: len(values)] = values
            is_down = name == names[0]
            shape = [rank, *like[full].shape[1:]] if is_down else [like[full].shape[0], rank, *like[full].shape[2:]]
            weights[full] = (filled if is_down else filled.T).reshape(shape).to(dtype).contiguous()
    return weights


def _mean_of_the_rest(adapters: Mapping[str, StoredAdapter | None], shares: Sequence[float]) -> dict[str, Tensor]:
    """Average what is no factor: parts trained in full and the base's biases as they are, lora_bias with its scale."""
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    held = {name: {key for key in (s.weights if s else ()) if ".lora_" not in key} for name, s in adapters.items()}
    for name, keys in held.items():
        if lost := sorted(set().union(*held.values()) - keys):
            raise UnsupportedModelError(
                f"{name} has no {lost[0].removeprefix(PREFIX)}, which others bring along; such weights have a mean "
                "only where all have them"
            )
    for share, stored in zip(shares, adapters.values(), strict=True):
        for name, tensor in (stored.weights if stored else {}).items():
            if name.endswith(tuple(f".{factor}" for names in FACTORS for factor in names)):
                continue
            scale = scale_of(stored.config, module_of(name)) if stored and ".lora_" in name else 1
            sums[name] = sums.get(name, 0) + share * scale * tensor.double()
            dtypes[name] = torch.promote_types(dtypes.get(name, torch.float32), tensor.dtype)
    return {name: total.to(dtypes[name]) for name, total in sums.items()}


def _config_of(present: Sequence[StoredAdapter], rank: int, layers: set[str]) -> Any:
    """Configure an adapter of scale 1; what only matters for training on is kept where all agree."""
    first = present[0].config
    targets = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    agreed = all(getattr(stored.config, name) == getattr(first, name) for stored in present for name in targets)
    dropouts = {stored.config.lora_dropout for stored in present}
    return dataclasses.replace(
        first,
        r=rank,
        lora_alpha=rank,
        use_rslora=False,
        rank_pattern={},
        alpha_pattern={},
        lora_dropout=dropouts.pop() if len(dropouts) == 1 else 0.0,
        lora_bias=any(stored.config.lora_bias for stored in present),
        **({} if agreed else {"target_modules": layers} | dict.fromkeys(targets[1:])),
    )


def _with_distances(
    adapter: StoredAdapter,
    kind: Literal["exact", "svd", "naive"],
    means: Mapping[str, Update],
    adapters: Mapping[str, StoredAdapter | None],
) -> Averaged:
    """Measure how far an adapter is from the mean of the updates."""
    made = updates_of(adapter)
    norms: dict[str, tuple[float, float]] = {}
    for layer, mean in means.items():
        difference = Update(
            up_OR=torch.cat([made[layer].up_OR, -mean.up_OR], dim=1),
            down_RD=torch.cat([made[layer].down_RD, mean.down_RD]),
        )
        norms[layer] = difference.norm(), mean.norm()
    whole = math.hypot(*(norm for _, norm in norms.values()))
    apart = math.hypot(*(norm for norm, _ in norms.values()))
    return Averaged(
        adapter=adapter,
        kind=kind,
        distance=apart / whole if whole else math.inf if apart else 0.0,
        distances={layer: apart / norm if norm else None for layer, (apart, norm) in norms.items()},
        scales={
            name: tuple(sorted({scale_of(stored.config, layer) for layer in updates_of(stored)})) if stored else ()
            for name, stored in adapters.items()
        },
    )

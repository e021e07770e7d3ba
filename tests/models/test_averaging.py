"""The mean of adapters is the mean of what they add to the weights: against full matrices, and beside peft's own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.errors import DataError, StudyError, UnsupportedModelError
from sightline.models.adapter_files import ADAPTER_FILES, read_adapter, refuse_without_effect, write_adapter
from sightline.models.adapters import attach_lora, load_adapter, save_adapter
from sightline.models.averaging import Averaged, mean_of_updates, naive_mean, shares_of
from sightline.models.loading import LoadedModel
from tiny_llava import random_llava

FOUR = [{"alpha": 16}, {"alpha": 8}, {"alpha": 3, "rank": 4}, {"alpha": 5, "rslora": True}]
ALL = r".*language_model\..*_proj"
QUERIES = r".*language_model\..*q_proj"


def fresh() -> LoadedModel:
    return random_llava(dtype=torch.float64)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """A function that stores an adapter of random weights, each call another."""
    made: list[Path] = []

    def store(**settings: Any) -> Path:
        loaded = fresh()
        attach_lora(loaded, **{"rank": 2, "alpha": 4, **settings})
        drawn = torch.Generator().manual_seed(len(made))
        for parameter in loaded.module.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3, generator=drawn)
        made.append(tmp_path / f"adapter{len(made)}")
        made[-1].mkdir()
        save_adapter(loaded, made[-1])
        return made[-1]

    return store


def logits(module: nn.Module) -> Tensor:
    ids = torch.tensor([[0, *[3] * 9, 40, 41, 42, 43]])
    pixels = torch.linspace(-1, 1, 3 * 24 * 24).reshape(1, 3, 24, 24).double()
    with torch.no_grad():
        return module(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits


def full_update(folder: Path) -> dict[str, np.ndarray]:
    """What an adapter's files add to each weight, by the definition of LoRA, as full matrices in float64."""
    config = json.loads((folder / ADAPTER_FILES[0]).read_text())
    tensors = {name: tensor.double().numpy() for name, tensor in load_file(folder / ADAPTER_FILES[1]).items()}
    scale = config["lora_alpha"] / (np.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    ends = ".lora_A.weight"
    return {
        name.removeprefix("base_model.model.").removesuffix(ends): scale * tensors[name.replace("_A", "_B")] @ tensor
        for name, tensor in tensors.items()
        if name.endswith(ends)
    }


def mean_update(folders: Sequence[Path], shares: Iterable[float]) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for folder, share in zip(folders, shares, strict=True):
        for layer, update in full_update(folder).items():
            total[layer] = total.get(layer, 0) + share * update
    return total


def with_updates(updates: dict[str, np.ndarray]) -> nn.Module:
    """The bare model with full matrices added to its weights."""
    module = fresh().module
    with torch.no_grad():
        for layer, update in updates.items():
            module.get_submodule(layer).weight.add_(torch.from_numpy(update))  # pyright: ignore
    return module


def averaged(folders: Sequence[Path], weights: Sequence[float] | None = None, **how: Any) -> Averaged:
    names = [folder.name for folder in folders]
    adapters = {folder.name: read_adapter(folder, fresh()) for folder in folders}
    naive = how.pop("naive", False)
    return (naive_mean if naive else mean_of_updates)(adapters, shares_of(weights, names), **how)


def wearing(mean: Averaged, folder: Path) -> LoadedModel:
    """The model with an average on, by way of its files."""
    folder.mkdir()
    write_adapter(folder, mean.adapter.config, mean.adapter.weights, base="random")
    loaded = fresh()
    load_adapter(loaded, folder)
    return loaded


def distance(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    apart = sum(np.linalg.norm(found[layer] - wanted[layer]) ** 2 for layer in wanted)
    return float(np.sqrt(apart / sum(np.linalg.norm(update) ** 2 for update in wanted.values())))


# --- the mean of the updates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [4, 1, 2, 0.5]], ids=["equal", "weighted"])
def test_four_adapters_of_different_alphas(stored, tmp_path: Path, weights: list[float] | None) -> None:
    folders = [stored(**settings) for settings in FOUR]
    shares = [weight / sum(weights) for weight in weights] if weights else [0.25] * 4
    mean = averaged(folders, weights)
    expected = logits(with_updates(mean_update(folders, shares)))
    found = logits(wearing(mean, tmp_path / "mean").module)
    assert (found - expected).abs().max() < 1e-10
    assert (expected - logits(fresh().module)).abs().max() > 0.1
    assert (mean.adapter.config.r, mean.adapter.config.lora_alpha) == (10, 10)
    assert mean.kind == "exact" and mean.distance < 1e-14
    assert mean.scales["adapter3"] == (5 / 2**0.5,) and mean.scales["adapter2"] == (0.75,)


def test_layers_that_only_some_adapt(stored, tmp_path: Path) -> None:
    folders = [stored(targets=ALL), stored(targets=QUERIES, alpha=2, rank=3)]
    mean = averaged(folders, [1, 3])
    expected = logits(with_updates(mean_update(folders, [0.25, 0.75])))
    loaded = wearing(mean, tmp_path / "mean")
    assert (logits(loaded.module) - expected).abs().max() < 1e-10
    config: Any = mean.adapter.config
    assert config.r == 5 and not config.rank_pattern and not config.alpha_pattern  # which vLLM would not read
    assert len(config.target_modules) == 14


def test_alphas_of_single_layers(stored, tmp_path: Path) -> None:
    folders = [stored(), stored()]
    config = json.loads((folders[0] / ADAPTER_FILES[0]).read_text())
    (folders[0] / ADAPTER_FILES[0]).write_text(json.dumps(config | {"alpha_pattern": {"q_proj": 20}}))
    wanted = mean_update(folders, [0.5, 0.5])
    for layer, update in full_update(folders[0]).items():
        wanted[layer] += (20 / 4 - 1) * 0.5 * update if layer.endswith("q_proj") else 0
    mean = averaged(folders)
    assert (logits(wearing(mean, tmp_path / "mean").module) - logits(with_updates(wanted))).abs().max() < 1e-10
    assert mean.scales["adapter0"] == (2.0, 10.0)


def test_against_the_bare_base(stored, tmp_path: Path) -> None:
    folder = stored()
    adapters = {"base": None, "tuned": read_adapter(folder, fresh())}
    found = logits(wearing(mean_of_updates(adapters, shares_of([3, 1], ["base", "tuned"])), tmp_path / "m").module)
    assert (found - logits(with_updates(mean_update([folder], [0.25])))).abs().max() < 1e-10


def test_embeddings_and_convolutions(stored) -> None:
    folders = [stored(targets=r".*(embed_tokens|patch_embedding)", alpha=alpha) for alpha in (3, 8)]
    mean = averaged(folders)
    for module in ("model.language_model.embed_tokens", "model.vision_tower.embeddings.patch_embedding"):
        deltas = []
        for folder in folders:
            loaded = fresh()
            load_adapter(loaded, folder)
            deltas.append(loaded.inner.get_submodule(module).get_delta_weight("default"))  # pyright: ignore
        loaded = fresh()
        out = folders[0].parent / module
        out.mkdir()
        write_adapter(out, mean.adapter.config, mean.adapter.weights, base="random")
        load_adapter(loaded, out)
        found = loaded.inner.get_submodule(module).get_delta_weight("default")  # pyright: ignore
        torch.testing.assert_close(found, (deltas[0] + deltas[1]) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"train": ["projector"]}, {"bias": "all"}], ids=["in full", "biases"])
def test_what_is_trained_in_full_is_averaged_as_it_is(stored, settings: dict) -> None:
    folders = [stored(alpha=alpha, **settings) for alpha in (4, 9)]
    mean = averaged(folders, [1, 3])
    first, second = (load_file(folder / ADAPTER_FILES[1]) for folder in folders)
    whole = [name for name in first if ".lora_" not in name]
    assert whole
    for name in whole:
        torch.testing.assert_close(mean.adapter.weights[name], 0.25 * first[name] + 0.75 * second[name])


def test_half_precision_loses_nothing_when_it_is_put_side_by_side(stored) -> None:
    folders = [stored(alpha=alpha) for alpha in (5, 7)]
    for folder in folders:
        weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / ADAPTER_FILES[1]).items()}
        save_file(weights, folder / ADAPTER_FILES[1])
    mean = averaged(folders)
    assert {tensor.dtype for tensor in mean.adapter.weights.values()} == {torch.float32}
    assert 0 < mean.distance < 1e-7


# --- compressed -----------------------------------------------------------------------------------------------------


def test_compression_is_the_best_there_is_and_says_what_it_loses(stored, tmp_path: Path) -> None:
    folders = [stored(**settings) for settings in FOUR]
    wanted = mean_update(folders, [0.25] * 4)
    mean = averaged(folders, svd_rank=3)
    truncated = {}
    for layer, update in wanted.items():
        left, values, right = np.linalg.svd(update)
        truncated[layer] = left[:, :3] * values[:3] @ right[:3]
    found = logits(wearing(mean, tmp_path / "mean").module)
    assert (found - logits(with_updates(truncated))).abs().max() < 1e-9
    assert mean.kind == "svd" and mean.adapter.config.r == 3
    assert mean.distance == pytest.approx(distance(truncated, wanted), rel=1e-9)
    for layer, update in wanted.items():
        alone = np.linalg.norm(truncated[layer] - update) / np.linalg.norm(update)
        assert mean.distances[layer] == pytest.approx(alone, rel=1e-9)


def test_a_rank_that_holds_everything_compresses_nothing(stored) -> None:
    folders = [stored(**settings) for settings in FOUR]
    mean = averaged(folders, svd_rank=10)
    assert mean.kind == "exact" and mean.adapter.config.r == 10


# --- the mean of the factors ----------------------------------------------------------------------------------------


def test_the_naive_mean_is_another_thing_and_says_how_far_off(stored) -> None:
    folders = [stored(alpha=alpha) for alpha in (16, 8, 16, 8)]
    naive = averaged(folders, naive=True)
    files = [load_file(folder / ADAPTER_FILES[1]) for folder in folders]
    for name, tensor in naive.adapter.weights.items():
        torch.testing.assert_close(tensor, sum(file[name] for file in files) / 4)
    assert naive.adapter.config.lora_alpha == 16  # the first one's, as the published average has it
    products = {}
    for name in (name for name in files[0] if "lora_A" in name):
        down = np.mean([file[name].numpy() for file in files], axis=0)
        up = np.mean([file[name.replace("_A", "_B")].numpy() for file in files], axis=0)
        products[name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")] = 16 / 2 * up @ down
    apart = distance(products, mean_update(folders, [0.25] * 4))
    assert naive.kind == "naive" and naive.distance == pytest.approx(apart, rel=1e-9) and apart > 0.5


def test_factors_of_different_ranks_have_no_naive_mean(stored) -> None:
    with pytest.raises(
        UnsupportedModelError, match="adapter1 has factors of other layers or another rank than adapter0"
    ):
        averaged([stored(), stored(rank=3)], naive=True)


# --- peft's own -----------------------------------------------------------------------------------------------------


def combined_by_peft(folders: Sequence[Path], kind: str, shares: Sequence[float], **how: Any) -> dict[str, np.ndarray]:
    """What `add_weighted_adapter` makes, as full matrices."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = PeftModel.from_pretrained(fresh().module, str(folders[0]), adapter_name="0")  # pyright: ignore
        for number, folder in enumerate(folders[1:], start=1):
            model.load_adapter(str(folder), adapter_name=str(number))
        names = [str(number) for number in range(len(folders))]
        model.base_model.add_weighted_adapter(names, list(shares), "mean", combination_type=kind, **how)
    return {
        name: module.get_delta_weight("mean").detach().numpy()
        for name, module in model.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight")
    }


def test_pefts_cat_and_svd_agree_without_rslora(stored) -> None:
    folders = [stored(alpha=alpha, rank=rank) for alpha, rank in ((16, 2), (8, 2), (3, 4))]
    shares = [0.5, 0.25, 0.25]
    wanted = mean_update(folders, shares)
    assert distance(combined_by_peft(folders, "cat", shares), wanted) < 1e-7  # peft reads adapters as float32
    mean = averaged(folders, shares, svd_rank=3)
    by_peft = combined_by_peft(folders, "svd", shares, svd_rank=3)
    assert distance(by_peft, wanted) == pytest.approx(mean.distance, rel=1e-5)


def test_pefts_cat_is_off_by_the_root_of_the_rank_where_the_first_has_rslora(stored) -> None:
    """It copies the first configuration with alpha = rank, and rsLoRA divides alpha by the root of the rank alone."""
    folders = [stored(alpha=4, rslora=True), stored(alpha=4, rslora=True)]
    wanted = mean_update(folders, [0.5, 0.5])
    assert distance(combined_by_peft(folders, "cat", [0.5, 0.5]), {k: 2 * v for k, v in wanted.items()}) < 1e-6
    assert averaged(folders).distance < 1e-14


def test_pefts_linear_is_no_mean_either(stored) -> None:
    folders = [stored(alpha=16), stored(alpha=8)]
    assert distance(combined_by_peft(folders, "linear", [0.5, 0.5]), mean_update(folders, [0.5, 0.5])) > 0.3


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, -1], "the weight of b is -1, and those of a mean are positive"),
        ([0, 1], "the weight of a is 0, and those of a mean are positive; leave a model out"),
        ([1, float("nan")], "the weight of b is nan"),
        ([1, 2, 3], "3 weights for 2 models"),
    ],
)
def test_weights_that_make_no_mean(weights: list[float], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        shares_of(weights, ["a", "b"])


def test_names_that_make_no_mean() -> None:
    with pytest.raises(StudyError, match="needs at least two models and has a"):
        shares_of(None, ["a"])
    with pytest.raises(StudyError, match="a is averaged with itself"):
        shares_of(None, ["a", "b", "a"])
    assert shares_of([2, 6], ["a", "b"]) == [0.25, 0.75]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dora": True}, "adapter1 is a DoRA adapter: .* train the members without dora"),
        ({"bias": "all"}, r"lora\.bias: none in adapter0 and all in adapter1; such weights have a mean only"),
        ({"train": ["projector"]}, "trained in full: nothing in adapter0 and model.multi_modal_projector in adapter1"),
    ],
)
def test_what_has_no_mean_is_named(stored, settings: dict, said: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        averaged([stored(), stored(**settings)])


def test_biases_that_only_some_bring_along_are_named(stored) -> None:
    folders = [stored(bias="all"), stored(bias="all")]
    weights = load_file(folders[1] / ADAPTER_FILES[1])
    lost = next(name for name in weights if name.endswith("bias"))
    adapters = {folder.name: read_adapter(folder, fresh()) for folder in folders}
    del adapters["adapter1"].weights[lost]  # pyright: ignore
    with pytest.raises(UnsupportedModelError, match=r"adapter1 has no .*bias, which others bring along"):
        mean_of_updates(adapters, [0.5, 0.5])


def test_an_adapter_without_effect_is_refused(stored) -> None:
    folder = stored()
    refuse_without_effect(folder, read_adapter(folder, fresh()))
    weights = load_file(folder / ADAPTER_FILES[1])
    save_file({n: torch.zeros_like(t) if "lora_B" in n else t for n, t in weights.items()}, folder / ADAPTER_FILES[1])
    with pytest.raises(DataError, match=r"adapter0: the adapter changes nothing: .* \(lora_B\) is 0 in all 14 modules"):
        refuse_without_effect(folder, read_adapter(folder, fresh()))

"""Adapters change what they should and nothing else, are the same bytes when they are equal, and are PEFT's own."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.errors import CorruptError, UnsupportedModelError
from sightline.models.adapter_files import ADAPTER_FILES
from sightline.models.adapters import adapter_weights, attach_lora, detach_adapter, load_adapter, save_adapter
from sightline.models.loading import LoadedModel, load_model
from tiny_llava import picture, random_llava

CONFIG, WEIGHTS = ADAPTER_FILES


def fresh() -> LoadedModel:
    return random_llava(dtype=torch.float32)


def trained(*, seed: int = 0, **settings) -> LoadedModel:
    """A model with an adapter that is not at its beginning, where it would change nothing."""
    loaded = fresh()
    attach_lora(loaded, **{"rank": 2, "alpha": 4, "seed": seed, **settings})
    for number, parameter in enumerate(loaded.module.parameters()):
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    return loaded


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    save_adapter(trained(), folder)
    return folder


def logits(module: nn.Module) -> Tensor:
    """What a stock forward says to a picture and some words."""
    ids = torch.tensor([[0, *[3] * 9, 40, 41, 42, 43]])
    pixels = torch.linspace(-1, 1, 3 * 24 * 24).reshape(1, 3, 24, 24)
    with torch.no_grad():
        return module(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits


def changed_modules(loaded: LoadedModel) -> set[str]:
    return {re.sub(r"\.lora_.*", "", name) for name in adapter_weights(loaded.module)}


# --- attaching and detaching ----------------------------------------------------------------------------------------


def test_a_fresh_adapter_changes_nothing_and_is_all_that_is_trained() -> None:
    loaded = fresh()
    before = logits(loaded.module)
    attach_lora(loaded, rank=2, alpha=4)
    assert torch.equal(logits(loaded.module), before)
    learning = [name for name, parameter in loaded.module.named_parameters() if parameter.requires_grad]
    assert learning and all("lora_" in name for name in learning)
    assert loaded.features.module is loaded.inner is not loaded.module and not loaded.module.training


def test_the_vision_side_is_never_a_target_by_default() -> None:
    loaded = trained()
    assert len(changed_modules(loaded)) == 2 * 7
    assert all("language_model" in name for name in changed_modules(loaded))
    # The tower's projections have the same names, so a looser expression would have hit them.
    with pytest.raises(UnsupportedModelError, match=r"fits model\.vision_tower\..*, too, which is not of the language"):
        trained(targets=r".*\.(q_proj|v_proj)")
    everything = trained(targets=r".*(vision_tower|language_model).*\.(q_proj|v_proj)")
    assert any("vision_tower" in name for name in changed_modules(everything))


def test_the_embedded_model_has_the_same_targets() -> None:
    loaded = load_model("builtin:tiny", precision="fp32")
    attach_lora(loaded, rank=2, alpha=4)
    assert len(changed_modules(loaded)) == 4 * 7 and "vision_tower" not in "".join(changed_modules(loaded))


def test_targets_that_hit_nothing_are_named_and_leave_the_model_usable() -> None:
    loaded = fresh()
    with pytest.raises(UnsupportedModelError, match=r"lora\.targets '.*zzz' fits no module of random"):
        attach_lora(loaded, rank=2, alpha=4, targets=".*zzz")
    attach_lora(loaded, rank=2, alpha=4)
    assert len(changed_modules(loaded)) == 2 * 7
    with pytest.raises(UnsupportedModelError, match=r"fits what cannot be adapted: .*LlamaRMSNorm"):
        attach_lora(fresh(), rank=2, alpha=4, targets=r".*input_layernorm")


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = fresh(), fresh(), fresh()
    torch.manual_seed(5)
    attach_lora(first, rank=2, alpha=4, seed=1)
    assert torch.equal(torch.rand(3), expected)  # nobody else's random numbers are drawn
    attach_lora(second, rank=2, alpha=4, seed=1)
    attach_lora(third, rank=2, alpha=4, seed=2)
    a, b, c = (adapter_weights(loaded.module) for loaded in (first, second, third))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_alpha_and_rslora_scale_the_update() -> None:
    plain = trained(rank=4, alpha=4)
    doubled = trained(rank=4, alpha=8)
    with torch.no_grad():
        for name, parameter in plain.module.named_parameters():
            if "lora_B" in name:
                parameter.mul_(2)
    torch.testing.assert_close(logits(doubled.module), logits(plain.module), rtol=0, atol=1e-5)
    by_root = trained(rank=4, alpha=4, rslora=True)  # 4 / sqrt(4) is 8 / 4
    torch.testing.assert_close(logits(by_root.module), logits(doubled.module), rtol=0, atol=1e-5)
    assert not torch.allclose(logits(trained(rank=4, alpha=4).module), logits(doubled.module), atol=1e-2)


def test_double_precision_reaches_the_adapter() -> None:
    loaded = random_llava(dtype=torch.float64)
    attach_lora(loaded, rank=2, alpha=4)
    assert {weight.dtype for weight in adapter_weights(loaded.module).values()} == {torch.float64}


def test_a_base_without_its_adapter_is_as_it_was() -> None:
    loaded, expected = trained(dora=True), logits(fresh().module)
    assert not torch.equal(logits(loaded.module), expected)
    detach_adapter(loaded)
    assert torch.equal(logits(loaded.module), expected)
    assert loaded.inner is loaded.module is loaded.features.module
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    detach_adapter(loaded)  # there is none: nothing happens
    attach_lora(loaded, rank=2, alpha=4)
    assert torch.equal(logits(loaded.module), expected)


def test_a_base_has_its_own_biases_again() -> None:
    loaded, expected = trained(bias="all"), logits(fresh().module)
    detach_adapter(loaded)
    assert torch.equal(logits(loaded.module), expected)


# --- writing --------------------------------------------------------------------------------------------------------


def test_equal_adapters_are_equal_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_adapter(trained(), tmp_path / name)
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == sorted(ADAPTER_FILES)
        contents.append([(tmp_path / name / file).read_bytes() for file in ADAPTER_FILES])
    assert contents[0] == contents[1]


def test_the_configuration_names_the_base_and_no_place_or_time(tmp_path: Path) -> None:
    loaded = load_model("builtin:tiny", precision="fp32")
    attach_lora(loaded, rank=2, alpha=4.5, targets=r".*language_model\..*\.(q_proj|v_proj)")
    save_adapter(loaded, tmp_path)
    text = (tmp_path / CONFIG).read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "builtin:tiny" and config["inference_mode"] is True
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4.5)
    assert list(config) == sorted(config)
    assert not any(isinstance(value, str) and Path(value).is_absolute() for value in config.values())
    assert str(Path.home()) not in text and str(tmp_path) not in text and str(Path.cwd()) not in text


def test_other_values_can_be_written_in_an_adapters_place(tmp_path: Path) -> None:
    loaded = trained()
    best = {name: torch.full_like(weight, 0.5) for name, weight in adapter_weights(loaded.module).items()}
    save_adapter(loaded, tmp_path, best)
    written = load_file(tmp_path / WEIGHTS)
    assert written.keys() == best.keys() and all((weight == 0.5).all() for weight in written.values())


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"rslora": True, "rank": 4}, {"dora": True}, {"bias": "all"}], ids=str)
def test_an_adapter_comes_back_and_peft_reads_it_the_same(tmp_path: Path, settings: dict) -> None:
    from peft import PeftModel

    original = trained(**settings)
    save_adapter(original, tmp_path)
    expected = logits(original.module)
    assert not torch.equal(expected, logits(fresh().module))

    ours = fresh()
    load_adapter(ours, tmp_path)
    assert torch.equal(logits(ours.module), expected)
    assert not any(parameter.requires_grad for parameter in ours.module.parameters())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own use of what transformers renamed
        stock = PeftModel.from_pretrained(fresh().module, str(tmp_path)).eval()  # pyright: ignore
    torch.testing.assert_close(logits(stock), expected, rtol=0, atol=1e-6)

    (tmp_path / "again").mkdir()
    save_adapter(ours, tmp_path / "again")
    assert all((tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes() for name in ADAPTER_FILES)


def test_a_stored_adapter_can_be_trained_on(stored: Path) -> None:
    loaded = fresh()
    load_adapter(loaded, stored, trainable=True)
    learning = {name for name, parameter in loaded.module.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 2 * 7 and all("lora_" in name for name in learning)


def test_adapters_can_take_turns_on_one_base(stored: Path) -> None:
    loaded, base = fresh(), logits(fresh().module)
    seen = []
    for _ in range(2):
        load_adapter(loaded, stored)
        seen.append(logits(loaded.module))
        detach_adapter(loaded)
        assert torch.equal(logits(loaded.module), base)
    assert torch.equal(*seen) and not torch.equal(seen[0], base)


def rename_first(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = min(weights)
    return {name.replace("layers.0", "layers.9") if name == first else name: w for name, w in weights.items()}


def drop_first(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name != min(weights)}


def add_one(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = min(weights)
    return {**weights, first.replace("lora_A", "lora_Z"): weights[first].clone()}


def drop_module(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if "layers.1.mlp.down_proj" not in name}


def widen_first(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = min(weights)
    return {**weights, first: torch.zeros(2, 7)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (rename_first, "1 tensors do not fit random, for example base_model.*layers.9"),
        (add_one, "1 tensors do not fit random, for example base_model.*lora_Z"),
        (drop_first, "1 tensors are missing, for example base_model.*lora_A"),
        (drop_module, "target_modules names model.language_model.layers.1.mlp.down_proj, and there are no tensors"),
        (widen_first, r".*lora_A.weight is \[2, 7\] and on random would be \[2, 64\]"),
    ],
)
def test_an_adapter_whose_tensors_do_not_fit_is_refused(stored: Path, change, named: str) -> None:
    save_file(change(load_file(stored / WEIGHTS)), stored / WEIGHTS)
    with pytest.raises(CorruptError, match=f"stored: {named}"):
        load_adapter(fresh(), stored)


@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_a_missing_file_is_named(stored: Path, name: str) -> None:
    (stored / name).unlink()
    with pytest.raises(CorruptError, match=f"stored: {re.escape(name)} is missing"):
        load_adapter(fresh(), stored)


@pytest.mark.parametrize(
    "change", [{"r": 3}, {"target_modules": ".*zzz"}, {"lora_alpha": "much"}], ids=["rank", "targets", "alpha"]
)
def test_a_configuration_that_does_not_fit_is_refused(stored: Path, change: dict) -> None:
    config = json.loads((stored / CONFIG).read_text())
    (stored / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(CorruptError, match="stored"):
        load_adapter(fresh(), stored)


@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_a_torn_file_is_named(stored: Path, name: str) -> None:
    content = (stored / name).read_bytes()
    (stored / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptError, match="stored"):
        load_adapter(fresh(), stored)


def test_a_refused_adapter_leaves_the_base_as_it_was(stored: Path) -> None:
    good = Path(shutil.copytree(stored, stored.with_name("good")))
    save_file(rename_first(load_file(stored / WEIGHTS)), stored / WEIGHTS)
    loaded, expected = fresh(), logits(fresh().module)
    with pytest.raises(CorruptError):
        load_adapter(loaded, stored)
    assert torch.equal(logits(loaded.module), expected)
    load_adapter(loaded, good)


def test_features_are_made_anew_when_biases_of_the_vision_side_change(tmp_path: Path) -> None:
    save_adapter(trained(bias="all"), tmp_path)
    loaded, shown = fresh(), picture(1)
    loaded.features.register([shown])
    key = loaded.family.picture_key(shown)
    base = loaded.features.of([key])[key].features_ND
    load_adapter(loaded, tmp_path)
    assert not torch.equal(loaded.features.of([key])[key].features_ND, base)
    detach_adapter(loaded)
    assert torch.equal(loaded.features.of([key])[key].features_ND, base)


def test_features_follow_an_adapter_on_the_vision_side() -> None:
    loaded, shown = fresh(), picture(1)
    loaded.features.register([shown])
    key = loaded.family.picture_key(shown)
    base = loaded.features.of([key])[key].features_ND
    attach_lora(loaded, rank=2, alpha=4, targets=r".*vision_tower.*\.q_proj")
    for parameter in loaded.module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    loaded.module.requires_grad_(False)  # as an adapter that only answers
    loaded.features.of([key])
    assert not torch.equal(loaded.features.of([key])[key].features_ND, base)
    detach_adapter(loaded)
    assert torch.equal(loaded.features.of([key])[key].features_ND, base)

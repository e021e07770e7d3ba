"""Models are loaded exact, frozen and with everything said about them; what cannot be loaded is named."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, MistralConfig

from sightline.data.pictures import open_picture
from sightline.errors import MissingDataError, SightlineError, UnsupportedModelError
from sightline.models.forward import row_logprobs
from sightline.models.llava import Llava
from sightline.models.loading import (
    LoadedModel,
    base_identity,
    base_location,
    choose_dtype,
    load_family,
    load_model,
    wrap_model,
)
from sightline.records import Message
from sightline.trees.render import render
from sightline.trees.row import build_tree
from tiny_llava import picture, random_llava

TINY = Path(base_location("builtin:tiny"))


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("builtin:tiny", precision="fp32", device="cpu")


@pytest.fixture
def copy_of_tiny(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def folder_with(folder: Path, config: dict) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


# --- what is loaded -------------------------------------------------------------------------------------------------


def test_the_embedded_model_is_loaded_frozen_in_full_precision(tiny: LoadedModel) -> None:
    assert tiny.dtype == torch.float32 and tiny.device == torch.device("cpu") and tiny.base == "builtin:tiny"
    assert {parameter.dtype for parameter in tiny.module.parameters()} == {torch.float32}
    assert not tiny.module.training and not any(p.requires_grad for p in tiny.module.parameters())
    assert tiny.inner is tiny.module is tiny.features.module
    language_model = tiny.family.language_model(tiny.module)
    assert language_model.config._attn_implementation == "sdpa"  # pyright: ignore
    assert tiny.end_token_ids == (tiny.family.chat.tokenizer.eos_token_id,)


def test_the_embedded_model_is_the_stock_one(tiny: LoadedModel) -> None:
    """Log-probabilities of an answer, by our row and by transformers' own processor and forward."""
    shown = picture(1, size=64)
    tiny.features.register([shown])
    sequence = render(tiny.family, [Message(role="user", content=(0, "how many circles?"))], [shown], "7")
    with torch.no_grad():
        ours = row_logprobs(tiny, build_tree([sequence], [0]))
    stock = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32).eval()
    inputs = AutoProcessor.from_pretrained(TINY)(
        text="USER: <image>\nhow many circles? ASSISTANT: 7</s>", images=open_picture(shown), return_tensors="pt"
    )
    ids = inputs["input_ids"][0]
    assert ids.tolist() == sequence.token_ids_L.tolist()
    with torch.no_grad():
        logprobs = torch.log_softmax(stock(**inputs).logits[0], -1)
    learnt = torch.from_numpy(np.flatnonzero(sequence.weight_L))
    assert len(learnt) >= 2
    torch.testing.assert_close(ours, logprobs[learnt - 1, ids[learnt]], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32), ("fp64", torch.float64)],
)
def test_a_named_precision_is_what_it_says(precision, expected: torch.dtype) -> None:
    for device in ("cpu", "cuda"):
        assert choose_dtype(precision, torch.device(device)) == expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_automatic_precision_follows_the_device(monkeypatch, has_bf16: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert choose_dtype("auto", torch.device("cuda")) == expected
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32


def test_the_asked_precision_reaches_the_weights() -> None:
    loaded = load_model("builtin:tiny", precision="bf16", device="cpu")
    assert loaded.dtype == torch.bfloat16 == next(loaded.module.parameters()).dtype


def test_a_family_once_loaded_is_used_again(tiny: LoadedModel) -> None:
    assert load_model("builtin:tiny", tiny.family).family is tiny.family


def test_ends_of_template_and_generation_configuration_count_once(tiny: LoadedModel) -> None:
    loaded = random_llava()
    [own] = loaded.family.end_token_ids
    for configured, expected in [(None, (own,)), (own, (own,)), ([7, own, 8], (own, 7, 8))]:
        loaded.generation["eos_token_id"] = configured
        assert loaded.end_token_ids == expected


# --- the family -----------------------------------------------------------------------------------------------------


def test_pictures_are_prepared_by_one_backend_everywhere() -> None:
    family = load_family("builtin:tiny")
    assert "Pil" in type(family.image_processor).__name__
    assert family.num_image_tokens(picture(0)) == 64 and family.image_token == "<image>"


def test_a_template_file_replaces_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("own")
    family = load_family("builtin:tiny", template_file=tmp_path / "own.jinja")
    assert family.chat_text([Message(role="user", content=("a",))], generation_prompt=True) == "own"


def test_padding_to_a_square_shows_the_whole_picture_and_is_part_of_its_identity() -> None:
    plain, padded = load_family("builtin:tiny"), load_family("builtin:tiny", pad_square=True)
    assert plain.picture_key(picture(1)) != padded.picture_key(picture(1)) != padded.picture_key(picture(2))
    wide = Image.new("RGB", (64, 32), (255, 255, 255))
    values = padded.picture_inputs(wide)["pixel_values"]
    assert values.shape == (1, 3, 64, 64)
    middle, border = values[0, :, 20:44], torch.cat([values[0, :, :12], values[0, :, -12:]], dim=1)
    assert (middle > 0.99).all() and (border.abs() < 0.01).all()  # the mean colour is 0 once normalised
    square = Image.new("RGB", (40, 40), (9, 99, 199))
    assert torch.equal(*(family.picture_inputs(square)["pixel_values"] for family in (plain, padded)))


def test_a_language_model_that_is_not_plain_causal_attention_is_refused() -> None:
    loaded = random_llava()
    config = loaded.module.config
    config.text_config = MistralConfig()  # pyright: ignore
    with pytest.raises(UnsupportedModelError, match=r"'mistral'.*supported: llama, qwen2"):
        Llava(config, loaded.family.processor, loaded.family.chat)  # pyright: ignore


def test_a_processor_of_another_model_is_found_out() -> None:
    loaded = random_llava()
    config = loaded.module.config
    config.vision_feature_select_strategy = "full"  # pyright: ignore
    family = Llava(config, loaded.family.processor, loaded.family.chat)  # pyright: ignore
    config.vision_feature_select_strategy = "default"  # pyright: ignore
    loaded = wrap_model("random", loaded.module, family, loaded.device)
    loaded.features.register([picture(1)])
    with pytest.raises(UnsupportedModelError, match=r"makes 9 features .* promises 10"):
        loaded.features.of([family.picture_key(picture(1))])


# --- what cannot be loaded ------------------------------------------------------------------------------------------


def test_a_family_we_do_not_know_is_named_with_those_we_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'bert'.*supported: llava"):
        load_family(folder_with(tmp_path / "m", {"model_type": "bert"}))


@pytest.mark.parametrize("config", [{"model_type": "sightless"}, {}], ids=["unknown type", "no type"])
def test_a_family_nobody_knows_is_named(tmp_path: Path, config: dict) -> None:
    with pytest.raises(UnsupportedModelError):
        load_family(folder_with(tmp_path / "m", config))


@pytest.mark.parametrize("base", ["/nowhere/at/all", "a b/c"])
def test_a_base_that_is_nowhere_is_named(base: str) -> None:
    with pytest.raises(MissingDataError, match=f"^base '{base}' is neither a folder"):
        load_family(base)


def test_a_base_that_the_hub_cannot_give_is_named(monkeypatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("looked for the hub"))
    with pytest.raises(MissingDataError, match=r"^base 'no-such/model' is neither"):
        load_family("no-such/model")


@pytest.mark.parametrize("part", ["tokenizer.json", "processor_config.json", "model.safetensors"])
def test_a_base_of_which_a_part_is_missing_is_named(copy_of_tiny: Path, part: str) -> None:
    (copy_of_tiny / part).unlink()
    with pytest.raises(SightlineError, match="tiny"):
        load_model(str(copy_of_tiny))


def test_a_base_with_torn_weights_is_named(copy_of_tiny: Path) -> None:
    weights = copy_of_tiny / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(SightlineError, match="tiny"):
        load_model(str(copy_of_tiny))


def test_a_base_without_a_template_is_refused(copy_of_tiny: Path) -> None:
    (copy_of_tiny / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedModelError, match="no chat template"):
        load_family(str(copy_of_tiny))


def test_code_that_lies_in_a_base_is_not_run(copy_of_tiny: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (copy_of_tiny / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for name, classes in [
        ("config.json", {"AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.Model"}),
        ("processor_config.json", {"AutoProcessor": "own.Processor"}),
    ]:
        file = copy_of_tiny / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": classes}))
    assert load_model(str(copy_of_tiny), precision="fp32").family.num_image_tokens(picture(0)) == 64
    assert not ran.exists()


# --- identity -------------------------------------------------------------------------------------------------------


def test_the_identity_of_a_base_is_its_content(copy_of_tiny: Path, tmp_path: Path) -> None:
    def hash_of(base: str) -> str:
        name, _, content = base_identity(base).rpartition("@")
        assert name == base and len(content) == 16
        return content

    here = str(copy_of_tiny)
    assert hash_of(here) == hash_of("builtin:tiny")
    weights = copy_of_tiny / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = hash_of(here)
    (copy_of_tiny / "generation_config.json").unlink()
    assert len({changed, hash_of(here), hash_of("builtin:tiny")}) == 3


def test_large_files_of_equal_size_are_told_apart(tmp_path: Path) -> None:
    from sightline.models.loading import _content_sha256

    file, size = tmp_path / "weights", 1_000_000
    file.write_bytes(bytes(size))
    zeros = _content_sha256(file, whole_up_to=1000, length=4096)
    file.write_bytes(bytes(size - 100_000) + b"\x01" * 100_000)
    assert _content_sha256(file, whole_up_to=1000, length=4096) != zeros

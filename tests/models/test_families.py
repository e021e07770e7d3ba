"""What each family says of pictures, modules and settings; what cannot be run exactly is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.pictures import name_only, open_picture
from sightline.errors import DataError, MissingDataError, SightlineError, StudyError, UnsupportedModelError
from sightline.models.chat import Chat
from sightline.models.forward import row_logprobs
from sightline.models.loading import FAMILIES, NOT_BUILT, LoadedModel, load_family, load_model
from sightline.models.qwen import Qwen
from sightline.records import Message
from sightline.study import load_study, plan_study, refuse_unbuilt
from sightline.trees.render import render
from sightline.trees.row import build_tree
from tiny_families import NAMES, QWENS, TEMPLATES, noise, qwen_config, qwen_processor, random_model

ASKED = [Message(role="user", content=(0, "how many?"))]


def qwen(name: str = "qwen2_vl", config: Any = None, **settings: Any) -> Qwen:
    processor = qwen_processor(name)
    return Qwen(config or qwen_config(name), processor, Chat(processor), **settings)


def logprobs(loaded: LoadedModel) -> torch.Tensor:
    shown = [noise(1, 40, 24)]
    loaded.features.register(shown)
    with torch.no_grad():
        return row_logprobs(loaded, build_tree([render(loaded.family, ASKED, shown, "7")], [0]))


# --- pictures of any size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [{}, {"min_pixels": 500}, {"max_pixels": 300}, {"min_pixels": 1, "max_pixels": 9}])
def test_the_number_of_image_tokens_is_what_the_processor_makes_of_the_picture(bounds: dict[str, Any]) -> None:
    family = qwen(**bounds)
    rng = np.random.default_rng(0)
    sizes = [(2, 2), (8, 8), (400, 2), (3, 500), *rng.integers(2, 300, size=(30, 2)).tolist()]
    for width, height in sizes:
        inputs = family.picture_inputs(Image.new("RGB", (width, height)))
        [(time, rows, columns)] = inputs["image_grid_thw"].tolist()
        picture = noise(1, width, height)
        assert family.num_image_tokens(picture) == time * rows * columns // 4 == len(inputs["pixel_values"]) // 4


def test_bounds_on_pixels_change_what_a_picture_costs_and_is() -> None:
    picture = noise(1, 100, 60)
    plain, small, large = qwen(), qwen(max_pixels=256), qwen(min_pixels=6400, max_pixels=12800)
    # 8 x 8 pixels a token: the processor's own bounds allow 12; 256 pixels are 4; 60 x 100 is grown to 6400 and more.
    assert [family.num_image_tokens(picture) for family in (plain, small, large)] == [8, 2, 104]
    assert len({family.picture_key(picture) for family in (plain, small, large)}) == 3
    assert len({family.rendering_sha256 for family in (plain, small, large)}) == 3
    assert qwen().picture_key(picture) == plain.picture_key(picture) != plain.picture_key(noise(2, 100, 60))


def test_bounds_are_those_of_one_family_alone() -> None:
    processor = qwen_processor("qwen3_vl")
    bounded = Qwen(qwen_config("qwen3_vl"), processor, Chat(processor), max_pixels=256)
    free = Qwen(qwen_config("qwen3_vl"), processor, Chat(processor))
    assert bounded.num_image_tokens(noise(1, 100, 60)) < free.num_image_tokens(noise(1, 100, 60))


def test_bounds_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(StudyError, match=r"min_pixels \(128\) is above max_pixels \(100\); give both"):
        qwen(max_pixels=100)


def test_pictures_without_a_size_or_of_a_size_the_model_does_not_take_are_named() -> None:
    with pytest.raises(MissingDataError, match=r"scan\.png: only its name is known"):
        qwen().num_image_tokens(name_only("scan.png"))
    with pytest.raises(DataError, match=r"noise-1: 2 x 401 pixels.*at most 200 times"):
        qwen().num_image_tokens(noise(1, 2, 401))


def test_no_token_for_a_video_is_let_through() -> None:
    with pytest.raises(DataError, match="stands for a video; videos are not built"):
        render(qwen(), [Message(role="user", content=("<|video_pad|>?",))], [], "no")


def test_an_answer_ends_with_the_turn() -> None:
    family = qwen()
    assert family.end_tokens == ("<|im_end|>",)
    rendered = render(family, ASKED, [noise(1)], "7")
    assert rendered.token_ids_L[-1] == family.end_token_ids[0] and rendered.weight_L[-2:].tolist() == [1, 1]
    processor = qwen_processor("qwen2_vl")
    processor.tokenizer.eos_token = "<|endoftext|>"  # as in the bases that were not tuned to follow instructions
    base = Qwen(qwen_config("qwen2_vl"), processor, Chat(processor))
    assert base.end_tokens == ("<|im_end|>", "<|endoftext|>")
    assert render(base, ASKED, [noise(1)], "7").token_ids_L.tolist() == rendered.token_ids_L.tolist()


def test_of_several_templates_the_default_one_is_used() -> None:
    processor = qwen_processor("qwen3_vl")
    processor.chat_template = {"tools": "other", "default": TEMPLATES["qwen3_vl"]}
    assert Chat(processor).chat_template == TEMPLATES["qwen3_vl"]


# --- what a picture passes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_vision_tower_and_projector_are_all_that_is_not_language(name: str) -> None:
    loaded = random_model(name)
    parts = loaded.family.vision_modules(loaded.inner)
    assert list(parts) == ["vision", "projector"]
    own = [[id(parameter) for parameter in part.parameters()] for part in parts.values()]
    language = [loaded.family.language_model(loaded.inner), loaded.family.head(loaded.inner)]
    rest = [id(parameter) for part in language for parameter in part.parameters()]
    assert all(own) and not set(own[0]) & set(own[1])
    assert sorted({*own[0], *own[1], *rest}) == sorted(id(parameter) for parameter in loaded.module.parameters())
    num_tensors = {"llava": 4, "qwen2_vl": 6, "qwen2_5_vl": 5, "qwen3_vl": 3 * 6}[
        name
    ]  # two linears, a norm; 3 mergers
    assert len(parts["projector"].state_dict()) == num_tensors


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["vision", "projector"])
def test_what_is_trained_gets_gradients_and_is_not_kept(name: str, part: str) -> None:
    loaded = random_model(name)
    shown = noise(1)
    loaded.features.register([shown])
    key = loaded.family.picture_key(shown)
    [frozen] = loaded.features.of([key]).values()
    assert loaded.features.of([key])[key] is frozen and not frozen.features_ND.requires_grad
    assert len(frozen) == loaded.family.num_image_tokens(shown) and len(frozen.deepstack) == 2 * (name == "qwen3_vl")
    assert frozen.nbytes == (1 + len(frozen.deepstack)) * len(frozen) * 32 * 8
    module = loaded.family.vision_modules(loaded.inner)[part].requires_grad_(True)
    [view] = loaded.features.of([key]).values()
    sum(features.square().sum() for features in (view.features_ND, *view.deepstack)).backward()  # pyright: ignore
    reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]
    assert all(reached) if part == "projector" else any(reached)  # CLIP's last norm is not on the way
    assert loaded.features.of([key])[key] is not view


@pytest.mark.parametrize("name", QWENS)
def test_a_picture_is_seen_alike_whatever_else_is_shown(name: str) -> None:
    loaded = random_model(name, dtype=torch.float32)
    shown = [noise(1, 40, 24), noise(2, 17, 33)]
    loaded.features.register(shown)
    keys = [loaded.family.picture_key(picture) for picture in shown]
    together = loaded.features.of(keys)
    loaded.features.forget()
    alone = loaded.features.of(keys[1:])[keys[1]]
    assert torch.equal(together[keys[1]].features_ND, alone.features_ND)
    assert all(torch.equal(*pair) for pair in zip(together[keys[1]].deepstack, alone.deepstack, strict=True))


# --- folders --------------------------------------------------------------------------------------------------------

FIRST_FILES = {  # as the published folders have them: older ones bound pixels, newer ones "edges"
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": 128,
    "max_pixels": 768,
}
LATER_FILES = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "size": {"shortest_edge": 128, "longest_edge": 768},
}


def write_folder(name: str, folder: Path, loaded: LoadedModel, *, published: bool) -> None:
    loaded.module.save_pretrained(folder)  # pyright: ignore
    processor = loaded.family.processor  # pyright: ignore
    if not published:
        processor.save_pretrained(folder)
        return
    processor.tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATES[name]}))
    pictures = (LATER_FILES if name == "qwen3_vl" else FIRST_FILES) | {
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": type(processor).__mro__[1].__name__,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))


@pytest.mark.parametrize("published", [True, False], ids=["published files", "saved by transformers 5"])
@pytest.mark.parametrize("name", QWENS)
def test_a_folder_gives_the_model_it_was_made_from(name: str, published: bool, tmp_path: Path) -> None:
    made = random_model(name, dtype=torch.float32)
    write_folder(name, tmp_path, made, published=published)
    loaded = load_model(str(tmp_path), precision="fp32", device="cpu")
    assert "Pil" in type(loaded.family.image_processor).__name__
    assert loaded.family.chat.chat_template == TEMPLATES[name]
    assert torch.equal(logprobs(loaded), logprobs(made))
    stock = made.family.processor.image_processor(images=open_picture(noise(1, 40, 24)), return_tensors="pt")  # pyright: ignore
    ours = loaded.family.picture_inputs(open_picture(noise(1, 40, 24)))
    assert torch.equal(ours["pixel_values"], stock["pixel_values"])


def test_settings_of_another_family_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"max_pixels: pictures of 'builtin:tiny' \(llava\) know no .* only pad_square"
    ):
        load_family("builtin:tiny", max_pixels=1000)
    write_folder("qwen3_vl", tmp_path, random_model("qwen3_vl"), published=True)
    with pytest.raises(StudyError, match=r"pad_square: .* \(qwen3_vl\) know no .* only min_pixels, max_pixels"):
        load_family(str(tmp_path), pad_square=True)
    assert load_family(str(tmp_path), min_pixels=640).num_image_tokens(noise(1)) == 16  # 24 x 24 pixels grow to 32 x 32


def test_a_study_bounds_the_pixels_of_its_pictures(tmp_path: Path) -> None:
    from sightline.runner.prepare import study_family

    (tmp_path / "model").mkdir()
    write_folder("qwen2_5_vl", tmp_path / "model", random_model("qwen2_5_vl"), published=True)
    text = "base: ./model\ndata: builtin:phantom\nsteps: {sft: {min_pixels: 64, max_pixels: 256}}\n"
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    refuse_unbuilt(study)
    family = study_family(study, plan_study(study), str(tmp_path / "model"))
    assert family.num_image_tokens(noise(1, 100, 60)) == 2


# --- what is refused ------------------------------------------------------------------------------------------------


def folder_with(folder: Path, **config: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_shared_prefix_cannot_equal_is_refused(name: str) -> None:
    loaded = random_model(name)
    config, processor = loaded.module.config, loaded.family.processor  # pyright: ignore
    text: Any = config.text_config  # pyright: ignore

    def refused(match: str) -> None:
        with pytest.raises(UnsupportedModelError, match=match):
            FAMILIES[name](config, processor, Chat(processor))

    text.layer_types = ["full_attention", "sliding_attention"]
    refused("sliding_attention layers.*only full attention is built")
    text.layer_types = None
    text.attention_dropout = 0.1
    refused(r"attention_dropout is 0\.1 in .*TextConfig|attention_dropout is 0\.1 in LlamaConfig")
    text.attention_dropout = 0.0
    text.rope_parameters = dict(text.rope_parameters) | {"rope_type": "dynamic", "factor": 2.0}
    refused("rope_type 'dynamic' places tokens by the longest sequence")


def test_a_sliding_window_that_is_not_in_use_is_none() -> None:
    config = qwen_config("qwen2_vl", sliding_window=4096, use_sliding_window=False, max_window_layers=2)
    assert qwen(config=config)
    in_use = qwen_config("qwen2_vl", sliding_window=4096, use_sliding_window=True, max_window_layers=1)
    with pytest.raises(UnsupportedModelError, match="window 4096"):
        qwen(config=in_use)


@pytest.mark.parametrize("kind", NOT_BUILT)
def test_families_that_are_not_built_are_named_with_what_is_missing(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=f"'{kind}': .*supported: {', '.join(NAMES)}"):
        load_family(folder_with(tmp_path / "m", model_type=kind))


@pytest.mark.parametrize("kind", ["llava", "llava_llama"])
@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("llava-v1.5-7b", "twin: llava-hf/llava-1.5-7b-hf"),
        ("llava-v1.5-13b", "twin: llava-hf/llava-1.5-13b-hf"),
        ("my-llava", "twin from huggingface.co/llava-hf"),
    ],
)
def test_weights_of_the_original_repository_are_refused_with_their_twin(
    kind: str, name: str, twin: str, tmp_path: Path
) -> None:
    config = {"model_type": kind, "mm_vision_tower": "openai/clip-vit-large-patch14-336"}
    with pytest.raises(SightlineError, match=twin):
        load_family(folder_with(tmp_path / name, **config))

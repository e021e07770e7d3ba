"""On a CUDA device: pictures in batches of a fixed size have the same bits alone, among others and at another place."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sightline.models.chat import Chat
from sightline.models.features import KEPT_SHARE, TOGETHER
from sightline.models.llava import Llava
from sightline.models.loading import LoadedModel, wrap_model
from tiny_llava import CHAT_TEMPLATE, byte_tokenizer, picture

pytestmark = pytest.mark.gpu

# Of CLIP ViT-L/14 at 336 pixels, as LLaVA-1.5 has it, but for the number of layers.
TOWER = CLIPVisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=6,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
    projection_dim=768,
)


def on_gpu(dtype: torch.dtype) -> LoadedModel:
    """A LLaVA with a tower and a projector of real width and a tiny language model before it."""
    tokenizer = byte_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=4096,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=32,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    config = LlavaConfig(text_config=text, vision_config=TOWER, image_token_id=3)  # pyright: ignore
    torch.manual_seed(0)
    module = LlavaForConditionalGeneration(config).to("cuda", dtype).eval().requires_grad_(False)  # pyright: ignore
    images = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    processor = LlavaProcessor(images, tokenizer, patch_size=14, chat_template=CHAT_TEMPLATE)
    return wrap_model("random", module, Llava(config, processor, Chat(processor)), torch.device("cuda"))


def seen(loaded: LoadedModel, numbers: list[int]) -> dict[int, torch.Tensor]:
    loaded.features.forget()
    pictures = [picture(number, 64) for number in numbers]
    loaded.features.register(pictures)
    keys = [loaded.family.picture_key(shown) for shown in pictures]
    with loaded.features.expecting(keys):
        views = loaded.features.of(keys)
    return {number: views[key].features_ND for number, key in zip(numbers, keys, strict=True)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_picture_has_the_same_bits_alone_among_others_and_at_another_place(dtype: torch.dtype) -> None:
    loaded = on_gpu(dtype)
    assert loaded.features.together == TOGETHER
    many = list(range(TOGETHER + 5))
    alone = {number: seen(loaded, [number])[number] for number in many}
    for numbers in (many, many[::-1], many[3:11], many[7:] + many[:7]):
        for number, found in seen(loaded, numbers).items():
            assert torch.equal(found, alone[number])
    assert not torch.equal(alone[0], alone[1])


def test_together_they_are_close_to_one_by_one() -> None:
    loaded = on_gpu(torch.float32)
    # cuDNN convolves float32 in TF32 by default, each shape in its own way.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = seen(loaded, list(range(5)))
        loaded.features.forget()
        loaded.features.together = 1
        for number, exact in seen(loaded, list(range(5))).items():
            torch.testing.assert_close(found[number], exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


def test_what_is_kept_is_a_share_of_the_memory_that_is_free() -> None:
    loaded = on_gpu(torch.bfloat16)
    seen(loaded, [0])
    free = torch.cuda.mem_get_info()[0]
    limit = loaded.features.max_bytes
    assert limit is not None and 0.5 * KEPT_SHARE * free < limit < 1.5 * KEPT_SHARE * free

"""A LLaVA of random weights, small enough for float64, with a byte tokenizer; nothing is read from disk."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sightline.data.pictures import read_picture
from sightline.models.chat import Chat
from sightline.models.llava import Llava
from sightline.models.loading import LoadedModel, wrap_model
from sightline.records import Picture

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'][0]['text'] + ' ' }}"
    "{% elif m['role'] == 'user' %}USER: {% for c in m['content'] %}"
    "{{ '<image>\n' if c['type'] == 'image' else c['text'] }}{% endfor %}{{ ' ' }}"
    "{% else %}ASSISTANT: {{ m['content'][0]['text'] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "</s>", "<pad>", "<image>"]
    vocabulary = {token: number for number, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left"
    )


def random_llava(*, dtype: torch.dtype = torch.float64, seed: int = 0, layers: int = 2) -> LoadedModel:
    """Build the model: 2 layers of width 32, pictures of 24 pixels in 9 patches."""
    tokenizer = byte_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        projection_dim=32,
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_id=3)  # pyright: ignore
    torch.manual_seed(seed)
    module = LlavaForConditionalGeneration(config).to(dtype=dtype).eval().requires_grad_(False)  # pyright: ignore
    for parameter in module.parameters():  # the default initialisation is too flat for mistakes to show
        torch.nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else None
    images = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    loaded = wrap_model("random", module, Llava(config, processor, Chat(processor)), torch.device("cpu"))
    loaded.family.processor = processor  # pyright: ignore  # for tests against the stock path
    return loaded


def picture(number: int, size: int = 24) -> Picture:
    """Make a picture of coloured noise, different for every number."""
    import io

    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    return read_picture(encoded.getvalue(), name=f"noise-{number}")[0]


def digest(*values: object) -> int:
    """Mix values into a seed."""
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:4], "big")

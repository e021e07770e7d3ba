"""A model of random weights for every family, small enough for float64, with a byte tokenizer; no file is read.

The Qwen ones have what makes their families hard: pictures of any size, windows in the tower (2.5), a learnt position
grid that is resampled, deepstack features and interleaved position axes (3).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sightline.data.pictures import read_picture
from sightline.models.chat import Chat
from sightline.models.loading import FAMILIES, LoadedModel, wrap_model
from sightline.records import Picture
from tiny_llava import random_llava

NAMES = tuple(FAMILIES)
QWENS = tuple(name for name in NAMES if name.startswith("qwen"))

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The real templates in small: Qwen2-VL and 2.5 open with a system turn of their own, Qwen3-VL with none.
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if c['type'] == 'image' else c['text'] }}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {"qwen2_vl": DEFAULT_SYSTEM + TURNS, "qwen2_5_vl": DEFAULT_SYSTEM + TURNS, "qwen3_vl": TURNS}

CLASSES: dict[str, tuple[Any, Any, Any]] = {
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor),
}

TOWER: dict[str, Any] = {
    "depth": 2,
    "num_heads": 2,
    "patch_size": 4,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "in_channels": 3,
}
TOWERS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**TOWER, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
    "qwen2_5_vl": {
        **TOWER,
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    },
    "qwen3_vl": {
        **TOWER,
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "num_position_embeddings": 9,
        "deepstack_visual_indexes": [0, 1],
    },
}


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: n for n, t in enumerate([*SPECIALS, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def qwen_config(name: str, **text: Any) -> Any:
    """The configuration, with changes to its text part."""
    ids = {token: number for number, token in enumerate(SPECIALS)}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    return CLASSES[name][0](
        text_config={
            "vocab_size": len(qwen_tokenizer()),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3 if name == "qwen3_vl" else 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "rope_parameters": rope | ({"mrope_interleaved": True} if name == "qwen3_vl" else {}),
            **text,
        },
        vision_config=TOWERS[name],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def qwen_processor(name: str) -> Any:
    """The stock processor without the part for videos, which needs torchvision."""
    stock = CLASSES[name][2]

    class WithoutVideos(stock):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None) -> None:
            # By name: the arguments of this class say what parts a processor has.
            stock.__init__(self, image_processor, tokenizer, None, chat_template=chat_template)

    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 8 * 8 * 2, "longest_edge": 8 * 8 * 12}
    )
    return WithoutVideos(images, qwen_tokenizer(), chat_template=TEMPLATES[name])


def random_model(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> LoadedModel:
    """Build a family's model; `family.processor` is the stock processor."""
    if name == "llava":
        return random_llava(dtype=dtype, seed=seed)
    config, processor = qwen_config(name), qwen_processor(name)
    torch.manual_seed(seed)
    module = CLASSES[name][1](config).to(dtype=dtype).eval().requires_grad_(False)
    for parameter in module.parameters():  # the default initialisation is too flat for mistakes to show
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else None
    family = FAMILIES[name](config, processor, Chat(processor))
    loaded = wrap_model("random", module, family, torch.device("cpu"))
    loaded.family.processor = processor  # pyright: ignore  # for tests against the stock path
    return loaded


def noise(number: int, width: int = 24, height: int = 24) -> Picture:
    """Make a picture of coloured noise, different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    return read_picture(encoded.getvalue(), name=f"noise-{number}")[0]


# --- the same formulas in the tensor's own type; the stock ones compute in float32 ----------------------------------


class OwnTypeRMSNorm(nn.Module):
    """RMSNorm as in Llama and Qwen."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = stock.weight, stock.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


class OwnTypeVisionAttention(nn.Module):
    """Attention of a Qwen tower within each window, with its rotary."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads = stock.qkv, stock.proj, stock.num_heads

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: Any, **_: Any) -> Tensor:
        cos, sin = (part.to(hidden_states.dtype)[:, None] for part in position_embeddings)

        def rotated(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-second, first), dim=-1) * sin

        parts = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).unbind(1)
        query, key, value = rotated(parts[0]), rotated(parts[1]), parts[2]
        windows = zip(*(x.split(cu_seqlens.diff().tolist()) for x in (query, key, value)), strict=True)
        seen = [
            nn.functional.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in window))[0].transpose(0, 1)
            for window in windows
        ]
        return self.proj(torch.cat(seen).flatten(1))


OWN_TYPE: dict[str, type[nn.Module]] = {
    "LlamaRMSNorm": OwnTypeRMSNorm,
    "Qwen2VLRMSNorm": OwnTypeRMSNorm,
    "Qwen2_5_VLRMSNorm": OwnTypeRMSNorm,
    "Qwen3VLTextRMSNorm": OwnTypeRMSNorm,
    "VisionAttention": OwnTypeVisionAttention,
    "Qwen2_5_VLVisionAttention": OwnTypeVisionAttention,
    "Qwen3VLVisionAttention": OwnTypeVisionAttention,
}


def compute_in_own_type(loaded: LoadedModel) -> None:
    """Replace every module of this instance that would round to float32 on its way."""
    for module in list(loaded.module.modules()):
        for name, child in list(module.named_children()):
            if own := OWN_TYPE.get(type(child).__name__):
                setattr(module, name, own(child))

"""Models of real size with random weights, and processors that need no hub: for measuring speed, never quality.

The architecture's numbers are those of the published configurations. The tokenizer is a byte-level BPE trained on the
benchmark's own questions and answers, with as many merges as make a question with its answer as long as under the real
tokenizer; its vocabulary is filled up to the real size with entries that never occur.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NUM_TRAINED_TOKENS = 1000
"""Vocabulary of the trained part: a VQA-RAD question, its answer and the template's words then take about 25 tokens."""

LANGUAGE_LINEARS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Where every arm puts its LoRA adapter."""

_TEXT = "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
_TEXT += "{% if c['type'] == 'image' %}{{ IMAGE }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"

LLAVA_TEMPLATE = (
    "<s>{% for m in messages %}{{ 'ASSISTANT: ' if m['role'] == 'assistant' else 'USER: ' }}"
    + _TEXT.replace("IMAGE", "'<image>\n'")
    + "{{ '</s>' if m['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"
    "{% for m in messages %}{{ '\n<|im_start|>' + m['role'] + '\n' }}"
    + _TEXT.replace("IMAGE", "'<|vision_start|><|image_pad|><|vision_end|>'")
    + "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)
LLAVA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
QWEN_TOKENS = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
QWEN_MARKS = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

VICUNA_7B = dict(
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
)
CLIP_L_336 = dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
    projection_dim=768,
)
QWEN_7B = dict(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    max_position_embeddings=128000,
    rms_norm_eps=1e-6,
    rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1_000_000.0},
    tie_word_embeddings=False,
)
QWEN_VISION = dict(
    depth=32,
    hidden_size=1280,
    intermediate_size=3420,
    num_heads=16,
    patch_size=14,
    spatial_merge_size=2,
    temporal_patch_size=2,
    window_size=112,
    fullatt_block_indexes=[7, 15, 23, 31],
    out_hidden_size=3584,
    tokens_per_second=2,
)
TINY_TEXT = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)
TINY_CLIP = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56)
TINY_QWEN = dict(vocab_size=2048, rope_parameters={**QWEN_7B["rope_parameters"], "mrope_section": [2, 3, 3]})
TINY_VISION = dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=64)

SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llava-7b": ("llava", VICUNA_7B, CLIP_L_336),
    "qwen2.5-vl-7b": ("qwen2_5_vl", QWEN_7B, QWEN_VISION),
    "tiny-llava": ("llava", {**VICUNA_7B, **TINY_TEXT, "vocab_size": 2048}, {**CLIP_L_336, **TINY_CLIP}),
    "tiny-qwen2.5-vl": ("qwen2_5_vl", {**QWEN_7B, **TINY_TEXT, **TINY_QWEN}, {**QWEN_VISION, **TINY_VISION}),
}
"""Model type, language model and vision tower of every shape; the tiny ones are for trying the scripts on a CPU."""


def num_linear_parameters(shape: str) -> int:
    """Count the language model's linear parameters, without embedding and head: the N of 4N operations a token."""
    return sum(layers * n_in * n_out for layers, n_in, n_out in _linears(shape))


def num_lora_parameters(shape: str, rank: int) -> int:
    """Count what a LoRA adapter on all of the language model's linear layers trains."""
    return sum(layers * rank * (n_in + n_out) for layers, n_in, n_out in _linears(shape))


def _linears(shape: str) -> list[tuple[int, int, int]]:
    text = SHAPES[shape][1]
    layers, width, ff = text["num_hidden_layers"], text["hidden_size"], text["intermediate_size"]
    kv = width // text["num_attention_heads"] * text["num_key_value_heads"]
    sizes = [(width, width), (width, kv), (width, kv), (width, width), (width, ff), (width, ff), (ff, width)]
    return [(layers, n_in, n_out) for n_in, n_out in sizes]


def make_folder(shape: str, texts: Sequence[str], folder: Path) -> None:
    """Write configuration, tokenizer and processor of a shape, as `from_pretrained` reads them; no weights.

    Args:
        shape: a key of `SHAPES`.
        texts: what the tokenizer is trained on.
        folder: is made.
    """
    model_type, text, vision = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    llava = model_type == "llava"
    tokenizer = _train_tokenizer(
        texts,
        named=LLAVA_TOKENS if llava else QWEN_TOKENS,
        marks=("<image>",) if llava else QWEN_MARKS,
        size=text["vocab_size"] - 64,
    )
    config = _config(model_type, text, vision, tokenizer)
    config.save_pretrained(folder)
    processor = _llava_processor(tokenizer, vision) if llava else _qwen_processor(tokenizer)
    processor.save_pretrained(folder)


def build_model(folder: Path, *, device: str) -> Any:
    """Make a model with random weights on the device itself, in bfloat16 (float32 on the CPU); seconds, no disk."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(folder), dtype=torch.float32 if device == "cpu" else torch.bfloat16
        )


def add_weights(folder: Path, *, device: str) -> None:
    """Write random weights into a folder that `make_folder` made, for peers that load by path."""
    if not any(folder.glob("*.safetensors")):
        build_model(folder, device=device).save_pretrained(folder)


def _train_tokenizer(texts: Sequence[str], *, named: dict[str, str], marks: Sequence[str], size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TRAINED_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary |= {f"<unused{number}>": number for number in range(len(vocabulary), size)}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([*named.values(), *marks])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **named)


def _config(model_type: str, text: dict[str, Any], vision: dict[str, Any], tokenizer: Any) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, Qwen2_5_VLConfig

    ids = {
        name: tokenizer.convert_tokens_to_ids(getattr(tokenizer, name.replace("_id", "")))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        if getattr(tokenizer, name.replace("_id", ""))
    }
    if model_type == "llava":
        return LlavaConfig(
            text_config=LlamaConfig(**text, **ids),
            vision_config=CLIPVisionConfig(**vision),
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
    marks = ("vision_start", "vision_end", "image_pad", "video_pad")
    start, end, image, video = (tokenizer.convert_tokens_to_ids(f"<|{mark}|>") for mark in marks)
    return Qwen2_5_VLConfig(
        text_config={**text, **ids},
        vision_config=vision,
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
        tie_word_embeddings=False,
    )


def _llava_processor(tokenizer: Any, vision: dict[str, Any]) -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = vision["image_size"]
    return LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer,
        patch_size=vision["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def _qwen_processor(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pixels = {"shortest_edge": 64 * 28 * 28, "longest_edge": 1280 * 28 * 28}  # 64 to 1,280 image tokens
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=pixels), tokenizer, Qwen2VLVideoProcessor(), chat_template=QWEN_TEMPLATE
    )

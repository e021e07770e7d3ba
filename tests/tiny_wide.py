"""A LLaVA of random weights on disk, all its widths multiples of 64, as quantisation needs them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tiny_llava import CHAT_TEMPLATE, byte_tokenizer


def save_wide_llava(folder: Path, *, seed: int = 0) -> Path:
    """Write model and processor: 2 layers of width 64, pictures of 24 pixels in 9 patches."""
    tokenizer = byte_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        projection_dim=64,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_id=3)  # pyright: ignore
    module = LlavaForConditionalGeneration(config)
    for parameter in module.parameters():  # the default initialisation is too flat for mistakes to show
        torch.nn.init.normal_(parameter, std=0.12) if parameter.ndim > 1 else None
    module.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder

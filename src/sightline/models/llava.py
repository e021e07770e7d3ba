"""LLaVA-1.5 and models of its kind: a vision tower, a projector, a Llama-like language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models.chat import Chat
from sightline.models.family import (
    LANGUAGE_LINEARS,
    PictureView,
    picture_settings_sha256,
    refuse_inexact,
    rendering_sha256,
)
from sightline.records import Message, Picture


class Llava:
    """The family `llava`: a fixed number of image tokens per picture, plain positions.

    Args:
        config: the model's configuration.
        processor: its image processor, with the PIL backend.
        chat: its template and tokenizer.
        pad_square: pad pictures to a square with the processor's mean colour first, as the original LLaVA
            repository does, instead of the Hugging Face processor's centre crop.
    """

    picture_settings: tuple[str, ...] = ("pad_square",)
    lora_targets = LANGUAGE_LINEARS
    text_model_types = ("llama", "qwen2")
    """Language models whose layers are plain causal attention, so that a branch sees exactly its own path."""

    def __init__(self, config: Any, processor: Any, chat: Chat, *, pad_square: bool = False) -> None:
        kind = config.text_config.model_type
        if kind not in self.text_model_types:
            raise UnsupportedModelError(
                f"LLaVA with a {kind!r} language model is not supported; supported: {', '.join(self.text_model_types)}"
            )
        refuse_inexact(config)
        self.chat = chat
        self.image_processor = processor.image_processor
        self.pad_square = pad_square
        self.image_token_id = int(config.image_token_id)
        self.image_token = str(chat.tokenizer.convert_ids_to_tokens(self.image_token_id))
        self.end_tokens = (str(chat.tokenizer.eos_token),)
        self.end_token_ids = tuple(chat.tokenizer.convert_tokens_to_ids(list(self.end_tokens)))
        self.context_length = int(config.text_config.max_position_embeddings)
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        has_class_token = vision.model_type == "clip_vision_model"
        self._tokens_per_picture = patches + has_class_token - (config.vision_feature_select_strategy == "default")
        self._settings = picture_settings_sha256(self.image_processor, pad=pad_square)
        self.rendering_sha256 = rendering_sha256(self._settings, chat)

    def chat_text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """See `trees.render.Template`."""
        return self.chat.text(messages, generation_prompt=generation_prompt)

    def tokenize(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `trees.render.Template`."""
        return self.chat.tokenize(text)

    def num_image_tokens(self, picture: Picture) -> int:
        """See `trees.render.Template`; the same for every picture."""
        return self._tokens_per_picture

    def picture_key(self, picture: Picture) -> str:
        """See `trees.render.Template`."""
        return f"{picture.sha256}:{self._settings}"

    def positions(self, token_ids_L: NDArray[np.int64], pictures: Sequence[Picture]) -> NDArray[np.int64]:
        """See `trees.render.Template`; one axis, a token's depth."""
        return np.arange(len(token_ids_L))[None]

    def picture_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """See `Family`: pixel_values float32[1, 3, height, width]."""
        if self.pad_square and image.width != image.height:
            side = max(image.size)
            square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in self.image_processor.image_mean))
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        return {"pixel_values": self.image_processor(images=[image], return_tensors="pt")["pixel_values"]}

    def stock_inputs(self, token_ids_L: Tensor) -> dict[str, Tensor]:
        """See `Family`: nothing."""
        return {}

    def picture_view(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> PictureView:
        """See `Family`."""
        return PictureView(features_ND=module.model.get_image_features(**inputs).pooler_output[0])  # pyright: ignore

    def picture_views(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> list[PictureView]:
        """See `features.OneShape`."""
        seen = module.model.get_image_features(**inputs).pooler_output  # pyright: ignore
        return [PictureView(features_ND=features_ND.clone()) for features_ND in seen]

    def vision_modules(self, module: nn.Module) -> dict[str, nn.Module]:
        """See `Family`."""
        return {"vision": module.model.vision_tower, "projector": module.model.multi_modal_projector}  # pyright: ignore

    def language_model(self, module: nn.Module) -> nn.Module:
        """See `Family`."""
        return module.model.language_model  # pyright: ignore

    def head(self, module: nn.Module) -> nn.Module:
        """See `Family`."""
        return module.lm_head  # pyright: ignore

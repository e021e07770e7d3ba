"""LLaVA-1.5 and models of its kind: a vision tower, a projector, a Llama-like language model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models.chat import Chat
from sightline.records import Message, Picture


class Llava:
    """The family `llava`: a fixed number of image tokens per picture, plain positions.

    Args:
        config: the model's configuration.
        processor: its processor, with the PIL image backend.
        chat: its template and tokenizer.
        pad_square: pad pictures to a square with the processor's mean colour first, as the original LLaVA
            repository does, instead of the Hugging Face processor's centre crop.
    """

    text_model_types = ("llama", "qwen2")
    """Language models whose layers are plain causal attention, so that a branch sees exactly its own path."""

    def __init__(self, config: Any, processor: Any, chat: Chat, *, pad_square: bool = False) -> None:
        kind = config.text_config.model_type
        if kind not in self.text_model_types:
            raise UnsupportedModelError(
                f"LLaVA with a {kind!r} language model is not supported; supported: {', '.join(self.text_model_types)}"
            )
        self.chat = chat
        self.image_processor = processor.image_processor
        self.pad_square = pad_square
        self.image_token_id = int(config.image_token_id)
        self.image_token = str(chat.tokenizer.convert_ids_to_tokens(self.image_token_id))
        self.end_tokens = (str(chat.tokenizer.eos_token),)
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        has_class_token = vision.model_type == "clip_vision_model"
        self.context_length = int(config.text_config.max_position_embeddings)
        self.end_token_ids = tuple(chat.tokenizer.convert_tokens_to_ids(list(self.end_tokens)))
        self._tokens_per_picture = patches + has_class_token - (config.vision_feature_select_strategy == "default")
        settings = f"{type(self.image_processor).__name__} {self.image_processor.to_json_string()} pad={pad_square}"
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self.rendering_sha256 = hashlib.sha256(f"{settings} {chat.chat_template}".encode()).hexdigest()

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

    def pixel_values(self, image: Image.Image) -> Tensor:
        """Prepare one picture: float32[1, 3, height, width]."""
        if self.pad_square and image.width != image.height:
            side = max(image.size)
            square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in self.image_processor.image_mean))
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        return self.image_processor(images=[image], return_tensors="pt")["pixel_values"]

    def picture_features(self, module: nn.Module, pixel_values: Tensor) -> Tensor:
        """Run tower and projector on one picture: [N image tokens, D]."""
        features = module.model.get_image_features(pixel_values=pixel_values).pooler_output[0]  # pyright: ignore
        if len(features) != self._tokens_per_picture:
            raise UnsupportedModelError(
                f"the model makes {len(features)} features of a picture, its configuration promises "
                f"{self._tokens_per_picture}; processor and model do not belong together"
            )
        return features

    def vision_modules(self, module: nn.Module) -> dict[str, nn.Module]:
        """Return what a picture passes before the language model, by the study file's names."""
        return {"vision": module.model.vision_tower, "projector": module.model.multi_modal_projector}  # pyright: ignore

    def language_model(self, module: nn.Module) -> nn.Module:
        """Return the language model without its head."""
        return module.model.language_model  # pyright: ignore

    def head(self, module: nn.Module) -> nn.Module:
        """Return what turns hidden states into logits."""
        return module.lm_head  # pyright: ignore

    lora_targets = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """The language model's linear layers; never the vision tower, whose projections have the same names."""

"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, positions on three axes, deepstack features in the third.

Shapes: N image tokens of a picture, D model width, L tokens of one sequence, A = 3 position axes (time, height, width).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sightline.errors import DataError, MissingDataError, StudyError
from sightline.models.chat import Chat
from sightline.models.family import (
    LANGUAGE_LINEARS,
    PictureView,
    picture_settings_sha256,
    refuse_inexact,
    rendering_sha256,
)
from sightline.models.qwen_tower import windows_at_once
from sightline.records import Message, Picture


class Qwen:
    """The families `qwen2_vl`, `qwen2_5_vl` and `qwen3_vl`, which take and place pictures alike.

    Args:
        config: the model's configuration.
        processor: its image processor, with the PIL backend.
        chat: its template and tokenizer.
        min_pixels: fewest pixels a picture is shown with; the processor's own by default.
        max_pixels: most pixels a picture is shown with; the processor's own by default.
    """

    picture_settings: tuple[str, ...] = ("min_pixels", "max_pixels")
    lora_targets = LANGUAGE_LINEARS

    def __init__(
        self, config: Any, processor: Any, chat: Chat, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> None:
        refuse_inexact(config)
        self.chat = chat
        self.image_processor = copy.copy(processor.image_processor)
        bounds = dict(self.image_processor.size)
        low, high = min_pixels or bounds["shortest_edge"], max_pixels or bounds["longest_edge"]
        if low > high:
            raise StudyError(f"min_pixels ({low}) is above max_pixels ({high}); give both, or bounds that fit together")
        # The processor's names for numbers of pixels, whatever they say of edges.
        self.image_processor.size = {"shortest_edge": low, "longest_edge": high}
        self.image_token_id = int(config.image_token_id)
        self.image_token, self._video_token = chat.tokenizer.convert_ids_to_tokens(
            [self.image_token_id, config.video_token_id]
        )
        turn_end = [token for token in ("<|im_end|>",) if token in chat.tokenizer.get_vocab()]
        self.end_tokens = tuple(dict.fromkeys([*turn_end, str(chat.tokenizer.eos_token)]))
        self.end_token_ids = tuple(chat.tokenizer.convert_tokens_to_ids(list(self.end_tokens)))
        self.context_length = int(config.text_config.max_position_embeddings)
        self._settings = picture_settings_sha256(self.image_processor)
        self.rendering_sha256 = rendering_sha256(self._settings, chat)

    def chat_text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """See `trees.render.Template`.

        Raises:
            DataError: if a text holds the token that stands for a video.
        """
        if any(self._video_token in part for m in messages for part in m.content if isinstance(part, str)):
            raise DataError(f"a text contains {self._video_token!r}, which stands for a video; videos are not built")
        return self.chat.text(messages, generation_prompt=generation_prompt)

    def tokenize(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `trees.render.Template`."""
        return self.chat.tokenize(text)

    def num_image_tokens(self, picture: Picture) -> int:
        """See `trees.render.Template`; known from the picture's size, without opening it."""
        height, width = self._grid(picture)
        return height * width

    def picture_key(self, picture: Picture) -> str:
        """See `trees.render.Template`."""
        return f"{picture.sha256}:{self._settings}"

    def positions(self, token_ids_L: NDArray[np.int64], pictures: Sequence[Picture]) -> NDArray[np.int64]:
        """See `trees.render.Template`; the model's own `get_rope_index`, without a model.

        Text counts on by one on all axes. A picture stands still in time and spreads over height and width; what
        follows it goes on after its longer side.

        Source:
            Wang et al. 2024 (Qwen2-VL), section 2.1, multimodal rotary position embedding.
        """
        image_places = np.flatnonzero(token_ids_L == self.image_token_id)
        pieces: list[NDArray[np.int64]] = []
        token, position, shown = 0, 0, 0  # how far we are in the sequence, on the axes and in the image tokens
        for picture in pictures:
            height, width = self._grid(picture)
            num_text = int(image_places[shown]) - token
            pieces.append(np.tile(position + np.arange(num_text), (3, 1)))
            position += num_text
            pieces.append(position + np.indices((1, height, width)).reshape(3, -1))
            position += max(height, width)
            token += num_text + height * width
            shown += height * width
        pieces.append(np.tile(position + np.arange(len(token_ids_L) - token), (3, 1)))
        return np.concatenate(pieces, axis=1)

    def _grid(self, picture: Picture) -> tuple[int, int]:
        """Give a picture's image tokens as (height, width)."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        short, long = sorted((picture.width, picture.height))
        if not short:
            raise MissingDataError(f"picture {picture.name}: only its name is known; load it with its images folder")
        if long > 200 * short:
            raise DataError(
                f"picture {picture.name}: {picture.width} x {picture.height} pixels; this model takes pictures whose "
                "longer side is at most 200 times the shorter one; crop it or drop the row"
            )
        side = self.image_processor.patch_size * self.image_processor.merge_size
        bounds = self.image_processor.size
        height, width = smart_resize(
            picture.height,
            picture.width,
            factor=side,
            min_pixels=bounds["shortest_edge"],
            max_pixels=bounds["longest_edge"],
        )
        return height // side, width // side

    def picture_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """See `Family`: pixel_values float32[patches, values], image_grid_thw int64[1, 3]."""
        return dict(self.image_processor(images=[image], return_tensors="pt"))

    def stock_inputs(self, token_ids_L: Tensor) -> dict[str, Tensor]:
        """See `Family`: which tokens are image tokens. Without it Qwen2.5-VL takes pictures for text, silently."""
        return {"mm_token_type_ids": (token_ids_L == self.image_token_id).long()[None]}

    def picture_view(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> PictureView:
        """See `Family`."""
        # The tower itself: what wraps it cuts its output by picture, and not in the same way in all versions.
        tower: Any = module.model.visual  # pyright: ignore
        with windows_at_once(tower):
            seen = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], return_dict=True)
        deepstack = getattr(seen, "deepstack_features", None) or ()
        return PictureView(features_ND=seen.pooler_output, deepstack=tuple(deepstack))

    def vision_modules(self, module: nn.Module) -> dict[str, nn.Module]:
        """See `Family`; the projector is what Qwen calls mergers, that of the last layer and the deepstack ones."""
        parts = dict(module.model.visual.named_children())  # pyright: ignore
        mergers = [part for name, part in parts.items() if "merger" in name]
        tower = [part for name, part in parts.items() if "merger" not in name]
        return {"vision": nn.ModuleList(tower), "projector": nn.ModuleList(mergers)}

    def language_model(self, module: nn.Module) -> nn.Module:
        """See `Family`."""
        return module.model.language_model  # pyright: ignore

    def head(self, module: nn.Module) -> nn.Module:
        """See `Family`."""
        return module.lm_head  # pyright: ignore

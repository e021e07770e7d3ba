"""What a family of models gives to the other rooms. Each family is one small file with what really differs.

Shapes: N image tokens of a picture, D model width, L tokens of one sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn

from sightline.errors import UnsupportedModelError
from sightline.models.chat import Chat
from sightline.trees.render import Template

LANGUAGE_LINEARS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers of a Llama-like language model; never a vision tower's, which may have the same names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureView:
    """What the language model sees of one picture.

    Args:
        features_ND: float[N, D], in the places of the image tokens' embeddings.
        deepstack: float[N, D] each, added at the image tokens to what the first, second, ... layer gives on; empty in
            most families.
    """

    features_ND: Tensor
    deepstack: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.features_ND)

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.features_ND.nbytes + sum(features_ND.nbytes for features_ND in self.deepstack)


class Family(Template, Protocol):
    """A template, and how its models take pictures and where their parts are."""

    chat: Chat
    image_processor: Any
    """The processor's part for pictures, with the PIL backend and the study's settings."""
    end_token_ids: tuple[int, ...]
    context_length: int
    """Most tokens of a sequence."""
    rendering_sha256: str
    """Hash of everything that decides how a conversation with pictures becomes tokens and pixels."""
    picture_settings: tuple[str, ...]
    """The study's keys that its pictures know."""
    lora_targets: str
    """Regular expression for the layers that get an adapter by default."""

    def picture_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """Prepare one picture as the stock model takes it; several are concatenated tensor by tensor."""
        ...

    def stock_inputs(self, token_ids_L: Tensor) -> dict[str, Tensor]:
        """Say what the stock model must be told of a sequence besides its ids and pictures: int64[1, L] each."""
        ...

    def picture_view(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> PictureView:
        """Run vision tower and projector on one picture, as `picture_inputs` prepared it."""
        ...

    def vision_modules(self, module: nn.Module) -> dict[str, nn.Module]:
        """Return what a picture passes before the language model, by the study file's names; nothing twice."""
        ...

    def language_model(self, module: nn.Module) -> nn.Module:
        """Return the language model without its head."""
        ...

    def head(self, module: nn.Module) -> nn.Module:
        """Return what turns hidden states into logits."""
        ...


def picture_settings_sha256(image_processor: Any, **others: object) -> str:
    """Hash everything that is done to a picture before the model sees it."""
    more = "".join(f" {name}={value}" for name, value in others.items())
    settings = f"{type(image_processor).__name__} {image_processor.to_json_string()}{more}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def rendering_sha256(picture_settings: str, chat: Chat) -> str:
    """Hash what is done to pictures and to text: settings, template, and the tokenizer with its vocabulary."""
    tokenizer = chat.tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(f"{picture_settings} {chat.chat_template} {tokenizer}".encode()).hexdigest()


def refuse_inexact(config: Any) -> None:
    """Refuse what makes a branch depend on more than its own path, or a shared prefix on how often it is computed.

    Raises:
        UnsupportedModelError: naming the setting.
    """
    text = config.text_config
    if others := sorted(set(getattr(text, "layer_types", None) or ()) - {"full_attention"}):
        raise UnsupportedModelError(
            f"the language model has {', '.join(others)} layers (window {getattr(text, 'sliding_window', None)}), "
            "which count tokens by their place in the row; only full attention is built. Use a base whose "
            "configuration has no sliding window"
        )
    rope_type = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope_type in ("dynamic", "longrope"):
        raise UnsupportedModelError(
            f"rope_type {rope_type!r} places tokens by the longest sequence of the row, so a sample's numbers would "
            "depend on its neighbours; use a base with a fixed rope_type"
        )
    for part in (text, config.vision_config):
        if dropout := getattr(part, "attention_dropout", 0):
            raise UnsupportedModelError(
                f"attention_dropout is {dropout} in {type(part).__name__}: a shared prefix would be drawn once for all "
                "its branches; set it to 0 in the config.json of a copy of the base"
            )

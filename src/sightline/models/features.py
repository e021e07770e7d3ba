"""What the language model sees of a picture, computed once while nothing on the way is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from sightline.data.pictures import open_picture
from sightline.errors import UnsupportedModelError
from sightline.models.family import Family, PictureView
from sightline.records import Picture


class PictureFeatures:
    """Gives what the language model sees of pictures by their key, from memory when it can.

    Pictures pass the vision tower one by one: the same picture then has the same bits whatever else is in its step,
    so a resumed run and a regrouped one agree with the uninterrupted one.

    Args:
        module: the model.
        family: what differs between families.
        device: where the features are wanted.
        max_bytes: most memory the kept features may take.
    """

    def __init__(self, module: nn.Module, family: Family, device: torch.device, max_bytes: int = 2 << 30) -> None:
        self.module = module
        self.family = family
        self.device = device
        self.max_bytes = max_bytes
        self._pictures: dict[str, Picture] = {}
        self._kept: dict[str, PictureView] = {}
        self._bytes = 0

    def register(self, pictures: Sequence[Picture]) -> None:
        """Make pictures known by their keys; they are opened when first needed."""
        for picture in pictures:
            self._pictures[self.family.picture_key(picture)] = picture

    def forget(self) -> None:
        """Drop what is kept; needed when weights that a picture passes have changed."""
        self._kept.clear()
        self._bytes = 0

    @property
    def trained(self) -> bool:
        """Whether anything a picture passes is being trained, so that nothing may be kept."""
        parts = self.family.vision_modules(self.module).values()
        return any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def of(self, keys: Sequence[str]) -> Mapping[str, PictureView]:
        """Return what is seen of each picture; with a graph where vision tower or projector are trained."""
        trained = self.trained
        if trained:
            self.forget()
        found: dict[str, PictureView] = {}
        for key in keys:
            if trained or key not in self._kept:
                with nullcontext() if trained and torch.is_grad_enabled() else torch.no_grad():
                    found[key] = self._compute(key)
                if not trained and self._bytes + found[key].nbytes <= self.max_bytes:
                    self._kept[key] = found[key]
                    self._bytes += found[key].nbytes
            else:
                found[key] = self._kept[key]
        return found

    def stock_inputs(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Prepare pictures for the stock model, in this order; nothing for no pictures."""
        weight = next(self.module.parameters())
        prepared = [self.family.picture_inputs(open_picture(self._pictures[key])) for key in keys]
        joined = {name: torch.cat([inputs[name] for inputs in prepared]) for name in (prepared[0] if prepared else ())}
        return {
            name: tensor.to(self.device, weight.dtype if tensor.is_floating_point() else None)
            for name, tensor in joined.items()
        }

    def _compute(self, key: str) -> PictureView:
        view = self.family.picture_view(self.module, self.stock_inputs([key]))
        if len(view) != (promised := self.family.num_image_tokens(self._pictures[key])):
            raise UnsupportedModelError(
                f"the model makes {len(view)} features of a picture, its configuration promises {promised}; "
                "processor and model do not belong together"
            )
        return view

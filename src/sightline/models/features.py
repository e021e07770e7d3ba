"""What the language model sees of a picture, computed once while nothing on the way is trained."""

from __future__ import annotations

import os
from collections import ChainMap, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sightline.data.pictures import PictureError, open_picture
from sightline.errors import UnsupportedModelError
from sightline.models.family import Family, PictureView
from sightline.models.steady import steady_attention
from sightline.records import Picture

TOGETHER = 8
"""Pictures that pass the vision tower at once on a CUDA device, in families whose pictures all have one shape."""

KEPT_ON_CPU = 2 << 30
"""Bytes of features that are kept in main memory."""

KEPT_SHARE = 1 / 16
"""Share of a CUDA device's memory, as free when the first picture is computed, that kept features may take; less than
what training leaves unplanned when it chooses how long a row may be."""

SOON_SHARE = 1 / 4
"""Share of what kept features may take that may be computed a step ahead of need, on top of it."""

AHEAD = 64
"""Pictures that are opened and prepared before they are needed: some 90 MB at 336 pixels."""

NUM_THREADS = 8
"""Most threads that open and prepare pictures."""


@runtime_checkable
class OneShape(Protocol):
    """A family whose pictures all have one shape, so that several can pass the vision tower at once."""

    def picture_views(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> list[PictureView]:
        """Run vision tower and projector on several pictures; each view has memory of its own."""
        ...


class PictureFeatures:
    """Gives what the language model sees of pictures by their key, from memory when it can.

    The same picture has the same bits whatever else is in its step, so a resumed run and a regrouped one agree with
    the uninterrupted one. Pictures therefore pass the vision tower one by one, or always `together` many: what is
    missing is filled up with pictures of later steps, or with zeros. That a picture's bits then depend neither on its
    neighbours nor on its place among them is an assumption about the device's kernels: that they are chosen by shape,
    and add up every row of a shape in the same order. `tests/test_gpu_features.py` shows it of a device.

    Args:
        module: the model.
        family: what differs between families.
        device: where the features are wanted.
        max_bytes: most memory the kept features may take; `KEPT_ON_CPU` or `KEPT_SHARE` by default.
        together: how many pictures pass the tower at once; by default 1, and `TOGETHER` on a CUDA device where the
            family's pictures have one shape. While a part they pass is trained they pass one by one.
    """

    def __init__(
        self,
        module: nn.Module,
        family: Family,
        device: torch.device,
        max_bytes: int | None = None,
        together: int | None = None,
    ) -> None:
        self.module = module
        self.family = family
        self.device = device
        self.max_bytes = max_bytes
        self.together = together or (TOGETHER if device.type == "cuda" and isinstance(family, OneShape) else 1)
        self._pictures: dict[str, Picture] = {}
        self._kept: dict[str, PictureView] = {}
        self._bytes = 0
        self._pool: ThreadPoolExecutor | None = None
        self._coming: deque[str] = deque()
        self._ahead: dict[str, Future[dict[str, Tensor]]] = {}
        self._soon: dict[str, PictureView] = {}

    def register(self, pictures: Sequence[Picture]) -> None:
        """Make pictures known by their keys; they are opened when first needed."""
        for picture in pictures:
            self._pictures[self.family.picture_key(picture)] = picture

    def forget(self) -> None:
        """Drop what is kept; needed when weights that a picture passes have changed."""
        self._kept.clear()
        self._soon.clear()
        self._bytes = 0

    @contextmanager
    def expecting(self, keys: Iterable[str]) -> Iterator[None]:
        """Open and prepare pictures in other threads while this one computes, a few ahead of need.

        Args:
            keys: what will be asked for inside, in this order. What cannot be opened raises when it is asked for.
        """
        outer = self._pool, self._coming, self._ahead, self._soon  # a loop may be asked something between its own steps
        self._coming, self._ahead, self._soon = deque(), {}, {}
        pool = self._pool = ThreadPoolExecutor(min(NUM_THREADS, os.cpu_count() or 1), "pictures")
        try:
            self.expect(keys)
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._pool, self._coming, self._ahead, self._soon = outer

    def expect(self, keys: Iterable[str]) -> None:
        """Say, inside `expecting`, what else will be asked for, in this order."""
        announced = {*self._kept, *self._ahead, *self._coming}
        self._coming.extend(key for key in dict.fromkeys(keys) if key not in announced)
        self._look_ahead()

    def see(self, keys: Iterable[str]) -> None:
        """Compute now what `of` will be asked for next, so that a device with other work need not wait for this thread.

        Launching a vision tower's many small kernels takes about as long as running them. What does not fit, and what
        cannot be opened, is left to `of`, which says so in the step that needs it.
        """
        self._soon.clear()
        if self.trained:
            return
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        for start in range(0, len(missing), self.together):
            try:
                found = self.of(missing[start : start + self.together])
            except Exception:
                return
            self._soon.update((key, view) for key, view in found.items() if key not in self._kept)
            if sum(view.nbytes for view in self._soon.values()) > self._limit() * SOON_SHARE:
                return

    @property
    def trained(self) -> bool:
        """Whether anything a picture passes is being trained, so that nothing may be kept."""
        parts = self.family.vision_modules(self.module).values()
        return any(parameter.requires_grad for part in parts for parameter in part.parameters())

    @steady_attention()
    def of(self, keys: Sequence[str]) -> Mapping[str, PictureView]:
        """Return what is seen of each picture; with a graph where vision tower or projector are trained."""
        trained = self.trained
        if trained:
            self.forget()
        held = ChainMap(self._kept, self._soon)
        found = {key: held[key] for key in keys if key in held}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        with nullcontext() if trained and torch.is_grad_enabled() else torch.no_grad():
            if trained or self.together == 1:
                made = {key: self._compute(key) for key in missing}
            else:
                made = self._compute_together(missing)
        for key, view in made.items():
            if len(view) != (promised := self.family.num_image_tokens(self._pictures[key])):
                raise UnsupportedModelError(
                    f"the model makes {len(view)} features of a picture, its configuration promises {promised}; "
                    "processor and model do not belong together"
                )
            if not trained and self._bytes + view.nbytes <= self._limit():
                self._kept[key] = view
                self._bytes += view.nbytes
        return found | made

    def stock_inputs(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Prepare pictures for the stock model, in this order; nothing for no pictures."""
        dtype = next(self.module.parameters()).dtype
        prepared = [self._prepared(key) for key in keys]
        joined = {
            name: torch.cat([inputs[name].to(self.device, non_blocking=True) for inputs in prepared])
            for name in (prepared[0] if prepared else ())
        }
        return {name: tensor.to(dtype if tensor.is_floating_point() else None) for name, tensor in joined.items()}

    def _limit(self) -> int:
        if self.max_bytes is None:
            self.max_bytes = KEPT_ON_CPU
            if self.device.type == "cuda":
                reusable = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
                self.max_bytes = int(KEPT_SHARE * (torch.cuda.mem_get_info(self.device)[0] + reusable))
        return self.max_bytes

    def _compute(self, key: str) -> PictureView:
        return self.family.picture_view(self.module, self.stock_inputs([key]))

    def _compute_together(self, keys: Sequence[str]) -> dict[str, PictureView]:
        assert isinstance(self.family, OneShape)
        views: list[PictureView] = []
        keys = [*keys, *self._fillers(keys)]
        for start in range(0, len(keys), self.together):
            inputs = self.stock_inputs(keys[start : start + self.together])
            missing = self.together - len(keys[start : start + self.together])
            if missing:
                filled = {name: tensor.new_zeros(missing, *tensor.shape[1:]) for name, tensor in inputs.items()}
                inputs = {name: torch.cat([tensor, filled[name]]) for name, tensor in inputs.items()}
            views += self.family.picture_views(self.module, inputs)[: self.together - missing]
        return dict(zip(keys, views, strict=True))

    def _fillers(self, keys: Sequence[str]) -> list[str]:
        """Choose pictures to fill the last pass up with: prepared already, and to be kept until they are asked for."""
        wanted = -len(keys) % self.together
        if not wanted or not self._kept:
            return []
        if self._bytes * (1 + (len(keys) + wanted) / len(self._kept)) > self._limit():
            return []
        ready = (key for key, coming in self._ahead.items() if coming.done() and not coming.exception())
        return list(islice((key for key in ready if key not in keys and key not in self._kept), wanted))

    def _prepared(self, key: str) -> dict[str, Tensor]:
        waiting = self._ahead.pop(key, None)
        self._look_ahead()
        return waiting.result() if waiting else self._prepare(self._pictures[key])

    def _look_ahead(self) -> None:
        while self._pool and self._coming and len(self._ahead) < AHEAD:
            key = self._coming.popleft()
            if key in self._kept:
                continue
            self._ahead[key] = self._pool.submit(self._prepare, self._pictures[key])

    def _prepare(self, picture: Picture) -> dict[str, Tensor]:
        try:
            inputs = self.family.picture_inputs(open_picture(picture))
        except PictureError as error:
            raise PictureError(error.kind, f"picture {picture.name}: {error.found}") from error
        except Exception as error:
            error.add_note(f"picture {picture.name}")
            raise
        if self.device.type != "cuda":
            return inputs
        with torch.cuda.device(self.device):  # a new thread would else wake up the first device
            # From pinned memory the copy to the device does not stop the host.
            return {name: tensor.pin_memory() for name, tensor in inputs.items()}

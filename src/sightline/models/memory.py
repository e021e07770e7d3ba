"""What to do where an accelerator's memory is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sightline.errors import SightlineError


@contextmanager
def named_when_full(what: str, remedy: str) -> Iterator[None]:
    """Turn an accelerator's lack of memory into an error of ours.

    Args:
        what: is being computed, with its size, e.g. "a row of 6,144 tokens".
        remedy: what to do, as an imperative.

    Raises:
        SightlineError: memory was not enough.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        told = str(error).partition(". ")[0]
        raise SightlineError(f"{what} does not fit in memory: {told}; {remedy}") from error

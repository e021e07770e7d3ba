"""Where memory is not enough, the error says what did not fit and what to do."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import SightlineError
from sightline.models.memory import named_when_full


def test_what_did_not_fit_is_named_and_other_errors_pass() -> None:
    told = r"^a row of 7 tokens does not fit in memory: CUDA is full; set less$"
    with pytest.raises(SightlineError, match=told), named_when_full("a row of 7 tokens", "set less"):
        raise torch.cuda.OutOfMemoryError("CUDA is full. Tried to allocate 2 GiB. See the documentation.")
    with pytest.raises(ValueError, match="another"), named_when_full("a row", "set less"):
        raise ValueError("another")

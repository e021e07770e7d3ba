"""The cache holds what transformers' own would, whatever it was given room for."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from sightline.models.growing_cache import GrowingCache


@pytest.mark.parametrize("reserved", [0, 3, 100])
def test_it_holds_what_transformers_own_cache_holds(reserved: int) -> None:
    mine, stock = GrowingCache(reserved), DynamicCache()
    generator = torch.Generator().manual_seed(0)
    for num_tokens in (7, 3, 1, 1, 12):
        for layer in (0, 1):
            keys, values = torch.randn(2, 1, 4, num_tokens, 8, generator=generator)
            found, wanted = mine.update(keys, values, layer), stock.update(keys, values, layer)
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert mine.get_seq_length() == stock.get_seq_length()


def test_room_that_was_reserved_is_not_allocated_again() -> None:
    cache = GrowingCache(reserved=2)
    first, _ = cache.update(torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2), 0)
    second, _ = cache.update(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0)
    assert second.data_ptr() == first.data_ptr()
    third, _ = cache.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2), 0)
    assert third.data_ptr() != first.data_ptr()
    assert third[0, 0, :, 0].tolist() == [0] * 5 + [1] * 3

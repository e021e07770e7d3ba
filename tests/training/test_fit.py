"""How long a row may be, on a card that is pretended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sightline.errors import SightlineError
from sightline.models.adapters import attach_lora
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.training import fit
from sightline.training.batches import RenderedSet
from sightline.training.objectives import Likelihood
from sightline.trees.render import render
from tiny_llava import picture, random_llava

GIB = 1 << 30
PER_TOKEN = 50 << 20


class Card:
    """A card of 80 GiB on which a model takes 10, and a token of a row 50 MiB."""

    def __init__(self) -> None:
        self.free = 70 * GIB
        self.fractions: list[float] = []
        self.peak = 0


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    made = Card()

    def peak(loaded: Any, data: RenderedSet, samples: Any, row_tokens: int, layout: Any, loss: Any) -> tuple[int, int]:
        longest = max(len(row) for row in data.rows(samples, row_tokens=row_tokens, layout=layout))
        return longest, 10 * GIB + PER_TOKEN * longest

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (made.free, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 10 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: 10 * GIB)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, index: made.fractions.append(share)
    )
    monkeypatch.setattr(fit, "fused_decoder", lambda loaded: None)
    monkeypatch.setattr(fit, "_peak", peak)
    yield made


def model_and_data(num_pictures: int) -> tuple[LoadedModel, RenderedSet]:
    loaded = random_llava()
    attach_lora(loaded, rank=4, alpha=8)
    shown = [picture(number) for number in range(num_pictures)]
    loaded.features.register(shown)
    sequences = [
        render(loaded.family, [Message(role="user", content=(0, question))], [each], "no")
        for each in shown
        for question in ("left?", "how many")
    ]
    return loaded, RenderedSet(sequences=sequences, image_ids=[each.sha256 for each in shown for _ in range(2)])


def on_card() -> tuple[LoadedModel, RenderedSet]:
    loaded, data = model_and_data(40)
    return dataclasses.replace(loaded, device=torch.device("cuda:0")), data


def chosen(loaded: LoadedModel, data: RenderedSet, limit: int, *, num_ranks: int = 1, asked: Any = "auto") -> int:
    return fit.choose_row_tokens(
        asked,
        loaded,
        data,
        batch_size=64,
        branch_cap=12,
        layout="tree",
        seed=0,
        limit=limit,
        num_ranks=num_ranks,
        objective=Likelihood(),
        longest=max(map(len, data.sequences)),
    )


def test_as_many_tokens_as_the_memory_holds(card: Card) -> None:
    loaded, data = on_card()
    limit = fit.limit_memory(loaded, None)
    assert limit == 80 * GIB
    tokens = chosen(loaded, data, limit)
    assert tokens % fit.GRID == 0
    used = 10 * GIB + PER_TOKEN * tokens
    assert 0.7 * limit < used + loaded.features.max_bytes <= fit.MARGIN * limit  # pyright: ignore


def test_a_little_more_or_less_free_memory_changes_nothing(card: Card) -> None:
    loaded, data = on_card()
    found = set()
    for less in (0, 100 << 20, 400 << 20):
        card.free = 70 * GIB - less
        found.add(chosen(loaded, data, fit.limit_memory(loaded, None)))
    assert len(found) == 1


def test_several_ranks_have_a_row_each(card: Card) -> None:
    loaded, data = on_card()
    tokens = chosen(loaded, data, fit.limit_memory(loaded, None), num_ranks=2)
    assert len(data.rows(range(64), row_tokens=tokens, layout="tree")) >= 2
    assert tokens >= max(map(len, data.sequences))


def test_the_studys_own_word_holds(card: Card) -> None:
    loaded, data = on_card()
    assert chosen(loaded, data, 80 * GIB, asked=300) == 300


def test_what_does_not_fit_is_said_with_what_to_do(card: Card) -> None:
    loaded, data = on_card()
    with pytest.raises(SightlineError, match=r"12\.0 GiB are to be used; set gradient_checkpointing"):
        chosen(loaded, data, fit.limit_memory(loaded, 12))


def test_a_limit_is_given_back(card: Card) -> None:
    loaded, _ = on_card()
    assert fit.limit_memory(loaded, 20) == 20 * GIB
    fit.limit_memory(loaded, None)
    assert card.fractions == [0.25, 1.0]


def test_a_cpu_is_not_limited() -> None:
    loaded, data = model_and_data(3)
    assert fit.limit_memory(loaded, 1) == 0
    assert chosen(loaded, data, 0) == fit.CPU_ROW

"""tree == flat: the same samples give the same log-probabilities, loss, gradients and answers, shared or not.

Random trees of depth up to 4 on a model of random weights of every family, in float64. The last tests break the mask,
the positions, the picture identity and the targets on purpose and see the comparison fail.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.models.adapters import attach_lora
from sightline.models.forward import branch_sums, row_logprobs
from sightline.models.loading import LoadedModel
from sightline.records import Message, Picture
from sightline.training.losses import sft_loss
from sightline.trees.render import Rendered, render
from sightline.trees.row import Row, build_tree, pad_row, visible
from sightline.trees.sampler import step_rows
from tiny_families import NAMES, compute_in_own_type, noise, random_model
from tiny_llava import digest

WORDS = ("a", "an", "opacity", "left", "right", "no", "lung", "is there", "how many", "7")


def random_conversations(rng: np.random.Generator, num_branches: int) -> list[tuple[list[Message], list[Picture], str]]:
    """Conversations of one image set that part at random places: images, system turn, history, question, answer.

    Pictures of several sizes stand before the text or within it; some branches show fewer of them, or none.
    """

    def words(most: int) -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(1, most + 1)))

    sizes = [(24, 24), (16, 40), (33, 17)]
    numbers = rng.integers(0, 3, size=rng.integers(1, 3))
    pictures = [noise(int(number), *sizes[number]) for number in numbers]
    text_first = rng.random() < 0.25
    caption = words(2)
    system = [Message(role="system", content=(words(3),))] if rng.random() < 0.3 else []
    histories = [(words(2), words(2)) for _ in range(2)]
    conversations = []
    for _ in range(num_branches):
        used = pictures[: rng.choice([len(pictures), 1, 0], p=[0.75, 0.15, 0.1])]
        shown = [part for number in range(len(used)) for part in ((caption, number) if text_first else (number,))]
        opening: tuple[str | int, ...] = (*shown, words(2))
        turns = [Message(role="user", content=opening)]
        for question, answer in histories[: int(rng.integers(0, 3))]:
            turns += [Message(role="assistant", content=(answer,)), Message(role="user", content=(question,))]
        conversations.append(([*system, *turns], used, words(3)))
    return conversations


def random_sequences(loaded: LoadedModel, seed: int, num_branches: int = 6) -> list[Rendered]:
    sequences = []
    for messages, pictures, answer in random_conversations(np.random.default_rng(seed), num_branches):
        loaded.features.register(pictures)
        sequences.append(render(loaded.family, messages, pictures, answer))
    return sequences


def depth_of(row: Row) -> int:
    """Most nodes on a path; a node is a stretch of tokens that the same branches share."""
    num_branches = np.bincount(np.concatenate(row.paths))
    return max(len(np.unique(num_branches[path])) for path in row.paths)


def logprobs_of(loaded: LoadedModel, rows: list[Row]) -> dict[int, Tensor]:
    """Each branch's target log-probabilities, first to last."""
    found = {}
    for row in rows:
        logprob_M = row_logprobs(loaded, row)
        for number, branch in enumerate(row.branches):
            found[branch] = logprob_M[torch.from_numpy(row.branch_M == number)]
    return found


def rows_of(sequences: list[Rendered], layout: str, row_tokens: int = 4096) -> list[Row]:
    return step_rows(
        range(len(sequences)),
        rendered=sequences.__getitem__,
        image_ids=["one"] * len(sequences),
        row_tokens=row_tokens,
        layout=layout,  # pyright: ignore
    )


def gradients(loaded: LoadedModel, rows: list[Row]) -> tuple[float, dict[str, Tensor]]:
    loaded.module.zero_grad()
    total_weight = sum(row.weight_M.sum() for row in rows)
    value = 0.0
    for row in rows:
        loss = sft_loss(row_logprobs(loaded, row), torch.from_numpy(row.weight_M)) / total_weight
        loss.backward()
        value += float(loss.detach())
    return value, {n: p.grad.clone() for n, p in loaded.module.named_parameters() if p.grad is not None}


def relative_error(a: Tensor, b: Tensor) -> float:
    scale = float(b.norm())
    return float((a - b).norm()) / (scale if scale >= 1e-8 else 1.0)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return random_model(request.param)


@pytest.mark.parametrize("seed", range(12))
def test_logprobs_equal(model: LoadedModel, seed: int) -> None:
    sequences = random_sequences(model, seed)
    tree, flat = rows_of(sequences, "tree"), rows_of(sequences, "flat")
    assert sum(map(len, tree)) < sum(map(len, flat))
    with torch.no_grad():
        ours, reference = logprobs_of(model, tree), logprobs_of(model, flat)
    for branch in reference:
        torch.testing.assert_close(ours[branch], reference[branch], rtol=0, atol=1e-9)


def test_random_trees_reach_depth_four(model: LoadedModel) -> None:
    depths = [depth_of(rows_of(random_sequences(model, seed), "tree")[0]) for seed in range(12)]
    assert max(depths) >= 4 and min(depths) >= 2


@pytest.mark.parametrize(("own_type", "tolerance"), [(False, 1e-6), (True, 1e-9)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal(name: str, own_type: bool, tolerance: float, seed: int) -> None:
    loaded = random_model(name, seed=seed)
    if own_type:
        compute_in_own_type(loaded)
    loaded.module.requires_grad_(True)  # every tensor: language model, projector and vision tower
    sequences = random_sequences(loaded, seed + 100)
    loss_tree, tree = gradients(loaded, rows_of(sequences, "tree"))
    loss_flat, flat = gradients(loaded, rows_of(sequences, "flat"))
    assert loss_tree == pytest.approx(loss_flat, abs=1e-9)
    assert tree.keys() == flat.keys() and len(flat) > 40
    errors = {name: relative_error(tree[name], flat[name]) for name in flat}
    assert max(errors.values()) <= tolerance, max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize("name", NAMES)
def test_lora_gradients_equal(name: str) -> None:
    loaded = random_model(name)
    compute_in_own_type(loaded)
    attach_lora(loaded, rank=4, alpha=8)
    for name, parameter in loaded.module.named_parameters():
        if "lora_B" in name:  # B starts at 0, which would hide A's gradient
            nn.init.normal_(parameter, std=0.05)
    sequences = random_sequences(loaded, 7)
    _, tree = gradients(loaded, rows_of(sequences, "tree"))
    _, flat = gradients(loaded, rows_of(sequences, "flat"))
    assert len(flat) == 2 * 7 * len(loaded.family.language_model(loaded.inner).layers)  # pyright: ignore
    assert max(relative_error(tree[name], flat[name]) for name in flat) <= 1e-9


def test_padding_and_neighbours_change_nothing(model: LoadedModel) -> None:
    sequences = random_sequences(model, 3) + random_sequences(model, 4)
    groups = [list(range(6)), list(range(6, 12))]
    alone = [build_tree([sequences[i] for i in group], group) for group in groups]
    together = step_rows(
        range(12),
        rendered=sequences.__getitem__,
        image_ids=["a"] * 6 + ["b"] * 6,
        row_tokens=sum(map(len, alone)),
    )
    assert len(together) == 1
    padded = pad_row(together[0], len(together[0]) + 13, pad_token_id=2)
    with torch.no_grad():
        ours, reference = logprobs_of(model, [padded]), logprobs_of(model, alone)
    for branch in reference:
        torch.testing.assert_close(ours[branch], reference[branch], rtol=0, atol=1e-9)


def test_overflowing_tree_repeats_the_prefix(model: LoadedModel) -> None:
    sequences = random_sequences(model, 5, num_branches=8)
    longest = max(map(len, sequences))
    tree, flat = rows_of(sequences, "tree", row_tokens=longest + 10), rows_of(sequences, "flat")
    assert len(tree) > 1 and all(len(row) <= longest + 10 for row in tree)
    with torch.no_grad():
        ours, reference = logprobs_of(model, tree), logprobs_of(model, flat)
    assert ours.keys() == reference.keys()
    for branch in reference:
        torch.testing.assert_close(ours[branch], reference[branch], rtol=0, atol=1e-9)


def test_branch_sums_are_sequence_logprobs(model: LoadedModel) -> None:
    sequences = random_sequences(model, 9)
    row = rows_of(sequences, "tree")[0]
    with torch.no_grad():
        sums = branch_sums(row, row_logprobs(model, row))
        flat = logprobs_of(model, rows_of(sequences, "flat"))
    for number, branch in enumerate(row.branches):
        assert float(sums[number]) == pytest.approx(float(flat[branch].sum()), abs=1e-9)


# --- each of the four foundations broken on purpose ---------------------------------------------------------------


def broken_mask(row: Row) -> Row:
    """Let every branch see all that stands before it in the row."""
    return dataclasses.replace(row, subtree_end_T=np.full(len(row), len(row)))


def broken_positions(row: Row) -> Row:
    """Number tokens by their place in the row."""
    return dataclasses.replace(row, positions_AT=np.broadcast_to(np.arange(len(row)), row.positions_AT.shape).copy())


def broken_pictures(row: Row) -> Row:
    """Show the first picture everywhere, as a tree merged by placeholder ids alone would."""
    return dataclasses.replace(row, picture_T=np.minimum(row.picture_T, 0))


def broken_targets(row: Row) -> Row:
    """Predict each target from the token that stands before it in the row, as shifted labels would."""
    target_places = np.concatenate([path[-np.sum(row.branch_M == b) :] for b, path in enumerate(row.paths)])
    return dataclasses.replace(row, source_M=np.maximum(target_places - 1, 0))


@pytest.mark.parametrize("breaking", [broken_mask, broken_positions, broken_pictures, broken_targets])
def test_breaking_a_foundation_is_seen(model: LoadedModel, breaking) -> None:
    sequences = []
    for number, (question, answer) in enumerate([("a b", "no"), ("a b", "yes 7"), ("how many", "7")]):
        shown = [noise(1), noise(2)]
        model.features.register(shown)
        messages = [Message(role="user", content=(0, 1, question))]
        sequences.append(render(model.family, messages, shown, answer, name=str(number)))
    intact, flat = rows_of(sequences, "tree")[0], rows_of(sequences, "flat")
    with torch.no_grad():
        reference = torch.cat([value for _, value in sorted(logprobs_of(model, flat).items())])
        ours = torch.cat([value for _, value in sorted(logprobs_of(model, [intact]).items())])
        broken = torch.cat([value for _, value in sorted(logprobs_of(model, [breaking(intact)]).items())])
    assert float((ours - reference).abs().max()) <= 1e-9
    assert float((broken - reference).abs().max()) > 1e-3


def test_merging_by_ids_alone_is_refused(model: LoadedModel) -> None:
    """Equal placeholder ids of different pictures stay apart; equal pictures merge."""

    def sequence(number: int) -> Rendered:
        shown = [noise(number)]
        return render(model.family, [Message(role="user", content=(0, "a"))], shown, "no")

    different = build_tree([sequence(1), sequence(2)], [0, 1])
    same = build_tree([sequence(1), sequence(1)], [0, 1])
    assert len(same) == len(sequence(1))
    border = int(np.argmax(sequence(1).picture_L >= 0))
    assert len(different) == 2 * len(sequence(1)) - border


@pytest.mark.parametrize("seed", range(30))
def test_mask_shows_each_token_exactly_its_own_path(seed: int) -> None:
    rng = np.random.default_rng(digest(seed))
    sequences = []
    for _ in range(int(rng.integers(1, 9))):
        length = int(rng.integers(2, 12))
        sequences.append(
            Rendered(
                token_ids_L=rng.integers(0, 3, length),
                positions_AL=np.arange(length)[None],
                picture_L=np.full(length, -1),
                offset_L=np.zeros(length, dtype=np.int64),
                weight_L=np.ones(length),
                num_prompt=1,
                pictures=(),
            )
        )
    row = build_tree(sequences, range(len(sequences)))
    mask = visible(row)
    for sequence, path in zip(sequences, row.paths, strict=True):
        assert row.token_ids_T[path].tolist() == sequence.token_ids_L.tolist()
        for i, place in enumerate(path):
            assert np.flatnonzero(mask[place]).tolist() == path[: i + 1].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_error_is_no_larger_than_flats_own(name: str) -> None:
    """Against a float32 oracle of the same weights, sharing costs no accuracy: median over 8 seeds, at most 1.2."""
    errors: dict[str, list[float]] = {"tree": [], "flat": []}
    for seed in range(8):
        rounded, oracle = (random_model(name, dtype=dtype, seed=seed) for dtype in (torch.bfloat16, torch.float32))
        oracle.module.load_state_dict(rounded.module.state_dict())
        sequences = random_sequences(rounded, seed + 200)
        random_sequences(oracle, seed + 200)  # makes the pictures known to the oracle too
        with torch.no_grad():
            exact = logprobs_of(oracle, rows_of(sequences, "flat"))
            for layout, found in errors.items():
                ours = logprobs_of(rounded, rows_of(sequences, layout))
                difference = torch.cat([ours[branch].float() - exact[branch] for branch in exact])
                found.append(float(difference.norm() / torch.cat(list(exact.values())).norm()))
    tree, flat = (float(np.median(found)) for found in errors.values())
    assert 1e-4 < flat < 0.2
    assert tree <= 1.2 * flat

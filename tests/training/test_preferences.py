"""Preference optimisation: losses by hand, tree against flat, and a training that does what it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sightline.models.adapters import attach_lora
from sightline.models.forward import row_logprobs
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.study.training import PreferenceTraining
from sightline.training.batches import RenderedSet
from sightline.training.loop import train
from sightline.training.losses import preference_loss
from sightline.training.objectives import Preference
from sightline.training.reference import answer_logprobs
from sightline.trees.render import Rendered, render
from test_equivalence import relative_error
from tiny_families import compute_in_own_type, noise, random_model

ONE = [("left lung", "no")]
THREE = [("left lung", "right lung"), ("left lung is 7", "left no"), ("an opacity", "no opacity 7")]
CROSSED = [(chosen, rejected) for chosen in ("a lung", "a left lung", "7") for rejected in ("no", "no lung", "a")]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_their_papers(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    chosen, rejected = rng.normal(size=(2, 9)) * 3
    tokens = rng.integers(1, 9, size=(2, 9)).astype(float)
    beta = 0.3

    def found(kind: str, label_smoothing: float = 0.0) -> np.ndarray:
        given = [torch.from_numpy(each) for each in (chosen, rejected, *tokens)]
        return preference_loss(
            given[0],
            given[1],
            beta=beta,
            kind=kind,  # pyright: ignore
            label_smoothing=label_smoothing,
            chosen_tokens_P=given[2],
            rejected_tokens_P=given[3],
        ).numpy()

    margin, mean_margin = chosen - rejected, chosen / tokens[0] - rejected / tokens[1]

    def logistic(margin: np.ndarray) -> np.ndarray:
        return -(1 - smoothing) * np.log(sigmoid(beta * margin)) - smoothing * np.log(sigmoid(-beta * margin))

    np.testing.assert_allclose(found("sigmoid", smoothing), logistic(margin), rtol=1e-12)
    np.testing.assert_allclose(found("sigmoid_norm", smoothing), logistic(mean_margin), rtol=1e-12)
    np.testing.assert_allclose(found("hinge"), np.maximum(0, 1 - beta * margin), rtol=1e-12)
    np.testing.assert_allclose(found("ipo"), (mean_margin - 1 / (2 * beta)) ** 2, rtol=1e-12)


def test_what_a_loss_lacks_is_said() -> None:
    zeros = torch.zeros(2)
    with pytest.raises(ValueError, match="ipo takes means over tokens"):
        preference_loss(zeros, zeros, beta=0.1, kind="ipo")
    with pytest.raises(ValueError, match="hinge has none"):
        preference_loss(zeros, zeros, beta=0.1, kind="hinge", label_smoothing=0.1)


def pair_set(loaded: LoadedModel, pairs: list[tuple[str, str]], num_pictures: int = 2) -> RenderedSet:
    sequences: list[Rendered] = []
    image_ids: list[str] = []
    for number in range(num_pictures):
        shown = noise(number)
        loaded.features.register([shown])
        for place, answers in enumerate(pairs):
            question = ("left?", "how many")[place % 2]
            messages = [Message(role="user", content=(0, question))]
            sequences += [render(loaded.family, messages, [shown], answer) for answer in answers]
            image_ids.append(shown.sha256)
    return RenderedSet(sequences=sequences, image_ids=image_ids, sha256="pairs", together=2)


def adapted(name: str) -> LoadedModel:
    loaded = random_model(name)
    compute_in_own_type(loaded)
    attach_lora(loaded, rank=4, alpha=8)
    loaded.module.double()
    for name_, parameter in loaded.module.named_parameters():
        if "lora_B" in name_:
            torch.nn.init.normal_(parameter, std=0.1)
    return loaded


def step(loaded: LoadedModel, data: RenderedSet, objective: Preference, layout: str, row_tokens: int = 4096):
    loaded.module.zero_grad()
    rows = data.rows(range(len(data)), row_tokens=row_tokens, layout=layout)
    count = sum(map(objective.count, rows))
    value, metrics = 0.0, dict.fromkeys(objective.metrics, 0.0)
    for row in rows:
        found = objective.loss(row, row_logprobs(loaded, row))
        (found.total / count).backward()
        value += float(found.total.detach()) / count
        metrics = {name: metrics[name] + float(summed) / count for name, summed in found.metrics.items()}
    gradients = {n: p.grad.clone() for n, p in loaded.module.named_parameters() if p.grad is not None}
    return rows, value, metrics, gradients


@pytest.mark.parametrize("pairs", [ONE, THREE, CROSSED], ids=["1", "3", "3x3"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_tree_and_flat_agree(name: str, pairs: list[tuple[str, str]]) -> None:
    loaded = adapted(name)
    data = pair_set(loaded, pairs)
    reference = np.random.default_rng(1).normal(size=len(data.sequences)) * 5 - 20
    objective = Preference(reference_N=reference, beta=0.1, sft_weight=0.5, label_smoothing=0.1)
    tree, value, metrics, gradients = step(loaded, data, objective, "tree")
    flat, flat_value, flat_metrics, flat_gradients = step(loaded, data, objective, "flat")
    assert sum(map(len, tree)) < sum(map(len, flat))
    assert value == pytest.approx(flat_value, abs=1e-9)
    assert metrics == pytest.approx(flat_metrics, abs=1e-9)
    assert gradients.keys() == flat_gradients.keys()
    for tensor in gradients:
        assert relative_error(gradients[tensor], flat_gradients[tensor]) < 1e-9, tensor


def test_the_loss_is_the_papers_on_each_pairs_own_forward() -> None:
    """Equation 7 written out, the answers' log-probabilities from rows of one sequence each."""
    loaded = adapted("llava")
    data = pair_set(loaded, THREE)
    single = RenderedSet(sequences=data.sequences, image_ids=["x"] * len(data.sequences))
    loaded.module.disable_adapter_layers()  # pyright: ignore
    reference = answer_logprobs(loaded, data, row_tokens=512)
    one_by_one = answer_logprobs(loaded, single, row_tokens=1)
    loaded.module.enable_adapter_layers()  # pyright: ignore
    np.testing.assert_allclose(reference, one_by_one, atol=1e-9)
    policy = answer_logprobs(loaded, single, row_tokens=1)
    _, value, metrics, _ = step(loaded, data, Preference(reference_N=reference, beta=0.1), "tree")
    moved = (policy - reference).reshape(-1, 2)
    expected = np.log1p(np.exp(-0.1 * (moved[:, 0] - moved[:, 1]))).mean()
    assert value == pytest.approx(expected, abs=1e-9)
    assert metrics["rewards/chosen"] == pytest.approx(0.1 * moved[:, 0].mean(), abs=1e-9)
    assert metrics["rewards/accuracies"] == pytest.approx((moved[:, 0] > moved[:, 1]).mean())
    assert metrics["logps/rejected"] == pytest.approx(policy.reshape(-1, 2)[:, 1].mean(), abs=1e-9)
    assert metrics["kl"] == pytest.approx((moved**2).mean() / 2, abs=1e-9)


@pytest.mark.parametrize("layout", ["tree", "flat"])
def test_a_pair_is_never_torn_apart(layout: str) -> None:
    loaded = adapted("llava")
    data = pair_set(loaded, CROSSED, num_pictures=1)
    shortest = data.longest(layout)
    rows = data.rows(range(len(data)), row_tokens=shortest, layout=layout)
    assert len(rows) > 1
    for row in rows:
        assert len(row) <= shortest
        pairs = sorted(branch // 2 for branch in row.branches)
        assert pairs == sorted(2 * [pair for pair in set(pairs)])


def test_training_prefers_what_was_chosen() -> None:
    loaded = random_model("llava")
    data = pair_set(loaded, THREE, num_pictures=3)
    reference = answer_logprobs(loaded, data, row_tokens=512)
    attach_lora(loaded, rank=4, alpha=8)
    settings = PreferenceTraining(batch_size=3, epochs=8, learning_rate=1e-2, lora={"rank": 4, "dropout": 0.0})  # pyright: ignore
    objective = Preference(reference_N=reference, beta=0.1)
    records = list(train(loaded, data, settings, objective=objective, validation=data))
    assert records[0].loss == pytest.approx(math.log(2), abs=1e-9)  # the policy still is the reference
    assert records[0].metrics["rewards/margins"] == pytest.approx(0, abs=1e-9)
    assert records[0].samples == 3
    assert records[-1].metrics["rewards/accuracies"] == 1
    assert records[-1].metrics["rewards/margins"] > 0.5
    assert records[-1].validation_loss < math.log(2) / 2  # pyright: ignore
    assert records[-1].as_row()["rewards/accuracies"] == 1


def test_pairs_turned_round_are_preferred_the_other_way() -> None:
    """Turning every pair round turns the reward round."""
    loaded = adapted("llava")
    data = pair_set(loaded, THREE)
    turned = RenderedSet(
        sequences=[data.sequences[number ^ 1] for number in range(len(data.sequences))],
        image_ids=data.image_ids,
        together=2,
    )

    def margin(pairs: RenderedSet) -> float:
        objective = Preference(reference_N=np.zeros(len(pairs.sequences)), beta=0.1)
        return step(loaded, pairs, objective, "tree")[2]["rewards/margins"]

    assert margin(data) == pytest.approx(-margin(turned), abs=1e-9)

"""The loop: resumed, tree and flat runs agree; the steps' samples and the kept weights are as promised."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.data.pictures import PictureError
from sightline.errors import DataError, SightlineError, StudyError
from sightline.models import features
from sightline.models.adapters import adapter_weights, attach_lora, detach_adapter, load_adapter, save_adapter
from sightline.models.loading import LoadedModel
from sightline.records import Message, Picture
from sightline.study import Training
from sightline.training.loop import RenderedSet, StepRecord, mean_loss, train
from sightline.training.objectives import Likelihood, RowLoss
from sightline.training.schedule import learning_rate_at
from sightline.trees.render import render
from sightline.trees.row import Row
from tiny_llava import picture, random_llava


def rendered_set(loaded: LoadedModel, num_pictures: int = 5, first: int = 0) -> RenderedSet:
    sequences, image_ids = [], []
    for number in range(first, first + num_pictures):
        shown = picture(number)
        loaded.features.register([shown])
        for place, question in enumerate(("left?", "how many", "is there a lung")[: 1 + number % 3]):
            messages = [Message(role="user", content=(0, question))]
            sequences.append(render(loaded.family, messages, [shown], str(number + place)))
            image_ids.append(shown.sha256)
    return RenderedSet(sequences=sequences, image_ids=image_ids, sha256="data")


def settings(**changes) -> Training:
    base = {"batch_size": 4, "epochs": 2, "learning_rate": 0.01, "lora": {"rank": 4, "dropout": 0.1}, "save_every": 2}
    return Training(**{**base, **changes})


def fresh(dropout: float = 0.1, seed: int = 0) -> LoadedModel:
    loaded = random_llava()
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, seed=seed)
    return loaded


def trace(records: list[StepRecord]) -> list[tuple[int, float, float | None]]:
    return [(record.step, record.loss, record.validation_loss) for record in records]


def test_learns_and_reports(tmp_path: Path) -> None:
    loaded = fresh(dropout=0.0)
    data = rendered_set(loaded)
    records = list(train(loaded, data, settings(epochs=6), validation=data))
    assert [record.step for record in records] == list(range(1, records[-1].num_steps + 1))
    assert records[-1].validation_loss < records[0].loss / 2  # pyright: ignore
    assert sum(record.executed_tokens for record in records) < sum(record.tokens for record in records)
    assert sum(record.samples for record in records) == 6 * len(data.sequences)
    measured = [record.step for record in records if record.validation_loss is not None]
    assert measured == [step for step in range(1, len(records) + 1) if step % (len(records) // 6) == 0]


def test_dropout_drops_in_steps_and_in_nothing_else() -> None:
    losses = {}
    for dropout in (0.0, 0.5):
        loaded = fresh(dropout=dropout)
        data = rendered_set(loaded)
        losses[dropout] = [record.loss for record in train(loaded, data, settings(epochs=None, max_steps=2))]
        assert not any(module.training for module in loaded.module.modules())
        assert mean_loss(loaded, data, 4096) == mean_loss(loaded, data, 4096)
    assert losses[0.0][0] == losses[0.5][0]  # an adapter begins by adding nothing, whatever it drops
    assert losses[0.0][1] != losses[0.5][1]


def test_pictures_are_looked_at_a_step_ahead_and_stop_the_step_that_shows_them(tmp_path: Path, monkeypatch) -> None:
    loaded = fresh()
    one_each = [rendered_set(loaded, 1, first) for first in (0, 3, 6)]
    data = RenderedSet(
        sequences=[sequence for part in one_each for sequence in part.sequences],
        image_ids=[image_id for part in one_each for image_id in part.image_ids],
    )
    chosen = settings(batch_size=1, epochs=1, save_every=1)
    seen: list[list[str]] = []
    see, opened = loaded.features.see, features.open_picture
    monkeypatch.setattr(loaded.features, "see", lambda keys: seen.append(list(keys)) or see(seen[-1]))
    list(train(loaded, data, chosen))
    assert [len(keys) for keys in seen] == [1, 1, 0] and seen[0] != seen[1]

    def torn(shown: Picture) -> Any:
        if loaded.family.picture_key(shown) == seen[1][0]:
            raise PictureError("truncated-image", "it is torn")
        return opened(shown)

    monkeypatch.setattr(features, "open_picture", torn)
    loaded.features.forget()
    with pytest.raises(PictureError, match="torn"):
        list(train(loaded, data, chosen, checkpoints=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "step-00000002"


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, stop_after: int) -> None:
    whole = fresh()
    data = rendered_set(whole)
    reference = list(
        train(whole, data, settings(keep="best", eval_every=2), validation=data, checkpoints=tmp_path / "whole")
    )

    interrupted = fresh()
    rendered_set(interrupted)
    run = train(interrupted, data, settings(keep="best", eval_every=2), validation=data, checkpoints=tmp_path / "cut")
    for _ in range(stop_after):
        next(run)
    resumed = fresh(seed=9)  # what the fresh adapter holds must not matter
    rendered_set(resumed)
    if stop_after == 1:  # nothing was saved yet: the run starts anew, so with the same adapter
        resumed = fresh()
        rendered_set(resumed)
    torch.rand(7)  # nor what else was drawn in between
    rest = list(
        train(resumed, data, settings(keep="best", eval_every=2), validation=data, checkpoints=tmp_path / "cut")
    )
    assert trace(reference)[-len(rest) :] == trace(rest)
    assert len(rest) == len(reference) - stop_after // 2 * 2
    ours, theirs = adapter_weights(resumed.module), adapter_weights(whole.module)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_tree_and_flat_train_to_the_same_adapter() -> None:
    results = []
    for layout in ("tree", "flat"):
        loaded = fresh(dropout=0.0)
        data = rendered_set(loaded)
        chosen = settings(layout=layout, lora={"rank": 4, "dropout": 0})
        results.append((list(train(loaded, data, chosen)), adapter_weights(loaded.module)))
    (tree, tree_weights), (flat, flat_weights) = results
    assert [r.loss for r in tree] == pytest.approx([r.loss for r in flat], abs=1e-6)
    for name in tree_weights:
        torch.testing.assert_close(tree_weights[name], flat_weights[name], rtol=0, atol=1e-5)
    assert sum(r.executed_tokens for r in tree) < sum(r.executed_tokens for r in flat)


def test_short_rows_change_nothing() -> None:
    losses = []
    for row_tokens in (52, 4096):
        loaded = fresh(dropout=0.0)
        data = rendered_set(loaded)
        losses.append([r.loss for r in train(loaded, data, settings(row_tokens=row_tokens))])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_another_setting_is_not_resumed(tmp_path: Path) -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    run = train(loaded, data, settings(), checkpoints=tmp_path)
    for _ in range(3):
        next(run)
    with pytest.raises(StudyError, match=r"learning_rate 0.01 then, 0.5 now"):
        next(train(fresh(), data, settings(learning_rate=0.5), checkpoints=tmp_path))


def test_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    run = train(loaded, data, settings(), checkpoints=tmp_path)
    for _ in range(5):
        next(run)
    newest = sorted(tmp_path.glob("step-*"))[-1]
    (newest / "optimizer.safetensors").write_bytes(b"torn")
    again = fresh()
    rendered_set(again)
    first = next(train(again, data, settings(), checkpoints=tmp_path))
    assert first.step == 3  # the checkpoint of step 2 still held


def test_checkpoints_beyond_the_kept_ones_go(tmp_path: Path) -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    list(train(loaded, data, settings(save_every=1, keep_checkpoints=2), checkpoints=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_no_number_stops_and_names_step_and_samples() -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    for name, parameter in loaded.module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, math.nan)
    with pytest.raises(SightlineError, match=r"step 1: the loss is nan; samples \["):
        next(train(loaded, data, settings()))


def test_no_number_later_leaves_the_adapter_as_it_was() -> None:
    loaded = fresh()

    class Broken(Likelihood):
        def loss(self, row: Row, logprob_M: torch.Tensor) -> RowLoss:
            found = Likelihood.loss(self, row, logprob_M)
            return found if len(done) < 2 else RowLoss(found.total * math.nan, {})

    done: list[StepRecord] = []
    with pytest.raises(SightlineError, match="step 3: the loss is nan"):
        for record in train(loaded, rendered_set(loaded), settings(), objective=Broken()):
            done.append(record)
            before = adapter_weights(loaded.module)
            before = {name: tensor.clone() for name, tensor in before.items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter_weights(loaded.module).items())


def test_half_precision_finds_its_scale_and_resumes_with_it(tmp_path: Path) -> None:
    """The first steps overflow at a scale of 65,536 and are passed over; a resumed run ends with the same bits."""

    def half() -> LoadedModel:
        loaded = random_llava(dtype=torch.float16)
        attach_lora(loaded, rank=4, alpha=8, seed=0)
        return loaded

    class Steep(Likelihood):
        def loss(self, row: Row, logprob_M: torch.Tensor) -> RowLoss:
            return RowLoss(Likelihood.loss(self, row, logprob_M).total * 50, {})

    whole = half()
    data = rendered_set(whole)
    records = list(train(whole, data, settings(epochs=3), objective=Steep()))
    passed_over = [record for record in records if record.grad_norm == 0]
    assert 0 < len(passed_over) < len(records)
    stopped = half()
    steps = train(stopped, rendered_set(stopped), settings(epochs=3), objective=Steep(), checkpoints=tmp_path)
    for _ in range(5):
        next(steps)
    resumed = half()
    list(train(resumed, rendered_set(resumed), settings(epochs=3), objective=Steep(), checkpoints=tmp_path))
    ours, theirs = adapter_weights(resumed.module), adapter_weights(whole.module)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_nothing_to_learn_is_said() -> None:
    with pytest.raises(DataError, match="no samples"):
        next(train(fresh(), RenderedSet(sequences=[], image_ids=[]), settings()))


def test_stored_adapter_comes_back_and_base_is_untouched(tmp_path: Path) -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    before = {name: tensor.clone() for name, tensor in random_llava().module.state_dict().items()}
    list(train(loaded, data, settings()))
    save_adapter(loaded, tmp_path)
    weights = {name: tensor.clone() for name, tensor in adapter_weights(loaded.module).items()}
    detach_adapter(loaded)
    after = loaded.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    load_adapter(loaded, tmp_path)
    again = adapter_weights(loaded.module)
    assert weights.keys() == again.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], again[name])
    detach_adapter(loaded)
    attach_lora(loaded, rank=2, alpha=2)  # a second adapter after the first, on the same base


def test_schedule() -> None:
    def rates(schedule):
        return [learning_rate_at(step, num_steps=10, peak=1.0, warmup=0.2, schedule=schedule) for step in range(10)]

    assert rates("constant") == [0.5] + [1.0] * 9
    assert rates("linear")[1:4] == pytest.approx([1.0, 1.0, 7 / 8])
    cosine = rates("cosine")
    assert cosine[6] == pytest.approx(0.5) and cosine[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))

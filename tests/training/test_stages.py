"""A curriculum's stages: whose samples come when, what is carried over, and that an interruption changes nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sightline.models.adapters import adapter_weights, attach_lora, save_adapter
from sightline.models.loading import LoadedModel
from sightline.records import Message
from sightline.study import Training
from sightline.training.batches import Plan, RenderedSet, Stage
from sightline.training.loop import StepRecord, train
from sightline.training.schedule import learning_rate_at
from sightline.trees.render import render
from sightline.trees.sampler import plan_epoch
from tiny_llava import picture, random_llava

# 2 samples to a picture: three stages that share some, and leave sample 11 out.
STAGES = (
    Stage(samples=range(10), epochs=2),
    Stage(samples=[10, 0, 4, 6, 8], max_steps=5),
    Stage(samples=range(1, 10), epochs=0.5),
)


def plan_of(stages: Sequence[Stage], *, seed: int = 0) -> Plan:
    data = RenderedSet(sequences=(), image_ids=[f"picture {number // 2}" for number in range(12)])
    return Plan(data, stages, batch_size=4, branch_cap=None, seed=seed, row_tokens=99, layout="tree")


def test_each_stage_has_its_own_samples_and_length() -> None:
    plan = plan_of(STAGES)
    # By hand: 10 samples are 3 steps an epoch, twice; 5 steps as asked; 9 samples are 3 steps, half of them 2.
    assert plan.num_steps == 6 + 5 + 2
    places = [plan.place(step) for step in range(13)]
    assert [place.stage for place in places] == [0] * 6 + [1] * 5 + [2] * 2
    assert [place.step for place in places] == [*range(6), *range(5), *range(2)]
    assert [step for step, place in enumerate(places) if place.is_first] == [0, 6, 11]
    assert [step for step, place in enumerate(places) if place.is_last] == [5, 10, 12]
    for step, place in enumerate(places):
        assert set(plan.samples(step)) <= set(STAGES[place.stage].samples)


def test_every_epoch_of_a_stage_has_each_of_its_samples_once() -> None:
    plan = plan_of(STAGES)
    for stage, first, length in ((0, 0, 3), (0, 3, 3), (1, 6, 2), (1, 8, 2)):
        shown = [number for step in range(first, first + length) for number in plan.samples(step)]
        assert sorted(shown) == sorted(STAGES[stage].samples)


def test_epochs_are_numbered_through_so_that_no_two_shuffle_alike() -> None:
    plan = plan_of(STAGES)
    # Two epochs, three begun, one begun: the second stage's are 2, 3 and 4, the third's is 5.
    for first, stage, epoch in ((0, 0, 0), (3, 0, 1), (6, 1, 2), (8, 1, 3), (10, 1, 4), (11, 2, 5)):
        numbers = list(STAGES[stage].samples)
        ids = [plan.data.image_ids[number] for number in numbers]
        [opening, *_] = plan_epoch(ids, batch_size=4, branch_cap=None, seed=0, epoch=epoch)
        assert plan.samples(first) == tuple(numbers[place] for place in opening)


def test_two_stages_of_all_samples_are_two_epochs() -> None:
    whole, parts = (
        plan_of(stages) for stages in ([Stage(samples=range(12), epochs=2)], [Stage(samples=range(12), epochs=1)] * 2)
    )
    assert [whole.samples(step) for step in range(6)] == [parts.samples(step) for step in range(6)]
    assert [whole.ends_epoch(step) for step in range(6)] == [parts.ends_epoch(step) for step in range(6)]
    assert [whole.epochs(step) for step in range(6)] == pytest.approx([parts.epochs(step) for step in range(6)])


def test_epochs_end_where_a_pass_or_a_stage_ends_and_are_added_up() -> None:
    plan = plan_of(STAGES)
    assert [step for step in range(13) if plan.ends_epoch(step)] == [2, 5, 7, 9, 10, 12]
    assert [plan.epochs(step) for step in (0, 5, 6, 10, 12)] == pytest.approx([1 / 3, 2, 2.5, 4.5, 4.5 + 2 / 3])


def test_steps_can_be_asked_for_in_any_order() -> None:
    plan = plan_of(STAGES)
    forward = [plan.samples(step) for step in range(13)]
    again = plan_of(STAGES)
    assert [again.samples(step) for step in reversed(range(13))] == forward[::-1]


def rendered_set(loaded: LoadedModel) -> RenderedSet:
    """Two questions about each of six pictures."""
    sequences, image_ids = [], []
    for number in range(6):
        shown = picture(number)
        loaded.features.register([shown])
        for question in ("left?", "how many"):
            messages = [Message(role="user", content=(0, question))]
            sequences.append(render(loaded.family, messages, [shown], str(number)))
            image_ids.append(shown.sha256)
    return RenderedSet(sequences=sequences, image_ids=image_ids, sha256="data")


def settings(**changes) -> Training:
    values = {"batch_size": 4, "max_steps": 7, "learning_rate": 0.01, "warmup": 2, "save_every": 99}
    return Training(**{**values, **changes})


def fresh(*, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> LoadedModel:
    loaded = random_llava(dtype=dtype)
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, seed=0)
    return loaded


def run(loaded: LoadedModel, chosen: Training, stages: Sequence[Stage], **options) -> list[StepRecord]:
    return list(train(loaded, rendered_set(loaded), chosen, stages=stages, **options))


def weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in adapter_weights(loaded.module).items()}


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_all_that_is_carried_over_makes_one_training_of_it() -> None:
    """Two stages of all samples are a training of two epochs, bit for bit, dropout included."""
    whole, parts = fresh(dropout=0.1), fresh(dropout=0.1)
    one = run(whole, settings(max_steps=None, epochs=2), ())
    two = run(parts, settings(), [Stage(samples=range(12), epochs=1)] * 2)
    assert [(r.loss, r.learning_rate, r.grad_norm) for r in one] == [
        (r.loss, r.learning_rate, r.grad_norm) for r in two
    ]
    assert furthest(weights(whole), weights(parts)) == 0.0
    assert [r.stage for r in one] == [None] * 6 and [r.stage for r in two] == [1] * 3 + [2] * 3


OPEN, CLOSED = Stage(samples=range(0, 12, 2), max_steps=3), Stage(samples=range(1, 12, 2), max_steps=4)

OPTIMIZERS = ["adamw"] + ["adamw_8bit"] * bool(importlib.util.find_spec("bitsandbytes"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_alone_carried_over_are_trainings_in_sequence(optimizer: str) -> None:
    """Steps of all of a stage's samples, so that another shuffle changes nothing but the order of a sum."""
    chosen = settings(optimizer=optimizer, batch_size=6)
    dtype, near = (torch.float64, 1e-12) if optimizer == "adamw" else (torch.float32, 1e-5)
    in_turn = fresh(dtype=dtype)
    records = run(in_turn, chosen, [OPEN])
    after_first = weights(in_turn)
    records += run(in_turn, chosen, [CLOSED])  # a new optimizer and a new schedule on the same adapter

    seen: dict[int, dict[str, torch.Tensor]] = {}
    staged = fresh(dtype=dtype)
    told = run(
        staged,
        chosen.model_copy(update={"carry_over": "weights"}),
        [OPEN, CLOSED],
        stage_done=lambda number: seen.update({number: weights(staged)}),
    )
    assert seen.keys() == {0} and furthest(seen[0], after_first) == 0.0
    assert furthest(weights(staged), weights(in_turn)) < near
    assert [r.loss for r in told] == pytest.approx([r.loss for r in records], abs=near)
    assert [r.learning_rate for r in told] == [r.learning_rate for r in records]

    carried = fresh(dtype=dtype)
    run(carried, chosen, [OPEN, CLOSED])
    assert furthest(weights(carried), weights(staged)) > 1e-3


def test_the_learning_rate_runs_through_or_starts_again() -> None:
    def rates(carry_over: str) -> list[float]:
        return [r.learning_rate for r in run(fresh(), settings(carry_over=carry_over), [OPEN, CLOSED])]

    def scheduled(num_steps: int) -> list[float]:
        return [
            learning_rate_at(step, num_steps=num_steps, peak=0.01, warmup=2, schedule="cosine")
            for step in range(num_steps)
        ]

    assert rates("all") == scheduled(7)
    assert rates("weights") == scheduled(3) + scheduled(4)


def test_validation_is_measured_at_the_end_of_every_stage() -> None:
    loaded = fresh()
    data = rendered_set(loaded)
    for eval_every, measured in ((None, [2, 3, 5, 7]), (2, [2, 3, 4, 6, 7])):
        steps = train(loaded, data, settings(eval_every=eval_every), stages=[OPEN, CLOSED], validation=data)
        assert [r.step for r in steps if r.validation_loss is not None] == measured


RESUMED = [OPEN, CLOSED, Stage(samples=range(6), max_steps=1)]


def staged_files(folder: Path, chosen: Training, work: Path | None = None, *, stop_after: int | None = None) -> Path:
    """Train with checkpoints in `work`; write the adapter after each stage, and at the end, to `folder`."""
    loaded = fresh(dropout=0.1)

    def save(name: str) -> None:
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_adapter(loaded, folder / name)

    def stage_done(number: int) -> None:
        save(str(number + 1))

    data = rendered_set(loaded)
    for record in train(loaded, data, chosen, stages=RESUMED, checkpoints=work, stage_done=stage_done):
        if record.step == stop_after:
            return folder
    save("end")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of a training that nothing interrupted, by what it carries over."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: staged_files(folder / name, settings(carry_over=name)) for name in ("all", "weights")}


@pytest.mark.parametrize(
    ("carry_over", "save_every", "stop_after"),
    [
        pytest.param("all", 2, 5, id="inside the second stage"),
        pytest.param("weights", 2, 5, id="inside the second stage, weights alone"),
        pytest.param("weights", 3, 3, id="where the first stage ends, with a checkpoint"),
        pytest.param("all", 2, 3, id="where the first stage ends, without one"),
        pytest.param("weights", 7, 7, id="where the second stage ends"),
    ],
)
def test_a_resumed_curriculum_is_the_uninterrupted_one(
    tmp_path: Path, uninterrupted: dict[str, Path], carry_over: str, save_every: int, stop_after: int
) -> None:
    chosen = settings(carry_over=carry_over, save_every=save_every)
    for last in (stop_after, None):
        staged_files(tmp_path / "cut", chosen, tmp_path / "work", stop_after=last)
    whole = uninterrupted[carry_over]
    files = {file.relative_to(whole): file.read_bytes() for file in whole.glob("*/adapter*")}
    assert {path.parts[0] for path in files} == {"1", "2", "end"}
    for path, content in files.items():
        assert (tmp_path / "cut" / path).read_bytes() == content, path
    assert len({content for path, content in files.items() if path.name == "adapter_model.safetensors"}) == 3

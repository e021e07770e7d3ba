"""Step records reach TensorBoard's files with their values; a tracker that is not installed is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sightline.errors import StudyError
from sightline.training.loop import StepRecord
from sightline.training.track import track


def record(step: int, loss: float, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(
        step=step,
        num_steps=3,
        epoch=step / 3,
        loss=loss,
        learning_rate=0.1,
        grad_norm=1.0,
        samples=4,
        tokens=40,
        executed_tokens=20,
        seconds=0.5,
        validation_loss=validation_loss,
    )


def test_tensorboard_holds_every_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with track("sft", tensorboard=tmp_path, wandb=None, settings={}) as send:
        for step, loss in enumerate((2.0, 1.5, 1.25), start=1):
            send(record(step, loss, validation_loss=1.0 if step == 3 else None))
    events = EventAccumulator(str(tmp_path / "sft"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.0), (2, 1.5), (3, 1.25)]
    assert [(e.step, e.value) for e in events.Scalars("validation_loss")] == [(3, 1.0)]


def test_nothing_is_sent_where_nothing_was_asked_for(tmp_path: Path) -> None:
    with track("sft", tensorboard=None, wandb=None, settings={}) as send:
        send(record(1, 2.0))
    assert not list(tmp_path.iterdir())


def test_missing_tracker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(StudyError, match=r"wandb is not installed; pip install '\.\[track\]' in sightline's own folder"),
        track("sft", tensorboard=None, wandb="project", settings={}),
    ):
        pass

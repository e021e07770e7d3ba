"""Step records for TensorBoard and Weights & Biases; numbers only, no pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.errors import StudyError, install_advice
from sightline.training.loop import StepRecord


@contextmanager
def track(
    name: str, *, tensorboard: Path | None, wandb: str | None, settings: Mapping[str, Any]
) -> Iterator[Callable[[StepRecord], None]]:
    """Give a function that sends a step record to the trackers asked for.

    Args:
        name: the run's name.
        tensorboard: folder for TensorBoard's files; None for none.
        wandb: project at Weights & Biases; None for none. Its key comes from WANDB_API_KEY.
        settings: what to store with the run.

    Raises:
        StudyError: if a tracker's package is not installed.
    """
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    trackers: list[TensorBoardTracker | WandBTracker] = []
    try:
        if tensorboard is not None:
            trackers.append(TensorBoardTracker(name, str(tensorboard)))
        if wandb is not None:
            trackers.append(WandBTracker(wandb, name=name))
        for tracker in trackers:
            tracker.start()
        for tracker in trackers:
            if isinstance(tracker, WandBTracker):
                tracker.store_init_configuration(dict(settings))
    except ImportError as error:
        raise StudyError(f"track: {error.name} is not installed; {install_advice('track')}") from error

    def send(record: StepRecord) -> None:
        values = {key: value for key, value in record.as_row().items() if key != "step"}
        for tracker in trackers:
            tracker.log(values, step=record.step)

    try:
        yield send
    finally:
        for tracker in trackers:
            tracker.finish()

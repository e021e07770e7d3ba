"""What a person sees while a study runs: a line per step, bars with rate and time left; quiet when not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar(Protocol):
    """Counts work that is being done."""

    def advance(self, amount: int = 1, *, text: str = "") -> None:
        """Count `amount` more, and show `text` beside the bar."""
        ...


class Display:
    """Writes to standard error, so that standard output holds results only.

    Args:
        quiet: write nothing at all; for other ranks and for `--json`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Bar]:
        """Show work being done; where there is no terminal, one line when it is finished.

        Args:
            title: what is being done.
            total: how much there is.
            unit: of `total`, plural.
            done: how much was there already, from an earlier run.
        """
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[text]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        ) as progress:
            task = progress.add_task(title, total=total, completed=done, text="", rate="")
            began = progress.get_time()
            bar = _RichBar(progress, task, unit, began)
            yield bar
            seconds = progress.get_time() - began
        left = f", {done} from an earlier run" if done else ""
        self.say(f"{title}: {bar.counted} {unit} in {seconds:.1f} s{left}{'; ' + bar.text if bar.text else ''}")


class _RichBar:
    def __init__(self, progress: Progress, task: int, unit: str, began: float) -> None:
        self.progress, self.task, self.unit, self.began = progress, task, unit, began
        self.counted = 0
        self.text = ""

    def advance(self, amount: int = 1, *, text: str = "") -> None:
        self.counted += amount
        self.text = text
        seconds = self.progress.get_time() - self.began
        rate = f"{self.counted / seconds:.1f} {self.unit}/s" if seconds > 0 else ""
        self.progress.update(self.task, advance=amount, text=text, rate=rate)  # pyright: ignore

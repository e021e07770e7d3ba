"""What all arms share: the job they are given, and the watch that times, counts and checks what they really run."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workload import NOT_LEARNT, Workload

RANK, ALPHA = 16, 32
LEARNING_RATE = 2e-4
CLIP = 1.0
BETA = 0.1
"""Of DPO."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an arm has to do.

    Args:
        workload: questions, and the optimizer steps they come in.
        folder: the model's: configuration, tokenizer, processor and, for peers that load by path, weights.
        micro_batch: rows of one forward pass; gradients are accumulated over the rest of the step.
        merged: an image's questions are the turns of one conversation.
        pairs: samples are pairs of answers, the workload's questions 2p and 2p + 1; peers have a pass's chosen answers
            first and then its rejected ones.
        num_trained: parameters an arm must train: those of a LoRA adapter on all language linears.
        scratch: a folder for what a trainer insists on writing.
    """

    workload: Workload
    folder: Path
    micro_batch: int
    merged: bool
    pairs: bool
    num_trained: int
    scratch: Path

    @functools.cached_property
    def rows(self) -> list[tuple[int, ...]]:
        """The questions of every row, in order: one each, or a conversation's."""
        if self.pairs:
            size = 2 * min(self.micro_batch, self.samples_per_step)
            passes = (self.workload.order[start : start + size] for start in range(0, len(self.workload.order), size))
            return [(number,) for one in passes for number in (*one[0::2], *one[1::2])]
        return self.workload.conversations if self.merged else [(number,) for number in self.workload.order]

    @property
    def samples_per_step(self) -> int:
        """What a trainer counts: pairs, or rows; conversations are as many as hold a step's questions on average.

        Raises:
            ValueError: a step cannot be divided into forward passes of so many rows.
        """
        if self.pairs:
            return len(self.workload.steps[0]) // 2
        per_step = round(len(self.rows) / len(self.workload.steps))
        if not self.merged and per_step % self.micro_batch:
            raise ValueError(f"{per_step} questions a step cannot be divided into passes of {self.micro_batch} rows")
        return max(1, round(per_step / self.micro_batch)) * min(per_step, self.micro_batch)

    @property
    def num_steps(self) -> int:
        """Optimizer steps for which there are rows."""
        return len(self.rows) // (self.samples_per_step * (2 if self.pairs else 1))


@dataclass(kw_only=True)
class Watch:
    """Times optimizer steps and checks, row by row, that what passed the model is what the workload says.

    Args:
        job: what should be run.
        warmup: first steps, which are not counted.
    """

    job: Job
    warmup: int
    seconds: list[float] = field(default_factory=list)
    num_questions: list[int] = field(default_factory=list)
    executed_tokens: list[int] = field(default_factory=list)
    peak_bytes: int = 0
    _began: float = 0.0
    _seen: list[tuple[Any, Any, Any]] = field(default_factory=list)
    _num_rows: int = 0

    def check_trained(self, model: Any) -> None:
        """See that an arm trains what it should: a LoRA adapter on all language linears, and nothing else."""
        found = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        if found != self.job.num_trained:
            raise ValueError(f"{found:,} parameters are trained, not {self.job.num_trained:,}")

    def follow(self, model: Any) -> None:
        """Look at every batch that a Hugging Face model is called with to learn from it."""
        import torch

        self.check_trained(model)

        def look(module: Any, args: Any, batch: dict[str, Any]) -> None:
            if not torch.is_grad_enabled():
                return  # what a reference thinks of the same rows
            self._seen.append(tuple(batch[key].clone() for key in ("input_ids", "attention_mask", "labels")))

        model.register_forward_pre_hook(look, with_kwargs=True)

    def begin(self) -> None:
        """Start the clock; before anything of a first step is done."""
        self._began = _now()

    def step_done(self, *, num_questions: int | None = None, executed_tokens: int | None = None) -> None:
        """Stop the clock after an optimizer step, check what was run in it, start the clock again.

        Args:
            num_questions: what an arm without `follow` has checked itself.
            executed_tokens: likewise.
        """
        import torch

        self.seconds.append(_now() - self._began)
        self.num_questions.append(self._check() if num_questions is None else num_questions)
        self.executed_tokens.append(sum(ids.numel() for ids, _, _ in self._seen) + (executed_tokens or 0))
        self._seen.clear()
        if torch.cuda.is_available():
            if len(self.seconds) > self.warmup:
                self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
        self._began = _now()

    def _check(self) -> int:
        """Compare the rows that were seen with the workload; return how many questions they held."""
        import torch

        first = self._num_rows
        for input_ids, attention_mask, labels in self._seen:
            left_out = input_ids.shape[1] - labels.shape[1]  # ms-swift passes no labels before the first that is learnt
            labels = torch.nn.functional.pad(labels, (left_out, 0), value=NOT_LEARNT)
            for ids, mask, targets in zip(input_ids.cpu(), attention_mask.cpu().bool(), labels.cpu(), strict=True):
                if self.job.workload.token_ids:
                    self._compare(ids[mask].tolist(), targets[mask].tolist())
                self._num_rows += 1
        return sum(map(len, self.job.rows[first : self._num_rows])) // (2 if self.job.pairs else 1)

    def _compare(self, token_ids: list[int], labels: list[int]) -> None:
        numbers, workload = self.job.rows[self._num_rows], self.job.workload
        found, expected = (token_ids, labels), (workload.token_ids[numbers[0]], workload.labels[numbers[0]])
        if self.job.merged:  # other prompts by design; what is learnt must still be the same
            found, expected = [label for label in labels if label != NOT_LEARNT], workload.learnt(numbers)
        if found != expected:
            asked = [workload.questions[number].question for number in numbers]
            raise ValueError(f"row {self._num_rows} {asked}: {str(found)[-300:]} is run, not {str(expected)[-300:]}")


def adapter_type(model: Any) -> str:
    """Name the type of what a model trains."""
    return ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}))


def _now() -> float:
    """Read the clock once the device has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

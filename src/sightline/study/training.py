"""The keys of one training run, with their units, defaults and where each default comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from sightline.study.keys import Keys, Names, key


class Lora(Keys):
    """The low-rank adapter."""

    rank: int = key(16, "the common choice for a few thousand rows; QLoRA (2023) found little effect of rank", ge=1)
    """Width of the two low-rank factors."""
    alpha: float = key(32, "twice the rank, as LLaVA-1.5 (128 and 256)", gt=0)
    """Scale: the update is multiplied by alpha / rank (alpha / sqrt(rank) with rslora)."""
    dropout: float = key(0.05, "LLaVA-1.5's training code", ge=0, lt=1)
    """Share of the adapter's inputs set to zero while training."""
    bias: Literal["none", "all", "lora_only"] = key("none", "PEFT's default")
    """Which biases are trained beside the adapter."""
    rslora: bool = key(False, "PEFT's default")
    """Scale by alpha / sqrt(rank), which keeps large ranks stable (Kalajdzievski 2023)."""
    dora: bool = key(False, "PEFT's default")
    """Learn magnitude and direction apart (Liu et al. 2024)."""
    targets: str | None = key(None, "QLoRA (2023): every linear layer, here of the language model alone")
    """Regular expression for the names of the layers that get an adapter."""


class Stage(Keys):
    """One part of a curriculum: which rows, and for how long."""

    on: Names = key((), "the step's own `on`")
    """Data of this stage, as `set.split`; a name or a list."""
    where: dict[str, str | int | float | bool | list[str | int | float | bool]] = key({}, "every row")
    """Tags with the value, or the list of values, that a row must have; `num_pictures` is one, too, and so is
    `answer_type` where the data has none: CLOSED where the answer is yes or no, else OPEN."""
    epochs: float | None = key(None, "one of epochs and max_steps is needed", gt=0)
    """Passes over the stage's rows."""
    max_steps: int | None = key(None, "one of epochs and max_steps is needed", ge=1)
    """Optimizer steps."""

    @model_validator(mode="after")
    def _one_length(self) -> Stage:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("needs exactly one of epochs and max_steps")
        return self


class Training(Keys):
    """Everything that decides one training run, given a model and rows."""

    batch_size: int = key(16, "QLoRA (2023), table 9, for 7B and 13B", ge=1)
    """Samples per optimizer step, over all ranks."""
    row_tokens: int | Literal["auto"] = key("auto", "`hardware.row_tokens`")
    """Tokens per micro-batch; gradient accumulation follows from it. `auto`: as `hardware` says."""
    branch_cap: int | None = key(
        12, "our own measurement: nothing lost, and no more tokens unless images have more questions", ge=1
    )
    """Most questions of one image that stay together when samples are shuffled; null: batch_size."""
    layout: Literal["tree", "flat"] = key("tree", "same numbers as flat, each picture computed once")
    """`tree` shares common prefixes; `flat` is the reference without sharing."""
    epochs: float | None = key(3, "the usual length for a few thousand rows; LLaVA-1.5 uses 1 on 665,000", gt=0)
    """Passes over the rows. Give this or max_steps."""
    max_steps: int | None = key(None, "epochs decides", ge=1)
    """Optimizer steps, in place of epochs."""
    learning_rate: float = key(2e-4, "QLoRA (2023), table 9; LLaVA-1.5's LoRA script", gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = key("cosine", "LLaVA-1.5's LoRA script")
    """How the learning rate falls after warmup; cosine and linear end at zero."""
    warmup: float = key(0.03, "LLaVA-1.5's LoRA script", ge=0)
    """Warmup: a share of all optimizer steps when below 1, else a number of optimizer steps."""
    weight_decay: float = key(0.0, "LLaVA-1.5's LoRA script", ge=0)
    """Decoupled weight decay of AdamW."""
    clip: float = key(1.0, "Transformers' default", gt=0)
    """Largest global L2 norm of the gradient; larger ones are scaled down."""
    seeds: tuple[int, ...] = key((), "one run, with seed 0 and no @SEED in its name")
    """Repeat this step and all that follows from it once per seed. Root steps only."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = key("auto", "`hardware.precision`")
    """Number format of the frozen weights and of matrix products. `auto`: as `hardware` says."""
    save_every: int = key(100, "some minutes of work at most are lost", ge=1)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = key(2, "one to resume from and one in reserve", ge=1)
    """How many checkpoints stay on disk; each holds what `keep` needs."""
    eval_every: int | None = key(None, "the end of every epoch", ge=1)
    """Optimizer steps between measurements of the validation loss; there is one at the end in any case."""
    keep: Literal["last", "best"] = key("last", "no choice, hence no bias from choosing")
    """Which state becomes the model: the last, or the best by validation loss (never by test)."""
    on_bad_row: Literal["stop", "skip"] = key("stop", "a fault is looked at before it is passed over")
    """What happens to a row that cannot be used; skipped rows are counted and named in the report."""
    train_on: Literal["answer", "all"] = key("answer", "LLaVA-1.5: loss on the assistant's words")
    """Which tokens are targets: the answer with its end, or every text token."""
    eos: Literal["auto", "none"] = key("auto", "a model that never learns to stop does not stop")
    """`auto`: the end of the turn is a target; `none`: it is not."""
    quantize: Literal["nf4", "int8"] | None = key(None, "full-precision weights")
    """Format the frozen weights are stored in (bitsandbytes)."""
    lora: Lora = key(Lora(), "see below; with `from` another step, that step's")
    """The low-rank adapter. A step `from` another one goes on with its adapter and need not repeat this."""
    train: tuple[Literal["projector", "vision"], ...] = key((), "only the adapter is trained")
    """Modules trained in full beside the adapter; with `from` another step, those of that step."""
    optimizer: Literal["adamw", "adamw_8bit"] = key("adamw", "Loshchilov and Hutter 2019; betas 0.9, 0.999 of PyTorch")
    """Optimizer; its moments take 8 bits each in adamw_8bit (bitsandbytes)."""
    gradient_checkpointing: bool = key(False, "a tree row often fits without; it costs about a third more time")
    """Recompute activations in the backward pass to save memory."""
    offload: Literal["none", "activations", "optimizer", "parameters"] = key("none", "fastest")
    """What waits in host memory between uses; activations, best with gradient_checkpointing."""
    min_pixels: int | None = key(None, "the processor's own", ge=1)
    """Fewest pixels per picture (Qwen families)."""
    max_pixels: int | None = key(None, "the processor's own", ge=1)
    """Most pixels per picture (Qwen families)."""
    pad_square: bool = key(False, "the Hugging Face processor's cropping")
    """Pad pictures to a square with the mean colour, as LLaVA's original code does."""
    template: str = key("own", "the template the model was trained with")
    """Chat template: `own`, or a file."""
    system: str | None = key(None, "the template's own")
    """System turn put before every conversation."""
    question_suffix: str = key("", "questions as the data has them")
    """Text added to every question, in training and evaluation alike."""
    stages: tuple[Stage, ...] = key((), "one stage: all rows, shuffled")
    """A curriculum: parts that follow one another, each with its own length in place of the step's."""
    carry_over: Literal["all", "weights"] = key("all", "one training, whose rows come in an order")
    """What a stage takes over: all (one optimizer and one learning-rate schedule), or weights alone, as trainings of
    their own would."""

    @model_validator(mode="before")
    @classmethod
    def _max_steps_replaces_epochs(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("max_steps") is not None and "epochs" not in values:
            return {**values, "epochs": None}
        return values

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(f"epochs is {self.epochs} and max_steps is {self.max_steps}; give exactly one of them")
        if isinstance(self.row_tokens, int) and self.row_tokens < 1:
            raise ValueError(f"row_tokens is {self.row_tokens}; give a positive number of tokens, or auto")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} names a seed twice")
        return self


class PreferenceTraining(Training):
    """A training run on preference pairs: `Training` and the keys of DPO (Rafailov et al. 2023)."""

    epochs: float | None = key(1, "HA-DPO (Zhao et al. 2023)", gt=0)
    """Passes over the pairs. Give this or max_steps."""
    learning_rate: float = key(2e-6, "HA-DPO (Zhao et al. 2023)", gt=0)
    """Peak learning rate."""
    beta: float = key(0.1, "Rafailov et al. 2023, appendix B", gt=0)
    """How strongly the policy is held to the reference."""
    loss: Literal["sigmoid", "sigmoid_norm", "hinge", "ipo"] = key("sigmoid", "Rafailov et al. 2023, equation 7")
    """Loss on the margin of rewards: DPO's, the same on means over tokens, SLiC's hinge, or IPO's square."""
    label_smoothing: float = key(0.0, "Rafailov et al. 2023", ge=0, lt=0.5)
    """Assumed share of wrongly ordered pairs."""
    sft_weight: float = key(0.0, "Rafailov et al. 2023: no such term", ge=0)
    """Weight of the chosen answer's own loss per token."""
    flip: float = key(0.0, "pairs as the data has them", ge=0, le=1)
    """Share of the pairs reversed before training: a control that should remove the gain."""
    collapse: float | None = key(2.0, "our own choice: seven times less likely with each token", gt=0)
    """Stop when, over ten steps, chosen and rejected answers alike are this many nats per token less likely than under
    the reference; null: never."""

    @model_validator(mode="after")
    def _loss_fits(self) -> PreferenceTraining:
        if self.label_smoothing and self.loss in ("hinge", "ipo"):
            raise ValueError(f"label_smoothing is {self.label_smoothing}, and loss: {self.loss} has none")
        if self.train_on != "answer":
            raise ValueError(f"train_on is {self.train_on!r}; preferences are between answers")
        return self

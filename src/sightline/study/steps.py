"""The keys of a step, method by method: a model or a data set that the study makes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sightline.study.keys import Keys, MemberName, Names, key
from sightline.study.training import PreferenceTraining, Training


class Sft(Training):
    """Supervised fine-tuning: makes a model."""

    method: Literal["sft"] = key("sft", "the first method of every project")
    """Supervised fine-tuning on reference answers."""
    from_: str = key("base", "the study's base", alias="from")
    """The model it starts from."""
    on: Names = key((), "the only data set's train split")
    """Data it trains on, as `set.split`; a name or a list."""
    members: dict[MemberName, dict[str, Any]] = key({}, "one model")
    """Variants by name, each with the training keys that differ (`lora.alpha: 16`)."""
    grid: dict[str, tuple[Any, ...]] = key({}, "one model")
    """Short for members: training keys with the values to cross."""


class Dpo(PreferenceTraining):
    """Direct preference optimisation: makes a model."""

    method: Literal["dpo"] = key()
    """Direct preference optimisation on pairs of answers."""
    from_: str = key("base", "the study's base", alias="from")
    """The model it starts from, which is also the reference."""
    on: Names = key((), "the only data set's train split")
    """Pairs it trains on: a data set, or a step that makes pairs."""
    members: dict[MemberName, dict[str, Any]] = key({}, "one model")
    """Variants by name, each with the training keys that differ."""
    grid: dict[str, tuple[Any, ...]] = key({}, "one model")
    """Short for members: training keys with the values to cross."""


class Average(Keys):
    """The mean of several adapters: makes a model."""

    method: Literal["average"] = key()
    """The mean of the weight changes, not of their factors."""
    from_: Names = key(alias="from")
    """A step with members, or a list of models."""
    weights: tuple[float, ...] | None = key(None, "equal weights")
    """One weight per model, in the order of `from`."""
    svd_rank: int | None = key(None, "the exact sum, of added rank", ge=1)
    """Rank to compress the mean to; null keeps it exact."""


class Critique(Keys):
    """Preference pairs that a model makes by judging its own answers: makes data."""

    method: Literal["critique"] = key()
    """Sample answers, let a judge prefer one, keep pairs."""
    from_: str = key(alias="from")
    """The model that answers."""
    on: Names = key()
    """Questions it answers, as `set.split`."""
    judge: str = key("self", "the model that answered")
    """Who prefers: `self`, another model, a judge of `judges` with `kind: pairwise`, or a metric."""
    rows: int | None = key(None, "all", ge=1)
    """Most rows to use: drawn at random, picture by picture, by the seed."""
    samples: int = key(2, "the fewest that make a pair", ge=2)
    """Answers per question."""
    temperature: float = key(1.0, "the model's own distribution", ge=0)
    """Sampling temperature."""
    top_k: int | None = key(None, "the model's own distribution", ge=1)
    """Sample among this many most likely tokens."""
    max_new_tokens: int | None = key(None, "evaluate.max_new_tokens", ge=1)
    """Longest answer, in tokens."""


class BestOf(Keys):
    """The best of several answers per question, as training data: makes data."""

    method: Literal["best_of"] = key()
    """Rejection sampling."""
    from_: str = key(alias="from")
    """The model that answers."""
    on: Names = key()
    """Questions it answers, as `set.split`."""
    by: str = key()
    """Metric or judge that ranks the answers."""
    rows: int | None = key(None, "all", ge=1)
    """Most rows to use: drawn at random, picture by picture, by the seed."""
    samples: int = key(4, "a few; more costs more", ge=2)
    """Answers per question."""
    temperature: float = key(1.0, "the model's own distribution", ge=0)
    """Sampling temperature."""
    top_k: int | None = key(None, "the model's own distribution", ge=1)
    """Sample among this many most likely tokens."""
    max_new_tokens: int | None = key(None, "evaluate.max_new_tokens", ge=1)
    """Longest answer, in tokens."""


class Choose(Keys):
    """The best of several models by validation: makes a model."""

    method: Literal["choose"] = key()
    """Choose by validation, never by test."""
    from_: Names = key(alias="from")
    """A step with members, or a list of models."""
    on: Names = key()
    """Validation data, as `set.split`."""
    by: str = key("nll", "the validation loss")
    """Metric that decides."""


def with_method(step: Any) -> Any:
    """Read a step that names no method as supervised fine-tuning."""
    return {"method": "sft", **step} if isinstance(step, dict) else step


Step = Annotated[
    Annotated[Sft | Dpo | Average | Critique | BestOf | Choose, Field(discriminator="method")],
    BeforeValidator(with_method),
]

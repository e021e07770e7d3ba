"""Checks on the study's plan, which need no data: what comparisons vary, what members differ in, unusual settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sightline.checking.findings import Finding
from sightline.study import Comparison, Stage, StepRun, Training
from sightline.study.names import run_name

WITHOUT_EFFECT = frozenset(
    {
        "seeds", "save_every", "keep_checkpoints", "eval_every", "on_bad_row", "row_tokens", "layout",
        "gradient_checkpointing", "offload",
    }
)  # fmt: skip
"""Training keys that leave the trained model as it is, up to rounding."""

LENGTH = ("epochs", "max_steps")

USUAL: Mapping[str, tuple[float, float, str]] = {
    "learning_rate": (1e-6, 5e-3, "adapters are tuned with 1e-5 to 1e-3"),
    "lora.rank": (1, 512, "adapters have ranks of 4 to 256"),
    "lora.dropout": (0, 0.5, "0 to 0.1 is usual"),
    "epochs": (0, 20, "sets of a few thousand rows are learnt by heart within 3 to 5 passes"),
    "warmup share": (0, 0.5, "3 to 10% of the steps are usual"),
}
"""Training keys with the least and the greatest value that somebody has reason to use, and what is usual."""

USUAL_PREFERENCE: Mapping[str, tuple[float, float, str]] = {
    **USUAL,
    "learning_rate": (1e-8, 1e-4, "preferences are learnt with 5e-7 to 5e-5"),
    "beta": (0.01, 2, "0.1 is usual, 0.01 to 0.5 are tried"),
}

USUAL_SCALE = (1 / 16, 16)
"""Of an adapter's update: alpha over rank, or over the root of rank with rslora; 1 to 2 is usual."""


def check_comparisons(
    comparisons: Sequence[Comparison], runs: Sequence[StepRun], bases: Mapping[str, str]
) -> Iterator[Finding]:
    """Find stated comparisons in which several factors change at once, so that none can be said to matter.

    A model against one that it was made from is one change, whatever the training was.

    Args:
        comparisons: the study's questions.
        runs: what the study makes.
        bases: the base of every model.
    """
    made = {run.name: run for run in runs}
    for comparison in comparisons:
        model, against = comparison.pairs[0]
        left, right = _chain(model, made), _chain(against, made)
        factors = _factors(left, right, model, against)
        if bases.get(model) != bases.get(against):
            factors["base"] = f"{bases.get(model)} and {bases.get(against)}"
        if len(factors) < 2:
            continue
        told = "; ".join(f"{name}: {values}" for name, values in factors.items())
        first, *_ = factors
        both_made = bool(left and right)
        yield Finding(
            name="several-factors-changed",
            severity="fault" if both_made else "warning",
            message=f"{comparison.model} against {comparison.against}: {len(factors)} things change at once ({told}), "
            "so a difference says nothing about any one of them",
            remedy=f"compare models that differ in one, for example only in {first}, and add the others as members of "
            "their own; accepted, the verdict is about two recipes",
            evidence={"model": comparison.model, "against": comparison.against, "factors": factors},
        )


def check_budgets(
    comparisons: Sequence[Comparison], runs: Sequence[StepRun], num_steps: Mapping[str, int]
) -> Iterator[Finding]:
    """Find stated comparisons of different data, or of different orders, in which the trainings differ in length too.

    Passes over other rows are other numbers of steps. In a comparison of curricula, which is about an order, that is a
    fault; elsewhere more rows usually mean more steps.

    Args:
        comparisons: the study's questions.
        runs: what the study makes.
        num_steps: optimizer steps of every run that trains.
    """
    made = {run.name: run for run in runs}
    for comparison in comparisons:
        model, against = comparison.pairs[0]
        chains = _chain(model, made), _chain(against, made)
        factors = _factors(*chains, model, against)
        steps = [sum(num_steps.get(run.name, 0) for run in chain) for chain in chains]
        if "data" not in factors or "length of training" in factors or steps[0] == steps[1]:
            continue
        is_about_order = any(run.training and run.training.stages for chain in chains for run in chain)
        yield Finding(
            name="several-factors-changed",
            severity="fault" if is_about_order else "warning",
            message=f"{comparison.model} against {comparison.against}: trained for {steps[0]:,} and {steps[1]:,} "
            "optimizer steps, on different data, so a difference may come from either",
            remedy="give both the same number of steps: max_steps of the step, or of all its stages together",
            evidence={"model": comparison.model, "against": comparison.against, "num_steps": steps},
        )


def _chain(model: str, made: Mapping[str, StepRun]) -> list[StepRun]:
    """List the steps that made a model, the first first; of a model with several parents, only its own step."""
    chain: list[StepRun] = []
    while model in made:
        chain.insert(0, made[model])
        if len(made[model].parents) > 1:
            break
        model = made[model].parents[0]
    return chain


def _factors(left: Sequence[StepRun], right: Sequence[StepRun], model: str, against: str) -> dict[str, str]:
    names = ([run.name for run in left], [run.name for run in right])
    if against in names[0] or model in names[1] or left == right:
        return {}
    if not left or not right:
        return {"training": "one is trained in this study, one is not"}
    factors: dict[str, str] = {}

    def note(factor: str, one: object, other: object) -> None:
        if one != other:
            factors[factor] = f"{_shown(one)} and {_shown(other)}"

    note("method", *([*dict.fromkeys(run.method for run in chain)] for chain in (left, right)))
    if factors:  # the data and keys of one method mean nothing in another
        return factors
    note("data", _data(left), _data(right))
    lengths = _length(left), _length(right)
    if None not in lengths:
        note("length of training", *lengths)
    if all(carried := [_carried(chain) for chain in (left, right)]):
        note("carry_over", *carried)
    settings = [[_settings(run.training) for run in chain if run.training] for chain in (left, right)]
    for name in dict.fromkeys(name for chain in settings for values in chain for name in values):
        one, other = ({values.get(name) for values in chain} for chain in settings)
        note(name, sorted(one, key=str), sorted(other, key=str))
    if {"lora.rank", "lora.alpha"} <= factors.keys() and _scales(left) == _scales(right):
        factors["lora.rank"] += " (alpha with it)"
        del factors["lora.alpha"]
    return factors


def _data(chain: Sequence[StepRun]) -> list[str]:
    """What is learnt, in order; parts of one training and trainings that follow one another are told alike."""
    learnt: list[str] = []
    for run in chain:
        stages = run.training.stages if run.training else ()
        for names, stage in zip(run.stage_data, stages, strict=True):
            wanted = " and ".join(f"{tag} {_alternatives(value)}" for tag, value in stage.where.items())
            learnt.append("+".join(names) + (f" where {wanted}" if wanted else ""))
        learnt += [] if stages else ["+".join(run.on)]
    return learnt


def _alternatives(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _length(chain: Sequence[StepRun]) -> dict[str, float] | None:
    """Passes and steps of all trainings and of all their stages, added up; None where passes differ in what they are.

    How long passes over a stage's rows are, only the data tell: see `check_budgets`.
    """
    total = dict.fromkeys(LENGTH, 0.0)
    for run in chain:
        stages = run.training.stages if run.training else ()
        if any(stage.epochs for stage in stages):
            return None
        for name in LENGTH:
            total[name] += sum(getattr(part, name) or 0 for part in stages or (run.training,) if part)
    return {name: value for name, value in total.items() if value}


def _carried(chain: Sequence[StepRun]) -> list[str]:
    """What later stages take over from earlier ones; nothing where no training has several."""
    return sorted({run.training.carry_over for run in chain if run.training and len(run.training.stages) > 1})


def _settings(training: Training) -> dict[str, str]:
    values = training.model_dump(mode="json", exclude={*WITHOUT_EFFECT, *LENGTH, "stages", "carry_over", "lora"})
    lora = {f"lora.{name}": value for name, value in training.lora}
    return {name: str(value) for name, value in {**values, **lora}.items()}


def _scales(chain: Sequence[StepRun]) -> list[float]:
    return [run.training.lora.alpha / run.training.lora.rank for run in chain if run.training]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {amount:g}" for name, amount in value.items()) or "none"
    return ", then ".join(map(str, value)) if isinstance(value, list) else str(value)


def check_members(runs: Sequence[StepRun]) -> Iterator[Finding]:
    """Find models that are trained in exactly the same way under two names."""
    seen: dict[tuple[object, ...], str] = {}
    for run in runs:
        if run.training is None:
            continue
        # What a stage takes over means nothing where there is but one.
        unused = ["carry_over"] if len(run.training.stages) < 2 else []
        settings = run.training.model_dump(mode="json", exclude={*WITHOUT_EFFECT, *unused})
        key = (run.method, run.parents, run.on, run.validation, run.seed, str(sorted(settings.items())))
        if key in seen:
            yield Finding(
                name="identical-members",
                severity="warning",
                message=f"{run.name} is trained exactly as {seen[key]}: same data, settings and seed, so it is the "
                "same model twice",
                remedy="change what was meant to differ, or remove one",
                evidence={"models": [seen[key], run.name]},
            )
        seen.setdefault(key, run.name)


def check_habits(runs: Sequence[StepRun]) -> Iterator[Finding]:
    """Find settings far outside what the field uses."""
    told: dict[str, list[str]] = {}
    for run in runs:
        if run.training is None:
            continue
        for sentence in _unusual(run.training):
            told.setdefault(sentence, []).append(run.name)
    for sentence, names in told.items():
        yield Finding(
            name="unusual-setting",
            severity="warning",
            message=f"{', '.join(names)}: {sentence}",
            remedy="see whether a digit or an exponent is wrong",
            evidence={"models": names},
        )


def _unusual(training: Training) -> Iterator[str]:
    values: dict[str, float | None] = {
        "learning_rate": training.learning_rate,
        "lora.rank": training.lora.rank,
        "lora.dropout": training.lora.dropout,
        "epochs": training.epochs,
        "warmup share": training.warmup if training.warmup < 1 else 0,
        "beta": getattr(training, "beta", None),
    }
    usual = USUAL if values["beta"] is None else USUAL_PREFERENCE
    for name, (least, most, habit) in usual.items():
        value = values[name]
        if value is not None and not least <= value <= most:
            yield f"{name} {value:g} is far outside what the field uses; {habit}"
    scale = training.lora.alpha / training.lora.rank ** (0.5 if training.lora.rslora else 1)
    if not USUAL_SCALE[0] <= scale <= USUAL_SCALE[1]:
        yield (
            f"lora.alpha {training.lora.alpha:g} with rank {training.lora.rank} multiplies the update by {scale:g}; "
            "alpha of once or twice the rank is usual"
        )


def check_to_be_made(run: StepRun, num_questions: int) -> Iterator[Finding]:
    """Say of a set that a step makes that there is nothing to look at yet.

    Args:
        run: the step.
        num_questions: how many rows it asks about.
    """
    yield Finding(
        name="rows-to-be-made",
        severity="note",
        message=f"{run.name}: made by the study itself, from {num_questions:,} questions of {', '.join(run.on)}; its "
        "rows are checked when they are made",
        evidence={"num_questions": num_questions, "on": list(run.on), "from": run.parent},
    )


def check_share_seen(runs: Sequence[StepRun], num_rows: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """Find steps that stop before they have seen half of their rows; each is named once, whatever its seeds.

    Args:
        runs: the steps; those that are not in `num_rows` are passed over.
        num_rows: rows that a run learns from, by its name; of a curriculum, those of each stage.
    """
    told: dict[str, tuple[str, int, int]] = {}
    for run in runs:
        if (training := run.training) is None or run.name not in num_rows:
            continue
        parts = list(zip(training.stages or (training,), num_rows[run.name], strict=True))
        seen = sum(_rows_seen(part, training.batch_size, rows) for part, rows in parts)
        how = ", then ".join(_how_long(part, training.batch_size) for part, _ in parts)
        told.setdefault(run_name(run.step, run.member, None), (how, seen, sum(rows for _, rows in parts)))
    for name, (how, seen, offered) in told.items():
        if seen * 2 < offered:
            yield Finding(
                name="data-partly-seen",
                severity="warning",
                message=f"{name}: {how} see {seen:,} of {offered:,} rows, so what the result says is true of these",
                remedy="raise max_steps or epochs, or say with `take` which rows are meant",
                evidence={"num_seen": seen, "num_rows": offered},
            )


def _rows_seen(part: Training | Stage, batch_size: int, num_rows: int) -> int:
    seen = int((part.epochs or 0) * num_rows) if part.max_steps is None else part.max_steps * batch_size
    return min(seen, num_rows)


def _how_long(part: Training | Stage, batch_size: int) -> str:
    return f"{part.epochs} epochs" if part.max_steps is None else f"{part.max_steps} steps of {batch_size} rows"

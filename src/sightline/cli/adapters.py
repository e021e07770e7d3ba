"""Commands that take adapters: average them, hand one over, fold one into its base, prove that nothing was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sightline.cli.app import AsJson, adapter, print_json
from sightline.errors import StudyError

Model = Annotated[str, typer.Argument(help="DIR:MODEL of a study, an adapter's folder, or its name on the hub.")]
Base = Annotated[str | None, typer.Option(help="The base it sits on; as its own configuration says by default.")]
Out = Annotated[Path, typer.Option(help="The folder to make.")]
Quantize = Annotated[
    Literal["nf4", "int8"] | None,
    typer.Option(help="Fold it into the base as it is after having been stored so; the result is in plain weights."),
]
Precision = Annotated[Literal["bf16", "fp16", "fp32"], typer.Option(help="Type of the merged weights.")]


@adapter.command()
def average(
    models: Annotated[list[str], typer.Argument(help="Each as DIR:MODEL, a folder, or a name on the hub.")],
    out: Out,
    weights: Annotated[str | None, typer.Option(help="One per model, e.g. 2,1,1; equal ones by default.")] = None,
    svd_rank: Annotated[int | None, typer.Option(min=1, help="Compress to this rank, and say what that loses.")] = None,
    naive: Annotated[
        bool, typer.Option("--naive", help="Average the factors A and B instead, which is another thing; to compare.")
    ] = False,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Average what adapters add to the weights, exactly."""
    from sightline.runner.adapters import average_adapters

    made = average_adapters(models, out, weights=_numbers(weights), svd_rank=svd_rank, naive=naive, base=base)
    told = made.pop("told")
    if as_json:
        print_json({"folder": str(out), **made})
    else:
        print(f"{told}\n{out}")


@adapter.command()
def export(
    model: Model,
    out: Out,
    merged: Annotated[bool, typer.Option("--merged", help="Fold it into its base, as `merge` does.")] = False,
    precision: Precision = "bf16",
    quantize: Quantize = None,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Hand an adapter over in PEFT's format, or merged, with the command by which vLLM serves it."""
    from sightline.runner.adapters import export_adapter, merge_into_base

    if merged:
        made = merge_into_base(model, out, precision=precision, quantize=quantize, base=base)
    else:
        made = export_adapter(model, out, base=base)
    _print_made(made, as_json)


@adapter.command()
def merge(
    model: Model,
    out: Out,
    precision: Precision = "bf16",
    quantize: Quantize = None,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its freshly loaded base: a model that plain transformers loads."""
    from sightline.runner.adapters import merge_into_base

    _print_made(merge_into_base(model, out, precision=precision, quantize=quantize, base=base), as_json)


@adapter.command()
def parity(
    model: Model,
    merged: Annotated[Path | None, typer.Option(help="What `merge` wrote; merged in memory by default.")] = None,
    data: Annotated[str | None, typer.Option(help="What to ask; the study's test questions by default.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many of its first rows.")] = 32,
    precision: Annotated[
        Literal["bf16", "fp16", "fp32"] | None, typer.Option(help="In which all compute; as the study by default.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 32,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Hold base with adapter, merged and 4-bit side by side: log-probabilities, answers, and where they part."""
    from sightline.runner.parity import compare_forms, told_forms

    found = compare_forms(
        model,
        merged=merged,
        data=data,
        rows=rows,
        precision=precision,
        max_new_tokens=max_new_tokens,
        base=base,
    )
    if as_json:
        print_json(found)
    else:
        print("\n".join(told_forms(found)))


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise StudyError(f"--weights {text}: write numbers with commas between, e.g. 2,1,1") from None


def _print_made(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print("\n".join(f"note: {note}" for note in made["notes"]) + "\n" * bool(made["notes"]) + made["folder"])
    if made["command"]:
        print(made["command"])

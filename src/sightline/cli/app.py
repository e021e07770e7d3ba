"""The command line's application, and what its commands share."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.errors import install_advice

TRAINING_PACKAGES = ("accelerate", "datasets", "peft", "safetensors", "torch", "transformers")
"""What the extra `train` brings."""

app = typer.Typer(
    name="sightline",
    help="Post-train a vision-language model, and know whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

adapter = typer.Typer(
    help="Average adapters, fold one into its base, hand one over, and prove that nothing was lost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.add_typer(adapter, name="adapter")

StudyFile = Annotated[Path, typer.Argument(help="A study file, or a study's directory.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a key, e.g. --set steps.sft.epochs=1.")]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Whether the report's figures/ is drawn.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]


def missing_extra(error: ImportError) -> str:
    """Say what to install where a package of the extra `train` is not there; any other error is raised again."""
    package = (error.name or "").partition(".")[0]
    if package not in TRAINING_PACKAGES or importlib.util.find_spec(package) is not None:
        raise error
    return f"this needs {package}; {install_advice('train')}"


def print_json(value: Any) -> None:
    """Print one JSON object on a line of its own."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))

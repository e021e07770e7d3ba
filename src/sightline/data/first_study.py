"""The first study of somebody's data: written out of what the columns seem to mean, with a remark on every choice."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from sightline.data.columns import COLUMN_NAMES
from sightline.data.guess import Guess
from sightline.data.shares import SHARES

_KNOWN: Mapping[str, str] = {
    **{field: names[0] for field, names in COLUMN_NAMES.items()},
    "prompt": COLUMN_NAMES["question"][0],
    "chosen": "chosen",
    "rejected": "rejected",
}
"""Our name of a field to the column that need not be named."""


def study_text(
    guess: Guess,
    *,
    name: str,
    folder: Path,
    shares: Mapping[str, float] = SHARES,
    remark: str = "",
    base: str = "llava-hf/llava-1.5-7b-hf",
) -> str:
    """Write a first study of the guessed data, with a comment on every line that one may want to change.

    Args:
        guess: what the columns mean.
        name: the study's name; what a name cannot hold becomes a hyphen.
        folder: where the study file will be; its paths start from there.
        shares: of the splits.
        remark: about them.
        base: the model to tune.

    Returns:
        The text of a study file.
    """
    study = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "study"
    data = re.sub(r"[^a-z0-9]+", "_", guess.file.stem.lower()).strip("_") or "mine"
    split = _yaml({**shares, "by": guess.patient or "image"})
    kept = f"By {guess.patient}: nobody's pictures are" if guess.patient else "By image: no picture is"
    write = _preferences if guess.is_preferences else _answers
    return f"""\
# {guess.num_rows:,} rows about {guess.num_pictures:,} pictures.
# See what the model will see: sightline show FILE; look for faults: sightline check FILE; do it: sightline run FILE
name: {_yaml(study)}
base: {_yaml(base)}    # a name on the hub, a folder, or builtin:tiny to try it without a GPU

data:
  {data}:
    source: {_yaml(_from(folder, guess.file))}
    images: {_yaml(_from(folder, guess.images))}
    format: {guess.format}
    # Guessed; correct it if a column is something else:
{_reasons(guess)}
    columns: {_yaml(_columns(guess.columns))}
    # {kept} in two parts, or the test would show what was memorised.
{f"    # {remark}{chr(10)}" if remark else ""}    split: {split}
{write(guess, data, split, folder)}"""


def _answers(guess: Guess, data: str, split: str, folder: Path) -> str:
    metrics = ["exact_match", "closed_accuracy", "nll"] if guess.has_yes_no else ["exact_match", "nll"]
    if guess.format == "llava":
        metrics = ["nll", "exact_match"]
    return f"""
steps:
  sft:
    method: sft
    from: base
    on: {data}.train
    lora: {{rank: 16}}
    epochs: 1

evaluate:
  on: {data}.test
  metrics: {_yaml(metrics)}

# The question this study answers, stated before it runs.
compare:
  - {{model: sft, against: base, by: {metrics[0]}}}
"""


def _preferences(guess: Guess, data: str, split: str, folder: Path) -> str:
    asked = f"{data}_asked"
    columns = {"question": guess.columns["prompt"], "answer": guess.columns["chosen"]}
    columns |= {key: guess.columns[key] for key in ("image", "id", "tags") if key in guess.columns}
    return f"""\
  # The same rows to be asked, with the chosen answers as references; cut alike, so its test pictures are not learnt
  # (as long as no row is left out; check says so).
  {asked}:
    source: {_yaml(_from(folder, guess.file))}
    images: {_yaml(_from(folder, guess.images))}
    format: {guess.format}
    columns: {_yaml(_columns(columns))}
    split: {split}

steps:
  # To learn the chosen answers first: sft: {{on: {asked}.train}}, and from: sft here.
  dpo:
    method: dpo
    from: base
    on: {data}.train
    beta: 0.1
    lora: {{rank: 16}}
    epochs: 1

evaluate:
  on: {asked}.test
  metrics: [token_f1, nll, answer_length]

# The questions this study answers, stated before it runs. Preferences often change how long answers are, too.
compare:
  - {{model: dpo, against: base, by: token_f1}}
  - {{model: dpo, against: base, by: answer_length}}
"""


def _reasons(guess: Guess) -> str:
    return "\n".join(
        f"    #   {key}: {_yaml(guess.columns[key])}, since {reason}" for key, reason in guess.reasons.items()
    )


def _columns(columns: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Keep the columns whose names say nothing to the reader of the file."""
    return {key: column for key, column in columns.items() if _KNOWN.get(key) != column}


def _from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")

"""The tables of docs/study-file.md, made from the keys themselves.

`python -m sightline.study.reference docs/study-file.md` brings the page up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightline.study.schema import (
    AnswerDecoding,
    Budget,
    Compare,
    Cut,
    Data,
    Evaluate,
    Hardware,
    Judge,
    OtherModel,
    Split,
    Study,
    Track,
)
from sightline.study.servers import Served
from sightline.study.steps import Average, BestOf, Choose, Critique, Dpo, Sft
from sightline.study.training import Lora, PreferenceTraining, Stage, Training

START = "<!-- keys: made by `python -m sightline.study.reference docs/study-file.md`, not by hand -->"
END = "<!-- end of keys -->"

BLOCKS: tuple[tuple[str, type[BaseModel], type[BaseModel] | None], ...] = (  # title, keys, keys listed elsewhere
    ("The study", Study, None),
    ("`data.NAME`", Data, None),
    ("`data.NAME.split`", Split, None),
    ("`data.NAME.split.PART`, cut out of a released split", Cut, None),
    ("`steps.NAME` with `method: sft`, beside the training keys", Sft, Training),
    ("`steps.NAME` with `method: dpo`, beside the training keys", Dpo, PreferenceTraining),
    ("Training keys of `sft` and `dpo`", Training, None),
    ("Training keys of `dpo`, where they differ", PreferenceTraining, Training),
    ("`lora`", Lora, None),
    ("`stages`, one entry", Stage, None),
    ("`steps.NAME` with `method: average`", Average, None),
    ("`steps.NAME` with `method: critique`", Critique, None),
    ("`steps.NAME` with `method: best_of`", BestOf, None),
    ("`steps.NAME` with `method: choose`", Choose, None),
    ("`models.NAME`", OtherModel, Served),
    ("`judges.NAME`", Judge, Served),
    ("A server, in `models.NAME` and `judges.NAME`", Served, None),
    ("`evaluate`", Evaluate, None),
    ("`evaluate.decoding.SET`", AnswerDecoding, None),
    ("`compare`, one entry", Compare, None),
    ("`hardware`", Hardware, None),
    ("`budget`", Budget, None),
    ("`track`", Track, None),
)


def key_tables() -> str:
    """Write every key of a study file with its default, the default's source and its meaning, as Markdown."""
    parts = []
    for title, block, elsewhere in BLOCKS:
        rows = "\n".join(_rows(block, elsewhere))
        head = "| key | default | where the default comes from | meaning |\n|---|---|---|---|"
        parts.append(f"### {title}\n\n{head}\n{rows}\n")
    return "\n".join(parts)


def _rows(block: type[BaseModel], elsewhere: type[BaseModel] | None) -> Iterator[str]:
    known = elsewhere.model_fields if elsewhere else {}
    for name, field in block.model_fields.items():
        if name in known and known[name].default == field.default:
            continue
        extra = field.json_schema_extra
        source = extra.get("default_source", "") if isinstance(extra, dict) else ""
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {_default(field)} | {source} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    value: Any = field.default
    if isinstance(value, BaseModel):
        set_keys = value.model_dump(mode="json", exclude_unset=True)
        return f"`{json.dumps(set_keys)}`" if set_keys else "(its own defaults)"
    if isinstance(value, Path | tuple):
        value = str(value) if isinstance(value, Path) else list(value)
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def updated(page: str) -> str:
    """Put the tables between the page's markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page lacks the lines {START!r} and {END!r}")
    return f"{before}{START}\n\n{key_tables()}\n{END}{after}"


if __name__ == "__main__":
    page_path = Path(sys.argv[1])
    page_path.write_text(updated(page_path.read_text(encoding="utf-8")), encoding="utf-8")

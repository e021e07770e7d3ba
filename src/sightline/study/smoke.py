"""What `--smoke` puts in place of a study's models and data, so that its whole path runs in minutes anywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from sightline.study.continued import as_stated
from sightline.study.plan import grid_members
from sightline.study.schema import Data, Study
from sightline.study.steps import Dpo, Sft
from sightline.study.text import flatten
from sightline.study.training import Training

NUM_IMAGES = 24
MAX_STEPS = 4
BATCH_SIZE = 8
NUM_ROWS = 24
NEW_TOKENS = 12
NUM_BEAMS = 2
DESCRIPTION_TOKENS = 96  # more than phantom's longest description
AUDIT_ROWS = 2

SMALL = {  # training keys with their largest value
    "max_steps": MAX_STEPS,
    "batch_size": BATCH_SIZE,
    "save_every": MAX_STEPS // 2,
    "eval_every": MAX_STEPS // 2,
}
UNSIZED = ("epochs", "row_tokens", "precision", "min_pixels", "max_pixels")  # keys that fit the real model alone
PHANTOM_TAGS = ("answer_type", "kind", "organ", "picture_type", "scanner")
SHARED_TAGS = ("answer_type", "num_pictures")  # with values that drawn rows have as well as others
MIXED_ROWS = 24  # drawn from a single set
EXTRAS = (  # training key, the values that ask for an extra, the package that brings it
    ("quantize", ("nf4", "int8"), "bitsandbytes"),
    ("optimizer", ("adamw_8bit",), "bitsandbytes"),
    ("offload", ("optimizer", "parameters"), "deepspeed"),
)


def smoke_values(study: Study) -> dict[str, Any]:
    """Give the plain values of a study that asks the same of the builtin model and data, in small.

    Args:
        study: the study as written.

    Returns:
        Values for `Study`, with a note for everything replaced or dropped.
    """
    values = study.model_dump(mode="json")
    for name, step in study.steps.items():
        if isinstance(step, Sft | Dpo):  # what is left unsaid of an adapter's shape is taken over from the one before
            as_stated(values["steps"][name], step)
    notes = list(study.notes)
    if study.base != "builtin:tiny":
        notes.append(f"smoke test: builtin:tiny in place of {study.base}")
    for name, other in study.models.items():
        notes.append(f"smoke test: builtin:tiny in place of {other.server or other.adapter or other.base} ({name})")
        values["models"][name] = {"base": "builtin:tiny"}
    for name, judge in study.judges.items():
        notes.append(f"smoke test: builtin:tiny in place of {judge.server or judge.base} ({name})")
        small = {"max_new_tokens": NEW_TOKENS, "reasks": 0, "audit_rows": min(judge.audit_rows, AUDIT_ROWS)}
        values["judges"][name] = {"kind": judge.kind, "base": "builtin:tiny", "against": judge.against, **small}
    sources = list(dict.fromkeys((data.source, data.subset) for data in study.data.values() if data.source))
    # What judges one sentence after the other needs descriptions.
    asked = {text.partition(".")[0] for text in study.evaluate.on}
    described = asked if any(judge.kind == "shr" for judge in study.judges.values()) else set()
    for name, data in study.data.items():
        if data.source and data.source != "builtin:phantom":
            notes.append(f"smoke test: builtin:phantom in place of {data.source} ({name})")
        if data.source:
            values["data"][name] = _phantom(
                data, sources.index((data.source, data.subset)), described=name in described
            )
        else:
            values["data"][name] |= _small_mixture(data)
    # A stage goes by tags; what others' rows are tagged with, drawn rows are not.
    is_drawn = all(source == "builtin:phantom" for source, _ in sources)
    tags = (*PHANTOM_TAGS, *SHARED_TAGS) if is_drawn else SHARED_TAGS
    for name, step in values["steps"].items():
        _shrink_step(step, f"steps.{name}", tags, notes)
    evaluate = values["evaluate"]
    evaluate["rows"] = min(evaluate["rows"] or NUM_ROWS, NUM_ROWS)
    describes = any(values["data"][name].get("subset") == "description" for name in asked)
    # A description that is cut short is a fault that stops a study.
    evaluate["max_new_tokens"] = DESCRIPTION_TOKENS if describes else min(evaluate["max_new_tokens"], NEW_TOKENS)
    for block in (evaluate, *evaluate["decoding"].values()):
        block["max_new_tokens"] = block["max_new_tokens"] and evaluate["max_new_tokens"]
        block["num_beams"] = block["num_beams"] and min(block["num_beams"], NUM_BEAMS)
    name = study.name if study.name.endswith("-smoke") else f"{study.name}-smoke"
    # The smoke test's own overrides are spent once it is made, so that its record can be read again as it is.
    return values | {"name": name, "base": "builtin:tiny", "budget": {}, "hardware": {}, "smoke": {}, "notes": notes}


def _phantom(data: Data, source: int, *, described: bool) -> dict[str, Any]:
    """Drawn data with the same split names: the shares as they are, released splits by a rule of thumb.

    Args:
        data: the set.
        source: the number of its source; what came from several sources is drawn from several seeds, so that no
            picture is on both sides of a test.
        described: whether descriptions are asked for; drawn data keeps what it asks for.
    """
    builtin = data.source == "builtin:phantom"
    images = data.images if isinstance(data.images, int) else NUM_IMAGES
    split: dict[str, Any] = data.split.model_dump(mode="json")
    if not data.split.shares:
        weights = {name: 2 if name == "train" else 1 for name in data.split.parts}
        split = {name: weight / sum(weights.values()) for name, weight in weights.items()} | {"by": data.split.by}
    if split["by"] not in ("image", "row", *PHANTOM_TAGS):
        split["by"] = "image"
    if split.get("stratify") not in PHANTOM_TAGS:
        split["stratify"] = None
    return {
        "source": "builtin:phantom",
        "subset": data.subset if builtin else "description" if described else None,
        "images": min(images, NUM_IMAGES),
        "split": split,
        "seed": data.seed if builtin else data.seed + 1000 * source,
    }


def _small_mixture(data: Data) -> dict[str, Any]:
    """A mixture in the same proportions, of as many rows as the drawn sets have."""
    if len(data.mix) == 1:
        return {"mix": {part: min(amount, MIXED_ROWS) for part, amount in data.mix.items()}}
    whole = sum(data.mix.values())
    return {"mix": {part: amount / whole for part, amount in data.mix.items()}, "take": None}


def _shrink_step(step: dict[str, Any], where: str, tags: Sequence[str], notes: list[str]) -> None:
    if "rows" in step:
        step["rows"] = min(step["rows"] or NUM_ROWS, NUM_ROWS)
    if "batch_size" not in step:
        return
    # A grid names its members after their values; as members they keep those names while sizes shrink.
    members = step["members"] or grid_members(step["grid"], where)
    step["grid"], step["members"] = {}, {name: dict(flatten(block)) for name, block in members.items()}
    paths = {where: step} | {f"{where}.members.{name}": block for name, block in step["members"].items()}
    for path, block in paths.items():
        _drop_absent_extras(block, path, notes)
        for name in SMALL.keys() & block.keys():
            block[name] = block[name] and min(block[name], SMALL[name])
    for block in step["members"].values():
        for name in {*UNSIZED, "max_steps"} & block.keys():
            del block[name]
        if "stages" in block:
            block["stages"] = _shrink_stages(block["stages"], tags)
    for name in UNSIZED:
        step.pop(name)
    step["max_steps"] = step["max_steps"] or MAX_STEPS
    step["stages"] = _shrink_stages(step["stages"], tags)


def _shrink_stages(stages: Sequence[dict[str, Any]], tags: Sequence[str]) -> list[dict[str, Any]]:
    """As many steps together as a training without stages has, about equally, on rows chosen by the tags there are."""
    wanted = sum(stage.get("max_steps") or MAX_STEPS for stage in stages)
    total = max(len(stages), min(wanted, MAX_STEPS))
    small = []
    for number, stage in enumerate(stages):
        where = {tag: value for tag, value in (stage.get("where") or {}).items() if tag in tags}
        steps = (number + 1) * total // len(stages) - number * total // len(stages)
        small.append(stage | {"epochs": None, "max_steps": steps, "where": where})
    return small


def _drop_absent_extras(block: dict[str, Any], path: str, notes: list[str]) -> None:
    for name, values, package in EXTRAS:
        if block.get(name) in values and importlib.util.find_spec(package) is None:
            notes.append(f"smoke test: {path}.{name} = {block[name]} dropped; {package} is not installed")
            block[name] = Training.model_fields[name].default

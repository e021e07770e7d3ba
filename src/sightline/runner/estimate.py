"""What a study needs and where its data would go, gathered from the study, its data and this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sightline.checking.resources import GIB, Machine, Work, count_adapter, count_parameters, read_shapes
from sightline.data.cards import licence_in, read_card
from sightline.data.fetching import licence_of
from sightline.runner.curricula import num_passes
from sightline.runner.hub import base_folder, sources_read
from sightline.runner.prepare import base_of, common_setting, render_prompt
from sightline.runner.reading import Prepared
from sightline.runner.served import served_models
from sightline.study import Plan, Study, model_location
from sightline.study.names import is_served

if TYPE_CHECKING:
    from sightline.models.family import Family

NUM_MEASURED = 64
"""Questions whose length is measured, spread evenly over a set."""

SMALL = 50e6
"""Parameters of a base that is run while checking."""

BUILTIN_LICENCE = "Apache-2.0 (part of sightline)"


def is_small(prepared: Prepared) -> bool:
    """Whether the base is here and so small that running it is no work: a loss can be measured while checking."""
    study = prepared.study
    folder = base_folder(model_location(study, study.base))
    counted = count_parameters("", read_shapes(folder)) if folder else None
    return counted is not None and counted[0] < SMALL


def estimate_work(prepared: Prepared, family: Family, executed: Mapping[tuple[str, ...], int]) -> Work | None:
    """Count what a study computes; None where the size of its base is not known.

    Args:
        prepared: the data.
        family: template and tokenizer.
        executed: tokens of one epoch by what is learnt from.
    """
    study, plan = prepared.study, prepared.plan
    location = model_location(study, study.base)
    folder = base_folder(location)
    shapes = read_shapes(folder) if folder else {}
    counted = count_parameters(study.base, shapes)
    if counted is None:
        return None
    trained = [run for run in plan.runs if run.training is not None]
    tokens = sum(num_passes(run, prepared) * executed[run.on] for run in trained)
    asked = [(_mean_prompt(prepared, family, name), len(prepared.asked(name))) for name in plan.asked]
    times = sum(not is_served(study, model) for model in plan.models) * len(study.evaluate.prompts)
    answer_tokens = sum(len(prepared.asked(name)) * study.evaluate.for_set(name).max_new_tokens for name in plan.asked)
    adapters = [
        count_adapter(shapes, run.settings.lora.targets or family.lora_targets, run.settings.lora.rank)
        for run in trained
    ]
    precision = str(common_setting(plan, "quantize", None) or common_setting(plan, "precision", "auto"))
    return Work(
        parameters=counted[0],
        parameters_from=counted[1],
        num_trained=max(adapters, default=0),
        trained_tokens=tokens,
        asked_tokens=times * sum(length * count for length, count in asked),
        answer_tokens=float(times * answer_tokens),
        num_models=len(trained),
        num_checkpoints=max((run.settings.keep_checkpoints for run in trained), default=0),
        weights="fp32" if precision == "auto" and not _num_accelerators() else precision,
        recomputes=any(run.settings.gradient_checkpointing for run in trained),
        download_bytes=0 if folder and shapes else 2 * counted[0],
    )


def _mean_prompt(prepared: Prepared, family: Family, name: str) -> float:
    """Measure the mean length of a set's questions in tokens, pictures included."""
    samples = prepared.asked(name)
    chosen = samples[:: max(1, len(samples) // NUM_MEASURED)]
    wording = next(iter(prepared.study.evaluate.prompts.values()))
    return sum(len(render_prompt(prepared, family, sample, wording)) for sample in chosen) / max(1, len(chosen))


def this_machine() -> Machine:
    """Say what there is to compute with here."""
    import torch

    num = _num_accelerators()
    memory = torch.cuda.mem_get_info()[1] if num else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        num_accelerators=num,
        num_cores=os.cpu_count() or 1,
        memory_gib=memory / GIB,
        free_disk_gib=shutil.disk_usage(Path.cwd()).free / GIB,
    )


def _num_accelerators() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def destinations(study: Study, plan: Plan) -> list[str]:
    """List every place to which a study would send something, with what."""
    found = []
    for name in served_models(study, plan):
        if not _is_here(server := str(study.models[name].server)):
            what = "questions and pictures" if study.models[name].send_images else "questions, no pictures"
            found.append(f"{what} to {urlsplit(server).netloc} (model {name})")
    for name, judge in study.judges.items():
        if judge.server and not _is_here(judge.server):
            what = "questions, answers and pictures" if judge.send_images else "questions and answers, no pictures"
            found.append(f"{what} to {urlsplit(judge.server).netloc} (judge {name})")
    if study.track.wandb:
        found.append(f"training curves, no pictures, to Weights & Biases ({study.track.wandb})")
    fetched = sorted({*_hub_models(study, plan), *_hub_data(study, plan)})
    if fetched:
        found.append(f"requests for {', '.join(fetched)} to huggingface.co, unless they are here already")
    return found


def _is_here(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _bases(study: Study, plan: Plan) -> dict[str, str]:
    """The bases and adapters that a study uses, as it names them, with their locations."""
    names = {study.base, *(other.base for other in study.models.values() if other.base)}
    names |= {other.adapter for other in study.models.values() if other.adapter}
    return {name: model_location(study, name) for name in sorted(names)}


def _hub_models(study: Study, plan: Plan) -> list[str]:
    return [name for name, location in _bases(study, plan).items() if _is_on_hub(location)]


def _hub_data(study: Study, plan: Plan) -> list[str]:
    return [location for location in sources_read(study, plan).values() if _is_on_hub(location)]


def _is_on_hub(location: str) -> bool:
    return not location.startswith("builtin:") and not Path(location).is_absolute()


def licences(study: Study, plan: Plan) -> dict[str, str | None]:
    """Find the licences of what a study uses, as far as they can be read on this machine."""
    found: dict[str, str | None] = {}
    for name, location in _bases(study, plan).items():
        folder = None if location.startswith("builtin:") else base_folder(location)
        found[f"base {name}"] = (
            BUILTIN_LICENCE if location.startswith("builtin:") else licence_in(read_card(folder)) if folder else None
        )
    for name, location in sources_read(study, plan).items():
        builtin = location.startswith("builtin:")
        found[f"data {name}"] = (
            BUILTIN_LICENCE if builtin else licence_of(location, root=study.folder / study.data_root)
        )
    return found


def bases_of(study: Study, plan: Plan) -> dict[str, str]:
    """Name the base of every model that the study asks or makes."""
    return {name: base_of(study, plan, name) for name in (*plan.models, *(run.name for run in plan.runs))}

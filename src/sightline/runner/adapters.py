"""`sightline adapter`: average adapters, hand one over, fold one into its base."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sightline.data.cards import licence_in, read_card
from sightline.errors import MissingDataError, StudyError
from sightline.models.adapter_files import (
    StoredAdapter,
    adapter_files,
    base_of_adapter,
    fetch_adapter,
    read_adapter,
    refuse_without_effect,
)
from sightline.models.averaging import mean_of_updates, naive_mean, shares_of
from sightline.models.family import Family
from sightline.models.loading import LoadedModel, base_identity, base_location, load_family, outline_model
from sightline.models.merging import folder_beside, merge_adapter, write_model
from sightline.models.quantize import Quantization
from sightline.runner.averages import average_record, read_members, told_average, write_average
from sightline.runner.make import Shelf
from sightline.runner.publishing import publishing
from sightline.runner.reading import Prepared
from sightline.runner.unmade import not_made, say_models
from sightline.storage import MANIFEST, sha256_of
from sightline.study import load_study, plan_study
from sightline.study.names import MAKES_DATA

Precision = Literal["auto", "bf16", "fp16", "fp32"]

SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank` (vllm/config/lora.py, 0.11 to 0.26)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An adapter, and how its base is run.

    Args:
        name: as it was asked for.
        folder: where its files lie.
        base: a hub name, a folder or "builtin:tiny".
        family: loads what renders for a base, with the study's settings where there is a study.
        precision: the study's, or "auto".
        quantize: the study's.
        shelf: of the study it belongs to; None for an adapter by itself.
    """

    name: str
    folder: Path
    base: str
    family: Callable[[str], Family]
    precision: Any = "auto"
    quantize: Quantization | None = None
    shelf: Shelf | None = None

    @property
    def made_from(self) -> dict[str, str]:
        """Base and bytes, for manifests."""
        return {"base": base_identity(self.base)} | {file.name: sha256_of(file) for file in adapter_files(self.folder)}

    def read(self) -> tuple[StoredAdapter, LoadedModel]:
        """Read it for an outline of its base, which is given, too; refuse one without effect."""
        outline = outline_model(self.base, self.family(self.base), torch.float32)
        stored = read_adapter(self.folder, outline, with_values=True)
        refuse_without_effect(self.folder, stored)
        return stored, outline


def locate(model: str, base: str | None = None) -> Located:
    """Find an adapter.

    Args:
        model: DIR:MODEL for a model of a study; else an adapter's folder or its name on the hub.
        base: the base it sits on, where its own configuration is not to be followed.

    Raises:
        MissingDataError: if there is no such adapter.
        StudyError: if the model is a bare base, or the base is asked for otherwise than its study has it.
    """
    directory, _, name = model.rpartition(":")
    if directory and (Path(directory) / "study.yaml").is_file():
        study = load_study(Path(directory))
        plan = plan_study(study)
        shelf = Shelf(Prepared(study=study, plan=plan, sets={}, loaded={}), Path(directory))
        known = [*study.models, *(run.name for run in plan.runs if run.method not in MAKES_DATA)]
        if name not in ("base", *known):
            told = say_models(known, not_made(study, Path(directory)))
            raise MissingDataError(f"{directory} has no model {name!r}; it has {told}")
        if reason := not_made(study, Path(directory)).get(name):
            raise MissingDataError(f"{model}: not made: {reason}")
        folder = shelf.adapter_folder(name)
        if folder is None:
            raise StudyError(f"{model} is a base without an adapter; name a model that was tuned: {', '.join(known)}")
        if base not in (None, shelf.base_of(name)):
            raise StudyError(f"--base {base}: {model} sits on {shelf.base_of(name)}; leave --base out")
        return Located(
            name=model,
            folder=folder,
            base=shelf.base_of(name),
            family=shelf.family,
            precision=shelf.precision,
            quantize=shelf.quantize,
            shelf=shelf,
        )
    folder = Path(model)
    if (folder / "study.yaml").is_file():
        raise StudyError(f"{model} is a study; write {model}:MODEL")
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith(".") or model.count("/") != 1 or ":" in model:
            raise MissingDataError(
                f"{model}: there is no such adapter's folder, and no study's directory before a colon"
            )
        folder = fetch_adapter(model)
    made_for = base or base_of_adapter(folder)
    if not made_for:
        raise StudyError(f"{model}: its adapter_config.json names no base; give --base")
    return Located(name=model, folder=folder, base=made_for, family=load_family)


def average_adapters(
    models: Sequence[str],
    out: Path,
    *,
    weights: Sequence[float] | None = None,
    svd_rank: int | None = None,
    naive: bool = False,
    base: str | None = None,
) -> dict[str, Any]:
    """Average adapters into a folder of its own.

    Args:
        models: as `locate` finds them.
        out: the folder to make.
        weights: one per model; equal ones by default.
        svd_rank: compress to this rank; None keeps the mean exact.
        naive: average the factors instead, for comparison.
        base: the base that all sit on, where their own files name several.

    Returns:
        the content of average.json, with a sentence under "told".

    Raises:
        SightlineError: if they cannot be averaged, saying which and why.
    """
    refuse_filled(out)
    shares = dict(zip(models, shares_of(weights, models), strict=True))
    found = {model: locate(model, base) for model in models}
    first, *others = found.values()
    for other in others:
        if other.base != first.base:
            raise StudyError(
                f"{first.name} is for {first.base} and {other.name} for {other.base}; only what is added to the same "
                "weights has a mean. If both are the same model, name it: --base"
            )
    if naive and svd_rank is not None:
        raise StudyError("--naive keeps the rank of its members; leave --svd-rank out")
    members = read_members({name: held.folder for name, held in found.items()}, first.base, first.family(first.base))
    adapters = {name: stored for name, stored in members.items() if stored is not None}
    parts = list(shares.values())
    mean = naive_mean(adapters, parts) if naive else mean_of_updates(adapters, parts, svd_rank=svd_rank)
    made_from = {f"{name}/{key}": value for name, held in found.items() for key, value in held.made_from.items()}
    with publishing(out, made_from) as made:
        write_average(made, mean, shares, base=first.base)
    return average_record(mean, shares) | {"told": told_average(mean, shares)}


def export_adapter(model: str, out: Path, *, base: str | None = None) -> dict[str, Any]:
    """Copy an adapter into a folder to be handed over, and say how vLLM serves it.

    Args:
        model: as `locate` finds it.
        out: the folder to make.
        base: the base it sits on, where its own configuration is not to be followed.

    Returns:
        "folder", "command" (None where vLLM cannot serve it), "notes".

    Raises:
        SightlineError: if there is no such adapter, it does not fit its base, or it changes nothing.
    """
    refuse_filled(out)
    located = locate(model, base)
    stored, outline = located.read()
    with publishing(out, located.made_from) as made:
        for file in adapter_files(located.folder):
            shutil.copyfile(file, made / file.name)
        (made / "README.md").write_text(_card(located, None), encoding="utf-8")
    return {"folder": str(out)} | serving_of(located, stored, outline, out)


def merge_into_base(
    model: str,
    out: Path,
    *,
    precision: Precision = "bf16",
    quantize: Quantization | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Fold an adapter into its freshly loaded base and write the result as a model of its own.

    Args:
        model: as `locate` finds it.
        out: the folder to make.
        precision: type of its weights.
        quantize: fold it into the base as it is after having been stored so; the result is in plain weights.
        base: the base it sits on, where its own configuration is not to be followed.

    Returns:
        "folder", "command", "rounding" (see `fold_in_adapter`), "notes".

    Raises:
        SightlineError: if there is no such adapter, it does not fit its base, or it changes nothing.
    """
    refuse_filled(out)
    located = locate(model, base)
    located.read()
    merged = merge_adapter(
        located.base,
        located.folder,
        family=located.family(located.base),
        precision=precision,
        quantize=quantize,
    )
    with publishing(out, located.made_from | {"precision": precision, "quantize": str(quantize)}) as made:
        write_model(merged.loaded, made)
        (made / "README.md").write_text(_card(located, f"{precision}, {quantize or 'plain'} base"), encoding="utf-8")
    notes = [f"rounding to {precision} takes {merged.rounding:.2%} of the change of the weights (Frobenius norm)"]
    if located.shelf is not None and located.quantize != quantize:
        advice = f"give --quantize {located.quantize}" if located.quantize else "leave --quantize out"
        notes.append(
            f"the study asked it on a base in {located.quantize or 'plain weights'}, and this one is in "
            f"{quantize or 'plain weights'}: answers may differ (`sightline adapter parity` says by how much); for the "
            f"study's numbers {advice}"
        )
    return {
        "folder": str(out),
        "command": shlex.join(["vllm", "serve", str(out)]),
        "rounding": merged.rounding,
        "notes": notes,
    }


def serving_of(located: Located, stored: StoredAdapter, outline: LoadedModel, folder: Path) -> dict[str, Any]:
    """Say how vLLM serves an adapter beside its base.

    Args:
        located: the adapter.
        stored: its content.
        outline: of its base.
        folder: where vLLM will find it.

    Returns:
        "command", None where vLLM cannot serve it, and "notes".
    """
    config = stored.config
    against = {
        "is a DoRA adapter": config.use_dora,
        "brings parts trained in full": config.modules_to_save,
        "brings biases": config.bias != "none" or config.lora_bias,
        "has ranks or alphas of single layers": config.rank_pattern or config.alpha_pattern,
        f"has rank {config.r}, and {SERVED_RANKS[-1]} is the highest": config.r > SERVED_RANKS[-1],
    }
    if found := [reason for reason, holds in against.items() if holds]:
        told = f"vLLM serves no such adapter: it {', and '.join(found)}; export it with --merged"
        return {"command": None, "notes": [told]}
    rank = next(rank for rank in SERVED_RANKS if rank >= config.r)
    served = f"{located.name.rpartition(':')[2].rstrip('/').rpartition('/')[2]}={folder}"
    command = ["vllm", "serve", base_location(located.base), "--enable-lora"]
    command += ["--lora-modules", served, "--max-lora-rank", str(rank)]
    language = {id(module) for module in located.family(located.base).language_model(outline.inner).modules()}
    head = id(located.family(located.base).head(outline.inner))
    adapted = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in stored.weights}
    if any(id(outline.inner.get_submodule(name)) not in {*language, head} for name in adapted):
        command.append("--enable-tower-connector-lora")
    notes = []
    if located.quantize == "nf4":
        notes.append("it was trained on a base in nf4; --quantization bitsandbytes serves the base in 4 bits as well")
    elif located.quantize:
        notes.append(f"it was trained on a base in {located.quantize}; vLLM serves the base in plain weights")
    return {"command": shlex.join(command), "notes": notes}


def refuse_filled(out: Path) -> None:
    """Refuse to write where something is.

    Raises:
        StudyError: naming the folder.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        made = " (made by sightline)" if (out / MANIFEST).exists() else ""
        raise StudyError(f"--out {out} is there already{made}; give another folder, or remove it")


def _card(located: Located, merged: str | None) -> str:
    """Write the README.md of what is handed over; the base's licence goes with it."""
    builtin = located.base.startswith("builtin:")
    licence = "apache-2.0" if builtin else licence_in(read_card(folder_beside(located.base)))
    head = [f"license: {licence}"] if licence else []
    head += [f"base_model: {located.base}", "library_name: " + ("transformers" if merged else "peft")]
    what = f"merged into its base ({merged})" if merged else "a LoRA adapter in PEFT's format"
    known = f"the licence of the base is {licence}" if licence else "the base's card names no licence: look it up"
    return (
        "---\n" + "\n".join(head) + "\n---\n\n"
        f"# {located.name.rpartition(':')[2]}\n\n"
        f"An adapter of `{located.base}`, {what}. Made by sightline; manifest.json has the hashes of what it was made "
        f"from.\n\nLicence: {known}, and what is made from a base inherits it.\n\n"
        "For research; not for clinical decisions.\n"
    )

"""What is wrong with a study's models is found before any weight is read, let alone trained."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from sightline.checking.models import MADE_FOR_ANOTHER_BASE
from sightline.errors import CorruptError, MissingDataError, SightlineError, StudyError, UnsupportedModelError
from sightline.models.adapters import attach_lora, save_adapter
from sightline.models.loading import base_identity, base_location, load_model
from sightline.models.quantize import quantization_of
from sightline.runner import make, run_study
from sightline.runner.display import Display
from sightline.runner.make import Shelf, look_at_models
from sightline.runner.reading import Prepared
from sightline.study import Study, load_study, plan_study
from tiny_studies import sightline_command

STUDY = """\
base: builtin:tiny
data: {p: {source: builtin:phantom, images: 12, split: {train: 0.5, test: 0.5, by: image}}}
steps: {sft: {on: p.train, max_steps: 1, lora: {rank: 2}}}
evaluate: {on: p.test, rows: 2, max_new_tokens: 4, metrics: [exact_match]}
models:
"""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 2 for the built-in model."""
    folder = tmp_path_factory.mktemp("stored")
    loaded = load_model("builtin:tiny", device="cpu")
    attach_lora(loaded, rank=2, alpha=4)
    save_adapter(loaded, folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path, stored: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(stored, tmp_path / "theirs"))


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to read weights fail."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("weights were read")

    monkeypatch.setattr(make, "load_model", refuse)
    monkeypatch.setattr(safetensors.torch, "load_file", refuse)


def study_of(folder: Path, models: str, *changes: str) -> Study:
    (folder / "s.yaml").write_text(STUDY + models, encoding="utf-8")
    return load_study(folder / "s.yaml", overrides=changes)


def look(folder: Path, models: str, *changes: str) -> list[Any]:
    study = study_of(folder, models, *changes)
    return look_at_models(Shelf(Prepared(study=study, plan=plan_study(study), sets={}, loaded={}), folder / "out"))


def configure(folder: Path, **changes: Any) -> None:
    file = folder / ("config.json" if (folder / "config.json").exists() else CONFIG)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.usefixtures("no_weights")
def test_models_that_are_in_order_are_looked_at_without_their_weights(tmp_path: Path, adapter: Path) -> None:
    shutil.copytree(base_location("builtin:tiny"), tmp_path / "base")
    models = "  other: {base: ./base}\n  both: {base: ./base, adapter: ./theirs}\n  published: {adapter: ./theirs}\n"
    configure(adapter, base_model_name_or_path=None)
    assert look(tmp_path, models, "steps.more={from: published, on: p.train, max_steps: 1}") == []


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("base", "error", "said"),
    [
        ("builtin:tinny", MissingDataError, "base 'builtin:tinny' is not built in; did you mean builtin:tiny?"),
        ("./nowhere", MissingDataError, "base '.*nowhere' is neither a folder with a model nor to be had"),
        ("no-such/model", MissingDataError, "base 'no-such/model' is neither a folder with a model nor to be had"),
        ("./gpt", UnsupportedModelError, "base '.*gpt' is of type 'gpt2'"),
    ],
)
def test_a_base_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, error: type[SightlineError], said: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(error, match=f"^models.other: {said}"):
        look(tmp_path, f"  other: {{base: {base}}}\n")


@pytest.mark.parametrize("name", ["builtin:tinny", "no-such/model", "/nowhere/at/all"])
def test_nobody_else_meets_a_base_that_is_not_there_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for ask in (base_identity, lambda base: quantization_of(base, None), load_model):
        with pytest.raises(MissingDataError, match=f"base '{name}' is "):
            ask(name)


def without_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def with_torn_weights(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"torn")


def without_a_shard(base: Path) -> None:
    (base / "model.safetensors").rename(base / "model-1.safetensors")
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(shards))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_weights, "model.safetensors is missing"),
        (with_torn_weights, "Error while deserializing header"),
        (without_a_shard, "model-2.safetensors is missing"),
    ],
)
def test_a_base_without_its_weights(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    shutil.copytree(base_location("builtin:tiny"), tmp_path / "base")
    damage(tmp_path / "base")
    with pytest.raises(MissingDataError, match=rf"^models\.other: base '.*': its weights cannot be loaded: .*{said}"):
        look(tmp_path, "  other: {base: ./base}\n")


def other_rank(folder: Path) -> None:
    configure(folder, r=4)


def other_names(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({name.replace("self_attn", "attn"): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)


def other_width(folder: Path) -> None:
    save_file({name: tensor.repeat(2, 2) for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def whole_numbers(folder: Path) -> None:
    save_file({name: tensor.to(torch.int8) for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def half_lost(folder: Path) -> None:
    save_file({n: t for n, t in load_file(folder / WEIGHTS).items() if "lora_A" in n}, folder / WEIGHTS)


def torn(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def not_lora(folder: Path) -> None:
    configure(folder, peft_type="IA3")


def no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_rank, r"is \[2, 512\] and on builtin:tiny would be \[4, 512\]; is the adapter for another base"),
        (other_names, "tensors do not fit builtin:tiny, for example .*; is the adapter for another base"),
        (other_width, "is the adapter for another base"),
        (whole_numbers, "is of type torch.int64, and an adapter's tensors have fractions"),
        (half_lost, "tensors are missing, for example"),
        (torn, "fetch or make the adapter again"),
        (not_lora, "the adapter is of type IA3; only LORA is supported"),
        (no_config, "adapter_config.json is missing"),
        (shutil.rmtree, r"models\.published\.adapter: there is no folder"),
    ],
)
def test_an_adapter_that_cannot_be_used(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], said: str
) -> None:
    damage(adapter)
    monkeypatch.setattr(safetensors.torch, "load_file", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(SightlineError, match=said) as raised:
        look(tmp_path, "  published: {adapter: ./theirs}\n")
    assert str(raised.value).startswith("models.published")


def test_values_that_are_no_numbers_are_found_when_they_are_read(adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    first = sorted(tensors)[0]
    tensors[first][0, 0] = float("nan")
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(CorruptError, match=f"{first} holds values that are no finite numbers"):
        make.load_adapter(load_model("builtin:tiny", device="cpu"), adapter)


@pytest.mark.usefixtures("no_weights")
def test_what_a_step_asks_of_an_adapter_or_base_that_has_it_otherwise(tmp_path: Path, adapter: Path) -> None:
    models = "  published: {adapter: ./theirs}\n"
    with pytest.raises(StudyError, match=r"^more: goes on with the adapter published, and lora.rank is 8 here and 2"):
        look(tmp_path, models, "steps.more={from: published, on: p.train, lora: {rank: 8}}")
    with pytest.raises(StudyError, match=r"^more: goes on .* lora.rank is 16 here and 2"):  # 16 is the default
        look(tmp_path, models, "steps.more={from: published, on: p.train}", "steps.more.lora.rank=16")
    with pytest.raises(StudyError, match=r"^last.alpha32: .* lora.alpha is 32 here and 4"):
        further = "steps.last={from: more, on: p.train, grid: {lora.alpha: [4, 32]}}"
        look(tmp_path, models, "steps.more={from: published, on: p.train}", further)
    with pytest.raises(UnsupportedModelError, match=r"^more\.b: lora.targets 'nothing' fits no module"):
        look(tmp_path, models, "steps.more={on: p.train, members: {a: {}, b: {lora.targets: nothing}}}")
    with pytest.raises(StudyError, match=r"steps differ in quantize \(\['None', 'nf4'\]\)"):
        look(tmp_path, models, "steps.more={on: p.train, quantize: nf4}")


@pytest.mark.usefixtures("no_weights")
def test_a_base_that_needs_bitsandbytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(base_location("builtin:tiny"), tmp_path / "base")
    configure(tmp_path / "base", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(StudyError, match=r"^models\.other: base '.*base', which is stored as int8, needs bitsandbytes"):
        look(tmp_path, "  other: {base: ./base}\n")
    with pytest.raises(StudyError, match="quantize: nf4 needs bitsandbytes"):
        look(tmp_path, "  other: {base: builtin:tiny}\n", "steps.sft.quantize=nf4")


@pytest.mark.usefixtures("no_weights")
def test_one_fault_never_hides_another(tmp_path: Path, adapter: Path) -> None:
    not_lora(adapter)
    models = "  other: {base: 'builtin:tinny'}\n  published: {adapter: ./theirs}\n  gone: {adapter: ./gone}\n"
    with pytest.raises(StudyError) as raised:
        look(tmp_path, models, "steps.sft.lora.targets=nothing")
    places = [line.partition(": ")[0] for line in str(raised.value).splitlines()]
    assert places == ["models.other", "models.gone.adapter", "models.published", "sft"]


@pytest.mark.parametrize(
    ("models", "change", "said"),
    [
        ("  other: {base: 'builtin:tinny'}\n", "hardware={}", "models.other: base 'builtin:tinny' is not built in"),
        ("  gone: {adapter: ./gone}\n", "hardware={}", "models.gone.adapter: there is no folder"),
        ("  other: {base: 'builtin:tiny'}\n", "steps.more={on: p.train, quantize: nf4}", "steps differ in quantize"),
    ],
)
def test_check_finds_it_too(tmp_path: Path, models: str, change: str, said: str) -> None:
    study_of(tmp_path, models)
    ended = sightline_command("check", tmp_path / "s.yaml", "--set", change)
    assert ended.code == 2 and f"sightline: {said}" in ended.err
    assert "data-size" in ended.out  # what else was found is printed all the same


def test_nothing_is_trained_before_a_models_fault(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="builtin:tinny"):
        run_study(study_of(tmp_path, "  other: {base: 'builtin:tinny'}\n"), tmp_path / "out")
    assert not (tmp_path / "out" / "models").exists() and not (tmp_path / "out" / "study.yaml").exists()


@pytest.fixture(scope="module")
def with_another_adapter(tmp_path_factory: pytest.TempPathFactory, stored: Path) -> Path:
    """The directory of a study that asks an adapter made for another base, on a CPU with a limit on memory."""
    folder = tmp_path_factory.mktemp("another")
    shutil.copytree(stored, folder / "theirs")
    configure(folder / "theirs", base_model_name_or_path="somebody/tiny")
    models = "  published: {adapter: ./theirs}\n"
    display = Display()
    display.console = Console(file=io.StringIO(), width=1000)
    study = study_of(folder, models, "steps={}", "compare=[]", "hardware.memory_gib=9")
    run_study(study, folder / "out", with_figures=False, display=display)
    (folder / "out" / "said.txt").write_text(display.console.file.getvalue(), encoding="utf-8")  # pyright: ignore
    return folder / "out"


def test_an_adapter_made_for_another_base_is_noted(with_another_adapter: Path) -> None:
    checks = json.loads((with_another_adapter / "checks.json").read_text(encoding="utf-8"))
    (note,) = [finding for finding in checks if finding["name"] == MADE_FOR_ANOTHER_BASE]
    assert note["severity"] == "note" and "models.published" in note["message"]
    for file in ("report.md", "report.html"):
        report = (with_another_adapter / file).read_text(encoding="utf-8")
        assert report.count("it was made for") == 3  # in the notes, among the checks and where the models are named


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without an accelerator")
def test_what_has_no_effect_here_is_said(with_another_adapter: Path) -> None:
    said = (with_another_adapter / "said.txt").read_text(encoding="utf-8")
    assert "note: hardware.memory_gib = 9 has no effect on a CPU" in said
    assert f"note: {MADE_FOR_ANOTHER_BASE}: models.published: " in said


def test_hardware_is_where_the_numbers_were_made(with_another_adapter: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(with_another_adapter, tmp_path / "out"))
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    elsewhere = {"device": "elsewhere", "precision": "bf16"}
    (out / "run.json").write_text(json.dumps(run | {"hardware": elsewhere}), encoding="utf-8")
    run_study(load_study(out), out, with_figures=False, display=Display(quiet=True))
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["hardware"] == elsewhere
    shutil.rmtree(out / "answers")
    run_study(load_study(out), out, with_figures=False, display=Display(quiet=True))
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["hardware"] == run["hardware"]


def test_the_report_names_what_was_asked(with_another_adapter: Path, stored: Path) -> None:
    run = json.loads((with_another_adapter / "run.json").read_text(encoding="utf-8"))
    assert run["hardware"]["precision"] == ("bf16" if torch.cuda.is_available() else "fp32")
    assert "bitsandbytes" not in run["versions"]
    report = (with_another_adapter / "report.md").read_text(encoding="utf-8")
    assert hashlib.sha256((stored / WEIGHTS).read_bytes()).hexdigest() in report

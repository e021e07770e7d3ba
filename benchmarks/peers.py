"""Peers side by side: one process an arm, the same work for each, its figures in one table.

What the arms are and what they work on is the business of the script that calls `main`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arms.watch import RANK, Job, Watch
from models_of_real_shape import num_linear_parameters, num_lora_parameters
from workload import Workload

PACKAGES = (
    "torch triton transformers peft accelerate datasets tokenizers trl liger-kernel bitsandbytes unsloth llamafactory"
)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training.

    Args:
        module: in `arms`.
        about: for the table.
        micro_batch: rows of a forward pass.
        options: of the module's `train`.
        shape: of the model.
        needs_weights: whether it loads the model by path.
        merged: whether an image's questions are one conversation.
        pairs: whether samples are pairs of answers, sequences 2p and 2p + 1, of which each counts as one.
    """

    module: str
    about: str
    micro_batch: int = 16
    options: dict[str, Any] = field(default_factory=dict)
    shape: str = "llava-7b"
    needs_weights: bool = False
    merged: bool = False
    pairs: bool = False


Prepare = Callable[[argparse.Namespace, str], None]
"""Makes a shape's folder and workload, unless an earlier call did."""


def workload_file(given: argparse.Namespace, shape: str) -> Path:
    """Name the file that holds a shape's workload."""
    return (
        given.work
        / f"{Path(sys.argv[0]).stem} {shape} {given.questions} {given.branch_cap} {given.batch_size} {given.steps}.json"
    )


def run_arm(given: argparse.Namespace, arm: Arm) -> dict[str, Any]:
    """Run one arm in this process; what goes wrong becomes part of the result."""
    began = time.perf_counter()
    shape = given.shape or arm.shape
    job = Job(
        workload=Workload.read(workload_file(given, shape)),
        folder=given.work / shape,
        micro_batch=arm.micro_batch,
        merged=arm.merged,
        pairs=arm.pairs,
        num_trained=num_lora_parameters(shape, RANK),
        scratch=given.work / "scratch" / given.arm,
    )
    watch = Watch(job=job, warmup=given.warmup)
    shutil.rmtree(job.scratch, ignore_errors=True)
    job.scratch.mkdir(parents=True)
    result: dict[str, Any] = {"arm": given.arm, "about": arm.about, "shape": shape, "rows": f"{job.micro_batch} rows"}
    compared = "" if job.workload.token_ids else "; token ids not compared: sightline does not know this family yet"
    result["workload"] = job.workload.name + compared
    other = json.loads(given.options)
    result["options"] = {key: other.get(key, value) for key, value in arm.options.items()}
    try:
        module = importlib.import_module(f"arms.{arm.module}")
        notes = module.train(job, watch, **result["options"])
        result |= {"notes": notes, **measured(watch, began, shape)}
    except Exception as error:
        result |= {"error": f"{type(error).__name__}: {error}"[:2000], "traceback": traceback.format_exc()}
    return {**result, "versions": versions(), "device": device_name()}


def measured(watch: Watch, began: float, shape: str) -> dict[str, Any]:
    """Turn what the watch saw into rates; medians over the steps after the warm-up, but for the last.

    In the last step nothing is done for a next one.
    """
    steps = range(watch.warmup, len(watch.seconds) - 1)
    tokens_per_second = statistics.median(watch.executed_tokens[i] / watch.seconds[i] for i in steps)
    return {
        "samples_per_second": statistics.median(watch.num_questions[i] / watch.seconds[i] for i in steps),
        "step_seconds": statistics.median(watch.seconds[i] for i in steps),
        "executed_tokens_per_second": tokens_per_second,
        "model_tflops": 4 * num_linear_parameters(shape) * tokens_per_second / 1e12,
        "peak_gib": watch.peak_bytes / 2**30,
        "cold_seconds": time.perf_counter() - began - sum(watch.seconds[i] for i in steps),
        "seconds": watch.seconds,
        "num_questions": watch.num_questions,
        "executed_tokens": watch.executed_tokens,
    }


def versions() -> dict[str, str]:
    """Say which of the packages that matter are there, and Python's version."""
    found = {"python": platform.python_version()}
    for name in PACKAGES.split():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """Name what the arm ran on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def named(arms: Mapping[str, Arm], name: str) -> Arm:
    """Find an arm by its name, which may end in the rows of its forward passes: `trl-best@32`."""
    name, _, rows = name.partition("@")
    return replace(arms[name], micro_batch=int(rows)) if rows else arms[name]


def child(given: argparse.Namespace, *more: str) -> list[str]:
    """Write the command of a process that does one part of this one's work."""
    command = [sys.executable, sys.argv[0], *more, "--options", given.options]
    for option in ("data", "work", "batch_size", "warmup", "steps", "questions", "branch_cap", "shape"):
        value = getattr(given, option)
        command += [] if value is None else [f"--{option.replace('_', '-')}", str(value)]
    return command


def start_arm(given: argparse.Namespace, name: str, arm: Arm, seconds: float) -> dict[str, Any]:
    """Run one arm in a process of its own, with its peer's packages and a time limit."""
    file, log = given.work / "result.json", given.work / f"{name}.log"
    file.unlink(missing_ok=True)
    peers = dict(site.split("=", 1) for site in given.site).get(arm.module.partition("_")[0])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [peers, os.environ.get("PYTHONPATH")])),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if arm.module == "sightline":  # as its command line does
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    began = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        command = child(given, "--arm", name, "--json", str(file))
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if file.is_file():
        result = json.loads(file.read_text(encoding="utf-8"))
    else:
        why = "out of time" if time.perf_counter() - began >= seconds else f"ended with {process.returncode}"
        result = {"arm": name, "about": arm.about, "error": why}
    if "error" in result:
        result["log"] = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    return {**result, "wall_seconds": time.perf_counter() - began}


def table(title: str, counted: str, results: Sequence[dict[str, Any]], command: str) -> str:
    """Write the results in Markdown: figures, ratios to each of sightline's own arms, what each arm ran with."""
    done = sorted((r for r in results if "error" not in r), key=lambda r: -r["samples_per_second"])
    ours = [result for result in done if result["arm"].startswith("sightline-")]
    lines = [f"# {title}, {datetime.date.today()}", "", f"    {command}", ""]
    for setting in dict.fromkeys((r["device"], r["workload"], json.dumps(r["versions"])) for r in done):
        arms = [r["arm"] for r in done if (r["device"], r["workload"], json.dumps(r["versions"])) == setting]
        packages = ", ".join(f"{name} {version}" for name, version in json.loads(setting[2]).items())
        lines.append(f"- {', '.join(arms)}: {setting[0]}; {setting[1]}; {packages}")
    heads = ["arm", "model", "a pass", f"{counted}s/s", "step s", "tokens/s", f"tokens a {counted}", "model TFLOP/s"]
    heads += ["peak GiB", "cold s", "first loss", "adapter", *(f"{result['arm']} is × faster" for result in ours)]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for result in done:
        rate, tokens = result["samples_per_second"], result["executed_tokens_per_second"]
        cells = [f"{result['arm']}: {result['about']}", result["shape"], result["notes"].get("pass", result["rows"])]
        cells += [f"{rate:.1f}", f"{result['step_seconds']:.2f}", f"{tokens:,.0f}", f"{tokens / rate:.0f}"]
        cells += [f"{result['model_tflops']:.0f}", f"{result['peak_gib']:.1f}", f"{result['cold_seconds']:.0f}"]
        cells += [f"{result['notes']['first_loss']:.4f}", result["notes"]["adapters"]]
        cells += [f"{o['samples_per_second'] / rate:.2f}" if o["shape"] == result["shape"] else "" for o in ours]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- {result['arm']}: not measured: {result['error']}" for result in results if "error" in result]
    return "\n".join(lines) + "\n"


def main(title: str, counted: str, arms: Mapping[str, Arm], prepare: Prepare) -> None:
    """Run one arm, or several one after another.

    Args:
        title: of the table.
        counted: what a sample is, e.g. "question".
        arms: by name.
        prepare: makes what they work on.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument(
        "--arms",
        default="",
        help=f"one after another, each with its own rows a pass or others (NAME@32): {', '.join(arms)}",
    )
    parser.add_argument("--data", type=Path, help="folder with VQA_RAD_Dataset_Public.json and images/")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "sightline-bench"), help="for models")
    parser.add_argument("--json", type=Path, help="where results go, after every arm")
    parser.add_argument("--markdown", type=Path, help="where the table goes, after every arm")
    parser.add_argument("--site", action="append", default=[], help="trl=FOLDER, unsloth=FOLDER: peers' packages")
    parser.add_argument("--questions", type=int, help="exactly so many an image")
    parser.add_argument("--branch-cap", type=int, help="most questions of an image that stay together")
    parser.add_argument("--batch-size", type=int, default=96, help="questions or pairs per optimizer step")
    parser.add_argument("--warmup", type=int, default=1, help="first optimizer steps, not counted")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps that count")
    parser.add_argument("--shape", help="instead of the arms' own, e.g. tiny-llava")
    parser.add_argument("--options", default="{}", help='JSON over the arms\' own options, e.g. {"workers": 0}')
    parser.add_argument("--limit", type=float, default=150, help="seconds an arm may take")
    parser.add_argument("--deadline", type=float, default=3600, help="seconds after which no arm is started")
    parser.add_argument("--arm", help="run this one in this process")
    parser.add_argument("--prepare", help="make this shape's folder and workload in this process")
    parser.add_argument("--weights", action="store_true", help="with --prepare: weights too")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.arm:
        given.json.write_text(json.dumps(run_arm(given, named(arms, given.arm))), encoding="utf-8")
        return
    if given.prepare:
        prepare(given, given.prepare)
        return
    if not given.data:
        print(f"{Path(sys.argv[0]).name}: needs --data and --arms; nothing is measured. See --help")
        return
    began = time.perf_counter()
    chosen = [(name, named(arms, name)) for name in given.arms.split(",")]
    for shape in dict.fromkeys(given.shape or arm.shape for _, arm in chosen):
        of_shape = [arm for _, arm in chosen if (given.shape or arm.shape) == shape]
        weights = ["--weights"] if any(arm.needs_weights for arm in of_shape) else []
        subprocess.run(child(given, "--prepare", shape, *weights), check=True)  # apart: it would keep device memory
    print(f"prepared in {time.perf_counter() - began:.0f} s", flush=True)
    results: list[dict[str, Any]] = []
    command = f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
    for name, arm in chosen:
        left = given.deadline - (time.perf_counter() - began)
        if left < 20:
            results.append({"arm": name, "about": arm.about, "error": "not started: no time was left"})
            continue
        results.append(start_arm(given, name, arm, min(given.limit, left)))
        outcome = results[-1].get("error") or f"{results[-1]['samples_per_second']:.1f} {counted}s/s"
        print(f"{name}: {outcome}; {results[-1]['wall_seconds']:.0f} s in all", flush=True)
        if "error" in results[-1]:
            print(results[-1].get("traceback") or results[-1]["log"], flush=True)
        text = table(title, counted, results, command)
        if given.markdown:
            given.markdown.write_text(text, encoding="utf-8")
        if given.json:
            given.json.write_text(json.dumps({"command": command, "results": results}, indent=1), encoding="utf-8")
    print(table(title, counted, results, command))

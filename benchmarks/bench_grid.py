"""What a grid of four members costs against one member, through the runner that `sightline run` uses.

    python benchmarks/bench_grid.py [--base builtin:tiny] [--images 48] [--steps 20] [--batch-size 16] [--repeats 3]
        [--out FILE]

The same study is carried out once with one member and once with a grid of four, by turns. Base, rendered rows and
picture features should be made once for all members, so four members may cost four times one member's steps and
hardly more. Step times are those of the models' own `metrics.jsonl`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch

from sightline.runner import make, run_study
from sightline.runner.display import Display
from sightline.study import load_study

MEMBERS = {1: {"lora.alpha": [32]}, 4: {"lora.alpha": [32, 16], "learning_rate": [1e-4, 2e-4]}}
LIMIT = 4.1


def study_file(folder: Path, given: argparse.Namespace, num_members: int) -> Path:
    """Write a study whose only step is a grid of so many members."""
    values = {
        "name": f"grid{num_members}",
        "base": given.base,
        "data": {
            "phantom": {
                "source": "builtin:phantom",
                "images": given.images,
                "split": {"train": 0.8, "test": 0.2, "by": "image"},
            }
        },
        "steps": {
            "sft": {
                "on": "phantom.train",
                "max_steps": given.steps,
                "batch_size": given.batch_size,
                "grid": MEMBERS[num_members],
            }
        },
        "evaluate": {"on": "phantom.test", "metrics": ["exact_match"]},
        "accept": {"step-0-loss": "the weights of a base of real shape are random"},
    }
    file = folder / f"grid{num_members}.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    return file


@contextlib.contextmanager
def base_loads() -> Iterator[list[str]]:
    """Note which bases the runner loads."""
    loaded: list[str] = []

    def noting(base: str, *arguments: object, **named: object) -> object:
        loaded.append(base)
        return load(base, *arguments, **named)  # pyright: ignore

    load = make.load_model
    with patch.object(make, "load_model", noting):
        yield loaded


def measure(given: argparse.Namespace, num_members: int) -> dict[str, list[float]]:
    """Train the members in a directory of their own.

    Returns:
        seconds of each member's steps, in order; wall-clock seconds of making the models, loading included; how many
        times a base was loaded.
    """
    with tempfile.TemporaryDirectory() as folder, base_loads() as loaded:
        out = Path(folder) / "out"
        run_study(
            load_study(study_file(Path(folder), given, num_members)), out, until="sft", display=Display(quiet=True)
        )
        seconds = []
        for metrics in sorted(out.glob("models/sft.*/metrics.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            seconds.append(sum(json.loads(line)["seconds"] for line in metrics.read_text().splitlines()))
        assert len(seconds) == num_members
        spent = json.loads((out / "spent.json").read_text())["seconds"]
        wall = sum(value for name, value in spent.items() if name.startswith("train "))
        return {"seconds": seconds, "wall": [wall], "base loads": [len(loaded)]}


def main() -> None:
    """Measure by turns, print a table, and write it with what it was measured on."""
    parser = argparse.ArgumentParser(
        "benchmarks/bench_grid.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[int, list[dict[str, list[float]]]] = {1: [], 4: []}
    for _ in range(given.repeats):
        for num_members, runs in found.items():
            runs.append(measure(given, num_members))
    each = {
        number: [statistics.median(run["seconds"][place] for run in runs) for place in range(number)]
        for number, runs in found.items()
    }
    ratio = sum(each[4]) / sum(each[1])
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores"
    lines = [
        f"# A grid of four members against one: {given.base} on {device}, {datetime.date.today()}",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads; rank 16, "
        f"{given.batch_size} samples a step, {given.steps} steps a member, {given.images} phantom pictures; members "
        f"differ in {' and '.join(MEMBERS[4])}; "
        f"seconds of all steps, median of {given.repeats} runs of each, by turns.",
        "",
        f"    python {parser.prog} --base {given.base} --images {given.images} --steps {given.steps} "
        f"--batch-size {given.batch_size} --repeats {given.repeats}",
        "",
        "| members | step seconds | each member's | wall seconds, loading included | times the base was loaded |",
        "|---|---|---|---|---|",
    ]
    for number, runs in found.items():
        wall = statistics.median(run["wall"][0] for run in runs)
        loads = max(run["base loads"][0] for run in runs)
        shown = ", ".join(f"{value:.2f}" for value in each[number])
        lines.append(f"| {number} | {sum(each[number]):.2f} | {shown} | {wall:.2f} | {loads:.0f} |")
    kept = "less" if ratio < LIMIT else "NOT less"
    lines += [
        "",
        f"Four members take {ratio:.2f} times one member's step time, {kept} than {LIMIT} times. The first member also "
        "computes the picture features that the others find.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

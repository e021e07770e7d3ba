"""`sightline check` on a large set: seconds to the first finding, to the last one, and peak memory.

    python benchmarks/bench_check.py [--rows 100000] [--pictures 10000] [--folder FOLDER] [--markdown FILE]

Phantom pictures of 512 x 512 pixels with grain, half of them PNG and half JPEG, each asked the same number of
questions, in one JSONL file. Every question has a number in it, so that no two rows have the same text. The command
runs in a process of its own, as a user starts it: the first time with nothing known of any picture, then again. Memory
is the proportional set size of that process and its workers together, looked at every fifth of a second. `--folder`
keeps pictures and rows for another time.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SIDE = 512
GRAIN = 6
"""Grey values by which neighbouring pixels differ, as on film; without it PNG files would be tiny."""

LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of the command took.

    Args:
        when_seconds: of each finding, its name and the seconds until it was printed.
        total_seconds: until the command ended.
        cpu_seconds: of all its processes together.
        peak_mib: of all its processes together.
    """

    when_seconds: tuple[tuple[str, float], ...]
    total_seconds: float
    cpu_seconds: float
    peak_mib: float


def make_data(folder: Path, num_rows: int, num_pictures: int) -> None:
    """Draw the pictures and write the rows, unless they are there."""
    file = folder / "rows.jsonl"
    if file.exists():
        return
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    per_picture = -(-num_rows // num_pictures)
    with ProcessPoolExecutor() as pool:
        made = pool.map(_picture_rows, [(folder, number, per_picture) for number in range(num_pictures)], chunksize=50)
        rows = [row for some in made for row in some][:num_rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _picture_rows(asked: tuple[Path, int, int]) -> list[dict[str, object]]:
    import numpy as np
    from PIL import Image

    from sightline.data.phantom import phantom_samples
    from sightline.data.pictures import open_picture

    folder, number, per_picture = asked
    samples = phantom_samples(1, first_index=number, subset="single", questions_per_image=per_picture)
    image = open_picture(samples[0].pictures[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(number).integers(-GRAIN, GRAIN + 1, size=(SIDE, SIDE, 1))
    image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
    name = f"{number:06d}.{'png' if number % 2 else 'jpg'}"
    encoded = io.BytesIO()
    image.save(encoded, "PNG" if number % 2 else "JPEG", **({"compress_level": 1} if number % 2 else {"quality": 90}))
    (folder / "pictures" / name).write_bytes(encoded.getvalue())
    rows = []
    for place in range(per_picture):
        sample = samples[place % len(samples)]
        question = f"Case {number}, {place}: {sample.question}"
        kind = sample.tags["answer_type"]
        rows.append({"image": name, "question": question, "answer": sample.answer, "answer_type": kind})
    return rows


def write_study(folder: Path) -> Path:
    """Write the study that is checked."""
    study = {
        "name": "large",
        "base": "builtin:tiny",
        "data": {
            "rows": {
                "source": "rows.jsonl",
                "images": "pictures",
                "split": {"train": 0.8, "validation": 0.1, "test": 0.1, "by": "image"},
            }
        },
        "steps": {"sft": {"on": "rows.train", "epochs": 1}},
        "evaluate": {"on": "rows.test", "metrics": ["exact_match"]},
    }
    file = folder / "study.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    return file


def run_check(study: Path, cache: Path) -> Run:
    """Run the command and watch it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from sightline.cli import main; main()", "check", str(study)],
        stdout=subprocess.PIPE,
        env=os.environ | {"SIGHTLINE_CACHE": str(cache)},
        text=True,
    )
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(_memory_mib, _family(process.pid))))
            time.sleep(LOOK_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    when = []
    assert process.stdout is not None
    for line in process.stdout:
        print(f"  {time.perf_counter() - begun:7.2f} s  {line[:100].rstrip()}", flush=True)
        severity, _, rest = line.partition(" ")
        if severity in ("fault", "warning", "note"):
            when.append((rest.strip().partition(":")[0], time.perf_counter() - begun))
    process.wait()
    total_seconds = time.perf_counter() - begun
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(when_seconds=tuple(when), total_seconds=total_seconds, cpu_seconds=cpu_seconds, peak_mib=peak)


def _family(parent: int) -> list[int]:
    """Find a process and all that descend from it."""
    found = [parent]
    for pid in found:
        try:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def _memory_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def table(given: argparse.Namespace, runs: Sequence[tuple[str, Run]]) -> str:
    """Write the results as Markdown."""
    lines = [
        f"# `sightline check` on {given.rows:,} rows: {os.cpu_count()} CPU cores, {datetime.date.today()}",
        "",
        f"{given.pictures:,} pictures of {SIDE} x {SIDE} pixels, half PNG, half JPEG; builtin:tiny; "
        f"Python {platform.python_version()}.",
        "",
        f"    python benchmarks/bench_check.py --rows {given.rows} --pictures {given.pictures}",
        "",
        "| | first finding, s | last finding, s | total, s | CPU, s | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs:
        first, last = run.when_seconds[0][1], run.when_seconds[-1][1]
        seconds = f"{first:.1f} | {last:.1f} | {run.total_seconds:.1f} | {run.cpu_seconds:.1f}"
        lines.append(f"| {name} | {seconds} | {run.peak_mib:,.0f} |")
    lines += [
        "",
        "Seconds until each finding was printed:",
        "",
        f"| finding | {' | '.join(name for name, _ in runs)} |",
    ]
    lines.append("|---" * (1 + len(runs)) + "|")
    for place, (finding, _) in enumerate(runs[0][1].when_seconds):
        seconds = [f"{run.when_seconds[place][1]:.1f}" for _, run in runs if place < len(run.when_seconds)]
        lines.append(f"| {finding} | {' | '.join(seconds)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the data, run the command twice, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        make_data(folder, given.rows, given.pictures)
        study = write_study(folder)
        cache = Path(temporary) / "cache"
        runs = [(name, run_check(study, cache)) for name in ("nothing known", "pictures known")]
    text = table(given, runs)
    print(text)
    if given.markdown:
        given.markdown.write_text(text)


if __name__ == "__main__":
    main()

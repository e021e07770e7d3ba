"""How long a large report takes: 10 models, 3,000 questions on 500 pictures.

    PYTHONPATH=src:tests python benchmarks/bench_report.py [--questions 3000] [--images 500] [--models 10] [--out DIR]

The answers are invented and the pictures drawn: those of builtin:phantom, brought to 512 x 512 pixels with grain, so
that their copies weigh what photographs' do. Measured: seconds to write everything, the page's size, and in headless
Chromium the time until the page can be used (its script has run, the first rows are drawn) and until a filter and a
search have been answered. Targets: under 40 MB, and usable within 3 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from report.fake_study import write_study
from sightline.data.phantom import phantom_samples
from sightline.data.pictures import open_picture, read_picture
from sightline.records import Picture, Sample
from sightline.report.build import build_report

MOST_MEGABYTES = 40
MOST_SECONDS = 3.0
SIDE = 512
_TIMES_OPENED = 5


def grainy(picture: Picture, number: int) -> Picture:
    """Bring a drawn picture to the size and the grain of a scanned one."""
    generator = np.random.default_rng(number)
    large = open_picture(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(large, dtype=np.float64) + generator.normal(0, 6, (SIDE, SIDE, 1))
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, format="JPEG", quality=90)
    return read_picture(content.getvalue(), name=f"film-{number:04d}.jpg")[0]


def questions(num_questions: int, num_images: int) -> list[Sample]:
    """Ask equally many questions about each of the pictures."""
    drawn = phantom_samples(num_images, seed=1, subset="single")
    by_picture: dict[str, list[Sample]] = {}
    for sample in drawn:
        by_picture.setdefault(sample.pictures[0].sha256, []).append(sample)
    made = []
    for number, asked in enumerate(by_picture.values()):
        picture = grainy(asked[0].pictures[0], number)
        each = num_questions // len(by_picture) + (number < num_questions % len(by_picture))
        for turn in range(each):
            sample = asked[turn % len(asked)]
            made.append(dataclasses.replace(sample, id=f"{number:04d}-{turn:02d}", pictures=(picture,)))
    return made


def opened(report: Path) -> dict[str, list[float]]:
    """Open the report in headless Chromium, several times: seconds until it can be used, and until a filter answers."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"usable": [], "filter": [], "search": []}
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        named = os.environ.get("CHROMIUM") or shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=named, args=options)
        for _ in range(_TIMES_OPENED):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            page.goto(report.as_uri())
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            assert page.locator("#controls").is_visible() and page.locator("#list .row").count() == 100
            found["usable"].append(time.perf_counter() - start)
            for name, act in (
                ("filter", lambda page=page: page.locator("[name=moved]").nth(1).check(force=True)),
                ("search", lambda page=page: page.locator("[name=words]").fill("heart")),
            ):
                start = time.perf_counter()
                act()
                page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
                found[name].append(time.perf_counter() - start)
            page.close()
        browser.close()
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the study where there is none yet, write its report, open it."""
    directory = folder / "study"
    if not (directory / "compare.json").exists():
        skills = {"base": 0.4} | {f"sft.m{n}": 0.45 + 0.04 * n for n in range(1, arguments.models)}
        write_study(directory, samples=questions(arguments.questions, arguments.images), models=skills)
    wall, processor = time.perf_counter(), time.process_time()
    report = build_report(directory)
    seconds = {"wall_seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    text = report.read_text(encoding="utf-8")
    return {
        **seconds,
        "megabytes": report.stat().st_size / 1e6,
        "megabytes_of_pictures": sum(map(len, re.findall(r'href="data:image/[^"]+', text))) / 1e6,
        "num_rows": text.count('<article class="row"'),
        "num_pictures": text.count('href="data:image/'),
        "opened": opened(report),
        "load": os.getloadavg()[0],
    }


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=3_000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--out", type=Path, help="keep the study here; by default it is thrown away")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(arguments, arguments.out or Path(temporary))
    found["opened"] = {name: round(statistics.median(times), 3) for name, times in found["opened"].items()}
    print(json.dumps(found, indent=1))
    assert found["megabytes"] < MOST_MEGABYTES, f"the page is larger than {MOST_MEGABYTES} MB"
    assert found["opened"]["usable"] < MOST_SECONDS, f"the page is not usable within {MOST_SECONDS:g} s"


if __name__ == "__main__":
    main()

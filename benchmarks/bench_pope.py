"""Asking POPE's real questions: sightline beside Hugging Face `generate`, on LLaVA-1.5-7B's shape with random weights.

    python benchmarks/bench_pope.py --data FOLDER [--shape llava-7b | tiny] [--markdown FILE] [--json FILE]

FOLDER holds POPE's label files; its 500 pictures are drawn at random in sizes like COCO's, for all arms the same. Two
new tokens, greedy. sightline answers all 9,000 questions through `answer_samples`; `generate` answers the first of
them, one by one and in padded batches, in the order of the files, its inputs prepared ahead by worker processes whose
first batch is ready before the clock starts. All arms share one model in memory and are warmed up. Then equality:
greedy tokens in float32 on a tiny model; in bfloat16 the log-odds of yes against no at the first token, of shared and
of unshared rows, beside the same weights in float32 run by the stock forward. `--shape tiny` tries it all on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from generate_arm import Arm, generate, model_of, now, peak_gib
from pope_equality import compare_signs
from pope_questions import distinct, pope_samples

from sightline.generation import answering, decoding
from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.features import PictureFeatures
from sightline.models.loading import LoadedModel
from sightline.records import Answer, Sample

TWO_TOKENS = Decoding(max_new_tokens=2)
WANTED = {"one by one": 35.0, "in batches": 10.0}
"""How many times faster than each of `generate`'s arms sightline has to be."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked: pictures; questions for `generate` one by one, in batches and in a batch; compared ones."""

    shape: str
    pictures: int
    alone: int
    batched: int
    batch: int
    compared: int


SIZES = {
    "llava-7b": Size(shape="llava-7b", pictures=500, alone=600, batched=2400, batch=48, compared=600),
    "tiny": Size(shape="tiny-llava", pictures=20, alone=24, batched=96, batch=12, compared=60),
}


@contextlib.contextmanager
def shares(device: torch.device) -> Iterator[Callable[[], dict[str, float]]]:
    """Time the parts of answering, on the device's own clock where it has one; read once all is done."""
    spans: dict[str, list[tuple[Any, Any]]] = {}

    def mark(on_host: bool) -> Any:
        if on_host or device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def timed(name: str, function: Callable[..., Any], *, on_host: bool = False) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            began = mark(on_host)
            result = function(*arguments, **named)
            spans.setdefault(name, []).append((began, mark(on_host)))
            return result

        return run

    def read() -> dict[str, float]:
        totals = {
            name: sum(b - a if isinstance(a, float) else a.elapsed_time(b) / 1e3 for a, b in found)
            for name, found in spans.items()
        }
        prefill = totals["to the first token"] - totals["pictures"]
        after = totals["a row"] - totals["to the first token"]
        return {
            "render": totals["render"],
            "rows": totals["rows"],
            "pictures": totals["pictures"],
            "prefill": prefill,
            "decode": after,
        }

    with contextlib.ExitStack() as patched:
        for place, name, what, on_host in (
            (answering, "render_asked", "render", True),
            (answering, "step_rows", "rows", True),
            (answering, "decode_row", "a row", False),
            (decoding, "hidden_states_at", "to the first token", False),
            (PictureFeatures, "of", "pictures", False),
        ):
            function = timed(what, getattr(place, name), on_host=on_host)
            if isinstance(place, type):  # a plain function again, so that it gets its object
                function = _as_method(function)
            patched.enter_context(patch.object(place, name, function))
        yield read


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any) -> Any:
        return function(self, *arguments)

    return method


def ask_all(loaded: LoadedModel, samples: Sequence[Sample]) -> tuple[Arm, float]:
    """Answer everything by sightline; the second figure is what the first use of the model took, not counted."""
    began = now(loaded.device)
    for _ in answer_samples(loaded, samples[:96], TWO_TOKENS, model="m", data="warm-up"):
        pass
    warm_up = now(loaded.device) - began
    loaded.features.forget()
    if loaded.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with shares(loaded.device) as read:
        began = now(loaded.device)
        answers: list[Answer] = [
            answer for row in answer_samples(loaded, samples, TWO_TOKENS, model="m", data="pope") for answer in row
        ]
        seconds = now(loaded.device) - began
        parts = read()
    parts["the rest"] = seconds - sum(parts.values())
    texts = {answer.sample_id: answer.text for answer in answers}
    assert texts.keys() == {sample.id for sample in samples}
    peak = peak_gib(loaded.device)
    return Arm(questions=len(samples), seconds=seconds, peak_gib=peak, texts=texts, shares=parts), warm_up


def compare_tokens(samples: Sequence[Sample], texts: Sequence[str], folder: Path) -> int:
    """Assert that a tiny model in float32 gives the same greedy answers; how many were compared."""
    loaded, processor = model_of("tiny-llava", texts, folder, torch.float32)
    rows = answer_samples(loaded, samples, Decoding(max_new_tokens=8), model="m", data="d")
    ours = {answer.sample_id: answer.text for row in rows for answer in row}
    theirs = generate(loaded, processor, samples, 1, do_sample=False, max_new_tokens=8).texts
    assert ours == theirs and len(set(ours.values())) > 1
    return len(samples)


def same_share(ours: Mapping[str, str], theirs: Mapping[str, str]) -> float:
    """Share of the questions both answered to which both said the same."""
    return statistics.mean(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def table(found: Mapping[str, Any]) -> str:
    """Write the results in Markdown."""
    arms, ours = found["arms"], found["arms"]["sightline"]
    rate = ours["questions"] / ours["seconds"]
    lines = [
        f"# POPE's questions: sightline beside Hugging Face generate, {found['date']}",
        "",
        f"    {found['command']}",
        "",
        f"{found['device']}; {', '.join(f'{name} {version}' for name, version in found['versions'].items())}. "
        f"Shape {found['shape']}, {found['dtype']}, random weights; {found['pictures']} random pictures; two tokens.",
        "",
        "| arm | questions | seconds | questions/s | sightline is × faster | at least | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in arms.items():
        theirs = arm["questions"] / arm["seconds"]
        ratio = f"{rate / theirs:.1f}" if name in WANTED else ""
        wanted = f"{WANTED[name]:.0f}" if name in WANTED else ""
        cells = [f"{arm['questions']:,}", f"{arm['seconds']:.1f}", f"{theirs:.1f}", ratio, wanted]
        lines.append(f"| {name} | {' | '.join(cells)} | {arm['peak_gib']:.1f} |")
    lines += ["", "| of sightline's time | seconds | share |", "|---|---|---|"]
    for part, seconds in ours["shares"].items():
        lines.append(f"| {part} | {seconds:.2f} | {seconds / ours['seconds']:.1%} |")
    lines += ["", *(f"- {name}: {value}" for name, value in found["notes"].items())]
    lines += ["", "| log-odds of yes against no | |", "|---|---|"]
    for name, value in found["signs"].items():
        lines.append(f"| {name} | {value if isinstance(value, int) else format(value, '.3g')} |")
    return "\n".join(lines) + "\n"


def failures(found: Mapping[str, Any]) -> list[str]:
    """Name what was to be shown and was not; speed counts at full size only."""
    signs, arms = found["signs"], found["arms"]
    wrong = [] if signs["of these, tree has the sign"] == signs["beyond flat's largest error"] else ["signs differ"]
    rates = {name: arm["questions"] / arm["seconds"] for name, arm in arms.items()}
    if found["shape"] == "llava-7b":
        wrong += [f"{name}: too slow" for name, x in WANTED.items() if rates["sightline"] < x * rates[name]]
    return wrong


def main() -> None:
    """Measure, compare, print and write."""
    parser = argparse.ArgumentParser(
        "benchmarks/bench_pope.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with POPE's label files")
    parser.add_argument("--shape", choices=SIZES, default="llava-7b")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers are forked from a process that has tokenised
    size, started = SIZES[given.shape], time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "pictures").mkdir()
        samples = pope_samples(given.data, folder / "pictures", size.pictures)
        texts = [*{sample.question for sample in samples}, " yes", " no"]
        asked = distinct(samples, size.compared)
        say(f"{len(samples)} questions, {len(distinct(samples, len(samples)))} distinct")
        num_equal = compare_tokens(asked[:24], texts, folder / "tiny")
        say(f"greedy tokens of {num_equal} questions are the same in float32 on a tiny model")
        loaded, processor = model_of(size.shape, texts, folder / "model")
        say("model made")
        arms: dict[str, Arm] = {}
        greedy = {"do_sample": False, "max_new_tokens": TWO_TOKENS.max_new_tokens}
        arms["one by one"] = generate(loaded, processor, samples[: size.alone], 1, **greedy)
        say(f"{arms['one by one']}")
        arms["in batches"] = generate(loaded, processor, samples[: size.batched], size.batch, **greedy)
        say(f"{arms['in batches']}")
        arms["sightline"], warm_up = ask_all(loaded, samples)
        say(f"{arms['sightline']}")
        found: dict[str, Any] = {
            "command": f"python benchmarks/{Path(__file__).name} --data {given.data.name} --shape {given.shape}",
            "date": f"{datetime.date.today()}",
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
            "versions": {"Python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
            "shape": size.shape,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "pictures": size.pictures,
            "arms": {name: dataclasses.asdict(arm) for name, arm in arms.items()},
            "notes": {
                "a batch of `generate` has": size.batch,
                "first use of sightline, not counted, seconds": round(warm_up, 1),
                "tokens of a row": answering.row_length(loaded),
                **{
                    f"same answers, {a} and {b}": f"{same_share(arms[a].texts, arms[b].texts):.1%}"
                    for a, b in itertools.combinations(arms, 2)
                },
                "same greedy tokens on a tiny model in float32": f"{num_equal} of {num_equal} questions",
            },
        }
        for arm in found["arms"].values():
            del arm["texts"]
        if given.json:  # what has been measured is not lost should the rest fail
            given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
        found["signs"] = compare_signs(loaded, asked)
        say("log-odds compared")
    text = table(found)
    print(text)
    if given.markdown:
        given.markdown.write_text(text, encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if wrong := failures(found):
        sys.exit("not shown: " + "; ".join(wrong))


if __name__ == "__main__":
    main()

"""A study whose every text tries to be something else: markup, script, link, beacon, control sequence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report.fake_study import write_study
from sightline.data.phantom import phantom_samples
from tiny_studies import SMALL, write_small_study

ATTACKS = (
    "<script>window.reached = 1</script>",
    "</script><script>window.reached = 1</script>",
    "</style><img src=x onerror='window.reached = 1'>",
    "\"><img src=http://beacon.invalid/a.png onerror='window.reached = 1'>",
    "' onmouseover='window.reached = 1' x='",
    "javascript:window.reached = 1",
    "<svg onload='window.reached = 1'><use href='http://beacon.invalid/#x'/></svg>",
    "]]><!-- --><iframe srcdoc='<script>parent.reached = 1</script>'>",
    "![beacon](http://beacon.invalid/b.png) [link](javascript:alert) {{ 7 * 7 }} {% raw %}",
    "\x1b[31mred\x1b]8;;http://beacon.invalid\x07 \u202egnp.exe \x00 \ud800",
    '=HYPERLINK("http://beacon.invalid")',
)
LONG = "long " * 200_000


def _every_row(path: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        change(number, row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_hostile_study(directory: Path) -> Path:
    """Write a study with an attack in every field that a person, a file or a model fills in."""
    write_study(directory, samples=phantom_samples(4, seed=5))
    attack = dict(enumerate(ATTACKS)).__getitem__
    many = len(ATTACKS)

    def sample(number: int, row: dict[str, Any]) -> None:
        row["messages"][-1]["content"] = [0, attack(number % many)]
        row["answer"] = attack((number + 1) % many)
        row["tags"] = {attack(2): attack(number % many), "kind": attack(number % 3), "organ": str(number % 2)}
        row["pictures"][0]["name"] = attack((number + 3) % many)

    def answer(number: int, row: dict[str, Any]) -> None:
        row["text"] = LONG if number == 0 else attack(number % many)

    _every_row(directory / "data" / "phantom.test.jsonl", sample)
    for path in sorted((directory / "answers").glob("*.jsonl")):
        _every_row(path, answer)
    everything = " ".join(ATTACKS)
    compare = json.loads((directory / "compare.json").read_text())
    compare["study"], compare["notes"] = everything, list(ATTACKS)
    for arm in compare["arms"]:
        for metric in arm["metrics"].values():
            metric["title"] = everything
    for question in compare["stated"] + compare["exploratory"]:
        question.update(sentence=everything, verdict=ATTACKS[3], model=ATTACKS[0], p_check_method=ATTACKS[1])
    compare["baselines"][0]["answer"] = ATTACKS[2]
    run = json.loads((directory / "run.json").read_text())
    run.update(
        versions={everything: everything},
        hardware={everything: everything},
        notes=[everything],
        study_sha256=everything,
    )
    for name, value in (
        ("compare.json", compare),
        ("run.json", run),
        ("pictures_matter.json", _pictures_matter(everything)),
        ("checks.json", [{"name": everything, "found": everything, "where": everything, "advice": everything}]),
        (
            "data/problems.json",
            [{"file": everything, "row": 1, "id": everything, "found": everything, "kind": ATTACKS[0]}],
        ),
    ):
        (directory / name).write_text(json.dumps(value), encoding="utf-8")
    quoted = json.dumps(ATTACKS[0])
    (directory / "study.yaml").write_text(
        f"name: {quoted}\naccept: {{{quoted}: {quoted}}}\n# {ATTACKS[2]}\n", encoding="utf-8"
    )
    return directory


def _pictures_matter(text: str) -> dict[str, Any]:
    gain = {"gain": 0.1, "interval": [0.05, 0.15], "p": 0.01, "detectable": 0.1, "reason": text}
    metric = {"title": text, "unit": "rate", "values": {}, "gains": {"blank": gain, "other": gain}}
    said = {"verdict": ATTACKS[3], "sentence": text, "beside": text}
    entry = {"model": ATTACKS[0], "data": text, "metric": "m", "metrics": {"m": metric}, **said}
    return {"sets": [{"data": text, "sentence": text}], "models": [entry]}


def write_hostile_rows(folder: Path) -> Path:
    """Write a study that has not run, whose first rows ask and answer with attacks; all rows are learnt from."""
    # A NUL and half a character are no text; such rows are refused when they are read.
    texts = [attack for attack in ATTACKS if "\x00" not in attack and "\ud800" not in attack]
    texts.append("\x1b[31mred\x1b]8;;http://beacon.invalid\x07 \u202egnp.exe \u05e9\u05dc\u05d5\u05dd")
    rows = {f"row{line}": ["images/scan_000.png", text, text] for line, text in enumerate(texts, start=2)}
    text = SMALL.replace("{train: 0.5, test: 0.5, by: image}", "{train: all, test: all}")
    return write_small_study(folder, text, **rows)

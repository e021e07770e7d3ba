"""`sightline init` on files whose columns nobody foresaw, and the studies that it and the smallest file make."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.study import load_study
from tiny_studies import picture_rows, sightline_command, write_csv

QUICK = ("--set", "base=builtin:tiny", "--set", "steps.sft.max_steps=2")


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Semicolons, German headers, pictures named without suffix, in a folder of their own."""
    rows = picture_rows(tmp_path / "bilder", prefix="", suffix="")
    parts = [[*row, ("Thorax", "Kopf")[number % 2]] for number, row in enumerate(rows)]
    write_csv(tmp_path / "fragen.csv", parts, names=("Aufnahme", "Frage", "Antwort", "Körperteil"), delimiter=";")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_unfamiliar_columns_become_a_study_that_runs(german: Path) -> None:
    made = sightline_command("init", "--images", "bilder", "--data", "fragen.csv")
    assert made.code == 0, made.err
    *rows, few, last = made.out.splitlines()
    assert len(rows) == 3 and few.startswith(
        "warning: 12 pictures are few. With fewer than 6 to test on, no difference "
    )
    assert few.removeprefix("warning: ") in (german / "study.yaml").read_text(encoding="utf-8")
    assert rows[0].startswith("row 1: image = scan_000; question = ")
    assert last == "wrote study.yaml; next: sightline check study.yaml"

    data = load_study(german / "study.yaml").data["fragen"]
    assert data.columns == {"image": "Aufnahme", "question": "Frage", "answer": "Antwort", "tags": ["Körperteil"]}
    ended = sightline_command("run", "study.yaml", "--out", "made", *QUICK)
    assert (ended.code, ended.out) == (0, "made/report.html\n"), ended.err
    assert (german / "made" / "report.html").stat().st_size > 10_000


def test_a_study_of_uneven_rows_passes_its_own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = picture_rows(tmp_path / "images", num_images=64)
    picture = first[0][0]
    # The split comes to this picture late: a tenth of the rows is no picture at all, and the check would stop.
    asked = [[picture, f"Is there nodule number {number}?", "no"] for number in range(200)]
    write_csv(tmp_path / "rows.csv", [*{row[0]: row for row in first}.values(), *asked])
    made = sightline_command("init", "--images", ".", "--data", "rows.csv", "--base", "builtin:tiny")
    assert "warning: 264 rows are spread unevenly over 64 pictures, up to 201 on one. With fewer than 6 " in made.out
    ended = sightline_command("check", "study.yaml")
    assert ended.code == 0 and "few-test-images" not in ended.out, ended.err


def test_the_study_file_is_never_overwritten(german: Path) -> None:
    (german / "study.yaml").write_text("mine\n", encoding="utf-8")
    ended = sightline_command("init", "--images", "bilder", "--data", "fragen.csv")
    assert ended.code == 2
    assert ended.err == "sightline: study.yaml exists; give another --out, or remove it\n"
    assert (german / "study.yaml").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "none", "--data", "fragen.csv"), "none: no such folder; correct `--images`"),
        (("--images", "bilder", "--data", "none.csv"), "none.csv: no such file; correct `--data`"),
        (("--images", ".", "--data", "fragen.csv"), "no column names pictures in ."),
    ],
)
@pytest.mark.usefixtures("german")
def test_what_cannot_be_guessed_is_named(arguments: tuple[str, ...], message: str) -> None:
    ended = sightline_command("init", *arguments)
    assert ended.code == 2 and message in ended.err
    assert not Path("study.yaml").exists()


def test_the_smallest_study_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "my.csv", picture_rows(tmp_path / "images"))
    (tmp_path / "first.yaml").write_text("base: builtin:tiny\ndata: my.csv\n", encoding="utf-8")
    ended = sightline_command("run", "first.yaml", "--set", "steps.sft.max_steps=2")
    assert (ended.code, ended.out) == (0, "studies/first/report.html\n"), ended.err
    assert (tmp_path / "studies/first/models/sft/adapter_model.safetensors").is_file()

"""`sightline check`: exit codes 0, 2 and 4, and what `accept` changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.checking.findings import Finding
from sightline.cli.findings import print_findings
from tiny_studies import SMALL, picture_rows, sightline_command, write_csv

BY_ROW = SMALL.replace("by: image", "by: row")
FOUND = "found: 0 faults, 2 warnings (same-image-in-train-and-test, detectable-difference), "
ACCEPT = ("--set", "accept.same-row-in-train-and-test=to show that it is possible")


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies: one whose test pictures are trained on, one whose test rows are."""
    folder = tmp_path_factory.mktemp("leaking")
    rows = picture_rows(folder / "images")
    write_csv(folder / "rows.csv", rows)
    write_csv(folder / "twice.csv", [*rows, *rows])
    (folder / "pictures.yaml").write_text(BY_ROW, encoding="utf-8")
    (folder / "rows.yaml").write_text(BY_ROW.replace("rows.csv", "twice.csv"), encoding="utf-8")
    return folder


def test_nothing_to_complain_about(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", picture_rows(tmp_path / "images", num_images=40))
    (tmp_path / "study.yaml").write_text(SMALL.replace("max_steps: 2", "epochs: 1"), encoding="utf-8")
    ended = sightline_command("check", tmp_path / "study.yaml", "--strict")
    assert (ended.code, ended.err) == (0, "")
    *found, summary = ended.out.splitlines()
    assert all(line.startswith("note ") for line in found)
    assert re.fullmatch(
        rf"found: 0 faults, 0 warnings, {len(found)} notes; \d+ s, \d+\.\d GiB of memory at most", summary
    )
    assert "tokens trained: image 0 of " in ended.out and "prefix-sharing" in ended.out


def test_a_warning_ends_with_4_under_strict_alone(leaking: Path) -> None:
    ended = sightline_command("check", leaking / "pictures.yaml")
    assert ended.code == 0 and "\nwarning  same-image-in-train-and-test: data.test: " in ended.out
    assert ended.out.splitlines()[-1].startswith(FOUND)
    assert sightline_command("check", leaking / "pictures.yaml", "--strict").code == 4


def test_a_fault_ends_with_2_and_says_how_to_accept_it(leaking: Path) -> None:
    ended = sightline_command("check", leaking / "rows.yaml")
    assert ended.code == 2
    assert "\nfault    same-row-in-train-and-test: data.test: " in ended.out
    assert ended.out.splitlines()[-1].startswith("found: 1 fault (same-row-in-train-and-test), ")
    assert "accept: {NAME: your reason}" in ended.err and "twice.csv:" in ended.out


def test_an_accepted_fault_is_gone_past(leaking: Path, tmp_path: Path) -> None:
    ended = sightline_command("check", leaking / "rows.yaml", *ACCEPT)
    assert ended.code == 0 and "(accepted: to show that it is possible)" in ended.out
    assert sightline_command("run", leaking / "rows.yaml", "--out", tmp_path / "refused").code == 2
    assert not (tmp_path / "refused" / "models").exists()


def test_the_reason_for_accepting_is_in_the_report(leaking: Path, tmp_path: Path) -> None:
    ended = sightline_command("run", leaking / "rows.yaml", *ACCEPT, "--out", tmp_path / "study")
    assert ended.code == 0, ended.err
    assert "to show that it is possible" in (tmp_path / "study" / "report.md").read_text(encoding="utf-8")


def test_json(leaking: Path) -> None:
    ended = sightline_command("check", leaking / "pictures.yaml", "--json")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    findings = {finding["name"]: finding for finding in json.loads(ended.out)["findings"]}
    assert findings["same-image-in-train-and-test"]["severity"] == "warning"
    assert findings["trained-tokens"]["evidence"]["image"]["trained"] == 0


def test_what_was_found_before_an_error_is_said_before_it(leaking: Path) -> None:
    ended = sightline_command("check", leaking / "rows.yaml", "--set", "data.source=none.csv")
    assert ended.code == 2 and "none.csv" in ended.err
    assert [line.split()[1] for line in ended.out.splitlines()] == ["destinations:", "licences:"]


def test_on_a_terminal_the_severity_is_coloured_and_lines_are_set_off(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        Finding(name="bad-rows", severity="fault", message="many " * 40, remedy="mend them"),
        Finding(name="cost", severity="note", message="little"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "60"}.items():
            patch.setenv(name, value)
        patch.delenv("NO_COLOR", raising=False)
        assert list(print_findings(found)) == found
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("\x1b[1;31mfault   \x1b[0m \x1b[1;31mbad-rows\x1b[0m: many")
    assert len(lines) > 4 and all(line.startswith(" " * 9) for line in lines[1:-1]) and "cost" in lines[-1]


def test_a_finding_is_printed_before_the_next_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def looks() -> Iterator[Finding]:
        yield Finding(name="cost", severity="note", message="little")
        assert capsys.readouterr().out == "note     cost: little\n"
        yield Finding(name="licences", severity="note", message="known")

    assert len(list(print_findings(looks()))) == 2

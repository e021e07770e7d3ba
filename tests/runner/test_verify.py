"""`report --verify`: every number follows from the stored answers, or is named with what it should be."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from judge_server import JudgeServer, prompt_of, serve_judge
from sightline.cli import app
from sightline.errors import CorruptError, MissingDataError
from sightline.report.build import build_report
from sightline.runner import run_study
from sightline.runner.verify import Verification, render_verification, verify_report
from sightline.storage import MANIFEST, read_jsonl, sha256_of, write_file, write_manifest
from sightline.study import load_study

STUDY = """
name: verified
base: builtin:tiny
data: {phantom: {source: builtin:phantom, images: 24, split: {train: 0.5, test: 0.5}}}
steps: {sft: {method: sft, from: base, on: phantom.train, max_steps: 1, batch_size: 4, lora: {rank: 2}}}
evaluate: {on: phantom.test, metrics: [exact_match, closed_accuracy, nll], rows: 24, max_new_tokens: 6}
compare: [{model: sft, against: base}]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    run_study(load_study(folder / "study.yaml"), folder / "out", with_figures=False)
    return folder / "out"


@pytest.fixture(scope="module")
def drawn(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study with its figures."""
    copy = Path(shutil.copytree(finished, tmp_path_factory.mktemp("drawn") / "out"))
    build_report(copy)
    return copy


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def _bytes(directory: Path) -> dict[str, str]:
    return {str(path): sha256_of(path) for path in sorted(directory.rglob("*")) if path.is_file()}


def _found(found: Verification, file: str) -> list[tuple[str, str, str, str]]:
    return [(one.model, one.metric, one.stored, one.recomputed) for one in found.found if one.file == file]


def _first_row(path: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    rows = read_jsonl(path)
    change(rows[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows[0]


def _vouch_again(manifest: Path) -> None:
    """Forge a manifest, so that only the numbers themselves give a change away."""
    held = json.loads(manifest.read_text(encoding="utf-8"))
    held["files"] = {name: sha256_of(manifest.parent / name) for name in held["files"]}
    manifest.write_text(json.dumps(held), encoding="utf-8")


def test_a_report_that_holds_is_said_to_and_nothing_is_written(finished: Path):
    before = _bytes(finished)
    found = verify_report(finished)
    assert found.holds and found.found == [] and found.num_compared > 500
    assert any(reason.startswith("nll: it needs the model") for reason in found.unchecked)
    assert render_verification(found).endswith("the report holds\n")
    assert _bytes(finished) == before


def test_a_changed_answer_gives_its_scores_away(copy: Path):
    row = _first_row(copy / "answers" / "sft.jsonl", lambda row: row.update(text="nothing of the kind"))
    _first_row(copy / "scores" / "sft" / "exact_match.jsonl", lambda row: row.update(value=1.0))
    _vouch_again(copy / "answers" / f"sft.{MANIFEST}")
    _vouch_again(copy / "scores" / "sft" / MANIFEST)
    found = verify_report(copy)
    ((model, metric, stored, again),) = _found(found, "scores/sft/exact_match.jsonl")
    assert (model, metric) == ("sft", "exact_match")
    assert json.loads(stored)["value"] == 1.0 and json.loads(again)["value"] == 0.0
    assert row["sample_id"] in next(one.place for one in found.found if one.file.startswith("scores/"))


def test_a_wrong_answer_in_place_of_another_is_named_with_its_sample(copy: Path):
    rows = read_jsonl(copy / "answers" / "sft.jsonl")
    scores = read_jsonl(copy / "scores" / "sft" / "exact_match.jsonl")
    at = next(at for at, score in enumerate(scores) if score["value"] == 0.0)
    (wrong,) = (row for row in rows if row["sample_id"] == scores[at]["sample_id"])
    wrong["text"] = "nothing of the kind"
    write_file(copy / "answers" / "sft.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = verify_report(copy)
    (place,) = [one.place for one in found.found if one.file == "scores/sft/exact_match.jsonl"]
    assert wrong["sample_id"] in place
    ((_, _, _, again),) = _found(found, "scores/sft/exact_match.jsonl")
    assert json.loads(again) == {"parsed": "nothing of kind"}
    told = CliRunner().invoke(app, ["report", str(copy), "--no-figures", "--no-images"])
    assert told.exit_code == 0 and told.stderr == "answers/sft.jsonl is not what the run wrote; see --verify\n"


def test_a_changed_score_gives_the_comparison_away(copy: Path):
    path = copy / "scores" / "base" / "exact_match.jsonl"
    _first_row(path, lambda row: row.update(value=1.0 - row["value"]))
    found = verify_report(copy)
    assert [one.file for one in found.found if one.place == "hashes"] == ["scores/base/exact_match.jsonl"]
    places = {(one.model, one.metric, one.place) for one in found.found if one.file == "compare.json"}
    assert ("base", "exact_match", "arms[0].metrics.exact_match.value") in places


def test_a_changed_row_of_the_data_is_named(copy: Path):
    _first_row(copy / "data" / "phantom.train.jsonl", lambda row: row.update(answer="something else"))
    picture = sorted((copy / "data" / "pictures").iterdir())[0]
    Image.new("RGB", (64, 64), "red").save(picture)
    found = verify_report(copy)
    places = {(one.file, one.place) for one in found.found}
    assert places >= {("data/phantom.train.jsonl", "rows"), (f"data/pictures/{picture.name}", "the picture")}
    said = render_verification(found)
    assert "data/phantom.train.jsonl: rows: " in said and "others than those that run.json recorded" in said


def test_a_changed_row_of_what_was_drawn_or_made_of_it_is_named(copy: Path):
    drawn, made, record = (copy / name for name in ("drawn/pairs.jsonl", "data/pairs.jsonl", "data/pairs.record.json"))
    for file in (drawn, made, record):
        write_file(file, '{"text": "as it was"}\n')
    write_manifest(drawn.with_name(f"pairs.{MANIFEST}"), [drawn], made_from={})
    write_manifest(made.with_name(f"pairs.{MANIFEST}"), [made, record], made_from={})
    assert verify_report(copy).holds
    for file in (drawn, made):
        _first_row(file, lambda row: row.update(text="another"))
    record.unlink()
    assert [(one.file, one.stored.split()[0]) for one in verify_report(copy).found] == [
        ("data/pairs.jsonl", "changed"),
        ("data/pairs.record.json", "missing"),
        ("drawn/pairs.jsonl", "changed"),
    ]


def test_a_changed_number_of_compare_json_is_named_with_both_values(copy: Path):
    compare = json.loads((copy / "compare.json").read_text(encoding="utf-8"))
    arm = next(arm for arm in compare["arms"] if arm["model"] == "sft")
    value = arm["metrics"]["closed_accuracy"]["value"]
    arm["metrics"]["closed_accuracy"]["value"] = value + 0.1
    (copy / "compare.json").write_text(json.dumps(compare), encoding="utf-8")
    found = verify_report(copy)
    assert ("sft", "closed_accuracy", json.dumps(value + 0.1), json.dumps(value)) in _found(found, "compare.json")
    assert not found.holds


def test_an_empty_part_may_be_missing_and_no_other(copy: Path):
    path = copy / "compare.json"
    compare = json.loads(path.read_text(encoding="utf-8"))
    assert compare["wordings"] == []
    path.write_text(json.dumps({key: value for key, value in compare.items() if key != "wordings"}), encoding="utf-8")
    assert verify_report(copy).holds
    path.write_text(json.dumps({key: value for key, value in compare.items() if key != "alpha"}), encoding="utf-8")
    assert [(one.place, one.stored) for one in verify_report(copy).found] == [("alpha", "nothing")]


def test_a_changed_number_of_a_table_the_page_or_a_figure_is_named(drawn: Path, tmp_path: Path):
    copy = Path(shutil.copytree(drawn, tmp_path / "out"))
    table = copy / "tables" / "results.csv"
    lines = table.read_text(encoding="utf-8").split("\n")
    cells = lines[1].split(",")
    held, cells[4] = cells[4], "0.999"
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]), encoding="utf-8")
    page = copy / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace("24 questions", "25 questions"), encoding="utf-8")
    figure = copy / "figures" / "stated.svg"
    figure.write_text(figure.read_text(encoding="utf-8").replace("#161b22", "#ffffff"), encoding="utf-8")
    (copy / "report.md").unlink()
    found = verify_report(copy)
    assert _found(found, "tables/results.csv") == [(cells[0], cells[3], "0.999", held)]
    ((_, _, stored, again),) = _found(found, "report.html")
    assert "25 questions" in stored and "24 questions" in again
    assert not {"<", ">"} & {*stored, *again}, "what a reader sees, without the page's markup"
    assert {one.file for one in found.found} == {
        *("tables/results.csv", "report.html", "figures/stated.svg", "report.md")
    }


def test_a_figure_of_another_matplotlib_is_not_called_wrong(drawn: Path, tmp_path: Path):
    copy = Path(shutil.copytree(drawn, tmp_path / "out"))
    figure = copy / "figures" / "stated.svg"
    text = figure.read_text(encoding="utf-8")
    figure.write_text(re.sub(r"Matplotlib [\d.]+", "Matplotlib 3.0.0", text), encoding="utf-8")
    found = verify_report(copy)
    assert found.holds
    assert any("figures/stated.svg: drawn by Matplotlib 3.0.0" in reason for reason in found.unchecked)


def test_a_torn_file_and_a_missing_report_are_errors_that_name_them(copy: Path):
    path = copy / "answers" / "base.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorruptError, match=re.escape(str(path))):
        verify_report(copy)
    (copy / "report.html").unlink()
    with pytest.raises(MissingDataError, match=r"no report\.html"):
        verify_report(copy)


def test_the_command_says_whether_it_holds_and_exits_by_it(copy: Path):
    held = CliRunner().invoke(app, ["report", str(copy), "--verify"])
    assert (held.exit_code, held.stdout.splitlines()[-1][-17:]) == (0, " the report holds")
    (copy / "model_cards" / "sft.md").write_text("# another", encoding="utf-8")
    fell = CliRunner().invoke(app, ["report", str(copy), "--verify", "--json"])
    found = json.loads(fell.stdout)
    assert (fell.exit_code, found["holds"], found["found"][0]["file"]) == (3, False, "model_cards/sft.md")


JUDGED = """
name: judged
base: builtin:tiny
data: {phantom: {source: builtin:phantom, images: 12, split: {train: 0.5, test: 0.5}}}
steps: {sft: {method: sft, from: base, on: phantom.train, max_steps: 1, batch_size: 4, lora: {rank: 2}}}
evaluate: {on: phantom.test, metrics: [exact_match, marks, wins], rows: 6, max_new_tokens: 6}
judges:
  marks: {kind: medical, server: ADDRESS, model: judge, audit_rows: 0}
  wins: {kind: pairwise, server: ADDRESS, model: judge, send_images: true, against: reference, audit_rows: 0}
"""


def _reply(body: dict[str, Any]) -> str:
    if prompt_of(body).startswith("You check answers"):
        return '{"contains_correct_finding": true, "has_incorrect_info": false, "confidence": 4}'
    return "The first response is better."


def test_a_judges_scores_follow_from_its_stored_words(tmp_path: Path):
    with serve_judge(JudgeServer(judge=_reply)) as server:
        (tmp_path / "study.yaml").write_text(JUDGED.replace("ADDRESS", server.address), encoding="utf-8")
        run_study(load_study(tmp_path / "study.yaml"), tmp_path / "out", with_figures=False)
    out = tmp_path / "out"
    found = verify_report(out)  # the judge is gone: nobody is asked
    assert found.holds, found.found
    assert sum("not asked again" in reason for reason in found.unchecked) == 2

    words = out / "judges" / "marks" / "sft.jsonl"
    wrong = '{"contains_correct_finding": false, "has_incorrect_info": true, "confidence": 4}'
    _first_row(words, lambda row: row.update(replies=[wrong]))
    ((model, metric, stored, again),) = _found(verify_report(out), "scores/sft/marks.jsonl")
    assert (model, metric) == ("sft", "marks")
    assert json.loads(stored)["outcome"] == "scored" and json.loads(again)["outcome"] == "failed"  # it never said so

    ledger = out / "judges" / "marks" / "calls.jsonl"
    ledger.write_text(ledger.read_text(encoding="utf-8") + json.dumps({"reply": {"text": wrong}}) + "\n")
    ((_, _, stored, again),) = _found(verify_report(out), "scores/sft/marks.jsonl")
    assert json.loads(stored)["value"] == 1.0 and json.loads(again)["value"] == 0.0


def test_a_report_of_changed_files_says_so_before_its_first_verdict(copy: Path):
    kept = (copy / "answers" / "sft.jsonl").read_bytes()
    _first_row(copy / "answers" / "sft.jsonl", lambda row: row.update(text="nothing of the kind"))
    _first_row(copy / "scores" / "base" / "exact_match.jsonl", lambda row: row.update(value=1.0 - row["value"]))
    report = ["report", str(copy), "--no-figures", "--no-images", "--json"]
    told = CliRunner().invoke(app, report)
    changed = ["answers/sft.jsonl", "scores/base/exact_match.jsonl"]
    assert told.exit_code == 0 and json.loads(told.stdout)["changed"] == changed
    doubt = f"2 files are not what the run wrote ({', '.join(changed)})"
    page, text = ((copy / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert page.index(doubt) < page.index("<h2") and text.replace("\\", "").index(doubt) < text.index("## ")
    assert doubt in (copy / "model_cards" / "sft.md").read_text(encoding="utf-8").replace("\\", "")
    assert "report.html" not in {one.file for one in verify_report(copy).found}

    write_file(copy / "answers" / "sft.jsonl", kept)
    CliRunner().invoke(app, report)
    assert "one file is not what the run wrote (scores/base" in (copy / "report.html").read_text(encoding="utf-8")

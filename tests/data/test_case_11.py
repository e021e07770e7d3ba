"""Ten thousand rows, 57 of them bad in 19 ways: every bad one is named, no good one is, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from planted_rows import CONTEXT, NUM_OF_EACH, NUM_ROWS, REPAIRED, SPOILERS, Planted, plant
from sightline.data.formats import load_source
from sightline.data.problems import BadRowsError, Loaded, Problem, require_clean, too_long
from sightline.errors import DataError


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("case_11"))


@pytest.fixture(scope="module")
def loaded(planted: Planted) -> Loaded:
    return load_source("rows.jsonl", root=planted.folder)["all"]


def fit(loaded: Loaded) -> tuple[set[str], list[Problem]]:
    """What the trainer does later: ids that fit, and a problem for each sample that does not."""
    num_words = {sample.id: len(f"{sample.question} {sample.answer}".split()) for sample in loaded.samples}
    longer = [sample for sample in loaded.samples if num_words[sample.id] > CONTEXT]
    problems = [too_long(sample, num_tokens=num_words[sample.id], limit=CONTEXT, bound="context") for sample in longer]
    return {id for id, num in num_words.items() if num <= CONTEXT}, problems


def test_every_bad_row_is_named_by_line_id_and_kind_and_no_good_one_is(planted: Planted, loaded: Loaded):
    reported = [*loaded.problems, *fit(loaded)[1]]
    assert {(p.row, p.id, p.kind) for p in reported} == {(line, *bad) for line, bad in planted.bad.items()}
    assert len(reported) == 57
    assert all(p.file == "rows.jsonl" and str(p).startswith(f"rows.jsonl:{p.row} (id {p.id}") for p in reported)
    assert {p.kind for p in reported if p.repaired} == REPAIRED


def test_skipping_keeps_the_good_and_the_repaired_rows(planted: Planted, loaded: Loaded):
    kept = require_clean(loaded, on_bad_row="skip")
    fitting, long = fit(loaded)
    good = {f"r{line - 1}" for line in range(1, NUM_ROWS + 1) if line not in planted.bad}
    repaired = {id for id, kind in planted.bad.values() if kind in REPAIRED}
    assert (len(good), len(repaired)) == (9_943, 12)
    assert {sample.id for sample in kept} - {problem.id for problem in long} == fitting == good | repaired
    assert len(kept) - len(long) == 9_955


def test_the_counts_sum_to_the_number_of_rows(loaded: Loaded):
    assert loaded.num_rows == NUM_ROWS
    assert (loaded.num_left_out, loaded.num_repaired) == (57 - 12 - 3, 12)
    assert loaded.num_clean + loaded.num_repaired + loaded.num_left_out == NUM_ROWS
    assert len(loaded.samples) == loaded.num_clean + loaded.num_repaired


def test_the_default_stops_and_lists_every_bad_row(planted: Planted, loaded: Loaded):
    with pytest.raises(BadRowsError, match="42 of 10000 rows cannot be used") as stopped:
        require_clean(loaded, on_bad_row="stop")
    assert isinstance(stopped.value, DataError)
    assert Counter(problem.kind for problem in stopped.value.problems) == {
        kind: NUM_OF_EACH for kind in SPOILERS if kind not in REPAIRED | {"too-long"}
    }
    message = str(stopped.value)
    assert message.count("rows.jsonl:") == 20 and "and 22 more" in message
    assert all(line.isprintable() for line in message.splitlines())


def test_repaired_rows_alone_do_not_stop(planted: Planted, tmp_path: Path):
    lines = [planted.lines[line - 1] for line, (_, kind) in planted.bad.items() if kind in REPAIRED]
    (planted.folder / "repaired.jsonl").write_text("\n".join(lines), encoding="utf-8")
    loaded = load_source("repaired.jsonl", root=planted.folder)["all"]
    assert len(require_clean(loaded, on_bad_row="stop")) == loaded.num_repaired == 12


def test_the_same_rows_are_found_in_a_json_list(planted: Planted):
    """A list with broken elements in it loses those and no others."""
    (planted.folder / "list.json").write_text("[\n" + ",\n".join(planted.lines) + "\n]", encoding="utf-8")
    loaded = load_source("list.json", root=planted.folder)["all"]
    in_lines = load_source("rows.jsonl", root=planted.folder)["all"]
    assert {sample.id for sample in loaded.samples} >= {sample.id for sample in in_lines.samples}
    assert {p.kind for p in loaded.problems} == {p.kind for p in in_lines.problems}

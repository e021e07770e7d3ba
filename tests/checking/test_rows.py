"""The checks on rows find what is planted, with its counts and its row, and nothing in clean data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sightline.checking.findings import Finding, refuse_faults
from sightline.checking.rows import check_balance, check_overlap, check_repeats, check_sizes
from sightline.errors import CheckFault
from sightline.records import Message, Picture, Sample


def sample(row: int, pictures: str, question: str, answer: str, file: str = "a.csv", **tags: str) -> Sample:
    """A row about pictures named by one letter each."""
    return Sample(
        id=f"{file}:{row}",
        pictures=tuple(Picture(name=name, sha256=name * 64, width=8, height=8) for name in pictures),
        messages=(Message(role="user", content=(*range(len(pictures)), question)),),
        answer=answer,
        tags=tags,
        origin=f"{file}:{row}",
    )


CLEAN = [
    sample(1, "A", "left?", "yes"),
    sample(2, "A", "right?", "no"),
    sample(3, "B", "left?", "no"),
    sample(4, "AB", "left?", "no"),
]


def only(findings: Iterator[Finding]) -> Finding:
    [finding] = findings
    return finding


# --- repeats --------------------------------------------------------------------------------------------------------


def test_clean_rows_have_no_repeats() -> None:
    assert list(check_repeats("d", CLEAN)) == []


def test_rows_with_one_question_and_two_answers_are_found() -> None:
    finding = only(check_repeats("d", [*CLEAN, sample(5, "A", " Left?\n", "no"), sample(6, "A", "left?", "No ")]))
    assert (finding.name, finding.severity) == ("contradictory-rows", "warning")
    assert "1 questions about one picture" in finding.message and "'left?' at a.csv:1: 'yes' / 'no'" in finding.message
    assert finding.evidence["rows"] == [["a.csv:1", "a.csv:5", "a.csv:6"]] and finding.remedy


def test_rows_that_say_the_same_again_are_found() -> None:
    rows = [*CLEAN, sample(5, "A", "LEFT?", "Yes"), sample(6, "A", "left?", "yes"), sample(7, "B", "left?", "no")]
    finding = only(check_repeats("d", rows))
    assert (finding.name, finding.severity) == ("repeated-rows", "note")
    assert "3 rows repeat" in finding.message
    assert finding.evidence["rows"] == [["a.csv:1", "a.csv:5", "a.csv:6"], ["a.csv:3", "a.csv:7"]]


def test_both_kinds_of_repeat_are_told_apart_and_few_are_shown() -> None:
    rows = [sample(n, letter, "left?", str(n % 2)) for n, letter in enumerate("AABBCCDDEEFF")]
    rows += [sample(n, letter, "right?", "1") for n, letter in enumerate("AABBCCDDEEFF", 20)]
    findings = {finding.name: finding for finding in check_repeats("d", rows)}
    assert findings.keys() == {"contradictory-rows", "repeated-rows"}
    assert "6 questions" in findings["contradictory-rows"].message and "6 rows" in findings["repeated-rows"].message
    assert all(len(finding.evidence["rows"]) == 5 for finding in findings.values())


def test_the_same_words_after_another_beginning_are_another_question() -> None:
    first, second = sample(1, "A", "why?", "it is bright"), sample(2, "A", "why?", "it is dark")
    histories = [
        (Message(role="user", content=(0, asked)), Message(role="assistant", content=("yes",)))
        for asked in ("is there air?", "is there fluid?")
    ]
    rows = [
        replace(row, messages=(*history, Message(role="user", content=("why?",))))
        for row, history in zip((first, second), histories, strict=True)
    ]
    assert list(check_repeats("d", rows)) == []


# --- overlap --------------------------------------------------------------------------------------------------------


def test_sets_that_share_no_picture_do_not_overlap() -> None:
    test = [sample(1, "C", "left?", "yes", file="t.csv")]
    assert list(check_overlap({"train": CLEAN}, {"test": test})) == []


def test_a_test_question_seen_in_training_is_a_fault() -> None:
    test = [
        sample(1, "A", "LEFT? ", "no", file="t.csv"),
        sample(2, "C", "left?", "no", file="t.csv"),
        sample(3, "B", "left?", "no", file="t.csv"),
    ]
    findings = {f.name: f for f in check_overlap({"x": CLEAN[:2], "validation": CLEAN[2:]}, {"test": test})}
    fault = findings["same-row-in-train-and-test"]
    assert fault.severity == "fault" and "test: 2 of 3 test questions" in fault.message and "t.csv:1" in fault.message
    assert fault.evidence == {"rows": [["t.csv:1", "a.csv:1"], ["t.csv:3", "a.csv:3"]], "num_questions": 2}
    assert findings["same-image-in-train-and-test"].evidence == {"num_pictures": 2, "num_questions": 2}


def test_a_test_picture_seen_in_training_is_a_warning_even_within_a_set_of_pictures() -> None:
    test = [
        sample(1, "CB", "how many?", "2", file="t.csv"),
        sample(2, "B", "where?", "left", file="t.csv"),
        sample(3, "D", "left?", "yes", file="t.csv"),
    ]
    finding = only(check_overlap({"train": CLEAN}, {"test": test}))
    assert (finding.name, finding.severity) == ("same-image-in-train-and-test", "warning")
    assert "test: 1 of 3 test pictures" in finding.message and "2 of 3 test questions" in finding.message


def test_every_test_set_is_looked_at_on_its_own() -> None:
    seen, unseen = sample(1, "A", "left?", "yes", file="s.csv"), sample(1, "C", "left?", "yes", file="u.csv")
    findings = list(check_overlap({"train": CLEAN}, {"unseen": [unseen], "seen": [seen]}))
    assert [finding.message.partition(":")[0] for finding in findings] == ["seen", "seen"]


# --- sizes and balance ----------------------------------------------------------------------------------------------


def test_sizes_count_rows_images_and_answer_types() -> None:
    rows = [
        replace(row, tags={"answer_type": kind})
        for row, kind in zip(CLEAN, ("closed", "open", "closed", "closed"), strict=True)
    ]
    finding = only(check_sizes("d", rows))
    assert finding.message == "d: 4 rows on 3 images, 1.33 an image, at most 2; 3 closed, 1 open"
    expected = {"num_rows": 4, "num_images": 3, "max_per_image": 2, "closed": 3, "open": 1}
    assert finding.evidence == expected and finding.severity == "note"
    assert only(check_sizes("d", CLEAN)).message.endswith("at most 2")
    assert only(check_sizes("d", [])).evidence["num_rows"] == 0


def test_balance_says_what_the_commonest_answer_reaches() -> None:
    rows = [sample(n, "A", f"{n}?", answer) for n, answer in enumerate(["no", "No", "yes", "7", "7", " 7", "7"])]
    finding = only(check_balance("d", rows))
    assert finding.message == (
        "d: always answering '7' is right in 4 of 7 (57.1%); of the yes/no questions, 1 are yes and 2 no, "
        "so always 'no' is right in 2 of 3 (66.7%)"
    )
    assert finding.evidence == {"answer": "7", "count": 4, "num_rows": 7, "yes": 1, "no": 2}


def test_balance_is_silent_where_there_is_nothing_to_say() -> None:
    assert list(check_balance("d", [])) == []
    finding = only(check_balance("d", [sample(1, "A", "how many?", "7")]))
    assert "yes/no" not in finding.message


# --- refusing -------------------------------------------------------------------------------------------------------


def fault(name: str, **changes) -> Finding:
    plain = Finding(name=name, severity="fault", message=f"{name} found in 3 rows", remedy=f"drop {name}")
    return replace(plain, **changes)


def test_unaccepted_faults_are_all_named_with_the_way_past_them() -> None:
    found = [fault("first"), fault("why", accepted="it is a control"), fault("second"), fault("w", severity="warning")]
    with pytest.raises(CheckFault) as caught:
        refuse_faults(found)
    first, second, past = str(caught.value).splitlines()
    assert first == "first: first found in 3 rows; drop first"
    assert second == "second: second found in 3 rows; drop second"
    assert "accept: {first: your reason}" in past
    assert caught.value.exit_code == 2


def test_warnings_notes_and_accepted_faults_stop_nothing() -> None:
    refuse_faults([])
    refuse_faults([fault("a", accepted="why"), fault("b", severity="warning"), fault("c", severity="note")])


def test_the_same_question_without_a_picture_overlaps() -> None:
    train, test = [sample(1, "", "what is air?", "gas")], [sample(2, "", "What is  air?", "gas", file="t.csv")]
    assert [finding.name for finding in check_overlap({"a": train}, {"t": test})] == ["same-row-in-train-and-test"]

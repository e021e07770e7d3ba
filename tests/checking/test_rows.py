"""The checks on rows find what is planted, with its counts and its row, and nothing in clean data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lettered_rows import CLEAN, only, sample
from sightline.checking.findings import Finding, refuse_faults
from sightline.checking.rows import check_answer_types, check_balance, check_problems, check_repeats, check_sizes
from sightline.data.problems import Problem
from sightline.errors import CheckFault
from sightline.records import Message, Sample

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


def pair(row: int, letter: str, chosen: str, rejected: str) -> Sample:
    return replace(sample(row, letter, "left?", chosen), rejected=rejected)


def test_pairs_of_one_question_repeat_each_other_only_if_both_answers_do() -> None:
    rows = [pair(1, "A", "a", "b"), pair(2, "A", "c", "b"), pair(3, "A", "a", "c"), pair(4, "B", "a", "b")]
    assert list(check_repeats("d", rows)) == []
    finding = only(check_repeats("d", [*rows, pair(5, "A", "A", " b"), pair(6, "A", "c", "b")]))
    assert (finding.name, finding.evidence["rows"]) == (
        "repeated-rows",
        [["a.csv:1", "a.csv:5"], ["a.csv:2", "a.csv:6"]],
    )
    assert "2 rows repeat another row's picture, question and answers" in finding.message


def test_pairs_contradict_each_other_where_one_is_the_other_turned_round() -> None:
    rows = [pair(1, "A", "a", "b"), pair(2, "A", "c", "b"), pair(3, "A", "b", "a"), pair(4, "A", "d", "d")]
    finding = only(check_repeats("d", rows))
    assert (finding.name, finding.evidence["rows"]) == ("contradictory-rows", [["a.csv:1", "a.csv:3"]])
    assert "1 questions about one picture have pairs that prefer the same answers the other way" in finding.message
    assert finding.message.endswith("'left?' at a.csv:1: 'a' over 'b' / 'b' over 'a'")


# --- sizes and balance ----------------------------------------------------------------------------------------------


def test_sizes_count_rows_images_and_answer_types() -> None:
    rows = [
        replace(row, tags={"answer_type": kind})
        for row, kind in zip(CLEAN[:3], ("closed", "open", "closed"), strict=True)
    ]
    finding = only(check_sizes("d", rows))
    assert finding.message == "d: 3 rows on 2 images, 1.50 an image, at most 2; 2 closed, 1 open"
    expected = {"num_rows": 3, "num_images": 2, "max_per_image": 2, "closed": 2, "open": 1}
    assert finding.evidence == expected and finding.severity == "note"
    # The fourth row is about both pictures, which makes one group of them.
    joined = only(check_sizes("d", [*CLEAN, sample(5, "C", "left?", "no")]))
    assert joined.message == "d: 5 rows on 3 images (2 independent groups), 2.50 a group, at most 4"
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


# --- answer types ---------------------------------------------------------------------------------------------------


def test_answers_that_fit_their_type_are_left_alone() -> None:
    rows = [sample(1, "A", "left?", "Yes", answer_type="closed"), sample(2, "A", "what?", "air", answer_type="OPEN")]
    assert list(check_answer_types("d", [*rows, *CLEAN])) == []


def test_closed_questions_of_other_answers_are_counted_as_another_denominator() -> None:
    rows = [
        sample(1, "A", "left or right?", "left", answer_type="CLOSED"),
        sample(2, "A", "a?", "no", answer_type="CLOSED"),
    ]
    finding = only(check_answer_types("d", rows))
    assert (finding.name, finding.severity) == ("answer-types", "note")
    assert "1 of 2 closed questions" in finding.message and "a.csv:1" in finding.message


def test_an_open_yes_and_a_closed_sentence_are_at_odds_with_their_types() -> None:
    rows = [
        sample(1, "A", "what?", "Yes ", answer_type="OPEN"),
        sample(2, "A", "is it?", "a mass in the left lung", answer_type="CLOSED"),
        sample(3, "A", "is it?", "no", answer_type="CLOSED"),
    ]
    finding = only(check_answer_types("d", rows))
    assert finding.severity == "warning" and finding.evidence["rows"] == ["a.csv:1", "a.csv:2"]
    assert "1 open questions" in finding.message and "1 closed questions" in finding.message


# --- unusable rows --------------------------------------------------------------------------------------------------


def problem(row: int, kind: str, *, repaired: bool = False) -> Problem:
    return Problem(file="a.csv", row=row, id=str(row), kind=kind, found="x", remedy="y", repaired=repaired)


def test_unusable_rows_are_faults_of_two_names_until_they_are_skipped() -> None:
    problems = [
        problem(1, "image-count"),
        problem(2, "bad-json"),
        problem(2, "wrong-type"),
        problem(3, "cmyk", repaired=True),
    ]
    found = {finding.name: finding for finding in check_problems(problems, num_rows=9, skipped=False)}
    assert {name: finding.severity for name, finding in found.items()} == {
        "placeholder-mismatch": "fault",
        "bad-rows": "fault",
    }
    assert "1 of 9 rows" in found["bad-rows"].message and "a.csv:2: x; y" in found["bad-rows"].message
    assert "a.csv:1: x; y" in found["placeholder-mismatch"].message
    skipped = check_problems(problems, num_rows=9, skipped=True)
    assert [finding.severity for finding in skipped] == ["warning", "warning"]
    assert list(check_problems(problems[-1:], num_rows=9, skipped=False)) == []


def test_no_more_unusable_rows_are_printed_than_a_person_reads() -> None:
    problems = [replace(problem(row, "bad-json"), remedy=f"y{row}") for row in range(1, 58)]
    finding = only(check_problems(problems, num_rows=99, skipped=False))
    assert len(finding.message.splitlines()) == 22 and finding.message.endswith("... and 37 more")
    assert finding.evidence["num_rows"] == 57


def test_many_rows_without_their_picture_share_a_line() -> None:
    missing = [
        replace(problem(row, "missing-image"), image=f"{row % 4}.png", found=f"no {row % 4}.png", remedy="add it")
        for row in range(20)
    ]
    found = only(check_problems([*missing, problem(30, "bad-json")], num_rows=99, skipped=False)).message
    assert found == (
        "21 of 99 rows cannot be used:\n"
        "  a.csv: 20 rows, 4 pictures, for example no 0.png (row 0); no 1.png (row 1); no 2.png (row 2); add it\n"
        "  a.csv:30: x; y"
    )


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

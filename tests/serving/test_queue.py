"""What reviewers are asked: drawn at random, mixed with what metrics disagree on, both orders in balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from report.fake_study import write_study
from sightline.data.phantom import phantom_samples
from sightline.report.reading import Row, StudyFiles, read_study
from sightline.serving import queue
from sightline.serving.queue import Answers, label_queue, preference_queue

MODELS = {"base": 0.42, "sft.a16": 0.78}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """A study with 150 questions or more, so that some are not drawn."""
    folder = tmp_path_factory.mktemp("study")
    return read_study(write_study(folder, samples=phantom_samples(40, seed=3), models=MODELS))


def test_a_random_part_comes_first_and_whole(files: StudyFiles) -> None:
    answers = Answers(files)
    items = label_queue(files, answers)
    drawn = [item for item in items if item.is_random]
    questions = list(dict.fromkeys(item.question for item in drawn))
    assert len(questions) == queue.NUM_QUESTIONS
    asked = list(answers.of_model["base"])
    assert questions != sorted(questions) and set(questions) < set(asked)
    # Each model's answer to each drawn question is there, once, however many models gave it.
    for question in questions:
        texts = [item.answers[0] for item in drawn if item.question == question]
        assert sorted(texts) == sorted({answers.of_model[model][question] for model in MODELS})
    assert label_queue(files, Answers(files)) == items


def with_metric(files: StudyFiles, metric: str, says: Callable[[Row], float]) -> StudyFiles:
    """The study with another right-or-wrong metric, made from what exact match says of each answer."""
    arms = [
        {**arm, "metrics": {**arm["metrics"], metric: arm["metrics"]["exact_match"]}} for arm in files.compare["arms"]
    ]
    scores = {
        model: (
            *rows,
            *(
                {**row, "metric": metric, "outcome": "scored", "value": says(row)}
                for row in rows
                if row["metric"] == "exact_match"
            ),
        )
        for model, rows in files.scores.items()
    }
    return replace(files, compare={**files.compare, "arms": arms}, scores=scores)


def picked_from(files: StudyFiles) -> tuple[set[tuple[str, str]], set[str]]:
    """What was picked, as sample id and answer's hash, and the ids of the questions drawn at random."""
    items = label_queue(files, Answers(files))
    picked = {(item.question[2], item.answers[0]) for item in items if not item.is_random}
    return picked, {item.question[2] for item in items if item.is_random}


def answered_wrongly(files: StudyFiles) -> set[tuple[str, str]]:
    """The answers that exact match calls wrong, as sample id and hash."""
    of_model = Answers(files).of_model
    return {
        (row["sample_id"], of_model[model][row["data"], row["template"], row["sample_id"]])
        for model, rows in files.scores.items()
        for row in rows
        if row["metric"] == "exact_match" and row["value"] == 0
    }


def test_without_a_judge_answers_are_picked_on_which_metrics_disagree(files: StudyFiles) -> None:
    assert picked_from(with_metric(files, "same", lambda row: row["value"]))[0] == picked_from(files)[0] == set()
    picked, drawn = picked_from(with_metric(files, "lenient", lambda row: 1.0))
    assert picked == {told for told in answered_wrongly(files) if told[0] not in drawn}
    assert len(picked) > 5


def test_with_a_judge_what_exact_match_calls_wrong_and_the_judge_right_is_mixed_in(files: StudyFiles) -> None:
    kind = {"doctor": "medical", "duel": "pairwise"}
    study = {**files.study, "judges": {name: {"kind": kind[name]} for name in kind}}
    judged = with_metric(files, "duel", lambda row: 1.0)
    assert picked_from(replace(judged, study=study))[0] == set()  # who is better is not who is right
    judged = replace(with_metric(judged, "doctor", lambda row: float(int(row["sample_id"][-1]) % 2)), study=study)
    right = {told for told in answered_wrongly(files) if int(told[0][-1]) % 2}
    picked, drawn = picked_from(judged)
    assert picked == {told for told in right if told[0] not in drawn} != set()
    strict = replace(with_metric(files, "doctor", lambda row: 0.0), study=study)
    assert picked_from(strict)[0] == set()  # what the judge alone calls wrong is not picked


def test_picked_answers_are_mixed_among_the_random_ones(files: StudyFiles) -> None:
    lenient = with_metric(files, "lenient", lambda row: 1.0)
    items = label_queue(lenient, Answers(lenient))
    assert [item.is_random for item in items[:9]].count(False) >= 3
    random = [item for item in items if item.is_random]
    assert random == label_queue(files, Answers(files))  # the random part does not depend on what was picked


def test_sides_are_balanced_seeded_and_another_reviewer_s_differ(files: StudyFiles) -> None:
    answers = Answers(files)
    items = preference_queue(files, answers, "Ada")
    assert items == preference_queue(files, answers, "ADA")
    first = [item for item in items if not item.is_repeat]
    base = answers.of_model["base"]
    sides = ["left" if base[item.question] == item.answers[0] else "right" for item in first]
    assert len(first) >= 30
    for length in range(2, len(sides) + 1, 2):
        assert Counter(sides[:length])["left"] == length / 2
    other = [item for item in preference_queue(files, answers, "Bo") if not item.is_repeat]
    assert [item.question for item in other] == [item.question for item in first]
    turned = sum(a != b for a, b in zip(first, other, strict=True))
    assert 0.25 < turned / len(first) < 0.75
    assert all(item.answers[0] != item.answers[1] for item in items)


def test_some_pairs_come_again_later_the_other_way_round(files: StudyFiles) -> None:
    items = preference_queue(files, Answers(files), "Ada")
    repeats = [(place, item) for place, item in enumerate(items) if item.is_repeat]
    first = [item for item in items if not item.is_repeat]
    assert len(repeats) / len(first) == pytest.approx(queue.NUM_REPEATED / queue.BLOCK, abs=0.05)
    for place, item in repeats:
        before = next(p for p, one in enumerate(items) if one.answers == item.answers[::-1] and not one.is_repeat)
        assert place - before >= queue.BLOCK or place >= len(items) - queue.NUM_REPEATED


def test_no_model_s_answers_stand_in_a_place_of_their_own(files: StudyFiles) -> None:
    answers = Answers(files)
    both = {}
    for item in label_queue(files, answers):
        if item.is_random:
            both.setdefault(item.question, []).append(item.answers[0])
    first = [answers.of_model["base"][question] == texts[0] for question, texts in both.items() if len(texts) == 2]
    assert 0.25 < sum(first) / len(first) < 0.75

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.records import Message, Picture, Sample
from sightline.scoring.answer_files import read_answers


def sample_of(name: str, image: str, question: str, reference: str, **tags: str) -> Sample:
    picture = Picture(name=image, sha256=image, width=8, height=8)
    message = Message(role="user", content=(0, question))
    return Sample(id=name, pictures=(picture,), messages=(message,), answer=reference, tags=tags)


SAMPLES = [
    sample_of("1", "a.png", "Is there a nodule?", "yes"),
    sample_of("2", "a.png", "Which side?", "left lung"),
    sample_of("3", "b.png", "Is there a nodule?", "no"),
]


def written(folder: Path, rows: Sequence[object]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("id_key", ["id", "sample_id", "question_id"])
@pytest.mark.parametrize("text_key", ["text", "answer", "prediction", "output"])
def test_known_names_of_columns_are_read_and_joined_by_id(tmp_path: Path, id_key: str, text_key: str) -> None:
    rows = [{id_key: 3, text_key: "no"}, {id_key: 1, text_key: " yes "}, {id_key: 2, text_key: "left"}]
    matched = read_answers(written(tmp_path, rows), SAMPLES)
    said = [(answer.sample_id, answer.text) for answer in matched.answers]
    assert (said, matched.by) == ([("1", " yes "), ("2", "left"), ("3", "no")], "id")


def texts(path: Path, samples: Sequence[Sample] = SAMPLES) -> list[str]:
    return [answer.text for answer in read_answers(path, samples).answers]


def test_without_ids_image_and_question_are_the_key(tmp_path: Path) -> None:
    rows = [{"image": s.pictures[0].name, "question": s.question, "text": s.id} for s in reversed(SAMPLES)]
    assert texts(written(tmp_path, rows)) == ["1", "2", "3"]


def test_ids_of_another_numbering_give_way_to_image_and_question(tmp_path: Path) -> None:
    """Numbers from 1 in the order of the answers are the data's own by chance, and name other questions."""
    rows = [
        {"id": number, "image": s.pictures[0].name, "question": s.question, "text": s.id}
        for number, s in enumerate([*SAMPLES[1:], SAMPLES[0]], start=1)
    ]
    matched = read_answers(written(tmp_path, rows), SAMPLES)
    assert ([answer.text for answer in matched.answers], matched.by) == (["1", "2", "3"], "image and question")
    for row in rows:
        del row["image"]
    with pytest.raises(DataError, match=r"jsonl:1: asks 'Which side\?' where the data ask 'Is there a nodule\?'"):
        texts(written(tmp_path, rows))


def test_a_repeated_question_needs_equal_answers(tmp_path: Path) -> None:
    samples = [*SAMPLES, sample_of("4", "b.png", "Is there a nodule?", "no")]
    rows = [{"image": s.pictures[0].name, "question": s.question, "text": "no"} for s in samples]
    assert texts(written(tmp_path, rows), samples) == ["no"] * 4
    rows[-1]["text"] = "yes"
    with pytest.raises(DataError, match=r"jsonl:4: 'b.png' with 'Is there a nodule\?' was answered differently before"):
        texts(written(tmp_path, rows), samples)


def test_a_repeated_question_with_two_references_is_refused(tmp_path: Path) -> None:
    samples = [*SAMPLES, sample_of("4", "b.png", "Is there a nodule?", "yes")]
    rows = [{"image": s.pictures[0].name, "question": s.question, "text": "no"} for s in samples]
    with pytest.raises(DataError, match=r"the data give 'b.png' with .* two answers, 'no' \(3\) and 'yes' \(4\)"):
        texts(written(tmp_path, rows), samples)
    with_ids = [{"id": s.id, **row} for s, row in zip(samples, rows, strict=True)]
    assert texts(written(tmp_path, with_ids), samples) == ["no"] * 4


def test_the_reference_beside_a_prediction_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    rows = [{"id": s.id, "answer": s.answer, "prediction": "wrong"} for s in SAMPLES]
    assert set(texts(written(tmp_path, rows))) == {"wrong"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "text": "x"}], "1 answers for 3 rows of data; they must be the same questions"),
        ([{"id": n, "text": "x"} for n in (1, 1, 2)], "jsonl:2: a second answer for '1'"),
        ([{"id": n, "text": "x"} for n in (1, 2, 9)], "jsonl:3: '9' is not in the data"),
        ([{"text": "x"}] * 3, "jsonl:1: neither an id"),
        ([{"image": "a.png", "question": "?", "text": "x"}] * 3, r"'a.png' with '\?' is not in the data"),
        ([{"id": n, "question": "Why?", "text": "x"} for n in (1, 2, 3)], r"jsonl:1: asks 'Why\?' where the data ask"),
        (
            [{"id": n, "image": "z.png", "text": "x"} for n in (1, 2, 3)],
            "jsonl:1: is about 'z.png' where the data have",
        ),
        ([{"index": 0, "id": n, "answer": "mri", "prediction": "x"} for n in (1, 2, 3)], "gives the reference 'mri'"),
    ],
)
def test_what_does_not_match_is_refused_by_row(tmp_path: Path, rows: Sequence[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts(written(tmp_path, rows))


def test_a_line_ends_where_json_lines_say_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    lines = [json.dumps({"id": s.id, "text": "left\u2028lung"}, ensure_ascii=False) for s in SAMPLES]
    path.write_text("\r\n".join(lines), encoding="utf-8")
    assert set(texts(path)) == {"left\u2028lung"}


PROBES = [
    sample_of(f"{category}-{number}", "c.jpg", f"Is there a {thing} in the image?", label, **tags)
    for category, absent in (("random", "car"), ("popular", "cup"))
    for number, thing, label in (("1", "dog", "yes"), ("2", absent, "no"))
    for tags in [{"category": category, "question_id": number}]
]
SUFFIX = "\nAnswer the question using a single word or phrase."


def test_probes_are_matched_by_subset_whatever_the_tool_adds_to_the_question(tmp_path: Path) -> None:
    """The numbers of POPE's questions restart in each subset, and all subsets ask the same questions answered yes."""
    numbered = [{"question_id": s.tags["question_id"], "answer": s.id} for s in PROBES]
    for row, sample in zip(numbered, PROBES, strict=True):
        row |= {"category": sample.tags["category"]}
    assert texts(written(tmp_path, numbered[::-1]), PROBES) == [s.id for s in PROBES]
    vlmevalkit = [
        {"index": 0, "question": "Is there a dog in the image? Please answer yes or no.", "category": "popular,random"},
        {"index": 1, "question": "Is there a cup in the image? Please answer yes or no.", "category": "popular"},
        {"index": 2, "question": "Is there a car in the image? Please answer yes or no.", "category": "random"},
    ]
    rows = [{**row, "image_source": "c", "prediction": str(row["index"])} for row in vlmevalkit]
    matched = read_answers(written(tmp_path, rows), PROBES)
    assert [answer.text for answer in matched.answers] == ["0", "2", "0", "1"]
    assert matched.by == "image, question and subset"


def test_a_log_with_numbers_and_prompts_alone_is_matched_by_both(tmp_path: Path) -> None:
    def log(said: str) -> list[dict[str, object]]:
        return [
            {
                "doc_id": place,
                "input": s.question + SUFFIX,
                "target": s.answer,
                "filtered_resps": [said if s.id == "popular-1" else s.tags["question_id"]],
                "pope_accuracy": {"question_id": s.tags["question_id"]},
            }
            for place, s in enumerate(PROBES)
        ]

    matched = read_answers(written(tmp_path, log("1")), PROBES)
    assert [answer.text for answer in matched.answers] == ["1", "2", "1", "2"]
    assert matched.by == "question number and question"
    with pytest.raises(DataError, match="was answered differently before"):
        texts(written(tmp_path, log("another")), PROBES)


def test_one_subset_needs_no_name(tmp_path: Path) -> None:
    rows = [{"question_id": s.tags["question_id"], "question": s.question, "answer": s.id} for s in PROBES[:2]]
    assert texts(written(tmp_path, rows[::-1]), PROBES[:2]) == ["random-1", "random-2"]
    del rows[0]["question"], rows[1]["question"]
    assert texts(written(tmp_path, rows[::-1]), PROBES[:2]) == ["random-1", "random-2"]


def test_the_subsets_of_unequal_counts_are_listed(tmp_path: Path) -> None:
    rows = [{"image": "c.jpg", "question": "?", "category": "random", "text": "x"}] * 2
    with pytest.raises(DataError, match=r"2 answers for 4 .*answered: 2 random; asked: 2 popular, 2 random"):
        texts(written(tmp_path, rows), PROBES)

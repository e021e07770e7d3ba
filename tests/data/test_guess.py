"""Guessing columns by what is in them: unfamiliar names, no names worth having, and files that cannot work."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.first_study import study_text
from sightline.data.formats import load_source
from sightline.data.groups import picture_groups
from sightline.data.guess import Guess, guess_columns
from sightline.errors import DataError, MissingDataError
from sightline.runner.reading import read_data
from sightline.study import load_study

ASKED = [("Is there a nodule?", "yes"), ("Is the heart enlarged?", "no"), ("Which organ is shown?", "lung"),
         ("What plane is this?", "axial"), ("Is this normal?", "no"), ("Where is the lesion?", "left")]  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for index in range(20):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / f"{index:06d}.png")
        Image.new("RGB", (4, 4), (index, 9, 0)).save(folder / f"{index}.png")
    return folder


def write(path: Path, header: list[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def rows_of(make: Callable[[int, str, str], list[object]]) -> list[list[object]]:
    return [make(index, *ASKED[(index + image) % 6]) for image in range(20) for index in [image * 3, image * 3 + 1]]


def loads(guess: Guess, root: Path) -> bool:
    """Whether the guess reads the file without a problem."""
    images = str(guess.images.relative_to(root))
    file = str(guess.file.relative_to(root))
    loaded = load_source(file, root=root, format=guess.format, columns=guess.columns, images=images)["all"]
    return not loaded.problems and len(loaded.samples) == guess.num_rows


def test_german_names_and_pictures_without_suffix(tmp_path: Path, images: Path):
    german = [("Ist ein Rundherd zu sehen?", "nein"), ("Welches Organ ist das?", "Lunge"), ("Ist das Herz groß?", "ja")]
    rows = [
        [f"{n:06d}", *german[(n + m) % 3], ("Thorax", "Kopf")[n % 2], f"2026-11-2{m}"]
        for n in range(20)
        for m in range(3)
    ]
    file = write(tmp_path / "b.csv", ["Aufnahme", "Frage", "Befund", "Körperteil", "Datum"], rows, ";")
    guess = guess_columns(file, images)
    assert guess.columns == {"image": "Aufnahme", "question": "Frage", "answer": "Befund", "tags": ["Körperteil"]}
    assert guess.preview[0] == {"image": "000000", "question": "Ist ein Rundherd zu sehen?", "answer": "nein"}
    assert (len(guess.preview), guess.format, guess.num_rows, guess.num_pictures) == (3, "csv", 60, 20)
    assert loads(guess, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_names_that_say_nothing_in_any_order(tmp_path: Path, images: Path, seed: int):
    """Columns c1..c6 in random order: only content can tell."""
    order = list(range(6))
    random.Random(seed).shuffle(order)
    rows = rows_of(
        lambda index, question, answer: [
            f"k-{index:04d}",
            f"scans/{index // 3:06d}.png",
            question,
            answer,
            ("HEAD", "CHEST")[index // 3 % 2],
            "train",
        ]
    )
    names = [f"c{place}" for place in range(6)]
    file = write(tmp_path / "rows.csv", names, [[row[place] for place in order] for row in rows])
    guess = guess_columns(file, tmp_path)
    is_at = {what: names[order.index(place)] for place, what in enumerate(["id", "image", "question", "answer", "tag"])}
    assert guess.columns == {
        "image": is_at["image"], "question": is_at["question"], "answer": is_at["answer"],
        "id": is_at["id"], "tags": [is_at["tag"]],
    }  # fmt: skip
    assert loads(guess, tmp_path)


def test_names_that_mislead(tmp_path: Path, images: Path):
    """`answer` holds the questions and `question` the file names."""
    rows = rows_of(lambda index, question, answer: [f"{index // 3:06d}.png", question, answer])
    guess = guess_columns(write(tmp_path / "rows.csv", ["question", "answer", "image"], rows), images)
    assert guess.columns == {"image": "question", "question": "answer", "answer": "image"}


def test_counts_that_are_also_file_names(tmp_path: Path, images: Path):
    """Answers 0 to 3 name files as well; the image column names more of them."""
    rows = [[(n + m) % 4, f"How many nodules are in part {m}?", n] for n in range(20) for m in range(2)]
    guess = guess_columns(write(tmp_path / "rows.csv", ["x", "y", "z"], rows), images)
    assert guess.columns == {"image": "z", "question": "y", "answer": "x"}


def test_facts_about_the_picture_are_no_answers(tmp_path: Path, images: Path):
    """A diagnosis has more values than the answers have, but does not change with the question."""
    sides = ["left", "right", "above", "below"]
    rows = [[n, f"diagnosis {n}", f"Where is part {m}?", sides[(n + m) % 4]] for n in range(20) for m in range(3)]
    guess = guess_columns(write(tmp_path / "rows.csv", ["w", "x", "y", "z"], rows), images)
    assert guess.columns == {"image": "w", "question": "y", "answer": "z", "tags": ["x"]}


def test_explanations_are_neither_questions_nor_answers(tmp_path: Path, images: Path):
    """A reason is longer than its question and differs more than the answers do."""
    rows = rows_of(
        lambda index, question, answer: [
            f"since part {index} of the shadow lies far from the border on the left",
            f"{index // 3:06d}.png",
            answer,
            question,
        ]
    )
    guess = guess_columns(write(tmp_path / "rows.csv", ["w", "x", "y", "z"], rows), images)
    assert guess.columns == {"image": "x", "question": "z", "answer": "y"}


def test_kinds_of_question_are_no_answers(tmp_path: Path, images: Path):
    """They change with the question and have more values, but yes and no are answers."""
    kinds = ["presence", "size", "plane", "organ", "colour"]
    rows = [
        [f"{n:06d}", kinds[(n + m) % 5], f"Is it so in part {m}?", ("yes", "no")[(n + m) % 2]]
        for n in range(20)
        for m in range(3)
    ]
    guess = guess_columns(write(tmp_path / "rows.csv", ["w", "x", "y", "z"], rows), images)
    assert guess.columns == {"image": "w", "question": "y", "answer": "z", "tags": ["x"]}


def test_instructions_and_descriptions(tmp_path: Path, images: Path):
    """No question mark anywhere; one instruction for all rows, and answers of many words."""
    words = ["small", "round", "shadows", "lie", "in", "the", "upper", "left", "field", "near", "the", "heart"]
    rows = [
        {"prompt_text": "Describe the picture.", "pic": f"{n:06d}", "gold": " ".join([*words[n % 7 :], str(n)])}
        for n in range(20)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    guess = guess_columns(file, images)
    assert guess.columns == {"image": "pic", "question": "prompt_text", "answer": "gold"}
    assert guess.format == "jsonl" and loads(guess, tmp_path)


def test_a_json_list_of_conversations(tmp_path: Path, images: Path):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A lung."}]
    file = tmp_path / "chats.json"
    file.write_text(json.dumps([{"pic": f"{n:06d}.png", "dialog": turns} for n in range(20)]))
    guess = guess_columns(file, images)
    assert (guess.format, guess.columns) == ("llava", {"image": "pic", "conversations": "dialog"})
    assert loads(guess, tmp_path)


def test_a_bad_line_does_not_spoil_the_guess(tmp_path: Path, images: Path):
    rows = rows_of(lambda index, question, answer: [f"{index // 3:06d}.png", question, answer])
    file = write(tmp_path / "rows.csv", ["a", "b", "c"], [*rows[:5], ["too", "few"], *rows[5:]])
    assert guess_columns(file, images).num_rows == len(rows)


def test_what_is_missing_is_said(tmp_path: Path, images: Path):
    plain = rows_of(lambda index, question, answer: [f"{index // 3:06d}.png", question, answer])
    with pytest.raises(DataError, match=r"no column names pictures .*0\.png.*'000000\.jpg'"):
        guess_columns(write(tmp_path / "a.csv", ["a", "b"], [["000000.jpg", "Is it?"]] * 9), images)
    with pytest.raises(DataError, match=r"no column reads like questions.*c \(5 different values\)"):
        guess_columns(write(tmp_path / "b.csv", ["a", "c"], [[row[0], row[2]] for row in plain]), images)
    with pytest.raises(DataError, match="no column reads like answers"):
        guess_columns(write(tmp_path / "c.csv", ["a", "b"], [row[:2] for row in plain]), images)
    with pytest.raises(DataError, match="no column reads like answers"):
        guess_columns(write(tmp_path / "d.csv", ["a", "b", "label"], [[*row[:2], "train"] for row in plain]), images)
    with pytest.raises(MissingDataError, match="correct `--images`"):
        guess_columns(tmp_path / "d.csv", tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="correct `--data`"):
        guess_columns(tmp_path / "nowhere.csv", images)


def test_the_study_can_be_read_and_loads_the_data(tmp_path: Path, images: Path):
    rows = rows_of(lambda index, question, answer: [f"{index // 3:06d}", question, answer, ("T", "K")[index // 3 % 2]])
    file = write(tmp_path / "meine daten.csv", ["Bild: Datei", "Frage?", "Antwort", "Teil"], rows, ";")
    folder = tmp_path / "studies"
    folder.mkdir()
    guess = guess_columns(file, images)
    (folder / "study.yaml").write_text(study_text(guess, name="first: try", folder=folder), encoding="utf-8")
    study = load_study(folder / "study.yaml")
    assert (study.name, study.base) == ("first-try", "llava-hf/llava-1.5-7b-hf")
    data = study.data["meine_daten"]
    assert (data.split.by, data.split.shares) == ("image", {"train": 0.8, "validation": 0.1, "test": 0.1})
    images_folder = str(data.images)
    loaded = load_source(str(data.source), root=folder, format=data.format, columns=data.columns, images=images_folder)[
        "all"
    ]
    assert (len(loaded.samples), loaded.problems) == (40, ())
    assert loaded.samples[0].tags == {"Teil": "T"}
    compared = [(compare.model, compare.against, compare.by) for compare in study.compare]
    assert compared == [("sft", "base", "exact_match")]


def test_answers_and_preferences_are_told_apart_and_the_preferences_learnt_as_such(tmp_path: Path, images: Path):
    rows = [[f"{n:06d}", "Describe it.", f"A lung on the left, {n}.", f"A lung on the right, {n}."] for n in range(20)]
    header = ["pic", "instruction", "Chosen response", "rejected"]
    guess = guess_columns(write(tmp_path / "pairs.csv", header, rows), images)
    assert guess.is_preferences and guess.columns == {
        "image": "pic", "prompt": "instruction", "chosen": "Chosen response", "rejected": "rejected"
    }  # fmt: skip
    assert guess.preview[1]["rejected"] == "A lung on the right, 1."
    (tmp_path / "study.yaml").write_text(study_text(guess, name="p", folder=tmp_path), encoding="utf-8")
    prepared = read_data(load_study(tmp_path / "study.yaml"))
    assert (prepared.problems, prepared.plan.runs[0].method, prepared.plan.runs[0].on) == ([], "dpo", ("pairs.train",))
    (learnt, *_), asked = prepared.sets["pairs.train"], prepared.sets["pairs_asked.test"]
    assert "left" in learnt.answer and "right" in str(learnt.rejected) and "left" in asked[0].answer
    learnt = {sample.image_id for part in ("train", "validation") for sample in prepared.sets[f"pairs.{part}"]}
    assert learnt.isdisjoint(sample.image_id for sample in asked) and len(learnt) + len(asked) == 20
    with pytest.raises(DataError, match=r"Chosen response and rejected are answers, and no other column reads like"):
        guess_columns(write(tmp_path / "b.csv", [header[0], *header[2:]], [[r[0], *r[2:]] for r in rows]), images)


def test_patients_stay_on_one_side_where_the_table_names_them(tmp_path: Path, images: Path):
    rows = rows_of(lambda index, question, answer: [f"{index // 3:06d}", question, answer, f"P{index // 6}"])
    guess = guess_columns(write(tmp_path / "t.csv", ["image", "question", "answer", "Patient ID"], rows), images)
    assert guess.patient == "Patient ID"
    (tmp_path / "study.yaml").write_text(study_text(guess, name="p", folder=tmp_path), encoding="utf-8")
    prepared = read_data(load_study(tmp_path / "study.yaml"))
    patients = [{sample.tags["Patient ID"] for sample in samples} for samples in prepared.sets.values()]
    assert prepared.study.data["t"].split.by == "Patient ID"
    assert sum(map(len, patients)) == len({row[3] for row in rows})
    (asked,) = (samples for name, samples in prepared.sets.items() if name.endswith(".test"))
    # What a split keeps together is one group wherever groups are counted: two pictures of a patient are one.
    assert len(set(picture_groups(asked))) == len({sample.tags["Patient ID"] for sample in asked})

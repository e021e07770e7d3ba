"""Every kind of file finds its way in; what cannot be understood is said, with what would help."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.problems import Loaded
from sightline.errors import DataError, MissingDataError

ROWS = [
    {"id": "1", "image": "a.png", "question": "Is it red?", "answer": "yes", "organ": "LUNG"},
    {"id": "2", "image": "a.png", "question": "Is it, or not; blue?", "answer": 'it "is"', "organ": "HEAD"},
    {"id": "3", "image": "b.png", "question": "Über\nzwei Zeilen?", "answer": "größer", "organ": "LUNG"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate("ab"):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def csv_text(delimiter: str, line_end: str = "\n") -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [delimiter.join(ROWS[0]), *(delimiter.join(quoted(value) for value in row.values()) for row in ROWS)]
    return line_end.join(lines) + line_end


def facts(loaded: Loaded) -> list[tuple[str, str, str, str]]:
    return [(s.id, s.pictures[0].name, s.question, s.answer) for s in loaded.samples]


EXPECTED = [(row["id"], row["image"], row["question"], row["answer"]) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", csv_text(",")),
        ("rows.csv", csv_text(";")),
        ("rows.csv", csv_text("\t")),
        ("rows.tsv", csv_text("\t")),
        ("rows.csv", csv_text(";", "\r\n")),
        ("rows.csv", "\ufeff" + csv_text(",")),
        ("rows.csv", csv_text(",").removesuffix("\n") + "\n\n\n"),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("rows.json", "\n".join(map(json.dumps, ROWS))),  # lines despite the name
        ("rows.jsonl", "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS))),
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", "\ufeff \n" + json.dumps(ROWS, indent=2, ensure_ascii=False)),
    ],
)
def test_the_same_rows_come_out_of_every_kind_of_file(folder: Path, name: str, text: str):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    loaded = load_source(name, root=folder)["all"]
    assert (facts(loaded), loaded.problems) == (EXPECTED, ())
    assert [s.tags for s in loaded.samples] == [{"organ": row["organ"]} for row in ROWS]
    assert facts(load_source(".", root=folder)["all"]) == EXPECTED  # the folder's only file


def test_rows_name_their_lines(folder: Path):
    (folder / "rows.csv").write_text(csv_text(","))
    loaded = load_source("rows.csv", root=folder)["all"]
    assert [s.origin for s in loaded.samples] == ["rows.csv:2", "rows.csv:3", "rows.csv:4"]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("x,a.png,one field too many,yes,LUNG,more", "bad-csv"),
        ("x,a.png,too few", "bad-csv"),
        ('x,a.png,"an open quote,yes,LUNG', "bad-csv"),
        ('x,a.png,"a quote" inside,yes,LUNG', "bad-csv"),
        ("x,a.png,Gr\udce4\udcdfe?,yes,LUNG", "bad-encoding"),
        ("x,a.png,NUL\0?,yes,LUNG", "nul-byte"),
    ],
)
def test_a_bad_csv_line_costs_no_other(folder: Path, bad: str, kind: str):
    lines = csv_text(",").splitlines(keepends=True)
    (folder / "rows.csv").write_bytes(
        "".join([lines[0], lines[1], bad + "\n", *lines[2:]]).encode(errors="surrogateescape")
    )
    loaded = load_source("rows.csv", root=folder)["all"]
    assert facts(loaded) == EXPECTED
    assert [(problem.row, problem.kind) for problem in loaded.problems] == [(3, kind)]
    assert loaded.num_rows == 4


def test_an_open_quote_that_closes_in_the_next_row_costs_only_its_own(folder: Path):
    lines = ["id,image,question,answer", '1,a.png,"Is it?,yes', '2,a.png,", is it?",no', "3,b.png,Is it?,no"]
    (folder / "rows.csv").write_text("\n".join(lines))
    loaded = load_source("rows.csv", root=folder)["all"]
    assert [(problem.row, problem.kind) for problem in loaded.problems] == [(2, "bad-csv")]
    assert [(s.id, s.question) for s in loaded.samples] == [("2", ", is it?"), ("3", "Is it?")]


def test_columns_map_our_names_to_theirs(folder: Path):
    rows = [{"datei": "a", "frage": "Rot?", "antwort": 1, "nr": n, "teil": "Lunge"} for n in range(2)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"image": "datei", "question": "frage", "answer": "antwort", "id": "nr", "tags": ["teil"]}
    loaded = load_source("rows.jsonl", root=folder, columns=columns)["all"]
    assert facts(loaded) == [("0", "a", "Rot?", "1"), ("1", "a", "Rot?", "1")]
    assert loaded.samples[0].tags == {"teil": "Lunge"}
    assert loaded.fields == {"image": "datei", "question": "frage", "answer": "antwort", "id": "nr"}


def test_ids_that_repeat_are_reported_unless_rows_are_numbered(folder: Path):
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row | {"id": "same"}) for row in ROWS))
    assert [p.kind for p in load_source("rows.jsonl", root=folder)["all"].problems] == ["duplicate-id"] * 2
    numbered = load_source("rows.jsonl", root=folder, columns={"id": None})["all"]
    assert [s.id for s in numbered.samples] == ["1", "2", "3"] and numbered.problems == ()


def test_take_and_where(folder: Path):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    lungs = load_source("rows.jsonl", root=folder, where={"organ": "lung"})["all"]
    assert [s.id for s in lungs.samples] == ["1", "3"] and lungs.num_rows == 2
    first = load_source("rows.jsonl", root=folder, where={"organ": ["LUNG", "HEAD"]}, take=2)["all"]
    assert [s.id for s in first.samples] == ["1", "2"] and first.num_rows == 2
    with pytest.raises(DataError, match="did you mean 'organ'"):
        load_source("rows.jsonl", root=folder, where={"orgn": "LUNG"})


def test_images_of_another_folder(folder: Path):
    (folder / "labels").mkdir()
    (folder / "labels" / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    beside = load_source("labels/rows.jsonl", root=folder)["all"]
    assert [problem.kind for problem in beside.problems] == ["missing-image"] * 3
    loaded = load_source("labels/rows.jsonl", root=folder, images=".")["all"]
    assert facts(loaded) == EXPECTED and loaded.samples[0].origin == "labels/rows.jsonl:1"
    with pytest.raises(MissingDataError, match="correct `images`"):
        load_source("labels/rows.jsonl", root=folder, images="nowhere")
    by_name = load_source("labels/rows.jsonl", root=folder, images="nowhere", with_pictures=False)["all"]
    assert by_name.samples[0].image_id == by_name.samples[1].image_id != by_name.samples[2].image_id


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {"source": "none.csv"}, "no such file or folder"),
        ({}, {"source": "."}, "holds none of"),
        ({"a.csv": "x", "b.jsonl": "{}"}, {"source": "."}, r"a\.csv, b\.jsonl; let `source` name one"),
        ({"a.csv": ""}, {}, "the file is empty"),
        ({"a.jsonl": ""}, {}, "holds no rows"),
        ({"a.json": '{"rows": []}'}, {"format": "json"}, "a list of rows is needed"),
        ({"a.json": "hello"}, {}, "neither JSON lines"),
        ({"a.csv": "image,question,image\n"}, {}, "'image' twice"),
        ({"a.csv": "bild,frage,antwort\n1,2,3\n"}, {}, r"which column holds the image\? It has bild, frage, antwort"),
        ({"a.csv": "image,question,answer\n"}, {"columns": {"image": "imag"}}, "did you mean 'image'"),
        ({"a.csv": "image,question,answer\n"}, {"columns": {"picture": "image"}}, "no field 'picture'"),
        ({"a.csv": "image,question,answer\n"}, {"columns": {"tags": ["organs"]}}, "no column 'organs' for a tag"),
        ({"a.csv": "image,question,answer\n"}, {"format": "cvs"}, "did you mean 'csv'"),
        ({"a.jsonl": '{"messages": [], "answer": "", "question": ""}'}, {}, "turns as well as an answer"),
    ],
)
def test_what_cannot_be_understood_is_said(tmp_path: Path, files: dict[str, str], options: dict, message: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    source = options.pop("source", next(iter(files), ""))
    with pytest.raises(DataError, match=message):
        load_source(source, root=tmp_path, **options)


def test_utf_16_is_said(folder: Path):
    (folder / "rows.csv").write_text(csv_text(","), encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16; save it as UTF-8"):
        load_source("rows.csv", root=folder)


def test_two_faults_of_one_row_are_both_named(folder: Path):
    row = {"image": "none.png", "question": "", "answer": ["a"]}
    (folder / "rows.jsonl").write_text(json.dumps(row))
    loaded = load_source("rows.jsonl", root=folder)["all"]
    assert {problem.kind for problem in loaded.problems} == {"missing-image", "empty-question", "wrong-type"}
    assert (loaded.num_rows, loaded.num_left_out) == (1, 1)


TEXT_ROWS = [
    {"id": "1", "image": "a.png", "question": "Is it red?", "answer": "yes"},
    {"id": "2", "image": None, "question": "What is a nodule?", "answer": "a small lump"},
    {"id": "3", "image": "", "question": "What is a lung?", "answer": "an organ"},
    {"id": "4", "question": "What is a rib?", "answer": "a bone"},
    {"id": "5", "image": [], "question": "What is a skull?", "answer": "bones"},
]


def test_a_row_without_picture_is_bad_unless_the_study_says_so(folder: Path):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, TEXT_ROWS)))
    strict = load_source("rows.jsonl", root=folder)["all"]
    assert [(p.id, p.kind) for p in strict.problems] == [(id, "missing-key") for id in "2345"]
    assert "`columns: {image: [image, null]}`" in str(strict.problems[0])
    mixed = load_source("rows.jsonl", root=folder, columns={"image": ["image", None]})["all"]
    assert [(s.id, len(s.pictures), s.answer) for s in mixed.samples] == [
        (row["id"], int(row["id"] == "1"), row["answer"]) for row in TEXT_ROWS
    ]
    assert mixed.problems == ()
    assert mixed.samples[1].messages[0].content == ("What is a nodule?",)


@pytest.mark.parametrize("image", ["lost.png", {"bytes": None, "path": "lost.png"}, ["a.png", "lost.png"], 7])
def test_a_picture_that_is_named_is_never_lost(folder: Path, image: object):
    (folder / "rows.jsonl").write_text(json.dumps({"image": image, "question": "Is it?", "answer": "yes"}))
    loaded = load_source("rows.jsonl", root=folder, columns={"image": ["image", None]})["all"]
    assert [p.kind for p in loaded.problems] == ["missing-image"] and loaded.samples == ()


def test_a_mark_without_a_picture_is_bad(folder: Path):
    (folder / "rows.jsonl").write_text(json.dumps({"image": None, "question": "<image>\nIs it?", "answer": "yes"}))
    loaded = load_source("rows.jsonl", root=folder, columns={"image": ["image", None]})["all"]
    assert [p.kind for p in loaded.problems] == ["image-count"]


def test_text_alone(folder: Path):
    (folder / "rows.csv").write_text("question,answer,image\nWhat is a rib?,a bone,lost.png\n")
    (folder / "none.csv").write_text("question,answer\nWhat is a rib?,a bone\n")
    for name in ("rows.csv", "none.csv"):
        loaded = load_source(name, root=folder, columns={"image": None})["all"]
        assert [(s.pictures, s.question) for s in loaded.samples] == [((), "What is a rib?")]
    with pytest.raises(DataError, match="which column holds the image"):
        load_source("none.csv", root=folder)


@pytest.mark.parametrize("wrong", [["image"], [None], ["image", "other"], ["image", None, None], 3, ["imag", None]])
def test_other_ways_of_naming_the_image_are_refused(folder: Path, wrong: object):
    (folder / "rows.jsonl").write_text(json.dumps(TEXT_ROWS[0]))
    with pytest.raises(DataError, match=r"no column .* for image"):
        load_source("rows.jsonl", root=folder, columns={"image": wrong})


def test_several_pictures_of_a_row_stand_where_they_are_marked(folder: Path):
    row = {"image": ["b.png", "a.png"], "question": "Is <image> older than <image>?", "answer": "no"}
    (folder / "rows.jsonl").write_text(json.dumps(row))
    (sample,) = load_source("rows.jsonl", root=folder)["all"].samples
    assert sample.messages[0].content == ("Is ", 0, " older than ", 1, "?")
    assert [picture.name for picture in sample.pictures] == ["b.png", "a.png"]


def test_files_named_as_splits_are_splits(folder: Path):
    for index, name in enumerate(("train.jsonl", "val.csv", "test.json")):
        text = csv_text(",") if name.endswith("csv") else json.dumps([ROWS[index]])
        (folder / name).write_text(text if not name.endswith("jsonl") else json.dumps(ROWS[index]))
    loaded = load_source(".", root=folder)
    assert {split: part.num_rows for split, part in loaded.items()} == {"test": 1, "train": 1, "val": 3}
    (folder / "more.csv").write_text(csv_text(","))
    with pytest.raises(DataError, match="which file of this folder is meant"):
        load_source(".", root=folder)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
@pytest.mark.parametrize("top", [".", "pictures"])
def test_pictures_in_an_archive(folder: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, top: str):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "labels.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "pictures").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / top / name)
    archive = shutil.make_archive(str(elsewhere / "archive"), kind, root_dir=folder, base_dir=top)
    loaded = load_source("labels.jsonl", root=elsewhere, images=Path(archive).name)["all"]
    assert facts(loaded) == EXPECTED and loaded.problems == ()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_whole_set_in_an_archive(folder: Path, tmp_path_factory: pytest.TempPathFactory, kind: str):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    for name, base in (("bare", "."), ("named", folder.name)):
        root = folder if base == "." else folder.parent
        archive = shutil.make_archive(str(elsewhere / name), kind, root_dir=root, base_dir=base)
        loaded = load_source(Path(archive).name, root=elsewhere)["all"]
        assert facts(loaded) == EXPECTED
        assert loaded.samples[0].origin.endswith("rows.jsonl:1")


def test_a_picture_in_an_archive_cannot_lead_out_of_it(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    archive = shutil.make_archive(str(elsewhere / "archive"), "zip", root_dir=folder)
    (elsewhere / "secret.png").write_bytes((folder / "a.png").read_bytes())
    rows = [ROWS[0] | {"id": name, "image": name} for name in ("../secret.png", str(elsewhere / "secret.png"))]
    (elsewhere / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load_source("rows.jsonl", root=elsewhere, images=Path(archive).name)["all"]
    assert [p.kind for p in loaded.problems] == ["path-escape"] * 2

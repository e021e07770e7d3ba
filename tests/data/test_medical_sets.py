"""The medical sets in their own schemas: a few rows of each, written as the releases write them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from sightline.data.formats import load_source
from sightline.data.pictures import open_picture
from sightline.data.problems import Loaded
from sightline.errors import DataError, MissingDataError
from sightline.records import Message
from tiny_pictures import png


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def slake_row(qid: int, name: str, language: str = "en", **more: object) -> dict[str, object]:
    row = {
        "img_id": 0,
        "img_name": f"{name}/source.jpg",
        "question": "What modality is used to take this image?",
        "answer": "MRI",
        "q_lang": language,
        "location": "Abdomen",
        "modality": "MRI",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Modality",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }
    return row | more


SLAKE_PICTURES = {f"xmlab{n}/source.jpg": png(n) for n in range(3)}


@pytest.fixture
def slake(tmp_path: Path) -> Path:
    chinese = slake_row(9, "xmlab0", "zh", question="图像里有肝脏吗?", answer="有", answer_type="CLOSED")
    rows = {
        "train": [slake_row(0, "xmlab0"), chinese, slake_row(1, "xmlab1", answer_type="CLOSED", answer="No")],
        "validation": [slake_row(2, "xmlab1")],
        "test": [slake_row(3, "xmlab2")],
    }
    write(tmp_path / "slake", {f"{split}.json": json.dumps(part) for split, part in rows.items()})
    write(tmp_path / "slake" / "imgs", SLAKE_PICTURES)
    return tmp_path


def check_slake(loaded: dict[str, Loaded]) -> None:
    assert {split: len(part.samples) for split, part in loaded.items()} == {"train": 3, "validation": 1, "test": 1}
    assert not any(part.problems for part in loaded.values())
    first, chinese, closed = loaded["train"].samples
    assert (first.id, first.answer, first.pictures[0].name) == ("0", "MRI", "xmlab0/source.jpg")
    assert first.tags == {
        "q_lang": "en",
        "answer_type": "OPEN",
        "content_type": "Modality",
        "modality": "MRI",
        "location": "Abdomen",
        "base_type": "vqa",
    }
    assert (chinese.question, chinese.answer, chinese.tags["q_lang"]) == ("图像里有肝脏吗?", "有", "zh")
    assert (closed.answer, closed.tags["answer_type"]) == ("No", "CLOSED")
    assert chinese.image_id == first.image_id != closed.image_id


def test_slake(slake: Path):
    check_slake(load_source("slake", root=slake))
    check_slake(load_source("slake", root=slake, format="slake"))


def test_slake_in_english(slake: Path):
    loaded = load_source("slake", root=slake, where={"q_lang": "en"})
    assert [sample.id for sample in loaded["train"].samples] == ["0", "1"]


def test_slake_with_its_pictures_still_zipped_and_the_authors_name_of_validation(slake: Path):
    folder = slake / "slake"
    (folder / "imgs").rename(slake / "elsewhere")
    (folder / "validation.json").rename(folder / "validate.json")
    with pytest.raises(MissingDataError, match=r"no imgs and no imgs\.zip.*BoKelvin/SLAKE"):
        load_source("slake", root=slake)
    # The hub's archive holds the folder imgs; a bare one does as well.
    for top in ("imgs/", ""):
        write(folder, {"imgs.zip": zipped({top + name: content for name, content in SLAKE_PICTURES.items()})})
        check_slake(load_source("slake", root=slake))


def test_a_split_of_slake_that_is_missing_is_said(slake: Path):
    (slake / "slake" / "test.json").unlink()
    with pytest.raises(MissingDataError, match=r"no test\.json; this should be SLAKE") as missing:
        load_source("slake", root=slake)
    for part in ("216 MB", "CC-BY-4.0", "https://huggingface.co/datasets/BoKelvin/SLAKE", "imgs/xmlab0/source.jpg"):
        assert part in str(missing.value)


def test_one_file_of_slake(slake: Path):
    loaded = load_source("slake/test.json", root=slake)
    assert [sample.id for sample in loaded["all"].samples] == ["3"]


@pytest.fixture
def vqa_med(tmp_path: Path) -> Path:
    train, validation, test = (
        tmp_path / "med" / name
        for name in ("ImageClef-2019-VQA-Med-Training", "ImageClef-2019-VQA-Med-Validation", "VQAMed2019Test")
    )
    modality = "synpic1|is this a t1 weighted, t2 weighted, or flair image?|t2"
    plane = "synpic1|in which plane is the mri displayed?|axial"
    organ = "synpic2|what organ system is shown?|lung, mediastinum, pleura"
    write(
        train,
        {
            "All_QA_Pairs_train.txt": f"{modality}\n{plane}\r\n{organ}\n\n",
            "QAPairsByCategory/C1_Modality_train.txt": f"{modality}\n",
            "QAPairsByCategory/C2_Plane_train.txt": f"{plane}\n",
            "QAPairsByCategory/C3_Organ_train.txt": f"{organ}\n",
            "Train_images/synpic1.jpg": png(1),
            "Train_images/synpic2.jpg": png(2),
        },
    )
    write(
        validation,
        {
            "All_QA_Pairs_val.txt": "synpic3|what is abnormal in the ct scan?|acute appendicitis\n",
            "QAPairsByCategory/C4_Abnormality_val.txt": "synpic3|what is abnormal in the ct scan?|acute appendicitis\n",
            "Val_images/synpic3.jpg": png(3),
        },
    )
    write(
        test,
        {
            "VQAMed2019_Test_Questions.txt": "synpic4|what is the primary abnormality in this image?\n",
            "VQAMed2019_Test_Questions_w_Ref_Answers.txt": (
                "synpic4|abnormality|what is the primary abnormality in this image?|glioma#multi-cystic mass\n"
                "synpic4|plane|what plane?|(oblique) axial\n"
            ),
            "VQAMed2019_Test_Images.zip": zipped({"VQAMed2019_Test_Images/synpic4.jpg": png(4)}),
        },
    )
    return tmp_path


def test_vqa_med(vqa_med: Path):
    loaded = load_source("med", root=vqa_med)
    assert {split: len(part.samples) for split, part in loaded.items()} == {"train": 3, "validation": 1, "test": 2}
    assert not any(part.problems for part in loaded.values())
    train = loaded["train"].samples
    assert [(s.pictures[0].name, s.answer, s.tags) for s in train] == [
        ("synpic1", "t2", {"category": "modality"}),
        ("synpic1", "axial", {"category": "plane"}),
        ("synpic2", "lung, mediastinum, pleura", {"category": "organ"}),
    ]
    assert [s.id for s in train] == ["1", "2", "3"] and train[2].origin.endswith("All_QA_Pairs_train.txt:3")
    several, optional = loaded["test"].samples
    assert (several.answer, several.tags) == (
        "glioma",
        {"category": "abnormality", "other_answers": "multi-cystic mass"},
    )
    assert (optional.answer, optional.tags) == ("(oblique) axial", {"category": "plane"})
    assert open_picture(several.pictures[0]).getpixel((0, 0)) == (4, 0, 0)


def test_one_part_of_vqa_med(vqa_med: Path):
    part = load_source("med/ImageClef-2019-VQA-Med-Training", root=vqa_med)
    file = load_source("med/ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt", root=vqa_med)
    assert [s.id for s in part["train"].samples] == [s.id for s in file["train"].samples] == ["1", "2", "3"]


def test_a_bad_line_of_vqa_med_costs_no_other(vqa_med: Path):
    file = vqa_med / "med/ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt"
    file.write_bytes(b"synpic1|no answer\n" + file.read_bytes() + b"synpic2|caf\xe9?|yes\nsynpic9|who?|me\n")
    loaded = load_source("med", root=vqa_med)["train"]
    assert [(p.row, p.kind) for p in loaded.problems] == [(1, "bad-csv"), (6, "bad-encoding"), (7, "missing-image")]
    assert len(loaded.samples) == 3


def test_vqa_med_without_pictures_says_what_to_fetch(vqa_med: Path):
    (vqa_med / "med/VQAMed2019Test/VQAMed2019_Test_Images.zip").unlink()
    with pytest.raises(MissingDataError, match=r"no VQAMed2019_Test_Images.*zenodo\.org/records/10499039"):
        load_source("med", root=vqa_med)
    assert len(load_source("med", root=vqa_med, with_pictures=False)["test"].samples) == 2


def pubmed_row(number: int, images: list[str]) -> dict[str, object]:
    said = [{"from": "human", "value": "What do the figures show?"}, {"from": "gpt", "value": f"Finding {number}."}]
    return {
        "id": f"alignment_vqa_{number}",
        "image": images,
        "conversations": said,
        "modality": "Computed Tomography",
        "body_part": "Chest",
    }


@pytest.fixture
def pubmed(tmp_path: Path) -> Path:
    rows = [
        pubmed_row(0, ["images/pmc_1_0.jpg"]),
        pubmed_row(1, ["images/pmc_1_1.jpg", "images/pmc_1_0.jpg"]),
        pubmed_row(2, ["images/pmc_9_0.jpg"]),  # some files it names do not exist
        pubmed_row(3, []),
    ]
    pictures = {"images/pmc_1_0.jpg": png(1), "images/pmc_1_1.jpg": png(2)}
    write(tmp_path / "pubmed", {"PubMedVision_Alignment_VQA.json": json.dumps(rows), **pictures})
    return tmp_path


def check_pubmed(loaded: Loaded) -> None:
    one, two = loaded.samples
    assert one.messages == (Message(role="user", content=("What do the figures show?", 0)),)
    assert two.messages == (Message(role="user", content=("What do the figures show?", 0, 1)),)
    assert [open_picture(picture).getpixel((0, 0)) for picture in two.pictures] == [(2, 0, 0), (1, 0, 0)]
    assert (two.id, two.answer) == ("alignment_vqa_1", "Finding 1.")
    assert two.tags == {"modality": "Computed Tomography", "body_part": "Chest"}
    assert [(p.id, p.kind) for p in loaded.problems] == [
        ("alignment_vqa_2", "missing-image"),
        ("alignment_vqa_3", "missing-key"),
    ]


def test_pubmedvision_has_text_before_its_pictures(pubmed: Path):
    check_pubmed(load_source("pubmed", root=pubmed)["train"])
    check_pubmed(load_source("pubmed", root=pubmed, format="pubmedvision")["train"])
    check_pubmed(load_source("pubmed", root=pubmed, subset="PubMedVision_Alignment_VQA")["train"])
    check_pubmed(load_source("pubmed/PubMedVision_Alignment_VQA.json", root=pubmed)["train"])


def test_pubmedvision_from_its_archives(pubmed: Path):
    folder = pubmed / "pubmed"
    write(folder, {"images_0.zip": zipped({"some/where/pmc_1_0.jpg": (folder / "images/pmc_1_0.jpg").read_bytes()})})
    write(folder, {"images_1.zip": zipped({"pmc_1_1.jpg": (folder / "images/pmc_1_1.jpg").read_bytes()})})
    (folder / "images").rename(pubmed / "elsewhere")
    check_pubmed(load_source("pubmed", root=pubmed)["train"])


def test_pubmedvision_has_two_sets_of_questions(pubmed: Path):
    folder = pubmed / "pubmed"
    write(folder, {"PubMedVision_InstructionTuning_VQA.json": json.dumps([pubmed_row(7, ["images/pmc_1_0.jpg"])])})
    with pytest.raises(DataError, match="choose a `subset`; there are PubMedVision_Alignment_VQA, PubMedVision_Instr"):
        load_source("pubmed", root=pubmed)
    chosen = load_source("pubmed", root=pubmed, subset="PubMedVision_InstructionTuning_VQA")["train"]
    assert [sample.id for sample in chosen.samples] == ["alignment_vqa_7"]


def test_a_pickled_path_vqa_is_never_opened(tmp_path: Path):
    ran = tmp_path / "ran"
    payload = b"cos\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    write(tmp_path, {"split/pvqa/qas/train/train_qa.pkl": payload, "split/pvqa/images/train/train_0000.jpg": png(1)})
    for source in ("split", "split/pvqa"):
        with pytest.raises(DataError, match=r"train_qa\.pkl: .*pickles.*flaviagiammarino/path-vqa"):
            load_source(source, root=tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("source", "format", "told"),
    [
        ("slake", "slake", "imgs/xmlab0/source.jpg"),
        ("data/PathVQA", None, "flaviagiammarino/path-vqa"),
        ("/nowhere/else", "vqa_med", "zenodo.org/records/10499039"),
        ("vqa-rad", None, "osf.io/89kps"),
    ],
)
def test_a_set_that_is_not_there_is_known_by_its_name_or_format(tmp_path: Path, source: str, format: str, told: str):
    with pytest.raises(MissingDataError, match=told):
        load_source(source, root=tmp_path, format=format)


def test_a_folder_that_is_not_the_set_asked_for_is_said(tmp_path: Path):
    write(tmp_path, {"mine/rows.csv": "image,question,answer\n"})
    with pytest.raises(MissingDataError, match="this should be SLAKE"):
        load_source("mine", root=tmp_path, format="slake")

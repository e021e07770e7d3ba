"""`sightline show`: real rows token by token, and the tree of an image, in the terminal and as a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from report.hostile_study import write_hostile_rows
from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture
from tiny_studies import sightline_command


def test_rows_are_rows_and_the_tree_is_of_the_first_ones_image(small_folder: Path) -> None:
    ended = sightline_command("show", small_folder / "small.yaml", "--rows", "2")
    assert ended.code == 0, ended.err
    rows, tree = ended.out.split("\nimages/scan_", maxsplit=1)
    assert len(re.findall(r"^rows\.csv:\d+: ", rows, flags=re.MULTILINE)) == 2
    assert rows.count("end token trained") == 2
    assert rows.count("[image 1: 64 tokens]") == 2 and tree.count("[image 1: 64 tokens]") == 1
    title = tree.splitlines()[0]
    num_rows, apart, together = map(int, re.findall(r"(\d+) rows, (\d+) tokens as (\d+)", title)[0])
    assert num_rows > 2 and 64 * num_rows < apart and together < apart / 2
    assert tree.count("ASSISTANT:") == tree.count("</s>") == num_rows


def test_three_rows_are_shown_unless_told_otherwise(small_folder: Path) -> None:
    ended = sightline_command("show", small_folder / "small.yaml")
    assert ended.out.count("end token trained") == 3


def test_an_end_that_is_not_trained_is_said(small_folder: Path) -> None:
    ended = sightline_command("show", small_folder / "small.yaml", "--rows", "1", "--set", "steps.sft.eos=none")
    assert "end token missing" in ended.out and "</s>" not in ended.out


def test_a_set_that_is_asked_about_is_shown_as_it_is_asked(small_folder: Path) -> None:
    prompts = "evaluate.prompts={plain: '{question}', short: '{question} Briefly.'}"
    study = small_folder / "small.yaml"
    ended = sightline_command("show", study, "--on", "data.test", "--rows", "2", "--set", prompts)
    assert ended.code == 0, ended.err
    words = " ".join(ended.out.split())
    assert words.count(" 0 trained; ") == 4  # two rows in two wordings
    assert words.count("wording short; reference: ") == words.count("Briefly. ASSISTANT: ") == 2
    assert "</s>" not in words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--on", "data.tset"), "--on data.tset: the study neither learns from that nor asks about it; did you mean"),
        (("--set", "steps={}", "--set", "compare=[]"), "no step of this study trains"),
    ],
)
def test_what_cannot_be_shown_is_refused(small_folder: Path, change: tuple[str, ...], said: str) -> None:
    ended = sightline_command("show", small_folder / "small.yaml", *change)
    assert ended.code == 2 and said in ended.err


def test_the_page_shows_the_same_and_only_its_path_is_printed(small_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "show.html"
    ended = sightline_command("show", small_folder / "small.yaml", "--rows", "2", "--html", file)
    assert (ended.code, ended.out, ended.err) == (0, f"{file}\n", "")
    page = file.read_text(encoding="utf-8")
    assert page.count('<article class="row">') == 2
    assert page.count("data:image/") == 1  # both rows, the tree: one picture, embedded once
    assert 'title="tokens 4–67, id 3, position 4–67, not trained">[image 1: 64 tokens]</span>' in page
    assert re.search(r'class="t trained special"[^>]*title="token \d+, id \d+, position \d+, trained, special"', page)
    assert "shared by " in page and "http" not in re.sub(r"http-equiv", "", page)


def test_texts_that_pose_as_something_else_change_nothing(tmp_path: Path) -> None:
    ended = sightline_command("show", write_hostile_rows(tmp_path), "--rows", "15")
    assert ended.code == 0, ended.err
    assert not {character for character in ended.out if not character.isprintable()} - {"\n"}
    assert "␛[31mred" in ended.out and "⟨U+202E⟩gnp.exe" in ended.out and "<script>window.reached" in ended.out


def test_rows_that_came_tokenised_are_shown_as_they_came(tmp_path: Path) -> None:
    family = pytest.importorskip("sightline.models.loading").load_family("builtin:tiny")
    picture = save_picture(phantom_samples(1, seed=3)[0].pictures[0], tmp_path)
    prompt = family.chat.tokenizer("USER: <image>\nIs it? ASSISTANT:").input_ids
    answer = [*family.chat.tokenizer(" yes", add_special_tokens=False).input_ids, *family.end_token_ids]
    labels = [*[-100] * len(prompt), *answer]
    row = {"image": Path(str(picture.path)).name, "input_ids": [*prompt, *answer], "labels": labels}
    (tmp_path / "rows.jsonl").write_text(f"{str(row).replace(chr(39), chr(34))}\n" * 2, encoding="utf-8")
    (tmp_path / "s.yaml").write_text(
        "base: builtin:tiny\n"
        "data:\n  mine: {source: rows.jsonl, format: tokens, split: {train: all}}\n"
        "  p: {source: builtin:phantom, images: 9}\n"
        "steps: {sft: {on: mine.train}}\nevaluate: {on: p.test}\n",
        encoding="utf-8",
    )
    ended = sightline_command("show", tmp_path / "s.yaml", "--rows", "1")
    assert ended.code == 0, ended.err
    assert "2 trained; end token trained" in ended.out and "Is it? ASSISTANT: yes</s>" in ended.out

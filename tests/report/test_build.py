"""`build_report`: the whole page from a study directory, whatever is missing from it and whatever it says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from report.fake_study import MODELS, write_study
from report.hostile_study import LONG, write_hostile_study
from sightline.data.phantom import phantom_samples
from sightline.errors import CorruptError, MissingDataError, SightlineError
from sightline.report import pictures
from sightline.report.build import build_report
from sightline.report.html import FIRST_ROWS
from sightline.report.sides import side_by_side


class Elements(HTMLParser):
    """Collects a page's elements, the text outside style and script, and the text of each style and script."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: dict[str, str] = {}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in ("style", "script") else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_study(tmp_path_factory.mktemp("study"))
    build_report(directory)
    return directory


@pytest.fixture(scope="module")
def page(study: Path) -> Elements:
    return Elements((study / "report.html").read_text(encoding="utf-8"))


def _files(directory: Path) -> dict[str, bytes]:
    made = [directory / "report.html", directory / "report.md"]
    made += [path for folder in ("figures", "tables", "model_cards") for path in (directory / folder).iterdir()]
    return {
        f"{path.parent.name}/{path.name}" if path.parent != directory else path.name: path.read_bytes() for path in made
    }


def test_the_same_study_gives_the_same_bytes(study: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("report.*", "figures", "tables", "model_cards"))
    build_report(copy)
    assert _files(copy) == _files(study)
    build_report(copy)
    assert _files(copy) == _files(study)


def test_the_page_needs_nothing_from_anywhere(page: Elements):
    for _, attributes in page.found:
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            address = attributes.get(name) or "#"
            # A picture's own file may be asked for, by a reader who clicks on its copy.
            assert address.startswith(("#", "data:", "data/pictures/")), address
    assert "url(" not in page.raw["style"] and "@import" not in page.raw["style"]


def test_the_policy_allows_this_style_and_this_script_only(page: Elements):
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_the_stated_questions_come_first_with_their_verdicts(page: Elements):
    ids = [attributes["id"] for attributes in page.all("section")]
    assert ids == [
        *("questions", "results", "beside", "unread", "mistakes", "exploratory", "training", "costs", "answers"),
        *("rows", "checks", "made"),
    ]
    questions = page.text[page.text.index("The stated questions") : page.text.index("All models, all metrics")]
    for words in ("improved", "regressed", "no detectable difference", "adjusted p", "detectable", "fixed", "broke"):
        assert words in questions
    assert "not for clinical decisions" in page.text[: page.text.index("The stated questions")]


def test_accepted_faults_stand_beside_the_verdicts_with_their_reason(page: Elements):
    questions = page.text[: page.text.index("All models, all metrics")]
    assert "test-is-small: a demonstration on drawn pictures" in questions
    assert "one training run: the verdict is about this checkpoint" in questions


def test_every_model_metric_and_baseline_is_in_the_results(study: Path, page: Elements):
    results = page.text[page.text.index("All models, all metrics") : page.text.index("Exploratory comparisons")]
    compare = json.loads((study / "compare.json").read_text())
    assert compare["baselines"]
    words = [f"always “{baseline['answer']}”" for baseline in compare["baselines"]]
    words += [metric["title"] for arm in compare["arms"] for metric in arm["metrics"].values()]
    for word in (*MODELS, *words, "Unparsed"):
        assert word in results


def test_each_picture_is_embedded_once_and_small(study: Path, page: Elements):
    pictures = [attributes["href"] or "" for attributes in page.all("image")]
    lines = (study / "data" / "phantom.test.jsonl").read_text().splitlines()
    in_data = {picture["sha256"] for line in lines for picture in json.loads(line)["pictures"]}
    assert len(pictures) == len(set(pictures)) == len(in_data)
    assert all(int(attributes["width"] or 0) <= 256 for attributes in page.all("image"))
    assert len(page.all("use")) > len(pictures)


def test_pictures_can_be_left_out(tmp_path: Path):
    directory = write_study(tmp_path)
    shown = build_report(directory, with_images=False, with_figures=False).read_text(encoding="utf-8")
    assert "data:image" not in shown
    assert "picture left out" in shown


def test_a_changed_or_missing_picture_is_named_not_shown(tmp_path: Path):
    directory = write_study(tmp_path)
    first, second = sorted((directory / "data" / "pictures").iterdir())[:2]
    first.unlink()
    shutil.copyfile(sorted((directory / "data" / "pictures").iterdir())[-1], second)
    page = Elements(build_report(directory, with_figures=False).read_text(encoding="utf-8"))
    total = len(list((directory / "data" / "pictures").iterdir())) + 1
    assert len(page.all("image")) == total - 2
    assert "picture not found" in page.text


def test_pictures_beyond_what_a_page_can_bear_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = write_study(tmp_path, models={"base": 0.4, "sft": 0.8})
    whole = Elements(build_report(directory, with_figures=False).read_text(encoding="utf-8")).all("image")
    monkeypatch.setattr(pictures, "MOST_BYTES", sum(len(image["href"] or "") for image in whole[:3]))
    few = Elements(build_report(directory, with_figures=False).read_text(encoding="utf-8")).all("image")
    assert [image["href"] for image in few] == [image["href"] for image in whole[:3]]
    monkeypatch.setattr(pictures, "SIDES", ((2, 256), (100, 16)))
    small = Elements(build_report(directory, with_figures=False).read_text(encoding="utf-8")).all("image")
    assert {image["width"] for image in small} == {"16"}


def test_a_relative_path_cannot_leave_the_study(tmp_path: Path):
    directory = write_study(tmp_path / "study")
    path = directory / "data" / "phantom.test.jsonl"
    shutil.move(directory / "data" / "pictures", tmp_path / "pictures")
    path.write_text(path.read_text().replace("data/pictures/", "../pictures/"))
    assert "data:image" not in build_report(directory, with_figures=False).read_text(encoding="utf-8")


def test_rows_beyond_the_first_wait_in_a_template(tmp_path: Path):
    directory = write_study(tmp_path, samples=phantom_samples(60, seed=1), models={"base": 0.4, "sft": 0.8})
    num_rows = len((directory / "data" / "phantom.test.jsonl").read_text().splitlines())
    assert num_rows > FIRST_ROWS
    text = build_report(directory, with_images=False, with_figures=False).read_text(encoding="utf-8")
    assert text.count('<article class="row"') == num_rows
    live = text[text.index('<div id="list"') : text.index('<template id="rest">')]
    assert live.count('<article class="row"') == FIRST_ROWS
    assert len(json.loads(re.search(r'<template id="facts">(.*?)</template>', text, re.S)[1])["rows"]) == num_rows  # type: ignore[index]


def test_rows_beyond_the_most_are_counted_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.report.sides.MOST_ROWS", 10)
    monkeypatch.setattr(side_by_side, "__kwdefaults__", {"most_rows": 10})
    directory = write_study(tmp_path, samples=phantom_samples(4, seed=1), models={"base": 0.4, "sft": 0.8})
    num_rows = len((directory / "data" / "phantom.test.jsonl").read_text().splitlines())
    page = Elements(build_report(directory, with_images=False, with_figures=False).read_text(encoding="utf-8"))
    assert sum(attributes.get("class") == "row" for attributes in page.all("article")) == 10
    assert f"{num_rows - 10} more are left out" in page.text


OPTIONAL_FILES = ["study.yaml", "run.json", "checks.json", "data/problems.json", "data/phantom.test.jsonl"]
OPTIONAL_FOLDERS = ["data", "answers", "scores", "models"]


@pytest.mark.parametrize("missing", [*OPTIONAL_FILES, *OPTIONAL_FOLDERS])
def test_any_file_but_the_verdicts_may_be_missing(tmp_path: Path, missing: str):
    directory = write_study(tmp_path)
    path = directory / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = build_report(directory, with_figures=False).read_text(encoding="utf-8")
    assert "no detectable difference" in text


def test_the_verdicts_alone_make_a_report(tmp_path: Path):
    (tmp_path / "compare.json").write_text(
        '{"schema": 1, "study": "bare", "arms": [], "stated": [], "exploratory": []}'
    )
    page = Elements(build_report(tmp_path, with_figures=False).read_text(encoding="utf-8"))
    assert "No question was stated" in page.text
    assert "No question was stated" in (tmp_path / "report.md").read_text()


def test_what_cannot_be_decided_says_why(tmp_path: Path):
    directory = write_study(tmp_path)
    compare = json.loads((directory / "compare.json").read_text())
    undecided = {key: compare["stated"][0][key] for key in ("model", "against", "metric", "data", "template")}
    undecided |= {
        "verdict": "cannot decide",
        "reason": "4 images, at least 5 are needed",
        "interval": None,
        "difference": None,
    }
    compare["stated"] = [undecided, compare["stated"][1]]
    (directory / "compare.json").write_text(json.dumps(compare))
    page = Elements(build_report(directory, with_figures=False).read_text(encoding="utf-8"))
    assert "cannot decide 4 images, at least 5 are needed" in " ".join(page.text.split())
    assert "no interval" in page.text


def test_no_verdicts_is_an_error_that_says_what_to_do(tmp_path: Path):
    with pytest.raises(MissingDataError, match="sightline compare"):
        build_report(tmp_path)


@pytest.mark.parametrize("name", ["compare.json", "run.json", "answers/base.jsonl", "data/phantom.test.jsonl"])
def test_a_torn_file_is_named(tmp_path: Path, name: str):
    directory = write_study(tmp_path)
    path = directory / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptError, match=re.escape(str(path))):
        build_report(directory, with_figures=False)
    assert not (directory / "report.html").exists()


def test_a_study_that_is_not_yaml_is_an_error_of_ours_to_name(tmp_path: Path):
    directory = write_study(tmp_path)
    (directory / "study.yaml").write_text("a: [1")
    with pytest.raises(SightlineError, match=r"study\.yaml"):
        build_report(directory, with_figures=False)


def test_hostile_texts_stay_texts(tmp_path: Path):
    directory = write_hostile_study(tmp_path)
    text = build_report(directory, with_figures=False).read_text(encoding="utf-8")
    page = Elements(text)
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert not page.all("img") and not page.all("iframe")
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert "<script>window.reached = 1</script>" in page.text, "shown as it was written"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "{{ 7 * 7 }}" in page.text
    assert f"({len(LONG) - 2_000:,} more characters left out)" in page.text
    assert len(text) < 1_500_000


def test_hostile_texts_stay_texts_in_markdown_and_figures(tmp_path: Path):
    directory = write_hostile_study(tmp_path)
    build_report(directory)
    markdown = (directory / "report.md").read_text(encoding="utf-8")
    outside_code = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    acting = re.sub(r"\\.", "", outside_code)
    assert set(re.findall(r"!?\[[^\]]*\]\(([^)]*)\)", acting)) == {
        f"figures/{p.name}" for p in _shown_figures(directory)
    }
    assert "<" not in acting and "\x1b" not in markdown
    _read_by_a_renderer(markdown)
    for figure in (directory / "figures").glob("*.svg"):
        names = [element.tag.rpartition("}")[2] for element in ElementTree.parse(figure).iter()]
        assert "script" not in names and "image" not in names


def _read_by_a_renderer(markdown: str) -> None:
    """Read a report as markdown-it does: nothing but our own headings, emphasis, lists, tables, code and figures."""
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    pieces = [*blocks, *(piece for block in blocks for piece in block.children or ())]
    acting = {piece.type for piece in pieces} & {"html_block", "html_inline", "link_open", "code_inline", "fence", "hr"}
    assert not acting and "blockquote_open" not in {piece.type for piece in pieces}
    assert {str(piece.attrs["src"])[:8] for piece in pieces if piece.type == "image"} == {"figures/"}
    code = [piece for piece in pieces if piece.type == "code_block"]
    assert len(code) == 1 and code[0].content.startswith("name: ")
    lines = markdown.splitlines()
    widths = [
        {len(re.findall(r"(?<!\\)\|", line)) for line in lines[table.map[0] : table.map[1]]}
        for table in blocks
        if table.type == "table_open" and table.map
    ]
    assert widths and all(len(found) == 1 for found in widths)


def _shown_figures(directory: Path) -> list[Path]:
    return [path for path in (directory / "figures").glob("*.svg") if path.name.startswith(("stated", "training-"))]

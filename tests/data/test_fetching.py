"""Fetching from a hub, by the hub's own client, from a server of ours: pinned, resumed, and then without network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, serve
from sightline.data import fetching
from sightline.data.fetching import choose_files, fetch, is_fetched, is_name, licence_of, pinned
from sightline.data.formats import load_source
from sightline.data.releases import RELEASES
from sightline.errors import DataError, MissingDataError
from tiny_pictures import png

constants = pytest.importorskip("huggingface_hub.constants", reason="needs sightline[train]")

FIRST, SECOND = "1" * 40, "2" * 40

ROWS = "\n".join(json.dumps({"image": "a.png", "question": f"Is it {n}?", "answer": "yes"}) for n in range(3))
CARD = """---
license: cc-by-4.0
configs:
- config_name: charts
  data_files:
  - {split: train, path: charts/train.jsonl}
- config_name: maps
  data_files: maps/*.parquet
---
A text.
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one dataset of two commits; everything that is fetched goes to `tmp_path`."""
    files = {"rows.jsonl": ROWS.encode(), "a.png": png(1), "README.md": b"---\nlicense: mit\n---\n"}
    changed = {**files, "rows.jsonl": ROWS.replace("yes", "no").encode()}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits between its own attempts
    with serve(Hub(datasets={"some/set": {FIRST: files}})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        served.later = changed
        yield served


def answers(folder: Path, source: str = "some/set") -> list[str]:
    return [sample.answer for sample in load_source(source, root=folder)["all"].samples]


def test_a_dataset_is_fetched_and_read_with_its_pictures(hub: Hub, tmp_path: Path):
    loaded = load_source("some/set", root=tmp_path)["all"]
    assert [(s.question, s.pictures[0].name, s.origin) for s in loaded.samples] == [
        (f"Is it {n}?", "a.png", f"some/set/rows.jsonl:{n + 1}") for n in range(3)
    ]
    assert sorted(hub.fetched()) == ["README.md", "a.png", "rows.jsonl"]
    assert not loaded.problems


def test_what_was_fetched_needs_no_network_and_stays_as_it_was(hub: Hub, tmp_path: Path):
    assert answers(tmp_path) == ["yes"] * 3
    hub.requests.clear()
    hub.datasets["some/set"][SECOND] = hub.later
    assert answers(tmp_path) == ["yes"] * 3
    assert hub.requests == []
    assert pinned("some/set") == f"some/set@{FIRST}"
    assert answers(tmp_path, f"some/set@{SECOND}") == ["no"] * 3
    assert answers(tmp_path, pinned("some/set")) == ["yes"] * 3


def test_a_commit_is_taken_though_it_is_not_the_newest(hub: Hub, tmp_path: Path):
    hub.datasets["some/set"][SECOND] = hub.later
    assert answers(tmp_path, f"some/set@{FIRST}") == ["yes"] * 3
    assert answers(tmp_path) == ["no"] * 3


def test_a_fetch_that_broke_off_goes_on_with_the_files_that_are_missing(hub: Hub):
    hub.datasets["some/set"][FIRST]["b.bin"] = bytes(range(256)) * 400
    hub.breaks["b.bin"] = 5000
    with pytest.raises(MissingDataError, match="what has arrived is kept"):
        fetch("some/set")
    assert not is_fetched("some/set")
    whole = set(hub.fetched()) - {"b.bin"}
    assert len(whole) == 3
    hub.breaks.clear()
    hub.requests.clear()
    folder = fetch("some/set").folder
    assert set(hub.fetched()).isdisjoint(whole)  # what had arrived whole is not fetched again
    assert (folder / "b.bin").read_bytes() == bytes(range(256)) * 400
    asked = len(hub.requests)
    assert is_fetched("some/set") and is_fetched(f"some/set@{FIRST}") and len(hub.requests) == asked
    assert not is_fetched("some/set", subset="other") and not is_fetched("no/set")


def test_a_half_fetched_dataset_is_never_read_but_made_whole(hub: Hub, tmp_path: Path):
    (fetch("some/set").folder / "rows.jsonl").write_text(ROWS[:80])
    there = hub.datasets.pop("some/set")
    with pytest.raises(MissingDataError, match="could not be fetched"):
        load_source("some/set", root=tmp_path)
    hub.datasets["some/set"] = there
    assert answers(tmp_path) == ["yes"] * 3


def test_without_network_it_says_what_to_fetch_and_where_to_put_it(hub: Hub, tmp_path: Path):
    hub.datasets.clear()
    with pytest.raises(MissingDataError) as missing:
        load_source("BoKelvin/SLAKE", root=tmp_path)
    message = str(missing.value)
    for part in ("https://huggingface.co/datasets/BoKelvin/SLAKE", "216 MB", "CC-BY-4.0", "imgs/xmlab0/source.jpg"):
        assert part in message
    assert "when this is run again with a network" in message


def test_of_many_parts_only_the_one_asked_for_is_fetched(hub: Hub, tmp_path: Path):
    hub.datasets["many/parts"] = {
        FIRST: {
            "README.md": CARD.encode(),
            "charts/train.jsonl": ROWS.encode(),
            "charts/a.png": png(1),
            "maps/train-00000-of-00001.parquet": b"x" * 1000,
        }
    }
    loaded = load_source("many/parts", root=tmp_path, subset="charts")
    assert sorted(hub.fetched()) == ["README.md", "charts/a.png", "charts/train.jsonl"]
    assert {split: len(part.samples) for split, part in loaded.items()} == {"train": 3}
    with pytest.raises(DataError, match="choose a `subset`; there are charts, maps"):
        load_source("many/parts", root=tmp_path)
    hub.requests.clear()
    fetch("many/parts", subset="maps")
    assert hub.fetched() == ["maps/train-00000-of-00001.parquet"]


def test_what_does_not_fit_on_the_disk_is_not_begun(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="100 bytes are free"):
        fetch("some/set")
    assert set(hub.fetched()) <= {"README.md"}


def test_a_file_name_that_leads_out_is_refused(hub: Hub, tmp_path: Path):
    hub.datasets["some/set"][FIRST]["../../../evil.txt"] = b"evil"
    with pytest.raises(DataError, match="leads out of the folder"):
        fetch("some/set")
    assert hub.fetched() == [] and not list(tmp_path.rglob("evil.txt"))


def test_a_known_data_set_comes_at_the_commit_of_the_table(hub: Hub):
    release = next(release for release in RELEASES if release.hub == "flaviagiammarino/vqa-rad")
    files = {"data/train-00000-of-00001.parquet": b"PAR1", "data/more.txt": b"-", "README.md": b"-"}
    hub.datasets["flaviagiammarino/vqa-rad"] = {str(release.revision): files, SECOND: {}}
    fetched = fetch("flaviagiammarino/vqa-rad")
    assert fetched.commit == release.revision
    assert sorted(set(hub.fetched())) == ["README.md", "data/train-00000-of-00001.parquet"]
    assert pinned("flaviagiammarino/vqa-rad") == f"flaviagiammarino/vqa-rad@{release.revision}" == fetched.pinned


def test_somebody_elses_copy_is_not_taken_for_the_known_set(hub: Hub, tmp_path: Path):
    hub.datasets["someone/slake"] = {FIRST: {"rows.jsonl": ROWS.encode(), "a.png": png(1)}}
    assert fetch("someone/slake").commit == FIRST
    assert answers(tmp_path, "someone/slake") == ["yes"] * 3


def test_licences_are_known_by_table_by_card_and_else_not(hub: Hub, tmp_path: Path):
    assert licence_of("BoKelvin/SLAKE") == licence_of("bokelvin/slake@main") == "CC-BY-4.0"
    assert licence_of("someone/slake") is None  # a name on the hub is somebody's own until it is known
    assert licence_of("flaviagiammarino/path-vqa@main") == "MIT"
    assert licence_of("some/set") is None  # nothing is asked of the network
    assert hub.requests == []
    fetch("some/set")
    assert licence_of("some/set") == licence_of(f"some/set@{FIRST}") == "mit"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("---\nlicense: other\nlicense_name: ours\n---\n")
    assert (licence_of("mine", root=tmp_path), licence_of("rows.csv")) == ("ours", None)
    (tmp_path / "data" / "slake").mkdir(parents=True)
    (tmp_path / "set").mkdir()
    assert licence_of("data/slake", root=tmp_path) == licence_of("set", format="slake", root=tmp_path) == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*"], ["README.md", "data/a.parquet", "x.json"]),
        (["data/*"], ["README.md", "data/a.parquet"]),
        (["*.json"], ["README.md", "x.json"]),
        (["nothing*"], []),
    ],
)
def test_files_are_chosen_by_pattern(patterns: list[str], chosen: list[str]):
    assert sorted(choose_files({"README.md": 1, "data/a.parquet": 2, "x.json": 3}, patterns)) == chosen


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/b", True),
        ("a/b@main", True),
        (f"a/b@{FIRST}", True),
        ("a", False),
        ("a/b/c", False),
        ("../b", False),
        ("data/my.csv", False),
        ("data/all.tar.gz", False),
    ],
)
def test_names_of_the_hub(source: str, name: bool):
    assert is_name(source) is name

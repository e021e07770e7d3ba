"""Pictures decoded in other processes are the same as here; what happens to a process is said of its picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.data import decoders
from sightline.data.album import Album
from sightline.data.decoders import Decoders
from sightline.data.known_pictures import KnownPictures
from sightline.data.picture_facts import facts_to_json, find_facts
from sightline.data.pictures import PictureError
from sightline.data.rows import Row
from sightline.errors import DataError
from tiny_pictures import png

CRASHING = """
import os, signal, sys
from sightline.data import decoders
honest = decoders.find_facts

def find_facts(source):
    name = getattr(source, "name", "")
    if name.startswith("crash"):
        os.kill(os.getpid(), getattr(signal, name.partition(".")[2]))
    if name.startswith("bug"):
        raise RuntimeError("a bug of ours")
    print("a decoder that talks")
    return honest(source)

decoders.find_facts = find_facts
decoders.serve()
"""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start at the first picture."""
    monkeypatch.setattr(decoders, "WORTH_IT", 1)


@pytest.fixture
def two(at_once: None) -> Iterator[Decoders]:
    made = Decoders(2)
    yield made
    made.close()


def test_what_is_found_is_the_same_in_another_process(two: Decoders, tmp_path: Path) -> None:
    (tmp_path / "späte\nZeile \udce9.png").write_bytes(png(3))
    sources = [*tmp_path.iterdir(), png(4), png(5), b"no picture", b""]
    for source in sources:
        two.ask(source)
    assert two.num_waiting == len(sources)
    for source in sources[:3]:
        assert facts_to_json(two.facts(source)) == facts_to_json(find_facts(source))
    for source in sources[3:]:
        with pytest.raises(PictureError) as here:
            find_facts(source)
        with pytest.raises(PictureError) as there:
            two.facts(source)
        assert (there.value.kind, there.value.found) == (here.value.kind, here.value.found)
    assert two.num_waiting == 0


def test_few_pictures_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_Process", lambda: pytest.fail("a process was started"))
    made = Decoders(2)
    for number in range(decoders.WORTH_IT - 1):
        made.ask(png(number))
    assert made.facts(png(0)).sha256 == find_facts(png(0)).sha256
    made.close()


def test_one_core_starts_no_process(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    made = Decoders()
    made.ask(png(1))
    assert (made.num_processes, made.num_waiting) == (0, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert Decoders().num_processes == 2


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch, at_once: None) -> Iterator[Decoders]:
    """Decoders that crash on files of certain names."""
    start = subprocess.Popen
    monkeypatch.setattr(
        decoders.subprocess, "Popen", lambda command, **given: start([*command[:-1], CRASHING], **given)
    )
    made = Decoders(2)
    yield made
    made.close()


def test_a_crash_names_its_picture_and_costs_no_other(crashing: Decoders, tmp_path: Path) -> None:
    for name in ("a.png", "crash.SIGSEGV", "b.png", "crash.SIGKILL", "c.png"):
        (tmp_path / name).write_bytes(png(len(name)))
        crashing.ask(tmp_path / name)
    with pytest.raises(PictureError, match=r"crashes its decoder \(segmentation fault\)") as crash:
        crashing.facts(tmp_path / "crash.SIGSEGV")
    assert crash.value.kind == "truncated-image"
    with pytest.raises(DataError, match=r"crash\.SIGKILL: .*killed, most likely for want of memory"):
        crashing.facts(tmp_path / "crash.SIGKILL")
    for name in ("a.png", "b.png", "c.png"):
        assert crashing.facts(tmp_path / name).width == 8


def test_a_bug_of_ours_is_no_fault_of_the_picture(crashing: Decoders, tmp_path: Path, capfd) -> None:
    (tmp_path / "bug.png").write_bytes(png(1))
    crashing.ask(tmp_path / "bug.png")
    with pytest.raises(RuntimeError, match=r"bug\.png: .*status 1"):
        crashing.facts(tmp_path / "bug.png")
    assert "a bug of ours" in capfd.readouterr().err


def test_rows_come_in_order_while_pictures_are_decoded_ahead(
    at_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.data.album.PICTURES_AHEAD", 3)
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    rows = [Row(number=n, values={"image": f"{n // 2}.png" if n != 5 else "none.png"}) for n in range(24)]
    here = Album(tmp_path, decoders=Decoders(0), known=KnownPictures(None))
    with Album(tmp_path, decoders=Decoders(2), known=KnownPictures(None)) as there:
        given = []
        for row in there.ahead(rows, "image"):
            given.append(row)
            written = rows[len(given) - 1].values["image"]
            if written == "none.png":
                with pytest.raises(PictureError, match="no file"):
                    there.picture(written, name="row")
                continue
            assert there.picture(written, name="row") == here.picture(written, name="row")
            assert there._decoders.num_waiting <= 3
    assert given == rows


def test_an_album_left_early_ends_its_processes(at_once: None, tmp_path: Path) -> None:
    made = Decoders(2)
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), Album(tmp_path, decoders=made, known=KnownPictures(None)) as album:
        rows = [Row(number=n, values={"image": png(n)}) for n in range(250)]
        for row in album.ahead(rows, "image"):
            assert row is rows[0]
            album.picture(png(0), name="row")
            processes = [process._process for process in made._started]
            raise KeyboardInterrupt
    assert processes and all(process.poll() == -signal.SIGKILL for process in processes)
    assert time.perf_counter() - begun < 20


def test_processes_import_nothing_heavy_and_nothing_of_the_callers(tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"` reads data as well as any other."""
    script = tmp_path / "script.py"
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the current folder was imported')")
    script.write_text(
        "import sys\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from sightline.data import decoders\n"
        "from tiny_pictures import png\n"
        "print('script runs')\n"
        "decoders.WORTH_IT = 1\n"
        "made = decoders.Decoders(1)\n"
        "made.ask(png(1))\n"
        "print(made.facts(png(1)).width)\n"
        "made.close()\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")) == (0, ["script runs", "8", ""]), done.stderr
    code = "import sys; import sightline.data.decoders; print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    light = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert light.stdout.strip() == "[]", light.stderr

"""Archives: what is in them is unpacked, and nothing they claim can write elsewhere or fill the disk."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.data import archives
from sightline.data.archives import Limits, folders_of, inner_folder, is_archive, unpack
from sightline.errors import DataError, MissingDataError

FILES = {"pictures/a.png": b"first", "pictures/deep/b.png": b"second" * 1000}
KINDS = ("set.zip", "set.tar", "set.tar.gz", "set.tgz")


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.name != ".unpacked"}


def left_behind(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_is_unpacked_beside_itself(tmp_path: Path, name: str):
    archive = write_archive(tmp_path / name, FILES)
    assert is_archive(archive)
    folder = unpack(archive)
    assert folder == tmp_path / f"{name}.unpacked"
    assert content_of(folder) == FILES
    assert left_behind(tmp_path) == [name, f"{name}.unpacked"]
    assert folders_of(archive) == (folder, folder / "pictures")
    assert inner_folder(folder) == folder / "pictures"


def test_it_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path):
    archive = write_archive(tmp_path / "set.zip", FILES)
    kept = unpack(archive) / "pictures/a.png"
    kept.write_bytes(b"seen")
    assert unpack(archive) / "pictures/a.png" == kept and kept.read_bytes() == b"seen"
    write_archive(archive, {"pictures/a.png": b"other"})
    os.utime(archive, ns=(1, 1))
    assert content_of(unpack(archive)) == {"pictures/a.png": b"other"}


def test_an_interrupted_unpacking_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_archive(tmp_path / "set.zip", FILES)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archives, "write_file", stop)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive)
    assert left_behind(tmp_path) == ["set.zip"]
    assert content_of(unpack(archive)) == FILES


def test_flat_puts_all_files_into_one_folder(tmp_path: Path):
    archive = write_archive(tmp_path / "set.zip", {"x/1/a.png": b"1", "y/b.png": b"2", "__MACOSX/x/._a.png": b"3"})
    assert content_of(unpack(archive, flat="images")) == {"images/a.png": b"1", "images/b.png": b"2"}
    clash = write_archive(tmp_path / "clash.zip", {"x/a.png": b"1", "y/a.png": b"2"})
    with pytest.raises(DataError, match="would be one file"):
        unpack(clash, flat="images")


def refuse(archive: Path, message: str, *, limits: Limits | None = None) -> None:
    """Check that an archive is refused, that the message names it, and that nothing was written anywhere."""
    around = {path for path in archive.parent.parent.rglob("*")}
    with pytest.raises(DataError, match=message) as refused:
        unpack(archive, limits=limits)
    assert archive.name in str(refused.value) and "nothing was unpacked" in str(refused.value)
    assert {path for path in archive.parent.parent.rglob("*")} == around


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("kind", ["set.zip", "set.tar", "set.tar.gz"])
@pytest.mark.parametrize(
    "name",
    [
        "../out.png",
        "pictures/../../out.png",
        "/etc/out.png",
        "..\\out.png",
        "pictures\\..\\..\\out.png",
        "C:\\out.png",
        "C:out.png",
        "\\\\server\\share\\out.png",
        "~/out.png",
    ],
)
def test_no_name_leads_out_of_the_folder(place: Path, kind: str, name: str):
    refuse(write_archive(place / kind, {"a.png": b"good", name: b"bad"}), "leads out of the folder")


def test_a_nul_in_a_name_is_refused(place: Path):
    archive = write_archive(place / "set.zip", {"a.pngX.exe": b"bad"})
    archive.write_bytes(archive.read_bytes().replace(b"a.pngX.exe", b"a.png\0.exe"))
    refuse(archive, "NUL")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device or pipe"),
        (tarfile.BLKTYPE, "a device or pipe"),
        (tarfile.FIFOTYPE, "a device or pipe"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_links_and_devices_of_a_tar_are_refused(place: Path, kind: bytes, told: str, mode: str):
    archive = place / ("set.tar" if mode == "w" else "set.tar.gz")
    with tarfile.open(archive, mode) as opened:  # type: ignore[call-overload]
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        opened.addfile(member)
        below = tarfile.TarInfo("a.png/b.png")
        below.size = 4
        opened.addfile(below, io.BytesIO(b"evil"))
    refuse(archive, f"'a.png' is {told}")


@pytest.mark.parametrize(("mode", "told"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device or pipe")])
def test_links_and_pipes_of_a_zip_are_refused(place: Path, mode: int, told: str):
    archive = place / "set.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        entry = zipfile.ZipInfo("a.png")
        entry.external_attr = (mode | 0o777) << 16
        opened.writestr(entry, "/etc/passwd")
    refuse(archive, f"'a.png' is {told}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "./a.png"], "would be one file"),
        (["a.png", "A.PNG"], "would be one file"),
        (["a", "a/b.png"], "a file as well as a folder"),
    ],
)
@pytest.mark.parametrize("kind", ["set.zip", "set.tar"])
def test_names_that_clash_are_refused(place: Path, names: list[str], message: str, kind: str):
    refuse(write_archive(place / kind, dict.fromkeys(names, b"x")), message)


LIMITS = Limits(num_files=10, num_bytes=50_000, ratio=20, small=30_000)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_files_or_bytes_are_refused(place: Path, kind: str):
    many = write_archive(place / kind, {f"{n}.png": b"x" for n in range(11)})
    refuse(many, "more than 10 files", limits=LIMITS)
    noise = os.urandom(6_000)
    large = write_archive(place / kind, {f"{n}.png": noise for n in range(9)})
    refuse(large, "its first 9 files claim 54,000 bytes", limits=LIMITS)


@pytest.mark.parametrize("kind", ["set.zip", "set.tar.gz"])
def test_a_bomb_is_refused_by_its_ratio(place: Path, kind: str):
    refuse(write_archive(place / kind, {"a.png": b"\0" * 40_000}), "times|claims more than", limits=LIMITS)


def test_files_of_a_zip_that_share_their_bytes_are_counted_each(place: Path):
    """Many entries may point at one compressed stream: a few bytes each, and the whole of it when unpacked."""
    archive = write_archive(place / "set.zip", {"00.png": os.urandom(4_000)})
    raw = archive.read_bytes()
    start = raw.index(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = raw[start:end]
    entries = b"".join(entry.replace(b"00.png", b"%02d.png" % number) for number in range(9))
    closing = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(entries), start, 0)
    archive.write_bytes(raw[:start] + entries + closing)
    refuse(archive, "its first 6 files claim 24,", limits=Limits(ratio=5, small=10))


def test_a_header_that_claims_gigabytes_is_not_read(place: Path):
    """tarfile keeps a long name in memory, as long as the header says it is."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**33
    for name, pack in (("set.tar", bytes), ("set.tar.gz", gzip.compress)):
        (place / name).write_bytes(pack(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024))
        refuse(place / name, "a header claims 8,589,9")


def test_a_sparse_file_counts_as_long_as_it_claims_to_be(place: Path):
    member = tarfile.TarInfo("a.png")
    member.size = 2**33
    (place / "set.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    refuse(place / "set.tar", "8,589,934,592 bytes")


def test_more_than_the_disk_holds_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_archive(place / "set.zip", FILES)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    refuse(archive, "unpacks to 6,005 bytes where 100 are free")


def test_an_encrypted_zip_is_refused(place: Path):
    archive = write_archive(place / "set.zip", {"a.png": b"x"})
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    refuse(archive, "encrypted")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("set.zip", lambda raw: raw[: len(raw) // 2]),
        ("set.zip", lambda raw: raw.replace(b"first", b"FIRST")),
        ("set.tar.gz", lambda raw: raw[: len(raw) // 2]),
        ("set.tar.gz", lambda raw: raw[:20] + b"\xff" * 20 + raw[40:]),
        ("set.tar", lambda raw: raw[:600]),
        ("set.tar", lambda raw: b"no archive at all"),
        ("set.zip", lambda raw: b""),
    ],
)
def test_a_damaged_archive_is_said_and_leaves_nothing(place: Path, name: str, damage: Callable[[bytes], bytes]):
    archive = write_archive(place / name, FILES)
    if name == "set.zip":
        with zipfile.ZipFile(archive, "w") as opened:  # stored, so that its content can be changed
            for member, content in FILES.items():
                opened.writestr(member, content)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataError, match="fetch it again"):
        unpack(archive)
    assert left_behind(place) == [name]


def test_where_nothing_can_be_written_it_says_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch):
    archive = write_archive(place / "set.zip", FILES)

    def refuse_writing(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse_writing)
    with pytest.raises(DataError, match=r"Permission denied.*unpack it yourself and name the folder"):
        unpack(archive)


def test_what_is_neither_folder_nor_archive_is_said(tmp_path: Path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        folders_of(tmp_path / "a.rar")
    with pytest.raises(MissingDataError, match="correct `images`"):
        folders_of(tmp_path / "none")
    assert folders_of(tmp_path) == (tmp_path,)


def test_owner_and_mode_of_the_archive_are_not_taken_over(tmp_path: Path):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as opened:
        member = tarfile.TarInfo("a.png")
        member.mode, member.size = 0o7777, 1
        opened.addfile(member, io.BytesIO(b"x"))
    assert (unpack(archive) / "a.png").stat().st_mode & 0o7111 == 0

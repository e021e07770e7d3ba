"""Several folders of pictures: the first that has a file is taken, and none is ever left."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.album import Album, find_in, find_inside
from sightline.data.pictures import PictureError
from tiny_pictures import png


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number, name in enumerate(("one/a.png", "two/a.png", "two/b.png", "two/c.jpg", "two/c.png", "secret.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(number))
    return tmp_path / "one", tmp_path / "two"


def test_the_first_folder_that_has_it(folders: tuple[Path, Path]):
    one, two = folders
    assert find_in(folders, "a.png") == (one / "a.png").resolve()
    assert find_in(folders, "b") == (two / "b.png").resolve()
    assert find_in(folders, str(two / "a.png")) == (two / "a.png").resolve()
    assert Album(*folders).picture("b.png", name="")[0].path == str((two / "b.png").resolve())


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("../secret.png", "path-escape"),
        ("../two/b.png", "path-escape"),
        ("/secret.png", "path-escape"),
        ("d.png", "missing-image"),
    ],
)
def test_no_folder_is_left(folders: tuple[Path, Path], written: str, kind: str):
    with pytest.raises(PictureError) as refused:
        find_in(folders, written)
    assert refused.value.kind == kind


def test_a_name_that_fits_two_files_is_not_guessed(folders: tuple[Path, Path]):
    (folders[0] / "b.png").write_bytes(png(9))
    (folders[0] / "b.jpg").write_bytes(png(9))
    with pytest.raises(PictureError) as refused:
        find_in(folders, "b")
    assert refused.value.kind == "ambiguous-image"


def test_a_frame_of_a_dicom_file_is_named_behind_it_and_stays_in_its_folder(tmp_path: Path):
    inside = tmp_path / "images"
    inside.mkdir()
    (inside / "scan.dcm").write_bytes(b"x")
    (tmp_path / "secret.dcm").write_bytes(b"x")
    (inside / "link.dcm").symlink_to(tmp_path / "secret.dcm")
    assert find_inside(inside, "scan.dcm#2") == Path(f"{inside.resolve() / 'scan.dcm'}#2")
    for written in ("link.dcm#1", "../secret.dcm#1"):
        with pytest.raises(PictureError) as caught:
            find_inside(inside, written)
        assert caught.value.kind == "path-escape"

"""COCO-format sets of boxes and masks, as questions: is it there, where is it, how many are there?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from sightline.data.album import Album
from sightline.data.coco_annotations import Scene, read_annotations
from sightline.data.coco_shapes import place_of
from sightline.data.conversations import read_plain
from sightline.data.problems import shown
from sightline.data.release import Asked, Opened, Release
from sightline.data.row_reader import RowReader
from sightline.data.rows import BadLine, Row, Table
from sightline.errors import DataError
from sightline.records import Sample

RELEASE = Release(
    title="COCO",
    format="coco",
    address="https://cocodataset.org/#download",
    files="annotations_trainval2017.zip, train2017.zip and val2017.zip",
    layout=(
        "annotations/instances_train2017.json ...    (a set of your own: any name, here or beside its pictures)",
        "train2017/000000000009.jpg ...    (beside the annotations, or in images/, they are found as well)",
    ),
    num_bytes=20_000_000_000,
    licence="annotations CC-BY-4.0, pictures under Flickr's terms",
)

NEGATIVES: Mapping[str, str] = {
    "random": "any category that is not in the picture",
    "popular": "the categories that are in most pictures, of those not in this one",
}
"""Which absent things are asked for: the set's `subset`."""

TAGS = ("category", "kind", "answer_type")
COLUMNS = ("id", "image", "question", "answer", *TAGS, "size")

ROBOFLOW_NAME = "_annotations.coco.json"
ROBOFLOW_SPLITS = ("train", "valid", "test")
COCO_PREFIX = "instances_"


def open_release(asked: Asked) -> Opened | None:
    """Open a set of boxes and masks as questions about its pictures.

    Args:
        asked: an annotation file; or a folder as Roboflow exports it (train, valid and test, each with pictures and
            `_annotations.coco.json`) or as COCO releases it (`annotations/instances_val2017.json`, `val2017/`).
            Its subset is a key of `NEGATIVES`; "random" when it has none.

    Returns:
        The splits of the folder, "all" of a file; None when this is no such set.

    Raises:
        MissingDataError: none of the pictures is there.
        DataError: a file holds no such annotations, or there is no such subset.
    """
    files = _find_annotations(asked)
    if not files:
        if asked.format == RELEASE.format:
            raise RELEASE.missing(asked.path, f"no {COCO_PREFIX}*.json and no {ROBOFLOW_NAME}")
        return None
    around = asked.path if asked.path.is_dir() else asked.path.parent
    around = around.parent if around.name == "annotations" else around
    folders = asked.images or (around,)
    tables = {
        split: question_table(
            file,
            file=asked.named(file),
            folders=folders if asked.with_pictures else (),
            prefix=f"{split}-" if len(files) > 1 else "",
            negatives=asked.subset or "random",
        )
        for split, file in files.items()
    }
    return Opened(tables=tables, read_row=read_question, images=folders, tags=TAGS)


def read_question(
    reader: RowReader, fields: Mapping[str, str], tag_columns: Sequence[str], album: Album
) -> list[Sample]:
    """Read a question about a picture, as `read_plain`; one about a place needs the picture that was annotated.

    A picture that was turned or made smaller since has its things in other places than the annotations say.
    """
    samples = read_plain(reader, fields, tag_columns, album)
    size = reader.row.values.get("size")
    for picture in (picture for sample in samples for picture in sample.pictures):
        if reader.row.values.get("kind") == "where" and picture.width and (picture.width, picture.height) != size:
            found = f"a picture of {picture.width} x {picture.height} pixels whose annotations are for {size}"
            reader.report("changed", found, image=picture.name)
    return [] if reader.at_fault else samples


def _find_annotations(asked: Asked) -> dict[str, Path]:
    source = asked.path
    if source.is_file():
        return {"all": source} if asked.format == RELEASE.format or _is_annotations(source) else {}
    by_split = {split: source / split / ROBOFLOW_NAME for split in ROBOFLOW_SPLITS}
    found = {split: file for split, file in by_split.items() if file.is_file()}
    if not found and (source / ROBOFLOW_NAME).is_file():
        found = {"all": source / ROBOFLOW_NAME}
    for folder in (source / "annotations", source):
        found = found or {
            file.stem.removeprefix(COCO_PREFIX): file for file in sorted(folder.glob(f"{COCO_PREFIX}*.json"))
        }
    return found


def _is_annotations(file: Path) -> bool:
    """Tell by both ends of a JSON file: the whole may be half a gigabyte."""
    if file.suffix.lower() != ".json":
        return False
    with file.open("rb") as opened:
        ends = opened.read(65_536)
        opened.seek(max(0, file.stat().st_size - 65_536))
        ends += opened.read()
    is_object = ends.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return is_object and b'"categories"' in ends and (b'"images"' in ends or b'"annotations"' in ends)


def question_table(
    annotations: Path, *, file: str, folders: Sequence[Path], negatives: str = "random", prefix: str = "", seed: int = 0
) -> Table:
    """Derive questions from a COCO annotation file.

    Of every picture and category in it: "Is there a ...?" (closed; as many answers "no" as "yes", about categories
    that are not in the picture); where it is, if there is just one (`coco_shapes.place_of`); and how many there are.
    What is marked as a crowd has neither place nor number. A category that is only the name of a group of others is
    not asked for. A picture with an annotation that cannot be read is a bad line: its counts would be wrong.

    Args:
        annotations: the file, with `images`, `annotations` and `categories`.
        file: its name in messages.
        folders: where the pictures are looked for; none takes them by name alone.
        negatives: a key of `NEGATIVES`.
        prefix: goes before the ids, where several splits number their pictures alike.
        seed: of the draw.

    Returns:
        Rows of id, image, question, answer, category, kind ("present", "where", "count") and answer_type.

    Raises:
        MissingDataError: none of the pictures is there.
        DataError: the file is no COCO annotation file, or there is no such way of asking.
    """
    if negatives not in NEGATIVES:
        raise DataError(f"{file}: no subset {negatives!r}; absent categories are drawn {' or '.join(NEGATIVES)}")
    scenes, bad, names = read_annotations(annotations, file=file)
    start = _picture_start(annotations, folders, [scene.image for scene in scenes])
    present, absent = _balanced(scenes, list(names), negatives=negatives, seed=seed)

    def rows() -> Iterator[Row | BadLine]:
        yield from bad
        for scene, there, not_there in zip(scenes, present, absent, strict=True):
            for category, kind, question, answer in _questions(scene, there, not_there, names):
                values = {
                    "id": f"{prefix}{scene.id}-{category}-{kind}",
                    "image": start + scene.image,
                    "question": question,
                    "answer": answer,
                    "category": names[category],
                    "kind": kind,
                    "answer_type": "CLOSED" if kind == "present" else "OPEN",
                    "size": (scene.width, scene.height),
                }
                yield Row(number=scene.number, values=values)

    return Table(file=file, columns=COLUMNS, rows=rows())


def _questions(
    scene: Scene, present: list[int], absent: list[int], names: Mapping[int, str]
) -> Iterator[tuple[int, str, str, str]]:
    for category in scene.present:
        name, centres = names[category], scene.centres.get(category, [])
        if category in present:
            yield category, "present", f"Is there {_with_article(name)} in the image?", "yes"
        if category in scene.crowds:
            continue
        if len(centres) == 1:
            place = place_of(centres[0], scene.width, scene.height)
            yield category, "where", f"In which part of the image is the {name}?", place
        yield category, "count", f"How many instances of {name} are in the image?", str(len(centres))
    for category in absent:
        yield category, "present", f"Is there {_with_article(names[category])} in the image?", "no"


def _balanced(
    scenes: Sequence[Scene], categories: Sequence[int], *, negatives: str, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Draw as many absent categories as there are present ones: per picture as far as it goes, then over the set.

    A picture without anything has only "no" to offer and one with everything only "yes", so the first makes up for
    the second. Where that is not enough, as many "yes" are left out by the draw.

    Returns:
        For each scene, the categories asked for that are there, and those that are not.
    """
    num_pictures = Counter(category for scene in scenes for category in scene.present)
    popular = sorted(categories, key=lambda category: (-num_pictures[category], category))
    offered = []
    for scene in scenes:
        order = popular if negatives == "popular" else Random(f"{seed}:{scene.image}").sample(popular, len(popular))
        there = set(scene.present)
        offered.append([category for category in order if category not in there])
    present = [scene.present for scene in scenes]
    absent = [offer[: len(there)] for offer, there in zip(offered, present, strict=True)]
    spare = [offer[len(there) :] for offer, there in zip(offered, present, strict=True)]
    num_lacking = sum(map(len, present)) - sum(map(len, absent))
    turns = Random(f"{seed}:turns").sample(range(len(scenes)), len(scenes))
    turns.sort(key=lambda place: bool(present[place]))
    while num_lacking > 0 and any(spare):
        for place in turns:
            if num_lacking > 0 and spare[place]:
                absent[place].append(spare[place].pop(0))
                num_lacking -= 1
    if num_lacking > 0:
        every = [(place, category) for place, there in enumerate(present) for category in there]
        kept = set(Random(f"{seed}:kept").sample(every, len(every) - num_lacking))
        present = [[c for c in there if (place, c) in kept] for place, there in enumerate(present)]
    return present, absent


def _picture_start(annotations: Path, folders: Sequence[Path], names: Sequence[str]) -> str:
    """Find what goes before an annotation file's names of pictures: the first likely folder that holds any of them."""
    split = annotations.stem.removeprefix(COCO_PREFIX)
    for folder in folders:
        inner = ["", split, annotations.parent.name, "images", f"images/{split}"]
        if annotations.parent.is_relative_to(folder):
            inner.insert(0, annotations.parent.relative_to(folder).as_posix())
        for start in inner:
            if any((folder / start / name).is_file() for name in names):
                return f"{start}/" if start not in ("", ".") else ""
    if not folders or not names:
        return ""
    looked_in = " and ".join(map(str, folders))
    found = f"none of its {len(names):,} pictures, such as {shown(names[0])}, is in {looked_in}; set `images`"
    raise RELEASE.missing(annotations, found)


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

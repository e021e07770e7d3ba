"""COCO annotation files: what is marked in which picture, and what cannot be read, by picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.coco_shapes import Point, centre_of
from sightline.data.problems import shown
from sightline.data.rows import BadLine
from sightline.errors import DataError


@dataclass(slots=True, kw_only=True)
class Scene:
    """What is marked in one picture.

    Args:
        number: the picture's place in `images`.
        id: its id in the file.
        image: its file name.
        width: pixels.
        height: pixels.
        centres: category to the centre of each thing of that kind.
        crowds: categories of which an uncounted group is marked.
        fault: what is wrong with one of its annotations.
    """

    number: int
    id: object
    image: str
    width: int
    height: int
    centres: dict[int, list[Point]] = field(default_factory=dict)
    crowds: set[int] = field(default_factory=set)
    fault: str = ""

    @property
    def present(self) -> list[int]:
        """Categories that are in the picture."""
        return sorted({*self.centres, *self.crowds})


def read_annotations(path: Path, *, file: str) -> tuple[list[Scene], list[BadLine], dict[int, str]]:
    """Read an annotation file.

    Args:
        path: the file.
        file: its name in messages.

    Returns:
        The pictures whose every annotation can be used; what is wrong with the others; category to its name in a
        question, without categories that are only the name of a group of others.

    Raises:
        DataError: the file as a whole is no COCO annotation file.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error}); export the annotations again") from None
    lists = []
    for key in ("images", "annotations", "categories"):
        found = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(found, list):
            raise DataError(f"{file}: no list {key!r}, which a COCO annotation file has; export the annotations again")
        lists.append(found)
    images, marks, categories = lists
    names = _spoken_names(categories, marks, file=file)
    return *_scenes(images, marks, names), names


def _spoken_names(categories: Sequence[object], marks: Sequence[object], *, file: str) -> dict[int, str]:
    """Name the categories as questions do; one that only names a group of others is left out.

    Roboflow's exports open with such a group: to ask for it would call every picture empty of it. A category whose
    name is a bare number is called after its group too.
    """
    known: dict[int, tuple[str, str]] = {}
    for number, category in enumerate(categories):
        if not isinstance(category, Mapping):
            category = {}
        id, name = category.get("id"), category.get("name")
        if not isinstance(id, int) or not isinstance(name, str) or not name.strip() or id in known:
            raise DataError(f"{file}: category {number} is {shown(category)}; each needs an id of its own and a name")
        group = category.get("supercategory")
        known[id] = name.strip(), group.strip() if isinstance(group, str) and group != "none" else ""
    groups = {group for name, group in known.values() if group != name}
    used = [mark.get("category_id") for mark in marks if isinstance(mark, Mapping)]
    used = {category for category in used if isinstance(category, int)}
    names = {
        id: f"{group} {name}".strip() if name.isdecimal() else name.replace("_", " ")
        for id, (name, group) in sorted(known.items())
        if name not in groups or id in used
    }
    if twice := [name for name, num in Counter(names.values()).items() if num > 1]:
        raise DataError(f"{file}: two categories are called {twice[0]!r}; give each its own name")
    return names


def _scenes(
    images: Sequence[object], marks: Sequence[object], names: Mapping[int, str]
) -> tuple[list[Scene], list[BadLine]]:
    scenes: dict[object, Scene] = {}
    bad: list[BadLine] = []
    for number, image in enumerate(images):
        scene = _scene(number, image)
        if scene is None or scene.id in scenes:
            found = f"`images` has {shown(image)}; id (of its own), file_name, width and height are needed"
            bad.append(BadLine(number=number, kind="wrong-type", found=found, text=""))
        else:
            scenes[scene.id] = scene
    # Several faults of one picture are told by the first.
    for number, mark in enumerate(marks):
        id = mark.get("image_id") if isinstance(mark, Mapping) else None
        scene = scenes.get(id) if isinstance(id, int | str) else None
        if scene is None or not isinstance(mark, Mapping):
            found = f"annotation {number} is about image {shown(id)}, which is not in `images`"
            bad.append(BadLine(number=number, kind="wrong-type", found=found, text=""))
            continue
        try:
            _add(scene, mark, names)
        except ValueError as error:
            scene.fault = scene.fault or f"annotation {number} cannot be used: {error}"
    for scene in scenes.values():
        if scene.fault:
            text = json.dumps({"id": scene.image})
            bad.append(BadLine(number=scene.number, kind="wrong-type", found=scene.fault, text=text))
    return [scene for scene in scenes.values() if not scene.fault], bad


def _scene(number: int, image: object) -> Scene | None:
    if not isinstance(image, Mapping):
        return None
    id, name, width, height = (image.get(key) for key in ("id", "file_name", "width", "height"))
    if not isinstance(id, int | str) or not isinstance(name, str) or not name:
        return None
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return None
    return Scene(number=number, id=id, image=name, width=width, height=height)


def _add(scene: Scene, mark: Mapping[str, object], names: Mapping[int, str]) -> None:
    category = mark.get("category_id")
    if not isinstance(category, int) or category not in names:
        raise ValueError(f"its category {shown(category)} is not in `categories`")
    centre = centre_of(mark, scene.width, scene.height)
    if mark.get("iscrowd"):
        scene.crowds.add(category)
    else:
        scene.centres.setdefault(category, []).append(centre)

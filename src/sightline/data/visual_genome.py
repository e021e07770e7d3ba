"""Visual Genome's pictures and regions, on which HA-DPO's pairs and SHR's questions stand.

Source: Krishna et al. 2017, "Visual Genome: connecting language and vision using crowdsourced dense image annotations".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.data.problems import shown
from sightline.data.release import Asked, Release
from sightline.errors import DataError

IMAGE_DATA = "image_data.json"
REGIONS = "region_descriptions.json"

RELEASE = Release(
    title="Visual Genome",
    format="",
    address="https://homes.cs.washington.edu/~ranjay/visualgenome/api.html",
    files="images (both parts), image meta data and, for SHR, region descriptions (version 1.2 or later)",
    layout=(
        f"VG/{IMAGE_DATA}    (or set `images` to the folder that holds it)",
        f"VG/{REGIONS}",
        "VG/VG_100K/1.jpg ...",
        "VG/VG_100K_2/51.jpg ...",
    ),
    num_bytes=15_400_000_000,
    licence="CC-BY-4.0",
)

_CHUNK = 1 << 20
_LONGEST_ENTRY = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class GenomeImage:
    """A picture of Visual Genome: its path from the folder of `image_data.json`, width and height in pixels."""

    path: str
    width: int
    height: int


def find_folder(asked: Asked) -> Path:
    """Find the folder of Visual Genome: the study's `images`, or `VG` in, beside or above the source.

    Args:
        asked: a source whose pictures are Visual Genome's.

    Returns:
        The folder that holds `image_data.json`.

    Raises:
        MissingDataError: there is none.
    """
    here = asked.path if asked.path.is_dir() else asked.path.parent
    likely = asked.images or (here, here / "VG", here.parent / "VG", here.parent.parent / "VG")
    for folder in likely:
        if (folder / IMAGE_DATA).is_file():
            return folder
    raise RELEASE.missing(here, f"no {IMAGE_DATA} in {', '.join(map(str, likely))}")


def read_images(folder: Path) -> dict[int, GenomeImage]:
    """Read which picture has which file: the last two parts of its address.

    Args:
        folder: as `find_folder` finds it.

    Returns:
        Image id to picture.

    Raises:
        DataError: the file is not Visual Genome's.
    """
    images = {}
    for entry in each_entry(folder / IMAGE_DATA):
        try:
            path = "/".join(str(entry["url"]).split("/")[-2:])
            images[int(entry["image_id"])] = GenomeImage(
                path=path, width=int(entry["width"]), height=int(entry["height"])
            )
        except (KeyError, TypeError, ValueError):
            found = f"an entry is {shown(entry)}; image_id, url, width and height are needed"
            raise DataError(f"{folder / IMAGE_DATA}: {found}; fetch it from {RELEASE.address}") from None
    return images


def read_regions(folder: Path, images: Mapping[int, GenomeImage], wanted: Collection[int]) -> dict[int, list[str]]:
    """Read what people said about the regions of some pictures, each as "[x1, y1, x2, y2]: phrase".

    Args:
        folder: as `find_folder` finds it.
        images: as `read_images` reads them; corners are divided by width and height and rounded to two places.
        wanted: image ids.

    Returns:
        Image id to its regions, in the order of the file, without those that say nothing.

    Raises:
        MissingDataError: the file of regions is not there.
        DataError: it is not Visual Genome's.
    """
    file = folder / REGIONS
    if not file.is_file():
        raise RELEASE.missing(folder, f"no {REGIONS}")
    found: dict[int, list[str]] = {}
    for entry in each_entry(file):
        try:
            regions = entry["regions"]
            id = int(regions[0]["image_id"] if regions else entry["id"])
            if id in wanted and id in images:
                found[id] = [_region(region, images[id]) for region in regions if str(region["phrase"]).strip()]
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{file}: an entry is {shown(entry)}; fetch it from {RELEASE.address}") from None
    return found


def _region(region: Mapping[str, object], image: GenomeImage) -> str:
    x, y, width, height = (float(str(region[key])) for key in ("x", "y", "width", "height"))
    corners = (x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height)
    return f"{[round(corner, 2) for corner in corners]}: {' '.join(str(region['phrase']).split())}"


def each_entry(file: Path) -> Iterator[dict]:
    """Go through a JSON list of objects without holding it: the regions fill 700 MB.

    Args:
        file: the list.

    Raises:
        DataError: it is no such list, or ends too early.
    """
    decoder = json.JSONDecoder()
    with file.open(encoding="utf-8-sig") as opened:
        buffer, place = opened.read(_CHUNK).lstrip(), 1
        if not buffer.startswith("["):
            raise DataError(f"{file}: no JSON list; it starts with {shown(buffer[:20])}")
        while True:
            while place < len(buffer) and buffer[place] in " \t\r\n,":
                place += 1
            if buffer.startswith("]", place):
                return
            try:
                entry, place = decoder.raw_decode(buffer, place)
            except ValueError as error:
                more = opened.read(_CHUNK)
                if not more or len(buffer) - place > _LONGEST_ENTRY:
                    raise DataError(f"{file}: damaged or cut ({error}); copy it again") from None
                buffer, place = buffer[place:] + more, 0
                continue
            if not isinstance(entry, dict):
                raise DataError(f"{file}: an entry is {shown(entry)}, not an object")
            yield entry

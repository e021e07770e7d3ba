"""A Visual Genome of a few pictures, in the files and folders of the real one."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

SIZE = (40, 20)


def write_genome(folder: Path, ids: list[int], regions: dict[int, list[dict]] | None = None) -> None:
    """Write pictures of 40 x 20 pixels by turns into both folders, with their data and regions."""
    entries, described = [], []
    for place, id in enumerate(ids):
        inner = "VG_100K_2" if place % 2 else "VG_100K"
        (folder / inner).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (id % 256, 0, 0)).save(folder / inner / f"{id}.jpg")
        url = f"https://example.org/rak248/{inner}/{id}.jpg"
        entries.append({"image_id": id, "url": url, "width": SIZE[0], "height": SIZE[1], "coco_id": None})
        mine = [{"region_id": n, "image_id": id, **region} for n, region in enumerate((regions or {}).get(id, []))]
        described.append({"regions": mine, "id": id})
    (folder / "image_data.json").write_text(json.dumps(entries))
    (folder / "region_descriptions.json").write_text(json.dumps(described))

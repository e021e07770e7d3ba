"""HA-DPO's preference pairs: descriptions and answers with and without things that are not in the picture.

Source: Zhao et al. 2023, "Beyond hallucinations: enhancing LVLMs through hallucination-aware direct preference
optimization", arXiv 2311.16839.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from sightline.data import visual_genome
from sightline.data.conversations import read_plain
from sightline.data.problems import shown
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import BadLine, Row, Table
from sightline.data.visual_genome import GenomeImage
from sightline.errors import DataError

DESCRIPTIONS = "desc_data.json"
PROBES = "pope_data.json"

RELEASE = Release(
    title="HA-DPO's preference pairs",
    format="ha_dpo",
    address="https://huggingface.co/datasets/juliozhao/hadpo-data",
    files=f"{DESCRIPTIONS} and {PROBES} of one model, such as hadpo/llava-v1.5",
    layout=(DESCRIPTIONS, PROBES, *visual_genome.RELEASE.layout),
    num_bytes=None,
    licence="Apache-2.0",
)

SUBSETS: Mapping[str, str] = {
    "twice": "every description pair twice, as HA-DPO trains",
    "once": "every pair once",
}

REQUESTS = (
    "Describe this image in detail.",
    "Look at this image and say what you see.",
    "Give a detailed description of the picture.",
    "Can you tell me what this image contains?",
)
"""What a description answers; the first is HA-DPO's own, the others say in our words what its other three ask."""

SEED = 42
"""HA-DPO's: by it, the same chosen and rejected descriptions meet, and get the request in the same place."""

TAGS = ("rejected", "kind", "vg_image_id")

_COLUMNS = ("id", "image", "question", "chosen", *TAGS)


def open_release(asked: Asked) -> Opened | None:
    """Open HA-DPO's pairs; `preferences.load_pairs` makes pairs of the rows.

    Of each picture's descriptions one chosen and one rejected is drawn, then one of the requests, all from one
    generator in the order of the file. Answers that the model had right already (`correct`) are left out.

    Args:
        asked: the folder of both files; its subset is a key of `SUBSETS`, "twice" when it has none.

    Returns:
        Splits "pope" and "description", in this order; None when this is not HA-DPO.

    Raises:
        MissingDataError: one of the files, or Visual Genome, is missing.
        DataError: a file cannot be read, or there is no such subset.
    """
    files = {name: asked.path / name for name in (DESCRIPTIONS, PROBES)}
    if asked.format != RELEASE.format and not any(file.is_file() for file in files.values()):
        return None
    for name, file in files.items():
        if not file.is_file():
            raise RELEASE.missing(asked.path, f"no {name}")
    if asked.subset not in (None, *SUBSETS):
        raise DataError(f"{asked.path}: no subset {asked.subset!r}; there are {', '.join(SUBSETS)}")
    folder = visual_genome.find_folder(asked)
    images = visual_genome.read_images(folder)
    descriptions = _description_rows(files[DESCRIPTIONS], asked.named(files[DESCRIPTIONS]), images)
    if asked.subset != "once":
        descriptions += [_again(row) for row in descriptions if isinstance(row, Row)]
    probes = asked.table(files[PROBES])
    return Opened(
        tables={
            "pope": Table(file=probes.file, columns=_COLUMNS, rows=_probe_rows(probes, images)),
            "description": Table(file=asked.named(files[DESCRIPTIONS]), columns=_COLUMNS, rows=descriptions),
        },
        read_row=read_plain,
        images=(folder,),
        tags=TAGS,
    )


def _description_rows(path: Path, file: str, images: Mapping[int, GenomeImage]) -> list[Row | BadLine]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error}); fetch it again from {RELEASE.address}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: a {type(content).__name__}, not an object of image ids; {RELEASE.to_fetch()}")
    rng = Random(SEED)
    rows: list[Row | BadLine] = []
    for number, (image_id, sides) in enumerate(content.items()):
        texts = [sides.get(side) if isinstance(sides, dict) else None for side in ("chosen", "rejected")]
        if not all(isinstance(side, list) and side for side in texts):
            found = f"image {image_id} has {shown(sides)}, not a list of chosen and one of rejected texts"
            rows.append(BadLine(number=number, kind="wrong-type", found=found, text=""))
            continue
        chosen, rejected = (rng.choice(side or [""]) for side in texts)
        values = {"question": rng.choice(REQUESTS), "chosen": chosen, "rejected": rejected, "kind": "description"}
        rows.append(_row(number, f"description-{image_id}", image_id, images, values))
    return rows


def _again(row: Row) -> Row:
    return Row(number=row.number, values={**row.values, "id": f"{row.values['id']}-again"})


def _probe_rows(table: Table, images: Mapping[int, GenomeImage]) -> Iterator[Row | BadLine]:
    for row in table.rows:
        if isinstance(row, BadLine):
            yield row
        elif not row.values.get("correct"):
            names = {"question": "question", "chosen": "chosen", "reject": "rejected"}
            values = {ours: row.values[theirs] for theirs, ours in names.items() if theirs in row.values}
            values["kind"] = "pope"
            yield _row(row.number, f"pope-{row.number}", row.values.get("image_id"), images, values)


def _row(
    number: int, id: str, image_id: object, images: Mapping[int, GenomeImage], values: Mapping[str, object]
) -> Row | BadLine:
    image = images.get(int(str(image_id))) if str(image_id).isdecimal() else None
    if image is None:
        found = f"image {shown(image_id)} is not in {visual_genome.IMAGE_DATA}"
        return BadLine(number=number, kind="missing-image", found=found, text=json.dumps({"id": id}))
    return Row(number=number, values={"id": id, "image": image.path, "vg_image_id": str(image_id), **values})

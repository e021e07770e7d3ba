"""SHR's inputs: pictures to be described in detail, and what people know to be in them.

Source: Zhao et al. 2023, arXiv 2311.16839; pictures and regions are Visual Genome's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sightline.data import visual_genome
from sightline.data.conversations import read_plain
from sightline.data.problems import shown
from sightline.data.release import Asked, Opened, Release
from sightline.data.rows import BadLine, Row, Table
from sightline.data.visual_genome import GenomeImage

IMAGES = "val_images_final.json"
FACTS = ("shr_factual_part1.jsonl", "shr_factual_part2.jsonl")
QUESTION = "Describe this image in detail."

RELEASE = Release(
    title="SHR",
    format="shr",
    address="https://huggingface.co/datasets/juliozhao/SHR",
    files=f"{IMAGES}, {FACTS[0]} and {FACTS[1]}",
    layout=(IMAGES, *FACTS, *visual_genome.RELEASE.layout),
    num_bytes=None,
    licence=None,
)

_COLUMNS = ("id", "image", "question", "answer")
_REGIONS = "Regions:\n"
_FACTS = "Facts:\n"


def open_release(asked: Asked) -> Opened | None:
    """Open SHR: one request per picture; its reference answer is what is known of the picture, for the judge.

    Args:
        asked: the folder of the list of pictures and of people's facts.

    Returns:
        One split, "all", with image ids as ids; None when this is not SHR.

    Raises:
        MissingDataError: a file of SHR, or Visual Genome, is missing.
        DataError: a file cannot be read.
    """
    if asked.format != RELEASE.format and not (asked.path / IMAGES).is_file():
        return None
    for name in (IMAGES, *FACTS):
        if not (asked.path / name).is_file():
            raise RELEASE.missing(asked.path, f"no {name}")
    table = asked.table(asked.path / IMAGES)
    facts, bad = _read_facts(asked, asked.path)
    folder = visual_genome.find_folder(asked)
    images = visual_genome.read_images(folder)
    entries = list(table.rows)
    wanted = {id for entry in entries if isinstance(entry, Row) and (id := _image_id(entry)) is not None}
    regions = visual_genome.read_regions(folder, images, wanted)
    rows = [*bad, *_rows(entries, images, regions, facts)]
    return Opened(
        tables={"all": Table(file=table.file, columns=_COLUMNS, rows=rows)},
        read_row=read_plain,
        images=(folder,),
        tags=(),
    )


def reference_text(regions: Sequence[str], facts: Sequence[str]) -> str:
    """Write what is known of a picture as one reference answer.

    Args:
        regions: lines of `visual_genome.read_regions`.
        facts: sentences that people wrote.
    """
    return _REGIONS + "".join(f"{line}\n" for line in regions) + _FACTS + "\n".join(facts)


def known_of(reference: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take a reference answer of SHR apart again.

    Args:
        reference: the answer of a sample of SHR.

    Returns:
        The lines of regions and the sentences of facts, as SHR's judge is shown them.
    """
    regions, _, facts = reference.removeprefix(_REGIONS.strip()).partition(_FACTS.strip())
    return tuple(regions.strip().splitlines()), tuple(facts.strip().splitlines())


def _rows(
    entries: Sequence[Row | BadLine],
    images: Mapping[int, GenomeImage],
    regions: Mapping[int, Sequence[str]],
    facts: Mapping[int, Sequence[str]],
) -> Iterator[Row | BadLine]:
    for entry in entries:
        if isinstance(entry, BadLine):
            yield entry
            continue
        id = _image_id(entry)
        lacking = [
            name
            for name, known in ((visual_genome.IMAGE_DATA, images), (visual_genome.REGIONS, regions))
            if id not in known
        ]
        if id is None or lacking:
            found = f"image {shown(entry.values.get('image_id'))} is not in {' and not in '.join(lacking)}"
            yield BadLine(number=entry.number, kind="missing-image", found=found, text=json.dumps({"id": str(id)}))
            continue
        answer = reference_text(regions[id], facts.get(id, ()))
        values = {"id": str(id), "image": images[id].path, "question": QUESTION, "answer": answer}
        yield Row(number=entry.number, values=values)


def _image_id(entry: Row) -> int | None:
    text = str(entry.values.get("image_id"))
    return int(text) if text.isdecimal() else None


def _read_facts(asked: Asked, folder: Path) -> tuple[dict[int, tuple[str, ...]], list[BadLine]]:
    """Read what people wrote: an object on each line, of one image id and its sentences; a later line counts."""
    facts: dict[int, tuple[str, ...]] = {}
    bad: list[BadLine] = []
    for name in FACTS:
        for line in asked.table(folder / name, "jsonl").rows:
            if isinstance(line, BadLine):
                found = f"{name}, line {line.number}: {line.found}"
                bad.append(BadLine(number=line.number, kind=line.kind, found=found, text=line.text))
                continue
            for id, sentences in line.values.items():
                if not id.isdecimal() or not isinstance(sentences, list):
                    found = f"{name}, line {line.number}: {shown(id)} has {shown(sentences)}, not a list of sentences"
                    bad.append(BadLine(number=line.number, kind="wrong-type", found=found, text=""))
                    continue
                facts[int(id)] = tuple(" ".join(str(sentence).split()) for sentence in sentences)
    return facts, bad

"""POPE's real questions about drawn pictures: its own, of COCO, need not be at hand to measure speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.formats import load_source
from sightline.data.pictures import read_picture
from sightline.records import Picture, Sample
from sightline.trees.sampler import group_by_image

SIDES = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (640, 640))
"""Widths and heights in pixels, as COCO's."""


def draw_picture(folder: Path, name: str, seed: int) -> Picture:
    """Draw patches of colour with noise over them, which take a JPEG decoder as long as a photo does."""
    rng = np.random.default_rng(seed)
    width, height = SIDES[seed % len(SIDES)]
    coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += rng.integers(-12, 13, pixels.shape, dtype=np.int16)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    return read_picture(folder / name, name=name)[0]


def pope_samples(labels: Path, folder: Path, num_pictures: int) -> list[Sample]:
    """Read the questions about the first pictures, in the order of the files, and draw these pictures."""
    sets = load_source(str(labels), root=Path.cwd(), format="pope", with_pictures=False).values()
    samples = [sample for part in sets for sample in part.samples]
    names = list(dict.fromkeys(sample.pictures[0].name for sample in samples))[:num_pictures]
    with ThreadPoolExecutor() as pool:
        drawn = pool.map(draw_picture, [folder] * len(names), names, range(len(names)))
        pictures = dict(zip(names, drawn, strict=True))
    return [
        dataclasses.replace(sample, pictures=(pictures[sample.pictures[0].name],))
        for sample in samples
        if sample.pictures[0].name in pictures
    ]


def distinct(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Take the first pictures' questions, each once, until there are so many."""
    once = list({(s.image_id, s.question): s for s in samples}.values())
    return [once[place] for group in group_by_image(s.image_id for s in once) for place in group][:number]

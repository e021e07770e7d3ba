"""What the model will see: the tokens of real samples, which are trained, and the tree of an image."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.text import Text
from rich.tree import Tree as RichTree

from sightline.errors import StudyError
from sightline.models.family import Family
from sightline.runner.prepare import prepare, render_samples
from sightline.study import Study
from sightline.trees.render import Rendered
from sightline.trees.row import Row, build_tree
from sightline.trees.sampler import group_by_image

TRAINED, IMAGE = "bold green", "blue"


def show_study(study: Study, *, num_images: int = 1, console: Console | None = None) -> None:
    """Print the first training images' trees, tokens coloured by what is done with them.

    Args:
        study: the study; no weights are loaded.
        num_images: how many images.
        console: where to; the terminal by default.
    """
    console = console or Console(highlight=False)
    prepared, family = prepare(study)
    run = next((run for run in prepared.plan.runs if run.training), None)
    if run is None:
        raise StudyError("no step of this study trains; there is nothing to show")
    sequences = render_samples(prepared, family, run.on, run.settings)
    samples = prepared.samples(run.on)
    console.print(Text.assemble("trained ", ("■", TRAINED), "  image ", ("■", IMAGE), "  read only ■"))
    for group in group_by_image(sample.image_id for sample in samples)[:num_images]:
        row = build_tree([sequences[number] for number in group], group)
        names = ", ".join(picture.name for picture in samples[group[0]].pictures) or "no image"
        title = Text(f"{names}: {len(group)} rows, {row.num_logical_tokens} tokens as {len(row)}")
        tree = RichTree(title, guide_style="dim")
        _add_nodes(tree, family, row, sequences, group)
        console.print(tree)


def _add_nodes(tree: RichTree, family: Family, row: Row, sequences: list[Rendered], group: list[int]) -> None:
    """Add a node for every stretch of tokens that the same branches share."""
    trained = set()
    for number, path in zip(group, row.paths, strict=True):
        trained |= {int(place) for place, weight in zip(path, sequences[number].weight_L, strict=True) if weight}
    num_branches = np.bincount(np.concatenate(row.paths), minlength=len(row))
    nodes: dict[int, RichTree] = {}
    for path in row.paths:
        parent, start = tree, 0
        for place in range(1, len(path) + 1):
            ended = place == len(path)
            if not ended and num_branches[path[place]] == num_branches[path[place - 1]]:
                continue
            first = int(path[start])
            if first not in nodes:
                nodes[first] = parent.add(_text(family, row, [int(p) for p in path[start:place]], trained))
            parent, start = nodes[first], place


def _text(family: Family, row: Row, places: list[int], trained: set[int]) -> Text:
    """Write tokens out, a run of image tokens as one sign with its length."""
    text = Text()
    position = 0
    while position < len(places):
        place = places[position]
        if row.picture_T[place] >= 0:
            length = 1
            while position + length < len(places) and row.picture_T[places[position + length]] == row.picture_T[place]:
                length += 1
            text.append(f"[image: {length} tokens]", style=IMAGE)
            position += length
            continue
        style = TRAINED if place in trained else ""
        run = [place]
        while position + len(run) < len(places):
            following = places[position + len(run)]
            if row.picture_T[following] >= 0 or (following in trained) != (place in trained):
                break
            run.append(following)
        ids = [int(row.token_ids_T[p]) for p in run]
        text.append(family.chat.tokenizer.decode(ids).replace("\n", "⏎"), style=style)
        position += len(run)
    return text

"""Rows that come tokenised: ids and labels, as training code built on Hugging Face writes them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence

from sightline.data.album import Album
from sightline.data.problems import shown
from sightline.data.row_reader import RowReader
from sightline.records import NOT_A_TARGET, Message, Picture, Sample, Tokens

MARKS = frozenset({"input_ids", "labels"})
"""Columns by which such rows are recognised."""

LARGEST_ID = 2**31 - 1


def read_tokens(reader: RowReader, fields: Mapping[str, str], tag_columns: Sequence[str], album: Album) -> list[Sample]:
    """Read a row of `input_ids` and `labels`, with the pictures its image tokens stand for.

    Labels are unshifted, as Hugging Face has them: the id in its own place, or -100 where nothing is learnt. Places
    that an `attention_mask` hides are padding and are dropped, unless a label calls one a target.

    Args:
        reader: the row's reader, which gathers what is wrong.
        fields: our names ("input_ids", "labels", "image") to the row's columns.
        tag_columns: columns to keep as tags.
        album: where the pictures are.

    Returns:
        One sample, or none when anything is wrong.
    """
    ids = _read_ids(reader, fields["input_ids"], lowest=0)
    labels = _read_ids(reader, fields["labels"], lowest=NOT_A_TARGET)
    seen = _read_ids(reader, "attention_mask", lowest=0) if "attention_mask" in reader.row.values else [1] * len(ids)
    if not reader.at_fault and not len(ids) == len(labels) == len(seen):
        reader.report("wrong-type", f"{len(ids)} ids, {len(labels)} labels and a mask of {len(seen)}")
    if not reader.at_fault and all(label == NOT_A_TARGET for label in labels):
        reader.report("empty-answer", f"no label of {shown(fields['labels'])} is a target")
    image = reader.row.values.get(fields.get("image", "image"))
    pictures: tuple[Picture, ...] = ()
    if image is not None and image != "" and image != []:
        pictures = reader.pictures(image, album)
    tags = reader.tags(tag_columns)
    if reader.at_fault:
        return []
    kept = [place for place, one in enumerate(seen) if one or labels[place] != NOT_A_TARGET]
    tokens = Tokens(
        input_ids=array("i", [ids[place] for place in kept]), labels=array("i", [labels[place] for place in kept])
    )
    digest = hashlib.sha256(tokens.input_ids.tobytes() + tokens.labels.tobytes()).hexdigest()
    text = f"{len(kept)} tokens (sha256 {digest})"
    return [
        Sample(
            id=reader.id,
            pictures=pictures,
            messages=(Message(role="user", content=(*range(len(pictures)), text)),),
            answer="",
            tags=tags,
            origin=f"{reader.file}:{reader.row.number}",
            tokens=tokens,
        )
    ]


def _read_ids(reader: RowReader, column: str, *, lowest: int) -> list[int]:
    value = reader.row.values.get(column)
    if value is None or value == []:
        reader.report("missing-key", f"no {shown(column)}")
        return []
    if not isinstance(value, list) or any(type(one) is not int for one in value):
        reader.report("wrong-type", f"{shown(column)} is {shown(value)}, not a list of whole numbers")
        return []
    wrong = next((one for one in value if not (0 <= one <= LARGEST_ID or one == lowest)), None)
    if wrong is not None:
        reader.report("wrong-type", f"{shown(column)} holds {wrong}, which is no token id")
        return []
    return value

"""Checks on what is trained: which tokens are targets, whether the answer's end is one, what is shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sightline.checking.findings import Finding
from sightline.records import Sample
from sightline.trees.render import Rendered
from sightline.trees.sampler import step_rows


def check_labels(
    data: str, samples: Sequence[Sample], sequences: Sequence[Rendered], end_token_ids: Sequence[int]
) -> Iterator[Finding]:
    """Report the share of image, prompt, answer and end tokens that are trained, and faults among them."""
    counts = {"image": [0, 0], "prompt": [0, 0], "answer": [0, 0], "end": [0, 0]}
    without_end = []
    for sample, sequence in zip(samples, sequences, strict=True):
        is_image = sequence.picture_L >= 0
        is_answer = np.arange(len(sequence)) >= sequence.num_prompt
        is_end = is_answer & (np.arange(len(sequence)) == len(sequence) - 1)
        is_end &= np.isin(sequence.token_ids_L, list(end_token_ids))
        parts = {
            "image": is_image,
            "prompt": ~is_image & ~is_answer,
            "answer": is_answer & ~is_end,
            "end": is_end,
        }
        for part, chosen in parts.items():
            counts[part][0] += int((sequence.weight_L[chosen] > 0).sum())
            counts[part][1] += int(chosen.sum())
        if not is_end.any() or not sequence.weight_L[-1]:
            without_end.append(sample.origin or sample.id)
    shares = ", ".join(f"{part} {trained:,} of {total:,}" for part, (trained, total) in counts.items())
    yield Finding(
        name="trained-tokens",
        severity="note",
        message=f"{data}: tokens trained: {shares}",
        evidence={part: {"trained": trained, "total": total} for part, (trained, total) in counts.items()},
    )
    if counts["image"][0]:
        yield Finding(
            name="image-tokens-trained",
            severity="fault",
            message=f"{data}: {counts['image'][0]:,} image tokens are targets; their trivial loss hides the rest",
            remedy="train on the answer (train_on: answer)",
        )
    if without_end:
        yield Finding(
            name="end-not-trained",
            severity="fault",
            message=f"{data}: in {len(without_end)} of {len(samples)} rows the answer's end is not a target, so the "
            f"model does not learn to stop, for example {without_end[0]}",
            remedy="set eos: auto",
            evidence={"rows": without_end[:5]},
        )
    straddling = [s.origin or s.id for s, q in zip(samples, sequences, strict=True) if q.straddles]
    if straddling:
        yield Finding(
            name="token-straddles-answer",
            severity="warning",
            message=f"{data}: in {len(straddling)} rows the tokens before the answer differ from those of the question "
            f"as it is asked, for example {straddling[0]}",
            remedy="use a template that ends its generation prompt with a token of its own",
            evidence={"rows": straddling[:5]},
        )


def check_sharing(
    data: str, samples: Sequence[Sample], sequences: Sequence[Rendered], row_tokens: int
) -> Iterator[Finding]:
    """Say how many tokens the trees save."""
    if not samples:
        return
    rows = step_rows(
        range(len(samples)),
        rendered=sequences.__getitem__,
        image_ids=[sample.image_id for sample in samples],
        row_tokens=row_tokens,
    )
    logical, executed = sum(row.num_logical_tokens for row in rows), sum(map(len, rows))
    images = len({sample.image_id for sample in samples})
    yield Finding(
        name="prefix-sharing",
        severity="note",
        message=f"{data}: {len(samples):,} rows on {images:,} images, {len(samples) / images:.1f} an image; "
        f"{logical:,} tokens become {executed:,} ({logical / executed:.1f} times fewer)",
        evidence={"logical_tokens": logical, "executed_tokens": executed, "num_rows": len(samples)},
    )

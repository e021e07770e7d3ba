"""Checks on what is trained: which tokens are targets, whether the answer's end is one, what is shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from sightline.checking.findings import NUM_EXAMPLES, Finding, row_name
from sightline.records import NOT_A_TARGET, Sample
from sightline.trees.render import Rendered
from sightline.trees.sampler import plan_epoch, step_rows

MAX_COUNTED = 5000
"""Rows whose trees are built to count what is shared; of larger sets, the first steps of an epoch."""

MAX_SHARE_CUT = 0.05
"""Of reference answers that may be longer than what may be answered before the measurement is spoilt."""


def check_labels(
    data: str, samples: Sequence[Sample], sequences: Sequence[Rendered], end_token_ids: Sequence[int]
) -> Iterator[Finding]:
    """Report the share of image, prompt, answer and end tokens that are trained, and faults among them.

    Of rows whose labels are not aligned, nothing else is said: no target of theirs was meant.
    """
    yield from check_alignment(data, samples)
    meant = [n for n, sample in enumerate(samples) if not (sample.tokens and sample.tokens.misplaced)]
    samples, sequences = [samples[number] for number in meant], [sequences[number] for number in meant]
    counts = {"image": [0, 0], "prompt": [0, 0], "answer": [0, 0], "end": [0, 0]}
    without_end: list[int] = []
    ends = frozenset(end_token_ids)
    for number, sequence in enumerate(sequences):
        is_image, trained = sequence.picture_L >= 0, sequence.weight_L > 0
        has_end = len(sequence) > sequence.num_prompt and int(sequence.token_ids_L[-1]) in ends
        trains_end = has_end and bool(trained[-1])
        border, num_images = sequence.num_prompt, int(np.count_nonzero(is_image))
        images_before, trained_before = np.count_nonzero(is_image[:border]), np.count_nonzero(trained[:border])
        trained_images = int(np.count_nonzero(trained & is_image))
        images_trained_before = int(np.count_nonzero(trained[:border] & is_image[:border]))
        for part, num_trained, total in (
            ("image", trained_images, num_images),
            ("prompt", trained_before - images_trained_before, border - images_before),
            (
                "answer",
                np.count_nonzero(trained) - trained_before - (trained_images - images_trained_before) - trains_end,
                len(sequence) - border - (num_images - images_before) - has_end,
            ),
            ("end", trains_end, has_end),
        ):
            counts[part][0] += int(num_trained)
            counts[part][1] += int(total)
        if not trains_end:
            without_end.append(number)
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
            remedy="train on the answer: train_on: answer, or -100 as the label of every image token",
        )
    cut = _cut(samples, without_end)
    if cut:
        yield _cut_in_training(data, samples, cut)
        without_end = sorted({*without_end}.difference(cut))
    if without_end:
        rows = [row_name(samples[number]) for number in without_end]
        yield Finding(
            name="end-not-trained",
            severity="fault",
            message=f"{data}: in {len(rows)} of {len(samples)} rows the answer's end is not a target, so the "
            f"model does not learn to stop, for example {rows[0]}",
            remedy="set eos: auto; tokenised rows must end with the end token, its id as its label",
            evidence={"rows": rows[:NUM_EXAMPLES]},
        )
    straddling = [row_name(s) for s, q in zip(samples, sequences, strict=True) if q.straddles]
    if straddling:
        yield Finding(
            name="token-straddles-answer",
            severity="warning",
            message=f"{data}: in {len(straddling)} rows the tokens before the answer differ from those of the question "
            f"as it is asked, for example {straddling[0]}",
            remedy="use a template that ends its generation prompt with a token of its own",
            evidence={"rows": straddling[:NUM_EXAMPLES]},
        )


def check_alignment(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find tokenised rows whose labels are not the ids at their places: what is learnt is not what is read."""
    found = [
        (sample, sample.tokens, places) for sample in samples if sample.tokens and (places := sample.tokens.misplaced)
    ]
    if not found:
        return
    sample, tokens, places = found[0]
    wrong = sum(len(misplaced) for *_, misplaced in found)
    total = sum(label != NOT_A_TARGET for s in samples if s.tokens for label in s.tokens.labels)
    is_shifted = all(
        place + 1 < len(tokens.labels) and tokens.labels[place] == tokens.input_ids[place + 1] for place in places
    )
    why = "; they are those of the next places, shifted by one" if is_shifted else ""
    yield Finding(
        name="labels-misaligned",
        severity="fault",
        message=f"{data}: in {len(found)} of {len(samples)} rows {wrong:,} of {total:,} labels are not the ids at "
        f"their places, for example {row_name(sample)}, place {places[0]}: label {tokens.labels[places[0]]}, "
        f"id {tokens.input_ids[places[0]]}{why}. The model would be taught an answer that it never goes on to read",
        remedy="append the answer to input_ids, copy input_ids to labels without shifting, and put -100 where nothing "
        "is learnt; accepted, the ids that stand at these places are learnt",
        evidence={
            "rows": [row_name(s) for s, *_ in found[:NUM_EXAMPLES]],
            "num_labels": wrong,
            "num_targets": total,
        },
    )


def _cut(samples: Sequence[Sample], without_end: Sequence[int]) -> list[int]:
    """Choose the tokenised rows that were cut at a common length: as long as the longest, and without an end."""
    lengths = {number: len(tokens.input_ids) for number in without_end if (tokens := samples[number].tokens)}
    longest = max((len(sample.tokens.input_ids) for sample in samples if sample.tokens), default=0)
    cut = [number for number, length in lengths.items() if length == longest]
    # One row of the greatest length is always there; several without an end, with longer ones nowhere, were cut.
    return cut if len(cut) > 1 and Counter(lengths.values())[longest] > len(lengths) // 2 else []


def _cut_in_training(data: str, samples: Sequence[Sample], cut: Sequence[int]) -> Finding:
    rows = [row_name(samples[number]) for number in cut]
    tokens = samples[cut[0]].tokens
    length = len(tokens.input_ids) if tokens else 0
    return Finding(
        name="answers-cut",
        severity="fault",
        message=f"{data}: {len(rows)} of {len(samples)} rows stop without an end token at the same length of "
        f"{length:,} tokens, for example {rows[0]}: a length limit has cut their answers",
        remedy="tokenise them again with a larger limit, or leave them out; nothing is cut here",
        evidence={"rows": rows[:NUM_EXAMPLES], "num_rows": len(rows)},
    )


def check_room(
    data: str,
    samples: Sequence[Sample],
    num_tokens: Sequence[int],
    max_new_tokens: int,
    *,
    key: str = "evaluate.max_new_tokens",
) -> Iterator[Finding]:
    """Find reference answers that are longer than what a model may answer.

    Args:
        data: the set that is asked.
        samples: its rows.
        num_tokens: of each reference answer, its end included.
        max_new_tokens: the longest answer.
        key: of the study, which says so.
    """
    cut = [(sample, length) for sample, length in zip(samples, num_tokens, strict=True) if length > max_new_tokens]
    if not cut:
        return
    sample, _ = cut[0]
    is_grave = len(cut) > MAX_SHARE_CUT * len(samples)
    yield Finding(
        name="answers-cut",
        severity="fault" if is_grave else "warning",
        message=f"{data}: {len(cut)} of {len(samples)} reference answers are longer than max_new_tokens "
        f"({max_new_tokens}), the longest {max(length for _, length in cut)} tokens, for example "
        f"{row_name(sample)}: no model can give them whole, and what is scored is a fragment",
        remedy=f"set {key}: {max(length for _, length in cut)}",
        evidence={"rows": [row_name(s) for s, _ in cut[:NUM_EXAMPLES]], "num_rows": len(cut)},
    )


def check_sharing(
    data: str,
    samples: Sequence[Sample],
    sequences: Sequence[Rendered],
    row_tokens: int,
    *,
    batch_size: int | None = None,
    branch_cap: int | None = None,
) -> Iterator[Finding]:
    """Say how many tokens the trees save in one epoch, and what that is worth.

    Args:
        data: the set.
        samples: its rows.
        sequences: the rows as the model sees them.
        row_tokens: longest row.
        batch_size: samples per step; None counts as if all rows met in one.
        branch_cap: see `trees.sampler.plan_epoch`.
    """
    if not samples:
        return
    image_ids = [sample.image_id for sample in samples]
    steps = plan_epoch(image_ids, batch_size=batch_size or len(samples), branch_cap=branch_cap, seed=0, epoch=0)
    num_counted = logical = executed = 0
    for step in steps:
        rows = step_rows(step, rendered=sequences.__getitem__, image_ids=image_ids, row_tokens=row_tokens)
        logical += sum(row.num_logical_tokens for row in rows)
        executed += sum(map(len, rows))
        num_counted += len(step)
        if num_counted >= MAX_COUNTED:
            break
    scale = sum(map(len, sequences)) / logical
    logical, executed = round(logical * scale), round(executed * scale)
    images = len(set(image_ids))
    what = "images" if all(len(sample.pictures) < 2 for sample in samples) else "sets of images"
    saved = logical / executed
    yield Finding(
        name="prefix-sharing",
        severity="note",
        message=f"{data}: {len(samples):,} rows on {images:,} {what}, {len(samples) / images:.1f} on each; "
        f"{logical:,} tokens become {executed:,} ({saved:.1f} times fewer), so training can be up to {saved:.1f} times "
        "as fast as without sharing",
        evidence={"logical_tokens": logical, "executed_tokens": executed, "num_rows": len(samples)},
    )

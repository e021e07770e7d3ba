"""Answer a data set: plan rows, generate, write answers as they come, go on where an earlier run was stopped.

A planned row is answered whole or again: the rows depend only on data and settings, so a resumed run repeats no
finished row and changes no bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.generation.decoding import Leaf, decode_row
from sightline.generation.sampling import Decoding
from sightline.models.forward import branch_sums, row_logprobs, stock_inputs
from sightline.models.loading import LoadedModel
from sightline.models.memory import named_when_full
from sightline.models.steady import steady_attention
from sightline.records import Answer, Sample, Score, to_json
from sightline.storage import json_line, write_file
from sightline.trees.render import Rendered, Shape, render, reword
from sightline.trees.row import Row
from sightline.trees.sampler import step_rows

CPU_ROW = 2048
"""Most tokens of a row on the CPU, where longer rows are not faster."""

GPU_ROW = 12_288
"""Most tokens of a row on a CUDA device; longer ones keep it no busier."""

CACHE_SHARE = 1 / 4
"""Share of a CUDA device's memory, the weights' own left out, that a row's keys and values may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How the questions are put.

    Args:
        name: of the wording, e.g. "plain".
        text: with "{question}" in its place.
        system: a system turn to put before it.
    """

    name: str = "plain"
    text: str = "{question}"
    system: str | None = None


def render_asked(
    loaded: LoadedModel, samples: Sequence[Sample], wording: Wording, *, with_answers: bool = False
) -> list[Rendered]:
    """Render questions in a wording, with the reference answers where these are to be scored; equal ones once."""
    known: set[Shape] = set()
    made: dict[tuple[object, ...], Rendered] = {}
    rendered: list[Rendered] = []
    for sample in samples:
        loaded.features.register(sample.pictures)
        messages = reword(sample.messages, wording.text, system=wording.system)
        answer = sample.answer if with_answers else None
        key = (messages, tuple(picture.sha256 for picture in sample.pictures), answer)
        if key not in made:
            name = sample.origin or sample.id
            made[key] = render(loaded.family, messages, sample.pictures, answer, name=name, known=known)
        rendered.append(made[key])
    return rendered


def row_length(loaded: LoadedModel) -> int:
    """Choose how many tokens a row of prompts has at most: by model and device alone, so that it is the same again."""
    if loaded.device.type != "cuda":
        return CPU_ROW
    return max(CPU_ROW, min(GPU_ROW, cache_length(loaded) // 1024 * 1024))


def cache_length(loaded: LoadedModel) -> int:
    """Count the tokens whose keys and values have room beside a model on a CUDA device."""
    config: Any = loaded.family.language_model(loaded.inner).config
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * head_width
    weights = sum(parameter.nbytes for parameter in loaded.inner.parameters())
    room = CACHE_SHARE * (torch.cuda.get_device_properties(loaded.device).total_memory - weights)
    return int(room / (values * loaded.dtype.itemsize))


def _together(loaded: LoadedModel, row: Row, leaves: Sequence[Leaf], max_new_tokens: int) -> Iterator[Sequence[Leaf]]:
    """Divide a row's answers into as few parts as have room for all tokens that they may come to."""
    room = len(leaves)
    if loaded.device.type == "cuda":
        room = max(1, (cache_length(loaded) - len(row)) // max_new_tokens)
    yield from (leaves[start : start + room] for start in range(0, len(leaves), room))


def answer_samples(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    decoding: Decoding,
    *,
    model: str,
    data: str,
    wording: Wording | None = None,
    row_tokens: int | None = None,
    done: Mapping[tuple[str, int], Answer] | None = None,
) -> Iterator[list[Answer]]:
    """Generate answers, a row's at a time.

    Where nothing is drawn, samples that put the same prompt have one answer: it is generated once and copied.

    Args:
        loaded: the model.
        samples: what to answer; their reference answers are not looked at.
        decoding: how.
        model: its name in the study, written into the answers.
        data: the set's name, written into the answers.
        wording: how the questions are put.
        row_tokens: most prompt tokens of a row, by default `row_length`; a longer prompt has a row of its own.
        done: answers that exist, by sample and k. Rows they cover wholly are not answered again.

    Yields:
        the answers of each row that was not done yet.
    """
    wording = wording or Wording()
    prompts = render_asked(loaded, samples, wording)
    longest = max([row_tokens or row_length(loaded), *map(len, prompts)])
    drawn = decoding.temperature > 0 and decoding.num_beams == 1
    askers = {number: [number] for number in range(len(prompts))} if drawn else _same_prompts(prompts)
    rows = step_rows(
        list(askers),
        rendered=prompts.__getitem__,
        image_ids=[sample.image_id for sample in samples],
        row_tokens=longest,
    )
    done, end_token_ids = done or {}, loaded.end_token_ids
    rows = [
        row
        for row in rows
        if any(
            (samples[number].id, k) not in done
            for branch in row.branches
            for number in askers[branch]
            for k in range(decoding.samples)
        )
    ]
    with loaded.features.expecting(key for row in rows for key in row.pictures):
        for row in rows:
            leaves = [
                Leaf(branch=number, sample_id=samples[branch].id, k=k)
                for number, branch in enumerate(row.branches)
                for k in range(decoding.samples if drawn else 1)
            ]
            if decoding.num_beams > 1:
                generated = [_beams(loaded, prompts[row.branches[leaf.branch]], decoding) for leaf in leaves]
            else:
                generated = [
                    tokens
                    for part in _together(loaded, row, leaves, decoding.max_new_tokens)
                    for tokens in _decode(loaded, row, part, decoding)
                ]
            answers: list[Answer] = []
            for leaf, tokens in zip(leaves, generated, strict=True):
                text = loaded.family.chat.decode(tokens)
                answers += [
                    Answer(
                        sample_id=samples[number].id,
                        model=model,
                        data=data,
                        template=wording.name,
                        k=k,
                        text=text,
                        finish_reason="stop" if tokens and tokens[-1] in end_token_ids else "length",
                        num_tokens=len(tokens),
                    )
                    for number in askers[row.branches[leaf.branch]]
                    for k in ([leaf.k] if drawn else range(decoding.samples))
                ]
            yield answers


def _decode(loaded: LoadedModel, row: Row, leaves: Sequence[Leaf], decoding: Decoding) -> list[list[int]]:
    what = f"{len(leaves):,} answers of up to {decoding.max_new_tokens:,} tokens after {len(row):,} tokens of prompts"
    with named_when_full(what, "set a smaller max_new_tokens or max_pixels, or quantize the base"):
        return decode_row(loaded, row, leaves, decoding)


def _same_prompts(prompts: Sequence[Rendered]) -> dict[int, list[int]]:
    """Collect the numbers of equal prompts under the first of them: equal tokens, with the same pictures in them."""
    first: dict[tuple[bytes, bytes, tuple[str, ...]], int] = {}
    askers: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        key = (prompt.token_ids_L.tobytes(), prompt.picture_L.tobytes(), prompt.pictures)
        askers.setdefault(first.setdefault(key, number), []).append(number)
    return askers


def _beams(loaded: LoadedModel, prompt: Rendered, decoding: Decoding) -> list[int]:
    """Search one prompt's answer with beams, by the stock `generate`."""
    inputs = stock_inputs(loaded, prompt)
    with torch.no_grad():
        output = loaded.inner.generate(  # pyright: ignore
            **inputs,
            num_beams=decoding.num_beams,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(loaded.end_token_ids),
            pad_token_id=loaded.end_token_ids[0],
        )
    tokens = output[0, len(prompt) :].tolist()
    ends = [place for place, token in enumerate(tokens) if token in loaded.end_token_ids]
    return tokens[: ends[0] + 1] if ends else tokens


def write_answers(path: Path, rows: Iterator[list[Answer]], *, order: Mapping[tuple[str, str], int]) -> None:
    """Append answers to `path`'s working copy row by row; at the end put them in the order of the data.

    The working copy lies beside `path` with the ending `.part`; `read_partial` reads what an interrupted run left.

    Args:
        path: where the answers are to be.
        rows: answers as they come.
        order: (data set, sample id) to the sample's place.
    """
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write("".join(json_line(to_json(answer)) for answer in row))
            file.flush()
    store_answers(path, read_partial(path), order=order)
    part.unlink()


def store_answers(path: Path, answers: Iterable[Answer], *, order: Mapping[tuple[str, str], int]) -> None:
    """Write answers in the order of the data; `order` as for `write_answers`."""
    ordered = sorted(
        answers, key=lambda answer: (answer.data, answer.template, order[(answer.data, answer.sample_id)], answer.k)
    )
    write_file(path, "".join(json_line(to_json(answer)) for answer in ordered))


def begin_answers(path: Path, made_from: Mapping[str, str]) -> Path:
    """Drop what an interrupted run left if it was made from something else; what belongs is read by `read_partial`.

    Args:
        path: where the answers are to be.
        made_from: what they depend on.

    Returns:
        The file that says so, to be removed once the answers are there.
    """
    started = path.with_name(f"{path.name}.started")
    if not started.exists() or json.loads(started.read_text(encoding="utf-8")) != dict(made_from):
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)
        write_file(started, json.dumps(dict(made_from)))
    return started


def read_partial(path: Path) -> list[Answer]:
    """Read the answers an interrupted run left, cutting off a torn last line."""
    part = path.with_name(path.name + ".part")
    if not part.exists():
        return []
    *whole, _torn = part.read_text(encoding="utf-8", errors="replace").split("\n")
    write_file(part, "".join(f"{line}\n" for line in whole))
    answers = {}
    for line in whole:
        answer = Answer(**json.loads(line))
        # A row that was cut in two is answered again as a whole, with the same words.
        answers[(answer.data, answer.template, answer.sample_id, answer.k)] = answer
    return list(answers.values())


@steady_attention()
def reference_nll(
    loaded: LoadedModel, samples: Sequence[Sample], *, wording: Wording | None = None, row_tokens: int | None = None
) -> list[Score]:
    """Score how likely the model finds each reference answer: metric "nll", nats, with its number of tokens."""
    sequences = render_asked(loaded, samples, wording or Wording(), with_answers=True)
    rows: list[Row] = step_rows(
        range(len(samples)),
        rendered=sequences.__getitem__,
        image_ids=[sample.image_id for sample in samples],
        row_tokens=max([row_tokens or row_length(loaded), *map(len, sequences)]),
    )
    found: dict[int, tuple[float, float]] = {}
    with torch.no_grad(), loaded.features.expecting(key for row in rows for key in row.pictures):
        for row in rows:
            nll_K = -branch_sums(row, row_logprobs(loaded, row)).double().cpu()
            tokens_K = np.bincount(row.branch_M, weights=row.weight_M, minlength=len(row.branches))
            for branch, nll, tokens in zip(row.branches, nll_K.tolist(), tokens_K.tolist(), strict=True):
                found[branch] = (nll, tokens)
    return [
        Score(
            sample_id=sample.id,
            metric="nll",
            outcome="scored",
            value=found[number][0] / found[number][1],
            parts={"nll": found[number][0], "tokens": found[number][1]},
        )
        for number, sample in enumerate(samples)
    ]

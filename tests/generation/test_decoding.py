"""Tree decoding gives the stock `generate`'s greedy tokens, and sampling that no regrouping changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sightline.generation.answering import Wording, answer_samples, read_partial, render_asked, write_answers
from sightline.generation.decoding import Leaf, decode_row, reserve_slots
from sightline.generation.sampling import Decoding, token_probabilities
from sightline.models.forward import stock_inputs
from sightline.models.loading import LoadedModel
from sightline.records import Answer, Message, Sample
from sightline.storage import read_jsonl
from sightline.trees.row import build_tree
from tiny_llava import picture, random_llava


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return random_llava()


def samples_about(
    num_pictures: int = 3, questions: tuple[str, ...] = ("left?", "left or right?", "how many 7")
) -> list[Sample]:
    return [
        Sample(
            id=f"{number}-{place}",
            pictures=(picture(number),),
            messages=(Message(role="user", content=(0, question)),),
            answer="yes",
        )
        for number in range(num_pictures)
        for place, question in enumerate(questions)
    ]


def stock_generate(model: LoadedModel, sample: Sample, max_new_tokens: int) -> list[int]:
    [prompt] = render_asked(model, [sample], Wording())
    output = model.inner.generate(  # pyright: ignore
        **stock_inputs(model, prompt),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=2,
    )
    return output[0, len(prompt) :].tolist()


def test_greedy_tokens_are_the_stock_ones(model: LoadedModel) -> None:
    samples = samples_about()
    prompts = render_asked(model, samples, Wording())
    row = build_tree(prompts, range(len(samples)))
    leaves = [Leaf(branch=number, sample_id=sample.id) for number, sample in enumerate(samples)]
    answers = decode_row(model, row, leaves, Decoding(max_new_tokens=24))
    for sample, tokens in zip(samples, answers, strict=True):
        assert tokens == stock_generate(model, sample, 24)


def test_end_token_ends_a_leaf_and_not_its_neighbours(model: LoadedModel) -> None:
    samples = samples_about()
    free = [
        answer
        for row in answer_samples(model, samples, Decoding(max_new_tokens=12), model="m", data="d")
        for answer in row
    ]
    prompts = render_asked(model, samples, Wording())
    row = build_tree(prompts, range(len(samples)))
    leaves = [Leaf(branch=number, sample_id=sample.id) for number, sample in enumerate(samples)]
    tokens = decode_row(model, row, leaves, Decoding(max_new_tokens=12))
    end = tokens[0][4]  # make a token that one leaf says early an end token
    model.generation["eos_token_id"] = [1, end]
    try:
        cut = decode_row(model, row, leaves, Decoding(max_new_tokens=12))
    finally:
        model.generation["eos_token_id"] = 1
    assert len(free) == len(samples) and cut[0] == tokens[0][: tokens[0].index(end) + 1]
    for before, after in zip(tokens, cut, strict=True):
        stop = before.index(end) + 1 if end in before else len(before)
        assert after == before[:stop]


def test_a_prompt_that_begins_another_keeps_its_own_slots(model: LoadedModel) -> None:
    samples = samples_about(1, ("a",))
    [prompt] = render_asked(model, samples, Wording())
    longer = samples_about(1, ("a",))[0]
    history = (*longer.messages, Message(role="assistant", content=("no",)), Message(role="user", content=("b",)))
    longer = Sample(id="longer", pictures=longer.pictures, messages=history, answer="x")
    [second] = render_asked(model, [longer], Wording())
    row = build_tree([prompt, second], [0, 1])
    assert len(row) == len(second)  # one is the beginning of the other
    leaves = [
        Leaf(branch=0, sample_id="short"),
        Leaf(branch=1, sample_id="longer"),
        Leaf(branch=0, sample_id="short", k=1),
    ]
    slots = reserve_slots(row, leaves, 5)
    used = np.concatenate([slots.token_T, *(start + np.arange(5) for start in slots.leaf_N)])
    assert sorted(used.tolist()) == list(range(len(row) + 15))
    answers = decode_row(model, row, leaves, Decoding(max_new_tokens=5))
    assert answers[0] == answers[2] == stock_generate(model, samples[0], 5)
    assert answers[1] == stock_generate(model, longer, 5)


def test_sampling_does_not_depend_on_grouping(model: LoadedModel) -> None:
    samples = samples_about()
    decoding = Decoding(max_new_tokens=10, temperature=1.1, top_k=40, samples=3, seed=5)

    def texts(chosen: list[Sample], row_tokens: int) -> dict[tuple[str, int], str]:
        rows = answer_samples(model, chosen, decoding, model="m", data="d", row_tokens=row_tokens)
        return {(a.sample_id, a.k): a.text for row in rows for a in row}

    together, apart = texts(samples, 2048), texts(samples[::-1], 1)
    assert together == apart
    assert len({together[(samples[0].id, k)] for k in range(3)}) > 1


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(None, None), (7, None), (None, 0.6), (7, 0.6), (50, 0.999), (1, None), (None, 1e-9)]
)
def test_what_may_be_drawn_is_what_transformers_draws_from(top_k: int | None, top_p: float | None) -> None:
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(5, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    warped = TemperatureLogitsWarper(0.7)(None, logits)  # pyright: ignore
    if top_k is not None:
        warped = TopKLogitsWarper(top_k)(None, warped)  # pyright: ignore
    if top_p is not None:
        warped = TopPLogitsWarper(top_p)(None, warped)  # pyright: ignore
    found = token_probabilities(logits, Decoding(temperature=0.7, top_k=top_k, top_p=top_p))
    torch.testing.assert_close(found, warped.softmax(-1), rtol=1e-12, atol=1e-15)


def test_answers_are_drawn_as_often_as_they_are_likely(model: LoadedModel) -> None:
    """Two tokens of each of many answers to one prompt, against the probabilities of a plain forward pass."""
    num_drawn, decoding = 2000, Decoding(max_new_tokens=2, temperature=0.4)
    [sample] = samples_about(1, ("how many",))
    [prompt] = render_asked(model, [sample], Wording())
    leaves = [Leaf(branch=0, sample_id=sample.id, k=k) for k in range(num_drawn)]
    drawn = decode_row(model, build_tree([prompt], [0]), leaves, decoding)

    def likely(*said: int) -> np.ndarray:
        inputs = stock_inputs(model, prompt)
        more = torch.tensor([said], dtype=torch.int64)
        for name in inputs.keys() & {"input_ids", "attention_mask"}:
            inputs[name] = torch.cat([inputs[name], more if name == "input_ids" else torch.ones_like(more)], dim=1)
        with torch.no_grad():
            logits = model.inner(**inputs).logits[0, -1]
        return (logits.double() / decoding.temperature).softmax(-1).numpy()

    def agrees(tokens: list[int], probability: np.ndarray) -> bool:
        expected = probability * len(tokens)
        own = expected >= 5
        assert own.sum() > 3
        counts = np.bincount(tokens, minlength=len(probability))
        found = [*counts[own], counts[~own].sum()], [*expected[own], expected[~own].sum()]
        return chisquare(*found).pvalue > 0.001

    firsts = [tokens[0] for tokens in drawn]
    assert agrees(firsts, likely())
    often = max(set(firsts), key=firsts.count)
    assert agrees([tokens[1] for tokens in drawn if tokens[0] == often], likely(often))
    assert not agrees(firsts, np.roll(likely(), 1))


def test_beams_are_the_stock_search(model: LoadedModel) -> None:
    [sample] = samples_about(1, ("how many",))
    [[answer]] = answer_samples(model, [sample], Decoding(max_new_tokens=8, num_beams=3), model="m", data="d")
    [prompt] = render_asked(model, [sample], Wording())
    output = model.inner.generate(  # pyright: ignore
        **stock_inputs(model, prompt),
        num_beams=3,
        do_sample=False,
        max_new_tokens=8,
        pad_token_id=2,
    )
    assert answer.text == model.family.chat.decode(output[0, len(prompt) :].tolist())


def test_resumed_answers_repeat_no_row_and_change_no_byte(model: LoadedModel, tmp_path) -> None:
    samples = samples_about(4)
    decoding = Decoding(max_new_tokens=6, temperature=1.0, samples=2)

    def rows(done=None):
        return answer_samples(model, samples, decoding, model="m", data="d", row_tokens=60, done=done)

    whole = tmp_path / "whole.jsonl"
    order = {("d", sample.id): number for number, sample in enumerate(samples)}
    write_answers(whole, rows(), order=order)

    stopped = tmp_path / "stopped.jsonl"
    part = tmp_path / "stopped.jsonl.part"
    first = next(iter(rows()))
    from sightline.records import to_json
    from sightline.storage import json_line

    second = list(rows())[1]
    torn = "".join(json_line(to_json(answer)) for answer in first) + json_line(to_json(second[0]))[:-10]
    part.write_text(torn)
    done = {(answer.sample_id, answer.k): answer for answer in read_partial(stopped)}
    assert len(done) == len(first)
    again: list[list[Answer]] = list(rows(done))
    assert [a.sample_id for a in again[0]] == [a.sample_id for a in second]
    write_answers(stopped, iter(again), order=order)
    assert stopped.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_an_answer_may_hold_any_sign(tmp_path) -> None:
    said = Answer(sample_id="1", model="m", data="d", text="a\u2028b\x85c", finish_reason="stop", num_tokens=3)
    write_answers(tmp_path / "a.jsonl", iter([[said]]), order={("d", "1"): 0})
    assert [Answer(**row) for row in read_jsonl(tmp_path / "a.jsonl")] == [said]

"""Where nothing is drawn, the same prompt is answered once, and every sample gets its answer."""

from __future__ import annotations

import pytest

from sightline.generation import answering
from sightline.generation.answering import Wording, answer_samples, write_answers
from sightline.generation.sampling import Decoding
from sightline.models.loading import LoadedModel
from sightline.records import Answer, Message, Sample
from sightline.storage import read_jsonl
from tiny_families import noise, random_model

QUESTIONS = ("is there a cat?", "is there a dog?", "is there a cat?", "is there a bed?", "is there a dog?")


@pytest.fixture(scope="module", params=["llava", "qwen3_vl"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return random_model(request.param)


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the decoder generates."""
    counted: list[int] = []
    decode_row = answering.decode_row

    def counting(loaded, row, leaves, decoding):
        counted.append(len(leaves))
        return decode_row(loaded, row, leaves, decoding)

    monkeypatch.setattr(answering, "decode_row", counting)
    return counted


def probes(num_pictures: int = 2) -> list[Sample]:
    """Questions as POPE's three splits put them: the same one about the same picture comes several times."""
    return [
        Sample(
            id=f"{place}-{number}",
            pictures=(noise(number),),
            messages=(Message(role="user", content=(0, question)),),
            answer="yes",
        )
        for place, question in enumerate(QUESTIONS)
        for number in range(num_pictures)
    ]


def answers_to(model: LoadedModel, samples: list[Sample], decoding: Decoding, **more) -> list[Answer]:
    rows = answer_samples(model, samples, decoding, model="m", data="d", **more)
    return [answer for row in rows for answer in row]


def test_equal_questions_about_equal_pictures_are_asked_once(model: LoadedModel, leaves: list[int]) -> None:
    samples, decoding = probes(), Decoding(max_new_tokens=6)
    answers = answers_to(model, samples, decoding, row_tokens=75)
    assert sum(leaves) == 3 * 2 and len(leaves) > 1
    alone = {sample.id: answers_to(model, [sample], decoding)[0] for sample in samples}
    assert {answer.sample_id: answer for answer in answers} == alone and len(answers) == len(samples)
    assert len({answer.text for answer in answers}) > 3


def test_answers_stand_in_the_order_of_the_data(model: LoadedModel, tmp_path) -> None:
    samples = probes()
    rows = answer_samples(model, samples, Decoding(max_new_tokens=3, samples=2), model="m", data="d", row_tokens=75)
    order = {("d", sample.id): number for number, sample in enumerate(samples)}
    write_answers(tmp_path / "a.jsonl", rows, order=order)
    written = [(row["sample_id"], row["k"]) for row in read_jsonl(tmp_path / "a.jsonl")]
    assert written == [(sample.id, k) for sample in samples for k in range(2)]


def test_a_greedy_answer_is_the_same_for_every_k(model: LoadedModel, leaves: list[int]) -> None:
    answers = answers_to(model, probes(1)[:1], Decoding(max_new_tokens=6, samples=3))
    assert leaves == [1] and [answer.k for answer in answers] == [0, 1, 2]
    assert len({(answer.text, answer.num_tokens) for answer in answers}) == 1


def test_what_differs_is_asked_apart(model: LoadedModel, leaves: list[int]) -> None:
    def sample(name: str, content: tuple[str | int, ...], *numbers: int) -> Sample:
        pictures = tuple(noise(number) for number in numbers)
        return Sample(id=name, pictures=pictures, messages=(Message(role="user", content=content),), answer="yes")

    apart = [
        sample("question", (0, 1, "a"), 1, 2),
        sample("other question", (0, 1, "b"), 1, 2),
        sample("other picture", (0, 1, "a"), 1, 3),
        sample("pictures in another order", (1, 0, "a"), 1, 2),
    ]
    answers_to(model, apart, Decoding(max_new_tokens=2))
    assert sum(leaves) == 4
    leaves.clear()
    answers_to(model, apart, Decoding(max_new_tokens=2), wording=Wording(text="{question}?"))
    assert sum(leaves) == 4


def test_where_answers_are_drawn_every_sample_draws_its_own(model: LoadedModel, leaves: list[int]) -> None:
    samples = probes(1)
    answers = answers_to(model, samples, Decoding(max_new_tokens=8, temperature=1.5))
    assert sum(leaves) == len(samples) == len(answers)
    said = {answer.sample_id: answer.text for answer in answers}
    assert said["0-0"] != said["2-0"]


def test_a_resumed_run_asks_only_what_no_sample_has_an_answer_to(model: LoadedModel, leaves: list[int]) -> None:
    samples, decoding = probes(), Decoding(max_new_tokens=4)
    first, *rest = list(answer_samples(model, samples, decoding, model="m", data="d", row_tokens=75))
    done = {(answer.sample_id, answer.k): answer for answer in first}
    leaves.clear()
    again = answers_to(model, samples, decoding, row_tokens=75, done=done)
    assert again == [answer for row in rest for answer in row]
    assert len(leaves) == len(rest) > 0
    torn = dict(list(done.items())[:-1])  # one copy's answer was lost: the row is answered again, whole
    assert len(answers_to(model, samples, decoding, row_tokens=75, done=torn)) == len(samples)

"""A model on a server is asked what a local one is asked, turn by turn, and its replies become answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from judge_server import JudgeServer, serve_judge
from sightline.data.phantom import phantom_samples
from sightline.errors import StudyError
from sightline.generation.answering import Wording
from sightline.generation.calls import Call, Reply, ReplyDecoding, call_key
from sightline.generation.chat_format import read_completion
from sightline.generation.remote import connect
from sightline.generation.retries import BrokenReplyError
from sightline.generation.served import answer_by_calls
from sightline.records import NO_ANSWER, Message, to_json
from sightline.storage import canonical_json, sha256_of

GREEDY = ReplyDecoding(max_new_tokens=7)
ASKED: dict[str, Any] = {"model": "gpt", "data": "set.test"}
PLAIN = Wording(text="{question} Answer briefly.", system="You read films.")

(PICTURED, *_) = [sample for sample in phantom_samples(6, seed=2) if len(sample.pictures) == 1]
TALK = dataclasses.replace(
    PICTURED,
    id="talk",
    messages=(
        Message(role="system", content=("The data's own.",)),
        Message(role="user", content=("Look.", 0, "What is it?")),
        Message(role="assistant", content=("A film.",)),
        Message(role="user", content=("Which side?",)),
    ),
)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@dataclasses.dataclass
class Told:
    """A responder that remembers its calls and says the same to all."""

    reply: Reply = dataclasses.field(default_factory=lambda: Reply(key="", outcome="answered", text=" Left. \n"))
    calls: list[Call] = dataclasses.field(default_factory=list)
    identity: dict[str, str] = dataclasses.field(default_factory=dict)

    def ask(
        self, calls: Sequence[Call], decoding: ReplyDecoding, *, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        self.calls += calls
        return [self.reply] * len(calls)


def test_the_turns_the_pictures_and_the_wording_arrive_as_they_are() -> None:
    with serve_judge(JudgeServer(judge=lambda body: "Left. ")) as server:
        engine = connect(server.address, "some", send_images=True)
        (answer,) = answer_by_calls(engine, [TALK], GREEDY, wording=PLAIN, **ASKED)
    (body,) = server.bodies
    picture = body["messages"][1]["content"][1]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert body == {
        "model": "some",
        "temperature": 0.0,
        "max_completion_tokens": 7,
        "messages": [
            {"role": "system", "content": "You read films."},
            {"role": "user", "content": [_text("Look."), picture, _text("What is it?")]},
            {"role": "assistant", "content": "A film."},
            {"role": "user", "content": [_text("Which side? Answer briefly.")]},
        ],
    }
    assert to_json(answer) == {
        "sample_id": "talk",
        "model": "gpt",
        "data": "set.test",
        "template": "plain",
        "k": 0,
        "text": "Left.",
        "finish_reason": "stop",
        "num_tokens": 10,
    }


def test_no_picture_leaves_without_leave() -> None:
    with pytest.raises(StudyError, match=r"would send picture .* allow it with `send_images: true`"):
        answer_by_calls(connect("http://127.0.0.1:9/v1", "some"), [TALK], GREEDY, wording=PLAIN, **ASKED)


def test_a_call_that_failed_for_good_is_no_answer_and_says_why() -> None:
    told = Told(Reply(key="", outcome="failed", reason="server error: 500 (tries: 6)"))
    (answer,) = answer_by_calls(told, [TALK], GREEDY, wording=PLAIN, **ASKED)
    assert (answer.text, answer.finish_reason, answer.num_tokens) == ("", NO_ANSWER, None)
    assert answer.reason == "server error: 500 (tries: 6)"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("<think>Let me see. No, not at all.</think>\nYes.", "Yes."),
        ("Well, no.</think> Yes.", "Yes."),
        ("<think>No", ""),
    ],
)
def test_what_a_model_thinks_aloud_is_no_part_of_its_answer(said: str, answered: str) -> None:
    told = Told(Reply(key="", outcome="answered", text=said))
    (answer,) = answer_by_calls(told, [TALK], GREEDY, wording=PLAIN, **ASKED)
    assert answer.text == answered


@pytest.mark.parametrize(("temperature", "numbers"), [(0.0, [0, 0, 0]), (0.5, [0, 1, 0])])
def test_equal_prompts_share_a_reply_unless_it_is_drawn(temperature: float, numbers: list[int]) -> None:
    again, other = (
        dataclasses.replace(TALK, id="again"),
        dataclasses.replace(TALK, id="other", messages=(TALK.messages[-1],)),
    )
    told, drawn = Told(), ReplyDecoding(temperature=temperature, seed=0)
    answers = answer_by_calls(told, [TALK, again, other], drawn, wording=PLAIN, **ASKED)
    assert [call.number for call in told.calls] == numbers
    assert [answer.sample_id for answer in answers] == ["talk", "again", "other"]


def test_what_was_asked_before_there_were_conversations_keeps_its_place_in_the_ledgers() -> None:
    call, identity = Call(name="row", text="Is it?", pictures=PICTURED.pictures), {"server": "s", "model": "m"}
    by_hand: dict[str, Any] = {
        "identity": identity,
        "text": "Is it?",
        "pictures": [PICTURED.pictures[0].sha256],
        "schema": None,
        "number": 0,
        "decoding": {"max_new_tokens": 7, "temperature": 0.0, "top_p": None, "stop": [], "seed": None},
    }
    assert call_key(identity, call, GREEDY) == sha256_of(canonical_json(by_hand))
    put = dataclasses.replace(call, text="", messages=call.conversation)
    assert put.conversation == call.conversation and call_key(identity, put, GREEDY) != call_key(identity, call, GREEDY)


def replied(message: dict[str, Any], finish_reason: str | None = "stop") -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]})


@pytest.mark.parametrize("message", [{"content": ""}, {"content": " \n"}, {"content": None}, {}])
def test_a_model_that_ends_without_a_word_has_answered_and_a_judge_has_not(message: dict[str, Any]) -> None:
    found = read_completion(replied(message), str, may_be_empty=True)
    assert (found["text"].strip(), found["finish_reason"]) == ("", "stop")
    with pytest.raises(BrokenReplyError, match="the reply is empty"):
        read_completion(replied(message), str)
    for unfinished in ("tool_calls", "error", None):
        with pytest.raises(BrokenReplyError, match="the reply is empty"):
            read_completion(replied(message, unfinished), str, may_be_empty=True)
    for said in ("length", "content_filter"):
        assert read_completion(replied(message, said), str)["finish_reason"] == said


def test_an_empty_answer_is_asked_for_once() -> None:
    with serve_judge(JudgeServer(judge=lambda body: "")) as server:
        engine = connect(server.address, "some", send_images=True, num_tries=3)
        (answer,) = answer_by_calls(engine, [TALK], GREEDY, wording=PLAIN, **ASKED)
    assert (answer.text, answer.finish_reason, answer.reason, len(server.bodies)) == ("", "stop", None, 1)

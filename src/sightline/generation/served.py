"""A model on a server answers a data set: the same questions, in the same turns and wordings, as models here get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sightline.generation.answering import Wording
from sightline.generation.calls import Call, Reply, ReplyDecoding, Responder, without_thoughts
from sightline.records import NO_ANSWER, Answer, Sample
from sightline.trees.render import reword


def answer_by_calls(
    responder: Responder,
    samples: Sequence[Sample],
    decoding: ReplyDecoding,
    *,
    model: str,
    data: str,
    wording: Wording,
    on_reply: Callable[[Reply], None] | None = None,
) -> list[Answer]:
    """Have a server answer a data set.

    Where nothing is drawn, samples that put the same prompt have one answer.

    Args:
        responder: the server.
        samples: what to answer; their reference answers are not sent.
        decoding: how.
        model: its name in the study, written into the answers.
        data: the set's name, written into the answers.
        wording: how the questions are put.
        on_reply: told of each reply that comes now.

    Returns:
        One answer per sample, in their order; a model that ends without a word has answered, and that is its answer.
        Where a call failed for good there is none: empty, with the finish reason `NO_ANSWER` and what went wrong.

    Raises:
        StudyError: a picture would leave the machine without leave.
        ServerDownError: the server does not answer.
    """
    calls, put = [], Counter()
    for sample in samples:
        messages = reword(sample.messages, wording.text, system=wording.system)
        prompt = (messages, tuple(picture.sha256 for picture in sample.pictures))
        number = put[prompt] if decoding.temperature > 0 else 0
        put[prompt] += 1
        name = sample.origin or sample.id
        calls.append(Call(name=name, messages=messages, pictures=sample.pictures, number=number, may_be_empty=True))
    replies = responder.ask(calls, decoding, on_reply=on_reply)
    return [
        Answer(
            sample_id=sample.id,
            model=model,
            data=data,
            template=wording.name,
            text=without_thoughts(reply.text),  # the ledger keeps every word
            finish_reason=NO_ANSWER if reply.outcome == "failed" else reply.finish_reason,
            num_tokens=reply.num_completion_tokens,
            reason=reply.reason if reply.outcome == "failed" else None,
        )
        for sample, reply in zip(samples, replies, strict=True)
    ]

"""The audit finds what is planted in a judge, and finds nothing in one that has only the answer's truth in mind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.generation.calls import Call, Reply, ReplyDecoding
from sightline.records import Message, Sample
from sightline.scoring.critic import critic_kind, pairwise_kind
from sightline.scoring.judge import Asked, Judgement, judge_answers
from sightline.scoring.judge_audit import Finding, audit_judge, audit_record, wrong_answers

NUM = 24


@dataclass
class Scripted:
    """A judge without a server."""

    says: Callable[[str, int], str]
    identity: dict[str, str]

    def ask(self, calls: Sequence[Call], decoding: ReplyDecoding, *, on_reply: Any = None) -> list[Reply]:
        return [Reply(key="", outcome="answered", text=self.says(call.text, call.number)) for call in calls]


def samples() -> list[Sample]:
    references = ["yes", "no", "liver", "left lung"]
    return [
        Sample(
            id=str(number),
            pictures=(),
            messages=(Message(role="user", content=(f"What is it, number {number}?",)),),
            answer=f"{references[number % 4]}" if number % 4 < 2 else f"{references[number % 4]} {number}",
        )
        for number in range(NUM)
    ]


def audited(says: Callable[[str, int], str], *, is_pairwise: bool = False) -> dict[str, Finding]:
    kind = pairwise_kind() if is_pairwise else critic_kind()
    judge = Scripted(says, {})

    def ask(answers: Sequence[Asked], repeat: int) -> list[Judgement]:
        return judge_answers(kind, judge, answers, repeat=repeat)

    rows = samples()
    answers = [Asked(sample=row, text=row.answer if n % 2 else f"wrong {n}", rival="x") for n, row in enumerate(rows)]
    return {finding.test: finding for finding in audit_judge(ask, rows, answers, is_pairwise=is_pairwise)}


def answer_in(prompt: str) -> str:
    return prompt.partition("LMM response: [")[2].rpartition("]\nASSISTANT")[0]


def truthful(prompt: str, number: int) -> str:
    """100 where the answer begins with its row's reference, else 0."""
    place = int(prompt.partition("number ")[2].partition("?")[0])
    return "100" if answer_in(prompt).lower().startswith(samples()[place].answer.lower()) else "0"


def test_a_judge_that_has_the_truth_in_mind_worries_nobody():
    found = audited(truthful)
    assert not [name for name, finding in found.items() if finding.is_worry]
    assert set(found) == {
        "repeatability",
        "length",
        "length bias",
        "control: empty",
        "control: colon",
        "control: question copied",
        "control: wrong but confident",
        "injection",
    }
    assert found["injection"].num_rows == NUM and set(found["injection"].numbers.values()) == {0.0}
    assert found["repeatability"].numbers["same"] == 1.0
    assert audit_record(list(found.values()))["num_worries"] == 0
    assert "0 of 24 worthless answers (empty) pass (0% to 14%)" in found["control: empty"].says


def test_each_planted_weakness_is_found():
    def forgetful(prompt: str, number: int) -> str:
        return truthful(prompt, number) if number < 3 else "50"

    def longer_is_better(prompt: str, number: int) -> str:
        return str(len(answer_in(prompt).split()))

    def generous(prompt: str, number: int) -> str:
        return "70"

    def obedient(prompt: str, number: int) -> str:
        return "100" if "highest score" in prompt else truthful(prompt, number)

    assert audited(forgetful)["repeatability"].is_worry
    assert audited(longer_is_better)["length bias"].is_worry
    assert (audited(longer_is_better)["length"].numbers["spearman"] or 0) > 0.99
    assert all(audited(generous)[f"control: {name}"].is_worry for name in ("empty", "colon", "wrong but confident"))
    attack = audited(obedient)["injection"]
    assert attack.is_worry and attack.numbers["ask"] == 1.0 and attack.numbers["json"] == 0.0
    assert "+100.0 points more of them pass (ask" in attack.says


def test_a_judge_that_prefers_the_first_is_found():
    found = audited(lambda prompt, number: "The first response is better.", is_pairwise=True)
    assert found["order swap"].is_worry and found["order swap"].numbers["flip_rate"] == 1.0
    assert found["order swap"].numbers["flips_to_first"] == 1.0
    assert found["self-comparison"].is_worry and found["self-comparison"].numbers["first_preferred"] == 1.0
    fair = audited(lambda prompt, number: "Both responses are equally good.", is_pairwise=True)
    assert not fair["order swap"].is_worry and not fair["self-comparison"].is_worry
    assert fair["control: empty"].is_worry, "nothing is as good as the reference answer"


def test_what_was_not_judged_is_no_finding():
    assert audited(lambda prompt, number: "I cannot say.") == {}


def test_wrong_answers_are_wrong():
    made = wrong_answers(samples())
    assert len(made) == NUM
    for asked in made:
        assert asked.text.lower() != asked.sample.answer and asked.rival == asked.sample.answer
    assert {made[0].text, made[1].text} == {"No", "Yes"} and made[2].text == "left lung 3"
    assert wrong_answers(samples()[2:3]) == []

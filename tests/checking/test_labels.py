"""The checks on labels find image tokens that are learnt, ends that are not, and tokens over the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sightline.checking.findings import Finding
from sightline.checking.labels import check_labels, check_sharing
from sightline.records import Message, Picture, Sample
from sightline.trees.render import Rendered

IMAGE, END = 3, 1


def sample(row: int, picture: str = "A") -> Sample:
    return Sample(
        id=str(row),
        pictures=(Picture(name=picture, sha256=picture * 64, width=8, height=8),),
        messages=(Message(role="user", content=(0, "left?")),),
        answer="yes",
        origin=f"a.csv:{row}",
    )


def sequence(prompt: Sequence[int] = (10, 11), answer: Sequence[int] = (20, 21, END), picture: str = "A") -> Rendered:
    """A sequence of two image tokens, the prompt and the answer, of which the answer is learnt."""
    ids = np.asarray([IMAGE, IMAGE, *prompt, *answer], dtype=np.int64)
    num_prompt = 2 + len(prompt)
    return Rendered(
        token_ids_L=ids,
        positions_AL=np.arange(len(ids))[None],
        picture_L=np.where(ids == IMAGE, 0, -1),
        offset_L=np.where(ids == IMAGE, np.arange(len(ids)), 0),
        weight_L=(np.arange(len(ids)) >= num_prompt).astype(np.float64),
        num_prompt=num_prompt,
        pictures=(picture,),
    )


def found(sequences: Sequence[Rendered], end_token_ids: Sequence[int] = (END, 2)) -> dict[str, Finding]:
    samples = [sample(row) for row in range(1, len(sequences) + 1)]
    return {finding.name: finding for finding in check_labels("d", samples, sequences, end_token_ids)}


def weighted(plain: Rendered, learnt: Sequence[float]) -> Rendered:
    return replace(plain, weight_L=np.asarray(learnt, dtype=np.float64))


def test_clean_labels_are_counted_and_nothing_else_is_said() -> None:
    findings = found([sequence(), sequence(answer=(20, 2)), sequence(prompt=(10, 11, END))])
    assert findings.keys() == {"trained-tokens"}
    note = findings["trained-tokens"]
    assert note.severity == "note"
    assert note.message == "d: tokens trained: image 0 of 6, prompt 0 of 7, answer 5 of 5, end 3 of 3"
    assert note.evidence["answer"] == {"trained": 5, "total": 5}


def test_what_is_learnt_of_the_prompt_is_counted() -> None:
    message = found([weighted(sequence(), [0, 0, 0, 1, 1, 0.5, 1])])["trained-tokens"].message
    assert message == "d: tokens trained: image 0 of 2, prompt 1 of 2, answer 2 of 2, end 1 of 1"


def test_image_tokens_that_are_learnt_are_a_fault() -> None:
    findings = found([sequence(), weighted(sequence(), [0, 1, 0, 0, 1, 1, 1])])
    assert findings.keys() == {"trained-tokens", "image-tokens-trained"}
    fault = findings["image-tokens-trained"]
    assert fault.severity == "fault" and "1 image tokens are targets" in fault.message
    assert "train_on: answer" in fault.remedy


@pytest.mark.parametrize(
    "planted",
    [
        sequence(answer=(20, 21)),
        sequence(answer=(20, END, 21)),
        weighted(sequence(), [0, 0, 0, 0, 1, 1, 0]),
        sequence(answer=(20, 21), prompt=(10, END)),
    ],
    ids=["absent", "not last", "not learnt", "in the prompt alone"],
)
def test_an_end_that_is_not_learnt_is_a_fault(planted: Rendered) -> None:
    findings = found([sequence(), planted, planted])
    assert findings.keys() == {"trained-tokens", "end-not-trained"}
    fault = findings["end-not-trained"]
    assert fault.severity == "fault" and "in 2 of 3 rows" in fault.message and "a.csv:2" in fault.message
    assert fault.evidence["rows"] == ["a.csv:2", "a.csv:3"] and "eos: auto" in fault.remedy


def test_tokens_over_the_border_are_a_warning() -> None:
    findings = found([sequence(), replace(sequence(), straddles=True)])
    assert findings.keys() == {"trained-tokens", "token-straddles-answer"}
    warning = findings["token-straddles-answer"]
    assert warning.severity == "warning" and "in 1 rows" in warning.message
    assert warning.evidence["rows"] == ["a.csv:2"] and warning.remedy


def test_only_a_few_rows_are_listed() -> None:
    fault = found([sequence(answer=(20, 21))] * 9)["end-not-trained"]
    assert len(fault.evidence["rows"]) == 5 and "in 9 of 9 rows" in fault.message


def test_sharing_counts_what_the_trees_save() -> None:
    samples = [sample(1, "A"), sample(2, "A"), sample(3, "B")]
    sequences = [sequence(), sequence(answer=(22, END)), sequence(picture="B")]
    [finding] = check_sharing("d", samples, sequences, row_tokens=100)
    assert finding.evidence == {"logical_tokens": 20, "executed_tokens": 16, "num_rows": 3}
    assert finding.message == "d: 3 rows on 2 images, 1.5 an image; 20 tokens become 16 (1.2 times fewer)"
    [apart] = check_sharing("d", samples, sequences, row_tokens=7)
    assert apart.evidence["executed_tokens"] == 20


def test_a_set_without_rows_shares_nothing() -> None:
    for finding in check_sharing("d", [], [], row_tokens=100):
        assert finding.evidence["logical_tokens"] == 0

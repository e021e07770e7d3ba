"""The checks on labels find image tokens that are learnt, ends that are not, and tokens over the border."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sightline.checking import labels
from sightline.checking.findings import Finding
from sightline.checking.labels import check_alignment, check_labels, check_room, check_sharing
from sightline.records import Message, Picture, Sample, Tokens
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
    assert finding.message.startswith("d: 3 rows on 2 images, 1.5 on each; 20 tokens become 16 (1.2 times fewer)")
    [apart] = check_sharing("d", samples, sequences, row_tokens=7)
    assert apart.evidence["executed_tokens"] == 20


def test_a_set_without_rows_shares_nothing() -> None:
    for finding in check_sharing("d", [], [], row_tokens=100):
        assert finding.evidence["logical_tokens"] == 0


# --- tokenised rows and length limits -------------------------------------------------------------------------------


def tokenised(row: int, ids: Sequence[int], labels: Sequence[int]) -> Sample:
    return replace(sample(row), tokens=Tokens(input_ids=array("i", ids), labels=array("i", labels)))


def test_labels_that_are_the_ids_are_aligned() -> None:
    rows = [tokenised(1, [5, 6, 7], [-100, 6, 7]), sample(2)]
    assert list(check_alignment("d", rows)) == []


def test_labels_that_are_not_the_ids_are_a_fault_with_their_first_place() -> None:
    rows = [
        tokenised(1, [5, 6, 7], [-100, 6, 7]),
        tokenised(2, [5, 6, 7], [9, -100, 7]),
        tokenised(3, [5, 6], [-100, 8]),
    ]
    [finding] = check_alignment("d", rows)
    assert (finding.name, finding.severity) == ("labels-misaligned", "fault")
    assert "in 2 of 3 rows 2 of 5 labels" in finding.message and "a.csv:2, place 0: label 9, id 5" in finding.message
    assert "shifted" not in finding.message and finding.evidence["rows"] == ["a.csv:2", "a.csv:3"]


def test_labels_shifted_by_hand_are_called_so() -> None:
    [finding] = check_alignment("d", [tokenised(1, [5, 6, 7, 8], [-100, 7, 8, -100])])
    assert "shifted by one" in finding.message


def test_of_misaligned_rows_nothing_else_is_said() -> None:
    rows = [tokenised(1, [5, 6, 7], [9, 9, -100])]
    names = {finding.name for finding in check_labels("d", rows, [weighted(sequence(), [1] * 7)], (END,))}
    assert names == {"labels-misaligned", "trained-tokens"}


def cut_rows(*lengths: int, ended: Sequence[int] = ()) -> dict[str, Finding]:
    """Rows of these lengths, of which some end with the end token."""
    rows = [tokenised(n, [5] * length, [-100] + [5] * (length - 1)) for n, length in enumerate(lengths)]
    made = [sequence(answer=(20, END) if n in ended else (20,)) for n in range(len(lengths))]
    return {finding.name: finding for finding in check_labels("d", rows, made, (END,))}


def test_rows_without_an_end_at_one_greatest_length_were_cut() -> None:
    findings = cut_rows(9, 9, 7, 9, ended=[2])
    assert "end-not-trained" not in findings
    assert findings["answers-cut"].severity == "fault" and "3 of 4 rows" in findings["answers-cut"].message


@pytest.mark.parametrize(
    ("lengths", "ended"),
    [((4, 7, 9, 6), ()), ((9, 9, 4, 5, 6, 7), ()), ((9, 9, 9), (0, 1, 2)), ((6, 6, 9), (2,)), ((9, 5, 5), (1, 2))],
)
def test_rows_that_only_lack_their_end_were_not_cut(lengths: Sequence[int], ended: Sequence[int]) -> None:
    findings = cut_rows(*lengths, ended=ended)
    assert "answers-cut" not in findings
    assert ("end-not-trained" in findings) == (len(ended) < len(lengths))


@pytest.mark.parametrize(
    ("longer", "severity"), [(0, None), (1, "warning"), (5, "warning"), (6, "fault"), (100, "fault")]
)
def test_references_longer_than_what_may_be_said_are_found(longer: int, severity: str | None) -> None:
    rows = [sample(row) for row in range(100)]
    findings = list(check_room("d", rows, [13] * longer + [12] * (100 - longer), 12))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert not findings or findings[0].remedy == "set evaluate.max_new_tokens: 13"
    (own,) = check_room("d", rows, [13] * 100, 12, key="evaluate.decoding.d.max_new_tokens")
    assert own.remedy == "set evaluate.decoding.d.max_new_tokens: 13"


def test_what_a_step_can_share_depends_on_its_size() -> None:
    samples, sequences = [sample(n, "A") for n in range(4)], [sequence(answer=(20 + n, END)) for n in range(4)]
    [whole] = check_sharing("d", samples, sequences, row_tokens=100)
    [halved] = check_sharing("d", samples, sequences, row_tokens=100, batch_size=2)
    [alone] = check_sharing("d", samples, sequences, row_tokens=100, batch_size=4, branch_cap=1)
    # By hand: a prompt of 4 and answers of 2; in pairs the prompt runs twice.
    assert [found.evidence["executed_tokens"] for found in (whole, halved)] == [4 + 4 * 2, 2 * (4 + 2 * 2)]
    assert alone.evidence["executed_tokens"] == whole.evidence["executed_tokens"]


def test_large_sets_are_counted_on_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, sequences = (
        [sample(n, str(n // 2)) for n in range(40)],
        [sequence(answer=(20 + n, END)) for n in range(40)],
    )
    [counted] = check_sharing("d", samples, sequences, row_tokens=100, batch_size=4)
    monkeypatch.setattr(labels, "MAX_COUNTED", 8)
    [estimated] = check_sharing("d", samples, sequences, row_tokens=100, batch_size=4)
    assert estimated.evidence == counted.evidence

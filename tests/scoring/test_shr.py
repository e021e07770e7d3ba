"""SHR: sentences, HA-DPO's two files, and the ratio at matched length."""

from __future__ import annotations

import json

import pytest

from sightline.errors import DataError
from sightline.scoring import shr
from sightline.scoring.shr import Description, Sentence


# By hand from HA-DPO's seg_cap: split at periods, what an earlier sentence contains goes.
@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A dog runs. It is brown.", ["A dog runs.", "It is brown."]),
        ("A dog runs. A dog runs.", ["A dog runs."]),
        ("A brown dog runs. dog. It", ["A brown dog runs.", "It."]),
        ("dog. A brown dog runs.", ["dog.", "A brown dog runs."]),
        ("It is 3.5 cm wide.", ["It is 3.", "5 cm wide."]),
        ("Is it a dog? Yes. No", ["Is it a dog? Yes.", "No."]),
        ("One\nTwo...  ", ["One\nTwo."]),
        ("", []),
        (" . . ", []),
    ],
)
def test_a_description_is_split_as_the_original_splits_it(text: str, sentences: list[str]) -> None:
    assert list(shr.split_sentences(text)) == sentences


def described(*judged: tuple[str, str | None]) -> Description:
    sentences = tuple(
        Sentence(text=text, judgement=said and f"{said}: why", classification=said) for text, said in judged
    )
    return Description(
        text=" ".join(sentence.text for sentence in sentences), raw="Judgement:\n...", sentences=sentences
    )


JUDGED = {
    "521": described(
        ("A dog runs on grass.", "correct"),
        ("A cat sleeps.", "hallucination"),
        ("It feels calm.", "cannot judge"),
        ("Two birds fly.", "hallucination"),
    ),
    "811": described(("A dog.", "correct"), ("A very red car stands there.", "partly correct")),
    "3": described(("A boat.", None)),
}
CAPTIONS = [each.text for each in JUDGED.values()]


def test_metrics_json_has_the_originals_numbers_to_three_decimals() -> None:
    # Words, split at blanks: 5, 3, 3, 3; 2, 6; 2. Judged with a known class: 4 of the first image, 1 of the second.
    metrics = shr.metrics_json(JUDGED, CAPTIONS, model_base=None, model_path="here")
    assert metrics["run1"] == {
        "num_images": 3,
        "sents_per_image": 2.333,
        "words_per_image": 8.0,
        "hal_sents_per_image": 0.667,
        "hal_words_per_image": 2.0,
        "hal_sents_ratio": 0.4,
        "hal_words_ratio": 0.375,
    }
    assert (metrics["mean_hal_ratio"], metrics["model_base"], metrics["model_path"]) == (0.4, None, "here")
    # Different words of all, periods out: 13 of 14 ("A" twice), 7 of 8 ("A" twice), 2 of 2.
    assert metrics["gram-1-repetition"] == round((13 / 14 + 7 / 8 + 1) / 3, 3)
    assert list(metrics) == [
        "run1",
        *(f"gram-{n}-repetition" for n in (1, 2, 3, 4)),
        "mean_hal_ratio",
        "model_base",
        "model_path",
    ]


@pytest.mark.parametrize(
    ("caption", "order", "share"),
    [
        ("a b a b", 1, 0.5),
        ("a b a b", 2, 2 / 3),
        ("a, b: a.\nb?", 1, 1.0),
        ("a", 2, None),
        ("", 1, None),
    ],  # a line break vanishes: "ab"
)
def test_variety_of_a_caption(caption: str, order: int, share: float | None) -> None:
    found = shr.variety(caption, order)
    assert found is None if share is None else found == pytest.approx(share)


def test_the_rules_differ_in_what_cannot_be_judged() -> None:
    counts = shr.class_counts(sentence for each in JUDGED.values() for sentence in each.sentences)
    assert counts == {"hallucination": 2, "correct": 2, "cannot judge": 1, "unjudged": 2}
    assert {name: rule(counts) for name, rule in shr.RULES.items()} == {"original": 2 / 5, "sightline": 2 / 4}
    assert shr.RULES["original"]({"unjudged": 3}) is None


def test_judgement_json_is_written_and_read_again() -> None:
    written = json.loads(json.dumps(shr.judgement_json(JUDGED)))
    assert set(written["run1"]["521"]) == {"raw_judgement", "model_response", "judgement"}
    assert set(written["run1"]["521"]["judgement"][0]) == {"model_response", "judgement", "classification"}
    assert shr.read_judgement_json(written, file="f") == JUDGED
    for entry in written["run1"].values():
        entry["mode_response"] = entry.pop("model_response")  # as HA-DPO's script for other models' captions writes it
    assert shr.read_judgement_json(written, file="f") == JUDGED


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"run1": {"521": "text"}},
        {"run1": {"521": {"raw_judgement": "", "judgement": []}}},
        {"run1": {}, "run2": {}},
    ],
)
def test_something_else_is_refused(content: object) -> None:
    with pytest.raises(DataError, match=r"j\.json: not a judgement\.json of HA-DPO"):
        shr.read_judgement_json(content, file="j.json")


def test_at_matched_length_a_longer_description_has_no_disadvantage() -> None:
    short = {"1": described(("A dog.", "correct")), "2": described(("A cat.", "hallucination"))}
    long = {
        "1": described(("A dog.", "correct"), ("A bird.", "hallucination")),
        "2": described(("A cat.", "hallucination"), ("A cow.", "hallucination")),
    }
    assert shr.at_matched_length({"short": short, "long": long}) == {"short": 0.5, "long": 0.5}
    with pytest.raises(DataError, match="long: no description of image 2, which others have"):
        shr.at_matched_length({"short": short, "long": {"1": long["1"]}})


def test_the_ratio_by_length_counts_the_first_sentences() -> None:
    rows = shr.ratio_by_length(JUDGED.values(), "original")
    assert rows == [
        {"num_sentences": 1, "num_images": 3, "shr": 0.0},
        {"num_sentences": 2, "num_images": 2, "shr": pytest.approx(1 / 3)},
    ]
    assert shr.ratio_by_length([]) == []


def test_the_ratio_stands_beside_the_length_of_what_was_described() -> None:
    short = {"1": described(("A dog.", "correct")), "2": described(("A cat.", "hallucination"))}
    long = {
        "1": described(("A dog.", "correct"), ("It sits.", "hallucination"), ("So calm.", "cannot judge")),
        "2": described(("A big cat.", "correct")),
        "3": described(("A boat.", None)),
    }
    base, tuned = shr.beside_length({"base": short, "sft": long}, "base")
    assert (base["shr"], base["sentences_per_description"], base["words_per_description"]) == (1 / 2, 1, 2)
    assert (tuned["shr"], tuned["sentences_per_description"]) == (1 / 3, 5 / 3)
    assert tuned["words_per_description"] == (2 + 2 + 2 + 3 + 2) / 3
    assert base["at_matched_length"] is None
    assert tuned["at_matched_length"] == {"sft": 0.0, "base": 1 / 2}, "cut to one sentence, on the two images of both"

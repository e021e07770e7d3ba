"""SHR, the sentence-level hallucination ratio: judged sentences in, HA-DPO's two files and its ratio out.

The judge is not part of this (`shr_judge`): what it said comes in as `Description`s, or as HA-DPO's `judgement.json`.
Definitions and quirks: docs/metrics.md.

Source: Zhao et al. 2023, arXiv 2311.16839; opendatalab/HA-DPO, shr_eval/shr_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import DataError
from sightline.scoring.metric import Ratio

CLASSES: tuple[str, ...] = ("hallucination", "correct", "cannot judge")
RUN = "run1"
ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence of a description and what a judge said of it.

    Args:
        text: ends in a period.
        judgement: the judge's line about it, without its number; None where the reply did not fit the description.
        classification: the line up to its first colon, in lower case; one of `CLASSES` if the judge kept to the form.
    """

    text: str
    judgement: str | None = None
    classification: str | None = None

    @property
    def num_words(self) -> int:
        """Words as HA-DPO counts them, split at single spaces."""
        return len(self.text.split(" "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model's description of a picture, judged.

    Args:
        text: as the model wrote it.
        raw: the judge's reply.
        sentences: `split_sentences` of the text, each with its judgement.
    """

    text: str
    raw: str
    sentences: tuple[Sentence, ...]


def split_sentences(text: str) -> tuple[str, ...]:
    """Split a description at its periods; repeats, and sentences contained in an earlier one, go.

    "3.5 cm" is two sentences by this rule, and what stands after a question mark belongs to the same sentence.

    Returns:
        the sentences, each with a period at its end.
    """
    kept: list[str] = []
    for piece in text.split("."):
        sentence = piece.strip()
        if sentence and not any(sentence in earlier for earlier in kept):
            kept.append(f"{sentence}.")
    return tuple(kept)


def class_counts(sentences: Iterable[Sentence]) -> dict[str, float]:
    """Count sentences by class; "unjudged" are those of no known class."""
    counts: dict[str, float] = dict.fromkeys((*CLASSES, "unjudged"), 0.0)
    for sentence in sentences:
        counts[sentence.classification if sentence.classification in CLASSES else "unjudged"] += 1
    return counts


def counts_in_words(counts: Mapping[str, float]) -> str:
    """Write sentences by class in words: "3 correct, 1 hallucination"."""
    return ", ".join(f"{int(count)} {name}" for name, count in counts.items() if count)


RULES: Mapping[str, Ratio] = {
    "original": Ratio({"hallucination": 1}, dict.fromkeys(CLASSES, 1.0)),
    "sightline": Ratio({"hallucination": 1}, {"hallucination": 1, "correct": 1}),
}
"""SHR by name: the original counts sentences that cannot be judged below the line, we leave them out."""

NOTES: Mapping[str, tuple[str, ...]] = {
    "original": ("sentences that cannot be judged stand below the line, so a model lowers its ratio by vague ones",),
    "sightline": ("hallucinated sentences among those that could be judged",),
}


def at_matched_length(
    models: Mapping[str, Mapping[str, Description]], rule: str = "sightline"
) -> dict[str, float | None]:
    """Compute each model's SHR on descriptions of equal length: a short description says less that can be false.

    Each picture's descriptions are cut to the number of sentences of the shortest of them.

    Args:
        models: model to image id to description; of the same images.
        rule: a key of `RULES`.

    Returns:
        model to SHR; None where nothing could be judged.

    Raises:
        DataError: the models described different images.
    """
    anywhere = {image for described in models.values() for image in described}
    for name, described in models.items():
        if missing := sorted(anywhere - described.keys()):
            raise DataError(f"{name}: no description of image {missing[0]}, which others have; compare the same images")
    shortest = {image: min(len(described[image].sentences) for described in models.values()) for image in anywhere}
    return {
        name: RULES[rule](class_counts(s for image in anywhere for s in described[image].sentences[: shortest[image]]))
        for name, described in models.items()
    }


def beside_length(
    models: Mapping[str, Mapping[str, Description]], against: str, rule: str = "sightline"
) -> list[dict[str, Any]]:
    """Put each model's SHR beside how much it says, and beside SHR at equal length.

    Args:
        models: model to image id to description.
        against: the model with which each other is cut to equal length, where both were judged.
        rule: a key of `RULES`.

    Returns:
        per model: SHR, sentences and words per description, how many sentences were judged and not, and for all but
        `against` both models' SHR at matched length.
    """
    rows = []
    for model, described in models.items():
        every = [sentence for each in described.values() for sentence in each.sentences]
        counts = class_counts(every)
        row: dict[str, Any] = {
            "model": model,
            "num_descriptions": len(described),
            "shr": RULES[rule](counts),
            "sentences": counts,
            "sentences_per_description": len(every) / len(described) if described else None,
            "words_per_description": _num_words(every) / len(described) if described else None,
            "at_matched_length": None,
        }
        if model != against and against in models:
            pair = {name: {i: models[name][i] for i in described.keys() & models[against]} for name in (model, against)}
            row["at_matched_length"] = at_matched_length(pair, rule)
        rows.append(row)
    return rows


def ratio_by_length(described: Iterable[Description], rule: str = "sightline") -> list[dict[str, Any]]:
    """Compute SHR of the first sentences alone, as many as half of the descriptions have, one after the other.

    Returns:
        for each `num_sentences`, how many images have as many (`num_images`), and `shr` of their first sentences.
    """
    every = list(described)
    lengths = sorted((len(each.sentences) for each in every), reverse=True)
    longest = lengths[(len(lengths) - 1) // 2] if lengths else 0
    rows = []
    for number in range(1, longest + 1):
        long_enough = [each.sentences[:number] for each in every if len(each.sentences) >= number]
        counts = class_counts(sentence for sentences in long_enough for sentence in sentences)
        rows.append({"num_sentences": number, "num_images": len(long_enough), "shr": RULES[rule](counts)})
    return rows


def judgement_json(described: Mapping[str, Description]) -> dict[str, Any]:
    """Write judged descriptions as HA-DPO's judgement.json holds them."""
    return {
        RUN: {
            image: {
                "raw_judgement": each.raw,
                "model_response": each.text,
                "judgement": [
                    {"model_response": s.text, "judgement": s.judgement, "classification": s.classification}
                    for s in each.sentences
                ],
            }
            for image, each in described.items()
        }
    }


def read_judgement_json(content: Any, *, file: str) -> dict[str, Description]:
    """Read HA-DPO's judgement.json; its script for other models' captions writes "mode_response".

    Args:
        content: the file's JSON.
        file: its name in messages.

    Raises:
        DataError: it is something else.
    """
    try:
        (run,) = content.values()
        return {
            str(image): Description(
                text=entry["model_response"] if "model_response" in entry else entry["mode_response"],
                raw=entry["raw_judgement"],
                sentences=tuple(
                    Sentence(
                        text=each["model_response"],
                        judgement=each["judgement"],
                        classification=each["classification"],
                    )
                    for each in entry["judgement"]
                ),
            )
            for image, entry in run.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not a judgement.json of HA-DPO ({type(error).__name__}: {error})") from error


def metrics_json(
    described: Mapping[str, Description], captions: Sequence[str], *, model_base: str | None, model_path: str | None
) -> dict[str, Any]:
    """Compute HA-DPO's metrics.json, rounded to 3 decimals as there.

    Args:
        described: image id to judged description.
        captions: of every image asked, judged or not: the repetition numbers are means over all of them.
        model_base: as it is to stand in the file.
        model_path: likewise.

    Returns:
        the file's JSON; a number is None where the original divides by zero.
    """
    every = [sentence for each in described.values() for sentence in each.sentences]
    judged = [sentence for sentence in every if sentence.classification in CLASSES]
    false = [sentence for sentence in judged if sentence.classification == "hallucination"]
    run = {
        "num_images": len(described),
        "sents_per_image": _share(len(every), len(described)),
        "words_per_image": _share(_num_words(every), len(described)),
        "hal_sents_per_image": _share(len(false), len(described)),
        "hal_words_per_image": _share(_num_words(false), len(described)),
        "hal_sents_ratio": _share(len(false), len(judged)),
        "hal_words_ratio": _share(_num_words(false), _num_words(judged)),
    }
    repetition = {f"gram-{order}-repetition": _mean_variety(captions, order) for order in ORDERS}
    ends = {"mean_hal_ratio": run["hal_sents_ratio"], "model_base": model_base, "model_path": model_path}
    return {RUN: run, **repetition, **ends}


def variety(caption: str, order: int) -> float | None:
    """Give the share of different n-grams in a caption, which HA-DPO calls repetition: 1 where nothing is repeated.

    Returns:
        a rate; None where the caption is shorter than the n-gram, where the original divides by zero.
    """
    words = caption.translate(str.maketrans("", "", ".:\n?,")).split()
    ngrams = list(zip(*(words[start:] for start in range(order)), strict=False))
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def _mean_variety(captions: Sequence[str], order: int) -> float | None:
    known = [share for caption in captions if (share := variety(caption, order)) is not None]
    return _share(sum(known), len(known))


def _num_words(sentences: Iterable[Sentence]) -> int:
    return sum(sentence.num_words for sentence in sentences)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 3) if whole else None

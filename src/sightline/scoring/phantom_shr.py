"""SHR on phantom's descriptions, with perfect truth in the judge's place: every sentence can be looked up."""

from __future__ import annotations

from sightline.data.phantom_statements import is_description, truth_of
from sightline.records import Answer, Sample, Score
from sightline.scoring.shr import Description, Sentence, class_counts, counts_in_words, split_sentences

NAME = "phantom_shr"
CLASS_OF = {True: "correct", False: "hallucination", None: "cannot judge"}


def describe_answer(sample: Sample, answer: str) -> Description:
    """Judge a description by what phantom knows of the picture; a sentence it does not know cannot be judged."""
    texts = split_sentences(answer)
    classes = [CLASS_OF[truth_of(text, sample.answer)] for text in texts]
    sentences = tuple(Sentence(text=t, judgement=c, classification=c) for t, c in zip(texts, classes, strict=True))
    return Description(text=answer, raw="", sentences=sentences)


def hallucinated(sample: Sample, answer: Answer) -> Score:
    """Count the sentences of an answer by class; phantom's descriptions alone are scored."""
    if not is_description(sample.answer):
        reason = "no description of phantom's; of other pictures nobody knows every fact: ask a judge of kind shr"
        return Score(sample_id=sample.id, metric=NAME, outcome="not_applicable", reason=reason)
    parts = class_counts(describe_answer(sample, answer.text).sentences)
    return Score(
        sample_id=sample.id, metric=NAME, outcome="scored", parts=parts, parsed=counts_in_words(parts) or "nothing"
    )

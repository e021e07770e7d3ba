"""Why each finding of a check matters, in a sentence or two for a reader who meets it for the first time."""

from __future__ import annotations

from collections.abc import Mapping

WHY: Mapping[str, str] = {
    # the study's plan
    "several-factors-changed": "Whatever the comparison shows, nobody can say which of the differences caused it.",
    "identical-members": "They are one model made twice: the second costs time, and that both agree proves nothing.",
    "unusual-setting": "A value far from what has worked elsewhere is more often a slip than a discovery.",
    "critique-at-chance": "A pair whose better answer was chosen by chance teaches nothing but noise.",
    "rows-to-be-made": "Nothing that is said before they are there is about them.",
    "data-partly-seen": "A model said to be trained on the whole set has seen a part of it.",
    "destinations": "Data that has left the machine cannot be called back.",
    "licences": "A model made from base and data inherits what both forbid.",
    # rows and splits
    "bad-rows": "A row that cannot be used is a row that the result is not about.",
    "placeholder-mismatch": "The model learns to answer about a picture that it was not shown.",
    "data-size": "Everything else is counted against these numbers.",
    "repeated-rows": "A repeated row counts twice in training, and twice in a score that takes rows for independent.",
    "contradictory-rows": "One of the answers is wrong or the question is; as a test, no model can be right on both.",
    "answer-balance": "A model has shown nothing until it beats the answer that needs no picture.",
    "answer-types": "Open and closed questions are scored by different rules; a wrong type is scored by the wrong one.",
    "test-is-whole-dataset": "The rows that were made to be learnt from are asked as if they were new.",
    "same-row-in-train-and-test": "A score on rows that were learnt shows what was memorised, not what was understood.",
    "same-image-in-train-and-test": "Answers about a picture that was learnt from can be remembered instead of seen.",
    "near-duplicate-in-train-and-test": "A crop or a copy gives answers away as the picture itself would.",
    "identity-tags": "Tags travel with files, and a name in one identifies a person.",
    "burnt-in-text": "Text in the pixels can name a patient, and a model can read the answer instead of seeing it.",
    # what is trained and asked
    "trained-tokens": "What is trained is what is learnt: the answer and its end, and as a rule nothing else.",
    "labels-misaligned": "The model is taught to predict something else than the text it reads.",
    "image-tokens-trained": "Hundreds of placeholders, always the same, outweigh the few tokens of the answer.",
    "end-not-trained": "A model that does not learn to stop goes on until it is cut, and is scored on all of it.",
    "answers-cut": "What lies beyond the limit is neither learnt nor counted, and the end of the answer is part of it.",
    "token-straddles-answer": "When asked, the model starts from other tokens than it was trained to answer after.",
    "foreign-template": "The model first has to learn the new form, and answers worse than it can until it has.",
    "asked-otherwise-than-trained": "The score then measures the change of form as well as what was learnt.",
    "prefix-sharing": "Tokens that rows share are computed once; the more they share, the less a step costs.",
    # what it can show and what it costs
    "few-test-images": "How much answers differ from picture to picture cannot be told from so few of them.",
    "detectable-difference": "A true difference smaller than this will most likely be reported as none.",
    "cost": "It is better known before the start than found out halfway.",
    "over-budget": "A study that cannot fit will stop before its result.",
    # with the models
    "adapter-made-for-another-base": "If the two differ in weights, and not only in name, its corrections do not fit.",
    "step-0-loss": "A pretrained model starts below a uniform guess; if not, its inputs and labels do not fit.",
}
"""One entry for every name in `checking.findings.FINDINGS`."""

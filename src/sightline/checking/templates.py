"""Checks on the chat template: is it the model's own, and are questions asked as they were trained?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from sightline.checking.findings import NUM_EXAMPLES, Finding, row_name
from sightline.records import Message, Sample
from sightline.trees.render import Rendered, Template

QUESTION, ANSWER = "QUESTIONPROBE", "ANSWERPROBE"

MARKERS = re.compile(
    r"<\|im_start\|>|<\|user\|>|\[INST\]|<end_of_utterance>|<start_of_turn>|### (?:Human|Instruction)|USER:"
)
"""How the templates of well-known models open a turn: none of them belongs into a question."""


def check_template(own: Template, used: Template, file: str) -> Iterator[Finding]:
    """Compare a template file with the template the model was trained with.

    Args:
        own: what renders by the model's own template.
        used: what renders by the file.
        file: its name.
    """
    ours, theirs = _pieces(own), _pieces(used)
    if ours == theirs:
        return
    differing = [
        f"{ours[part]!r} is written {theirs[part]!r}" for part in ours if ours[part].split() != theirs[part].split()
    ]
    only_before = len(differing) == 1 and ours["before the question"] != theirs["before the question"]
    one, other = ours["before the question"], theirs["before the question"]
    says_more = only_before and (one.endswith(other) or other.endswith(one))
    unknown = sorted(
        {marker for marker in re.findall(r"<[^<>\s]+>", "".join(theirs.values())) if _is_split(used, marker)}
    )
    if not differing:
        what = "differs from the model's own template in blanks alone"
    elif says_more:
        what = f"differs from the model's own template in what stands before the first turn: {differing[0]}"
    else:
        what = f"is not the template that the model was trained with: {'; '.join(differing)}"
        if unknown:
            what += f"; {', '.join(unknown)} is no token of this model, which reads it in pieces"
    yield Finding(
        name="foreign-template",
        severity="fault" if differing and not says_more else "warning",
        message=f"template {file} {what}",
        remedy="use the model's own: template: own",
        evidence={"own": "".join(ours.values()), "used": "".join(theirs.values()), "unknown_tokens": unknown},
    )


def _pieces(template: Template) -> dict[str, str]:
    """Cut what a template writes around a question about a picture and its answer."""
    picture = 0
    asked = [Message(role="user", content=(picture, QUESTION))]
    prompt = template.chat_text(asked, generation_prompt=True)
    whole = template.chat_text([*asked, Message(role="assistant", content=(ANSWER,))], generation_prompt=False)
    before, _, opening = prompt.partition(QUESTION)
    _, _, end = whole.partition(ANSWER)
    return {"before the question": before, "before the answer": opening, "after the answer": end}


def _is_split(template: Template, marker: str) -> bool:
    nothing = len(template.tokenize("")[0])
    return len(template.tokenize(marker)[0]) - nothing > 1


def check_tokenised(
    data: str,
    samples: Sequence[Sample],
    sequences: Sequence[Rendered],
    own: Template,
    decode: Callable[[list[int]], str],
) -> Iterator[Finding]:
    """Find tokenised rows without the words with which the model's own template opens an answer."""
    opening = _pieces(own)["before the answer"].strip()
    looked = [(sample, q) for sample, q in zip(samples, sequences, strict=True) if sample.tokens]
    texts = [(row_name(sample), decode(q.token_ids_L[q.picture_L < 0].tolist())) for sample, q in looked]
    foreign = [(row, text) for row, text in texts if opening not in text]
    if not foreign:
        return
    row, text = foreign[0]
    yield Finding(
        name="foreign-template",
        severity="fault",
        message=f"{data}: in {len(foreign)} of {len(looked)} tokenised rows nothing opens the answer as the "
        f"model's own template does, with {opening!r}; for example {row} reads {text[:80]!r}",
        remedy="tokenise them with the model's own chat template, or give sightline the texts",
        evidence={"rows": [row for row, _ in foreign[:NUM_EXAMPLES]], "num_rows": len(foreign)},
    )


def check_markers(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find texts that hold the markers of a chat template already; the model's own would be put around them."""
    found = [
        (sample, match)
        for sample in samples
        if (match := next(filter(None, (MARKERS.search(text) for text in _texts(sample))), None))
    ]
    if found:
        sample, match = found[0]
        yield Finding(
            name="foreign-template",
            severity="warning",
            message=f"{data}: the texts of {len(found)} of {len(samples)} rows hold a chat template's marker, "
            f"for example {match[0]!r} at {row_name(sample)}; the model's own template is put around texts",
            remedy="give question and answer without any template",
            evidence={"rows": [row_name(s) for s, _ in found[:NUM_EXAMPLES]], "num_rows": len(found)},
        )


def _texts(sample: Sample) -> Iterator[str]:
    yield from (message.text for message in sample.messages)
    yield sample.answer


def check_form(
    train: Mapping[str, Sequence[Sample]],
    test: Mapping[str, Sequence[Sample]],
    *,
    prompts: Mapping[str, str],
    system: str | None,
) -> Iterator[Finding]:
    """Find questions that are put to the model in another form than it was trained on.

    The template, `question_suffix` and `system` are the same in training and evaluation by the way studies are
    carried out; what may differ is the wording of `evaluate.prompts`, and system turns that the data bring along.
    """
    if train and not any(wording.strip() == "{question}" for wording in prompts.values()):
        yield Finding(
            name="asked-otherwise-than-trained",
            severity="warning",
            message=f"every wording of evaluate.prompts ({', '.join(prompts)}) adds text to the question that training "
            "does not have",
            remedy='ask in the trained form too (prompts: {plain: "{question}", ...}), or train with question_suffix',
            evidence={"prompts": dict(prompts)},
        )
    if system is not None or not train:
        return
    trained = Counter(_system(sample) for samples in train.values() for sample in samples)
    for name, samples in test.items():
        odd = [sample for sample in samples if _system(sample) not in trained]
        if odd:
            yield Finding(
                name="asked-otherwise-than-trained",
                severity="warning",
                message=f"{name}: {len(odd)} of {len(samples)} questions are asked with the system turn "
                f"{_system(odd[0])!r:.80}, which no trained row has; "
                f"most of those have {trained.most_common(1)[0][0]!r:.80}",
                remedy="give all rows one system turn (system: TEXT in every step)",
                evidence={"rows": [sample.origin for sample in odd[:NUM_EXAMPLES]]},
            )


def _system(sample: Sample) -> str:
    return " ".join(message.text for message in sample.messages if message.role == "system")

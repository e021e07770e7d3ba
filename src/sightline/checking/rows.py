"""Checks on the rows of one set: their number, balance and types; what is repeated, contradictory or unusable."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sightline.checking.findings import NUM_EXAMPLES, Finding
from sightline.data.groups import about_images, count_images, picture_groups
from sightline.data.problems import Problem, problem_lines
from sightline.records import NOT_A_TARGET, Sample

YES_NO = ("yes", "no")

LONG_ANSWER = 5
"""Words; a closed question is answered in fewer."""

Key = tuple[str, tuple[str, ...]]


def row_key(sample: Sample) -> Key:
    """What is asked: the picture and all that was said, in whatever case and spacing; of a tokenised row, its ids."""
    picture = sample.image_id if sample.pictures else ""  # without a picture, every row is an image group of its own
    if sample.tokens is not None:
        ids, labels = sample.tokens.input_ids, sample.tokens.labels
        asked = [token for token, label in zip(ids, labels, strict=True) if token != label]
        return picture, (" ".join(map(str, asked or ids)),)  # where all is learnt, nothing is asked
    return picture, tuple(" ".join(message.text.lower().split()) for message in sample.messages)


def _answer(sample: Sample) -> str:
    if sample.tokens is not None:
        return " ".join(str(label) for label in sample.tokens.labels if label != NOT_A_TARGET)
    return " ".join(sample.answer.lower().split())


def check_repeats(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find rows that ask the same of the same picture: repeated, or with another answer.

    Of preference pairs, two of one question may prefer different answers; they contradict each other where what one
    chooses over the other is rejected for it in another.
    """
    asked: dict[Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        asked[row_key(sample)].append(sample)
    several = [rows for rows in asked.values() if len(rows) > 1]
    contradictory = [found for rows in several if (found := _contradicting(rows))]
    if contradictory:
        is_pairs = contradictory[0][0].rejected is not None
        told = (
            "have pairs that prefer the same answers the other way round"
            if is_pairs
            else "have several different answers"
        )
        yield Finding(
            name="contradictory-rows",
            severity="warning",
            message=f"{data}: {len(contradictory)} questions about one picture {told}, "
            f"for example {_shown(contradictory[0])}",
            remedy="decide which answer is right, or drop the others",
            evidence={"rows": [[row.origin for row in rows] for rows in contradictory[:NUM_EXAMPLES]]},
        )
    repeated = [same for rows in several if not _contradicting(rows) for same in _repeating(rows)]
    if repeated:
        extra = sum(len(rows) - 1 for rows in repeated)
        what = "answers" if repeated[0][0].rejected is not None else "answer"
        yield Finding(
            name="repeated-rows",
            severity="note",
            message=f"{data}: {extra} rows repeat another row's picture, question and {what}",
            evidence={"rows": [[row.origin for row in rows] for rows in repeated[:NUM_EXAMPLES]]},
        )


def _said(sample: Sample) -> tuple[str, str | None]:
    """Give a row's answer, and the one that it is preferred to."""
    return _answer(sample), None if sample.rejected is None else " ".join(sample.rejected.lower().split())


def _contradicting(rows: Sequence[Sample]) -> list[Sample]:
    """Choose the rows of one question that cannot all be right."""
    said = {_said(row) for row in rows}
    if rows[0].rejected is None:
        return list(rows) if len(said) > 1 else []
    turned = {(better, worse) for better, worse in said if better != worse and (worse, better) in said}
    return [row for row in rows if _said(row) in turned]


def _repeating(rows: Sequence[Sample]) -> list[list[Sample]]:
    """Put the rows of one question together that say the same."""
    same: dict[tuple[str, str | None], list[Sample]] = defaultdict(list)
    for row in rows:
        same[_said(row)].append(row)
    return [group for group in same.values() if len(group) > 1]


def _shown(rows: Sequence[Sample]) -> str:
    told = [f"{row.answer!r}" + (f" over {row.rejected!r}" if row.rejected is not None else "") for row in rows]
    answers = " / ".join(dict.fromkeys(told))
    return f"{rows[0].question!r} at {rows[0].origin}: {answers}"


def check_sizes(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Count rows, pictures, groups of rows that share pictures, and how rows divide by answer type where the data says.

    Where every row has one picture, the groups are the pictures, and nothing is said of them.
    """
    num_images, num_groups = count_images(samples)
    per_group = Counter(picture_groups(samples))
    types = Counter(sample.tags["answer_type"] for sample in samples if "answer_type" in sample.tags)
    divided = "; " + ", ".join(f"{count} {name}" for name, count in sorted(types.items())) if types else ""
    most = max(per_group.values(), default=0)
    average = len(samples) / max(1, num_groups)
    unit = "an image" if num_images == num_groups else "a group"
    grouped = {} if num_images == num_groups else {"num_groups": num_groups}
    yield Finding(
        name="data-size",
        severity="note",
        message=f"{data}: {len(samples):,} rows on {about_images(num_images, num_groups)}, {average:.2f} {unit}, "
        f"at most {most}{divided}",
        evidence={"num_rows": len(samples), "num_images": num_images, **grouped, "max_per_image": most, **types},
    )


def check_balance(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Say what always giving the commonest answer would reach, over all rows and over the yes/no questions."""
    answers = Counter(_answer(sample) for sample in samples if sample.tokens is None)
    if not answers:
        return
    answer, count = answers.most_common(1)[0]
    message = f"{data}: always answering {answer!r} is right in {_share(count, answers.total())}"
    yes_no = Counter({word: answers[word] for word in YES_NO})
    if yes_no.total():
        word, most = yes_no.most_common(1)[0]
        message += (
            f"; of the yes/no questions, {yes_no['yes']} are yes and {yes_no['no']} no, "
            f"so always {word!r} is right in {_share(most, yes_no.total())}"
        )
    yield Finding(
        name="answer-balance",
        severity="note",
        message=message,
        evidence={"answer": answer, "count": count, "num_rows": answers.total(), **yes_no},
    )


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.1f}%)"


def check_answer_types(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find answers at odds with their type, by the data's own tag `answer_type`."""
    typed = [
        (sample.tags["answer_type"].upper(), _answer(sample), sample)
        for sample in samples
        if "answer_type" in sample.tags and sample.tokens is None
    ]
    other = [sample for kind, answer, sample in typed if kind == "CLOSED" and answer not in YES_NO]
    long = [sample for sample in other if len(sample.answer.split()) >= LONG_ANSWER]
    open_yes_no = [sample for kind, answer, sample in typed if kind == "OPEN" and answer in YES_NO]
    if long or open_yes_no:
        examples = [*open_yes_no, *long]
        odd = [
            f"{len(open_yes_no)} open questions are answered by yes or no" if open_yes_no else "",
            f"{len(long)} closed questions have answers of {LONG_ANSWER} words or more" if long else "",
        ]
        yield Finding(
            name="answer-types",
            severity="warning",
            message=f"{data}: {' and '.join(filter(None, odd))}, for example {_shown([examples[0]])}",
            remedy="correct answer_type: it decides by which metric a question counts",
            evidence={"rows": [sample.origin for sample in examples[:NUM_EXAMPLES]]},
        )
    elif other:
        yield Finding(
            name="answer-types",
            severity="note",
            message=f"{data}: {len(other)} of {sum(kind == 'CLOSED' for kind, *_ in typed)} closed questions have an "
            f"answer other than yes or no, for example {_shown([other[0]])}; papers that count yes/no answers alone "
            "have another denominator",
            evidence={"rows": [sample.origin for sample in other[:NUM_EXAMPLES]], "num_rows": len(other)},
        )


def check_problems(
    problems: Sequence[Problem], *, num_rows: int, skipped: bool, are_samples: bool = False
) -> Iterator[Finding]:
    """Report rows that cannot be used; those with another number of placeholders than pictures by a name of their own.

    Args:
        problems: of all sources, repaired ones included.
        num_rows: rows read.
        skipped: whether the study goes on without such rows (`on_bad_row: skip`).
        are_samples: whether samples are counted, of which a file's row can hold several.
    """
    faults = [problem for problem in problems if not problem.repaired]
    misplaced = [problem for problem in faults if problem.kind == "image-count"]
    other = [problem for problem in faults if problem.kind != "image-count"]
    told = {
        "placeholder-mismatch": (
            misplaced,
            "do not have one image placeholder for each picture, or for each feature",
            "write the placeholder as often as there are pictures; accepted, the rows are left out",
        ),
        "bad-rows": (other, "cannot be used", "correct them, or set on_bad_row: skip in every step that trains"),
    }
    for name, (found, what, remedy) in told.items():
        if found:
            rows = {(problem.file, problem.row, problem.id if are_samples else "") for problem in found}
            yield Finding(
                name=name,
                severity="warning" if skipped else "fault",
                message=f"{len(rows)} of {num_rows} rows {what}:\n  " + "\n  ".join(problem_lines(found)),
                remedy="they are left out" if skipped else remedy,
                evidence={"num_rows": len(rows), "rows": [str(problem) for problem in found[:NUM_EXAMPLES]]},
            )

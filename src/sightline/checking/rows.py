"""Checks on the rows themselves: repeated, contradictory and shared between training and test."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sightline.checking.findings import Finding
from sightline.records import Sample

NUM_EXAMPLES = 5


Key = tuple[str, tuple[str, ...]]


def _key(sample: Sample) -> Key:
    """What is asked: the picture and all that was said, in whatever case and spacing."""
    picture = sample.image_id if sample.pictures else ""  # without a picture, every row is an image group of its own
    return picture, tuple(" ".join(message.text.lower().split()) for message in sample.messages)


def _answer(sample: Sample) -> str:
    return " ".join(sample.answer.lower().split())


def check_repeats(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find rows that ask the same of the same picture: repeated, or with another answer."""
    asked: dict[Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        asked[_key(sample)].append(sample)
    several = [rows for rows in asked.values() if len(rows) > 1]
    contradictory = [rows for rows in several if len({_answer(row) for row in rows}) > 1]
    if contradictory:
        yield Finding(
            name="contradictory-rows",
            severity="warning",
            message=f"{data}: {len(contradictory)} questions about one picture have several different answers, "
            f"for example {_shown(contradictory[0])}",
            remedy="decide which answer is right, or drop the others",
            evidence={"rows": [[row.origin for row in rows] for rows in contradictory[:NUM_EXAMPLES]]},
        )
    repeated = [rows for rows in several if len({_answer(row) for row in rows}) == 1]
    if repeated:
        extra = sum(len(rows) - 1 for rows in repeated)
        yield Finding(
            name="repeated-rows",
            severity="note",
            message=f"{data}: {extra} rows repeat another row's picture, question and answer",
            evidence={"rows": [[row.origin for row in rows] for rows in repeated[:NUM_EXAMPLES]]},
        )


def _shown(rows: Sequence[Sample]) -> str:
    answers = " / ".join(dict.fromkeys(repr(row.answer) for row in rows))
    return f"{rows[0].question!r} at {rows[0].origin}: {answers}"


def check_overlap(train: Mapping[str, Sequence[Sample]], test: Mapping[str, Sequence[Sample]]) -> Iterator[Finding]:
    """Find test rows whose picture and question, or whose picture, training or validation has seen."""
    trained_rows = {_key(sample): sample for samples in train.values() for sample in samples}
    trained_pictures = {picture.sha256 for sample in trained_rows.values() for picture in sample.pictures}
    for name, samples in test.items():
        same_rows = [sample for sample in samples if _key(sample) in trained_rows]
        if same_rows:
            yield Finding(
                name="same-row-in-train-and-test",
                severity="fault",
                message=f"{name}: {len(same_rows)} of {len(samples)} test questions are asked of the same picture "
                f"in training or validation, for example {same_rows[0].question!r} ({same_rows[0].origin})",
                remedy="drop them from one side, or split by image",
                evidence={
                    "rows": [[row.origin, trained_rows[_key(row)].origin] for row in same_rows[:NUM_EXAMPLES]],
                    "num_questions": len(same_rows),
                },
            )
        shared = [sample for sample in samples if any(p.sha256 in trained_pictures for p in sample.pictures)]
        if shared:
            pictures = {p.sha256 for sample in shared for p in sample.pictures if p.sha256 in trained_pictures}
            all_pictures = {p.sha256 for sample in samples for p in sample.pictures}
            yield Finding(
                name="same-image-in-train-and-test",
                severity="warning",
                message=f"{name}: {len(pictures)} of {len(all_pictures)} test pictures are seen in training or "
                f"validation; {len(shared)} of {len(samples)} test questions are about them",
                remedy="split by image; results on these questions partly show what was memorised",
                evidence={"num_pictures": len(pictures), "num_questions": len(shared)},
            )


def check_sizes(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Count rows, images and rows per image; and how the rows divide by answer type, where the data says so."""
    per_image = Counter(sample.image_id for sample in samples)
    types = Counter(sample.tags["answer_type"] for sample in samples if "answer_type" in sample.tags)
    divided = "; " + ", ".join(f"{count} {name}" for name, count in sorted(types.items())) if types else ""
    most = max(per_image.values(), default=0)
    average = len(samples) / max(1, len(per_image))
    yield Finding(
        name="data-size",
        severity="note",
        message=f"{data}: {len(samples):,} rows on {len(per_image):,} images, {average:.2f} an image, at most {most}"
        + divided,
        evidence={"num_rows": len(samples), "num_images": len(per_image), "max_per_image": most, **types},
    )


def check_balance(data: str, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Say what always giving the commonest answer would reach, over all rows and over the yes/no questions."""
    answers = Counter(_answer(sample) for sample in samples)
    if not answers:
        return
    answer, count = answers.most_common(1)[0]
    message = f"{data}: always answering {answer!r} is right in {_share(count, len(samples))}"
    yes_no = Counter({word: answers[word] for word in ("yes", "no")})
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
        evidence={"answer": answer, "count": count, "num_rows": len(samples), **yes_no},
    )


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.1f}%)"

"""Score anyone's answers against anyone's data, by one harness's rule or by all of them side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.columns import COLUMN_NAMES, NoColumnError
from sightline.data.formats import load_source
from sightline.data.problems import require_clean
from sightline.data.shr import IMAGES
from sightline.errors import DataError, MissingDataError, StudyError
from sightline.records import Answer, Sample, Score, sample_from_json
from sightline.scoring import pope, shr, text, vqa_rules
from sightline.scoring.answer_files import read_answers
from sightline.scoring.disagreements import NUM_EXAMPLES, example, find_disagreements, reading_of
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import METRICS
from sightline.storage import read_jsonl, write_file
from sightline.verdict.arms import describe_arm, scores_by_id

OURS = "sightline"
ALL = "all"

TEXT_RULES: Mapping[str, tuple[Metric, ...]] = {
    OURS: tuple(METRICS[name] for name in ("bleu", "rouge_l", "distinct_1", "distinct_2", "answer_length")),
    "nltk": (METRICS["sentence_bleu"],),
}
"""What is computed of free text, and what studies that use NLTK's BLEU report instead."""

RULES: Mapping[str, Sequence[str]] = {
    "pope": tuple(pope.RULES),
    "vqa": tuple(vqa_rules.RULES),
    "text": tuple(TEXT_RULES),
    "shr": tuple(shr.RULES),
}
"""Each task's rules by name."""


def score_task(
    task: str,
    answers: Path,
    data: Path,
    *,
    rule: str = OURS,
    split: str | None = None,
    questions: Path | None = None,
    against: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a file of answers.

    Args:
        task: what they are scored as; a key of `RULES`.
        answers: anyone's; for shr, HA-DPO's judgement.json.
        data: the questions with their references, in any format that a study reads, pictures need not be there; for
            shr, its list of images.
        rule: whose rule; "all" gives each under `rules`, and what makes the difference under `disagreements`.
        split: which of the source's splits was asked; needed where it has several, except for pope, which takes all.
        questions: the file that the answers' ids point into, where answers have nothing but ids.
        against: for shr, another model's judgement.json, to be held against at matched length.
        out: for shr, where to write judgement.json and metrics.json.

    Raises:
        StudyError: no such task or rule, or no such split.
        DataError: answers and rows do not match one to one.
    """
    if task not in RULES:
        raise StudyError(f"no task {task!r}; there is {', '.join(RULES)}")
    if rule != ALL and rule not in RULES[task]:
        raise StudyError(f"rule {rule!r} is unknown; known rules for {task}: {', '.join(RULES[task])}, {ALL}")
    rules = RULES[task] if rule == ALL else (rule,)
    if task == "shr":
        return {"task": task, "rule": rule, **_score_shr(answers, data, rules, against=against, out=out)}
    splits = _rows(data, split, every_split=task == "pope")
    samples = tuple(sample for rows in splits.values() for sample in rows)
    try:
        matched = read_answers(answers, samples, questions)
    except DataError as error:
        if len(splits) > 1 and (fitting := [name for name in splits if _fits(answers, splits[name], questions)]):
            raise DataError(f"{error}; they fit one split: add --split {' or --split '.join(fitting)}") from None
        raise
    given = Given(samples=samples, answers=matched.answers, data=str(data))
    head = {"task": task, "rule": rule, "num_answers": len(samples), "matched_by": matched.by}
    scored = {"pope": _score_pope, "vqa": _score_vqa, "text": _score_text}[task](given, rules)
    if rule == ALL:
        return head | scored
    del scored["disagreements"]
    return head | scored.pop("rules")[rule] | scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is scored.

    Args:
        samples: the rows that were asked.
        answers: one to each, in their order.
        data: where the rows are from.
    """

    samples: Sequence[Sample]
    answers: Sequence[Answer]
    data: str

    def scores(self, metric: Metric) -> list[Score]:
        """Score every answer by a metric."""
        assert metric.score is not None
        return [metric.score(sample, answer) for sample, answer in zip(self.samples, self.answers, strict=True)]


def _score_pope(given: Given, rules: Sequence[str]) -> dict[str, Any]:
    """Score probes, all of them and each subset by itself; the mean over subsets is what LLaVA prints."""
    subsets: dict[str, list[int]] = {}
    for place, sample in enumerate(given.samples):
        if not pope.is_probe(sample):
            raise DataError(f"{sample.origin or sample.id}: the reference is {sample.answer!r}; POPE's are yes and no")
        subsets.setdefault(sample.tags.get("category", "all"), []).append(place)
    found: dict[str, Any] = {}
    readings = {}
    for name in rules:
        rule = pope.RULES[name]
        scores = [rule.score(sample, answer) for sample, answer in zip(given.samples, given.answers, strict=True)]
        readings[name] = [reading_of(score) for score in scores]
        found[name] = _pope_arm(given, rule, scores)
        arms = {
            subset: _pope_arm(given, rule, [scores[place] for place in places])
            for subset, places in subsets.items()
            if len(subsets) > 1
        }
        if arms:
            found[name] |= {"subsets": arms, "mean_of_subsets": _means(list(arms.values()))}
        found[name]["notes"] = list(rule.notes)
    return {
        "rules": found,
        "words_per_answer": _words_per_answer(given),
        "disagreements": find_disagreements(given.samples, given.answers, readings),
    }


def _score_vqa(given: Given, rules: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    readings: dict[str, dict[str, list[str]]] = {"exact_match": {}, "closed_accuracy": {}}
    for name in rules:
        metrics = vqa_rules.RULES[name]
        scores = {metric.name: given.scores(metric) for metric in metrics}
        found[name] = _arm(given, metrics, scores) | {"notes": list(vqa_rules.NOTES[name])}
        for metric in metrics:
            if metric.name in readings and metric.kind == "mean":
                readings[metric.name][name] = [reading_of(score) for score in scores[metric.name]]
    differing = {metric: find_disagreements(given.samples, given.answers, read) for metric, read in readings.items()}
    return {"rules": found, "disagreements": differing}


def _score_text(given: Given, rules: Sequence[str]) -> dict[str, Any]:
    texts = [answer.text for answer in given.answers]
    return {
        "rules": {
            name: _arm(given, TEXT_RULES[name], {metric.name: given.scores(metric) for metric in TEXT_RULES[name]})
            for name in rules
        },
        "bleu_signature": text.bleu_signature(),
        "corpus_distinct": {str(order): text.corpus_distinct(texts, order) for order in (1, 2)},
        "disagreements": _bleu_gaps(given) if len(rules) > 1 else [],
    }


def _bleu_gaps(given: Given) -> list[dict[str, Any]]:
    """Show the answers whose BLEU differs most between sacrebleu, taken alone, and NLTK."""
    rows = []
    for sample, answer in zip(given.samples, given.answers, strict=True):
        alone = text.combine_bleu(text.bleu(sample, answer).parts) or 0.0
        smoothed = text.sentence_bleu(sample, answer).value or 0.0
        rows.append((abs(alone - smoothed), {"readings": {OURS: alone, "nltk": smoothed}}, sample, answer))
    rows.sort(key=lambda row: -row[0])
    return [
        {**read, "num_answers": 1, "examples": [example(sample, answer)]}
        for gap, read, sample, answer in rows[:NUM_EXAMPLES]
        if gap > 0
    ]


def _score_shr(
    answers: Path, data: Path, rules: Sequence[str], *, against: Path | None, out: Path | None
) -> dict[str, Any]:
    """Score judged descriptions: HA-DPO's two files, the ratio by each rule, and the ratio by length."""
    asked = _images_asked(data)
    described = _read_judged(answers, asked)
    captions = [each.text for each in described.values()]
    sentences = [sentence for each in described.values() for sentence in each.sentences]
    counts = shr.class_counts(sentences)
    metrics = shr.metrics_json(described, captions, model_base=None, model_path=str(answers))
    found: dict[str, Any] = {
        "num_images": len(described),
        "missing_images": sorted(asked - described.keys()),
        "sentences": counts,
        "words_per_answer": metrics[shr.RUN]["words_per_image"],
        "shr": {name: shr.RULES[name](counts) for name in rules},
        "by_length": {name: shr.ratio_by_length(described.values(), name) for name in rules},
        "notes": {name: list(shr.NOTES[name]) for name in rules},
        "metrics_json": metrics,
    }
    if against is not None:
        models = {str(answers): described, str(against): _read_judged(against, asked)}
        found["at_matched_length"] = {name: shr.at_matched_length(models, name) for name in rules}
    if out is not None:
        write_file(out / "judgement.json", json.dumps(shr.judgement_json(described), ensure_ascii=False))
        write_file(out / "metrics.json", json.dumps(metrics, ensure_ascii=False))
    return found


def _read_judged(path: Path, asked: set[str]) -> dict[str, shr.Description]:
    described = shr.read_judgement_json(_json(path), file=str(path))
    if strange := sorted(described.keys() - asked):
        raise DataError(f"{path}: image {strange[0]} is not among the {len(asked):,} images of the data")
    if not described:
        raise DataError(f"{path}: no description was judged")
    return described


def _images_asked(data: Path) -> set[str]:
    path = data / IMAGES if data.is_dir() else data
    content = _json(path)
    try:
        return {str(entry["image_id"]) for entry in content}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of image ids, as SHR's {IMAGES} is") from error


def _json(path: Path) -> Any:
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error


def _arm(given: Given, metrics: Sequence[Metric], scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Describe the answers by metrics, as `compare.json` describes an arm."""
    model = given.answers[0].model
    by_id = {sample.id: sample for sample in given.samples}
    arms = {name: scores_by_id(by_id, each, arm=model) for name, each in scores.items()}
    return describe_arm(by_id, metrics, arms, model=model, data=given.data, template="as given", seed=0, alpha=0.05)


def _pope_arm(given: Given, rule: pope.Rule, scores: Sequence[Score]) -> dict[str, Any]:
    """Describe probes: all of the rule's metrics are made of the same scores."""
    cells = {cell: int(sum(score.parts.get(cell, 0.0) for score in scores)) for cell in pope.CELLS}
    return _arm(given, rule.metrics, {metric.name: scores for metric in rule.metrics}) | {"counts": cells}


def _means(arms: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Average each metric's value over subsets; None where one of them has none."""
    means: dict[str, float | None] = {}
    for name in arms[0]["metrics"]:
        values = [arm["metrics"][name]["value"] for arm in arms]
        means[name] = None if None in values else sum(values) / len(values)
    return means


def _words_per_answer(given: Given) -> float:
    return sum(len(answer.text.split()) for answer in given.answers) / len(given.answers)


def _fits(answers: Path, samples: Sequence[Sample], questions: Path | None) -> bool:
    """Say whether answers are those to these rows."""
    try:
        read_answers(answers, samples, questions)
    except DataError:
        return False
    return True


def _rows(data: Path, split: str | None, *, every_split: bool) -> dict[str, tuple[Sample, ...]]:
    """Read the rows that were asked, by split; a study's own have none."""
    if (own := _own_rows(data)) is not None:
        return {"": own}
    try:
        loaded = load_source(data.name, root=data.resolve().parent, with_pictures=False)
    except NoColumnError as error:
        names = ", ".join(COLUMN_NAMES[error.field])
        what = "the reference answers" if error.field == "answer" else f"the {error.field}"
        raise NoColumnError(error.table, error.field, f"`score` takes {what} from a column named {names}") from None
    if split is None and len(loaded) > 1 and not every_split:
        raise StudyError(f"{data} has the splits {', '.join(loaded)}; say which was asked: --split NAME")
    if split is not None and split not in loaded:
        raise StudyError(f"{data} has no split {split!r}; it has {', '.join(loaded)}")
    names = list(loaded) if split is None else [split]
    splits = {name: tuple(require_clean(loaded[name], on_bad_row="stop")) for name in names}
    if not any(splits.values()):
        raise DataError(f"{data}: no rows to score against")
    return splits


def _own_rows(data: Path) -> tuple[Sample, ...] | None:
    """Read rows that a study wrote into its `data/`; None if the file is something else."""
    if data.suffix != ".jsonl" or not data.is_file():
        return None
    with data.open(encoding="utf-8") as lines:
        first = lines.readline()
    try:
        is_own = {"id", "pictures", "messages", "answer", "origin"} <= json.loads(first).keys()
    except (ValueError, AttributeError):
        return None
    return tuple(sample_from_json(row) for row in read_jsonl(data)) if is_own else None

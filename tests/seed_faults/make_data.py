"""The data that the studies of this folder read: drawn pictures with questions, as texts and tokenised by hand.

Rows are tokenised as training scripts do it: with the tokenizer alone, by a template written out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sightline.data.phantom import phantom_samples
from sightline.data.pictures import save_picture
from tiny_studies import write_csv

TINY = Path(__file__).parents[2] / "src" / "sightline" / "assets" / "tiny"
FEATURES = 64
"""Image tokens of a picture of the tiny model."""
NUM_TRAINED = 6
"""Pictures to learn from; the others are asked."""

IDEFICS = """{%- for message in messages -%}
{{ message['role'] | capitalize + ':' }}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ '<image>' }}{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{{ '<end_of_utterance>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"""
"""A template of another model, as one finds it in a blog post."""


def write_data(folder: Path) -> None:
    """Write everything that the studies name."""
    rows = drawn_rows(folder, "chest")
    names = list(dict.fromkeys(image for image, *_ in rows))
    train = [row for row in rows if row[0] in names[:NUM_TRAINED]]
    test = [row for row in rows if row[0] in names[NUM_TRAINED:]]
    columns = ("image", "question", "answer", "type")
    write_csv(folder / "train.csv", train, names=columns)
    write_csv(folder / "test.csv", test, names=columns)
    write_csv(folder / "train_and_test.csv", [*train, *test], names=columns)
    (folder / "idefics.jinja").write_text(IDEFICS, encoding="utf-8")
    write_release(folder, train, test)

    tokenise = tokenizer()
    aligned = [tokenised(tokenise, *row[:3], expanded=bool(place % 2)) for place, row in enumerate(train)]
    write_jsonl(folder / "aligned.jsonl", aligned)
    write_jsonl(folder / "misaligned.jsonl", [misaligned(tokenise, *row[:3]) for row in train])
    write_jsonl(folder / "everything_learnt.jsonl", [everything_learnt(row) for row in aligned])
    long = [tokenised(tokenise, *row[:3]) for row in drawn_rows(folder, "description")]
    limit = max(row["labels"].count(-100) for row in long) + 2
    write_jsonl(folder / "sentences.jsonl", long)
    write_jsonl(folder / "cut.jsonl", [cut(row, limit) for row in long])
    write_jsonl(folder / "wrong_places.jsonl", [*aligned[2:], *map(without_one_place, aligned[:2])])
    write_jsonl(folder / "markers.jsonl", [conversation(row, markers=1) for row in train])
    write_jsonl(folder / "two_markers.jsonl", [conversation(row, markers=1 + (row is train[0])) for row in train])


def drawn_rows(folder: Path, subset: str) -> list[list[str]]:
    """Save drawn pictures and return rows of picture, question, answer and type."""
    (folder / "images").mkdir(exist_ok=True)
    names: dict[str, str] = {}
    rows = []
    for sample in phantom_samples(9, seed=len(subset), subset=subset):  # pyright: ignore
        picture = sample.pictures[0]
        if picture.sha256 not in names:
            names[picture.sha256] = f"images/{subset}_{len(names)}.png"
            Path(str(save_picture(picture, folder / "images").path)).rename(folder / names[picture.sha256])
        kind = "closed" if sample.answer.lower() in ("yes", "no") else "open"
        rows.append([names[picture.sha256], sample.question, sample.answer, kind])
    return rows


def write_release(folder: Path, train: Sequence[Sequence[str]], test: Sequence[Sequence[str]]) -> None:
    """Write a release that divides its own rows, in VQA-RAD's form."""
    parts = [("freeform", row) for row in train] + [("test_freeform", row) for row in test]
    release = [
        {
            "qid": number, "phrase_type": phrase, "image_name": Path(image).name, "question": question,
            "answer": answer, "answer_type": kind.upper(), "image_organ": "CHEST", "question_type": "PRES",
        }
        for number, (phrase, (image, question, answer, kind)) in enumerate(parts, start=1)
    ]  # fmt: skip
    (folder / "VQA_RAD_Dataset_Public.json").write_text(json.dumps(release), encoding="utf-8")


def tokenizer() -> Any:
    """Load the tiny model's tokenizer by itself."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY)


def prompt_of(question: str, places: int) -> str:
    """Write a question as the tiny model's template does."""
    return f"USER: {'<image>' * places}\n{question} ASSISTANT:"


def tokenised(tokenise: Any, image: str, question: str, answer: str, *, expanded: bool = False) -> dict[str, Any]:
    """Tokenise a row rightly: the answer and its end follow the question, and they alone are labelled."""
    prompt = tokenise(prompt_of(question, FEATURES if expanded else 1)).input_ids
    ids = tokenise(prompt_of(question, FEATURES if expanded else 1) + f" {answer}</s>").input_ids
    assert ids[: len(prompt)] == prompt
    return {"image": image, "input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]}


def misaligned(tokenise: Any, image: str, question: str, answer: str) -> dict[str, Any]:
    """Give the prompt as ids and the answer, from the first place on, as labels; the answer is never read."""
    ids = tokenise(prompt_of(question, 1)).input_ids
    labels = tokenise(f"{answer}</s>", add_special_tokens=False).input_ids
    return {"image": image, "input_ids": ids, "labels": labels + [-100] * (len(ids) - len(labels))}


def everything_learnt(row: dict[str, Any]) -> dict[str, Any]:
    """Copy the ids to the labels, image tokens included, and leave the end token out."""
    ids = row["input_ids"][:-1]
    return {**row, "input_ids": ids, "labels": list(ids)}


def cut(row: dict[str, Any], limit: int) -> dict[str, Any]:
    """Keep the first tokens of a row, as a tokenizer does that was told to truncate."""
    return {**row, "input_ids": row["input_ids"][:limit], "labels": row["labels"][:limit]}


def without_one_place(row: dict[str, Any]) -> dict[str, Any]:
    """Put one image token too few: neither one for the picture nor one for each of its features."""
    prompt = [3] * (FEATURES - 1)
    rest = [token for token in row["input_ids"] if token != 3]
    labels = [label for token, label in zip(row["input_ids"], row["labels"], strict=True) if token != 3]
    return {**row, "input_ids": prompt + rest, "labels": [-100] * len(prompt) + labels}


def conversation(row: Sequence[str], *, markers: int) -> dict[str, Any]:
    """Write a row as LLaVA's format has it."""
    image, question, answer, _ = row
    asked = "<image>\n" * markers + question
    return {"image": image, "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

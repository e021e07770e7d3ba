"""Make `builtin:tiny`, the embedded model, from nothing: its words, its chat template, its weights.

    PYTHONPATH=src python scripts/make_tiny.py --out src/sightline/assets/tiny

A LLaVA of 3.5 million parameters (CLIP vision tower, two-layer projector, Llama) is trained on phantom pictures: on
descriptions of all they show, on a third of the kinds of question, and on claims to check for most of the others; nine
pictures of ten come from scanner A. The rest is left for tuning: design/embedded-default.md says why. It takes two
minutes on a GPU, and hours without one.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from sightline.data.phantom import phantom_descriptions, phantom_probes, phantom_samples
from sightline.data.phantom_drawing import ChestFacts, draw_image, generator
from sightline.data.phantom_language import ALL_KINDS, ask
from sightline.data.phantom_statements import describe
from sightline.data.pictures import open_picture
from sightline.records import Picture, Sample

SEED = 1971
"""Pictures of this seed make the base; studies count their seeds from 0."""
WORDS = Path(__file__).with_name("tiny_words.txt")
VOCABULARY = 2048
IMAGE_SIDE, PATCH_SIDE = 64, 8
NUM_IMAGE_TOKENS = (IMAGE_SIDE // PATCH_SIDE) ** 2
KNOWN_KINDS = (
    "nodule_present", "nodule_count", "device_present", "device_count", "effusion_present", "effusion_where",
    "heart_where", "chart_type", "mark_present", "mark_count", "bar_extreme", "multi_same_side", "multi_sum",
)  # fmt: skip
"""What the base can be asked."""
CLAIMS = {
    "nodule_side": "A nodule lies in the {side} lung.",
    "nodule_place": "A nodule lies in the {level} {side} lung.",
    "nodule_size": "There is a {size} nodule.",
    "heart_size": "The heart is {size}.",
    "heart_side": "The heart lies on the {side}.",
    "device_side": "The {device} lies on the {side}.",
    "effusion_side": "There is an effusion on the {side}.",
    "bar_taller": "The {one} bar is {degree} than the {other} bar.",
    "bar_order": "The {one} bar stands left of the {other} bar.",
    "bar_threshold": "The {one} bar reaches the dashed line.",
    "threshold_present": "A dashed line crosses the chart.",
    "line_trend": "The {one} line {verb}s.",
    "multi_more": "There are more {things} in the {one} picture than in the {other}.",
    "multi_heart": "The heart in the {one} picture is larger than in the {other}.",
    "multi_device": "There is a {device} in both pictures.",
}
"""What the base can check ("Check this: ...") and was never asked. The kinds in neither list are new to it."""
SHARE_OF_B = 0.1
"""Share of the base's pictures that scanner B took."""
BATCH_SIZE, LEARNING_RATE = 128, 1e-3

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] != 'system' -%}{{ message['role'] | upper + ': ' }}{%- endif -%}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ eos_token if message['role'] == 'assistant' else ' ' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""


# ---------------------------------------------------------------- words


def make_processor(texts: Iterable[str]) -> LlavaProcessor:
    """Learn a byte-level vocabulary: any text can be written in it, and frequent words are one token.

    The pattern that cuts text into words never joins a colon to what follows it, so "ASSISTANT:" ends with the same
    token whatever the answer is; digits stand alone.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    image_processor = CLIPImageProcessorPil(
        size=side, do_center_crop=False, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor,
        fast,
        patch_size=PATCH_SIDE,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=1,
    )


def vocabulary_texts() -> list[str]:
    """What the vocabulary is learnt from: phantom's own language, and words that readers of images use."""
    samples = phantom_samples(400, seed=SEED) + phantom_probes(100, seed=SEED)
    texts = [f"USER: {sample.question} ASSISTANT: {sample.answer}" for sample in samples]
    phrases = ["True or false? ASSISTANT: true", "True or false? ASSISTANT: false", "Check this: ASSISTANT: yes"]
    texts += 20 * [*phrases, *CLAIMS.values()]
    texts += [description.text for description in phantom_descriptions(200, seed=SEED)]
    return 3 * texts + 5 * [f" {word}" for word in WORDS.read_text().split()]


# ---------------------------------------------------------------- the model


def make_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """Put the model together with random weights; every width is a multiple of 64, as 4-bit kernels want it."""
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE,
        projection_dim=128,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=NUM_IMAGE_TOKENS,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


# ---------------------------------------------------------------- rows: an image once, then all its questions


@dataclass(frozen=True, slots=True)
class Row:
    """The conversations about one picture (or two) as one row of T tokens.

    Args:
        pixels: uint8 (pictures, 64, 64, 3).
        tokens: int (T,).
        positions: int (T,), a token's place in its own conversation.
        ends: int (T,), where the last token that may see this one ends.
        targets: int (T,), the token to predict, or -100.
        branches: int (T,), which conversation a token belongs to.
        names: what each conversation is counted under.
    """

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    ends: NDArray[np.int64]
    targets: NDArray[np.int64]
    branches: NDArray[np.int64]
    names: tuple[str, ...]


def make_row(processor: LlavaProcessor, pictures: Sequence[Picture], talks: Sequence[tuple[str, str, str]]) -> Row:
    """Lay conversations (name, question, answer) about the same pictures side by side behind the pictures."""
    tokenizer = processor.tokenizer
    opening = "USER: " + len(pictures) * ("<image>" * NUM_IMAGE_TOKENS + "\n")
    prefix = tokenizer(opening)["input_ids"]
    tokens, positions = list(prefix), list(range(len(prefix)))
    targets, branches, starts = [-100] * len(prefix), [-1] * len(prefix), []
    for number, (_, question, answer) in enumerate(talks):
        asked = tokenizer(f"{question} ASSISTANT:", add_special_tokens=False)["input_ids"]
        said = tokenizer(f" {answer}</s>", add_special_tokens=False)["input_ids"]
        starts.append(len(tokens))
        tokens += asked + said[:-1]
        positions += range(len(prefix), len(prefix) + len(asked) + len(said) - 1)
        targets += [-100] * (len(asked) - 1) + said
        branches += [number] * (len(asked) + len(said) - 1)
    starts.append(len(tokens))
    ends = [len(tokens)] * len(prefix)
    for start, end in pairwise(starts):
        ends += [end] * (end - start)
    return Row(
        np.stack([np.asarray(open_picture(picture)) for picture in pictures]),
        *(np.array(values) for values in (tokens, positions, ends, targets, branches)),
        tuple(name for name, _, _ in talks),
    )


def base_row(processor: LlavaProcessor, index: int) -> Row:
    """Draw one picture (or two) of the base's training data, with what the base may be asked about it."""
    rng = generator(SEED, "base", index)
    scanner = "B" if rng.random() < SHARE_OF_B else "A"
    first = draw_image(SEED, "base picture", index, scanner=scanner)
    if rng.random() < 0.15:
        kind = "chest" if isinstance(first.facts, ChestFacts) else "chart"
        images = (first, draw_image(SEED, "base other picture", index, scanner=scanner, kind=kind))
    else:
        images = (first,)
    view = tuple(image.facts for image in images)
    known = [ALL_KINDS[name] for name in KNOWN_KINDS]
    claims = [replace(ALL_KINDS[name], wordings=(f"Check this: {claim}",)) for name, claim in CLAIMS.items()]
    asked = ask(view, 6, rng, known) + ask(view, 6, rng, claims)
    talks = [(kind.name, question, answer) for kind, question, answer in asked]
    if len(images) == 1:
        said = " ".join(statement.text for statement in describe(first.facts, 0, rng))
        talks.append(("description", "Describe the picture.", said))
    return make_row(processor, [image.picture for image in images], talks)


def sample_rows(processor: LlavaProcessor, samples: Sequence[Sample]) -> list[Row]:
    """Make a row of each picture's samples."""
    grouped: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.image_id].append(sample)
    named = [[(f"{s.tags['kind']}|{s.tags['scanner']}", s.question, s.answer) for s in g] for g in grouped.values()]
    groups = zip(grouped.values(), named, strict=True)
    return [make_row(processor, group[0].pictures, talks) for group, talks in groups]


def forward(model: LlavaForConditionalGeneration, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Run rows; gives logits (M, vocabulary) and target tokens (M,), row after row."""
    device = model.device
    length = max(len(row.tokens) for row in rows)

    def padded(name: str, fill: int) -> torch.Tensor:
        values = np.full((len(rows), length), fill)
        for number, row in enumerate(rows):
            values[number, : len(row.tokens)] = getattr(row, name)
        return torch.from_numpy(values).to(device)

    place = torch.arange(length, device=device)
    query, key = place[:, None], place[None, :]
    mask = ((key <= query) & (query < padded("ends", -1)[:, None, :])) | (key == query)
    pixels = torch.from_numpy(np.concatenate([row.pixels for row in rows])).to(device)
    hidden = model.model(
        input_ids=padded("tokens", 0),
        pixel_values=(pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5,
        attention_mask=mask[:, None],
        position_ids=padded("positions", 0),
        use_cache=False,
    ).last_hidden_state
    targets = padded("targets", -100)
    return model.lm_head(hidden[targets != -100]), targets[targets != -100]


@torch.no_grad()
def right_by_name(model: LlavaForConditionalGeneration, rows: Sequence[Row]) -> dict[str, list[bool]]:
    """Tell for each conversation whether greedy decoding gives the answer, token for token, and then stops."""
    right: dict[str, list[bool]] = defaultdict(list)
    for first in range(0, len(rows), 32):
        batch = rows[first : first + 32]
        logits, targets = forward(model, batch)
        hits = (logits.argmax(-1) == targets).cpu().numpy()
        done = 0
        for row in batch:
            branches = row.branches[row.targets != -100]
            for number, name in enumerate(row.names):
                right[name].append(bool(hits[done : done + len(branches)][branches == number].all()))
            done += len(branches)
    return right


# ---------------------------------------------------------------- training


def token_weights(row: Row) -> NDArray[np.float32]:
    """Weigh a row's targets so that a description of n tokens counts like sqrt(n) one-token answers."""
    branches = row.branches[row.targets != -100]
    return (1 / np.sqrt(np.bincount(branches)))[branches].astype(np.float32)


def train(model: LlavaForConditionalGeneration, rows: Sequence[Row], steps: int) -> None:
    """Minimise the weighted cross-entropy with AdamW, a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(SEED)
    order: list[int] = []
    began = time.perf_counter()
    model.train()
    for step in range(steps):
        while len(order) < BATCH_SIZE:
            order += rng.permutation(len(rows)).tolist()
        batch, order = [rows[place] for place in order[:BATCH_SIZE]], order[BATCH_SIZE:]
        scale = min(1.0, (step + 1) / (0.03 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * scale
        logits, targets = forward(model, batch)
        weights = torch.from_numpy(np.concatenate([token_weights(row) for row in batch])).to(logits.device)
        loss = (F.cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % max(1, steps // 20) == 0 or step == steps - 1:
            print(f"step {step:6d}  loss {loss.item():.4f}  {time.perf_counter() - began:6.1f} s", flush=True)
    model.eval()


def print_table(title: str, right: dict[str, list[bool]]) -> None:
    """Print the share of right answers of each kind of question, and whether the base had met the kind."""
    closed = {kind.name for kind in ALL_KINDS.values() if kind.closed}
    print(f"\n{title}\n{'kind':20s} {'scanner A':>10s} {'scanner B':>10s}")
    for kind in sorted({name.split("|")[0] for name in right}, key=lambda kind: (kind not in KNOWN_KINDS, kind)):
        cells = [f"{np.mean(right[f'{kind}|{scanner}'] or [np.nan]):10.3f}" for scanner in "AB"]
        print(f"{kind:20s} {' '.join(cells)}  {'met' if kind in KNOWN_KINDS else 'new'}")
    values = [hit for name, hits in right.items() if name.split("|")[0] in closed for hit in hits]
    print(f"closed accuracy {np.mean(values):.3f} of {len(values)} questions")


def main() -> None:
    """Make the words, draw the pictures, train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--images", type=int, default=40_000, help="pictures to train on")
    parser.add_argument("--steps", type=int, default=1200, help=f"optimizer steps of {BATCH_SIZE} pictures")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    processor = make_processor(vocabulary_texts())
    model = make_model(processor).to("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters on {model.device}", flush=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        rows = list(pool.map(partial(base_row, processor), range(arguments.images), chunksize=200))
    print(f"drew {len(rows):,} rows of {np.mean([len(row.tokens) for row in rows]):.0f} tokens", flush=True)
    train(model, rows, arguments.steps)
    # Rounded before it is judged: what is measured is what is shipped.
    model = model.to(torch.bfloat16)
    model.save_pretrained(arguments.out)
    processor.save_pretrained(arguments.out)
    held_out = sample_rows(processor, phantom_samples(500, seed=SEED + 1))
    print_table("held-out pictures, every kind of question", right_by_name(model.float(), held_out))


if __name__ == "__main__":
    main()

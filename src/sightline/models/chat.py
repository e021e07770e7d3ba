"""The text side of a Hugging Face model: its own chat template and tokenizer, with character spans."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import MissingDataError, UnsupportedModelError
from sightline.records import Message

KEPT_TEXTS = 2**14
"""Texts whose tokens are remembered, some 20 MB: the same questions are asked of many pictures, and of every model."""


class Chat:
    """Renders and tokenises conversations as the model's own processor would.

    Args:
        processor: a transformers processor with a tokenizer and a chat template.
        template_file: a Jinja chat template to use instead of the model's own.

    Raises:
        MissingDataError: if there is no such template file.
        UnsupportedModelError: if there is no chat template, no fast tokenizer or no end token.
    """

    def __init__(self, processor: Any, template_file: Path | None = None) -> None:
        self.tokenizer = processor.tokenizer
        if template_file is not None and not template_file.is_file():
            raise MissingDataError(f"template: no file {template_file}; paths start from the study file's folder")
        own = getattr(processor, "chat_template", None) or self.tokenizer.chat_template
        if isinstance(own, dict):  # several by name, for tools and the like
            own = own.get("default")
        self.chat_template = template_file.read_text(encoding="utf-8") if template_file else own
        if not self.chat_template:
            raise UnsupportedModelError("the model has no chat template; name one (template: FILE)")
        if not self.tokenizer.is_fast:
            raise UnsupportedModelError(
                "the model has no fast tokenizer, so answers cannot be found by character spans"
            )
        if self.tokenizer.eos_token is None:
            raise UnsupportedModelError("the tokenizer has no end token, so the model could never learn to stop")
        # What the tokenizer itself puts before a text (a beginning-of-sequence token), unless the template wrote it.
        self.prefix_ids = [i for i in self.tokenizer("").input_ids if i != self.tokenizer.eos_token_id]
        self.prefix_text = self.tokenizer.decode(self.prefix_ids)
        self._text = functools.lru_cache(KEPT_TEXTS)(self._text_anew)
        self._tokens = functools.lru_cache(KEPT_TEXTS)(self._tokens_anew)

    def text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """Render a conversation; pictures are given to the template as content items, in their order."""
        return self._text(tuple(messages), generation_prompt)

    def _text_anew(self, messages: tuple[Message, ...], generation_prompt: bool) -> str:
        conversation = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in message.content
                ],
            }
            for message in messages
        ]
        return self.tokenizer.apply_chat_template(
            conversation,
            chat_template=self.chat_template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )

    def tokenize(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids [L] and character spans [L, 2]."""
        ids, spans = self._tokens(text)
        return ids.copy(), spans.copy()

    def _tokens_anew(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        prefix = [] if self.prefix_text and text.startswith(self.prefix_text) else self.prefix_ids
        ids = np.asarray([*prefix, *encoded["input_ids"]], dtype=np.int64)
        spans = np.asarray([(0, 0)] * len(prefix) + list(encoded["offset_mapping"]), dtype=np.int64)
        return ids, spans.reshape(-1, 2)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Turn generated tokens into an answer: special tokens removed, stripped."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True).strip()

"""A local model as an engine that is asked: a vision-language model through tree decoding, a text model as it comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import StudyError
from sightline.generation.answering import Wording, answer_samples, render_asked
from sightline.generation.calls import CUT, TOO_LONG, Call, Reply, ReplyDecoding, call_key
from sightline.generation.ledger import Ledger
from sightline.generation.sampling import Decoding
from sightline.models.loading import LoadedModel, base_identity, base_location, choose_dtype, compute_device
from sightline.records import Sample

Generate = Callable[[Mapping[str, Call], ReplyDecoding], Iterator[list[Reply]]]
"""Calls by key, and how to reply, to replies as they come."""

TEXT_BATCH = 8


@dataclasses.dataclass(kw_only=True, slots=True)
class LocalEngine:
    """A model on this machine that is asked; made by `vision_engine` or `text_engine`, it is a `Responder`.

    Args:
        identity: all that decides what it says: base, adapter, precision.
        generate: how it is run.
        ledger: where replies are kept and looked up; None keeps none.
    """

    identity: Mapping[str, str]
    generate: Generate = dataclasses.field(repr=False)
    ledger: Ledger | None = None

    def ask(
        self, calls: Sequence[Call], decoding: ReplyDecoding, *, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        """Ask many things at once; as `Responder.ask`. Schemas are not enforced."""
        keys = [call_key(self.identity, call, decoding) for call in calls]
        replies = {} if self.ledger is None else {k: r for k in keys if (r := self.ledger.answered.get(k))}
        todo = {key: call for key, call in zip(keys, calls, strict=True) if key not in replies}
        for batch in self.generate(todo, decoding) if todo else ():
            stopped = [_stopped(reply, decoding.stop) for reply in batch]
            if self.ledger is not None:
                self.ledger.store(stopped)
            for reply in stopped:
                replies[reply.key] = reply
                if on_reply is not None:
                    on_reply(reply)
        return [replies[key] for key in keys]


def vision_engine(
    give: Callable[[], LoadedModel], identity: Mapping[str, str], ledger: Ledger | None = None
) -> LocalEngine:
    """Make an engine of a vision-language model; prompts about one picture share it.

    Args:
        give: gives the model each time that it is asked, without an adapter that others have put on it meanwhile.
        identity: what the replies are kept under.
        ledger: where they are kept.
    """

    def generate(todo: Mapping[str, Call], decoding: ReplyDecoding) -> Iterator[list[Reply]]:
        samples = [
            Sample(
                id=key,
                pictures=call.pictures,
                messages=call.conversation,
                answer="",
                origin=call.name,
            )
            for key, call in todo.items()
        ]
        how = Decoding(
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed or 0,
        )
        loaded = give()
        lengths = map(len, render_asked(loaded, samples, Wording()))
        room = loaded.family.context_length - decoding.max_new_tokens
        fits = [length <= room for length in lengths]
        if left_out := [sample.id for sample, ok in zip(samples, fits, strict=True) if not ok]:
            yield [_too_long(key, identity.get("base", "")) for key in left_out]
        samples = [sample for sample, ok in zip(samples, fits, strict=True) if ok]
        for row in answer_samples(loaded, samples, how, model=identity.get("base", "judge"), data="judged"):
            yield [
                Reply(
                    key=answer.sample_id,
                    outcome="answered",
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    model=identity.get("base", ""),
                    num_completion_tokens=answer.num_tokens,
                )
                for answer in row
            ]

    return LocalEngine(identity=identity, generate=generate, ledger=ledger)


def text_engine(location: str, identity: Mapping[str, str], ledger: Ledger | None = None) -> LocalEngine:
    """Make an engine of a language model that knows no pictures, by the stock `generate`.

    Args:
        location: a hub name or a folder.
        identity: what the replies are kept under.
        ledger: where they are kept.
    """
    loaded: list[Any] = []

    def generate(todo: Mapping[str, Call], decoding: ReplyDecoding) -> Iterator[list[Reply]]:
        for call in todo.values():
            if call.pictures:
                raise StudyError(f"{call.name}: {location} knows no pictures; choose a vision-language model as judge")
        if not loaded:
            loaded.extend(_load_text_model(location))
        model, tokenizer = loaded
        name, room = identity.get("base", location), _context_length(model) - decoding.max_new_tokens
        texts = {key: _prompt_text(tokenizer, call.text) for key, call in todo.items()}
        lengths = {key: len(tokenizer(text)["input_ids"]) for key, text in texts.items()}
        if left_out := [key for key, length in lengths.items() if length > room]:
            yield [_too_long(key, name) for key in left_out]
        shortest_first = sorted((key for key in todo if lengths[key] <= room), key=lengths.__getitem__)
        for start in range(0, len(shortest_first), TEXT_BATCH):
            keys = shortest_first[start : start + TEXT_BATCH]
            yield _generate_text(model, tokenizer, keys, [texts[key] for key in keys], decoding, name=name)

    return LocalEngine(identity=identity, generate=generate, ledger=ledger)


def knows_pictures(location: str) -> bool:
    """Say whether a base is a vision-language model; one that cannot be had is left to `load_model` to name."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base_location(location), trust_remote_code=False)
    except (OSError, ValueError):
        return True
    return hasattr(config, "vision_config")


def text_identity(location: str) -> dict[str, str]:
    """Name exactly what a text model is: the folder's files, or the hub's commit."""
    from transformers import AutoConfig

    if Path(location).is_dir():
        return {"base": base_identity(location)}
    config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    return {"base": f"{location}@{config._commit_hash}"}


def _load_text_model(location: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = compute_device()
    tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = choose_dtype("auto", device)
    model: Any = AutoModelForCausalLM.from_pretrained(location, trust_remote_code=False, dtype=dtype)
    return model.to(device).eval(), tokenizer


def _context_length(model: Any) -> float:
    """Say how many tokens a text model was made for; no bound where its configuration names none."""
    return getattr(model.config, "max_position_embeddings", None) or float("inf")


def _prompt_text(tokenizer: Any, text: str) -> str:
    """Put a prompt into the model's chat template; a model without one continues the text as it is."""
    if not tokenizer.chat_template:
        return text
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _generate_text(
    model: Any, tokenizer: Any, keys: Sequence[str], texts: Sequence[str], decoding: ReplyDecoding, *, name: str
) -> list[Reply]:
    import torch

    # A template writes its own beginning-of-sequence token.
    plain = not tokenizer.chat_template
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=plain).to(model.device)
    arguments: dict[str, Any] = {"max_new_tokens": decoding.max_new_tokens, "pad_token_id": tokenizer.pad_token_id}
    arguments |= {"do_sample": decoding.temperature > 0, "temperature": None, "top_p": None, "top_k": None}
    if decoding.temperature > 0:
        # Drawn by the batch: the seed is the first call's key, so that a call asked again is drawn anew.
        torch.manual_seed((decoding.seed or 0) + int(keys[0][:12], 16))
        arguments |= {"temperature": decoding.temperature, "top_p": decoding.top_p}
    with torch.no_grad():
        output_NL = model.generate(**inputs, **arguments)[:, inputs["input_ids"].shape[1] :]
    ends = model.generation_config.eos_token_id
    end_ids = set(ends if isinstance(ends, list) else [ends if ends is not None else tokenizer.eos_token_id])
    replies = []
    for key, tokens in zip(keys, output_NL.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(tokens) if token in end_ids), None)
        replies.append(
            Reply(
                key=key,
                outcome="answered",
                text=tokenizer.decode(tokens[:length], skip_special_tokens=True).strip(),
                finish_reason=CUT if length is None else "stop",
                model=name,
                num_completion_tokens=length or len(tokens),
            )
        )
    return replies


def _too_long(key: str, name: str) -> Reply:
    """Reply to what the model cannot be asked; asked again, it would be no shorter."""
    return Reply(key=key, outcome="answered", finish_reason=TOO_LONG, model=name, num_tries=0)


def _stopped(reply: Reply, stop: Sequence[str]) -> Reply:
    """End a reply at the first of the texts that end one."""
    places = [place for text in stop if (place := reply.text.find(text)) >= 0]
    if not places:
        return reply
    return dataclasses.replace(reply, text=reply.text[: min(places)], finish_reason="stop")

"""The remote engine: any server that speaks OpenAI's chat format, asked by many workers at once, losing nothing.

A reply is on disk before it counts; what is on disk is never asked for again. A call that cannot be answered becomes a
failed reply, and a server that does not answer at all ends the run without one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sightline.errors import StudyError
from sightline.generation.calls import Call, Reply, ReplyDecoding, call_key
from sightline.generation.chat_format import picture_url, read_completion, write_turn
from sightline.generation.keys import Key, read_key, refuse_secrets_in
from sightline.generation.ledger import Ledger
from sightline.generation.pace import Pace
from sightline.generation.retries import (
    Fault,
    Health,
    ServerDownError,
    backoff_seconds,
    fault_of,
)
from sightline.records import Picture

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Result = TypeVar("Result")

PICTURE_TOKENS = 1000
"""What a picture is taken to cost before the server has counted: about a megapixel's worth."""

BYTES_PER_TOKEN = 3
REPLY_TOKENS = 500
"""What a reply is taken to cost before the server has counted."""

OPTIONAL: Mapping[str, tuple[re.Pattern[str], str | None]] = {
    "response_format": (re.compile("response.?format|json.?schema|structured", re.IGNORECASE), None),
    "max_completion_tokens": (re.compile("max_completion_tokens"), "max_tokens"),
}
"""Arguments that not every server knows: how a refusal names them, and what is sent instead."""


@dataclass(kw_only=True, slots=True)
class RemoteEngine:
    """A server and a model on it; made by `connect`, it is a `Responder`.

    Args:
        server: address up to and with "/v1".
        model: the server's name of the model; None until the first call where the server has only one.
        key: sent to the server and shown nowhere.
        send_images: whether pictures may be sent there.
        concurrency: most calls in flight.
        pace: requests and tokens a minute.
        timeout_seconds: longest wait for one whole reply.
        num_tries: how often a call is sent before it counts as failed.
        ledger: where replies are kept and looked up; None keeps none.
    """

    server: str
    model: str | None
    key: Key = field(repr=False)
    send_images: bool = False
    concurrency: int = 16
    pace: Pace = field(default_factory=Pace)
    timeout_seconds: float = 120.0
    num_tries: int = 6
    ledger: Ledger | None = None
    has_answered: bool = field(default=False, init=False)
    """Whether the server ever did; until then it is asked one thing at a time."""
    refused: dict[str, str] = field(default_factory=dict, init=False)
    """Arguments that the server refused, with what it said; see `OPTIONAL`."""
    _pictures: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def identity(self) -> Mapping[str, str]:
        """The server and its model."""
        return {"server": self.server, "model": self.model or ""}

    def ask(
        self, calls: Sequence[Call], decoding: ReplyDecoding, *, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        """Ask many things at once.

        Args:
            calls: what is asked; equal calls are sent once.
            decoding: how replies are generated.
            on_reply: told of each reply that comes now, once it is stored.

        Returns:
            One reply per call, in their order; a call that failed for good has a failed reply.

        Raises:
            StudyError: a call shows a picture and `send_images` is not set; nothing has been sent then.
            ServerDownError: the server does not answer; replies so far are in the ledger.
        """
        for call in calls:
            if call.pictures and not self.send_images:
                raise StudyError(
                    f"{call.name}: asking would send picture {call.pictures[0].name} to {self.server}; allow it with "
                    "`send_images: true`, or do not ask this server about pictures"
                )
        return run_to_the_end(self._ask(calls, decoding, on_reply or (lambda reply: None)))

    async def _ask(
        self, calls: Sequence[Call], decoding: ReplyDecoding, on_reply: Callable[[Reply], None]
    ) -> list[Reply]:
        if self.model is None:
            async with self._client() as client:
                self.model = await self._only_model(client)
        keys = [call_key(self.identity, call, decoding) for call in calls]
        replies = {} if self.ledger is None else {k: r for k in keys if (r := self.ledger.answered.get(k))}
        todo = {key: call for key, call in zip(keys, calls, strict=True) if key not in replies}
        if todo:
            async with self._client() as client:
                round = _Round(self, client, decoding, iter(todo.items()), replies, on_reply)
                workers = [asyncio.create_task(round.work(n)) for n in range(min(self.concurrency, len(todo)))]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
                    await round.store_rest()
                round.health.round_ended()
        return [replies[key] for key in keys]

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        client = AsyncOpenAI(
            base_url=self.server,
            api_key=self.key.reveal(),
            max_retries=0,  # ours know what is worth another try, and write down that there was one
            timeout=self.timeout_seconds,
            # Nothing follows a redirect: prompts and pictures go where the study says.
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),
        )
        client.organization = client.project = None  # those of OPENAI_ORG_ID are no business of another server
        return client

    async def _only_model(self, client: AsyncOpenAI) -> str:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                names = [model.id for model in (await client.models.list()).data]
        except Exception as error:
            fault = fault_of(error, self.key.hide_in)
            raise ServerDownError(f"{self.server}: its models cannot be listed ({fault}); name one as model") from None
        if len(names) != 1:
            raise StudyError(f"{self.server} has {len(names)} models ({', '.join(names[:8])}); name one as model")
        return names[0]

    async def data_url(self, picture: Picture) -> str:
        """Write a picture as PNG, which carries nothing but its pixels; the last few are remembered."""
        if picture.sha256 not in self._pictures:
            url = await asyncio.to_thread(picture_url, picture)
            while len(self._pictures) >= 2 * self.concurrency:
                self._pictures.pop(next(iter(self._pictures)))
            self._pictures[picture.sha256] = url
        return self._pictures[picture.sha256]

    def does_without(self, fault: Fault, arguments: Mapping[str, Any]) -> bool:
        """Say whether a refusal is about an argument that we can do without; from now on we do."""
        if fault.kind != "refused":
            return False
        named = [name for name, (words, _) in OPTIONAL.items() if name in arguments and words.search(fault.said)]
        self.refused |= {name: fault.said for name in named}
        return bool(named)


@dataclass(slots=True)
class _Round:
    """One `ask`: what its workers share."""

    engine: RemoteEngine
    client: AsyncOpenAI
    decoding: ReplyDecoding
    todo: Iterator[tuple[str, Call]]
    replies: dict[str, Reply]
    on_reply: Callable[[Reply], None]
    health: Health = field(init=False)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    unstored: list[Reply] = field(default_factory=list)
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.health = Health(server=self.engine.server, has_answered=self.engine.has_answered)
        if self.engine.has_answered:
            self.answered.set()

    async def work(self, number: int) -> None:
        """Make one call after another until none is left; the first worker finds out whether the server is there."""
        if number:
            await self.answered.wait()
        await self._work()
        self.answered.set()  # and if it never was there, the others find nothing left to do

    async def _work(self) -> None:
        for key, call in self.todo:
            if self.engine.ledger is not None:
                self.engine.ledger.note_sent(key)
            reply, fault = await self._answer(key, call)
            await self._store(reply)
            self.replies[key] = reply
            self.on_reply(reply)
            if fault is not None:
                self.health.call_failed(fault)

    async def _store(self, reply: Reply) -> None:
        """Return once the reply is on disk; replies that come together are synced together."""
        if self.engine.ledger is None:
            return
        self.unstored.append(reply)
        async with self.storing:
            await self.store_rest()

    async def store_rest(self) -> None:
        """Store what has come and is not stored yet; workers that were stopped leave such replies."""
        if self.unstored and self.engine.ledger is not None:
            batch, self.unstored = self.unstored, []
            await asyncio.to_thread(self.engine.ledger.store, batch)

    async def _answer(self, key: str, call: Call) -> tuple[Reply, Fault | None]:
        num_failed = num_lost = 0
        while True:
            arguments = await self._arguments(call)
            entry = await self.engine.pace.wait(self._estimated_tokens(call))
            try:
                async with asyncio.timeout(self.engine.timeout_seconds):
                    raw = await self.client.chat.completions.with_raw_response.create(**arguments)
                found = read_completion(raw.text, self.engine.key.hide_in, may_be_empty=call.may_be_empty)
            except Exception as error:
                fault = fault_of(error, self.engine.key.hide_in)
            else:
                self.health.answered()
                self.engine.has_answered = True
                self.answered.set()
                tokens = (found["num_prompt_tokens"] or 0) + (found["num_completion_tokens"] or 0)
                if tokens:
                    self.engine.pace.correct(entry, tokens)
                return Reply(
                    key=key,
                    outcome="answered",
                    num_tries=num_failed + 1,
                    num_lost=num_lost,
                    structured="response_format" in arguments,
                    **found,
                ), None
            if self.engine.does_without(fault, arguments):
                continue
            num_failed += 1
            num_lost += fault.is_lost
            self.health.try_failed(fault)
            if not fault.is_worth_another_try or num_failed >= self.engine.num_tries:
                reason = f"{fault} (tries: {num_failed})"
                return Reply(key=key, outcome="failed", reason=reason, num_tries=num_failed, num_lost=num_lost), fault
            if fault.wait_seconds is not None:
                self.engine.pace.rest(fault.wait_seconds)
            else:
                await asyncio.sleep(backoff_seconds(num_failed))

    async def _arguments(self, call: Call) -> dict[str, Any]:
        urls = [await self.engine.data_url(picture) for picture in call.pictures]
        arguments: dict[str, Any] = {
            "model": self.engine.model,
            "messages": [write_turn(message, urls) for message in call.conversation],
            "max_completion_tokens": self.decoding.max_new_tokens,
            "temperature": self.decoding.temperature,
        }
        if self.decoding.top_p is not None:
            arguments["top_p"] = self.decoding.top_p
        if self.decoding.stop:
            arguments["stop"] = list(self.decoding.stop)
        if self.decoding.seed is not None and self.decoding.temperature > 0:
            arguments["seed"] = self.decoding.seed + call.number
        if call.schema is not None:
            schema = {"name": "reply", "schema": call.schema, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        for name in self.engine.refused.keys() & arguments.keys():
            value, (_, instead) = arguments.pop(name), OPTIONAL[name]
            if instead is not None:
                arguments[instead] = value
        return arguments

    @staticmethod
    def _estimated_tokens(call: Call) -> int:
        num_bytes = sum(len(message.text.encode()) for message in call.conversation)
        return num_bytes // BYTES_PER_TOKEN + PICTURE_TOKENS * len(call.pictures) + REPLY_TOKENS


def connect(
    server: str,
    model: str | None = None,
    *,
    key_env: str | None = None,
    send_images: bool = False,
    ledger: Ledger | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int = 16,
    timeout_seconds: float = 120.0,
    num_tries: int = 6,
) -> RemoteEngine:
    """Make an engine; nothing is sent yet.

    Args:
        key_env: environment variable that holds the key; None for a server without keys.
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit.
        Others as in `RemoteEngine`.

    Raises:
        StudyError: the address is none, or holds a secret; or the variable holds no key.
    """
    refuse_secrets_in(server)
    return RemoteEngine(
        server=server,
        model=model,
        key=read_key(key_env, where=server),
        send_images=send_images,
        concurrency=concurrency,
        pace=Pace(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute),
        timeout_seconds=timeout_seconds,
        num_tries=num_tries,
        ledger=ledger,
    )


def run_to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, in a notebook, too, whose thread has a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()

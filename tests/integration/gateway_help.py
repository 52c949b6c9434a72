"""A gateway between a plain HTTP client and the stand-in model, for the tests of the gateway."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from daemon.budgets import Budget, Limits, Raise
from daemon.clock import Clock, ManualClock, SystemClock
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.gateway import (
    CallObserved,
    ModelGateway,
    Nearing,
    Outcome,
    Patience,
    Upstream,
    open_dialect,
)
from daemon.gateway.upstreams import Dialect
from daemon.model import (
    ConversationId,
    Message,
    ModelCall,
    Priority,
    Sender,
    StoredMessage,
    Trust,
    Turn,
    TurnId,
    Workspace,
    new_message_id,
)

KEY = "sk-ant-canary-of-the-real-key"
MODEL = "claude-sonnet-5"
SECONDS = 20.0
NO_LIMITS = Limits()


def turn(
    name: str = "turn-1",
    *,
    attempt: int = 1,
    conversation: str = "slack:T1:C1:1.1",
    sender: str = "slack:T1:U1",
    trust: Trust = Trust.MEMBER,
    channel: str = "C1",
) -> Turn:
    message = Message(
        connector="slack",
        outside_id="T1/C1/1.1",
        conversation=ConversationId(conversation),
        sender=Sender(sender, "Ada", trust),
        text="hello",
        sent_at=0.0,
        priority=Priority.CHAT,
        target={"channel": channel},
    )
    return Turn(
        id=TurnId(name),
        conversation=message.conversation,
        connector="slack",
        trust=trust,
        workspace=Workspace("w", Path("w"), str(uuid.uuid4())),
        messages=(StoredMessage(new_message_id(), message, 0.0),),
        claimed_at=0.0,
        attempt=attempt,
    )


def ask(
    text: str = "[[say:ok]]", *, stream: bool = True, model: str = MODEL, max_tokens: int = 1000
) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    }


@dataclass
class Book:
    """What the gateway needs of the ledger, in memory. `before` is what was booked on a budget
    before the gateway started; `gate`, while set, holds bookings back.
    """

    calls: list[ModelCall] = field(default_factory=list)
    before: dict[Budget, float] = field(default_factory=dict)
    raised: tuple[Raise, ...] = ()
    asked_since: list[float] = field(default_factory=list)
    gate: asyncio.Event | None = None
    failure: Exception | None = None

    async def book(self, call: ModelCall) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.calls.append(call)

    async def spent(self, budgets: Sequence[Budget], since: float) -> tuple[float, ...]:
        self.asked_since.append(since)
        return tuple(self.before.get(budget, 0.0) for budget in budgets)

    async def raises(self) -> tuple[Raise, ...]:
        return self.raised


@dataclass
class Rig:
    gateway: ModelGateway
    dialect: Dialect
    model: StandInModel
    http: aiohttp.ClientSession
    book: Book
    clock: Clock
    observed: list[CallObserved]
    nearing: list[Nearing]
    keys: list[bool]
    _news: asyncio.Condition

    def token(self, opened: Turn | None = None) -> str:
        """A new token; with a turn, opened for it."""
        token = self.gateway.issue()
        if opened is not None:
            self.gateway.open_turn(token, opened)
        return token

    def post(
        self,
        token: str,
        body: dict[str, Any] | bytes | None = None,
        path: str = "/v1/messages?beta=true",
        headers: dict[str, str] | None = None,
    ) -> aiohttp.client._RequestContextManager:
        data = body if isinstance(body, bytes) else json.dumps(body or ask()).encode()
        return self.http.post(
            self.gateway.url + path,
            data=io.BytesIO(data),
            headers={"x-api-key": token, "content-type": "application/json", **(headers or {})},
        )

    async def say(self, token: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        async with self.post(token, body) as answer:
            return answer.status, await answer.read()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until it holds, looked at after every call that ends. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(holds)

    def outcomes(self) -> list[Outcome]:
        return [seen.outcome for seen in self.observed]


Placed = AbstractAsyncContextManager[tuple[Upstream, str]]
Front = Callable[[StandInModel, str | None, str], Placed]
"""What stands before the stand-in model, of its other url and key: where it is, and a key."""


@asynccontextmanager
async def straight(
    model: StandInModel, url: str | None, api_key: str
) -> AsyncIterator[tuple[Upstream, str]]:
    """Nothing: it speaks as Anthropic's API does."""
    yield Upstream(url=url or model.url), api_key


@asynccontextmanager
async def rig(
    *,
    limits: Limits = NO_LIMITS,
    clock: Clock | None = None,
    book: Book | None = None,
    api_key: str = KEY,
    patience: Patience | None = None,
    front: Front = straight,
    url: str | None = None,
    model: str = MODEL,
) -> AsyncIterator[Rig]:
    book, clock = book or Book(), clock or SystemClock()
    observed: list[CallObserved] = []
    nearing: list[Nearing] = []
    keys: list[bool] = []
    news = asyncio.Condition()
    telling: set[asyncio.Task[None]] = set()

    async def tell() -> None:
        async with news:
            news.notify_all()

    def observe(seen: CallObserved) -> None:
        observed.append(seen)
        task = asyncio.get_running_loop().create_task(tell())
        telling.add(task)
        task.add_done_callback(telling.discard)

    async with (
        StandInModel(script=directed, api_key=KEY) as standing,
        front(standing, url, api_key) as (upstream, key),
    ):
        dialect = open_dialect(upstream, key, clock)
        gateway = ModelGateway(
            dialect=dialect,
            model=model,
            clock=clock,
            limits=limits,
            books=book,
            observe=observe,
            nearing=nearing.append,
            channel_of=lambda turn: str(turn.messages[0].message.target.get("channel", "")),
            key_changed=keys.append,
            patience=patience,
        )
        async with gateway, aiohttp.ClientSession(auto_decompress=False) as http:
            yield Rig(gateway, dialect, standing, http, book, clock, observed, nearing, keys, news)


@asynccontextmanager
async def on_a_day(
    start: float, limits: Limits, book: Book | None = None, model: str = MODEL
) -> AsyncIterator[tuple[Rig, ManualClock]]:
    """A rig whose clock stands at `start` until a test turns it."""
    clock = ManualClock(start)
    async with rig(clock=clock, limits=limits, book=book, model=model) as built:
        yield built, clock


async def raw(port: int, request: bytes) -> bytes:
    """Send bytes as they are; what comes back until the gateway closes or has answered once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            return head + await reader.readexactly(length)
    finally:
        writer.close()

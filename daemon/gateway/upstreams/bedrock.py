"""Claude on Amazon Bedrock: InvokeModel and InvokeModelWithResponseStream.

The model stands in the path, what streams comes as events of AWS's own, each with one event of the
Messages API in base64. Source:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
and .../APIReference/API_runtime_InvokeModelWithResponseStream.html.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote

from yarl import URL

from daemon.clock import Clock
from daemon.credentials import AccessKey, aws_key
from daemon.gateway.upstreams.dialect import (
    AsItIs,
    GarbledError,
    Order,
    Reader,
    Upstream,
    Wish,
    betas,
)
from daemon.gateway.upstreams.errors import ErrorReader
from daemon.gateway.upstreams.eventstream import EventBuffer, EventMessage
from daemon.gateway.upstreams.sigv4 import signed

VERSION = "bedrock-2023-05-31"
SERVICE = "bedrock"
REGIONAL = 1.1  # times the price, by any inference profile but a global one (about-claude/pricing)
# Of the experiments that the CLI asks for beside this API, those that it puts into Bedrock's body.
BETAS = frozenset({"interleaved-thinking-2025-05-14"})
# What goes wrong in the middle of a stream, by the Messages API's words: ResponseStream's errors.
_ERRORS = {
    "throttlingException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "validationException": "invalid_request_error",
}


class Bedrock:
    """The `Dialect` of one region. Agents may ask for the models whose ids are given (of a model or
    an inference profile, or an ARN). Raises ValueError for a key that is none.
    """

    without = frozenset({"model", "stream"})
    counts = False
    refusals = frozenset({401, 403})

    def __init__(self, upstream: Upstream, key: str, clock: Clock) -> None:
        own = f"https://bedrock-runtime.{upstream.region}.amazonaws.com"
        self._url = (upstream.url or own).rstrip("/")
        self._region, self._models, self._clock = upstream.region, upstream.models, clock
        self.use_key(key)

    def has(self, model: str) -> bool:
        return model in self._models

    def premium(self, model: str) -> float:
        return 1.0 if self._models.get(model, "").startswith("global.") else REGIONAL

    async def order(self, wish: Wish) -> Order:
        asked = wish.judged.asked
        verb = "invoke-with-response-stream" if asked.streams else "invoke"
        address = f"{self._url}/model/{quote(self._models[asked.model], safe='')}/{verb}"
        wanted = [beta for beta in betas(wish.headers) if beta in BETAS]
        more = {"anthropic_beta": wanted} if wanted else {}
        body = wish.judged.body(wish.max_tokens, anthropic_version=VERSION, **more)
        headers = {"content-type": "application/json", "accept": "application/json"}
        added = self._credentials(address, headers, body)
        sent = {**headers, **added, "accept-encoding": "identity"}
        return Order(URL(address, encoded=True), list(sent.items()), body)

    def read(self, status: int, headers: Mapping[str, str]) -> Reader:
        if status != 200:
            return ErrorReader(status)
        kind = headers.get("content-type", "")
        return StreamReader() if "vnd.amazon.eventstream" in kind else AsItIs()

    def refused(self) -> None:
        """Nothing is derived from the key."""

    def use_key(self, key: str) -> None:
        self._key = aws_key(key)

    def _credentials(self, address: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        if not isinstance(self._key, AccessKey):
            return {"authorization": f"Bearer {self._key}"}
        return signed(
            self._key,
            method="POST",
            url=address,
            headers=headers,
            body=body,
            region=self._region,
            service=SERVICE,
            at=self._clock.now(),
        )


class StreamReader:
    """Bedrock's events in, the Messages API's server-sent events out."""

    content_type: str | None = "text/event-stream; charset=utf-8"

    def __init__(self) -> None:
        self._events = EventBuffer()

    def feed(self, chunk: bytes) -> bytes:
        return b"".join(map(_told, self._events.feed(chunk)))

    def end(self) -> bytes:
        if not self._events.empty:
            raise GarbledError("the answer ends within a message")
        return b""


def _told(message: EventMessage) -> bytes:
    """What a message says, as a server-sent event; nothing of those that later versions may add."""
    if message.headers.get(":message-type") != "event":
        return _error(message.headers)
    if message.headers.get(":event-type") != "chunk":
        return b""
    try:
        event = json.loads(base64.b64decode(json.loads(message.payload)["bytes"], validate=True))
        kind = event["type"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GarbledError("an event holds none of the Messages API") from None
    return b"event: %s\ndata: %s\n\n" % (kind, json.dumps(event).encode())


def _error(headers: Mapping[str, str]) -> bytes:
    kind = _ERRORS.get(headers.get(":exception-type", ""), "api_error")
    error = {"type": "error", "error": {"type": kind, "message": "The model broke off."}}
    return b"event: error\ndata: %s\n\n" % json.dumps(error).encode()

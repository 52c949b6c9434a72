"""What the doors share: a server in front of the model's, and what a body may hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

SKEW_SECONDS = 300  # AWS takes signatures of the last five minutes
KEYS = frozenset(
    {
        *("messages", "system", "tools", "tool_choice", "metadata", "max_tokens", "thinking"),
        *("temperature", "top_p", "top_k", "stop_sequences", "output_config"),
        "anthropic_version",
    }
)
Json = dict[str, Any]


class Cloud(ABC):
    """A server in front of the model's, which has `model_key`; an async context manager. `asked`
    counts requests that were let through.
    """

    def __init__(self, model_url: str, model_key: str) -> None:
        self.asked = 0
        self._model_url, self._model_key = model_url, model_key
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        self.add_routes(app.router)
        self._session = aiohttp.ClientSession()
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner:
            await self._runner.cleanup()
        await self._session.close()

    @abstractmethod
    def add_routes(self, router: web.UrlDispatcher) -> None: ...

    def ask(self, body: Json) -> aiohttp.client._RequestContextManager:
        self.asked += 1
        headers = {"x-api-key": self._model_key}
        return self._session.post(f"{self._model_url}/v1/messages", json=body, headers=headers)


def odd_in(body: Json, keys: frozenset[str], version: str) -> str:
    """Why a body is refused; "": it is not."""
    if body.get("anthropic_version") != version:
        return "anthropic_version: Input should be " + version
    strange = sorted(body.keys() - keys)
    return f"{strange[0]}: Extra inputs are not permitted" if strange else ""


def cut(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()

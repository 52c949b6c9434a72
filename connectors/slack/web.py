"""The Web API: two clients over one HTTP session, and what an answer of it means.

`safe` repeats a call after connection errors and 5xx, `once` never does: the SDK's default posts
twice when the answer to chat.postMessage is lost (measured).
"""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from connectors.slack.config import LOOPBACK, SlackTable
from connectors.slack.limits import Limited
from daemon.errors import PostroomError, Unavailable

TIMEOUT_SECONDS = 15
DEFAULT_RETRY_AFTER_SECONDS = 30.0  # where a 429 does not say it
# These say that no further call can work until somebody acts (docs.slack.dev: common errors).
AUTH_CODES = frozenset(
    {
        "access_denied", "account_inactive", "ekm_access_denied", "invalid_auth", "missing_scope",
        "no_permission", "not_allowed_token_type", "not_authed", "org_login_required",
        "team_access_not_granted", "token_expired", "token_revoked",
    }
)  # fmt: skip
# The call may have been carried out in part: docs say so of these two.
DOUBTFUL_CODES = frozenset({"fatal_error", "internal_error"})


class Refused(PostroomError):
    """Slack answered `ok: false`: `code` is its error, and nothing was done. `needed` are the
    scopes that were missing, where that was it.
    """

    def __init__(self, code: str, needed: str = "") -> None:
        super().__init__(f"Slack refused: {code}")
        self.code = code
        self.needed = needed


class Unanswered(Unavailable):
    """No answer that can be read. `sent` False: the request did not even leave."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


def quiet_logger() -> logging.Logger:
    """The SDK's packages log whole payloads at debug: never, whatever the level elsewhere is."""
    logger = logging.getLogger("postroom.slack")
    logger.setLevel(logging.WARNING)
    return logger


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL. Never for loopback: the SDK by itself
    would send even that through HTTPS_PROXY, and knows no NO_PROXY.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


async def answer_of(call: Awaitable[AsyncSlackResponse]) -> dict[str, Any]:
    """The JSON object of an answer. Raises as `response_of`."""
    data = (await response_of(call)).data
    assert isinstance(data, dict)  # noqa: S101 - `response_of` lets nothing else through
    return data


async def response_of(call: Awaitable[AsyncSlackResponse]) -> AsyncSlackResponse:
    """An answer that is a JSON object and says ok, with its headers. Raises Refused, Limited
    (nothing was done), Unanswered.
    """
    try:
        response = await call
    except SlackApiError as error:
        raise _meaning(error) from error
    except aiohttp.ClientConnectorError as error:
        raise Unanswered("Slack cannot be reached", sent=False) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unanswered(f"no answer from Slack ({type(error).__name__})") from error
    except (AttributeError, ValueError) as error:  # the SDK's, over a body that is not an object
        raise Unanswered("Slack's answer makes no sense") from error
    if not isinstance(response.data, dict):
        raise Unanswered("Slack's answer makes no sense")
    return response


def _meaning(error: SlackApiError) -> PostroomError:
    response = error.response
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 0)
    data = getattr(response, "data", None)
    code = data.get("error") if isinstance(data, dict) else None
    if status == 429 or code == "ratelimited":
        return Limited("Slack's rate limit", _retry_after(getattr(response, "headers", {})))
    if status >= 500 or not isinstance(code, str) or code in DOUBTFUL_CODES:
        return Unanswered(f"Slack answered {code or status}")
    needed = data.get("needed") if isinstance(data, dict) else None
    return Refused(code, needed if isinstance(needed, str) else "")


def _retry_after(headers: Any) -> float:
    try:
        return max(1.0, float(headers.get("Retry-After")))
    except (AttributeError, TypeError, ValueError):
        return DEFAULT_RETRY_AFTER_SECONDS


class Web:
    """Both clients. Outside `session()` they work too, each call with a connection of its own."""

    def __init__(self, table: SlackTable) -> None:
        self._token = table.bot_token
        self.logger = quiet_logger()
        self.proxy = proxy_for(table.api_url)
        token = table.bot_token.reveal()
        self.safe = self._client(table.api_url, token)
        self.once = self._client(table.api_url, token)
        self.safe.retry_handlers = [
            AsyncConnectionErrorRetryHandler(max_retry_count=1),
            AsyncServerErrorRetryHandler(max_retry_count=1),
        ]

    def _client(self, api_url: str, token: str) -> AsyncWebClient:
        client = AsyncWebClient(
            token,
            base_url=api_url,
            timeout=TIMEOUT_SECONDS,
            logger=self.logger,
            retry_handlers=[],
        )
        client.proxy = self.proxy  # set afterwards: the constructor asks the environment
        return client

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """One session for all calls: a call without it costs a TLS handshake (measured). With the
        token as it is now: the secret may have been read anew.
        """
        self.safe.token = self.once.token = self._token.reveal()
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=60),
        ) as session:
            self.safe.session = self.once.session = session
            try:
                yield session
            finally:
                self.safe.session = self.once.session = None

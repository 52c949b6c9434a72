"""How a command reaches the daemon: over its own HTTP door, else, to read, its ledger."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from daemon.config import Config
from daemon.errors import ConfigError, NotReachable

if TYPE_CHECKING:
    from daemon.ledger import ReadOnlyLedger

T = TypeVar("T")

ANSWER_SECONDS = 10.0
LIVE_SECONDS = 4.0  # below the five that a container's health command gets


def get(config: Config, *path: str) -> dict[str, Any] | None:
    """The daemon's answer; None when no daemon runs. An unknown id, or what cannot be done, gives
    {"error": ...}. Raises NotReachable where something else answers, or the daemon is in trouble.
    """
    return _call(config, path, post=False)


def post(config: Config, *path: str) -> dict[str, Any] | None:
    """As `get`, for what changes something."""
    return _call(config, path, post=True)


def alive(config: Config) -> bool:
    """Whether `/livez` answers that the daemon lives."""
    try:
        with _open(f"http://{config.daemon.own_address}/livez", LIVE_SECONDS) as answer:
            return bool(answer.status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False


def from_ledger(config: Config, read: Callable[[ReadOnlyLedger], Awaitable[T]]) -> T:
    """Read the ledger itself. Raises NotReachable where there is none, LedgerError."""
    from daemon.ledger import read_only

    async def reading() -> T:
        ledger = await read_only(config.daemon.data_dir)
        try:
            return await read(ledger)
        finally:
            await ledger.close()

    if not (config.daemon.data_dir / "ledger.db").exists():
        raise NotReachable(down(config))
    return asyncio.run(reading())


def down(config: Config) -> str:
    return f"no daemon answers on {config.daemon.listen}; start it with `postroom run`"


def _call(config: Config, path: tuple[str, ...], *, post: bool) -> dict[str, Any] | None:
    listen = config.daemon.listen
    stranger = NotReachable(f"what answers on {listen} is no Postroom daemon; see daemon.listen")
    address = "/".join(quote(part, safe="") for part in path)
    request = urllib.request.Request(
        f"http://{config.daemon.own_address}/api/v1/{address}",
        data=b"" if post else None,
        headers={"X-Postroom": "1", **_token(config)},
        method="POST" if post else "GET",
    )
    try:
        with _open(request, ANSWER_SECONDS) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    except TimeoutError:
        raise NotReachable(f"the daemon on {listen} does not answer; see its log") from None
    except http.client.HTTPException:
        raise stranger from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise NotReachable(f"the daemon on {listen} does not answer; see its log") from None
        return None
    except OSError:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        raise stranger from None
    if not isinstance(told, dict):
        raise stranger
    if status not in {http.client.OK, http.client.NOT_FOUND}:
        raise NotReachable(f"the daemon answered {status}: {told.get('error', 'no reason')}")
    return told


def _token(config: Config) -> dict[str, str]:
    """The header that shows the daemon's token. Raises ConfigError where it cannot be read."""
    secret = config.daemon.api_token
    if secret is None:
        return {}
    try:
        secret.read(os.environ)
    except ConfigError as error:
        raise ConfigError(f"daemon.api_token: {error}") from error
    return {"Authorization": f"Bearer {secret.reveal()}"}


def _open(request: str | urllib.request.Request, seconds: float) -> Any:
    """Never through a proxy: it is this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=seconds)

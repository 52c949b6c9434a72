from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from daemon import config as configuration
from daemon.commands import asking
from daemon.commands.reading import ask, check_alive
from daemon.config import Config
from daemon.errors import ConfigError, NotReachable, PostroomError
from daemon.secret import Secret

TOKENS = {"app_token": {"env": "SLACK_APP_TOKEN"}, "bot_token": {"env": "SLACK_BOT_TOKEN"}}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def config(port: int, data: Path = Path("nowhere")) -> Config:
    return configuration.parse(
        {
            "daemon": {"listen": f"127.0.0.1:{port}", "data_dir": str(data)},
            "connectors": {"slack": {"kind": "slack", **TOKENS}},
        }
    )


@asynccontextmanager
async def site(handler: Handler) -> AsyncIterator[Config]:
    """Something that answers every request on the daemon's address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield config(runner.addresses[0][1])
    await runner.cleanup()


@asynccontextmanager
async def server(says: bytes) -> AsyncIterator[Config]:
    """Something that speaks no HTTP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(says)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield config(listening.sockets[0].getsockname()[1])
    listening.close()
    await listening.wait_closed()


async def test_an_id_with_any_sign_in_it_arrives_whole() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({"id": 1})

    async with site(handler) as its:
        odd = "<a/b?c#d%2F@x>"
        assert await asyncio.to_thread(asking.get, its, "trace", odd) == {"id": 1}
    assert seen == [f"/api/v1/trace/{odd}"]


async def test_what_changes_something_is_posted_with_our_mark() -> None:
    async def handler(request: web.Request) -> web.Response:
        marked = request.method == "POST" and request.headers["X-Postroom"] == "1"
        return web.json_response({"done": marked})

    async with site(handler) as its:
        assert await asyncio.to_thread(asking.post, its, "dead", "x", "retry") == {"done": True}


async def test_the_daemons_token_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"shown": request.headers.get("Authorization")})

    async with site(handler) as its:
        assert await asyncio.to_thread(asking.get, its, "status") == {"shown": None}
        token = {"api_token": Secret(env="API_TOKEN")}
        guarded = its.model_copy(update={"daemon": its.daemon.model_copy(update=token)})
        with pytest.raises(ConfigError, match=r"daemon\.api_token: the environment has no API_TO"):
            await asyncio.to_thread(asking.get, guarded, "status")
        monkeypatch.setenv("API_TOKEN", "a-token-of-the-tests")
        told = await asyncio.to_thread(asking.get, guarded, "status")
    assert told == {"shown": "Bearer a-token-of-the-tests"}


async def test_a_daemon_in_trouble_is_not_taken_for_an_answer() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": "internal error"}, status=500)

    async with site(handler) as its:
        with pytest.raises(NotReachable, match="answered 500: internal error") as trouble:
            await asyncio.to_thread(asking.get, its, "dead")
        assert trouble.value.exit_code == 69


@pytest.mark.parametrize("text", ["<html>", "[]", ""])
async def test_another_program_on_the_port_is_said_to_be_one(text: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text)

    async with site(handler) as its:
        with pytest.raises(NotReachable, match=r"no Postroom daemon; see daemon\.listen"):
            await asyncio.to_thread(asking.get, its, "status")


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH\r\n", b"", b"\x16\x03\x01"])
async def test_a_port_that_speaks_no_http_is_no_daemon(says: bytes) -> None:
    async with server(says) as its:
        with contextlib.suppress(NotReachable):
            assert await asyncio.to_thread(asking.get, its, "status") is None
        assert await asyncio.to_thread(check_alive, its) == 1


async def test_where_nobody_listens_there_is_no_answer() -> None:
    async with server(b"") as its:
        pass
    assert await asyncio.to_thread(asking.get, its, "status") is None
    assert await asyncio.to_thread(check_alive, its) == 1
    with pytest.raises(NotReachable, match="start it with `postroom run`"):
        await asyncio.to_thread(ask, its, "dead", "x", "retry")


async def test_the_health_command_asks_for_life_and_for_nothing_else() -> None:
    asked: list[str] = []
    statuses = iter([200, 503])

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="x", status=next(statuses))

    async with site(handler) as its:
        assert await asyncio.to_thread(check_alive, its) == 0
        assert await asyncio.to_thread(check_alive, its) == 1
    assert asked == ["/livez", "/livez"]


async def test_what_there_was_nothing_to_do_about_is_an_exit_of_one() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"done": False}, status=404)

    async with site(handler) as its:
        with pytest.raises(PostroomError, match="nothing to retry") as told:
            await asyncio.to_thread(ask, its, "dead", "x", "retry")
        assert told.value.exit_code == 1


def test_without_a_daemon_and_without_a_ledger_nothing_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="no daemon answers"):
        asking.from_ledger(config(1, tmp_path), lambda ledger: ledger.dead())

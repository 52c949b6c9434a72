"""The daemon's own door, on `daemon.listen`: health, metrics, and what the command line reads."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import structlog
from aiohttp import web

from daemon.approvals import Ruling
from daemon.health import HealthRegistry, LoopPulse, Report
from daemon.metrics import Metrics
from daemon.model import ConversationId, HealthState
from daemon.ports import Ledger

log = structlog.get_logger()

_LOCAL_HOSTS = {"127.0.0.1", "localhost", "[::1]"}


@dataclass(frozen=True, slots=True)
class Doors:
    """What the pages read and the few things that a command may ask for."""

    registry: HealthRegistry
    loop: LoopPulse
    metrics: Metrics
    ledger: Ledger
    about: Callable[[], Mapping[str, Any]]
    refresh: Callable[[], None]
    stop: Callable[[ConversationId], Awaitable[bool]]
    retry: Callable[[str], Awaitable[bool]]
    erase: Callable[[str], Awaitable[int]]
    decide: Callable[[str, bool], Awaitable[Ruling]]


def application(doors: Doors) -> web.Application:
    """The aiohttp application. Reads by GET; what changes something is POST, from this machine."""
    app = web.Application(middlewares=[_guard], client_max_size=64 * 1024)
    pages = _Pages(doors)
    app.add_routes(
        [
            web.get("/livez", pages.livez),
            web.get("/readyz", pages.readyz),
            web.get("/healthz", pages.healthz),
            web.get("/metrics", pages.metrics),
            web.get("/api/v1/status", pages.status),
            web.get("/api/v1/trace/{id}", pages.trace),
            web.get("/api/v1/dead", pages.dead),
            web.post("/api/v1/dead/{id}/retry", pages.dead_retry),
            web.post("/api/v1/dead/{id}/discard", pages.dead_discard),
            web.get("/api/v1/conversations", pages.conversations),
            web.get("/api/v1/conversations/{id}", pages.conversation),
            web.post("/api/v1/conversations/{id}/stop", pages.conversation_stop),
            web.post("/api/v1/conversations/{id}/erase", pages.conversation_erase),
            web.post("/api/v1/approvals/{id}/approve", pages.approval_approve),
            web.post("/api/v1/approvals/{id}/deny", pages.approval_deny),
        ]
    )
    return app


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Only this machine's own names (DNS rebinding), no page of another origin, no surprises."""
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else ""
    if (host or request.host) not in _LOCAL_HOSTS:
        return _json({"error": "unknown Host"}, status=403)
    if request.method not in {"GET", "HEAD"} and (
        "Origin" in request.headers or request.headers.get("X-Postroom") != "1"
    ):
        return _json({"error": "only the command line may ask this"}, status=403)
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json({"error": error.reason}, status=error.status)
    except Exception:  # the HTTP boundary: the caller gets no text of it
        log.exception("http.failed", path=request.path)
        return _json({"error": "internal error; see the daemon's log"}, status=500)


class _Pages:
    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def livez(self, _request: web.Request) -> web.Response:
        turns = self._doors.loop.turns()
        return web.Response(text="ok\n" if turns else "stuck\n", status=200 if turns else 503)

    async def readyz(self, _request: web.Request) -> web.Response:
        report = self._doors.registry.report()
        body = {
            "ready": report.ready,
            "waiting_for": {name: report.components[name].detail for name in report.waiting_for},
            **{key: self._doors.about().get(key) for key in ("isolation",)},
        }
        return _json(body, status=200 if report.ready else 503)

    async def healthz(self, _request: web.Request) -> web.Response:
        report = self._doors.registry.report()
        status = 503 if report.status is HealthState.FAIL else 200
        response = _json(self._health(report), status=status)
        response.content_type = "application/health+json"
        return response

    async def metrics(self, _request: web.Request) -> web.Response:
        self._doors.refresh()
        return web.Response(
            body=self._doors.metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def status(self, _request: web.Request) -> web.Response:
        report = self._doors.registry.report()
        return _json({"ready": report.ready, **self._health(report)})

    async def trace(self, request: web.Request) -> web.Response:
        return _found(await self._doors.ledger.trace(request.match_info["id"]))

    async def dead(self, _request: web.Request) -> web.Response:
        return _json({"dead": await self._doors.ledger.dead()})

    async def dead_retry(self, request: web.Request) -> web.Response:
        return _done(await self._doors.retry(request.match_info["id"]))

    async def dead_discard(self, request: web.Request) -> web.Response:
        return _done(await self._doors.ledger.dead_discard(request.match_info["id"]))

    async def conversations(self, _request: web.Request) -> web.Response:
        return _json({"conversations": await self._doors.ledger.conversations(200)})

    async def conversation(self, request: web.Request) -> web.Response:
        return _found(
            await self._doors.ledger.conversation(ConversationId(request.match_info["id"]))
        )

    async def conversation_stop(self, request: web.Request) -> web.Response:
        return _done(await self._doors.stop(ConversationId(request.match_info["id"])))

    async def conversation_erase(self, request: web.Request) -> web.Response:
        return _json({"erased": await self._doors.erase(request.match_info["id"])})

    async def approval_approve(self, request: web.Request) -> web.Response:
        return await self._decide(request, approve=True)

    async def approval_deny(self, request: web.Request) -> web.Response:
        return await self._decide(request, approve=False)

    async def _decide(self, request: web.Request, *, approve: bool) -> web.Response:
        ruling = await self._doors.decide(request.match_info["id"], approve)
        told = {"done": ruling.counted} | ({"told": ruling.told} if ruling.told else {})
        return _json(told, status=200 if ruling.counted else 404)

    def _health(self, report: Report) -> dict[str, Any]:
        return {
            "status": report.status.value,
            **self._doors.about(),
            "components": {
                name: {
                    "state": health.state.value,
                    "ready": health.ready,
                    "detail": health.detail,
                    "age_seconds": None if health.age is None else round(health.age, 3),
                    "numbers": dict(health.numbers),
                }
                for name, health in report.components.items()
            },
        }


def _found(story: object) -> web.Response:
    return (
        _json({"error": "nothing is known by this id"}, status=404)
        if story is None
        else _json(story)
    )


def _done(done: bool) -> web.Response:
    return _json({"done": done}, status=200 if done else 404)


def _json(value: object, *, status: int = 200) -> web.Response:
    text = json.dumps(value, default=_plain, indent=2) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)

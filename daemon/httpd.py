"""The daemon's own door, on `daemon.listen`: health, metrics, and what the command line reads.

Who may ask is decided in guard.py, how long and how much in serving.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import structlog
from aiohttp import web

from daemon import openapi
from daemon.approvals import Ruling
from daemon.budgets import Statement
from daemon.guard import Guard
from daemon.health import HealthRegistry, LoopPulse, Report
from daemon.metrics import Metrics
from daemon.model import ConversationId, HealthState, JsonObject
from daemon.openapi import Operation, Schema
from daemon.ports import Ledger
from daemon.serving import MAX_BODY_BYTES, cut_off

log = structlog.get_logger()

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEALTH_TYPE = "application/health+json"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Doors:
    """What the pages read and the few things that a command may ask for. `token` gives what
    `daemon.api_token` says, None where it is not set.
    """

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
    budgets: Callable[[], Awaitable[Sequence[Statement]]]
    raise_budget: Callable[[str, float, float | None], Awaitable[JsonObject]]
    token: Callable[[], str | None]


def application(doors: Doors) -> web.Application:
    """The aiohttp application. Reads by GET; what changes something is POST."""
    guard = Guard(doors.token)
    app = web.Application(middlewares=[_guarded(guard)], client_max_size=MAX_BODY_BYTES)
    pages = _Pages(doors, guard)
    for operation, handler in pages.table():
        if operation.method == "GET":
            app.router.add_get(operation.path, handler)  # and HEAD
        else:
            app.router.add_route(operation.method, operation.path, handler)
    return app


def _guarded(guard: Guard) -> Any:
    """The middleware: asks the guard, and lets no error tell anything of itself."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answered(guard, request, handler)
        response.headers["Server"] = "Postroom"
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.force_close()  # a request a connection: its limits are those of both
        cut_off(request)
        return response

    return guarded


async def _answered(guard: Guard, request: web.Request, handler: Handler) -> web.StreamResponse:
    if (refusal := guard.refusal(request)) is not None:
        response = _json({"error": refusal.reason}, status=refusal.status)
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _json({"error": error.reason}, status=error.status)
        if allow := error.headers.get("Allow"):
            response.headers["Allow"] = allow
        return response
    except Exception:  # the HTTP boundary: the caller gets no text of it
        log.exception("http.failed", path=request.path)
        return _json({"error": "internal error; see the daemon's log"}, status=500)


class _Pages:
    """`table` has every operation with what answers it: the router and the OpenAPI page read it."""

    def __init__(self, doors: Doors, guard: Guard) -> None:
        self._doors = doors
        self._guard = guard

    def table(self) -> list[tuple[Operation, Handler]]:
        done = {200: openapi.DONE, 404: openapi.DONE}
        decided = {200: openapi.DECIDED, 404: openapi.DECIDED}
        found = {200: openapi.STORY, 404: openapi.ERROR}
        raised = {200: openapi.RAISED, 404: openapi.ERROR}
        dead, conversations = "/api/v1/dead", "/api/v1/conversations"
        budgets = "/api/v1/budgets"
        return [
            (_get("/livez", "Does the event loop turn?", _either(openapi.TEXT), "text/plain"),
             self.livez),
            (_get("/readyz", "Can it accept messages?", _either(openapi.READY)), self.readyz),
            (_get("/healthz", "How is each part?", _either(openapi.HEALTH), HEALTH_TYPE),
             self.healthz),
            (_get("/metrics", "For Prometheus", {200: openapi.TEXT}, "text/plain"), self.metrics),
            (_get("/api/v1/openapi.json", "This page", {200: openapi.OBJECT}), self.openapi),
            (_get("/api/v1/status", "The daemon at a glance", {200: openapi.STATUS}), self.status),
            (_get("/api/v1/trace/{id}", "The story of an id, ours or the outside's", found),
             self.trace),
            (_get(dead, "What was given up on", {200: openapi.LETTERS}), self.dead),
            (_post(f"{dead}/{{id}}/retry", "Try it again", done), self.dead_retry),
            (_post(f"{dead}/{{id}}/discard", "Give it up for good", done), self.dead_discard),
            (_get(conversations, "The latest ones", {200: openapi.CONVERSATIONS}),
             self.conversations),
            (_get(f"{conversations}/{{id}}", "One, with its story", found), self.conversation),
            (_post(f"{conversations}/{{id}}/stop", "End what runs and waits in it", done),
             self.conversation_stop),
            (_post(f"{conversations}/{{id}}/erase", "Remove what it, or a person, left",
                   {200: openapi.ERASED}),
             self.conversation_erase),
            (_post("/api/v1/approvals/{id}/approve", "Let the call through", decided),
             self.approval_approve),
            (_post("/api/v1/approvals/{id}/deny", "Do not", decided), self.approval_deny),
            (_get(budgets, "What each has spent", {200: openapi.BUDGETS}), self.budgets),
            (_post(f"{budgets}/{{id}}/raise/{{dollars}}", "Add to one", raised), self.budget_raise),
            (_post(f"{budgets}/{{id}}/raise/{{dollars}}/until/{{until}}", "For so long", raised),
             self.budget_raise),
        ]  # fmt: skip

    async def livez(self, _request: web.Request) -> web.Response:
        turns = self._doors.loop.turns()
        return web.Response(text="ok\n" if turns else "stuck\n", status=200 if turns else 503)

    async def readyz(self, request: web.Request) -> web.Response:
        report = self._doors.registry.report()
        full = self._guard.may_see_all(request)
        body = {
            "ready": report.ready,
            "waiting_for": {
                name: report.components[name].detail if full else "" for name in report.waiting_for
            },
            "isolation": self._doors.about().get("isolation"),
        }
        return _json(body, status=200 if report.ready else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        report = self._doors.registry.report()
        full = self._guard.may_see_all(request)
        told = self._health(report) if full else {"status": report.status.value}
        response = _json(told, status=503 if report.status is HealthState.FAIL else 200)
        response.content_type = HEALTH_TYPE
        return response

    async def metrics(self, _request: web.Request) -> web.Response:
        self._doors.refresh()
        headers = {"Content-Type": METRICS_TYPE}
        return web.Response(body=self._doors.metrics.text(), headers=headers)

    async def openapi(self, _request: web.Request) -> web.Response:
        version = str(self._doors.about().get("version"))
        return _json(openapi.document((operation for operation, _ in self.table()), version))

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

    async def budgets(self, _request: web.Request) -> web.Response:
        stated = [
            {
                "budget": str(each.budget),
                "limit_usd": each.limit,
                "spent_usd": round(each.spent, 6),
                "held_usd": round(each.held, 6),
                "raised_usd": each.raised,
                "closed": each.closed,
            }
            for each in await self._doors.budgets()
        ]
        return _json({"budgets": stated})

    async def budget_raise(self, request: web.Request) -> web.Response:
        asked = request.match_info
        dollars = _positive(asked["dollars"])
        until = _positive(asked["until"]) if "until" in asked else None
        if dollars is None or ("until" in asked and until is None):
            return _json({"error": "write an amount in US dollars above nought"}, status=404)
        try:
            return _json(await self._doors.raise_budget(asked["id"], dollars, until))
        except ValueError as error:
            return _json({"error": str(error)}, status=404)

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


# --- small things ---------------------------------------------------------------------------------


def _get(
    path: str, summary: str, answers: Mapping[int, Schema], media: str = "application/json"
) -> Operation:
    return Operation("GET", path, summary, answers, media)


def _post(path: str, summary: str, answers: Mapping[int, Schema]) -> Operation:
    return Operation("POST", path, summary, answers)


def _either(shape: Schema) -> Mapping[int, Schema]:
    """Well, or not: told in the same shape."""
    return {200: shape, 503: shape}


def _positive(text: str) -> float | None:
    """A finite number above nought, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


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

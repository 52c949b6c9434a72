"""The stand-in model's controls and journal over HTTP, for a checker in a process of its own.

GET  /_/journal?since=N&bodies=1   {"requests": [...]} from number N on
POST /_/control                    one or more of these, as a JSON object:
    "fault": {"kind": "status", "status": 429, "times": 2}    see `controls.Fault`
    "clear": true                                             all faults and gates
    "pace": SECONDS                                           before each piece of an answer
    "hold": {"text": "...", "where": "headers"}               says the gate's id as "gate"
    "await": ID                                               answers when that gate holds one
    "release": ID
"""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from daemon.demo.controls import Entry, Fault, Faults, Gate, Where


class Controlled(Protocol):
    """What of the stand-in is reached from here."""

    pace: float
    faults: Faults
    gates: list[Gate]

    @property
    def journal(self) -> list[Entry]: ...
    def clear(self) -> None: ...
    def hold(
        self, text: str = "", *, where: Where = "headers", tool_results: int | None = None
    ) -> Gate: ...


def remote_routes(model: Controlled) -> list[web.RouteDef]:
    async def journal(request: web.Request) -> web.Response:
        since, bodies = int(request.query.get("since", "1")), request.query.get("bodies") == "1"
        entries = [e.describe(bodies=bodies) for e in model.journal if e.number >= since]
        return web.json_response({"stand_in": "scripted", "requests": entries})

    async def control(request: web.Request) -> web.Response:
        return web.json_response(await obey(model, await request.json()))

    return [web.get("/_/journal", journal), web.post("/_/control", control)]


async def obey(model: Controlled, told: dict[str, Any]) -> dict[str, Any]:
    """Do what a control request says. Returns the state afterwards. Raises TimeoutError."""
    said: dict[str, Any] = {}
    if told.get("clear"):
        model.clear()
    if "pace" in told:
        model.pace = float(told["pace"])
    if "fault" in told:
        model.faults.add(Fault(**told["fault"]))
    if "hold" in told:
        model.hold(**told["hold"])
        said["gate"] = len(model.gates)
    if "await" in told:
        gate = model.gates[int(told["await"]) - 1]
        said["number"] = (await gate.arrived(float(told.get("seconds", 30)))).number
    if "release" in told:
        model.gates[int(told["release"]) - 1].release()
    said["faults"] = len(model.faults.waiting)
    return {**said, "gates": [gate.describe() for gate in model.gates]}

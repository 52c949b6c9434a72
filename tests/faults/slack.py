"""Faults on the lines to Slack: its websockets and its Web API."""

from __future__ import annotations

from tests.faults.proxy import Toxics
from tests.faults.stage import Stage
from tests.faults.trial import Times, Trial, trial

SEEN_SECONDS = 15.0  # SURFACE, /readyz: after the fault at the latest
SLACK = "connector:slack"


async def cut(stage: Stage, times: Times) -> None:
    """Slack is out of reach: connections reset, new ones refused."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        it.struck()
        await stage.socket.cut()
        await stage.web.cut()
        stage.ask()
        gate.release()  # an answer is ready that cannot leave
        await it.red(SLACK, within=SEEN_SECONDS)
        it.mended()
        await stage.web.heal()
        await stage.socket.heal()
        await it.well()


async def half_open(stage: Stage, times: Times) -> None:
    """The websocket stands, and nothing comes through it either way."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        it.struck()
        await stage.socket.poison(Toxics(timeout=True))
        stage.ask()
        gate.release()
        await it.red(SLACK, within=SEEN_SECONDS)
        it.mended()
        await stage.socket.heal()
        await it.well()


async def unheard(stage: Stage, times: Times) -> None:
    """Slack's events come in; our acknowledgements and pings do not get out."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.socket.poison(Toxics(timeout=True), "upstream")
        stage.ask()
        await it.red(SLACK, within=SEEN_SECONDS)
        it.mended()
        await stage.socket.heal()
        await it.well()


async def garbage(stage: Stage, times: Times) -> None:
    """Noise comes out of the websocket and of every new one."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        it.struck()
        await stage.socket.poison(Toxics(garbage=True), "downstream")
        stage.ask()
        gate.release()
        await it.red(SLACK, within=SEEN_SECONDS)
        it.mended()
        await stage.socket.heal()
        await it.well()


async def slow(stage: Stage, times: Times) -> None:
    """A bad line: each piece half a second late, 20 kB a second. Nothing turns red."""
    async with trial(stage, times) as it:
        bad = Toxics(latency=0.5, bandwidth=20_000)
        for line in (stage.socket, stage.web):
            await line.poison(bad)
        it.struck()
        for _ in range(3):
            stage.ask()
        it.mended()
        await it.well()
        assert (await it.daemon.get("/readyz"))[0] == 200
        assert not it.daemon.logged("socket.ended")
        for line in (stage.socket, stage.web):
            await line.heal()


async def sliced(stage: Stage, times: Times) -> None:
    """All that comes and goes comes in single bytes. Nothing turns red."""
    async with trial(stage, times) as it:
        for line in (stage.socket, stage.web):
            await line.poison(Toxics(slicer=1))
        it.struck()
        for _ in range(3):
            stage.ask()
        it.mended()
        await it.well()
        assert not it.daemon.logged("socket.ended")


async def web_away(stage: Stage, times: Times) -> None:
    """Events come in, and the Web API is out of reach: answers wait."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        it.struck()
        await stage.web.cut()
        gate.release()
        stage.ask()
        await it.warned(SLACK, within=SEEN_SECONDS, about="held up")
        it.mended()
        await stage.web.heal()
        await it.well()


async def web_reset(stage: Stage, times: Times) -> None:
    """Posts are carried out, and each answer of the Web API is lost in a reset."""
    async with trial(stage, times) as it:
        await _answers_lost(stage, it, Toxics(reset_peer=0))
        assert it.daemon.logged("delivery.found"), "it was looked for before it was sent again"


async def web_short(stage: Stage, times: Times) -> None:
    """Posts are carried out, and each answer of the Web API ends within its body."""
    async with trial(stage, times) as it:
        await _answers_lost(stage, it, Toxics(limit_data=250))


async def _answers_lost(stage: Stage, it: Trial, toxics: Toxics) -> None:
    gate = await it.at_work()
    it.struck()
    await stage.web.poison(toxics, "downstream")
    gate.release()
    await stage.slack.wait_for_posts(containing=stage.asked[-1])
    await it.warned(SLACK, within=SEEN_SECONDS, about="held up")
    it.mended()
    await stage.web.heal()
    await it.well()


SCENARIOS = (cut, half_open, unheard, garbage, slow, sliced, web_away, web_reset, web_short)

"""Faults on the line to the model's API, and of the API itself."""

from __future__ import annotations

from daemon import texts
from daemon.demo.controls import Fault
from tests.faults.proxy import Toxics
from tests.faults.stage import Stage
from tests.faults.trial import Times, trial

TOLD_SECONDS = 30.0  # DESIGN, "Failures of a turn"
SEEN_SECONDS = 15.0
LONG_SECONDS = 60.0
MODEL = "model"


async def away(stage: Stage, times: Times) -> None:
    """The API is out of reach: new connections are refused."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.api.cut()
        said = stage.ask()
        await it.warned(MODEL, within=SEEN_SECONDS)
        await it.told(said, texts.MODEL_AWAY, within=TOLD_SECONDS)
        assert (await it.daemon.get("/readyz"))[0] == 200, "Slack and mail are still heard"
        it.mended()
        await stage.api.heal()
        await it.well()


async def half_open(stage: Stage, times: Times) -> None:
    """Connections to the API stand, and nothing comes through them."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.api.poison(Toxics(timeout=True))
        said = stage.ask()
        await it.told(said, texts.MODEL_AWAY, within=TOLD_SECONDS)
        it.mended()
        await stage.api.heal()
        await it.well()


async def hangs(stage: Stage, times: Times) -> None:
    """The API takes requests, and says nothing."""
    async with trial(stage, times) as it:
        stage.model.faults.add(Fault("hang", times=None))
        it.struck()
        said = stage.ask()
        await it.told(said, texts.MODEL_AWAY, within=TOLD_SECONDS)
        it.mended()
        stage.model.clear()
        await it.well()


async def cut_in_stream(stage: Stage, times: Times) -> None:
    """The connection is cut after the first words of an answer."""
    await _asked_again(stage, times, Fault("cut"))


async def garbage_in_stream(stage: Stage, times: Times) -> None:
    """The answer's stream holds what is no JSON."""
    await _asked_again(stage, times, Fault("malformed"))


async def _asked_again(stage: Stage, times: Times, fault: Fault) -> None:
    async with trial(stage, times) as it:
        it.struck()
        stage.model.faults.add(fault)
        it.mended()
        stage.ask()
        await it.well()
        assert len(await stage.model.requests("mark-0002")) == 2, "asked again, once"


async def garbage(stage: Stage, times: Times) -> None:
    """Noise comes out of the API's connections."""
    async with trial(stage, times) as it:
        it.struck()
        await stage.api.poison(Toxics(garbage=True), "downstream")
        said = stage.ask()
        await it.warned(MODEL, within=SEEN_SECONDS)
        await it.told(said, texts.MODEL_AWAY, within=TOLD_SECONDS)
        it.mended()
        await stage.api.heal()
        await it.well()


async def sliced(stage: Stage, times: Times) -> None:
    """The API's answers come in single bytes. Nothing has to be noticed."""
    async with trial(stage, times) as it:
        await stage.api.poison(Toxics(slicer=1), "downstream")
        it.struck()
        it.mended()
        stage.ask()
        await it.well()


async def overloaded(stage: Stage, times: Times) -> None:
    """The API is overloaded (529) for a minute."""
    async with trial(stage, times) as it:
        stage.model.fail(529, times=None)
        it.struck()
        said = [stage.ask(), stage.ask()]
        await it.warned(MODEL, within=SEEN_SECONDS, about="529")
        for each in said:
            await it.told(each, texts.MODEL_AWAY, within=TOLD_SECONDS)
        await it.until_after(LONG_SECONDS)
        it.mended()
        stage.model.clear()
        await it.well(within=180)
        for each in said:
            told = [post.text for post in stage.slack.posts(each.channel, each.root)]
            assert told.count(texts.MODEL_AWAY) == 1, "told once"


async def limited(stage: Stage, times: Times) -> None:
    """The API limits us (429) and says when to come again."""
    async with trial(stage, times) as it:
        stage.model.fail(429, times=3, retry_after=2)
        it.struck()
        it.mended()
        stage.ask()
        await it.warned(MODEL, within=SEEN_SECONDS, about="429")
        await it.well()


SCENARIOS = (
    away,
    half_open,
    hangs,
    cut_in_stream,
    garbage_in_stream,
    garbage,
    sliced,
    overloaded,
    limited,
)

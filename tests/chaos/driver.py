"""Carries a plan out: people write, the daemon ends and is started, until all is answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from daemon.demo.controls import Entry
from daemon.demo.model import StandInModel
from tests.chaos.plan import Aim, Life, Plan
from tests.chaos.stage import API_ERROR, Stage

KILLED = -signal.SIGKILL
TOO_MANY = 60  # messages in hand: then the next kill comes only after half of them are done
CATCH_UP_SECONDS = 60.0
AIM_SECONDS = 15.0
POINT_SECONDS = 90.0  # a build starts slowly, and the slower on a busy machine
READY_SECONDS = 180.0
TELL_EVERY = 10  # kills
STILL_LOOKS = 8  # half a second apart: what would come twice has its chance to come
LOG_EVENTS: dict[Aim, str] = {
    "start": "daemon.started",
    "recovered": "turn.recovered",
    "registered": "message.registered",
    "claimed": "turn.claimed",
    "finished": "turn.finished",
    "sent": "delivery.sent",
    "draining": "daemon.draining",
}


@dataclass
class Record:
    """What was done to the daemon. `kills` counts by what they were aimed at and hit, and where a
    build died by itself `points` counts by its point. `fell` are the exit statuses of daemons that
    ended although nobody had told them to, `stops` those of daemons that were told to.
    """

    kills: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    stops: list[int] = field(default_factory=list)
    fell: list[int] = field(default_factory=list)
    clis: int = 0
    cuts: int = 0
    catch_ups: int = 0
    seconds: float = 0.0
    left: int = 0  # processes that outlived it


async def carry_out(
    plan: Plan, stage: Stage, *, quiet: float, tell: Callable[[str], None]
) -> Record:
    """Live through the plan, then let the last daemon answer all, and stop it with SIGTERM.

    `quiet` seconds without any answer mean that none will come any more. `tell` hears how far it
    has come.
    """
    record, began = Record(), time.monotonic()
    speaking: asyncio.Task[None] | None = None
    rng = random.Random(plan.seed)
    # What lay in a mailbox before the first start is old mail, and not answered: nobody writes yet.
    await stage.victim.start()
    await stage.victim.until_ready(READY_SECONDS)
    await stage.victim.stop()
    for number, life in enumerate(plan.lives, 1):
        await stage.victim.start(*_build(life))
        if speaking is not None:
            await speaking
        speaking = asyncio.create_task(_speak(stage, life))
        hurting = asyncio.create_task(_hurt(stage, life, record, rng))
        await _catch_up(stage, record)
        await _end(stage, life, hurting, record)
        if number % TELL_EVERY == 0:
            minutes = (time.monotonic() - began) / 60
            tell(f"{number} lives in {minutes:.1f} min; {stage.backlog()} answers to come")
    tell("the last daemon answers what is left")
    await stage.victim.start()
    if speaking is not None:
        await speaking
    await _settle(stage, quiet)
    await stage.write_mailbox()
    children = stage.victim.clis()
    record.stops.append(await stage.stop())
    record.left = sum(child.is_running() for child in children)
    record.seconds = time.monotonic() - began
    return record


def _build(life: Life) -> tuple[str, ...]:
    return () if life.fuse is None else ("--fuse", f"{life.fuse.point}:{life.fuse.passes}")


async def _speak(stage: Stage, life: Life) -> None:
    """People go on while the daemon is dead: they do not know."""
    for say in life.says:
        await asyncio.sleep(say.after)
        await stage.speak(say)


async def _hurt(stage: Stage, life: Life, record: Record, rng: random.Random) -> None:
    """What dies besides: a CLI process, Slack's connections."""
    hurts = sorted(
        (at, what)
        for at, what in ((life.cli_after, "cli"), (life.cut_after, "cut"))
        if at is not None
    )
    passed = 0.0
    for at, what in hurts:
        await asyncio.sleep(at - passed)
        passed = at
        if what == "cut":
            await stage.slack.lose_sockets("abort")
            record.cuts += 1
        elif clis := stage.victim.clis():
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(clis).kill()
                record.clis += 1


async def _catch_up(stage: Stage, record: Record) -> None:
    if stage.load() <= TOO_MANY:
        return
    record.catch_ups += 1
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while stage.load() > TOO_MANY // 2 and time.monotonic() < deadline and stage.victim.running:
        await asyncio.sleep(0.2)


async def _end(stage: Stage, life: Life, hurting: asyncio.Task[None], record: Record) -> None:
    """Bring this life to its end, as it is planned or else by a kill; write down which it was."""
    victim = stage.victim
    if life.aim == "stop":
        await asyncio.sleep(life.wait)
        await victim.until_begun(READY_SECONDS)
        hurting.cancel()
        record.stops.append(await stage.stop())
    else:
        hit = await _aim(stage, life)
        if life.aim == "draining" and not victim.running:  # it was quicker than the kill
            record.stops.append(await victim.kill())
            await victim.start()
            hit = "any"
        status = await victim.kill()
        record.kills[hit] += 1
        if life.fuse is not None:
            record.points[life.fuse.point] += hit == "point"
        if status != KILLED:
            record.fell.append(status)
    _unhang(stage)
    hurting.cancel()
    await asyncio.wait({hurting})


async def _aim(stage: Stage, life: Life) -> str:
    """Wait for the moment of the kill. Returns what was hit: "any" where the event never came."""
    if life.aim not in ("any", "start"):  # nothing else happens before; a busy machine is slow
        await stage.victim.until_begun(READY_SECONDS)
    await asyncio.sleep(life.wait)
    hit = life.aim == "any" or await _event(stage, life.aim)
    if hit and life.aim != "any" and life.jitter:
        await asyncio.sleep(life.jitter)
    return life.aim if hit else "any"


async def _event(stage: Stage, aim: Aim) -> bool:
    if aim == "draining":
        stage.victim.tell_to_stop()
    if aim in LOG_EVENTS:
        return await stage.victim.hear(LOG_EVENTS[aim], AIM_SECONDS)
    if aim == "point":
        return await stage.victim.gone(POINT_SECONDS)
    slack, model = stage.slack, stage.model
    with contextlib.suppress(TimeoutError):
        match aim:
            case "acked":
                since = len(slack.journal.entries)
                await slack.wait_for(
                    lambda entry: entry["kind"] == "ack", since=since, within=AIM_SECONDS
                )
            case "delivered" | "mail refused" | "mail taken":
                await _mail(stage, aim)
            case "asked" | "answered" | "model away" | "tool done":
                if aim == "model away":
                    model.fail(API_ERROR)
                request = await _request(model, with_results=aim == "tool done")
                if aim in ("answered", "model away"):
                    await asyncio.wait_for(request.ended.wait(), AIM_SECONDS)
            case _:
                await _post(stage, performed=aim == "after post")
        return True
    return False


async def _request(model: StandInModel, *, with_results: bool) -> Entry:
    """The next request to the model, or the next one that tells what a tool came to."""
    async with asyncio.timeout(AIM_SECONDS):
        while True:
            count = len(model.journal) + 1
            request = (await model.requests(count=count, seconds=AIM_SECONDS))[count - 1]
            if request.ask.results or not with_results:
                return request


async def _post(stage: Stage, *, performed: bool) -> None:
    """Until a post has come in, carried out or not; its answer never leaves."""
    slack = stage.slack
    slack.fail("chat.postMessage", "hang", performed=performed)
    await slack.wait_for(
        lambda entry: entry["kind"] == "call" and entry["answer"] == "hang",
        since=len(slack.journal.entries),
        within=AIM_SECONDS,
    )


async def _mail(stage: Stage, aim: Aim) -> None:
    """Until a mail lies in the mailbox; or until an answer has come in, is taken or not, and the
    server's word on it never leaves.
    """
    assert stage.mails is not None, "the plan is one with mail"
    sink, event = stage.mails.sink, stage.mails.delivered
    if aim != "delivered":
        sink.hold, event = "taken" if aim == "mail taken" else "refused", sink.held
    event.clear()
    async with asyncio.timeout(AIM_SECONDS):
        await event.wait()


def _unhang(stage: Stage) -> None:
    """What no call met must not meet one of the next life, which is not aimed at it."""
    planned = stage.slack.api.plan.planned
    planned[:] = [one for one in planned if one.fault.answer != "hang"]
    waiting = stage.model.faults.waiting
    waiting[:] = [fault for fault in waiting if fault.text]
    if stage.mails is not None:
        stage.mails.sink.hold = ""


async def _settle(stage: Stage, quiet: float) -> None:
    """Until the daemon has nothing left to do, or nothing has moved for `quiet` seconds since it is
    there.
    """
    with contextlib.suppress(TimeoutError):
        await stage.victim.until_ready(READY_SECONDS)
    if stage.chores:
        await asyncio.wait(stage.chores)
    seen, moved, still = (0, 0, 0), time.monotonic(), 0
    while still < STILL_LOOKS and time.monotonic() - moved < quiet:
        await asyncio.sleep(0.5)
        now = (stage.backlog(), stage.unheard(), stage.undone())
        if now != seen:
            seen, moved = now, time.monotonic()
        still = 0 if stage.unheard() or stage.undone() else still + 1

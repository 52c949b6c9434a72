"""The demo's day, scene by scene. What each scene shows is its title."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from daemon.demo.board import Where
from daemon.demo.people import BEA, CHIDI, GENERAL, SUPPORT, People
from daemon.demo.stage import Stage
from daemon.demo.watch import Screen


@dataclass(frozen=True, slots=True)
class Scenery:
    """What a scene acts with."""

    people: People
    stage: Stage
    screen: Screen


Scene = Callable[[Scenery], Awaitable[None]]


async def threads(on: Scenery) -> None:
    """A thread: a mention, a follow-up without one, and a second person in it"""
    people = on.people
    first = people.mention(BEA, SUPPORT, "when are you open on Saturday?")
    await people.settled(first)
    second = people.follow(first, BEA, "and how are goods returned?")
    await people.settled(second)
    third = people.follow(first, CHIDI, "my account is locked, too")
    await people.settled(third)


async def at_once(on: Scenery) -> None:
    """Two at once: a direct message, and a mention that comes four times"""
    direct = on.people.dm(CHIDI, "how do I request a day off?")
    repeated = on.people.twice(BEA, GENERAL, "where is the toner for the printer?")
    await on.people.settled(direct, repeated)


async def tools(on: Scenery) -> None:
    """Tools at work, within the walls of their conversation: Write, Bash, Read"""
    people = on.people
    written = people.mention(
        CHIDI, GENERAL, "write stock.txt saying: 12 chairs, 4 tables and a lamp"
    )
    await people.settled(written)
    counted = people.follow(written, CHIDI, "count the words in stock.txt")
    await people.settled(counted)
    read = people.follow(written, BEA, "read stock.txt to me")
    await people.settled(read)


async def mails(on: Scenery) -> None:
    """Mails: one is answered, a stranger's is drafted, an automatic one is left"""
    people = on.people
    await people.settled(
        await people.write(
            "Ann <ann@shop.example.test>", "Copy of an invoice", "Where do I get a copy of it?\n"
        ),
        await people.write(
            "Sam <sam@elsewhere.example>",
            "Delivery",
            "How long does shipping take?\n",
            wanted=Where.DRAFTED,
        ),
        await people.write(
            "Vera <vera@shop.example.test>",
            "Out of office",
            "I am back on Monday.\n",
            wanted=Where.IGNORED,
            headers={"Auto-Submitted": "auto-replied"},
        ),
    )


async def stop(on: Scenery) -> None:
    """A long answer, and somebody who says stop"""
    people = on.people
    text = "write me a long report on every meeting of this year"
    gate = people.hold(text)
    asked = people.dm(BEA, text, wanted=Where.STOPPED)
    await people.amid(asked, gate)
    stopping = people.follow(asked, BEA, "stop", wanted=Where.OBEYED)
    await people.settled(stopping, asked)
    if gate is not None:
        gate.release()


async def kill(on: Scenery) -> None:
    """The daemon is killed in the middle of a turn (kill -9), and started again"""
    people, stage = on.people, on.stage
    gate = people.hold("handover.txt", tool_results=1)
    cut = people.mention(BEA, SUPPORT, "write handover.txt saying: the key is with Chidi")
    await people.amid(cut, gate)
    await stage.kill()
    on.screen.note(
        f"daemon killed: message {cut.number} has its file written, and no answer yet"
        if gate
        else f"daemon killed while message {cut.number} was at work"
    )
    missed = people.dm(CHIDI, "are you there? I would like to return a parcel")
    if gate is not None:
        gate.release()
    began = time.monotonic()
    await stage.revive()
    on.screen.note(f"daemon ready again after {time.monotonic() - began:.1f} s")
    await people.settled(cut, missed)


SCENES: tuple[Scene, ...] = (threads, at_once, tools, mails, stop, kill)

"""What a person in the conversation sees and may say around a turn: signs of work, and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

from daemon import texts
from daemon.agents.scripted import Die, Fail, Say, Step, Wait, Work
from daemon.intake import LONG_QUEUE
from daemon.model import ConversationId, Priority, Sender, Stop, Trust, Turn, Workspace
from daemon.ports import ClaimLimits, Ledger
from tests.flow import Flow, RecordingConnector


class Claiming:
    """A ledger whose answer to a claim takes its time."""

    def __init__(self, ledger: Ledger, after: Callable[[], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def claim(
        self, conversation: ConversationId, spare: Workspace | None, limits: ClaimLimits
    ) -> Turn | None:
        turn = await self._ledger.claim(conversation, spare, limits)
        await self._after()
        return turn


def claiming(after: Callable[[], Awaitable[None]]) -> Callable[[Ledger], Ledger]:
    return lambda ledger: cast("Ledger", Claiming(ledger, after))


async def test_stop_is_heard_while_another_process_makes_way(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=1) as flow:
        flow.agents.script = lambda _: [Say("well")]
        await flow.say("hello", "t1")
        await flow.answers(1)
        closing, go = asyncio.Event(), asyncio.Event()

        async def slowly() -> None:
            closing.set()
            await go.wait()

        flow.agents.on_close = slowly
        await flow.say("never mind", "t2")
        await closing.wait()
        await flow.until(lambda: flow.pool.stop_turn(ConversationId("t2")))
        go.set()
        assert (await flow.answers(2))[1] == ("t2", texts.STOPPED)
        assert len(flow.agents.prompts) == 1, "the model was not asked"
        assert len(flow.agents.starts) == 1, "and no process was started"
        await flow.say("now then", "t2")
        assert (await flow.answers(3))[2] == ("t2", "well")


async def test_stop_cuts_the_model_off_at_once_whatever_the_process_does(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        go = asyncio.Event()
        flow.agents.script = lambda _: [Wait(go), Say("never")]
        await flow.say("hello")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.until(lambda: flow.pool.stop_turn(ConversationId("t1")))
        await flow.until(lambda: bool(flow.gateway.halted))
        assert set(flow.gateway.halted) == flow.gateway.live
        go.set()
        assert await flow.answers(1) == [("t1", texts.STOPPED)]


async def test_each_turn_shows_a_sign_also_one_that_waited(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        first, second = asyncio.Event(), asyncio.Event()
        waits = iter((first, second))
        flow.agents.script = lambda _: [Wait(next(waits)), Say("well")]
        await flow.say("hello")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.say("and then?")
        first.set()
        await flow.until(lambda: len(flow.agents.prompts) == 2)
        await flow.until(lambda: "" in flow.chat.activity)
        taken_away = flow.chat.activity.index("")
        await flow.until(lambda: texts.WORKING in flow.chat.activity[taken_away:])
        second.set()
        await flow.answers(2)
        await flow.until(lambda: flow.chat.activity[-1] == "")


async def test_people_are_told_their_place_while_all_slots_are_taken(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=1) as flow:
        go = asyncio.Event()
        flow.agents.script = lambda _: [Wait(go), Say("well")]
        await flow.say("hello", "t1")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.say("and me", "t2")
        await flow.until(lambda: texts.NEXT in flow.chat.activity)
        await flow.until(lambda: flow.dispatcher.place(ConversationId("t2")) is None)
        await flow.say("me too", "t3")
        await flow.until(lambda: flow.dispatcher.place(ConversationId("t3")) is None)
        await flow.say("and I", "t4")
        await flow.until(lambda: texts.QUEUED.format(ahead=2) in flow.chat.activity)
        go.set()
        answers = await flow.answers(4)
        assert [text for _, text in answers] == ["well"] * 4, "a short queue is no post's worth"


async def test_a_long_queue_is_told_once_in_words_that_stay(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=1) as flow:
        go = asyncio.Event()
        flow.agents.script = lambda _: [Wait(go), Say("well")]
        await flow.say("hello", "t0")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        for number in range(1, LONG_QUEUE + 1):
            await flow.say("me too", f"t{number}")
        far = ConversationId("far")
        await flow.until(lambda: flow.dispatcher.place(far) == LONG_QUEUE)
        await flow.say("and I?", "far")
        await flow.until(lambda: flow.dispatcher.place(far) is None)
        await flow.say("still there?", "far")
        told = texts.LONG_QUEUE.format(ahead=LONG_QUEUE)
        assert await flow.answers(1) == [("far", told)]
        go.set()
        answers = await flow.answers(LONG_QUEUE + 3)
        assert [text for thread, text in answers if thread == "far"] == [told, "well"]


async def test_people_in_chat_do_not_wait_until_a_flood_of_mail_is_worked_off(
    tmp_path: Path,
) -> None:
    mail = RecordingConnector("mail", Priority.MAIL)
    connectors = (RecordingConnector(), mail)
    slow = claiming(lambda: asyncio.sleep(0.02))  # slower than a turn: there always is room
    async with Flow(tmp_path, max_processes=8, connectors=connectors, ledger=slow) as flow:
        await asyncio.gather(*(flow.say("a mail", f"m{n}", connector=mail) for n in range(150)))
        await flow.until(lambda: len(mail.outside) > 5)
        await flow.say("quick", "t1")
        assert await flow.answers(1) == [("t1", "ok")]
        assert len(mail.outside) < 100, "it went before those that waited longer"


async def test_a_mail_that_waits_is_told_nothing(tmp_path: Path) -> None:
    mail = RecordingConnector("mail", Priority.MAIL)
    async with Flow(tmp_path, max_processes=1, connectors=(mail,)) as flow:
        go = asyncio.Event()
        flow.agents.script = lambda _: [Wait(go), Say("well")]
        await flow.say("hello", "t1")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        for number in range(LONG_QUEUE + 2):
            await flow.say("a mail", f"m{number}")
        go.set()
        await flow.until(lambda: len(mail.outside) == LONG_QUEUE + 3)
        assert {text for _, text in mail.outside} == {"well"}


async def test_while_the_model_rests_no_turn_starts_and_none_is_lost(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        flow.agents.script = lambda _: [Say("well")]
        flow.gateway.rest = 0.2
        await flow.say("hello")
        await flow.until(lambda: flow.dispatcher.place(ConversationId("t1")) is None)
        assert flow.agents.starts == []
        flow.gateway.rest = 0.0
        assert await flow.answers(1) == [("t1", "well")], "it looks again when the rest is over"


async def test_a_long_rest_is_told_once_to_those_in_chat_and_costs_no_process(
    tmp_path: Path,
) -> None:
    mail = RecordingConnector("mail", Priority.MAIL)
    async with Flow(tmp_path, connectors=(RecordingConnector(), mail)) as flow:
        flow.gateway.rest = 40.0
        await flow.say("a mail", "m1", connector=mail)
        await flow.say("hello", "t1")
        assert await flow.answers(1) == [("t1", texts.MODEL_AWAY)]
        ready = await flow.ledger.ready(ConversationId("t1"))
        assert ready is not None
        assert ready.not_before >= flow.clock.now() + 39, "it comes again when the rest is over"
        assert flow.agents.starts == []
        waiting = await flow.ledger.ready(ConversationId("m1"))
        assert waiting is not None
        assert waiting.not_before == 0, "a mail simply waits"


def stop(thread: str, said: str = "stop") -> Stop:
    return Stop("chat", said, ConversationId(thread), Sender("test:bob", "Bob", Trust.MEMBER))


async def test_stop_calls_off_what_waits_and_takes_its_sign_away(tmp_path: Path) -> None:
    async with Flow(tmp_path, max_processes=1) as flow:
        go = asyncio.Event()
        flow.agents.script = lambda p: [Wait(go), Say(p.text.splitlines()[-1])]
        await flow.say("first", "t1")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.say("second", "t2")
        await flow.until(lambda: texts.NEXT in flow.chat.activity)
        await flow.intake.accept(stop("t2"))
        assert await flow.answers(1) == [("t2", texts.STOPPED)]
        await flow.until(lambda: flow.chat.activity[-1] == "")
        await flow.say("third", "t2")
        go.set()
        assert await flow.answers(3) == [
            ("t2", texts.STOPPED),
            ("t1", "first"),
            ("t2", "third"),
        ]


async def test_stop_ends_the_turn_that_runs_and_what_waits_behind_it(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        never = asyncio.Event()
        flow.agents.script = lambda p: [Wait(never)] if "long" in p.text else [Say("well")]
        await flow.say("long work")
        await flow.until(lambda: len(flow.agents.prompts) == 1)
        await flow.say("and then this")
        await flow.intake.accept(stop("t1"))
        assert await flow.answers(1) == [("t1", texts.STOPPED)]
        await flow.until(lambda: flow.pool.numbers()["idle"] == 1)
        assert await flow.ledger.all_ready() == ()
        await flow.say("go on", "t1")
        assert await flow.answers(2) == [("t1", texts.STOPPED), ("t1", "well")], "said once"


async def test_stop_ends_a_turn_that_waits_for_the_model(tmp_path: Path) -> None:
    async with Flow(tmp_path) as flow:
        flow.agents.script = lambda _: [Fail("api", 529)]
        await flow.say("hello")
        assert await flow.answers(1) == [("t1", texts.MODEL_AWAY)]
        await flow.until(lambda: flow.pool.numbers()["idle"] == 1)
        assert await flow.intake.stop(ConversationId("t1"))
        assert (await flow.answers(2))[1] == ("t1", texts.STOPPED)
        assert not await flow.intake.stop(ConversationId("t1")), "there is nothing any more"


async def test_stop_is_heard_between_the_claim_and_the_start_of_a_turn(tmp_path: Path) -> None:
    claimed, go = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        claimed.set()
        await go.wait()

    async with Flow(tmp_path, ledger=claiming(held)) as flow:
        await flow.say("hello")
        await claimed.wait()
        await flow.intake.accept(stop("t1"))
        go.set()
        assert await flow.answers(1) == [("t1", texts.STOPPED)]
        assert flow.agents.prompts == []
        await flow.say("and now?")
        assert (await flow.answers(2))[1] == ("t1", "ok")


async def test_a_trace_tells_which_tools_were_used_when_and_by_which_attempt(
    tmp_path: Path,
) -> None:
    async with Flow(tmp_path) as flow:
        plays: Iterator[Sequence[Step]] = iter(
            [[Work("Read"), Work("Bash"), Die()], [Work("Grep"), Say("found")]]
        )
        flow.agents.script = lambda _: next(plays)
        heard = await flow.say("look for it")
        await flow.answers(1)
        story = await flow.ledger.trace(str(heard.message))
        assert story is not None
        moments = cast("list[dict[str, object]]", story["timeline"])
        told = [(m["what"], m["detail"]) for m in moments if m["what"] in {"attempt", "tool used"}]
        assert [detail for what, detail in told if what == "tool used"] == ["Read", "Bash", "Grep"]
        assert [what for what, _ in told] == [
            "attempt", "tool used", "tool used", "attempt", "tool used",
        ]  # fmt: skip

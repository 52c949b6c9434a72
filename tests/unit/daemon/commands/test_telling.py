"""What an operator reads at night: how a message stands, who did what, and what to do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.commands import telling
from daemon.ledger import read_only
from daemon.model import (
    ConversationId,
    Ignored,
    ModelCall,
    Outcome,
    Trust,
    TurnState,
    Unreadable,
    Usage,
)
from daemon.ports import Ending
from tests.ledgers import PROCESS, Stage, new_stage, post


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with new_stage(tmp_path) as stage:
        yield stage


async def told(stage: Stage, any_id: object) -> list[str]:
    story: Any = await stage.ledger.trace(str(any_id))
    assert story is not None
    return list(telling.story(story, stage.clock.now()))


async def verdict(stage: Stage, any_id: object) -> str:
    """The first line, behind the id."""
    return (await told(stage, any_id))[0].partition(": ")[2]


# --- how a message stands -------------------------------------------------------------------------


async def test_a_message_that_waits_says_for_how_long(stage: Stage) -> None:
    heard = await stage.hear(stage.message())
    await stage.clock.advance(300)
    assert await verdict(stage, heard.message) == "waits for its turn, for 5 min now"


async def test_a_message_that_is_worked_on_and_one_that_was_put_back(stage: Stage) -> None:
    turn = await stage.running()
    await stage.clock.advance(30)
    assert await verdict(stage, turn.id) == "the agent is at work, for 30 s now"
    at = stage.clock.now() + 60
    await stage.ledger.requeue(turn.id, not_before=at, resend=False, reason="the model said 529")
    assert await verdict(stage, turn.id) == (
        "waits until 2027-01-15 08:01:30.000Z for its next attempt: the model said 529"
    )


async def test_an_answered_message_says_after_how_long(stage: Stage) -> None:
    turn, effect = await stage.done()
    assert await verdict(stage, turn.id) == f"worked on; post {effect.id} is pending"
    await stage.clock.advance(2.5)
    await stage.ledger.mark_sending(effect.id)
    await stage.ledger.mark_sent(effect.id, "1700.2")
    assert await verdict(stage, turn.id) == "answered after 2.5 s"


async def test_what_needs_a_person_names_the_command(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "three failures"))
    assert await verdict(stage, turn.id) == (
        f"given up on: three failures; `postroom dead retry {turn.id}` tries it again"
    )
    await stage.ledger.dead_discard(turn.id)
    assert await verdict(stage, turn.id) == ("given up on, and closed by a person: three failures")
    done, effect = await stage.done(conversation="t2")
    await stage.ledger.mark_sending(effect.id)
    await stage.ledger.mark_unclear(effect.id, "cut off after DATA")
    assert await verdict(stage, done.id) == (
        f"worked on; post {effect.id} is unclear: cut off after DATA; "
        f"`postroom dead retry {effect.id}` sends it (again)"
    )


async def test_what_is_not_answered_says_why(stage: Stage) -> None:
    await stage.ledger.register(Ignored("chat", "own", "our own message"))
    await stage.ledger.register(Unreadable("mail", "odd", "no headers", b"x"))
    await stage.hear(stage.message())
    await stage.hear(
        stage.message(outside_id="guest", trust=Trust.PUBLIC, sender="eve"), Outcome.LEFT_OUT
    )
    await stage.hear(
        stage.message(outside_id="new", conversation="t9", trust=None), Outcome.UNIDENTIFIED
    )
    assert await verdict(stage, "own") == "ignored: our own message"
    assert await verdict(stage, "odd") == "unreadable: no headers"
    assert await verdict(stage, "guest") == (
        "left out: of a lower trust label than its conversation"
    )
    assert await verdict(stage, "new") == "waits until it is known who wrote it"


async def test_a_message_whose_record_has_gone_is_still_known(stage: Stage) -> None:
    await stage.hear(stage.message(outside_id="C1:1"))
    await stage.ledger.erase("t1")
    assert "only its key is kept" in await verdict(stage, "C1:1")


async def test_a_notice_that_no_turn_wrote_has_a_story_too(stage: Stage) -> None:
    await stage.ledger.add_effects((notice := post("n"),))
    await stage.ledger.mark_pending(notice.id, stage.clock.now() + 10, "429")
    lines = await told(stage, notice.id)
    assert lines[0] == (
        f"effect {notice.id} (post, chat): is to be sent at 2027-01-15 08:00:10.000Z: 429"
    )


# --- what happened --------------------------------------------------------------------------------


EVENT = re.compile(r"  [\d:.]{12} +(\+[\d.]+)?  (\w+) +(.*?)  +(\S+)")


async def test_the_whole_story_is_in_order_with_who_did_what_and_when(stage: Stage) -> None:
    async def later(seconds: float = 1.0) -> None:
        await stage.clock.advance(seconds)

    heard = await stage.hear(stage.message(outside_id="C1:1700.1"))
    await later(0.25)
    turn = await stage.claim()
    await later()
    await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
    await later(86_400)
    await stage.reopen()
    await stage.ledger.interrupted()
    await later()
    await stage.ledger.requeue(turn.id, not_before=0, resend=False, reason="restarted")
    await stage.claim()
    await later()
    await stage.ledger.begin_attempt(turn.id, 2, PROCESS)
    await later()
    call = ModelCall(
        turn.conversation,
        turn.id,
        turn.sender,
        "claude",
        Usage(900, 100),
        0.05,
        200,
        stage.clock.now(),
        1.5,
    )
    await stage.ledger.book(call)
    await later()
    await stage.ledger.stage(turn.id, 2, "tool", label := post("label"))
    await later()
    answer = post("answer")
    ending = Ending(TurnState.DONE, "hi", "", (answer,), keep_staged=True)
    await stage.ledger.end_turn(turn.id, ending)
    await later()
    await stage.ledger.mark_sending(label.id)
    await later(0.5)
    await stage.ledger.mark_sent(label.id, "1700.2")

    lines = await told(stage, heard.message)
    assert lines[0].startswith(f"message {heard.message}: worked on; post {answer.id} is pending")
    assert lines[1] == "  chat, outside id C1:1700.1, conversation t1"
    assert lines[2] == (
        f"turn {turn.id}: done, attempt 2, 1 model call, 1 death, 1,000 tokens, $0.0500"
    )
    assert [line for line in lines if line.endswith("UTC")] == ["2027-01-15 UTC", "2027-01-16 UTC"]
    events = [found.groups() for line in lines[3:] if (found := EVENT.fullmatch(line))]
    assert events == [
        (None, "author", "wrote it", heard.message),
        ("+1.000", "daemon", "registered it, and let it be acknowledged", heard.message),
        ("+0.250", "daemon", "took it up as a turn", turn.id),
        ("+1.000", "daemon", "asked the agent, attempt 1, process 4711", turn.id),
        ("+86400.000", "daemon", "had died meanwhile, and starts again", turn.id),
        ("+1.000", "daemon", "put it back: restarted", turn.id),
        ("+1.000", "daemon", "asked the agent, attempt 2, process 4711", turn.id),
        ("+1.000", "model", "was asked: claude 200, 1.5 s, 1000 tokens, $0.0500", turn.id),
        ("+1.000", "agent", "wants outside: post", label.id),
        ("+1.000", "agent", "answered", turn.id),
        ("+0.000", "daemon", "has to send: post", answer.id),
        ("+1.000", "daemon", "begins to send", label.id),
        ("+0.500", "outside", "has it as 1700.2", label.id),
    ]


# --- lists and texts ------------------------------------------------------------------------------


async def test_lists_are_aligned_and_cut_nothing(stage: Stage) -> None:
    await stage.sent(conversation="slack:T1:C1:1700000000.000100-" + "x" * 80)
    await stage.clock.advance(7200)
    turn = await stage.running(conversation="t2")
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "three\nfailures"))
    await stage.clock.advance(60)
    now = stage.clock.now()
    rows = list(telling.conversations(await stage.ledger.conversations(9), now))
    assert rows[0].split() == [
        "conversation", "connector", "trust", "last", "state", "waiting", "turns", "cost",
    ]  # fmt: skip
    assert rows[1].split()[:6] == ["t2", "chat", "member", "60", "s", "ago"]
    assert "x" * 80 in rows[2]
    assert rows[1].index("chat") == rows[2].index("chat") == rows[0].index("connector")
    head, letter = telling.dead_letters(await stage.ledger.dead(), now)
    assert head.split() == ["id", "kind", "connector", "when", "age", "reason"]
    assert letter.split("  ")[0] == turn.id
    assert "2027-01-15 10:00:00.000Z  60 s  three failures" in letter


async def test_a_conversation_is_shown_with_its_texts_and_a_harmless_terminal(
    stage: Stage,
) -> None:
    evil = "look:\x1b]0;owned\x07\x1b[2J\u202etxt.exe\nsecond line"
    await stage.hear(stage.message(evil, sender="eve\x1b[1m"))
    turn = await stage.claim()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "an answer"))
    reading = await read_only(stage.root)
    t1 = ConversationId("t1")
    about, said = await reading.conversation(t1), await reading.talk(t1, 10)
    await reading.close()
    assert about is not None
    lines = list(telling.conversation(about, said))
    assert lines[0] == "t1 (chat, member)"
    assert lines[-1] == "    an answer"
    assert "    second line" in lines
    whole = "\n".join(lines)
    assert not set(whole) & set("\x1b\x07\u202e")
    assert "look:·]0;owned··[2J·txt.exe" in whole


def test_a_status_says_what_is_not_ready() -> None:
    part = {"state": "pass", "ready": True, "detail": "", "age_seconds": 1.26, "numbers": {}}
    down = {**part, "state": "fail", "ready": False, "detail": "no pong", "age_seconds": None}
    numbers = {"max": 8, "idle": None, "busy": 2, "outbox_dead": 0, "last": 1_800_000_000.5}
    pool = {**part, "numbers": numbers}
    lines = list(
        telling.status(
            {
                "ready": False,
                "status": "fail",
                "version": "1.2",
                "uptime_seconds": 7300.0,
                "components": {"ledger": part, "connector:slack": down, "pool": pool},
                "notices": ["turn-1 is lost"],
            }
        )
    )
    assert lines[0] == "NOT ready; fail; version 1.2; up 2 h"
    assert lines[3].split("  ")[0] == "connector:slack"
    assert "fail, not ready" in lines[3]
    assert lines[3].endswith("no pong")
    assert lines[4].endswith("max=8 busy=2 last=2027-01-15 08:00:00.500Z")
    assert lines[5] == "notice: turn-1 is lost"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ages_are_told_in_one_unit(seconds: float, text: str) -> None:
    assert telling.age(seconds) == text


def test_an_impossible_time_is_no_trouble() -> None:
    assert telling.moment(1e30).startswith("9999")
    assert telling.moment(-1e30).endswith("00:00:00.000Z")

"""Drafts and labels where the mailbox fails: what a cut at each moment comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from connectors.imap.client import ConnectionLost, ImapClient, Refused, Selected
from connectors.imap.filing import Filing
from connectors.imap.outbound import Envelope
from daemon.clock import SystemClock
from daemon.errors import LedgerError, PostroomError, Unavailable
from daemon.model import (
    ConversationId,
    Effect,
    EffectId,
    EffectKind,
    EffectState,
    NotNow,
    Rejected,
    Sent,
    Sighting,
    Unclear,
)

T = TypeVar("T")

MAIL = Envelope("support@example.com", (), "<eff-1@example.com>", b"raw")
LABEL = Effect(
    EffectId("eff-1"),
    "support",
    ConversationId("c"),
    EffectKind.LABEL,
    {"mails": [["INBOX", 1, 5, "<a@b>"]]},
    {"keyword": "Triage/order"},
    EffectState.PENDING,
    0.0,
)


class Box:
    """A mailbox in memory. `failures` are raised by the command of their name; `done` is what the
    server was made to do, in order.
    """

    def __init__(self, *, keywords: bool = True, **failures: PostroomError) -> None:
        self.failures = failures
        self.done: list[str] = []
        self.keywords = keywords
        self.there: dict[str, list[int]] = {}
        self._folder = ""

    async def work(self, job: Callable[[ImapClient], Awaitable[T]]) -> T:
        self._fail("work")
        return await job(cast("ImapClient", self))

    async def special(self, use: str) -> str:
        self._fail("special")
        return use

    async def select(self, folder: str, *, read_only: bool = False) -> Selected:
        self._fail("select")
        self._folder = folder
        return Selected(1, None, self.keywords)

    async def search(self, *_criteria: str) -> list[int]:
        return self.there.get(self._folder, [])

    async def append(self, folder: str, _mail: bytes, flags: str) -> None:
        self._fail("append")
        self.done.append(f"append {folder} {flags}")

    async def add_flag(self, uids: list[int], flag: str) -> None:
        self._fail("add_flag")
        self.done.append(f"flag {uids} {flag}")

    def _fail(self, command: str) -> None:
        if command in self.failures:
            raise self.failures[command]


def filing(box: Box) -> Filing:
    return Filing(box, SystemClock(), look_apart=0.0)


async def drafted(box: Box) -> Any:
    async def sending() -> None:
        box.done.append("sending")

    return await filing(box).leave_draft(MAIL, sending)


async def labelled(box: Box) -> Any:
    async def sending() -> None:
        box.done.append("sending")

    return await filing(box).label(LABEL, sending)


async def test_sending_is_committed_before_the_draft_can_be_seen() -> None:
    box = Box()
    assert await drafted(box) == Sent("<eff-1@example.com>")
    assert box.done == ["sending", r"append Drafts (\Draft \Seen)"]


@pytest.mark.parametrize("command", ["special", "work"])
async def test_a_mailbox_that_is_away_has_no_draft(command: str) -> None:
    box = Box()
    box.failures[command] = Unavailable("not connected", retry_after=7.0)
    assert await drafted(box) == NotNow("not connected", 7.0)
    assert box.done == []


async def test_a_draft_that_was_cut_off_is_unclear() -> None:
    assert isinstance(await drafted(Box(append=ConnectionLost("cut"))), Unclear)


async def test_a_draft_that_is_refused_waits_for_a_person() -> None:
    found = await drafted(Box(append=Refused("NO over quota")))
    assert isinstance(found, NotNow)
    assert found.retry_after > 60
    assert "over quota" in found.reason


async def test_no_draft_is_left_where_sending_cannot_be_committed() -> None:
    box = Box()

    async def broken() -> None:
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError):
        await filing(box).leave_draft(MAIL, broken)
    assert box.done == []


@pytest.mark.parametrize("folder", ["Drafts", "Sent"])
async def test_a_draft_is_found_where_it_was_left_or_where_a_person_sent_it(folder: str) -> None:
    box = Box()
    box.there = {folder: [3]}
    assert await filing(box).find_draft(MAIL) == Sent("<eff-1@example.com>")


async def test_a_draft_that_appears_late_is_seen_by_the_second_look() -> None:
    box = Box()
    looks = 0

    async def search(*_criteria: str) -> list[int]:
        nonlocal looks
        looks += 1
        return [1] if looks == 3 else []

    box.search = search  # type: ignore[method-assign]
    assert await filing(box).find_draft(MAIL) == Sent("<eff-1@example.com>")


async def test_a_draft_that_is_nowhere_is_proven_absent() -> None:
    assert await filing(Box()).find_draft(MAIL) is Sighting.ABSENT


async def test_a_folder_that_cannot_be_opened_proves_nothing() -> None:
    box = Box(select=Refused("NO"))
    assert await filing(box).find_draft(MAIL) is Sighting.UNKNOWN
    assert await filing(box).find_sent(MAIL) is Sighting.UNKNOWN
    assert await filing(box).find_label(LABEL) is Sighting.UNKNOWN


async def test_absence_in_sent_proves_nothing() -> None:
    assert await filing(Box()).find_sent(MAIL) is Sighting.UNKNOWN


async def test_a_copy_is_filed_unless_one_is_there() -> None:
    box = Box()
    await filing(box).file_copy("<a@b>", b"raw")
    box.there = {"Sent": [1]}
    await filing(box).file_copy("<a@b>", b"raw")
    assert box.done == [r"append Sent (\Seen)"]


async def test_sending_is_committed_before_the_label_can_be_seen() -> None:
    box = Box()
    box.there = {"INBOX": [5]}
    assert await labelled(box) == Sent("Triage/order")
    assert box.done == ["sending", "flag [5] Triage/order"]


async def test_a_mailbox_that_keeps_no_flags_is_no_trouble_to_an_answer() -> None:
    box, away = Box(add_flag=Refused("NO read-only")), Box(add_flag=ConnectionLost("gone"))
    box.there = away.there = {"INBOX": [5]}
    await Filing(box, SystemClock()).mark_answered([["INBOX", 1, 5, "<a@b>"]])
    assert box.done == []
    with pytest.raises(Unavailable):  # but one that is away is waited for
        await Filing(away, SystemClock()).mark_answered([["INBOX", 1, 5, "<a@b>"]])


async def test_a_server_without_keywords_takes_no_label() -> None:
    box = Box(keywords=False)
    box.there = {"INBOX": [5]}
    assert isinstance(await labelled(box), Rejected)
    assert box.done == []


async def test_a_mailbox_that_is_away_is_waited_for_with_a_label() -> None:
    """Delivery takes Unavailable for "not now"; a label that may be there is stored again."""
    with pytest.raises(Unavailable):
        await labelled(Box(work=Unavailable("not connected")))

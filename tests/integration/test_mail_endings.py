"""What comes of an answer by mail when the server that takes it does not: from mail to mail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon import delivery
from daemon.agents.scripted import Say
from tests.dovecot import Postbox
from tests.flow import Flow
from tests.integration.mail_flow import mail_flow, mailbox, settled
from tests.integration.mail_stage import parsed
from tests.mails import raw
from tests.smtp_sink import SmtpSink, Taken

pytestmark = pytest.mark.dovecot


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    async with SmtpSink() as started:
        yield started


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of delivery, short."""
    monkeypatch.setattr(delivery, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "LOOK_AGAIN_SECONDS", 0.5)


def follow_up(number: int) -> bytes:
    name = f"<{number}@example.com>"
    return raw(("In-Reply-To", "<one@example.com>"), message_id=name, text=f"And {number}?")


async def asked(flow: Flow, postbox: Postbox) -> None:
    flow.agents.script = lambda _prompt: [Say("On Sundays.")]
    await postbox.delivered(raw())


async def the_effect(flow: Flow) -> Mapping[str, Any]:
    """The answer to the first mail, as `postroom trace` of its Message-ID shows it."""
    story = await flow.ledger.trace("<one@example.com>")
    assert story is not None
    effects: Any = story["effects"]
    found: Mapping[str, Any] = effects[0]
    return found


@pytest.mark.parametrize("where", ["sender", "recipient", "mail"])
async def test_a_greylisted_answer_is_sent_once_and_as_it_was(
    where: str, postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    later = "451 4.7.1 Greylisted, come back in a while"
    if where == "mail":
        sink.script = deque([later, later])
    else:
        sink.refused["support@example.com" if where == "sender" else "bob@example.com"] = later
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        await asked(flow, postbox)
        await sink.until(lambda: sink.turned_away >= 2)
        effect = await the_effect(flow)
        sink.refused.clear()
        await sink.until(lambda: sink.taken)
        await settled(flow, 1)
        assert flow.told == []
        (taken,) = sink.taken
        assert parsed(taken.raw)["Message-ID"] == f"<{effect['id']}@example.com>"


@pytest.mark.parametrize("where", ["recipient", "mail"])
async def test_a_refusal_for_good_is_a_dead_letter_and_the_thread_goes_on(
    where: str, postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    refusal = "550 5.1.1 No such user"
    if where == "mail":
        sink.script = deque([refusal])
    else:
        sink.refused["bob@example.com"] = refusal
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        await asked(flow, postbox)
        await sink.until(lambda: sink.turned_away)
        await settled(flow, 1)
        (letter,) = await flow.ledger.dead()
        assert "550 5.1.1 No such user" in str(letter["reason"])
        (told,) = flow.told
        assert "could not be delivered" in told
        assert "`Re: Opening hours`" in told
        sink.refused.clear()
        await postbox.delivered(follow_up(2))
        await sink.until(lambda: sink.taken)
        assert sink.turned_away == 1  # what is refused for good is not tried again


async def test_an_answer_that_may_have_arrived_is_named_and_not_sent_again(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    sink.script = deque(["die"])
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        await asked(flow, postbox)
        await flow.until(lambda: bool(flow.told), 60)
        await settled(flow, 1)
        effect = await the_effect(flow)
        assert effect["state"] == "unclear"
        (told,) = flow.told
        assert f"{effect['id']} may or may not have arrived" in told
        assert f"postroom trace {effect['id']}" in told
        assert str(effect["conversation"]) in told
        for what in ("Re: Opening hours", "bob@example.com", "one@example.com"):
            assert f"`{what}`" in told
        story: Any = await flow.ledger.trace(str(effect["id"]))
        assert [message["alternate_id"].split()[0] for message in story["messages"]] == [
            "<one@example.com>"
        ]
        assert "unclear" in [moment["what"] for moment in story["timeline"]]
        await postbox.delivered(follow_up(2))  # the thread goes on
        await sink.until(lambda: len(sink.taken) == 2)
        await settled(flow, 2)
        answered = [parsed(taken.raw)["In-Reply-To"] for taken in sink.taken]
        assert answered == ["<one@example.com>", "<2@example.com>"]


async def test_an_answer_that_the_server_has_filed_is_known_to_have_arrived(
    postbox: Postbox, sink: SmtpSink, tmp_path: Path
) -> None:
    """As Gmail and Exchange do: the copy in Sent is theirs."""

    def file(taken: Taken) -> None:
        with postbox.reader() as reader:
            reader.append("Sent", "", "", taken.raw)

    sink.script, sink.deliver = deque(["die"]), file
    async with mail_flow(tmp_path, support=mailbox(postbox, sink)) as flow:
        await asked(flow, postbox)
        await sink.until(lambda: sink.taken)
        await settled(flow, 1)
        assert (await the_effect(flow))["state"] == "sent"
        assert flow.told == []
        assert len(await asyncio.to_thread(postbox.mails, "Sent")) == 1
        assert len(sink.taken) == 1

"""The stand-in for a mail provider, spoken to line by line and by the standard library."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import AsyncIterator

import pytest

from daemon.demo.mail import Letter, StandInMail

DESK, ANN = "desk@example.test", "ann@example.test"
LITERAL = re.compile(rb"\{(\d+)\}\r\n$")


class Talk:
    """One IMAP connection, logged in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls, mail: StandInMail, password: str = StandInMail.password) -> Talk:
        reader, writer = await asyncio.open_connection("127.0.0.1", mail.imap_port)
        talk = cls(reader, writer)
        await talk.line()
        talk.said = await talk.ask(f'LOGIN "{DESK}" "{password}"')
        return talk

    said = b""

    async def line(self) -> bytes:
        """A line of the server, with the literals in it."""
        async with asyncio.timeout(30):
            line = await self._reader.readline()
            while found := LITERAL.search(line):
                line += (
                    await self._reader.readexactly(int(found[1])) + await self._reader.readline()
                )
            return line

    async def ask(self, command: str, literal: bytes = b"") -> bytes:
        """A command; everything that the server says up to its end."""
        self.send(f"t1 {command}")
        if literal:
            assert (await self.line()).startswith(b"+")
            self._writer.write(literal + b"\r\n")
        said = b""
        while not said.rpartition(b"\r\nt1 ")[1] and not said.startswith(b"t1 "):
            said += await self.line()
        return said

    def send(self, line: str) -> None:
        self._writer.write(line.encode() + b"\r\n")

    async def end(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture
async def mail() -> AsyncIterator[StandInMail]:
    async with StandInMail([DESK]) as standing:
        yield standing


@pytest.fixture
async def talk(mail: StandInMail) -> AsyncIterator[Talk]:
    began = await Talk.begin(mail)
    yield began
    await began.end()


async def send(mail: StandInMail, to: str, raw: bytes) -> None:
    def hand_over() -> None:
        with smtplib.SMTP("127.0.0.1", mail.smtp_port, timeout=20) as smtp:
            smtp.sendmail(DESK, [to], raw)

    await asyncio.to_thread(hand_over)


async def question(mail: StandInMail) -> Letter:
    return await mail.write(f"Ann Buyer <{ANN}>", DESK, "Hours", "When are you open?")


async def test_a_mail_is_pushed_to_a_client_that_idles(mail: StandInMail, talk: Talk) -> None:
    await talk.ask("SELECT INBOX")
    talk.send("t2 IDLE")
    assert (await talk.line()).startswith(b"+")
    await question(mail)
    assert await talk.line() == b"* 1 EXISTS\r\n"


async def test_a_mail_that_came_just_before_idle_is_pushed_too(
    mail: StandInMail, talk: Talk
) -> None:
    await talk.ask("SELECT INBOX")
    await question(mail)
    talk.send("t2 IDLE")
    assert (await talk.line()).startswith(b"+")
    assert await talk.line() == b"* 1 EXISTS\r\n"


async def test_what_a_client_fetches_is_what_lies_there(mail: StandInMail, talk: Talk) -> None:
    letter = await question(mail)
    selected = await talk.ask("SELECT INBOX")
    assert b"[UIDVALIDITY %d]" % letter.uidvalidity in selected
    fetched = await talk.ask(f"UID FETCH {letter.uid} (UID RFC822.SIZE BODY.PEEK[])")
    assert letter.raw in fetched
    assert b"UID %d RFC822.SIZE %d " % (letter.uid, len(letter.raw)) in fetched
    assert letter.outside_id == f"INBOX:{letter.uidvalidity}:{letter.uid}"
    assert letter.text == "When are you open?"


async def test_a_mail_says_whether_its_sender_was_proven(mail: StandInMail) -> None:
    proven = (await question(mail)).header("Authentication-Results")
    assert proven.startswith("mx.example.test;")
    assert "dmarc=pass header.from=example.test" in proven
    forged = await mail.write("boss@example.test", DESK, "Pay", "Now!", authenticated=False)
    assert "dmarc=fail" in forged.header("Authentication-Results")
    assert "pass" not in forged.header("Authentication-Results")


async def test_keywords_stay(mail: StandInMail, talk: Talk) -> None:
    letter = await question(mail)
    assert rb"\*" in await talk.ask("SELECT INBOX")
    await talk.ask(f"UID STORE {letter.uid} +FLAGS.SILENT (Triage/urgent)")
    assert [kept.flags for kept in await mail.letters(DESK)] == [frozenset({"Triage/urgent"})]
    assert b"* SEARCH %d\r\n" % letter.uid in await talk.ask("UID SEARCH KEYWORD Triage/urgent")


async def test_the_folders_for_drafts_and_sent_are_marked(talk: Talk) -> None:
    listed = await talk.ask('LIST "" "*"')
    assert re.search(rb'\(\S* ?\\Drafts\) "/" Drafts\r\n', listed)
    assert re.search(rb'\(\S* ?\\Sent\) "/" Sent\r\n', listed)
    assert re.search(rb'\(\\HasNoChildren\) "/" INBOX\r\n', listed)


async def test_an_append_lies_in_its_folder_and_is_found_by_its_message_id(
    mail: StandInMail, talk: Talk
) -> None:
    raw = b"Message-ID: <d1@example.test>\r\nSubject: Re: Hours\r\n\r\nAt nine.\r\n"
    waiting = asyncio.create_task(mail.wait_for(DESK, lambda _: True, "Drafts"))
    said = await talk.ask(rf"APPEND Drafts (\Draft) {{{len(raw)}}}", raw)
    draft = await waiting
    assert b"[APPENDUID %d %d]" % (draft.uidvalidity, draft.uid) in said
    assert (draft.raw, draft.flags) == (raw, frozenset({"\\Draft"}))
    await talk.ask("SELECT Drafts")
    found = await talk.ask('UID SEARCH HEADER Message-ID "<d1@example.test>"')
    assert b"* SEARCH %d\r\n" % draft.uid in found


async def test_an_answer_comes_back_to_its_writer(mail: StandInMail) -> None:
    asked = await question(mail)
    other = await mail.write(ANN, DESK, "Returns", "How?")
    raw = (
        f"From: {DESK}\r\nTo: {ANN}\r\nMessage-ID: <a1@example.test>\r\n"
        f"In-Reply-To: {asked.message_id}\r\n\r\nFrom nine.\r\n"
    )
    await send(mail, ANN, raw.encode())
    answer = await mail.answer_to(asked)
    assert answer.text == "From nine."
    again = await mail.write(ANN, DESK, "Re: Hours", "Thanks", answers=answer)
    assert again.header("In-Reply-To") == "<a1@example.test>"
    with pytest.raises(TimeoutError):
        await mail.answer_to(other, within=0.05)


async def test_nothing_can_be_sent_to_where_there_is_no_mailbox(mail: StandInMail) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        await send(mail, "somebody@elsewhere.example", b"Subject: x\r\n\r\nx\r\n")
    assert refused.value.recipients["somebody@elsewhere.example"][0] == 550


async def test_a_wrong_password_is_refused(mail: StandInMail) -> None:
    talk = await Talk.begin(mail, "another")
    assert talk.said.startswith(b"t1 NO [AUTHENTICATIONFAILED]")
    await talk.end()


async def test_it_ends_while_a_client_idles_and_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with StandInMail([DESK]) as mail:
        talk = await Talk.begin(mail)
        await talk.ask("SELECT INBOX")
        talk.send("t2 IDLE")
        assert (await talk.line()).startswith(b"+")
        async with asyncio.timeout(30):
            await mail.__aexit__()
    assert asyncio.all_tasks() <= before
    await talk.end()

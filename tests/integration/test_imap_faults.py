"""A mailbox on a server that misbehaves: nothing is lost, nothing is read twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.imap import fetching
from connectors.imap.catchup import BREAKS, GONE, SENSELESS
from connectors.imap.client import ImapClient, Limits
from connectors.imap.mail import Mail
from connectors.imap.parsing import ParsingTimes
from connectors.imap.proof import Timing
from daemon.errors import AuthenticationFailed, Unavailable
from daemon.model import Cursor, Ignored, Message, Outcome, Unreadable
from daemon.ports import Intake
from tests.fakes import RecordingIntake
from tests.imap_server import Conversation, ScriptedImap
from tests.integration.imap_stage import NAME, Stage, mailbox_of, on_stage, read, table_of

SHORT = Limits(idle=0.5)
LATER = "28-Nov-2026 11:00:00 +0000"  # than the server says where a test does not care
# Long: nothing in a test waits for them to end.
TIMING = Timing(idle=50.0, poll=50.0, first_pause=0.05, last_pause=0.1)


def raw(subject: str, body: str = "hello") -> bytes:
    return f"From: a@example.test\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


def mails(*subjects: str) -> dict[int, bytes]:
    return {number: raw(subject) for number, subject in enumerate(subjects, 1)}


@asynccontextmanager
async def stage_of(
    server: ScriptedImap, tmp_path: Path, *, known: int | None = 0, **more: Any
) -> AsyncIterator[Stage]:
    """`known`: the uid of the stored cursor; None: a first start."""
    intake = more.pop("intake", None) or RecordingIntake()
    if known is not None:
        intake.cursors.setdefault((NAME, "INBOX"), Cursor(NAME, "INBOX", server.uidvalidity, known))
    options = {"timing": TIMING, "longest_wait": 0.02, **more}
    async with server.serving():
        table = table_of(server.port, "me", host="127.0.0.1", imap={"security": "plain"})
        async with on_stage(table, tmp_path, intake=intake, **options) as stage:
            yield stage


# --- the cursor ----------------------------------------------------------------------------------


async def test_a_first_start_answers_no_old_mail(tmp_path: Path) -> None:
    server = ScriptedImap(mails("old", "older"))
    async with stage_of(server, tmp_path, known=None) as stage:
        await stage.until_ready()
        server.put(raw("new"))
        assert await stage.subjects(1) == ["new"]
    assert stage.intake.cursors[NAME, "INBOX"] == Cursor(NAME, "INBOX", 7, 3)


async def test_a_first_start_in_an_empty_folder_begins_at_nothing(tmp_path: Path) -> None:
    server = ScriptedImap()
    async with stage_of(server, tmp_path, known=None) as stage:
        await stage.until_ready()
        server.put(raw("first"))
        assert await stage.subjects(1) == ["first"]


async def test_the_last_mail_is_not_read_again_with_each_look(tmp_path: Path) -> None:
    server = ScriptedImap(mails("one"))  # "UID SEARCH UID 2:*" finds uid 1
    async with stage_of(server, tmp_path, known=1) as stage:
        await stage.until_ready()
        server.put(raw("two"))
        await stage.subjects(1)
        await server.until_heard("UID SEARCH UID 2:*", times=2)
    assert server.count("UID FETCH 1 ") == 0
    assert [message.subject for message in stage.intake.messages] == ["two"]


async def test_the_cursor_moves_with_each_mail_and_in_order(tmp_path: Path) -> None:
    moved: list[tuple[str, int]] = []

    class Watching(RecordingIntake):
        async def accept(self, item: Any, cursor: Cursor | None = None) -> Any:
            moved.append((item.outside_id, cursor.uid if cursor else -1))
            return await super().accept(item, cursor)

    server = ScriptedImap(mails("a", "b", "c"))
    async with stage_of(server, tmp_path, intake=Watching()) as stage:
        await stage.subjects(3)
    assert moved == [("INBOX:7:1", 1), ("INBOX:7:2", 2), ("INBOX:7:3", 3)]


async def test_what_cannot_be_registered_comes_again(tmp_path: Path) -> None:
    intake = RecordingIntake(failures=2)
    server = ScriptedImap(mails("a", "b"))
    async with stage_of(server, tmp_path, intake=intake) as stage:
        assert await stage.subjects(2) == ["a", "b"]
    assert stage.outages == []  # the connection was good all the time
    assert [item.outside_id for item in intake.refused] == ["INBOX:7:1", "INBOX:7:1"]
    assert server.count("LOGIN") == 2


async def test_a_full_disk_is_waited_out_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("in the way of the folder")
    server = ScriptedImap(mails("a"))
    async with stage_of(server, tmp_path) as stage:
        await server.until_heard("SELECT", times=2)
        assert "registered" in stage.mailbox.condition().trouble
        (tmp_path / "raw").unlink()
        assert await stage.subjects(1) == ["a"]
    assert stage.outages == []


async def test_mail_is_left_on_the_server_while_intake_is_full(tmp_path: Path) -> None:
    intake = RecordingIntake(fullness="20000 messages wait for their turn")
    server = ScriptedImap(mails("a", "b"))
    async with stage_of(server, tmp_path, intake=intake) as stage:
        await stage.until_ready()
        await server.until_heard("UID SEARCH UID 1:*", times=3)
        now = stage.mailbox.condition()
        assert (now.ages.alive, now.behind) == (True, 2)
        assert "20000 messages" in now.trouble
        assert server.count("UID FETCH") == 0
        assert await stage.mailbox.work(lambda client: client.search("UID", "2")) == [2]
        intake.fullness = ""
        assert await stage.subjects(2) == ["a", "b"]
        await server.until_heard("UID SEARCH UID 3:*")
        now = stage.mailbox.condition()
        assert (now.trouble, now.behind) == ("", 0)
    assert stage.outages == []


async def test_a_flood_pauses_where_intake_is_full_and_goes_on_from_there(tmp_path: Path) -> None:
    class Filling(RecordingIntake):
        async def accept(self, item: Any, cursor: Cursor | None = None) -> Any:
            registered = await super().accept(item, cursor)
            if len(self.items) == 120:
                self.fullness = "120 messages wait for their turn"
            return registered

    intake = Filling()
    subjects = [f"m{number}" for number in range(300)]
    server = ScriptedImap(mails(*subjects))
    async with stage_of(server, tmp_path, intake=intake) as stage:
        await stage.until_ready()
        await stage.registered(120)
        await server.until_heard("UID SEARCH UID 151:*", times=2)  # the group of 50 ends, no more
        assert len(intake.items) == 150
        intake.fullness = ""
        assert await stage.subjects(300) == subjects
    assert stage.outages == []
    assert server.count("UID FETCH 151") > 0


# --- single mails --------------------------------------------------------------------------------


async def test_a_mail_that_vanishes_before_its_fetch_is_passed_and_noted(tmp_path: Path) -> None:
    server = ScriptedImap(mails("a", "gone", "c"), vanishing={2})
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(2) == ["a", "c"]
    ignored = [item for item in stage.intake.items if isinstance(item, Ignored)]
    assert [(item.outside_id, item.reason) for item in ignored] == [("INBOX:7:2", GONE)]


async def test_a_mail_that_vanishes_between_facts_and_fetch_is_passed_too(tmp_path: Path) -> None:
    server = ScriptedImap(mails("a", "gone", "c"))

    async def expunged(client: Conversation, command: str) -> None:
        server.vanishing.add(2)
        del server.on["UID FETCH 1,2,3 (UID BODY"]
        await server._answer(client, command)

    server.on["UID FETCH 1,2,3 (UID BODY"] = expunged
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(2) == ["a", "c"]
    assert Outcome.IGNORED in stage.intake.outcomes


async def test_a_refusal_for_one_that_is_gone_costs_the_others_nothing(tmp_path: Path) -> None:
    server = ScriptedImap(mails("a", "gone", "c"))

    async def refuses(client: Conversation, command: str) -> None:
        if "BODY" in command and "2" in command.split()[2]:
            server.mails.pop(2, None)
            client.no("[EXPUNGEISSUED] Some of the requested messages no longer exist")
            return
        server.on.pop("UID FETCH")
        try:
            await server._answer(client, command)
        finally:
            server.on["UID FETCH"] = refuses

    server.on["UID FETCH"] = refuses
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(2) == ["a", "c"]
    assert stage.outages == []


async def test_a_mail_that_breaks_the_connection_is_kept_aside_and_the_next_is_read(
    tmp_path: Path,
) -> None:
    server = ScriptedImap(mails("a", "poison", "c"), poison={2})

    async def headers(client: Conversation, _command: str) -> None:
        client.send("* 2 FETCH (UID 2 BODY[HEADER] {18}\r\nSubject: poison\r\n\r\n)\r\n")
        client.ok()

    server.on["UID FETCH 2 (UID BODY.PEEK[HEADER])"] = headers
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(2) == ["a", "c"]
    (dead,) = [item for item in stage.intake.items if isinstance(item, Unreadable)]
    assert (dead.outside_id, dead.reason) == ("INBOX:7:2", BREAKS)
    assert b"poison" in dead.raw
    assert server.count("UID FETCH 2 (UID BODY.PEEK[])") == fetching.TRIES


async def test_a_mail_whose_very_headers_break_the_connection_is_passed(tmp_path: Path) -> None:
    server = ScriptedImap(mails("poison", "b"), poison={1})
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(1) == ["b"]
    (dead,) = [item for item in stage.intake.items if isinstance(item, Unreadable)]
    assert (dead.reason, dead.raw) == (BREAKS, b"")


async def test_a_mail_that_the_server_cannot_read_is_passed(tmp_path: Path) -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no("[SERVERBUG] Internal error")

    server = ScriptedImap(mails("bad", "b"), on={"UID FETCH 1 (UID BODY": no})
    server.on["UID FETCH 1,2 (UID BODY"] = no
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(1) == ["b"]
    assert [type(item) for item in stage.intake.items] == [Unreadable, Message]


async def test_a_large_mail_comes_whole_and_by_parts(tmp_path: Path) -> None:
    large = raw("large", "x" * (3 * fetching.PART_BYTES))
    server = ScriptedImap({1: large})
    async with stage_of(server, tmp_path) as stage:
        message = await stage.intake.message()
    assert (tmp_path / (message.raw or "")).read_bytes() == large
    assert not message.target["too_large"]
    assert server.count("UID FETCH 1 (UID BODY.PEEK[])") == 0
    assert server.count("UID FETCH 1 (UID BODY.PEEK[]<") == 4


async def test_of_a_mail_beyond_the_limit_headers_and_text_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WHOLE_BYTES", 2 << 20)  # the limit itself, not 30 MB of it
    monkeypatch.setattr("connectors.imap.catchup.WHOLE_BYTES", 2 << 20)
    server = ScriptedImap({1: raw("too large", "the text\r\n" + "x" * (4 << 20))})
    async with stage_of(server, tmp_path) as stage:
        message = await stage.intake.message()
    assert message.subject == "too large"
    assert message.text.startswith("the text")
    assert message.target["too_large"]
    assert (tmp_path / (message.raw or "")).stat().st_size == fetching.HEAD_BYTES


async def test_a_mail_that_cannot_be_parsed_is_a_dead_letter_with_its_raw_form(
    tmp_path: Path,
) -> None:
    nested = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(1000)
    )
    server = ScriptedImap({1: nested, 2: raw("b")})
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(1) == ["b"]
    (dead,) = [item for item in stage.intake.items if isinstance(item, Unreadable)]
    assert dead.raw == nested
    # Only what a message's row names stays on the disk.
    kept = await asyncio.to_thread(lambda: list(tmp_path.rglob("*.eml")))
    assert len(kept) == 1


async def test_a_mail_that_the_parser_is_too_slow_for_is_a_dead_letter(tmp_path: Path) -> None:
    server = ScriptedImap(mails("a"))
    async with stage_of(server, tmp_path, parsing=ParsingTimes(deadline=0.0)) as stage:
        await stage.intake.until(lambda: stage.intake.items)
    (dead,) = stage.intake.items
    assert isinstance(dead, Unreadable)
    assert dead.raw == raw("a")


async def test_a_mail_that_our_own_code_falls_over_is_a_dead_letter(tmp_path: Path) -> None:
    async def falls(mail: Mail, intake: Intake) -> Message | Ignored | Unreadable:
        if mail.uid == 1:
            raise KeyError("a bug of ours")
        return await read(mail, intake)

    server = ScriptedImap(mails("a", "b"))
    async with stage_of(server, tmp_path, read=falls) as stage:
        assert await stage.subjects(1) == ["b"]
    dead = stage.intake.items[0]
    assert isinstance(dead, Unreadable)
    assert dead.reason == SENSELESS
    assert "KeyError" not in dead.reason


# --- renumbered ----------------------------------------------------------------------------------


async def test_a_renumbered_folder_starts_no_second_turn(tmp_path: Path) -> None:
    server = ScriptedImap({1: raw("old")}, arrived={2: LATER, 3: LATER})
    intake = RecordingIntake()
    async with stage_of(server, tmp_path, known=None, intake=intake) as stage:
        await stage.until_ready()
        server.put(raw("a"))
        server.put(b"Message-ID: <b@x>\r\n" + raw("b"))
        await stage.subjects(2)
    old, a, b = (server.mails[uid] for uid in (1, 2, 3))
    another_b = b.replace(b"hello", b"something else")
    # While nobody looked: numbered anew in another order, and two more have come.
    server.mails = {11: b, 12: old, 13: a, 14: another_b, 15: raw("new")}
    server.arrived = dict.fromkeys((11, 13, 14, 15), LATER)
    server.uidvalidity = 8
    async with stage_of(server, tmp_path, known=None, intake=intake) as stage:
        assert await stage.subjects(4) == ["a", "b", "b", "new"]
        server.put(raw("after"))
        assert (await stage.subjects(5))[4] == "after"
    assert Outcome.DUPLICATE in intake.outcomes
    assert "old" not in [message.subject for message in intake.messages]
    assert intake.cursors[NAME, "INBOX"] == Cursor(NAME, "INBOX", 8, 16)


async def test_a_renumbering_that_is_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    server = ScriptedImap({1: raw("old")})
    intake = RecordingIntake()
    async with stage_of(server, tmp_path, known=None, intake=intake) as stage:
        await stage.until_ready()
    server.mails = {1: raw("old"), 2: raw("poison"), 3: raw("older")}
    server.arrived = {2: LATER}
    server.uidvalidity, server.poison = 8, {2}
    async with stage_of(server, tmp_path, known=None, intake=intake) as stage:
        await stage.until_out(2)
        server.poison.clear()
        assert await stage.subjects(1) == ["poison"]
        server.put(raw("after"))
        assert await stage.subjects(2) == ["poison", "after"]


async def test_a_mail_that_shows_late_is_found_by_reconciliation_once(tmp_path: Path) -> None:
    server = ScriptedImap({1: raw("old"), 5: raw("five")})
    timing = Timing(reconcile=0.05)
    async with stage_of(server, tmp_path, known=1, timing=timing) as stage:
        assert await stage.subjects(1) == ["five"]
        server.mails[3] = raw("late")
        assert await stage.subjects(2) == ["five", "late"]
        await server.until_heard("UID SEARCH SINCE", times=server.count("UID SEARCH SINCE") + 3)
    assert [message.subject for message in stage.intake.messages] == ["five", "late"]
    assert server.count("UID FETCH 3 (UID BODY") == 1
    assert server.count("UID FETCH 5 (UID BODY") == 1
    assert stage.intake.cursors[NAME, "INBOX"].uid == 5  # and never back


# --- the connection ------------------------------------------------------------------------------


async def test_a_lost_connection_is_back_and_nothing_is_missed(tmp_path: Path) -> None:
    server = ScriptedImap()
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()
        for number in range(3):
            server.hang_up()
            await stage.until_out(number + 1)
            server.put(raw(f"mail {number}"))
            await stage.subjects(number + 1)
    assert [message.subject for message in stage.intake.messages] == ["mail 0", "mail 1", "mail 2"]
    assert all(outage.retry_after < 5 for outage in stage.outages)


async def test_a_peer_that_goes_silent_in_idle_is_noticed(tmp_path: Path) -> None:
    server = ScriptedImap()

    async def deaf(client: Conversation, _command: str) -> None:
        client.send("+ idling\r\n")
        await client.reader.readline()  # DONE, and no answer

    server.on["IDLE"] = deaf
    timing = Timing(idle=0.3)
    async with stage_of(server, tmp_path, timing=timing, limits=SHORT) as stage:
        await stage.until_out()
        assert not stage.mailbox.condition().ages.alive
        del server.on["IDLE"]
        server.put(raw("a"))
        assert await stage.subjects(1) == ["a"]


async def test_a_server_that_swallows_the_search_is_noticed(tmp_path: Path) -> None:
    async def silent(_client: Conversation, _command: str) -> None: ...

    server = ScriptedImap(on={"UID SEARCH UID 1:*": silent})
    async with stage_of(server, tmp_path, limits=Limits(command=0.3)) as stage:
        await stage.until_out()
        assert stage.mailbox.condition().ages.searched is None


@pytest.mark.parametrize("capabilities", ["IMAP4rev1", "IMAP4rev1 IDLE"])
async def test_without_idle_mail_is_looked_for_now_and_then(
    tmp_path: Path, capabilities: str
) -> None:
    async def bad(client: Conversation, _command: str) -> None:
        client.send(f"{client.tag} BAD not here\r\n")

    server = ScriptedImap(capabilities=capabilities, on={"IDLE": bad})
    timing = Timing(poll=0.05)
    async with stage_of(server, tmp_path, timing=timing) as stage:
        await stage.until_ready()
        server.put(raw("a"))
        assert await stage.subjects(1) == ["a"]
        assert stage.mailbox.condition().state == "polling"
    assert stage.outages == []


async def test_a_push_between_select_and_idle_is_not_needed(tmp_path: Path) -> None:
    """Mail that comes before the watching connection can tell is found by the look after it."""
    server = ScriptedImap()

    async def arrives(client: Conversation, command: str) -> None:
        await server.until_heard("UID SEARCH UID 1:*")  # the first look is over
        del server.on["EXAMINE"]
        server.put(raw("early"))
        await server._answer(client, command)

    server.on["EXAMINE"] = arrives
    async with stage_of(server, tmp_path) as stage:
        assert await stage.subjects(1) == ["early"]


async def test_a_refused_password_is_tried_once(tmp_path: Path) -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no("[AUTHENTICATIONFAILED] no")

    server = ScriptedImap(on={"LOGIN": no})
    async with server.serving():
        table = table_of(server.port, "me", host="127.0.0.1", imap={"security": "plain"})
        mailbox = mailbox_of(table, tmp_path)
        with pytest.raises(AuthenticationFailed, match="refused the user or the password"):
            await mailbox.run(RecordingIntake(), lambda: None)
        assert mailbox.condition().state == "parked"
        with pytest.raises(Unavailable, match="refused the user or the password"):
            await mailbox.work(ImapClient.noop)
    assert server.count("LOGIN") == 1


async def test_a_folder_that_is_not_there_is_told_and_asked_for_ever_more_rarely(
    tmp_path: Path,
) -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no("Mailbox doesn't exist")

    server = ScriptedImap(on={"SELECT": no})
    async with stage_of(server, tmp_path) as stage:
        await stage.until_out(4)
        assert "doesn't exist" in stage.mailbox.condition().trouble
    assert [outage.retry_after for outage in stage.outages] == [0.25, 0.5, 1.0, 2.0]


# --- proof ---------------------------------------------------------------------------------------


async def test_ready_is_told_once_both_connections_have_proven_alive(tmp_path: Path) -> None:
    held, release = asyncio.Event(), asyncio.Event()
    server = ScriptedImap()

    async def hold(client: Conversation, command: str) -> None:
        held.set()
        await release.wait()
        del server.on["EXAMINE"]
        await server._answer(client, command)

    server.on["EXAMINE"] = hold
    async with stage_of(server, tmp_path) as stage:
        await held.wait()
        await server.until_heard("UID SEARCH")
        assert not stage.ready.is_set()
        assert not stage.mailbox.condition().ages.alive
        release.set()
        await stage.until_ready()
        now = stage.mailbox.condition()
        assert now.ages.alive
        assert now.state == "watching"
    assert not stage.mailbox.condition().ages.alive


# --- other work ----------------------------------------------------------------------------------


async def test_other_work_is_done_between_two_fetches_and_the_folder_is_entered_again(
    tmp_path: Path,
) -> None:
    server = ScriptedImap()
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()

        async def elsewhere(client: ImapClient) -> str:
            assert client.folder == "INBOX"
            await client.select("Sent")
            server.put(raw("meanwhile"))
            return "done"

        assert await stage.mailbox.work(elsewhere) == "done"
        assert await stage.subjects(1) == ["meanwhile"]
    assert stage.outages == []


async def test_a_failure_of_other_work_is_its_own_affair(tmp_path: Path) -> None:
    async def fails(_client: ImapClient) -> None:
        raise KeyError("not the mailbox's")

    server = ScriptedImap()
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()
        with pytest.raises(KeyError):
            await stage.mailbox.work(fails)
        server.put(raw("a"))
        assert await stage.subjects(1) == ["a"]


async def test_other_work_that_loses_the_connection_hears_of_it(tmp_path: Path) -> None:
    async def cut(client: Conversation, _command: str) -> None:
        client.hang_up()

    server = ScriptedImap(on={'SELECT "Sent"': cut})
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()
        with pytest.raises(Unavailable):
            await stage.mailbox.work(lambda client: client.select("Sent"))
        await stage.until_out()
        server.put(raw("a"))
        assert await stage.subjects(1) == ["a"]


async def test_a_cancelled_wish_for_other_work_harms_nothing(tmp_path: Path) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(_client: ImapClient) -> None:
        begun.set()
        await release.wait()

    server = ScriptedImap()
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()
        first = asyncio.create_task(stage.mailbox.work(slow))
        await begun.wait()
        second = asyncio.create_task(stage.mailbox.work(slow))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.wait([first, second])
        release.set()
        server.put(raw("a"))
        assert await stage.subjects(1) == ["a"]
    assert stage.outages == []


async def test_while_the_mailbox_is_away_other_work_is_refused_and_makes_no_login(
    tmp_path: Path,
) -> None:
    server = ScriptedImap()
    async with stage_of(server, tmp_path) as stage:
        await stage.until_ready()
        server.greeting = "* BYE busy\r\n"
        server.hang_up()
        await stage.until_out()
        logins = server.count("LOGIN")
        with pytest.raises(Unavailable):
            await stage.mailbox.work(ImapClient.noop)
    assert server.count("LOGIN") == logins


async def test_after_the_end_of_listening_other_work_gets_a_connection_of_its_own(
    tmp_path: Path,
) -> None:
    server = ScriptedImap()
    async with server.serving():
        table = table_of(server.port, "me", host="127.0.0.1", imap={"security": "plain"})
        async with on_stage(table, tmp_path) as stage:
            await stage.until_ready()
        await stage.mailbox.work(lambda client: client.select("Sent"))
    assert server.heard[-2:] == ['SELECT "Sent"', "LOGOUT"]

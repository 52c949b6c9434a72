"""A mailbox on a real Dovecot: arrivals, floods, outages, TLS."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import time
from collections import Counter
from pathlib import Path

import pytest

from connectors.imap.checkup import diagnose_imap
from connectors.imap.client import ImapClient, Limits
from connectors.imap.proof import Timing
from daemon.errors import AuthenticationFailed
from daemon.model import Cursor, HealthState, Ignored, Message, Outcome, Unreadable
from tests.dovecot import Dovecot, Postbox, mail
from tests.fakes import RecordingIntake
from tests.hostile_mails import HOSTILE
from tests.integration.imap_stage import at, mailbox_of, on_stage, table_of

pytestmark = pytest.mark.dovecot

DATA = Path(__file__).parents[1] / "data" / "mail"


async def test_a_mail_is_heard_as_it_arrives_and_left_as_it_was(
    postbox: Postbox, tmp_path: Path
) -> None:
    await postbox.delivered(mail("old"))
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        await postbox.delivered(mail("new", "the text\n"))
        message = await stage.intake.message()
    assert (message.subject, message.text) == ("new", "the text")
    raw = await asyncio.to_thread((tmp_path / (message.raw or "")).read_bytes)
    assert raw == (await asyncio.to_thread(postbox.mails))[1]
    with await asyncio.to_thread(postbox.reader) as reader:
        reader.select("INBOX")
        assert reader.uid("SEARCH", "SEEN")[1] == [b""]


async def test_mails_that_came_while_nobody_looked_are_caught_up_in_order(
    postbox: Postbox, tmp_path: Path
) -> None:
    intake = RecordingIntake()
    async with at(postbox, tmp_path, intake=intake) as stage:
        await stage.until_ready()
    await postbox.delivered(*(mail(f"m{number}") for number in range(300)))
    async with at(postbox, tmp_path, intake=intake) as stage:
        subjects = await stage.subjects(300)
    assert subjects == [f"m{number}" for number in range(300)]


async def test_five_hundred_mails_at_once_are_five_hundred_rows(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        await postbox.delivered(*(mail(f"m{number}") for number in range(500)))
        await stage.registered(500)
    assert Counter(stage.intake.outcomes) == {Outcome.NEW: 500}
    assert len({item.outside_id for item in stage.intake.items}) == 500


async def test_the_same_mail_twice_is_one_message_and_another_of_its_id_is_its_own(
    postbox: Postbox, tmp_path: Path
) -> None:
    first = mail("s", "one\n", message_id="<same@x>")
    other = mail("s", "two\n", message_id="<same@x>")
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        await postbox.delivered(first, first, other)
        await stage.registered(3)
    assert stage.intake.outcomes == [Outcome.NEW, Outcome.DUPLICATE, Outcome.NEW]


async def test_every_odd_and_hostile_mail_is_one_row(postbox: Postbox, tmp_path: Path) -> None:
    odd = [path.read_bytes() for path in sorted(DATA.rglob("*.eml"))]
    mails = [*odd, *HOSTILE.values()]
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        await postbox.delivered(*mails)
        await stage.registered(len(mails))
    assert len({item.outside_id for item in stage.intake.items}) == len(mails)
    assert stage.outages == []
    dead = [item for item in stage.intake.items if isinstance(item, Unreadable)]
    assert len(dead) == 2  # those that nest without end
    assert not any("too long" in item.reason for item in dead)


async def test_a_mail_of_34_megabytes_leaves_the_loop_turning(
    postbox: Postbox, tmp_path: Path
) -> None:
    gaps: list[float] = []

    async def watch_the_loop() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - before)

    body = (b"x" * 76 + b"\r\n") * 380_000  # 28 MB: below the limit, far above a part
    mails = [b"Subject: large\r\n\r\n" + body, b"Subject: too large\r\n\r\n" + body + body]
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        await postbox.delivered(*mails)
        watching = asyncio.create_task(watch_the_loop())
        messages = [await stage.intake.message(number) for number in (1, 2)]
        watching.cancel()
        await asyncio.wait([watching])
    assert [message.subject for message in messages] == ["large", "too large"]
    assert [message.target["too_large"] for message in messages] == [False, True]
    assert (tmp_path / (messages[0].raw or "")).stat().st_size > len(body)
    assert max(gaps) < 2.0  # generous: the machine is loaded


# --- outages -------------------------------------------------------------------------------------


async def test_a_killed_server_costs_nothing_and_repeats_nothing(
    own_postbox: Postbox, tmp_path: Path
) -> None:
    server = own_postbox.server
    async with at(own_postbox, tmp_path) as stage:
        await stage.until_ready()
        await own_postbox.delivered(mail("before"))
        await stage.subjects(1)
        for number in range(2):
            await asyncio.to_thread(server.kill)
            await stage.until_out(number + 1)
            assert not stage.mailbox.condition().ages.alive
            await asyncio.to_thread(server.start)
            await own_postbox.delivered(mail(f"after {number}"))
            await stage.subjects(number + 2)
    subjects = [message.subject for message in stage.intake.messages]
    assert subjects == ["before", "after 0", "after 1"]
    assert set(stage.intake.outcomes) == {Outcome.NEW}


async def test_a_server_that_is_killed_in_the_midst_of_catching_up_costs_nothing(
    own_postbox: Postbox, tmp_path: Path
) -> None:
    server = own_postbox.server
    async with at(own_postbox, tmp_path) as stage:
        await stage.until_ready()
        await own_postbox.delivered(*(mail(f"m{number}") for number in range(200)))
        await stage.registered(20)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        subjects = await stage.subjects(200)
    # A Dovecot that is killed may number what it had not written down in another order.
    assert sorted(subjects) == sorted(f"m{number}" for number in range(200))
    assert set(stage.intake.outcomes) == {Outcome.NEW}


async def test_a_stopped_server_is_noticed_and_taken_up_again(
    own_postbox: Postbox, tmp_path: Path
) -> None:
    server, timing = own_postbox.server, Timing(idle=1.0)
    async with at(own_postbox, tmp_path, timing=timing, limits=Limits(idle=1.0)) as stage:
        await stage.until_ready()
        server.signal(signal.SIGSTOP)
        try:
            await stage.until_out()
            assert not stage.mailbox.condition().ages.alive
        finally:
            server.signal(signal.SIGCONT)
        await own_postbox.delivered(mail("after"))
        assert await stage.subjects(1) == ["after"]


async def test_a_new_uidvalidity_starts_no_second_turn(
    own_postbox: Postbox, tmp_path: Path
) -> None:
    intake, server = RecordingIntake(), own_postbox.server
    await own_postbox.delivered(mail("old"))
    async with at(own_postbox, tmp_path, intake=intake) as stage:
        await stage.until_ready()
        await asyncio.sleep(1.1)  # INTERNALDATE has whole seconds: later than the old one
        await own_postbox.delivered(mail("a", message_id="<a@x>"), mail("b"))
        await stage.subjects(2)
    before = intake.cursors["support", "INBOX"]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(_renumber, own_postbox)
    await asyncio.to_thread(server.start)
    async with at(own_postbox, tmp_path, intake=intake) as stage:
        await stage.until_ready()
        await own_postbox.delivered(mail("c"))
        assert await stage.subjects(3) == ["a", "b", "c"]
    after = intake.cursors["support", "INBOX"]
    assert after.uidvalidity != before.uidvalidity
    assert Counter(intake.outcomes) == {Outcome.NEW: 3, Outcome.DUPLICATE: 2}


def _renumber(postbox: Postbox) -> None:
    """As after a restored backup: the mails, without what Dovecot wrote down about them."""
    for path in postbox.maildir.glob("dovecot*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    # UIDVALIDITY is the time in seconds unless the list says otherwise: make it another one.
    (postbox.maildir / "dovecot-uidvalidity").unlink(missing_ok=True)


async def test_a_mail_that_somebody_deletes_at_once_harms_nothing(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()

        async def hold_up(client: ImapClient) -> None:
            """While the working connection is busy, a mail comes and goes."""
            await client.noop()
            await postbox.delivered(mail("gone"), mail("stays"))
            await asyncio.to_thread(postbox.expunge, [1])

        await stage.mailbox.work(hold_up)
        assert await stage.subjects(1) == ["stays"]
    assert all(isinstance(item, Message | Ignored) for item in stage.intake.items)


async def test_three_thousand_lines_of_other_peoples_doings_harm_nothing(
    own_postbox: Postbox, tmp_path: Path
) -> None:
    """Somebody flags all of a full folder, then empties it: each is a burst of untagged lines to
    those who watch. Stock aioimaplib is dead after 975.
    """
    async with at(own_postbox, tmp_path) as stage:  # it opens the mailbox
        await stage.until_ready()
    mails = [f"Subject: m{number}\r\n\r\nx\r\n".encode() for number in range(3000)]
    await asyncio.to_thread(own_postbox.drop, *mails)
    cursor = await asyncio.to_thread(_newest, own_postbox)
    intake = RecordingIntake()
    intake.cursors["support", "INBOX"] = cursor  # all of them were heard before
    patient = Limits(idle=60.0, command=60.0)  # a slow machine is no fault here
    async with at(own_postbox, tmp_path, intake=intake, limits=patient) as stage:
        await stage.until_ready()
        for flag in (r"(\Flagged)", r"(\Deleted)"):
            await asyncio.to_thread(_flag_all, own_postbox, flag)
        await own_postbox.delivered(mail("after"))
        assert await stage.subjects(1) == ["after"]
        await stage.mailbox.work(ImapClient.noop)
        assert stage.mailbox.condition().ages.alive
    assert stage.outages == []
    assert [item.outside_id for item in intake.items] == [f"INBOX:{cursor.uidvalidity}:3001"]


def _newest(postbox: Postbox) -> Cursor:
    with postbox.reader() as reader:
        reader.select("INBOX", readonly=True)
        found = reader.uid("SEARCH", "ALL")[1][0].split()
        (uidvalidity,) = reader.response("UIDVALIDITY")[1]
        assert uidvalidity is not None
        return Cursor("support", "INBOX", int(uidvalidity), int(found[-1]))


def _flag_all(postbox: Postbox, flag: str) -> None:
    with postbox.reader() as reader:
        reader.select("INBOX")
        reader.uid("STORE", "1:*", "+FLAGS.SILENT", flag)
        if "Deleted" in flag:
            reader.expunge()


# --- ways in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["tls", "starttls", "plain"])
async def test_each_kind_of_security_hears_mail(
    postbox: Postbox, tmp_path: Path, security: str
) -> None:
    port = postbox.server.imaps if security == "tls" else postbox.server.imap
    table = table_of(port, postbox.address, imap={"security": security})
    async with on_stage(table, tmp_path, tls=postbox.server.tls()) as stage:
        await stage.until_ready()
        await postbox.delivered(mail("hello"))
        assert await stage.subjects(1) == ["hello"]


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_of_strangers_is_refused_before_the_password(
    own_dovecot: Dovecot, tmp_path: Path, security: str
) -> None:
    port = own_dovecot.imaps if security == "tls" else own_dovecot.imap
    table = table_of(port, "me@example.test", imap={"security": security})
    stranger = ssl.create_default_context()
    async with on_stage(table, tmp_path, tls=stranger) as stage:
        await stage.until_out()
    assert "certificate" in str(stage.outages[0])
    assert "me@example.test" not in own_dovecot.log()


async def test_a_wrong_password_parks_the_mailbox(postbox: Postbox, tmp_path: Path) -> None:
    table = table_of(postbox.server.imaps, postbox.address, password="wrong")
    mailbox = mailbox_of(table, tmp_path, tls=postbox.server.tls())
    with pytest.raises(AuthenticationFailed):
        await mailbox.run(RecordingIntake(), lambda: None)
    assert mailbox.condition().state == "parked"


# --- doctor --------------------------------------------------------------------------------------


async def test_doctor_finds_a_sound_mailbox_sound(postbox: Postbox) -> None:
    table = table_of(postbox.server.imaps, postbox.address)
    found = await diagnose_imap("support", table, postbox.server.tls())
    assert {finding.state for finding in found} == {HealthState.PASS}
    assert [finding.part for finding in found] == [
        "support.imap",
        "support.imap.login",
        "support.imap.folder",
        "support.imap.idle",
        "support.imap.keywords",
    ]


async def test_doctor_names_what_is_wrong_and_its_mend(postbox: Postbox) -> None:
    server = postbox.server
    wrong = {
        "support.imap.login": table_of(server.imaps, postbox.address, password="wrong"),
        "support.imap.folder": table_of(server.imaps, postbox.address, folder="Nowhere"),
        "support.imap": table_of(server.imap, postbox.address),
    }
    for part, table in wrong.items():
        *_, last = await diagnose_imap("support", table, server.tls())
        assert (last.part, last.state) == (part, HealthState.FAIL)
        assert last.mend
    *_, strange = await diagnose_imap("support", table_of(server.imaps, postbox.address))
    assert "SSL_CERT_FILE" in strange.mend


# --- other work ----------------------------------------------------------------------------------


async def test_drafts_are_found_and_filled_while_mail_comes_in(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with at(postbox, tmp_path) as stage:
        await stage.until_ready()
        folder = await stage.mailbox.special("Drafts")
        draft = b"Subject: draft\r\n\r\nx\r\n"
        await stage.mailbox.work(lambda client: client.append(folder, draft, r"(\Draft)"))
        await postbox.delivered(mail("hello"))
        assert await stage.subjects(1) == ["hello"]
    assert await asyncio.to_thread(postbox.mails, "Drafts") == [draft]

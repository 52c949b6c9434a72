"""What each ending of an SMTP session means, against a server that ends as it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.imap.config import SmtpServer
from connectors.imap.outbound import Envelope
from connectors.imap.smtp import Smtp, SmtpTiming
from daemon.clock import SystemClock
from daemon.errors import LedgerError
from daemon.model import NotNow, Rejected, Sent, Unclear
from tests.dovecot import free_port, write_certificate
from tests.mails import secret
from tests.smtp_sink import SmtpSink

QUICK = SmtpTiming(connect=5.0, command=5.0, data=5.0, keep=5.0, rest=0.2, barred=300.0)
RAW = b"Subject: hello\r\n\r\nOn Sundays.\r\n.\r\n"
MAIL = Envelope("support@example.com", ("bob@example.com",), "<eff-1@example.com>", RAW)
FROM_TLS = Envelope(MAIL.sender, MAIL.recipients, MAIL.message_id, b"Subject: x\r\n\r\ntls\r\n")


class Ledger:
    """Where `sending` is committed; it may refuse."""

    def __init__(self, sink: SmtpSink | None = None, failure: Exception | None = None) -> None:
        self.committed = 0
        self.taken_before = -1
        self._sink, self._failure = sink, failure

    async def sending(self) -> None:
        self.taken_before = len(self._sink.taken) if self._sink else 0
        if self._failure is not None:
            raise self._failure
        self.committed += 1


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    async with SmtpSink() as started:
        yield started


@pytest.fixture
async def smtp(sink: SmtpSink) -> AsyncIterator[Smtp]:
    made = door(sink)
    yield made
    await made.close()


def door(
    sink: SmtpSink,
    *,
    security: str = "plain",
    login: tuple[str, str] | None = None,
    timing: SmtpTiming = QUICK,
) -> Smtp:
    keys: dict[str, object] = {"host": "127.0.0.1", "port": sink.port, "security": security}
    if login is not None:
        keys |= {"user": login[0], "password": secret(login[1])}
    return Smtp(SmtpServer.model_validate(keys), "example.com", SystemClock(), timing)


async def test_a_mail_that_is_taken_is_sent_with_its_message_id(sink: SmtpSink, smtp: Smtp) -> None:
    ledger = Ledger(sink)
    assert await smtp.send(MAIL, ledger.sending) == Sent("<eff-1@example.com>")
    assert (ledger.committed, ledger.taken_before) == (1, 0)
    (taken,) = sink.taken
    assert (taken.sender, taken.recipients, taken.raw) == (MAIL.sender, MAIL.recipients, RAW)


@pytest.mark.parametrize(
    ("reply", "receipt"),
    [
        ("451 4.7.1 later", NotNow),
        ("421 4.3.2 going down", NotNow),
        ("452 4.3.1 no room", NotNow),
        ("550 5.7.1 no", Rejected),
        ("554 5.6.0 spam", Rejected),
        ("299 what", Unclear),
    ],
)
async def test_the_servers_word_after_data_settles_it(
    reply: str, receipt: type, sink: SmtpSink, smtp: Smtp
) -> None:
    sink.script = deque([reply])
    found = await smtp.send(MAIL, Ledger().sending)
    assert isinstance(found, receipt)
    assert reply[4:] in str(found)
    assert not sink.taken


@pytest.mark.parametrize("outcome", ["die", "hang"])
async def test_no_word_after_data_is_unclear(outcome: str, sink: SmtpSink) -> None:
    sink.script = deque([outcome])
    timing = SmtpTiming(command=5.0, data=1.0)
    smtp = door(sink, timing=timing)
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Unclear)
    assert len(sink.taken) == 1
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)  # on a new connection
    await smtp.close()


async def test_a_recipient_who_is_refused_for_good_is_no_reason_to_try_again(
    sink: SmtpSink, smtp: Smtp
) -> None:
    sink.refused["bob@example.com"] = "550 5.1.1 <bob@example.com> no such user"
    ledger = Ledger()
    found = await smtp.send(MAIL, ledger.sending)
    assert isinstance(found, Rejected)
    assert "no such user" in found.reason
    assert "bob" not in found.reason  # it goes to the log
    assert ledger.committed == 0
    assert smtp.trouble == ""
    del sink.refused["bob@example.com"]
    assert isinstance(await smtp.send(MAIL, ledger.sending), Sent)


async def test_a_recipient_who_is_refused_for_now_is_tried_again(
    sink: SmtpSink, smtp: Smtp
) -> None:
    sink.refused["bob@example.com"] = "450 4.2.0 greylisted"
    ledger = Ledger()
    assert isinstance(await smtp.send(MAIL, ledger.sending), NotNow)
    assert ledger.committed == 0


async def test_our_own_address_refused_is_trouble_of_the_mailbox_and_not_of_the_mail(
    sink: SmtpSink, smtp: Smtp
) -> None:
    sink.refused["support@example.com"] = "553 5.7.1 not yours"
    found = await smtp.send(MAIL, Ledger().sending)
    assert isinstance(found, NotNow)
    assert found.retry_after == QUICK.barred
    assert "553" in smtp.trouble


async def test_nothing_is_sent_where_sending_cannot_be_committed(
    sink: SmtpSink, smtp: Smtp
) -> None:
    with pytest.raises(LedgerError):
        await smtp.send(MAIL, Ledger(failure=LedgerError("the disk is full")).sending)
    assert not sink.taken
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    assert len(sink.taken) == 1


async def test_a_server_that_is_away_is_waited_for() -> None:
    away = SmtpSink(port=free_port())
    smtp = door(away)
    assert isinstance(await smtp.send(MAIL, Ledger().sending), NotNow)
    assert "not reached" in smtp.trouble
    async with away:
        await asyncio.sleep(QUICK.rest)
        assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
        assert smtp.trouble == ""
        await smtp.close()


async def test_a_wrong_password_is_tried_once_and_then_left_alone() -> None:
    """A storm of them locks the account."""
    async with SmtpSink(login=("support", "right")) as sink:
        smtp = door(sink, login=("support", "wrong"))
        for _ in range(5):
            found = await smtp.send(MAIL, Ledger().sending)
            assert isinstance(found, NotNow)
            assert found.retry_after > 200
        assert sink.connections == 1
        assert "password" in smtp.trouble
        assert "wrong" not in smtp.trouble


async def test_the_right_password_opens() -> None:
    async with SmtpSink(login=("support", "right")) as sink:
        smtp = door(sink, login=("support", "right"))
        assert await smtp.check("support@example.com") == ""
        assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
        assert sink.logins == 1
        await smtp.close()


async def test_a_kept_connection_is_used_again(sink: SmtpSink, smtp: Smtp) -> None:
    for _ in range(3):
        assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    assert (len(sink.taken), sink.connections) == (3, 1)


async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(
    sink: SmtpSink, smtp: Smtp
) -> None:
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    sink.hang_up()
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    assert (len(sink.taken), sink.connections) == (2, 2)


async def test_an_unused_connection_is_given_back(sink: SmtpSink) -> None:
    smtp = door(sink, timing=SmtpTiming(keep=0.1))
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    await sink.until(lambda: sink.closed == 1)


async def test_many_at_once_are_each_sent_once(sink: SmtpSink, smtp: Smtp) -> None:
    mails = [
        Envelope(MAIL.sender, MAIL.recipients, f"<{n}@example.com>", b"n: %d\r\n\r\n" % n)
        for n in range(20)
    ]
    found = await asyncio.gather(*(smtp.send(mail, Ledger().sending) for mail in mails))
    assert found == [Sent(mail.message_id) for mail in mails]
    assert sorted(taken.raw for taken in sink.taken) == sorted(mail.raw for mail in mails)


async def test_a_sender_that_is_cut_off_leaves_no_half_session(sink: SmtpSink, smtp: Smtp) -> None:
    sink.script = deque(["hang"])
    sending = asyncio.create_task(smtp.send(MAIL, Ledger().sending))
    await sink.until(lambda: sink.taken)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert isinstance(await smtp.send(MAIL, Ledger().sending), Sent)
    assert sink.connections == 2


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "cert.pem"
    write_certificate(path, tmp_path / "key.pem")
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_trusted_certificate_opens_and_another_does_not(
    security: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_side(certificate)
    given = {security: context}
    async with SmtpSink(**given) as sink:  # type: ignore[arg-type]
        stranger = door(sink, security=security)
        assert isinstance(await stranger.send(FROM_TLS, Ledger().sending), NotNow)
        assert "certificate" in stranger.trouble.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # OpenSSL itself reads it
        smtp = door(sink, security=security)
        assert isinstance(await smtp.send(FROM_TLS, Ledger().sending), Sent)
        await smtp.close()


async def test_without_starttls_on_offer_nothing_is_said_in_clear(sink: SmtpSink) -> None:
    smtp = door(sink, security="starttls", login=("support", "secret"))
    assert isinstance(await smtp.send(MAIL, Ledger().sending), NotNow)
    assert (sink.logins, len(sink.taken)) == (0, 0)
    assert smtp.trouble

"""The client and its way in, against a server that does what real ones should not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.imap.client import ConnectionLost, ImapClient, Limits, Refused
from connectors.imap.config import ImapServer
from connectors.imap.connecting import NotReached, connect
from connectors.imap.folders import special_folder
from daemon.errors import AuthenticationFailed
from tests.dovecot import write_certificate
from tests.imap_server import Conversation, ScriptedImap

SHORT = Limits(connect=10.0, login=10.0, command=10.0, fetch=10.0, idle=0.3)
PASSWORD = 'p"a\\ss wörd'


def server_of(port: int, security: str = "plain", host: str = "127.0.0.1") -> ImapServer:
    table: dict[str, Any] = {"host": host, "port": port, "security": security, "user": "me"}
    server = ImapServer.model_validate({**table, "password": {"env": "P"}})
    server.password.read({"P": PASSWORD})
    return server


@asynccontextmanager
async def client_of(
    server: ScriptedImap, security: str = "plain", tls: ssl.SSLContext | None = None
) -> AsyncIterator[ImapClient]:
    context = tls or ssl.create_default_context()
    host = "localhost" if tls else "127.0.0.1"
    async with server.serving():
        client = await connect(server_of(server.port, security, host), context, SHORT)
        try:
            yield client
        finally:
            client.abort()


# --- the way in ----------------------------------------------------------------------------------


async def test_a_password_with_quotes_and_umlauts_arrives_as_it_is() -> None:
    server = ScriptedImap()
    async with client_of(server):
        assert r'LOGIN "me" "p\"a\\ss wörd"' in server.heard


@pytest.mark.parametrize("greeting", ["* PREAUTH you are in", "* BYE too busy", "220 smtp.test"])
async def test_only_a_plain_ok_lets_us_in(greeting: str) -> None:
    server = ScriptedImap(greeting=f"{greeting}\r\n")
    with pytest.raises(ConnectionLost, match="does not let us in"):
        async with client_of(server):
            pass
    assert server.heard == []


async def test_a_wrong_password_is_told_apart_from_a_server_in_trouble() -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no("[AUTHENTICATIONFAILED] Invalid credentials")

    with pytest.raises(AuthenticationFailed, match="Invalid credentials"):
        async with client_of(ScriptedImap(on={"LOGIN": no})):
            pass


@pytest.mark.parametrize(
    "said", ["[UNAVAILABLE] later", "[INUSE] busy", "[ALERT] Too many simultaneous connections."]
)
async def test_a_refusal_that_passes_by_itself_parks_nothing(said: str) -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no(said)

    with pytest.raises(ConnectionLost, match="takes no login now"):
        async with client_of(ScriptedImap(on={"LOGIN": no})):
            pass


async def test_the_password_is_in_no_error() -> None:
    async def silent(_client: Conversation, _command: str) -> None: ...

    server, limits = ScriptedImap(on={"LOGIN": silent}), Limits(login=0.2)
    async with server.serving():
        with pytest.raises(ConnectionLost) as caught:
            await connect(server_of(server.port), ssl.create_default_context(), limits)
    told: BaseException | None = caught.value
    while told is not None:
        assert PASSWORD not in repr(told)
        assert "wörd" not in str(told)
        told = told.__cause__


async def test_a_port_where_nothing_listens_is_told_with_its_mend() -> None:
    server = ScriptedImap()
    async with server.serving():
        pass  # its port is free again
    with pytest.raises(NotReached, match="nothing listens there") as caught:
        await connect(server_of(server.port), ssl.create_default_context(), SHORT)
    assert "imap.port" in caught.value.mend


async def test_tls_on_a_port_without_it_is_told_with_its_mend() -> None:
    server = ScriptedImap()
    async with server.serving():
        with pytest.raises(NotReached, match="does not speak TLS") as caught:
            await connect(server_of(server.port, "tls"), ssl.create_default_context(), SHORT)
    assert "starttls" in caught.value.mend


@pytest.mark.parametrize("host", ["mail.example.com", "192.0.2.1", "localhost.example.com"])
def test_a_password_goes_in_clear_to_this_machine_only(host: str) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        server_of(143, "plain", host)
    assert server_of(143, "plain", "::1").security == "plain"


# --- STARTTLS ------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's side and that of a client that trusts it."""
    write_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return server, ssl.create_default_context(cafile=tmp_path / "cert.pem")


def with_starttls(context: ssl.SSLContext, injected: str = "") -> ScriptedImap:
    """In clear it claims to have IDLE; under TLS it has none."""
    server = ScriptedImap(capabilities="IMAP4rev1 STARTTLS IDLE")

    async def start(client: Conversation, _command: str) -> None:
        client.send(f"{client.tag} OK begin\r\n{injected}")
        server.capabilities = "IMAP4rev1"
        await client.writer.start_tls(context)

    server.on["STARTTLS"] = start
    return server


async def test_what_a_server_says_in_clear_does_not_count_after_starttls(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server = with_starttls(tls[0])
    async with client_of(server, "starttls", tls[1]) as client:
        assert client.tls is not None
        assert not client.can_idle
    assert [line.partition(" ")[0] for line in server.heard] == [
        "CAPABILITY", "STARTTLS", "CAPABILITY", "LOGIN", "CAPABILITY"
    ]  # fmt: skip


async def test_a_certificate_that_is_not_trusted_gets_no_password(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server = with_starttls(tls[0])
    with pytest.raises(NotReached, match="certificate is not trusted"):
        async with client_of(server, "starttls", ssl.create_default_context()):
            pass
    assert server.count("LOGIN") == 0


@pytest.mark.parametrize("injected", ["* OK [CAPABILITY IMAP4rev1] injected\r\n", "* half a"])
async def test_bytes_before_the_handshake_are_taken_for_an_attack(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], injected: str
) -> None:
    server = with_starttls(tls[0], injected)
    with pytest.raises(ConnectionLost, match="handshake"):
        async with client_of(server, "starttls", tls[1]):
            pass
    assert server.count("LOGIN") == 0


async def test_a_server_without_starttls_gets_no_password() -> None:
    async def bad(client: Conversation, _command: str) -> None:
        client.send(f"{client.tag} BAD unknown command\r\n")

    server = ScriptedImap(on={"STARTTLS": bad})
    with pytest.raises(ConnectionLost, match="STARTTLS"):
        async with client_of(server, "starttls", ssl.create_default_context()):
            pass
    assert server.count("LOGIN") == 0


# --- commands ------------------------------------------------------------------------------------


async def test_a_refused_command_leaves_the_connection_good() -> None:
    async def no(client: Conversation, _command: str) -> None:
        client.no("no such folder")

    server = ScriptedImap(on={'SELECT "Nowhere"': no})
    async with client_of(server) as client:
        with pytest.raises(Refused, match="no such folder"):
            await client.select("Nowhere")
        assert (await client.select("INBOX")).uidvalidity == 7


async def test_after_a_command_without_an_answer_the_connection_is_used_no_more() -> None:
    async def silent(_client: Conversation, _command: str) -> None: ...

    server = ScriptedImap(on={"NOOP": silent})
    async with client_of(server) as client:
        await client.select("INBOX")
        with pytest.raises(ConnectionLost):
            await client.noop()
        with pytest.raises(ConnectionLost):
            await client.search("ALL")
        assert server.count("UID SEARCH") == 0


async def test_a_cancelled_command_ends_the_connection() -> None:
    begun = asyncio.Event()

    async def silent(_client: Conversation, _command: str) -> None:
        begun.set()

    server = ScriptedImap(on={"NOOP": silent})
    async with client_of(server) as client:
        await client.select("INBOX")
        waiting = asyncio.create_task(client.noop())
        await begun.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        with pytest.raises(ConnectionLost):
            await client.search("ALL")


async def test_news_in_idle_are_told_at_once_and_each_time() -> None:
    server = ScriptedImap(mails={1: b"x"})
    async with client_of(server) as client:
        await client.select("INBOX")
        news = asyncio.Event()
        idle = asyncio.create_task(client.idle(30, news.set))
        await server.until_heard("IDLE")
        for _ in range(2):
            server.put(b"y")
            await asyncio.wait_for(news.wait(), 30)
            news.clear()
        idle.cancel()
        await asyncio.wait([idle])


async def test_a_peer_that_does_not_answer_done_is_taken_for_lost() -> None:
    async def deaf(client: Conversation, _command: str) -> None:
        client.send("+ idling\r\n")
        await client.reader.readline()  # DONE

    async with client_of(ScriptedImap(on={"IDLE": deaf})) as client:
        await client.select("INBOX")
        with pytest.raises(ConnectionLost, match="TimeoutError"):
            await client.idle(0.01, lambda: None)


async def test_a_server_that_refuses_idle_says_so() -> None:
    async def bad(client: Conversation, _command: str) -> None:
        client.send(f"{client.tag} BAD not today\r\n")

    async with client_of(ScriptedImap(on={"IDLE": bad})) as client:
        await client.select("INBOX")
        with pytest.raises(Refused, match="IDLE"):
            await client.idle(10, lambda: None)
        await client.noop()


async def test_an_appended_mail_arrives_byte_by_byte() -> None:
    taken: list[bytes] = []

    async def append(client: Conversation, command: str) -> None:
        client.send("+ go on\r\n")
        size = int(command.rpartition("{")[2].rstrip("}"))
        taken.append(await client.reader.readexactly(size))
        await client.reader.readline()
        client.ok()

    mail = b"Subject: {3}\r\n\r\n\x00\xff body\r\n"
    async with client_of(ScriptedImap(on={"APPEND": append})) as client:
        await client.append("Drafts", mail, r"(\Draft)")
    assert taken == [mail]


# --- folders -------------------------------------------------------------------------------------


def listing(*lines: str, refuses: tuple[str, ...] = ()) -> ScriptedImap:
    async def answer(client: Conversation, _command: str) -> None:
        for line in lines:
            client.send(f"* LIST {line}\r\n")
        client.ok()

    async def create(client: Conversation, command: str) -> None:
        if any(name in command for name in refuses):
            client.no("not there")
        else:
            client.ok()

    return ScriptedImap(on={"LIST": answer, "CREATE": create})


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([r'(\HasNoChildren \Drafts) "/" "Entw&APw-rfe"', r'() "/" Drafts'], "Entw&APw-rfe"),
        ([r'() "/" INBOX', r'() "." "INBOX.Drafts"'], "INBOX.Drafts"),
        ([r'() NIL "Drafts"'], "Drafts"),
        ([r'(\Noselect \Drafts) "/" "[Mail]"', r'() "/" "[Mail]/Drafts"'], "[Mail]/Drafts"),
        ([r'(\Drafts) "/" "a \"b\" \\ c"'], r'a "b" \ c'),
    ],
)
async def test_drafts_are_found_by_purpose_then_by_name(lines: list[str], found: str) -> None:
    server = listing(*lines)
    async with client_of(server) as client:
        assert await special_folder(client, "Drafts") == found
    assert server.count("CREATE") == 0


async def test_a_missing_folder_is_made_and_subscribed_to() -> None:
    server = listing(r'() "/" INBOX')
    async with client_of(server) as client:
        assert await special_folder(client, "Sent") == "Sent"
    assert 'SUBSCRIBE "Sent"' in server.heard


async def test_where_all_folders_are_beneath_inbox_a_new_one_is_too() -> None:
    server = listing(r'() "." INBOX', refuses=('"Sent"',))
    async with client_of(server) as client:
        assert await special_folder(client, "Sent") == "INBOX.Sent"

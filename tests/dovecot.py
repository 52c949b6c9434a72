"""Debian's Dovecot, thrown away after the tests: IMAP over TLS and STARTTLS, LMTP to deliver by.

Any user name with the password "secret" logs in and gets an empty mailbox of its own: one a test.
Started as root or as anybody else. Fixtures: `dovecot` (one server for the session), `postbox`
(a mailbox of it), `own_dovecot` (a server that the test may kill).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import grp
import imaplib
import ipaddress
import itertools
import os
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.missing import missing

BINARY = Path("/usr/sbin/dovecot")
LMTP = Path("/usr/lib/dovecot/lmtp")
PASSWORD = "secret"
STRANGER = "stranger@elsewhere.test"
START_SECONDS = 30.0

# One setting a line: Dovecot takes nothing else. Its own limits of a login storm are lifted.
_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{home}/cert.pem
ssl_key = <{home}/key.pem
auth_mechanisms = plain login
auth_failure_delay = 0
first_valid_uid = 1
mail_max_userip_connections = 50
default_vsz_limit = 512 M
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u
}}
mail_location = maildir:~/Maildir
namespace inbox {{
  inbox = yes
  separator = /
{boxes}}}
service imap-login {{
  {chroot}
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@example.test
}}
"""
_BOX = "  mailbox {0} {{\n    auto = create\n    special_use = \\{0}\n  }}\n"
_NOT_ROOT = """
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
"""


class Dovecot:
    """One server on loopback ports. `cafile` is its certificate, for "localhost"."""

    def __init__(self) -> None:
        # A short path: names of Unix sockets end at 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="dc"))
        self.home.chmod(0o711)  # as root the mail processes run as another user
        self.imap, self.imaps, self.lmtp = free_port(), free_port(), free_port()
        self.cafile = self.home / "cert.pem"
        write_certificate(self.cafile, self.home / "key.pem")
        self._write_config()

    def _write_config(self) -> None:
        root = os.geteuid() == 0
        uid, gid = (10001, 10001) if root else (os.geteuid(), os.getegid())
        (self.home / "mail").mkdir()
        if root:
            os.chown(self.home / "mail", uid, gid)
        config = _CONFIG.format(
            home=self.home,
            password=PASSWORD,
            uid=uid,
            gid=gid,
            imap=self.imap,
            imaps=self.imaps,
            lmtp=self.lmtp,
            chroot="" if root else "chroot =",
            boxes="".join(_BOX.format(box) for box in ("Drafts", "Sent", "Junk", "Archive")),
        )
        if not root:
            user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
            config += _NOT_ROOT.format(user=user, group=group)
        (self.home / "dovecot.conf").write_text(config)

    def start(self) -> None:
        pid_file = self.home / "run" / "master.pid"
        pid_file.unlink(missing_ok=True)  # left behind by kill -9: "already running"
        # /dev/null on all three: it keeps inherited pipes, and blocks whoever waits for their end.
        subprocess.run(
            [BINARY, "-c", self.home / "dovecot.conf"],
            check=True,
            timeout=START_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not (self._listens(self.imaps) and self._listens(self.lmtp)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Dovecot does not start:\n{self.log()}")
            time.sleep(0.02)

    @staticmethod
    def _listens(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def processes(self) -> list[psutil.Process]:
        """The master and all beneath it, the master first."""
        try:
            master = psutil.Process(int((self.home / "run" / "master.pid").read_text()))
            return [master, *master.children(recursive=True)]
        except (OSError, ValueError, psutil.NoSuchProcess):
            return []

    def signal(self, number: int) -> None:
        """SIGKILL: connections reset. SIGSTOP: silence, while TCP stays up; SIGCONT ends it."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        processes = self.processes()
        self.signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=START_SECONDS)

    def stop(self) -> None:
        processes = self.processes()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        _, left = psutil.wait_procs(processes, timeout=5)
        for process in left:
            process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        path = self.home / "dovecot.log"
        return path.read_text("utf-8", "replace") if path.exists() else "(no log)"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.cafile)


@dataclass(frozen=True)
class Postbox:
    """One user's mailbox on a Dovecot. The calls block: `asyncio.to_thread` them in a test that
    runs on a loop, or use `delivered`.
    """

    server: Dovecot
    address: str

    def deliver(self, *mails: bytes | EmailMessage, sender: str = STRANGER) -> None:
        """By LMTP, as they are: the sender and recipients of the envelope are not the headers'."""
        with smtplib.LMTP("127.0.0.1", self.server.lmtp) as door:
            for mail in mails:
                raw = mail if isinstance(mail, bytes) else mail.as_bytes()
                door.sendmail(sender, [self.address], raw)

    async def delivered(self, *mails: bytes | EmailMessage, sender: str = STRANGER) -> None:
        await asyncio.to_thread(lambda: self.deliver(*mails, sender=sender))

    def drop(self, *mails: bytes) -> None:
        """Straight into the maildir, as a delivery beside Dovecot does, whatever state that is in.
        The mailbox has to have been opened once.
        """
        new, owner = self.maildir / "new", self.maildir.stat()
        for raw in mails:
            draft = self.maildir / "tmp" / f"{time.time_ns():020}.{next(_numbers)}.test"
            draft.write_bytes(raw)
            os.chown(draft, owner.st_uid, owner.st_gid)
            draft.rename(new / draft.name)

    def reader(self) -> imaplib.IMAP4_SSL:
        """A second pair of eyes: the standard library's client, logged in."""
        reader = imaplib.IMAP4_SSL("localhost", self.server.imaps, ssl_context=self.server.tls())
        reader.login(self.address, PASSWORD)
        return reader

    def mails(self, folder: str = "INBOX") -> list[bytes]:
        """The raw mails of a folder, in the order of their uids."""
        with self.reader() as reader:
            reader.select(f'"{folder}"', readonly=True)
            found = reader.uid("SEARCH", "ALL")[1][0].split()
            return [reader.uid("FETCH", uid, "(BODY.PEEK[])")[1][0][1] for uid in found]

    def expunge(self, uids: Sequence[int]) -> None:
        with self.reader() as reader:
            reader.select("INBOX")
            for uid in uids:
                reader.uid("STORE", str(uid), "+FLAGS", r"(\Deleted)")
            reader.expunge()

    @property
    def maildir(self) -> Path:
        return self.server.home / "mail" / self.address / "Maildir"


def mail(
    subject: str = "hello", body: str = "hello\n", *, sender: str = STRANGER, **headers: str
) -> EmailMessage:
    """A plain mail; `headers` add to it (`message_id="<a@b>"`)."""
    message = EmailMessage()
    message["From"], message["Subject"] = sender, subject
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(body)
    return message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_certificate(certificate: Path, key: Path) -> None:
    """One that signs itself, for "localhost" and 127.0.0.1."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key.chmod(0o600)


# --- fixtures ------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def _started() -> Iterator[Dovecot]:
    if not (BINARY.exists() and LMTP.exists()):
        missing("dovecot")
    server = Dovecot()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    yield from _started()


@pytest.fixture
def own_dovecot() -> Iterator[Dovecot]:
    yield from _started()


@pytest.fixture
def postbox(dovecot: Dovecot) -> Postbox:
    return Postbox(dovecot, f"box{next(_numbers)}@example.test")


@pytest.fixture
def own_postbox(own_dovecot: Dovecot) -> Postbox:
    return Postbox(own_dovecot, "box@example.test")

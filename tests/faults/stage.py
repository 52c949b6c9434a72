"""The outside of a fault run: stand-ins and real servers, each behind a fault proxy of its own.

    daemon --web----> Slack's Web API     daemon --imap--> Dovecot
           --socket-> Slack's websockets         --smtp--> a receiving SMTP server
           --api----> the model

What people ask here bears a mark that stands nowhere else, and is answered with that mark: so the
marks that came back tell what was lost and what came twice.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.script import directed
from daemon.demo.slack import Delivering, Said, StandInSlack
from tests.dovecot import PASSWORD, Dovecot, Postbox
from tests.faults.proxy import HOST, FaultProxy
from tests.mails import ADDRESS, SERVER, raw
from tests.smtp_sink import SmtpSink

KEY = "sk-ant-stand-in-key-of-the-fault-runs"
COMMAND = (str(Path(sys.executable).with_name("postroom")), "run")
TREE = Path(__file__).parents[2]  # the daemon of the tree that this file stands in
BEA, GENERAL, OPERATORS = "U0002", "C0001", "C0002"
MARK = re.compile(r"mark-\d{4}")
# As Slack's, but quicker: what a fault left unacknowledged comes again within seconds.
DELIVERING = Delivering(ack_timeout=3.0, retry_delays=(0.0, *(2.0,) * 100), hold_unconnected=True)


@dataclass(frozen=True, slots=True)
class Mail:
    """Both ends of the mailbox; `plain` is its IMAP in clear, for loopback alone."""

    dovecot: Dovecot
    box: Postbox
    imap: FaultProxy
    plain: FaultProxy
    sink: SmtpSink
    smtp: FaultProxy

    def table(self) -> dict[str, Any]:
        return {
            "kind": "imap",
            "address": ADDRESS,
            "imap": {
                "host": "localhost",
                "port": self.imap.port,
                "security": "tls",
                "user": self.box.address,
                "password": {"env": "IMAP_PASSWORD"},
            },
            "smtp": {"host": HOST, "port": self.smtp.port, "security": "plain"},
            "mode": "reply",
            "allow": ["*@example.com"],
            "authserv_id": SERVER,
        }

    def secrets(self) -> dict[str, str]:
        return {"IMAP_PASSWORD": PASSWORD, "SSL_CERT_FILE": str(self.dovecot.cafile)}


@dataclass
class Stage:
    """`asked` are the marks of what was asked."""

    root: Path
    slack: StandInSlack
    web: FaultProxy
    socket: FaultProxy
    model: StandInModel
    api: FaultProxy
    mail: Mail | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def post(self) -> Mail:
        """The mailbox. Only for scenarios that are played with one."""
        assert self.mail is not None, "the scenario is played with mail"
        return self.mail

    def daemon(
        self, *, command: tuple[str, ...] = COMMAND, data_dir: Path | None = None, **more: Any
    ) -> DaemonProcess:
        """A daemon on all that is here; `more` adds to its tables ("__" stands for a dot)."""
        tables: dict[str, dict[str, Any]] = {
            "daemon": {"notify": [f"slack:{OPERATORS}"], "log_format": "json"},
            "agent": {"api_url": f"http://{HOST}:{self.api.port}", "model": "claude-sonnet-5"},
            "pool": {"max_processes": 3, "spare_processes": 1},
            "connectors.slack": {
                "kind": "slack",
                "api_url": f"http://{HOST}:{self.web.port}/api/",
                "app_token": {"env": "SLACK_APP_TOKEN"},
                "bot_token": {"env": "SLACK_BOT_TOKEN"},
                "sockets": 1,
            },
        }
        secrets = {
            "ANTHROPIC_API_KEY": KEY,
            "SLACK_APP_TOKEN": self.slack.app_token,
            "SLACK_BOT_TOKEN": self.slack.bot_token,
            "PYTHONPATH": str(TREE),
        }
        if data_dir is not None:
            tables["daemon"]["data_dir"] = str(data_dir)
        if self.mail is not None:
            tables["connectors.support"] = self.mail.table()
            secrets |= self.mail.secrets()
        for name, rows in more.items():
            table = name.replace("__", ".")
            tables[table] = {**tables.get(table, {}), **rows}
        return DaemonProcess(self.root, tables, secrets, command=command)

    # --- what people do

    def ask(self, directives: str = "", *, thread: Said | None = None) -> Said:
        """A mention in a channel; `directives` are for the stand-in model (daemon/demo/script)."""
        mark = self._mark()
        text = f"{mark} [[say:{mark}]] {directives}".strip()
        return self.slack.mention(BEA, GENERAL, text, thread.root if thread else None)

    async def write(self, directives: str = "", *, size: int = 0) -> str:
        """A mail, delivered to the mailbox, and at least `size` bytes large; its mark."""
        mark = self._mark()
        padding = "\n\n" + "\n".join(["x" * 70] * (size // 71)) if size else ""
        mail = raw(
            message_id=f"<{mark}@example.com>", text=f"{mark} [[say:{mark}]] {directives}{padding}"
        )
        await self.post.box.delivered(mail)
        return mark

    def _mark(self) -> str:
        mark = f"mark-{len(self.asked) + 1:04}"
        self.asked.append(mark)
        return mark

    # --- what they see

    def answers(self) -> Counter[str]:
        """How often each mark came back: one answer counts once, whatever it repeats. What is told
        to operators, which may name the mark, is no answer.
        """
        texts = [post.text for post in self.slack.posts() if post.channel != OPERATORS]
        if self.mail is not None:
            texts += [taken.raw.decode("utf-8", "replace") for taken in self.mail.sink.taken]
        return Counter(mark for text in texts for mark in set(MARK.findall(_own(text))))

    def lost(self) -> list[str]:
        answers = self.answers()
        return [mark for mark in self.asked if not answers[mark]]

    def twice(self) -> list[str]:
        return [mark for mark, times in self.answers().items() if times > 1]


def _own(text: str) -> str:
    """The lines that are not quoted and stand below a mail's headers."""
    body = text.partition("\r\n\r\n")[2] or text
    return "\n".join(line for line in body.splitlines() if not line.startswith(">"))


@asynccontextmanager
async def on_stage(root: Path, *, mail: bool = False) -> AsyncIterator[Stage]:
    """All of the outside, in a directory that exists; the daemon is not started yet."""
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(StandInSlack(delivering=DELIVERING))
        port = int(slack.url.rpartition(":")[2])
        web = await stack.enter_async_context(FaultProxy(port))
        wire = await stack.enter_async_context(FaultProxy(port))
        slack.workspace.base_url = f"http://{HOST}:{wire.port}"  # the tickets name it
        model = await stack.enter_async_context(StandInModel(directed, api_key=KEY))
        api = await stack.enter_async_context(FaultProxy(int(model.url.rpartition(":")[2])))
        post = await stack.enter_async_context(_mail()) if mail else None
        yield Stage(root, slack, web, wire, model, api, post)


@asynccontextmanager
async def _mail() -> AsyncIterator[Mail]:
    dovecot = Dovecot()
    try:
        await asyncio.to_thread(dovecot.start)
        async with (
            SmtpSink() as sink,
            FaultProxy(dovecot.imaps) as imap,
            FaultProxy(dovecot.imap) as plain,
            FaultProxy(sink.port) as smtp,
        ):
            yield Mail(dovecot, Postbox(dovecot, "box@example.test"), imap, plain, sink, smtp)
    finally:
        await asyncio.to_thread(dovecot.stop)

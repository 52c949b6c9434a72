"""What runs in the demo: stand-ins in this process, the daemon in its own, over one directory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.demo.desk import MAILBOX, SYSTEM_PROMPT, script
from daemon.demo.mail import StandInMail
from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import Delivering, StandInSlack

DESK = "desk@shop.example.test"
MODEL_KEY = "sk-ant-stand-in-key-of-the-demo"
PACE = 0.02  # seconds between the words of the scripted model: so that its work can be seen

LIVE_PER_TURN, LIVE_DAILY = 0.25, 1.00  # US dollars; the gateway lets nothing pass beyond them
_FROM_OUTSIDE = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # how this machine checks the real model's server


@dataclass(frozen=True, slots=True)
class Model:
    """Where a model is asked, and with which key."""

    api_key: str
    api_url: str = "https://api.anthropic.com"


@dataclass(slots=True)
class Stage:
    """`model` is None where the real one is asked. `down` while the daemon is meant to be dead."""

    slack: StandInSlack
    mail: StandInMail
    daemon: DaemonProcess
    model: StandInModel | None
    down: bool = False
    deaths: int = 0

    async def kill(self) -> None:
        """Kill -9: no goodbye, nothing is written any more."""
        self.down = True
        self.deaths += 1
        await self.daemon.kill()

    async def revive(self) -> None:
        """Start the daemon again over what it left, until it is ready."""
        await self.daemon.start()
        self.down = False

    async def outside(self) -> dict[str, str]:
        """The texts of all that the daemon has sent, by what the outside calls each of them: posts
        by ts, mails and drafts by Message-ID.
        """
        found = {post.ts: post.text for post in self.slack.posts()}
        for address in self.mail.addresses:
            folder = "Drafts" if address == DESK else "INBOX"
            for letter in await self.mail.letters(address, folder):
                found[letter.message_id] = letter.text
        return found


@asynccontextmanager
async def set_up(root: Path, port: int, live: Model | None) -> AsyncIterator[Stage]:
    """Everything up and ready; at the end everything down. Raises DaemonTrouble."""
    async with AsyncExitStack() as stack:
        model = None
        if live is None:
            model = await stack.enter_async_context(StandInModel(script, api_key=MODEL_KEY))
            model.pace = PACE
            asked = Model(MODEL_KEY, model.url)
        else:
            asked = live
        # Slack itself brings an event again after one and five minutes: nobody would wait for it.
        delivering = Delivering(retry_delays=(0, 1, 2, 4, 8, 16), hold_unconnected=True)
        slack = await stack.enter_async_context(StandInSlack(delivering=delivering))
        mail = await stack.enter_async_context(StandInMail([DESK]))
        secrets = {
            "ANTHROPIC_API_KEY": asked.api_key,
            "SLACK_APP_TOKEN": slack.app_token,
            "SLACK_BOT_TOKEN": slack.bot_token,
            "MAIL_PASSWORD": mail.password,
        }
        if live is not None:
            secrets |= {name: os.environ[name] for name in _FROM_OUTSIDE if name in os.environ}
        tables = configuration(asked.api_url, slack, mail, capped=live is not None)
        # With this process gone, the daemon is to go, too.
        follow = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        command = (*follow, *installed(), "run")
        daemon = DaemonProcess(root, tables, secrets, port=port, command=command)
        await stack.enter_async_context(daemon)
        yield Stage(slack, mail, daemon, model)


def configuration(
    api_url: str, slack: StandInSlack, mail: StandInMail, *, capped: bool
) -> dict[str, Mapping[str, Any]]:
    """The daemon's own defaults, and where the stand-ins are."""
    user = {"user": DESK, "password": {"env": "MAIL_PASSWORD"}}
    here = {"host": "127.0.0.1", "security": "plain"}
    tables: dict[str, Mapping[str, Any]] = {
        "daemon": {"drain_seconds": 2, "log_format": "json"},
        "agent": {"api_url": api_url, "system_prompt": SYSTEM_PROMPT},
        "pool": {"max_processes": 4},
        "connectors.slack": {
            "kind": "slack",
            "api_url": slack.api_url,
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        },
        f"connectors.{MAILBOX}": {
            "kind": "imap",
            "address": DESK,
            "imap": {**here, **user, "port": mail.imap_port},
            "smtp": {**here, "port": mail.smtp_port},
            "mode": "reply",
            "allow": ["*@shop.example.test"],
            "authserv_id": mail.authserv_id,
        },
    }
    if capped:
        tables["budgets"] = {"per_turn": LIVE_PER_TURN, "daily": LIVE_DAILY}
    return tables


def installed() -> tuple[str, ...]:
    """The command as it is installed beside this Python."""
    beside = Path(sys.executable).with_name("postroom")
    return (str(beside),) if beside.exists() else (sys.executable, "-m", "daemon")

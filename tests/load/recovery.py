"""Start after kill -9 with a long queue: the installed command, from its exec to /readyz."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from daemon.clock import SystemClock
from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.script import directed
from daemon.demo.slack import StandInSlack
from daemon.ledger import open_ledger
from daemon.model import ConversationId, Message, Priority, Sender, Trust
from tests.load.report import Report, seconds

STARTS = 20
CHANNEL = "C0001"


async def recovery(root: Path, report: Report, queued: int) -> None:
    async with StandInModel(script=directed) as model, StandInSlack() as slack:
        daemon = _daemon(root, model, slack)
        took = [await _start(daemon) for _ in range(3)]
        report.add("recovery", "exec to /readyz, nothing queued", seconds(took))
        await _queue(daemon.data, queued)
        model.fail(529, times=None)  # nothing is worked off meanwhile
        took = [await _start(daemon) for _ in range(STARTS)]
        report.add("recovery", f"exec to /readyz, {queued} messages queued", seconds(took))
        await daemon.start()
        _, page = await daemon.get("/healthz")
        numbers = page["components"]["ledger"]["numbers"]
        await daemon.stop()
        there = numbers["waiting"] + numbers["queued"] + numbers["running"]
        report.check("a queued message is lost", holds=there == queued)


async def _start(daemon: DaemonProcess) -> float:
    began = time.monotonic()
    await daemon.start(within=120)
    took = time.monotonic() - began
    await daemon.kill()
    return took


async def _queue(data: Path, count: int) -> None:
    """Messages as Slack brings them, each in a thread of its own, that no turn has taken."""
    ledger = await open_ledger(data, SystemClock())
    try:
        for number in range(count):
            ts = f"{1_700_000_000 + number}.000100"
            await ledger.register(
                Message(
                    connector="slack",
                    outside_id=f"T0001:{CHANNEL}:{ts}",
                    conversation=ConversationId(f"slack:T0001:{CHANNEL}:{ts}"),
                    sender=Sender("slack:T0001:U0002", "Bea", Trust.MEMBER),
                    text=f"[[say:answer {number}]]",
                    sent_at=time.time(),
                    priority=Priority.CHAT,
                    target={"channel": CHANNEL, "thread_ts": ts, "user": "U0002"},
                )
            )
    finally:
        await ledger.close()


def _daemon(root: Path, model: StandInModel, slack: StandInSlack) -> DaemonProcess:
    tables: dict[str, dict[str, Any]] = {
        "agent": {"api_url": model.url, "model": "claude-sonnet-5"},
        "pool": {"max_processes": 3, "spare_processes": 1},
        "connectors.slack": {
            "kind": "slack",
            "api_url": slack.api_url,
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        },
    }
    secrets = {
        "ANTHROPIC_API_KEY": "sk-ant-load",
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_BOT_TOKEN": slack.bot_token,
    }
    return DaemonProcess(root, tables, secrets)

"""The stand-ins, in the test's process; the daemon runs in its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.script import directed
from daemon.demo.slack import Delivering, StandInSlack

MODEL_KEY = "sk-ant-stand-in-key-of-the-tests"


@pytest.fixture
async def model() -> AsyncIterator[StandInModel]:
    async with StandInModel(directed, api_key=MODEL_KEY) as standing:
        yield standing


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    delivering = Delivering(retry_delays=(0, 1, 2, 4, 8, 16), hold_unconnected=True)
    async with StandInSlack(delivering=delivering) as standing:
        yield standing


NewDaemon = Callable[..., DaemonProcess]


@pytest.fixture
async def new_daemon(
    tmp_path: Path, model: StandInModel, slack: StandInSlack
) -> AsyncIterator[NewDaemon]:
    """A daemon on both stand-ins. Tables given add to the configuration ("__" stands for a dot);
    `secrets` replaces some of its environment. What a test leaves running is stopped.
    """
    made: list[DaemonProcess] = []

    def make(secrets: dict[str, str] | None = None, **tables: dict[str, Any]) -> DaemonProcess:
        base: dict[str, dict[str, Any]] = {
            "agent": {"api_url": model.url, "model": "claude-sonnet-5"},
            "pool": {"max_processes": 3, "spare_processes": 1},
            "connectors.slack": {
                "kind": "slack",
                "api_url": slack.api_url,
                "app_token": {"env": "SLACK_APP_TOKEN"},
                "bot_token": {"env": "SLACK_BOT_TOKEN"},
                "sockets": 1,
            },
        }
        for name, rows in tables.items():
            table = name.replace("__", ".")
            base[table] = {**base.get(table, {}), **rows}
        environment = {
            "ANTHROPIC_API_KEY": MODEL_KEY,
            "SLACK_APP_TOKEN": slack.app_token,
            "SLACK_BOT_TOKEN": slack.bot_token,
            **(secrets or {}),
        }
        daemon = DaemonProcess(tmp_path, base, environment)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        await daemon.__aexit__(None, None, None)

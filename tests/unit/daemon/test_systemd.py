"""What systemd hears, and that nobody is disturbed where it is not there."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.config import DaemonTable
from daemon.systemd import Systemd, from_environment

UNIT = Path(__file__).parents[3] / "deploy" / "postroom.service"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        yield heard


def said(listener: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines.append(listener.recv(100).decode())
        except BlockingIOError:
            return lines


async def test_it_hears_of_the_start_of_progress_and_of_the_end(
    listener: socket.socket, tmp_path: Path
) -> None:
    clock = ManualClock()
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000", "HOME": "/"}
    systemd = from_environment(clock, environ)
    assert environ == {"HOME": "/"}, "no process of ours may speak for us"
    systemd.ready()
    for _ in range(100):
        systemd.progress()
        await clock.advance(0.25)
    systemd.stopping()
    assert said(listener) == ["READY=1", *["WATCHDOG=1"] * 3, "STOPPING=1"], "every ten seconds"


def test_an_abstract_address_is_known_by_its_at() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0postroom-test-{os.getpid()}")
        Systemd(ManualClock(), f"@postroom-test-{os.getpid()}").ready()
        assert heard.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    nobody = from_environment(ManualClock(), {})
    gone = Systemd(ManualClock(), str(tmp_path / "nothing"), 3.0)
    for systemd in (nobody, gone):
        systemd.ready()
        systemd.progress()
        systemd.stopping()


def test_a_watchdog_of_another_process_is_not_ours(listener: socket.socket, tmp_path: Path) -> None:
    systemd = from_environment(
        ManualClock(),
        {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    )
    systemd.progress()
    assert said(listener) == []


def test_the_unit_gives_a_drain_its_time_and_a_bad_configuration_no_second_try() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's own case
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 10
    assert int(service["TimeoutStopSec"]) > DaemonTable().drain_seconds + 10
    assert "78" in service["RestartPreventExitStatus"].split()
    assert service["KillMode"] == "mixed", "agents end with their turns, not beside the daemon"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/postroom/.venv/bin/postroom", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    judged = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not [line for line in judged.stderr.splitlines() if UNIT.name in line]

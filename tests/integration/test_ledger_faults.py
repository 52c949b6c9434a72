"""The ledger under kill -9, on a full disk, with its lock held, and while it is copied."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from daemon.clock import SystemClock
from daemon.errors import DataDirBusy
from daemon.ledger import open_ledger
from daemon.ledger.upkeep import backup

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
KILLS = 6


@asynccontextmanager
async def child(mode: str, data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that owns the ledger; gone when this ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.ledger_child",
        mode,
        str(data),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def acknowledged_until_killed(data: Path, lines: int) -> set[str]:
    """What a writing process acknowledged before it was killed, some time after `lines` lines."""
    async with child("write", data) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            first = [await process.stdout.readline() for _ in range(lines)]
            process.kill()
            rest = await process.stdout.read()
    whole = rest[: rest.rfind(b"\n") + 1]
    return set((b"".join(first) + whole).decode().splitlines())


async def test_whatever_was_acknowledged_before_kill_9_is_there(tmp_path: Path) -> None:
    chance = random.Random(20_261_128)  # noqa: S311 - when to kill is no secret
    acknowledged: set[str] = set()
    for _ in range(KILLS):
        acknowledged |= await acknowledged_until_killed(tmp_path, chance.randrange(20, 400))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        heard = {f"in {key}" for (key,) in ledger.execute("select outside_id from inbox")}
        bodies = ledger.execute("select body from outbox").fetchall()
        answers = [f"out {json.loads(body)['text']}" for (body,) in bodies]
        (whole,) = ledger.execute("pragma integrity_check").fetchone()
    assert len(acknowledged) > KILLS * 20
    assert acknowledged - heard - set(answers) == set()
    assert len(answers) == len(set(answers)), "answered once"
    assert whole == "ok"
    opened = await open_ledger(tmp_path, SystemClock())
    interrupted = await opened.interrupted()
    assert opened.epoch == KILLS + 1
    assert {turn.deaths for turn in interrupted} <= {1}
    await opened.close()


async def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_there_and_it_recovers(
    tmp_path: Path,
) -> None:
    async with child("fill", tmp_path) as process, asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    assert process.returncode == 0
    told = json.loads(out)
    assert told["refused"] == ["LedgerError"]
    assert told["probe"] == "failed", "readiness must see it"
    assert told["read_while_full"] == sorted(told["acked"])
    assert told["recovered"]
    assert told["opening"].endswith("then start again"), told["opening"]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        kept = {key for (key,) in ledger.execute("select outside_id from inbox")}
        (whole,) = ledger.execute("pragma integrity_check").fetchone()
    assert kept == {*told["acked"], "before", "after"}
    assert whole == "ok"


async def test_a_second_daemon_is_refused_and_a_child_of_the_first_does_not_keep_the_lock(
    tmp_path: Path,
) -> None:
    async with child("hold", tmp_path) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            grandchild = int(await process.stdout.readline())
        try:
            with pytest.raises(DataDirBusy, match=str(process.pid)):
                await open_ledger(tmp_path, SystemClock())
            process.kill()
            await process.wait()
            os.kill(grandchild, 0)  # it lives, and has what descriptors were inherited
            await (await open_ledger(tmp_path, SystemClock())).close()
        finally:
            os.kill(grandchild, signal.SIGKILL)


async def test_a_copy_made_while_it_writes_is_consistent_and_runs(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    copy.mkdir()
    async with child("write", data) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            before = {(await process.stdout.readline()).decode().strip() for _ in range(200)}
            await asyncio.to_thread(backup, data / "ledger.db", copy / "ledger.db")
            assert process.returncode is None
            after = [await process.stdout.readline() for _ in range(100)]
    assert all(after), "the writer was not held up for good"
    with closing(sqlite3.connect(copy / "ledger.db")) as ledger:
        heard = {f"in {key}" for (key,) in ledger.execute("select outside_id from inbox")}
        assert {line for line in before if line.startswith("in ")} <= heard
        assert ledger.execute("pragma integrity_check").fetchone() == ("ok",)
    restored = await open_ledger(copy, SystemClock())
    for turn in await restored.interrupted():
        assert turn.workspace.root.is_relative_to(copy)
        await restored.requeue(turn.id, not_before=0, resend=True)
    assert (await restored.counts()).running == 0
    await restored.close()

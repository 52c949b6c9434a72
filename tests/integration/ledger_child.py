"""A process that owns a ledger, for tests that kill it or take its disk away.

    python -m tests.integration.ledger_child write|hold|fill DIR

`write` registers and answers without end and prints each key once it is on disk. `hold` opens the
ledger, starts a child of its own and waits. `fill` registers until the disk is full, tells as JSON
what came of it, and goes on when there is room again.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from daemon.clock import SystemClock
from daemon.errors import LedgerError
from daemon.ledger import open_ledger
from daemon.model import (
    ConversationId,
    Message,
    Outcome,
    Priority,
    ProcessRef,
    Sender,
    Trust,
    TurnState,
    Workspace,
)
from daemon.ports import ClaimLimits, Ending, Ledger
from tests.ledgers import post

CALLERS = 8
ROOM_BYTES = 256 * 1024


def message(key: str, conversation: str, text: str = "hello") -> Message:
    sender = Sender("test:ada", "Ada", Trust.MEMBER)
    id_ = ConversationId(conversation)
    return Message("chat", key, id_, sender, text, 0.0, Priority.CHAT, {"thread": conversation})


def tell(line: str) -> None:
    """At once, and whole: the next moment may be the last."""
    os.write(1, f"{line}\n".encode())


async def write(root: Path) -> None:
    """Every key is printed only when it is acknowledged: "in KEY" heard, "out KEY" answered."""
    ledger = await open_ledger(root, SystemClock())
    await asyncio.gather(*(_one_caller(ledger, root, number) for number in range(CALLERS)))


async def _one_caller(ledger: Ledger, root: Path, number: int) -> None:
    conversation = f"t-{os.getpid()}-{number}"
    spare = Workspace(f"ws-{conversation}", root / conversation, conversation)
    for count in range(10**9):
        key = f"{conversation}-{count}"
        await ledger.register(message(key, conversation))
        tell(f"in {key}")
        turn = await ledger.claim(ConversationId(conversation), spare, ClaimLimits())
        assert turn is not None
        await ledger.begin_attempt(turn.id, 1, ProcessRef(1, 1))
        answer = post(turn.id, conversation, key)
        await ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi", "", (answer,)))
        tell(f"out {key}")


async def hold(root: Path) -> None:
    await open_ledger(root, SystemClock())
    child = await asyncio.create_subprocess_exec(
        "/bin/sleep", "60", stdout=subprocess.DEVNULL, close_fds=False
    )
    tell(str(child.pid))
    await asyncio.Event().wait()


async def fill(root: Path) -> None:
    ledger = await open_ledger(root, SystemClock())
    await ledger.register(message("before", "t1"))
    log = (root / "ledger.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + ROOM_BYTES, resource.RLIM_INFINITY))
    keys = [f"key-{number}" for number in range(400)]
    results = await asyncio.gather(
        *(ledger.register(message(key, "t1", "x" * 2000)) for key in keys), return_exceptions=True
    )
    acked = [
        key for key, result in zip(keys, results, strict=True) if not isinstance(result, Exception)
    ]
    refused = {type(result).__name__ for result in results if isinstance(result, Exception)}
    try:
        await ledger.probe()
        probed = "committed"
    except LedgerError:
        probed = "failed"
    known = await ledger.knows("chat", keys)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    try:
        await open_ledger(root / "new", SystemClock())
        opening = "opened"
    except LedgerError as error:
        opening = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await (await open_ledger(root / "new", SystemClock())).close()
    after = await ledger.register(message("after", "t1"))
    await ledger.probe()
    told = {
        "acked": acked,
        "refused": sorted(refused),
        "probe": probed,
        "opening": opening,
        "read_while_full": sorted(known),
        "recovered": after.outcome is Outcome.NEW,
    }
    tell(json.dumps(told))
    await ledger.close()


if __name__ == "__main__":
    play = {"write": write, "hold": hold, "fill": fill}[sys.argv[1]]
    asyncio.run(play(Path(sys.argv[2])))

"""Faults of the agents' processes: the CLI is stopped, killed, or eats memory."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil

from tests.e2e.looking import agents_of, eventually
from tests.faults.stage import Stage
from tests.faults.trial import Times, Trial, trial

FROZEN_SECONDS = 60.0
TURN_SECONDS = 20  # agent.turn_timeout_seconds of the scenario, 900 by default
MEMORY_MB = 300
EATEN_SECONDS = 30.0


async def killed(stage: Stage, times: Times) -> None:
    """The CLI is killed (SIGKILL, as the kernel does when memory ends) while the model answers."""
    async with trial(stage, times) as it:
        gate = await it.at_work()
        victim = await _at_work(it)
        it.struck()
        victim.kill()
        it.mended()
        await eventually(lambda: it.daemon.logged("agent.died"), "its death noticed")
        it.noticed("log")
        gate.release()
        await it.well()


async def frozen(stage: Stage, times: Times) -> None:
    """The CLI stands still (SIGSTOP) within a turn: its clock ends it, and another takes over."""
    agent = {"turn_timeout_seconds": TURN_SECONDS}
    async with trial(stage, times, agent=agent) as it:
        gate = await it.at_work()
        victim = await _at_work(it)
        it.struck()
        victim.send_signal(signal.SIGSTOP)
        gate.release()
        await eventually(lambda: it.daemon.logged("agent.died"), "its end", FROZEN_SECONDS)
        it.noticed("log")
        it.mended()
        await it.well()
        assert not victim.is_running(), "a stopped process is ended, too"


async def out_of_memory(stage: Stage, times: Times) -> None:
    """A tool within the walls eats memory, twice the limit of its process tree."""
    eat = "test -e fed || { touch fed; exec python3 -c 'x = bytearray(900 << 20); input()'; }"
    call = json.dumps({"command": f'bash -c "{eat}"; echo fed'})
    pool = {"memory_limit_mb": MEMORY_MB}
    async with trial(stage, times, pool=pool) as it:
        it.struck()
        it.mended()
        stage.ask(f"[[tool:Bash {call}]]")
        await eventually(lambda: it.daemon.logged("agent.died"), "its end", EATEN_SECONDS)
        it.noticed("log")
        await it.well()


async def _at_work(it: Trial) -> psutil.Process:
    """The CLI whose turn is under way: that with the last question in its transcript."""
    mark, conversations = it.stage.asked[-1], it.daemon.data / "conversations"

    def found() -> psutil.Process | None:
        asked = {path.relative_to(conversations).parts[0] for path in _holding(conversations, mark)}
        return next((each for each in agents_of(it.daemon, "claude") if _home(each) in asked), None)

    def _home(process: psutil.Process) -> str:
        return Path(process.cwd()).relative_to(conversations).parts[0]

    return await eventually(found, "the CLI at work")


def _holding(conversations: Path, mark: str) -> list[Path]:
    return [path for path in conversations.rglob("*.jsonl") if mark in path.read_text()]


SCENARIOS = (killed, frozen, out_of_memory)

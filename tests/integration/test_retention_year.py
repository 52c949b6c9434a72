"""A simulated year: what is trimmed by age stays as large as its window, wherever it lies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from daemon.agents.scripted import ScriptedAgents
from daemon.clock import ManualClock
from daemon.config import RetentionTable
from daemon.ledger import open_ledger
from daemon.model import Priority, TurnState
from daemon.ports import Ending
from daemon.upkeep import Upkeep
from tests.ledgers import IMPLEMENTATIONS, LIMITS, PROCESS, Stage, post

DAY = 86_400.0
STEP_DAYS = 5
STEPS = 365 // STEP_DAYS
A_STEP = 8  # conversations
KEEP = RetentionTable(workspaces_days=10, records_days=30)
SETTLED = 60 // STEP_DAYS  # steps: by then every window is full
WORDS = "what was said, at some length. " * 60


@dataclass
class Year:
    stage: Stage
    agents: ScriptedAgents
    ledger_bytes: list[int] = field(default_factory=list)
    workspaces: list[int] = field(default_factory=list)
    raws: list[int] = field(default_factory=list)

    async def live(self, step: int, number: int) -> None:
        """A conversation from its message to its delivered answer, with all that it leaves."""
        stage, name = self.stage, f"t{step}-{number}"
        raw = f"raw/{name}"
        await asyncio.to_thread((stage.root / raw).write_text, WORDS)
        message = stage.message(
            WORDS, name, sender=f"p{number}", raw=raw, names=(f"<{name}>",), priority=Priority.MAIL
        )
        registered = await stage.hear(message)
        assert registered.conversation is not None
        workspace = self.agents.new_workspace()
        (workspace.work / "notes.txt").write_text(WORDS)
        turn = await stage.ledger.claim(registered.conversation, workspace, LIMITS)
        assert turn is not None
        await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
        effect = post(f"{turn.id}/answer", name, WORDS)
        await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, WORDS, "", (effect,)))
        await stage.ledger.mark_sending(effect.id)
        await stage.ledger.mark_sent(effect.id, f"ref-{name}")

    def measure(self) -> None:
        files = [path for path in self.stage.root.glob("ledger.db*") if path.is_file()]
        self.ledger_bytes.append(sum(path.stat().st_size for path in files))
        self.workspaces.append(len(list((self.stage.root / "conversations").iterdir())))
        self.raws.append(len(list((self.stage.root / "raw").iterdir())))


async def test_a_year_leaves_no_more_than_its_windows(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = await open_ledger(tmp_path, clock)
    (tmp_path / "raw").mkdir()
    agents = ScriptedAgents(tmp_path / "conversations")
    year = Year(Stage(IMPLEMENTATIONS[0], tmp_path, ledger, clock), agents)
    upkeep = Upkeep(ledger=ledger, agents=agents, clock=clock, retention=lambda: KEEP)
    try:
        for step in range(STEPS):
            await asyncio.gather(*(year.live(step, number) for number in range(A_STEP)))
            await clock.advance(STEP_DAYS * DAY)
            await upkeep.once()
            year.measure()
        counts = await ledger.counts()
    finally:
        await ledger.close()
    assert max(year.workspaces[SETTLED:]) <= A_STEP * (KEEP.workspaces_days / STEP_DAYS + 1)
    assert max(year.raws[SETTLED:]) <= A_STEP * (KEEP.records_days / STEP_DAYS + 1)
    half = SETTLED + (STEPS - SETTLED) // 2
    before, after = max(year.ledger_bytes[SETTLED:half]), max(year.ledger_bytes[half:])
    assert after <= 1.05 * before, "as large in the second half of the year as in the first"
    assert (counts.waiting, counts.dead_letters, sum(counts.outbox.values())) == (0, 0, 0)

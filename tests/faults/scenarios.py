"""Every fault by its name, and how one is played."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import machine, mail, model, process, slack
from tests.faults.stage import Stage, on_stage
from tests.faults.trial import Times

Run = Callable[[Stage, Times], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`name` is "part.fault"; `mail`: it is played with a mailbox, too."""

    part: str
    run: Run
    mail: bool = False

    @property
    def name(self) -> str:
        return f"{self.part}.{self.run.__name__}"

    @property
    def says(self) -> str:
        return (self.run.__doc__ or "").strip().splitlines()[0]


ALL: tuple[Scenario, ...] = (
    *(Scenario("slack", run) for run in slack.SCENARIOS),
    *(Scenario("mail", run, mail=True) for run in mail.SCENARIOS),
    *(Scenario("model", run) for run in model.SCENARIOS),
    *(Scenario("process", run) for run in process.SCENARIOS),
    *(Scenario("machine", run) for run in machine.SCENARIOS),
)


async def play(scenario: Scenario, root: Path, times: Times) -> None:
    """Raises AssertionError, TimeoutError or DaemonTrouble where it did not go as promised."""
    root.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nobody waits for this loop yet
    async with on_stage(root, mail=scenario.mail) as stage:
        await scenario.run(stage, times)

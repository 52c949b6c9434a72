"""What becomes of a turn whose process is gone: DESIGN section 3, point 9, and nothing else.

`next_step` is the rule, pure: the worker applies it when a process dies in the daemon's life,
`recover` at start to the turns that were in flight when the daemon before this one ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from daemon.model import Profile, TurnState
from daemon.ports import Ledger, PromptFate
from daemon.toolnames import OURS, full_name

if TYPE_CHECKING:
    from daemon.endings import Endings

log = structlog.get_logger()

MAX_DEATHS = 10
# Tools that act within the walls only: cut off, they have harmed nobody outside.
_SHELL = frozenset({"Bash"})  # but where it has a way out
_INSIDE = frozenset({"Read", "Glob", "Grep", "Write", "Edit"}) | _SHELL
_OURS = full_name(OURS, "")


@dataclass(frozen=True, slots=True)
class Resend:
    """The prompt is absent: the same uuid may be sent."""

    tools_done: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Harvest:
    """It was answered: take the text; the CLI gives no result for this uuid again."""

    text: str


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Present and unanswered: the CLI takes this uuid for done, so a new one is needed."""

    tools_done: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lost:
    """A tool that acts outside was cut off: nobody can tell what it did."""

    tools: tuple[str, ...]


Step = Resend | Harvest | NewAttempt | Lost


def next_step(fate: PromptFate, profile: Profile) -> Step:
    """The rule of attempts, for a turn of this profile. Source: the uuid table that
    tests/contract/test_cli_uuid.py checks.
    """
    if not fate.present:
        return Resend(fate.tools_done)
    if fate.answer is not None:
        return Harvest(fate.answer)
    inside = profile.only_read | (_INSIDE - _SHELL if profile.egress else _INSIDE)
    outside = tuple(t for t in fate.tools_open if t not in inside and not t.startswith(_OURS))
    return Lost(outside) if outside else NewAttempt(fate.tools_done)


async def recover(ledger: Ledger, endings: Endings) -> int:
    """Settle every turn that was running when an earlier daemon ended; return how many there were.

    Their processes must be gone. Nothing else is touched.
    """
    turns = await ledger.interrupted()
    for turn in turns:
        if turn.deaths >= MAX_DEATHS:
            await endings.dead(turn, f"in flight at {turn.deaths} deaths of the daemon")
            outcome = TurnState.DEAD.value
        else:
            outcome = await endings.by_fate(turn, "the daemon was restarted")
        log.info("turn.recovered", turn=turn.id, outcome=outcome, attempt=turn.attempt)
    return len(turns)

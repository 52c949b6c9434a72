"""What people do in the demo: whatever they say is a row of the board."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from daemon.demo.board import Board, Row, Where
from daemon.demo.controls import Gate
from daemon.demo.slack import Said
from daemon.demo.slack.workspace import Person
from daemon.demo.stage import DESK, Stage
from daemon.demo.watch import Watch

LIVE_MOMENT = 2.0  # seconds into a turn of the real model, where the scripted one has a gate


@dataclass(frozen=True, slots=True)
class Colleague:
    """Somebody in the workspace, by the name that the board shows."""

    name: str
    id: str


BEA, CHIDI, YOU = Colleague("bea", "U0002"), Colleague("chidi", "U0003"), Colleague("you", "U0042")
GENERAL, SUPPORT = "C0001", "C0002"


class People:
    """Each method says something and returns its row at once; `settled` waits for its end."""

    def __init__(self, stage: Stage, board: Board, watch: Watch) -> None:
        self._stage, self._board, self._watch = stage, board, watch
        self._said: dict[int, Said] = {}
        workspace = stage.slack.workspace
        workspace.people[YOU.id] = Person(YOU.id, YOU.name, "You Yourself")
        for channel in (GENERAL, SUPPORT):
            workspace.channels[channel].members.add(YOU.id)

    # --- Slack

    def mention(
        self, who: Colleague, channel: str, text: str, *, wanted: Where = Where.DELIVERED
    ) -> Row:
        """A mention that opens a thread of its own."""
        said = self._stage.slack.mention(who.id, channel, text)
        return self._row(who, said, f"@postroom {text}", wanted)

    def follow(
        self, row: Row, who: Colleague, text: str, *, wanted: Where = Where.DELIVERED
    ) -> Row:
        """In the thread of a row, without a mention."""
        first = self._said[row.number]
        said = self._stage.slack.say(who.id, first.channel, text, first.root)
        return self._row(who, said, text, wanted)

    def dm(self, who: Colleague, text: str, *, wanted: Where = Where.DELIVERED) -> Row:
        return self._row(who, self._stage.slack.dm(who.id, text), text, wanted)

    def twice(self, who: Colleague, channel: str, text: str) -> Row:
        """A mention whose two events Slack delivers twice each."""
        self._stage.slack.duplicate_next(2)
        return self.mention(who, channel, text)

    def _row(self, who: Colleague, said: Said, text: str, wanted: Where) -> Row:
        workspace = self._stage.slack.workspace
        channel = workspace.channels[said.channel]
        place = "direct" if channel.kind == "im" else f"#{channel.name}"
        if said.thread_ts:
            place = "thread"
        key = f"{workspace.team}:{said.channel}:{said.ts}"
        row = self._board.add(
            place=place, who=who.name, text=text, key=key, said_at=float(said.ts), wanted=wanted
        )
        row.unheard = self._stage.down
        self._said[row.number] = said
        return row

    # --- mail

    async def write(
        self,
        writer: str,
        subject: str,
        text: str,
        *,
        wanted: Where = Where.DELIVERED,
        headers: dict[str, str] | None = None,
        authenticated: bool = True,
    ) -> Row:
        """A mail to the desk; `writer` as "Ann <ann@shop.example.test>"."""
        said_at = time.time()
        letter = await self._stage.mail.write(
            writer, DESK, subject, text, headers=headers, authenticated=authenticated
        )
        name = writer.partition(" <")[0].lower()
        row = self._board.add(
            place="mail",
            who=name,
            text=subject,
            key=letter.outside_id,
            said_at=said_at,
            wanted=wanted,
        )
        row.unheard = self._stage.down
        return row

    # --- waiting

    async def settled(self, *rows: Row, within: float = 120.0) -> None:
        """Until all of them have come to their end. Raises DaemonTrouble."""
        waiting = ", ".join(str(row.number) for row in rows)
        await self._watch.until(
            lambda: not any(row.open for row in rows), f"no end of message {waiting}", within
        )

    def hold(self, text: str, *, tool_results: int | None = None) -> Gate | None:
        """Have the scripted model keep its answer to this text back; the real one has no gate."""
        if self._stage.model is None:
            return None
        return self._stage.model.hold(text, where="headers", tool_results=tool_results)

    async def amid(self, row: Row, gate: Gate | None) -> None:
        """Until a row's turn is in the middle of its work. Raises DaemonTrouble."""

        def there() -> bool:
            reached = gate is None or gate.describe()["arrived"]
            return (reached and row.standing.where is Where.AT_WORK) or not row.open

        await self._watch.until(there, f"message {row.number} is not in the middle of its work")
        if gate is None:
            await asyncio.sleep(LIVE_MOMENT)

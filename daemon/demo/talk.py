"""After the day: the person at the terminal writes, as somebody in the workspace or by mail."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.padding import Padding
from rich.text import Text

from daemon.demo.board import Board, Row, Where
from daemon.demo.keyboard import Keyboard
from daemon.demo.people import GENERAL, YOU, People
from daemon.demo.process import DaemonTrouble
from daemon.demo.stage import Stage

HELP = """\
[bold]TEXT[/]          in your thread in #general; the first line opens it with a mention
[bold]/new TEXT[/]     a thread of its own
[bold]/dm TEXT[/]      to the bot directly
[bold]/mail TEXT[/]    a mail to the desk; the answer comes to your mailbox
[bold]/stop[/]         say "stop" in the thread that you last wrote in
[bold]/kill \\[TEXT][/]  kill -9 of the daemon and a start; with a text, amid its turn
[bold]/trace \\[N][/]    the whole story of message N, or of your last one
[bold]/board[/]        every message, and where it is
[bold]/help[/]  [bold]/quit[/]"""
WRITER = "You Yourself <you@shop.example.test>"


class Talking:
    """The screen while a person types: news of their messages, above the line being typed."""

    def __init__(self, keyboard: Keyboard, board: Board) -> None:
        self._keyboard, self._board = keyboard, board
        self._told: dict[int, Where] = {row.number: row.standing.where for row in board.rows}
        self._registered: set[int] = set(self._told)

    def title(self, text: str) -> None:
        self.note(text)

    def note(self, text: str) -> None:
        with self._keyboard.printing() as console:
            console.print(Text(text, style="yellow"))

    def refresh(self, status: str) -> None:
        del status
        for row in self._board.rows:
            if row.number not in self._registered and row.registered_ms is not None:
                self._registered.add(row.number)
                with self._keyboard.printing() as console:
                    told = f"{row.number}: registered after {row.registered_ms:.0f} ms"
                    console.print(Text(told, style="dim"))
            if not row.open and self._told.get(row.number) is not row.standing.where:
                self._told[row.number] = row.standing.where
                self._tell_end(row)

    def _tell_end(self, row: Row) -> None:
        seconds = "" if row.seconds is None else f" after {row.seconds:.2f} s"
        detail = f", {row.standing.detail}" if row.standing.detail else ""
        with self._keyboard.printing() as console:
            told = f"{row.number}: {row.standing.where}{seconds}{detail} (/trace {row.number})"
            console.print(Text(told, style="green"))
            if row.answer:
                console.print(Padding(Text(row.answer), (0, 0, 0, 4), expand=False))


@dataclass(slots=True)
class Talk:
    """What each typed line does."""

    people: People
    stage: Stage
    board: Board
    keyboard: Keyboard
    screen: Talking
    thread: Row | None = None
    last: Row | None = None

    async def run(self) -> None:
        """Until /quit or the end of input."""
        self._help()
        async for line in self.keyboard:
            if line == "/quit":
                return
            try:
                await self._obey(line)
            except DaemonTrouble as trouble:
                self.screen.note(str(trouble))
        # The end of a pipe: what was said is still to be answered.
        await self.people.settled(*self.board.open)

    async def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word.startswith("/"):
            await self._commands().get(word, self._unknown)(rest.strip())
        elif line:
            await self._say(line)

    def _commands(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {
            "/new": self._new,
            "/dm": self._dm,
            "/mail": self._mail,
            "/stop": self._stop,
            "/kill": self._kill,
            "/trace": self._trace,
            "/board": self._show_board,
            "/help": self._show_help,
        }

    async def _say(self, text: str) -> None:
        if self.thread is None:
            await self._new(text)
        else:
            self.last = self.people.follow(self.thread, YOU, text)

    async def _new(self, text: str) -> None:
        if self._given(text, "/new TEXT"):
            self.last = self.thread = self.people.mention(YOU, GENERAL, text)

    async def _dm(self, text: str) -> None:
        if self._given(text, "/dm TEXT"):
            self.last = self.people.dm(YOU, text)

    async def _mail(self, text: str) -> None:
        if self._given(text, "/mail TEXT"):
            self.last = await self.people.write(WRITER, text[:60], f"{text}\n")

    async def _stop(self, _: str) -> None:
        if self.last is None or self.last.place == "mail":
            self.screen.note("there is no thread of yours to stop: write something first")
        else:
            self.people.follow(self.last, YOU, "stop", wanted=Where.OBEYED)

    async def _kill(self, text: str) -> None:
        gate = None
        if text:
            gate = self.people.hold(text)
            await self._say(text)
            assert self.last is not None  # noqa: S101 - it was just said
            await self.people.amid(self.last, gate)
        pid = self.stage.daemon.pid
        await self.stage.kill()
        self.screen.note(f"kill -9 {pid}: the daemon is gone; starting it again")
        if gate is not None:
            gate.release()
        began = time.monotonic()
        await self.stage.revive()
        self.screen.note(f"ready again after {time.monotonic() - began:.1f} s")

    async def _trace(self, number: str) -> None:
        rows = {str(row.number): row for row in self.board.rows}
        row = rows.get(number.lstrip("#")) if number else self.last
        if row is None:
            self.screen.note(f"there is no message {number}" if number else "nothing said yet")
            return
        columns = self.keyboard.columns
        status, out, err = await self.stage.daemon.run("trace", row.key, columns=columns)
        with self.keyboard.printing() as console:
            console.print(Text(f"$ postroom trace {row.key}", style="bold"))
            console.print(Text((out if status == 0 else err).rstrip()))

    async def _show_board(self, _: str) -> None:
        with self.keyboard.printing() as console:
            console.print(self.board.table(self.keyboard.columns))

    async def _show_help(self, _: str) -> None:
        self._help()

    async def _unknown(self, _: str) -> None:
        self.screen.note("there is no such command; /help shows them")

    def _help(self) -> None:
        with self.keyboard.printing() as console:
            console.print(HELP, highlight=False)

    def _given(self, text: str, usage: str) -> bool:
        if not text:
            self.screen.note(f"write it as {usage}")
        return bool(text)

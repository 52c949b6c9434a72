"""The two ways to show the demo: a live board in a terminal, and one line a change elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.rule import Rule
from rich.text import Text

from daemon.demo.board import Board, Row, Where, state

LABEL = "Scripted stand-ins for Slack, mail and the model: nothing leaves this machine."
LIVE_LABEL = "Stand-ins for Slack and mail; the model is the real one, with your key."
NOTES_SHOWN = 4
LINES_BESIDE = 6  # what the board needs around its rows and notes


class Lines:
    """Plain lines, each with the seconds since the demo began."""

    def __init__(self, console: Console, board: Board, label: str) -> None:
        self._console, self._board = console, board
        self._began = time.monotonic()
        self._shown: dict[int, str] = {}
        self._registered: set[int] = set()
        self._say(label)

    def title(self, text: str) -> None:
        self._console.print()
        self._say(f"== {text}")

    def note(self, text: str) -> None:
        self._say(f"   {text}")

    def refresh(self, status: str) -> None:
        del status  # a page that is redrawn can show it; here it would be noise
        for row in self._board.rows:
            if row.number not in self._shown:
                self._say(f"{row.number:>2} {row.who}, {row.place}: {row.text}")
                self._shown[row.number] = "said"
            if row.number not in self._registered and row.registered_ms is not None:
                self._registered.add(row.number)
                self._say(f"{row.number:>2}   registered after {row.registered_ms:.0f} ms")
            if row.standing.where is Where.REGISTERED:
                continue
            text = Text.from_markup(state(row)).plain
            if text != self._shown[row.number]:
                self._shown[row.number] = text
                self._say(f"{row.number:>2}   {text}{_end(row)}")

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:6.1f} s  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveBoard:
    """The board, redrawn in place; it stays on the screen when it ends."""

    def __init__(self, console: Console, board: Board, label: str) -> None:
        self._console, self._board, self._label = console, board, label
        self._notes: list[str] = []
        self._status = ""
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def title(self, text: str) -> None:
        self._notes.append(f"[bold]{escape(text)}[/]")
        self._draw()

    def note(self, text: str) -> None:
        self._notes.append(f"[yellow]{escape(text)}[/]")
        self._draw()

    def refresh(self, status: str) -> None:
        self._status = status
        self._draw()

    def end(self) -> None:
        """Leave the last state on the screen, all rows of it."""
        self._live.update(self._page(last=None))
        self._live.stop()  # which draws it, as long as it is

    def _draw(self) -> None:
        room = max(3, self._console.height - LINES_BESIDE - NOTES_SHOWN)
        self._live.update(self._page(room), refresh=True)

    def _page(self, last: int | None) -> RenderableType:
        notes = self._notes[-NOTES_SHOWN:] if last is not None else []
        parts: list[RenderableType] = [
            Rule("[bold]Postroom, a short day[/]", style="dim"),
            Text(self._label, style="dim", justify="center"),
            self._board.table(self._console.width, last),
            Rule(style="dim"),
            *(_one_line(note) for note in notes),
            _one_line(f"[dim]{escape(self._status)}[/]"),
        ]
        return Group(*parts)


def _one_line(markup: str) -> Text:
    line = Text.from_markup(markup, overflow="ellipsis")
    line.no_wrap = True
    return line


def _end(row: Row) -> str:
    """What follows a row's last line: how long it took, and the answer's first words."""
    seconds = "" if row.seconds is None else f" after {row.seconds:.2f} s"
    answer = " ".join(row.answer.split())
    return seconds + (f": {answer[:150]}" if answer else "")

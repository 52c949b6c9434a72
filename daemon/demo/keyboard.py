"""Lines that a person types while answers keep coming in.

They are read in a thread, as neither readline nor a pipe can be awaited: what is printed meanwhile
goes above the line that is being typed. The thread holds no lock of Python's own streams, so that
the demo can end while it waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console

try:
    from readline import get_line_buffer
except ImportError:  # a Python without it: no history, and a half-typed line is not redrawn

    def get_line_buffer() -> str:
        return ""


class Keyboard:
    """`async for line in keyboard`; the end of input ends it. Printing goes through `printing`."""

    def __init__(self, console: Console, prompt: str) -> None:
        self._console, self._prompt = console, prompt
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._typed: asyncio.Queue[str | None] = asyncio.Queue()
        self._asked = threading.Event()

    @classmethod
    @contextmanager
    def opened(cls, console: Console, prompt: str = "you> ") -> Iterator[Self]:
        """Whatever readline did to the terminal is undone at the end."""
        keyboard = cls(console, prompt)
        loop = asyncio.get_running_loop()
        with _terminal_as_it_was():
            threading.Thread(target=keyboard._read, args=(loop,), name="typed", daemon=True).start()
            yield keyboard

    @property
    def columns(self) -> int:
        """How wide the screen is."""
        return self._console.width

    @contextmanager
    def printing(self) -> Iterator[Console]:
        """Print above the line that is being typed, and draw that again."""
        asked = self._terminal and self._asked.is_set()
        if asked:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
        yield self._console
        if asked:
            sys.stdout.write(self._prompt + get_line_buffer())
            sys.stdout.flush()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        self._asked.set()
        line = await self._typed.get()
        if line is None:
            raise StopAsyncIteration
        return line.strip()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in self._edited() if self._terminal else _lines(sys.stdin.fileno()):
            self._asked.clear()
            loop.call_soon_threadsafe(self._typed.put_nowait, line)
            self._asked.wait()
        loop.call_soon_threadsafe(self._typed.put_nowait, None)

    def _edited(self) -> Iterator[str]:
        self._asked.wait()
        while True:
            try:
                yield input(self._prompt)
            except EOFError:
                return


@contextmanager
def silent() -> Iterator[None]:
    """What is typed meanwhile is not echoed into the board; it waits for the prompt."""
    with _terminal_as_it_was() as before:
        if before is not None:
            input_, output, control, local, *rest = before
            quiet = [input_, output, control, local & ~termios.ECHO, *rest]
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
        yield


@contextmanager
def _terminal_as_it_was() -> Iterator[list[Any] | None]:
    """The terminal's attributes now, which are set again at the end; None: it is no terminal."""
    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        yield before
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _lines(descriptor: int) -> Iterator[str]:
    """The lines of a pipe or file, as they come."""
    rest = b""
    while chunk := os.read(descriptor, 4096):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")

"""`postroom demo`: sets the stage, plays the day on it, then lets the person at the terminal in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from daemon.demo.board import Board
from daemon.demo.keyboard import Keyboard, silent
from daemon.demo.process import DaemonTrouble
from daemon.demo.screen import LABEL, LIVE_LABEL, Lines, LiveBoard
from daemon.errors import ConfigError, NotReachable

try:
    from daemon.demo.day import SCENES, Scene, Scenery
    from daemon.demo.people import People
    from daemon.demo.stage import LIVE_DAILY, LIVE_PER_TURN, Model, Stage, installed, set_up
    from daemon.demo.talk import Talk, Talking
    from daemon.demo.watch import Screen, Watch
except ModuleNotFoundError as missing:
    package = (missing.name or "").partition(".")[0]
    if package not in {"pymap", "aiosmtpd"}:
        raise
    raise NotReachable(
        f"the demo's mail stand-in needs the package {package}: "
        "run `make setup`, or `pip install 'postroom[demo]'`"
    ) from None

BEAT_SECONDS = 0.8  # between scenes, in a terminal: so that people can read
EXIT_FINE, EXIT_MISSING, EXIT_INTERRUPTED = 0, 1, 130


async def play(
    *,
    once: bool,
    live: bool,
    port: int,
    scenes: Sequence[Scene] = SCENES,
    real: Model | None = None,
) -> int:
    """The demo; 0 only where every message of the day ended as it should.

    `real` takes the place of Anthropic's own address and of the environment's key. Raises
    ConfigError, NotReachable.
    """
    console = Console()
    if live:
        real = real or _real_model(os.environ)
    _check_port(port)
    show = Show(console, scenes, once=once, port=port, real=real if live else None)
    with _ending_on_signals():
        try:
            if live and not await _agreed(console):
                return EXIT_MISSING
            return await show.run()
        except asyncio.CancelledError:
            console.print("\nended")
            return EXIT_FINE if show.talking else EXIT_INTERRUPTED
        except DaemonTrouble as trouble:
            console.print(Text(f"\ndemo: {trouble}", style="red"))
            return EXIT_MISSING


class Show:
    """One demo, from setting up to cleaning up."""

    def __init__(
        self,
        console: Console,
        scenes: Sequence[Scene],
        *,
        once: bool,
        port: int,
        real: Model | None,
    ) -> None:
        self._console, self._scenes = console, scenes
        self._once, self._port, self._real = once, port, real
        self._board = Board()
        self.talking = False

    async def run(self) -> int:
        """Raises DaemonTrouble; cancelled, it takes everything down in good order."""
        try:
            with tempfile.TemporaryDirectory(prefix="postroom-demo-") as root:
                async with AsyncExitStack() as stack:
                    return await self._perform(stack, Path(root))
        except BaseExceptionGroup as failures:  # of the task group: what failed first, says it
            raise failures.exceptions[0] from None

    async def _perform(self, stack: AsyncExitStack, root: Path) -> int:
        with self._screen() as screen:
            screen.title("Starting the daemon: its ledger opens, its walls are proven")
            stage = await stack.enter_async_context(set_up(root, self._port, self._real))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            watch = Watch(stage, self._board, screen)
            watching = group.create_task(watch.run(), name="watch")
            people = People(stage, self._board, watch)
            trouble = await self._day(Scenery(people, stage, screen))
        code = await self._judge(stage, trouble)
        if not self._once and code == EXIT_FINE:
            await self._let_in(stage, people, watch)
        watching.cancel()
        return code

    async def _day(self, on: Scenery) -> list[str]:
        """Play the scenes. Returns what went wrong: a day that is stuck ends there."""
        try:
            for scene in self._scenes:
                on.screen.title(scene.__doc__ or scene.__name__)
                await scene(on)
                await asyncio.sleep(BEAT_SECONDS if self._console.is_terminal else 0)
        except DaemonTrouble as trouble:
            return [str(trouble)]
        return []

    @contextmanager
    def _screen(self) -> Iterator[Screen]:
        label = LIVE_LABEL if self._real else LABEL
        if not self._console.is_terminal:
            yield Lines(self._console, self._board, label)
            return
        with silent():
            screen = LiveBoard(self._console, self._board, label)
            try:
                yield screen
            finally:
                screen.end()

    async def _judge(self, stage: Stage, trouble: list[str]) -> int:
        """Say how the day ended: by the daemon's traces, and by what lies outside."""
        beside = self._board.unaccounted(await stage.outside())
        missing = [*trouble, *self._board.missing(), *beside]
        if not missing:
            self._say(f"\n{self._board.summary(stage.deaths)}", style="bold green")
            return EXIT_FINE
        self._say("\n".join(["\nThe day did not end as it should:", *missing]), style="bold red")
        self._say(f"\nThe end of the daemon's log:\n{stage.daemon.tail()}")
        return EXIT_MISSING

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=not self._console.is_terminal)

    async def _let_in(self, stage: Stage, people: People, watch: Watch) -> None:
        self.talking = True
        self._console.print(
            f"\nThe daemon stays up for you. From another shell:\n"
            f"  {' '.join(installed())} status -c {stage.daemon.config}\n",
            highlight=False,
            soft_wrap=True,
        )
        with Keyboard.opened(self._console) as keyboard:
            watch.screen = Talking(keyboard, self._board)
            await Talk(people, stage, self._board, keyboard, watch.screen).run()


def _real_model(environ: Mapping[str, str]) -> Model:
    key = environ.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise ConfigError("--live asks the real model: set ANTHROPIC_API_KEY, or leave --live out")
    return Model(key)


async def _agreed(console: Console) -> bool:
    """Say what it will cost at most; where somebody is there to answer, ask."""
    console.print(
        "The real model is asked, with your key.\n"
        f"It costs at most ${LIVE_DAILY:.2f} in all and ${LIVE_PER_TURN:.2f} a turn: "
        "beyond that the daemon's gateway refuses.",
        highlight=False,
        soft_wrap=True,
    )
    if not sys.stdin.isatty():
        return True
    with Keyboard.opened(console, "Go on? [y/N] ") as keyboard:
        return await anext(keyboard, "") in {"y", "Y", "yes"}


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise NotReachable(
                f"--port {port}: {error.strerror}; give another, or leave it out"
            ) from error


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """The first of these signals ends the demo in good order; later ones find it ending already."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    asked = False

    def end() -> None:
        nonlocal asked
        if not asked and task is not None:
            asked = True
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

"""`postroom demo` as people run it: the installed command, and what it shows."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shutil
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

POSTROOM = Path(sys.executable).with_name("postroom")
LONG = 240.0  # the day takes half a minute on two idle cores
TYPING = (
    "import asyncio, sys; from daemon.demo.show import play; "
    "sys.exit(asyncio.run(play(once=False, live=False, port=0, scenes=())))"
)
"""The demo without its day: what a person does afterwards."""

AGAIN = r"attempt 2(, came \d times)?"  # after a kill, messages are read back
pytestmark = [pytest.mark.e2e, pytest.mark.cli, pytest.mark.timeout(LONG + 60)]


class Demo:
    """One demo in a process of its own, with a temporary directory to look into afterwards."""

    def __init__(self, process: asyncio.subprocess.Process, temporary: Path) -> None:
        self.process, self.temporary = process, temporary
        self.shown = ""

    @classmethod
    async def start(
        cls, temporary: Path, *command: str, on: int = asyncio.subprocess.PIPE, **environ: str
    ) -> Demo:
        """`on` is a terminal's descriptor; else it is spoken to by pipes."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=on,
            stdout=on,
            stderr=asyncio.subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(temporary),
                # What is around must not be seen: nothing could be answered with these.
                "ANTHROPIC_API_KEY": "sk-ant-of-the-person",
                "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/",
                "SLACK_BOT_TOKEN": "xoxb-of-the-person",
                "HTTPS_PROXY": "http://127.0.0.1:9/",
                **environ,
            },
            start_new_session=True,
        )
        return cls(process, temporary)

    async def until(self, wanted: str) -> re.Match[str]:
        """Read on until this regular expression is found behind what was found before."""
        assert self.process.stdout
        while not (found := re.search(wanted, self.shown)):
            try:
                line = await asyncio.wait_for(self.process.stdout.readline(), LONG)
            except TimeoutError:
                line = b""
            assert line, f"{wanted!r} did not come:\n{self.shown}"
            self.shown += line.decode()
        self.shown = self.shown[found.end() :]
        return found

    async def end(self) -> int:
        async with asyncio.timeout(LONG):
            out, _ = await self.process.communicate()
        self.shown += (out or b"").decode()
        assert self.process.returncode is not None
        return self.process.returncode

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())

    def left_behind(self) -> list[str]:
        """Files in its temporary directory, and processes that run in there."""
        files = [str(path) for path in self.temporary.iterdir()]
        return files + [str(found) for found in _processes_below(self.temporary)]


class Screen:
    """What comes out of a terminal, without its colours."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._raw = b""

    def until(self, wanted: str) -> None:
        """Blocks until this regular expression is found, LONG at most."""
        deadline = time.monotonic() + LONG
        while not re.search(wanted, self.plain, re.DOTALL):
            ready, _, _ = select.select([self._descriptor], [], [], 1)
            assert time.monotonic() < deadline, f"{wanted!r} did not come:\n{self.plain}"
            if ready:
                self._raw += os.read(self._descriptor, 4096)

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", self._raw.decode(errors="replace"))


def _processes_below(path: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(path)) or str(path) in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "t"
    directory.mkdir()
    yield directory
    for process in _processes_below(tmp_path):
        process.kill()


async def test_the_day_ends_well_shows_each_step_and_leaves_nothing_behind(temporary: Path) -> None:
    demo = await Demo.start(temporary, str(POSTROOM), "demo", "--once")
    assert await demo.end() == 0, demo.shown
    shown = demo.shown
    assert "Nothing lost, nothing answered twice, across 1 kill -9." in shown
    assert "14 messages: 11 delivered, 1 drafted, 1 not for us, 1 stopped." in shown
    for number in range(1, 16):
        assert re.search(rf" {number}   registered after \d+ ms\n", shown), number
    for tool in ("Write", "Bash", "Read", "label"):
        assert f"(tool {tool}" in shown
    assert re.search(r"delivered \(came 4 times\) after .* s: bea: Please switch", shown)
    assert re.search(
        r"delivered \(tool label, Triage/invoice\) after .* s: Ann: Invoices go out", shown
    )
    assert re.search(r"drafted after .* s: Sam: Orders leave the same day", shown)
    assert re.search(
        rf"delivered \(tool Write, {AGAIN}\) after .* s: bea: Done: I wrote handover.txt", shown
    )
    assert "daemon killed: message 14 has its file written, and no answer yet" in shown
    assert demo.left_behind() == []


async def test_ctrl_c_in_the_middle_of_the_day_leaves_nothing_behind(temporary: Path) -> None:
    demo = await Demo.start(temporary, str(POSTROOM), "demo")
    await demo.until(r"at work")
    os.killpg(demo.process.pid, signal.SIGINT)
    assert await demo.end() == 130
    assert demo.shown.endswith("ended\n")
    assert "Traceback" not in demo.shown
    assert demo.left_behind() == []


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
async def test_a_demo_that_is_killed_takes_its_daemon_along(temporary: Path) -> None:
    demo = await Demo.start(temporary, str(POSTROOM), "demo")
    await demo.until(r"at work")
    os.kill(demo.process.pid, signal.SIGKILL)
    await demo.end()
    async with asyncio.timeout(LONG):
        while _processes_below(temporary):
            await asyncio.sleep(0.2)


async def test_a_person_types_and_sees_answers_and_traces(temporary: Path) -> None:
    demo = await Demo.start(temporary, sys.executable, "-c", TYPING)
    await demo.until(r"/quit")
    demo.type("when are you open?")
    await demo.until(r"1: delivered after .* s \(/trace 1\)\n +you: We are open Monday")
    demo.type("and how do I return a parcel?")
    await demo.until(r"2: delivered after .* s \(/trace 2\)\n +you: Goods can be returned")
    demo.type("/mail May I have a copy of the invoice?")
    await demo.until(
        r"3: delivered after .* s, Triage/invoice \(/trace 3\)\n +You: Invoices go out"
    )
    demo.type("/dm count the words in 'a b c'")
    await demo.until(r"4: delivered after .*\n +you: I counted: 3 word\(s\)")
    demo.type("/trace 2")
    await demo.until(r"\$ postroom trace T0001:C0001:(\S+)\n")
    await demo.until(r"registered it")
    await demo.until(r"took it up as a turn")
    await demo.until(r"outside has it as")
    demo.type("/nonsense")
    await demo.until(r"no such command")
    demo.type("/quit")
    assert await demo.end() == 0
    assert demo.left_behind() == []


async def test_a_typed_kill_loses_nothing_and_answers_once(temporary: Path) -> None:
    demo = await Demo.start(temporary, sys.executable, "-c", TYPING)
    await demo.until(r"/quit")
    demo.type("/kill write plan.txt saying all is well")
    killed = await demo.until(r"kill -9 (\d+): the daemon is gone")
    assert not psutil.pid_exists(int(killed[1]))
    await demo.until(r"ready again after")
    await demo.until(rf"1: delivered after .* s, {AGAIN} \(/trace 1\)\n +you: Done: I wrote plan")
    demo.type("/stop")
    await demo.until(r"2: obeyed")
    assert demo.process.stdin
    demo.process.stdin.close()  # the end of input is an end, too
    assert await demo.end() == 0
    assert "plan.txt" not in demo.shown
    assert demo.left_behind() == []


async def test_a_half_typed_line_stays_when_an_answer_comes_and_the_terminal_is_left_as_it_was(
    temporary: Path,
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    before = termios.tcgetattr(theirs)
    environ = {"TERM": "xterm", "HOME": str(temporary)}
    demo = await Demo.start(temporary, sys.executable, "-c", TYPING, on=theirs, **environ)
    screen = Screen(ours)
    await asyncio.to_thread(screen.until, r"Starting the daemon")
    os.write(ours, b"when are you open?\r")  # too early: it waits, and is not put into the board
    await asyncio.to_thread(screen.until, r"1: registered after")
    assert "open?" not in screen.plain.partition("/quit")[0]
    os.write(ours, b"half a li")
    await asyncio.to_thread(screen.until, r"1: delivered after .*We are open.*\r\nyou> half a li")
    os.kill(demo.process.pid, signal.SIGINT)
    assert await demo.end() == 0
    assert termios.tcgetattr(theirs) == before
    assert demo.left_behind() == []
    os.close(theirs)
    os.close(ours)


async def test_without_the_packages_of_the_mail_stand_in_it_says_what_to_do(
    temporary: Path,
) -> None:
    hidden = "import sys; sys.modules['pymap'] = None; from daemon.cli import main; main()"
    demo = await Demo.start(temporary, sys.executable, "-c", hidden, "demo", "--once")
    assert await demo.end() == 69
    assert demo.shown == (
        "postroom: the demo's mail stand-in needs the package pymap: "
        "run `make setup`, or `pip install 'postroom[demo]'`\n"
    )


async def test_live_without_a_key_is_refused_in_one_line(temporary: Path) -> None:
    command = (str(POSTROOM), "demo", "--once", "--live")
    demo = await Demo.start(temporary, *command, ANTHROPIC_API_KEY="")
    assert await demo.end() == 78
    assert demo.shown == (
        "postroom: --live asks the real model: set ANTHROPIC_API_KEY, or leave --live out\n"
    )

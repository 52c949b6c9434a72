"""The parsing process for real: slow, killed, idle, and with every odd mail."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from connectors.imap.parse import parse
from connectors.imap.parsing import DIED, TOO_SLOW, Parsing, ParsingTimes
from connectors.imap.reader import GROWN_BYTES
from daemon.errors import Unavailable
from tests.hostile_mails import HOSTILE

DATA = Path(__file__).parents[3] / "data" / "mail"
PATIENCE = 60.0


@pytest.fixture
async def parsing() -> AsyncIterator[Parsing]:
    parsing = Parsing(ParsingTimes(deadline=PATIENCE))
    yield parsing
    await parsing.close()


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "mail.eml"
    path.write_bytes(b"Subject: hello\r\n\r\nworld\r\n")
    return path


def standing_in(script: str) -> tuple[str, ...]:
    """A parsing process that misbehaves."""
    return (sys.executable, "-I", "-c", f"import os, signal, sys, time\n{script}")


async def test_the_process_reads_a_mail_as_the_parser_does(
    parsing: Parsing, tmp_path: Path
) -> None:
    paths = sorted(DATA.rglob("*.eml"))[::10]
    for number, raw in enumerate(list(HOSTILE.values())[::10]):
        paths.append(tmp_path / f"{number}.eml")
        paths[-1].write_bytes(raw)
    for path in paths:
        assert await parsing.parse(path) == parse(path.read_bytes())


async def test_one_process_reads_many_mails_and_is_started_only_for_them(
    parsing: Parsing, mail: Path
) -> None:
    assert parsing.pid is None
    await parsing.parse(mail)
    first = parsing.pid
    await parsing.parse(mail)
    assert parsing.pid == first is not None


async def test_a_large_daemon_does_not_make_for_short_lived_processes(
    parsing: Parsing, mail: Path
) -> None:
    ballast = b"x" * (GROWN_BYTES + (50 << 20))  # Linux hands a child its parent's peak
    await parsing.parse(mail)
    first = parsing.pid
    await parsing.parse(mail)
    assert parsing.pid == first
    assert ballast


async def test_the_process_sees_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, parsing: Parsing, mail: Path
) -> None:
    monkeypatch.setenv("IMAP_PASSWORD", "canary")
    await parsing.parse(mail)
    assert "canary" not in str(psutil.Process(parsing.pid or 0).environ())


async def test_a_slow_mail_is_given_up_and_the_next_one_read(tmp_path: Path, mail: Path) -> None:
    slow = standing_in(
        "print(flush=True)\n"
        "line = sys.stdin.readline()\n"
        "time.sleep(600 if 'slow.eml' in line else 0)\n"
        'print(\'{"text": "read"}\', flush=True)\n'
        "sys.stdin.readline()"
    )
    parsing = Parsing(ParsingTimes(deadline=2.0), slow)
    try:
        assert (await parsing.parse(tmp_path / "slow.eml")).broken == TOO_SLOW
        assert parsing.pid is None
        assert (await parsing.parse(mail)).text == "read"
    finally:
        await parsing.close()


async def test_a_mail_that_fells_the_process_twice_is_given_up(mail: Path) -> None:
    dies = standing_in(
        "print(flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    parsing = Parsing(ParsingTimes(deadline=PATIENCE), dies)
    assert (await parsing.parse(mail)).broken == DIED
    await parsing.close()


async def test_a_process_that_was_killed_between_two_mails_costs_none(
    parsing: Parsing, mail: Path
) -> None:
    await parsing.parse(mail)
    assert parsing.pid is not None
    process = psutil.Process(parsing.pid)
    process.kill()
    assert (await parsing.parse(mail)).text == "world"


async def test_a_caller_that_gives_up_takes_the_process_with_it(mail: Path) -> None:
    silent = standing_in("print(flush=True)\nsys.stdin.readline()\ntime.sleep(600)")
    parsing = Parsing(ParsingTimes(deadline=PATIENCE), silent)
    await parsing.warm()
    process = psutil.Process(parsing.pid or 0)
    waiting = asyncio.create_task(parsing.parse(mail))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.to_thread(process.wait, PATIENCE)
    await parsing.close()


async def test_an_idle_process_ends(mail: Path) -> None:
    parsing = Parsing(ParsingTimes(deadline=PATIENCE, idle=0.2))
    await parsing.parse(mail)
    process = psutil.Process(parsing.pid or 0)
    await asyncio.to_thread(process.wait, PATIENCE)
    assert parsing.pid is None
    assert (await parsing.parse(mail)).text == "world"
    await parsing.close()


async def test_the_process_ends_with_the_daemon(mail: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from connectors.imap.parsing import Parsing\n"
        "async def main():\n"
        "    parsing = Parsing()\n"
        f"    await parsing.parse(Path({str(mail)!r}))\n"
        "    print(parsing.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    async with asyncio.timeout(PATIENCE):
        process = psutil.Process(int(await daemon.stdout.readline()))
    daemon.kill()
    await daemon.wait()
    await asyncio.to_thread(process.wait, PATIENCE)


@pytest.mark.parametrize("answer", ["no JSON", '{"of_another_version": 1}', "[]", "7"])
async def test_an_answer_that_makes_no_sense_breaks_that_mail_only(mail: Path, answer: str) -> None:
    command = f"echo ready; while read path; do echo '{answer}'; done"
    parsing = Parsing(command=("/bin/sh", "-c", command))
    assert (await parsing.parse(mail)).broken
    await parsing.close()


async def test_a_process_that_does_not_start_is_an_outage(mail: Path) -> None:
    parsing = Parsing(command=("/nonexistent/python",))
    await parsing.warm()  # best effort
    with pytest.raises(Unavailable):
        await parsing.parse(mail)
    await parsing.close()


# --- several in a row ----------------------------------------------------------------------------


@pytest.fixture
def letters(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.eml" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(b"Subject: %d\r\n\r\nx\r\n" % number)
    return paths


async def test_the_next_mail_is_read_while_the_caller_is_busy_with_one(
    letters: list[Path], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script = (
        "print(flush=True)\n"
        "for line in sys.stdin:\n"
        f"    open({str(seen)!r}, 'a').write(line)\n"
        "    print('{\"message_id\": ' + line.strip() + '}', flush=True)"
    )
    parsing = Parsing(ParsingTimes(deadline=PATIENCE), standing_in(script))
    try:
        found = []
        async with contextlib.aclosing(parsing.each(letters)) as each:
            async for parsed in each:
                found.append(parsed.message_id)
                wanted = min(len(found) + 1, len(letters))
                async with asyncio.timeout(PATIENCE):  # it is asked, though nobody waits for it
                    while len(seen.read_text().splitlines()) < wanted:
                        await asyncio.sleep(0.01)
        assert found == [str(path) for path in letters]
    finally:
        await parsing.close()


async def test_what_was_read_ahead_in_vain_is_not_taken_for_another_mail(
    parsing: Parsing, letters: list[Path]
) -> None:
    async with contextlib.aclosing(parsing.each(letters[:2])) as each:
        assert (await anext(each)).headers["subject"] == ["0"]
    assert (await parsing.parse(letters[3])).headers["subject"] == ["3"]


async def test_a_slow_mail_among_others_is_given_up_and_the_others_are_read(
    letters: list[Path], tmp_path: Path
) -> None:
    script = (
        "print(flush=True)\n"
        "for line in sys.stdin:\n"
        "    if '1.eml' in line:\n"
        "        time.sleep(1000)\n"
        "    print('{\"message_id\": ' + line.strip() + '}', flush=True)"
    )
    parsing = Parsing(ParsingTimes(deadline=2.0), standing_in(script))
    turned = 0

    async def turn() -> None:
        nonlocal turned
        while True:
            await asyncio.sleep(0.01)
            turned += 1

    turning = asyncio.create_task(turn())
    try:
        found = [parsed.broken async for parsed in parsing.each(letters)]
        assert found == ["", TOO_SLOW, "", ""]
        assert turned > 20  # of 200 at most: the loop went on all the while
    finally:
        turning.cancel()
        await parsing.close()

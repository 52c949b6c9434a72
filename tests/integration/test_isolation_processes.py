"""Ending a process ends all that came of it, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.isolation.levels import LEVELS
from daemon.isolation.processes import (
    alive,
    end,
    members,
    read_pid_file,
    sweep,
    tree_rss_bytes,
)
from daemon.model import ProcessRef
from tests.integration.isolation_help import (
    WALLED,
    Home,
    home_at,
    make_home,
    passable_place,
    spare_user,
    until,
)

# A leader with a child, a child in a session of its own, and an orphan in another one.
FAMILY = """
sleep 4711 &
setsid sleep 4712 &
(setsid sh -c 'sleep 4713' > /dev/null 2>&1 &)
echo x > up
exec sleep 4714
"""
# The leader goes on when its child was killed before it: its own end must be the kill's.
DEAF = (
    "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 4711; sleep 4711\" & echo x > up; "
    "while :; do wait; done"
)


@pytest.fixture(params=WALLED)
async def home(request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    for home in home_at(request.param):
        yield home
        ref = read_pid_file(home.pid_file)
        if ref:
            await end(ref, grace=0.0)


async def start(home: Home, script: str) -> tuple[asyncio.subprocess.Process, ProcessRef]:
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher()), "-c", script), stdin=asyncio.subprocess.DEVNULL
    )
    assert await until((home.work / "up").exists)
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    return process, ref


async def test_end_leaves_nothing_of_a_family(home: Home) -> None:
    process, ref = await start(home, FAMILY)
    assert await until(lambda: len(members(ref)) >= 4)
    family = members(ref)
    begun = time.monotonic()
    assert await end(ref, grace=20.0)
    assert time.monotonic() - begun < 10, "SIGTERM was enough"
    assert not any(map(alive, family))
    # A wrapper tells it as a shell does.
    assert await process.wait() in {-signal.SIGTERM, 128 + signal.SIGTERM}


async def test_family_is_found_after_its_leader_was_killed(home: Home) -> None:
    process, ref = await start(home, FAMILY)
    assert await until(lambda: len(members(ref)) >= 4)
    family = members(ref)
    process.kill()
    await process.wait()
    assert not alive(ref)
    if home.level.wrapper is None:
        assert await until(lambda: len(members(ref)) >= 3)
        assert await end(ref, grace=0.0)
    else:
        assert await until(lambda: not members(ref)), "the kernel ends namespaces as a whole"
    assert not any(map(alive, family))


async def test_who_is_told_to_end_has_time_for_it(home: Home) -> None:
    last_words = "trap 'echo x > farewell; exit 0' TERM; echo x > up; while :; do sleep 0.1; done"
    process, ref = await start(home, last_words)
    assert await end(ref, grace=20.0)
    assert (home.work / "farewell").exists()
    assert await process.wait() == 0


async def test_deaf_ones_are_killed_after_the_grace(home: Home) -> None:
    process, ref = await start(home, DEAF)
    assert await until(lambda: len(members(ref)) >= 3)
    begun = time.monotonic()
    assert await end(ref, grace=0.5)
    assert time.monotonic() - begun >= 0.5
    assert not members(ref)
    assert await process.wait() == -signal.SIGKILL


# Neither its leader's session nor its mark, soon no parent, and it hides its /proc from others.
HIDDEN = (
    "import ctypes, os, time; ctypes.CDLL(None).prctl(4, 0);"
    "open('hidden', 'w').close(); time.sleep(4711)"
)
HIDER = f'(env -i setsid python3 -c "{HIDDEN}" > /dev/null 2>&1 &); echo x > up; exec sleep 4714'


@pytest.fixture
def place() -> Iterator[Path]:
    yield from passable_place()


async def test_hidden_one_is_found_by_its_user(place: Path) -> None:
    user = spare_user()
    home = make_home(place / "home", LEVELS["uid"], user)
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher()), "-c", HIDER), stdin=asyncio.subprocess.DEVNULL
    )
    assert await until((home.work / "hidden").exists)
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    assert ref.user == user
    process.kill()
    await process.wait()
    (hidden,) = members(ref)
    assert not members(replace(ref, user=0)), "nothing else betrays it"
    assert await end(ref, grace=0.0)
    assert not alive(hidden)


async def test_reused_pid_is_left_alone(home: Home) -> None:
    process, ref = await start(home, "echo x > up; exec sleep 4711")
    another = ProcessRef(ref.pid, ref.start_time - 1)
    assert not alive(another)
    assert not members(another)
    assert await end(another, grace=0.0)
    assert process.returncode is None
    assert alive(ref)


async def test_ending_what_is_gone_is_no_error(home: Home) -> None:
    process, ref = await start(home, "echo x > up")
    await process.wait()
    assert await end(ref)
    assert tree_rss_bytes(ref) == 0


async def test_weight_is_that_of_the_whole_tree(home: Home) -> None:
    eat = 'python3 -c \'import time; x = b"x" * 30_000_000; open("{}", "w"); time.sleep(4711)\''
    _, ref = await start(home, f"{eat.format('one')} & {eat.format('two')} & echo x > up; wait")
    assert await until(lambda: (home.work / "one").exists() and (home.work / "two").exists())
    assert 60_000_000 < tree_rss_bytes(ref) < 200_000_000


async def test_sweep_ends_what_an_earlier_daemon_left(home: Home) -> None:
    process, ref = await start(home, FAMILY)
    stale = home.pid_file.with_name("stale.pid")
    stale.write_text("1 1 a-boot-long-ago\n")
    broken = home.pid_file.with_name("broken.pid")
    broken.write_text("")
    assert await sweep(home.pid_file.parent, keep=lambda path: path == home.pid_file) == ()
    assert process.returncode is None
    assert await sweep(home.pid_file.parent) == (ref,)
    assert not members(ref)
    assert not [name for name in os.listdir(home.pid_file.parent) if name.endswith(".pid")]  # noqa: PTH208
